//! What to do about an error, in words of the command line. The libraries say what is wrong and know no options of the
//! program; only this file knows which option helps against which of their errors.

use std::error::Error;

use quipu_formats::convert::ConvertError;
use quipu_formats::imatrix::ImatrixError;
use quipu_measure::MeasureError;
use quipu_runtime::calibration::CalibrationError;
use quipu_runtime::chat::ChatError;
use quipu_runtime::generate::GenerateError;
use quipu_runtime::{EngineError, LoadError, WeightsError};
use quipu_server::server::ServeError;

use crate::visible::visible_message;

const MORE_ROOM: &str = "; -c N makes more room";

/// What to tell the user: the error, its causes, and what to do about them, in one line.
pub fn message(error: &anyhow::Error) -> String {
    visible_message(&one_line(error)) + &hint(error).unwrap_or_default()
}

/// The error and its causes, joined by colons. Many messages end with their cause's; then it is not said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ")
}

/// What to add to the message, with the separator before it; nothing for most errors.
fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(of)
}

fn of(error: &(dyn Error + 'static)) -> Option<String> {
    let fixed = error
        .downcast_ref()
        .and_then(engine)
        .or_else(|| error.downcast_ref().and_then(generate))
        .or_else(|| error.downcast_ref().and_then(load))
        .or_else(|| error.downcast_ref().and_then(weights))
        .or_else(|| error.downcast_ref().and_then(convert))
        .or_else(|| error.downcast_ref().and_then(imatrix))
        .or_else(|| error.downcast_ref().and_then(chat))
        .or_else(|| error.downcast_ref().and_then(serve));
    fixed.map(String::from).or_else(|| error.downcast_ref().and_then(measure))
}

fn engine(error: &EngineError) -> Option<&'static str> {
    match error {
        EngineError::ContextFull { .. } => Some(MORE_ROOM),
        EngineError::Memory(_) => Some("; a shorter text takes less"),
        _ => None,
    }
}

fn generate(error: &GenerateError) -> Option<&'static str> {
    match error {
        GenerateError::Engine(error) => engine(error),
        GenerateError::PromptTooLong { .. } => Some(MORE_ROOM),
        _ => None,
    }
}

fn load(error: &LoadError) -> Option<&'static str> {
    match error {
        LoadError::Weights(error) => weights(error),
        LoadError::Threads { .. } => Some(" (-t)"),
        LoadError::Positions { .. } => Some(" (-c)"),
        _ => None,
    }
}

fn weights(error: &WeightsError) -> Option<&'static str> {
    match error {
        WeightsError::Lock { .. } if cfg!(windows) => Some(
            "; close other programs, have an account with the right to increase a working set, or leave out --mlock",
        ),
        WeightsError::Lock { .. } => Some("; raise the limit (`ulimit -l unlimited`) or leave out --mlock"),
        WeightsError::Memory { .. } => {
            Some("; `quipu quantize` makes a smaller file, and one by `quipu pack` is used where it lies")
        }
        _ => None,
    }
}

fn convert(error: &ConvertError) -> Option<&'static str> {
    matches!(error, ConvertError::NoPlainRule { .. }).then_some("; leave out `--rounding plain`")
}

fn imatrix(error: &ImatrixError) -> Option<&'static str> {
    matches!(error, ImatrixError::None { .. }).then_some("; `quipu imatrix` makes one")
}

fn chat(error: &ChatError) -> Option<&'static str> {
    match error {
        ChatError::NoTemplate => Some("; use `quipu run`, or give a template with --template FILE"),
        ChatError::TooLong { .. } => Some(MORE_ROOM),
        _ => None,
    }
}

fn serve(error: &ServeError) -> Option<&'static str> {
    match error {
        ServeError::Open { .. } => Some("; give one with --api-key-file FILE or QUIPU_API_KEY, or say --insecure"),
        ServeError::Bind { .. } => Some("; --port N takes another one, and 0 any that is free"),
        _ => None,
    }
}

fn measure(error: &MeasureError) -> Option<String> {
    let bits = |bits: f64, some_types_given| {
        let given = if some_types_given { "; --tensor gives some types" } else { "" };
        format!(" (--target-bits {bits}{given})")
    };
    Some(match error {
        MeasureError::Load(error) | MeasureError::DoesNotRun { error, .. } => load(error)?.into(),
        MeasureError::Calibration(CalibrationError::Load(error)) => load(error)?.into(),
        MeasureError::Read(error) => engine(error)?.into(),
        MeasureError::Convert(error) => convert(error)?.into(),
        MeasureError::ShortChunk { .. } => " (-c)".into(),
        MeasureError::ShortText { .. } => "; give a longer text, or smaller chunks where the command has -c".into(),
        MeasureError::Shortage(shortage) if shortage.what.contains("calibration") => {
            "; --no-calibrate takes none of it".into()
        }
        MeasureError::Shortage(shortage) if shortage.what.contains("chunk") => "; smaller chunks (-c) take less".into(),
        MeasureError::NoChunks => " (--chunks 0)".into(),
        MeasureError::Memory { .. } => "; smaller -b, -d, -p, -n or --sequences take less".into(),
        MeasureError::NothingToCalibrate => "; add `--type` or `--tensor`, or leave out `--calibrate`".into(),
        MeasureError::Temporary { .. } => "; TMPDIR may name another place".into(),
        MeasureError::TooFewBits { bits: b, some_types_given, .. }
        | MeasureError::TooManyBits { bits: b, some_types_given, .. } => bits(*b, *some_types_given),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    /// However deep it lies, in whatever error of the libraries.
    #[test]
    fn hints_are_found_through_every_layer() {
        let full = || EngineError::ContextFull { used: 0, more: 9, context: 6 };
        let locked = || LoadError::Weights(WeightsError::Lock { error: std::io::Error::other("no") });
        let expected = [
            (anyhow!(full()), "-c N"),
            (anyhow!(full()).context("cannot score the text"), "-c N"),
            (anyhow!(MeasureError::Read(full())), "-c N"),
            (anyhow!(GenerateError::from(full())), "-c N"),
            (anyhow!(locked()), "--mlock"),
            (anyhow!(MeasureError::Load(locked())), "--mlock"),
            (anyhow!(MeasureError::DoesNotRun { task: "", error: locked() }).context("x"), "--mlock"),
            (anyhow!(ChatError::NoTemplate), "--template"),
            (anyhow!(MeasureError::NoChunks), "--chunks 0"),
        ];
        for (error, word) in expected {
            let hint = hint(&error).unwrap_or_else(|| panic!("{error:?} has no hint"));
            assert!(hint.contains(word), "{hint}");
        }
        assert_eq!(hint(&anyhow!(EngineError::Empty)), None);
        assert_eq!(hint(&anyhow!("anything")), None);
    }

    #[test]
    fn errors_are_one_line_without_repetition() {
        let io = std::io::Error::other("disk full");
        let error = anyhow::Error::new(io).context("a.gguf: cannot write: disk full").context("converting\nx");
        assert_eq!(one_line(&error), "converting x: a.gguf: cannot write: disk full");
    }
}
