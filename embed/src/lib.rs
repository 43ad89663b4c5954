//! Quipu as a library for C and whatever can call C: open a model, generate text, free it.
//!
//! This file and [`types`] are the whole border; `include/quipu.h` is made from them. Nothing is decided here:
//! `quipu-runtime` does the work. What the border adds: pointers and texts from outside are checked, errors become a
//! [`Status`] and a sentence ([`quipu_last_error`]), structs may be those of an older or a newer header (`sized`), and
//! no panic leaves the library. The documentation is written for readers of the header.

mod failure;
mod params;
mod sized;
pub mod types;

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::size_of;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, TryLockError};

use quipu_constrain::Grammars;
use quipu_formats::output::Inputs;
use quipu_runtime::generate::{Event, GenerateError, GenerateOptions, Request, Scheduler, StopReason, prompt_tokens};
use quipu_runtime::session::{Session, SessionError};
use quipu_runtime::{Cancel, Engine, Isa, KvType, LoadOptions, Sequence, TuningChoice};

use failure::{Failure, c_string, guarded, text};
use params::{default_params, generate_options, shape};
use types::{Callback, Options, Params, Report, Status, Stop};

/// A model, loaded. Several threads may hold it, but only one call at a time works on it; the others get
/// QUIPU_STATUS_BUSY.
pub struct Model {
    state: Mutex<State>,
    grammars: Grammars,
    warnings: CString,
}

struct State {
    scheduler: Scheduler,
    /// The last text: what the next prompt begins with of it need not be read again.
    sequence: Option<Sequence>,
}

const _: () = {
    // A handle may be used on any thread.
    const fn check<T: Send + Sync>() {}
    check::<Model>();
};

/// The library's version, as in "0.1.0". It lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn quipu_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// A sentence about the last call of this thread that failed; "" if none did. It lives until the next failure on the
/// same thread.
#[unsafe(no_mangle)]
pub extern "C" fn quipu_last_error() -> *const c_char {
    failure::last_error()
}

/// Fills `params` with the defaults for quipu_generate(), as far as params->struct_size, which must be set before.
///
/// # Safety
/// `params` points to params->struct_size bytes (or is null).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quipu_params_default(params: *mut Params) -> Status {
    guarded(|| {
        if params.is_null() {
            return Err(Failure::new(Status::Argument, "params is NULL"));
        }
        // SAFETY: not null, and otherwise by this function's contract.
        unsafe { sized::write(&default_params(), params, "params") }.map_err(Failure::argument)
    })
}

/// Loads the model at `path`: a GGUF file, a packed file, a Hugging Face directory, or the word "demo". `options` may
/// be NULL. On success `*model` is the model, to be given to quipu_free() in the end; otherwise NULL.
///
/// # Safety
/// `path` and the texts of `options` are C strings (or null); `options` points to options->struct_size bytes and
/// `model` to a pointer (or are null).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quipu_open(path: *const c_char, options: *const Options, model: *mut *mut Model) -> Status {
    guarded(|| {
        if model.is_null() {
            return Err(Failure::new(Status::Argument, "model is NULL"));
        }
        // Written and never read: the caller's variable need not have a value yet, so there may be no reference to it.
        // SAFETY: not null, and otherwise by this function's contract.
        unsafe { model.write(std::ptr::null_mut()) };
        // SAFETY: by this function's contract; the text is used before this call returns.
        let path = unsafe { text(path, "path") }?;
        // SAFETY: by this function's contract.
        let options = unsafe { load_options(options) }?;
        let source = quipu_runtime::open(path).map_err(|error| Failure::new(Status::Open, error))?;
        let engine = Engine::load(source, &options, &|_, _| {}).map_err(|error| Failure::new(Status::Load, error))?;
        let warnings: Vec<String> = engine.recoded_types().iter().map(ToString::to_string).collect();
        let warnings = c_string(warnings.join("\n"));
        let grammars = Grammars::new(engine.tokenizer().clone());
        let state = Mutex::new(State { scheduler: Scheduler::new(engine), sequence: None });
        // SAFETY: as above.
        unsafe { model.write(Box::into_raw(Box::new(Model { state, grammars, warnings }))) };
        Ok(())
    })
}

/// What a user should know about the model although it was loaded, a line for each thing; "" if nothing, or if `model`
/// is NULL. So far that is one thing: tensors of a type that is run as another, which takes more memory than the file.
/// The text lives as long as the model.
///
/// # Safety
/// `model` came from quipu_open() and has not been freed, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quipu_warnings(model: *const Model) -> *const c_char {
    // SAFETY: by this function's contract; null is asked for.
    unsafe { model.as_ref() }.map_or(c"", |model| &model.warnings).as_ptr()
}

/// # Safety
/// `options` is null, or points to as many bytes as it says; its `isa`, `tuning` and `kv` are null or C strings.
unsafe fn load_options(options: *const Options) -> Result<LoadOptions, Failure> {
    if options.is_null() {
        return Ok(LoadOptions::default());
    }
    let (isa, tuning, kv) = (std::ptr::null(), std::ptr::null(), std::ptr::null());
    let defaults = Options { struct_size: size_of::<Options>(), threads: 0, context: 0, isa, tuning, kv };
    // SAFETY: not null, and otherwise by this function's contract.
    let options = unsafe { sized::read(options, defaults, "options") }.map_err(Failure::argument)?;
    let isa = if options.isa.is_null() {
        None
    } else {
        // SAFETY: by this function's contract.
        let name = unsafe { text(options.isa, "isa") }?;
        let isa = name.to_ascii_lowercase().parse::<Isa>();
        Some(isa.map_err(|error| Failure::new(Status::Argument, error))?)
    };
    let tuning = if options.tuning.is_null() {
        TuningChoice::default()
    } else {
        // SAFETY: by this function's contract.
        let text = unsafe { text(options.tuning, "tuning") }?;
        let choice = TuningChoice::parse(text, isa.unwrap_or_else(Isa::best));
        choice.map_err(|error| Failure::new(Status::Argument, error))?
    };
    let kv_type = if options.kv.is_null() {
        KvType::default()
    } else {
        // SAFETY: by this function's contract.
        let name = unsafe { text(options.kv, "kv") }?;
        name.parse().map_err(|error| Failure::new(Status::Argument, error))?
    };
    Ok(LoadOptions::default()
        .tuning(tuning)
        .kv_type(kv_type)
        .threads((options.threads > 0).then_some(options.threads as usize))
        .context((options.context > 0).then_some(options.context as usize))
        .isa(isa))
}

/// Continues `prompt` and calls `callback` with the text, piece by piece. `params` may be NULL for the defaults,
/// `report` may be NULL.
///
/// The model remembers the last text: a prompt that begins with it (a conversation that has grown) is read from where
/// they differ. That changes the time that it takes, never the result.
///
/// # Safety
/// `model` came from quipu_open() and has not been freed. `prompt` is a C string; `params` and `report` point to as
/// many bytes as their struct_size says (or are null), and the texts in it are what their type says. `callback` does
/// what its type asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quipu_generate(
    model: *const Model,
    prompt: *const c_char,
    params: *const Params,
    callback: Callback,
    user: *mut c_void,
    report: *mut Report,
) -> Status {
    guarded(|| {
        let null = |name: &str| Failure::new(Status::Argument, format_args!("{name} is NULL"));
        // SAFETY: by this function's contract; null is asked for.
        let model = unsafe { model.as_ref() }.ok_or_else(|| null("model"))?;
        let callback = callback.ok_or_else(|| null("callback"))?;
        // SAFETY: by this function's contract; the text is used before this call returns.
        let prompt = unsafe { text(prompt, "prompt") }?;
        let mut given = default_params();
        if !params.is_null() {
            // SAFETY: not null, and otherwise by this function's contract.
            given = unsafe { sized::read(params, given, "params") }.map_err(Failure::argument)?;
        }
        let params = given;
        if !report.is_null() {
            // What cannot be reported is refused before the work. SAFETY: as above.
            unsafe { sized::size(report, "report") }.map_err(Failure::argument)?;
        }
        // SAFETY: by this function's contract.
        let mut options = unsafe { generate_options(&params) }?;
        // SAFETY: by this function's contract.
        if let Some(shape) = unsafe { shape(&params) }? {
            let grammar = model.grammars.compile(&shape);
            options.grammar = Some(grammar.map_err(|error| Failure::new(Status::Argument, error))?);
        }
        let mut state = model.state()?;
        // SAFETY: by this function's contract.
        let mut hear = |text: &str| unsafe { callback(text.as_ptr().cast(), text.len(), user) == 0 };
        let done = state.generate(prompt, params.plain == 0, options, &mut hear)?;
        if !report.is_null() {
            // SAFETY: not null, and otherwise by this function's contract.
            unsafe { sized::write(&done, report, "report") }.map_err(Failure::argument)?;
        }
        Ok(())
    })
}

/// Keeps the last text, with what the model has read of it, in the file `path`, for a later quipu_session_open(). The
/// file is written beside its place and takes it when it is complete; if that fails, whatever had the name stays.
/// Nothing is kept before a first quipu_generate(): QUIPU_STATUS_SESSION.
///
/// # Safety
/// `model` came from quipu_open() and has not been freed (or is null), and `path` is a C string (or null).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quipu_session_save(model: *const Model, path: *const c_char) -> Status {
    guarded(|| {
        // SAFETY: by this function's contract.
        let (model, path) = unsafe { session_arguments(model, path) }?;
        let state = model.state()?;
        let Some(sequence) = state.sequence.clone().filter(|sequence| !sequence.is_empty()) else {
            return Err(Failure::new(Status::Session, "there is no text yet"));
        };
        let engine = state.scheduler.engine();
        let session = Session { tokens: sequence.tokens().to_vec(), sequence, state: Default::default() };
        session.save(engine, path, &Inputs::of(engine.source().files())).map_err(session_failure)
    })
}

/// Takes the text that quipu_session_save() has kept in the file `path` for the last one: the next prompt that begins
/// with it is read from where they differ, as if the model had not been freed meanwhile. The file stays. A file that
/// was made with another model, other numbers of keys and values or another version of the library is refused
/// (QUIPU_STATUS_SESSION), and so is one that was damaged; then the model remembers what it did.
///
/// # Safety
/// `model` came from quipu_open() and has not been freed (or is null), and `path` is a C string (or null).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quipu_session_open(model: *const Model, path: *const c_char) -> Status {
    guarded(|| {
        // SAFETY: by this function's contract.
        let (model, path) = unsafe { session_arguments(model, path) }?;
        let mut state = model.state()?;
        let session = Session::open(state.scheduler.engine(), path).map_err(session_failure)?;
        state.sequence = Some(session.sequence);
        Ok(())
    })
}

/// # Safety
/// `model` came from quipu_open() and lives as long as the result, or is null; `path` is a C string that does, or null.
unsafe fn session_arguments<'a>(model: *const Model, path: *const c_char) -> Result<(&'a Model, &'a Path), Failure> {
    // SAFETY: by this function's contract; null is asked for.
    let model = unsafe { model.as_ref() }.ok_or_else(|| Failure::new(Status::Argument, "model is NULL"))?;
    // SAFETY: by this function's contract.
    Ok((model, Path::new(unsafe { text(path, "path") }?)))
}

fn session_failure(error: SessionError) -> Failure {
    Failure::new(Status::Session, error)
}

impl Model {
    /// What only one call at a time may have.
    fn state(&self) -> Result<MutexGuard<'_, State>, Failure> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::WouldBlock) => Err(Failure::new(Status::Busy, "the model is in use by another call")),
            Err(TryLockError::Poisoned(poisoned)) => {
                // A panic in the last call: what was read then is not to be relied on.
                self.state.clear_poison();
                let mut state = poisoned.into_inner();
                state.scheduler.clear();
                state.sequence = None;
                Ok(state)
            }
        }
    }
}

impl State {
    fn generate(
        &mut self,
        prompt: &str,
        parse_special: bool,
        options: GenerateOptions,
        hear: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Report, Failure> {
        let tokens = prompt_tokens(self.scheduler.engine().tokenizer(), prompt, parse_special);
        let cancel = Cancel::new();
        let mut hear = |text: &str| {
            if !cancel.cancelled() && !hear(text) {
                cancel.cancel();
            }
        };
        hear("");
        let request = Request::new(tokens, options).cancel(cancel.clone()).sequence(self.sequence.take());
        let mut written = 0;
        let ended = self.scheduler.stream(request, |event| match event {
            Event::Prefill { .. } => hear(""),
            Event::Token(token) => {
                written += 1;
                hear(&token.text);
            }
            _ => {}
        });
        let end = match ended {
            Ok(end) => end,
            Err(failed) => {
                self.sequence = failed.sequence;
                return Err(failure(failed.error));
            }
        };
        self.sequence = Some(end.sequence);
        // Text that was held back belongs to the text, unless nobody wants more of it.
        if !end.text.is_empty() {
            hear(&end.text);
        }
        Ok(Report {
            struct_size: size_of::<Report>(),
            prompt_tokens: end.prompt_tokens,
            read_tokens: end.prefill.tokens,
            written_tokens: written,
            read_seconds: end.prefill.time.as_secs_f64(),
            write_seconds: end.decode.time.as_secs_f64(),
            stop: match end.stop {
                _ if cancel.cancelled() => Stop::Callback,
                StopReason::End => Stop::End,
                StopReason::StopString => Stop::String,
                StopReason::Limit => Stop::Limit,
                StopReason::ContextFull => Stop::ContextFull,
                _ => Stop::Callback,
            },
        })
    }
}

fn failure(error: GenerateError) -> Failure {
    let status = if matches!(error, GenerateError::Sampler(_)) { Status::Argument } else { Status::Generate };
    Failure::new(status, error)
}

/// Frees the model. NULL is fine.
///
/// # Safety
/// `model` came from quipu_open(), has not been freed, and no other call is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quipu_free(model: *mut Model) {
    if !model.is_null() {
        // The status is for functions that can fail.
        let _ = guarded(|| {
            // SAFETY: made by `Box::into_raw` in `quipu_open`, and nobody else's any more, by this function's contract.
            drop(unsafe { Box::from_raw(model) });
            Ok(())
        });
    }
}
