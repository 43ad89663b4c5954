//! Quipu as a library for C and whatever can call C: open a model, generate text, free it.
//!
//! This file is the whole border; `include/quipu.h` is made from it. Nothing is decided here: `quipu-runtime` does the
//! work. What the border adds: pointers and texts from outside are checked, errors become a [`Status`] and a sentence
//! ([`quipu_last_error`]), and no panic leaves the library. The documentation is written for readers of the header.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, TryLockError};

use quipu_runtime::generate::{Event, GenerateError, GenerateOptions, Request, Scheduler, StopReason, prompt_tokens};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Cancel, Engine, Isa, LoadOptions, Sequence};

/// What became of a call. For everything but QUIPU_STATUS_OK, quipu_last_error() has a sentence.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// An argument is bad: a null pointer, a text that is no UTF-8, a number out of range.
    Argument = 1,
    /// The model's file cannot be read, or is none.
    Open = 2,
    /// The model cannot be loaded: it is not supported, or asks for what this machine does not have.
    Load = 3,
    /// The text cannot be continued: the prompt is empty or too long for the context.
    Generate = 4,
    /// The model is in use: by another thread, or by the call whose callback called this.
    Busy = 5,
    /// A fault of the library. The model can be used again; please report it.
    Internal = 6,
}

/// Why a text ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model ended it.
    End = 0,
    /// One of the stop strings.
    String = 1,
    /// max_tokens.
    Limit = 2,
    /// The context is full.
    ContextFull = 3,
    /// The callback wanted no more.
    Callback = 4,
}

/// How a model is to be loaded. Zeros throughout are the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads; 0: one for each fast core that this process may use.
    pub threads: u32,
    /// Tokens that prompt and answer may have together; 0: the model's own limit. Memory is taken as the text grows.
    pub context: u32,
    /// The instruction set by name ("neon", "dotprod", "i8mm", "avx2", "avx512vnni", "portable"); NULL: the best that
    /// the CPU has.
    pub isa: *const c_char,
}

/// How a text is to be continued. quipu_params_default() fills it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// Tokens to write at most; 0: until the text or the context ends.
    pub max_tokens: u32,
    /// 0 always takes the likeliest token; higher is wilder.
    pub temperature: f32,
    /// Draw among the top_k likeliest tokens; 0: all.
    pub top_k: u32,
    /// Draw among the fewest tokens with this probability together; 1: all.
    pub top_p: f32,
    /// Draw among tokens at least min_p times as likely as the likeliest; 0: all.
    pub min_p: f32,
    /// Discourage tokens seen lately by this factor; 1: off.
    pub repeat_penalty: f32,
    /// Discourage tokens seen lately by this much for each time; 0: off.
    pub frequency_penalty: f32,
    /// Discourage tokens seen lately by this much; 0: off.
    pub presence_penalty: f32,
    /// How many tokens "lately" means for the penalties.
    pub repeat_last_n: u32,
    /// The same seed gives the same text on every machine.
    pub seed: u64,
    /// Not 0: special tokens that are written in the prompt (<|eot_id|>) are plain text.
    pub plain: c_int,
    /// Strings before which the text ends: an array of stop_count texts, which may be NULL when stop_count is 0.
    pub stop: *const *const c_char,
    /// How many stop strings there are.
    pub stop_count: usize,
}

/// What quipu_generate() did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those that had to be read; the others were still known from the call before.
    pub read_tokens: usize,
    /// Tokens written.
    pub written_tokens: usize,
    /// Seconds that reading the prompt took.
    pub read_seconds: f64,
    /// Seconds that writing took, without the callback's.
    pub write_seconds: f64,
    /// Why the text ended.
    pub stop: Stop,
}

/// Hears the text as it is written: `len` bytes of UTF-8 at `text`, whole characters, no zero at the end, valid during
/// the call only. `user` is what quipu_generate() was given. To go on, return 0; anything else ends the text.
///
/// It is called once for each token, also when a token adds no text yet (`len` is 0), and before and while a long
/// prompt is read, with `len` 0, so that reading can be stopped too. It must return: no C++ exception, no longjmp. It
/// must not free the model.
pub type Callback = Option<unsafe extern "C" fn(text: *const c_char, len: usize, user: *mut c_void) -> c_int>;

/// A model, loaded. Several threads may hold it, but only one call at a time works on it; the others get
/// QUIPU_STATUS_BUSY.
pub struct Model {
    state: Mutex<State>,
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

/// A status and its sentence.
struct Failure(Status, String);

impl Failure {
    fn new(status: Status, error: impl Display) -> Failure {
        Failure(status, error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs `f`, remembers its error's sentence, and lets no panic through.
fn guarded(f: impl FnOnce() -> Result<(), Failure>) -> Status {
    // Whatever a panic leaves half-done is thrown away: `State` is reset by the next call, everything else was local.
    let result = catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().copied();
        let what = what.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
        Err(Failure(Status::Internal, format!("a fault of the library: {what}")))
    });
    let Err(Failure(status, sentence)) = result else { return Status::Ok };
    let sentence = c_string(sentence);
    // Fails while the thread ends; then there is nobody to ask.
    let _ = LAST_ERROR.try_with(|last| last.replace(sentence));
    status
}

/// A text for outside.
fn c_string(text: String) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// A text from outside.
///
/// # Safety
/// `text` is null or a C string that lives as long as the result.
unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::new(Status::Argument, format_args!("{name} is NULL")));
    }
    // SAFETY: not null, and otherwise by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| {
        let at = error.valid_up_to();
        Failure::new(Status::Argument, format_args!("{name} is no UTF-8 text: the first bad byte is number {at}"))
    })
}

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
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The defaults for quipu_generate().
#[unsafe(no_mangle)]
pub extern "C" fn quipu_params_default() -> Params {
    let sampler = SamplerOptions::default();
    Params {
        max_tokens: 0,
        temperature: sampler.temperature,
        top_k: saturate(sampler.top_k),
        top_p: sampler.top_p,
        min_p: sampler.min_p,
        repeat_penalty: sampler.repeat_penalty,
        frequency_penalty: sampler.frequency_penalty,
        presence_penalty: sampler.presence_penalty,
        repeat_last_n: saturate(sampler.repeat_last_n),
        seed: sampler.seed,
        plain: 0,
        stop: std::ptr::null(),
        stop_count: 0,
    }
}

fn saturate(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Loads the model at `path`: a GGUF file, a packed file, a Hugging Face directory, or the word "demo". `options` may
/// be NULL. On success `*model` is the model, to be given to quipu_free() in the end; otherwise NULL.
///
/// # Safety
/// `path` and `options->isa` are C strings (or null); `options` and `model` point to what their types say (or are
/// null).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quipu_open(path: *const c_char, options: *const Options, model: *mut *mut Model) -> Status {
    guarded(|| {
        // SAFETY: by this function's contract; null is asked for.
        let model = unsafe { model.as_mut() }.ok_or_else(|| Failure::new(Status::Argument, "model is NULL"))?;
        *model = std::ptr::null_mut();
        // SAFETY: by this function's contract; the text is used before this call returns.
        let path = unsafe { text(path, "path") }?;
        // SAFETY: by this function's contract.
        let options = match unsafe { options.as_ref() } {
            // SAFETY: by this function's contract.
            Some(options) => unsafe { load_options(options) }?,
            None => LoadOptions::default(),
        };
        let source = quipu_runtime::open(path).map_err(|error| Failure::new(Status::Open, error))?;
        let engine = Engine::load(source, &options, &|_, _| {}).map_err(|error| Failure::new(Status::Load, error))?;
        let warnings: Vec<String> = engine.recoded_types().iter().map(ToString::to_string).collect();
        let warnings = c_string(warnings.join("\n"));
        let state = Mutex::new(State { scheduler: Scheduler::new(engine), sequence: None });
        *model = Box::into_raw(Box::new(Model { state, warnings }));
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
/// `options.isa` is null or a C string.
unsafe fn load_options(options: &Options) -> Result<LoadOptions, Failure> {
    let isa = if options.isa.is_null() {
        None
    } else {
        // SAFETY: by this function's contract.
        let name = unsafe { text(options.isa, "isa") }?;
        let isa = name.to_ascii_lowercase().parse::<Isa>();
        Some(isa.map_err(|error| Failure::new(Status::Argument, error))?)
    };
    Ok(LoadOptions {
        threads: (options.threads > 0).then_some(options.threads as usize),
        context: (options.context > 0).then_some(options.context as usize),
        isa,
        ..LoadOptions::default()
    })
}

/// Continues `prompt` and calls `callback` with the text, piece by piece. `params` may be NULL for the defaults,
/// `report` may be NULL.
///
/// The model remembers the last text: a prompt that begins with it (a conversation that has grown) is read from where
/// they differ. That changes the time that it takes, never the result.
///
/// # Safety
/// `model` came from quipu_open() and has not been freed. `prompt` is a C string; `params`, its stop strings and
/// `report` are what their types say (or null). `callback` does what its type asks.
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
        // SAFETY: by this function's contract.
        let params = unsafe { params.as_ref() }.copied().unwrap_or_else(|| quipu_params_default());
        // SAFETY: by this function's contract.
        let options = unsafe { generate_options(&params) }?;
        let mut state = match model.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(Status::Busy, "the model is in use by another call"));
            }
            Err(TryLockError::Poisoned(poisoned)) => {
                // A panic in the last call: what was read then is not to be relied on.
                model.state.clear_poison();
                let mut state = poisoned.into_inner();
                state.scheduler.clear();
                state.sequence = None;
                state
            }
        };
        // SAFETY: by this function's contract.
        let mut hear = |text: &str| unsafe { callback(text.as_ptr().cast(), text.len(), user) == 0 };
        let done = state.generate(prompt, params.plain == 0, options, &mut hear)?;
        // SAFETY: by this function's contract.
        if let Some(report) = unsafe { report.as_mut() } {
            *report = done;
        }
        Ok(())
    })
}

/// # Safety
/// `params.stop` is null or has `params.stop_count` C strings.
unsafe fn generate_options(params: &Params) -> Result<GenerateOptions, Failure> {
    let mut stops = Vec::new();
    if params.stop.is_null() && params.stop_count > 0 {
        return Err(Failure::new(Status::Argument, "stop is NULL, but stop_count is not 0"));
    }
    for i in 0..params.stop_count {
        // SAFETY: by this function's contract; not null, as just checked.
        let stop = unsafe { text(*params.stop.add(i), "a stop string") }?;
        stops.push(stop.to_string());
    }
    let sampler = SamplerOptions {
        temperature: params.temperature,
        top_k: params.top_k as usize,
        top_p: params.top_p,
        min_p: params.min_p,
        repeat_penalty: params.repeat_penalty,
        frequency_penalty: params.frequency_penalty,
        presence_penalty: params.presence_penalty,
        repeat_last_n: params.repeat_last_n as usize,
        seed: params.seed,
    };
    let max_tokens = (params.max_tokens > 0).then_some(params.max_tokens as usize);
    Ok(GenerateOptions::new(sampler).stops(stops).max_tokens(max_tokens))
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
