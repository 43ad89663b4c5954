//! Writing a model with weights of other types, or in another form.

use std::path::Path;
use std::sync::Arc;

use quipu_formats::bundle::Lead;
use quipu_formats::convert::{
    self, Check, ConvertError, ConvertOptions, ConvertProgress, Rounding, Summary, TensorRule, TypeRule,
};
use quipu_formats::imatrix::Imatrix;
use quipu_formats::output::Inputs;
use quipu_formats::source::Source;
use quipu_formats::threads;
use quipu_runtime::check_model;

use crate::calibration::{Calibrated, calibrate, on_random_tokens};
use crate::error::MeasureError;
use crate::monitor::{Event, Monitor};
use crate::types::{self, ChosenTypes};

/// How the matrices of a file get their types.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Types {
    /// By a rule: all keep theirs, all get one, or those of a mix.
    Rule(TypeRule),
    /// Chosen for each matrix, so that the file has at most so many bits per weight (all bytes of tensors by all
    /// weights) and its predictions diverge as little as they can. The losses are measured by running the model many
    /// times, on the texts of the calibration.
    Bits(f64),
}

impl From<TypeRule> for Types {
    fn from(rule: TypeRule) -> Types {
        Types::Rule(rule)
    }
}

/// What is known of the inputs of the matrices when their weights are rounded.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum CalibrateOn {
    /// What a pass over 512 random tokens shows, with one layer in memory at a time. A model that does not run here is
    /// rounded without it, which [`Event::NotCalibrated`] and [`Quantized::not_calibrated`] tell. With [`Types::Bits`],
    /// which runs the model anyway, it is [`CalibrateOn::OwnText`].
    #[default]
    RandomTokens,
    /// What 4096 tokens show that the model writes itself: a little better, and takes several times as long. The whole
    /// model has to fit into memory as it is.
    OwnText,
    /// What this text shows.
    Text(String),
    /// What an importance matrix of Quipu or of llama.cpp says. Mixes then take the types that llama.cpp takes when it
    /// has one.
    Imatrix(Arc<Imatrix>),
    /// Nothing. With [`Types::Bits`] it is [`CalibrateOn::OwnText`].
    Nothing,
}

/// What [`quantize`] writes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// The types of the matrices.
    pub types: Types,
    /// Types of single tensors, which go before `types`; of several that match the first counts.
    pub tensors: Vec<TensorRule>,
    /// The packed form, which is mapped and used as it is, and which only Quipu reads.
    pub packed: bool,
    /// How weights become codes.
    pub rounding: Rounding,
    /// What is known of the inputs of the matrices.
    pub calibrate_on: CalibrateOn,
    /// The most bytes of a file, if the model is to be written in parts ([`ConvertOptions::part_bytes`]).
    pub part_bytes: Option<u64>,
    /// What stands in the file before the model ([`ConvertOptions::lead`]).
    pub lead: Option<Arc<Lead>>,
    /// What was read for these options, such as the text of a calibration: the output must not replace it.
    pub reads: Inputs,
}

impl QuantizeOptions {
    /// The defaults, with weights of these types: a search after a calibration on random tokens, and a file that every
    /// reader of GGUF takes.
    pub fn new(types: impl Into<Types>) -> QuantizeOptions {
        QuantizeOptions {
            types: types.into(),
            tensors: Vec::new(),
            packed: false,
            rounding: Rounding::default(),
            calibrate_on: CalibrateOn::default(),
            part_bytes: None,
            lead: None,
            reads: Inputs::new(),
        }
    }
}

/// What was written.
#[derive(Debug)]
#[non_exhaustive]
pub struct Quantized {
    /// The file: its size, types and warnings.
    pub file: Summary,
    /// The types that were chosen, with [`Types::Bits`].
    pub chosen: Option<ChosenTypes>,
    /// Why there was no calibration on random tokens, if the model does not run here.
    pub not_calibrated: Option<MeasureError>,
}

/// Writes `source` as a GGUF to `output`, which appears under its name only when it is complete and, if `source` can be
/// loaded here, can be loaded, too.
///
/// Unless the options say otherwise, a calibration pass over random tokens comes first, so that later weights can make
/// good the error of each. Where that gains nothing (no weight becomes coarser than Q8_0), the pass is left out. Uses
/// rayon's threads besides those of the model.
///
/// # Errors
/// When the options contradict each other, when a checkpoint or a model that has to be run can't be loaded, or when the
/// file can't be written. A file that had the name of `output` is then untouched.
///
/// # Examples
/// ```
/// use quipu_formats::convert::{Mix, TypeRule};
/// use quipu_measure::{Monitor, QuantizeOptions, quantize};
/// use quipu_runtime::open;
///
/// let directory = tempfile::tempdir()?;
/// let output = directory.path().join("tales-q4_k_m.gguf");
/// let options = QuantizeOptions::new(TypeRule::Mix(Mix::Q4_K_M));
/// let written = quantize(open("demo")?, &output, &options, &Monitor::silent())?;
/// assert_eq!(written.file.bytes, std::fs::metadata(&output)?.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn quantize(
    source: impl Into<Arc<dyn Source>>,
    output: impl AsRef<Path>,
    options: &QuantizeOptions,
    monitor: &Monitor<'_>,
) -> Result<Quantized, MeasureError> {
    let source = source.into();
    check(options)?;
    let (types, bits) = match options.types {
        Types::Rule(rule) => (rule, None),
        Types::Bits(bits) => (TypeRule::Keep, Some(bits)),
    };
    let given = match &options.calibrate_on {
        CalibrateOn::Imatrix(imatrix) => Some(imatrix.clone()),
        _ => None,
    };
    let mut convert = ConvertOptions::new(types)
        .tensors(options.tensors.clone())
        .packed(options.packed)
        .rounding(options.rounding)
        .imatrix_types(given.is_some())
        .imatrix(given)
        .part_bytes(options.part_bytes)
        .lead(options.lead.clone())
        .reads(options.reads.clone());
    // Before the calibration, which may take hours. What can be opened here must give a file that can; a GGUF that
    // can't may be another program's, but nobody else makes a GGUF of a checkpoint that is not understood.
    match check_model(source.clone()) {
        Ok(()) => convert.check = Some(opens()),
        Err(error) if source.path().is_dir() => return Err(error.into()),
        Err(_) => {}
    }
    threads::start()?;
    convert::check_output(&*source, &convert, output.as_ref()).map_err(ConvertError::from)?;
    if let Some(bits) = bits {
        types::check(&*source, bits, &convert)?;
    }
    let (mut chosen, mut not_calibrated) = (None, None);
    match (&options.calibrate_on, bits) {
        (CalibrateOn::RandomTokens, None) => {
            if convert::gains_by_calibration(&*source, &convert)? {
                match on_random_tokens(&source, monitor) {
                    Ok(imatrix) => convert.imatrix = Some(imatrix.into()),
                    Err(MeasureError::Cancelled) => return Err(MeasureError::Cancelled),
                    Err(error) => {
                        monitor.report(Event::NotCalibrated { error: &error });
                        not_calibrated = Some(error);
                    }
                }
            }
        }
        (CalibrateOn::Nothing | CalibrateOn::Imatrix(_), None) => {}
        (on, bits) => {
            let text = match on {
                CalibrateOn::Text(text) => Some(text.as_str()),
                _ => None,
            };
            let Calibrated { imatrix, texts } = calibrate(&source, text, monitor)?;
            convert.imatrix.get_or_insert_with(|| imatrix.into());
            if let Some(bits) = bits {
                let types = types::choose(&source, bits, &texts, &convert, monitor)?;
                convert.types = types.name;
                convert.tensors.extend(types.tensors.iter().cloned());
                chosen = Some(types);
            }
        }
    }
    let progress = |now: ConvertProgress| monitor.report(Event::Writing(now));
    let flag = monitor.cancel().flag();
    let file = convert::write_gguf(&*source, &convert, output.as_ref(), flag, &progress)?;
    Ok(Quantized { file, chosen, not_calibrated })
}

/// Refuses a written file that could not be loaded.
fn opens() -> Check {
    Check(Arc::new(|file| check_model(Arc::new(file)).map_err(|error| error.to_string())))
}

/// Refuses options that contradict each other.
fn check(options: &QuantizeOptions) -> Result<(), MeasureError> {
    let by_text = matches!(options.calibrate_on, CalibrateOn::OwnText | CalibrateOn::Text(_));
    let chosen = matches!(options.types, Types::Bits(_));
    let calibrated = by_text || matches!(options.calibrate_on, CalibrateOn::Imatrix(_));
    if options.rounding == Rounding::Plain && (chosen || calibrated) {
        return Err(MeasureError::PlainRule);
    }
    if by_text && options.types == Types::Rule(TypeRule::Keep) && options.tensors.is_empty() {
        return Err(MeasureError::NothingToCalibrate);
    }
    Ok(())
}
