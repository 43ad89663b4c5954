//! The types of the border. The documentation is written for readers of the header.

use std::ffi::{c_char, c_int, c_void};

use crate::sized::{AnyBytes, SizedStruct};

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
    /// The session cannot be opened, since it is another model's or damaged, or cannot be saved.
    Session = 7,
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

/// How a model is to be loaded. Zeros are the defaults of all but struct_size.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// sizeof(quipu_options): later versions of the library add fields at the end.
    pub struct_size: usize,
    /// Threads; 0: one for each fast core that this process may use.
    pub threads: u32,
    /// Tokens that prompt and answer may have together; 0: the model's own limit. Memory is taken as the text grows.
    pub context: u32,
    /// The instruction set by name ("neon", "dotprod", "i8mm", "avx2", "avx512vnni", "portable"); NULL: the best that
    /// the CPU has.
    pub isa: *const c_char,
    /// How kernels are tuned, which changes no result: NULL or "auto": by short measurements after the first tokens,
    /// which are kept in the user's directory for caches; "off": not at all; or settings as `quipu doctor` lists them.
    pub tuning: *const c_char,
    /// In which numbers keys and values are kept: "f16" (or NULL), "f32", "q8" (half the memory of f16), "q4" (a
    /// quarter, with a rounding that can be noticed) or "q8q4" (keys in 8 bits, values in 4).
    pub kv: *const c_char,
}

/// How a text is to be continued. quipu_params_default() fills it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// sizeof(quipu_params): later versions of the library add fields at the end.
    pub struct_size: usize,
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
    /// A JSON schema: the text is JSON that is valid against it. NULL: none. What cannot be enforced is refused
    /// (QUIPU_STATUS_ARGUMENT), and a text that ends with QUIPU_STOP_END is always complete. So it is with the next
    /// two, of which, and of this one, only one may be set.
    pub schema: *const c_char,
    /// A grammar in GBNF, or in Lark after the word %llguidance: the text is one that it allows. NULL: none.
    pub grammar: *const c_char,
    /// A regular expression, which the whole text matches. NULL: none.
    pub regex: *const c_char,
    /// Draw among the fewest tokens whose surprise is nearest the expected one and that have this probability together;
    /// 1: all.
    pub typical_p: f32,
    /// Draw among tokens whose logits are at most so many standard deviations below the greatest; 0 or less: all.
    pub top_n_sigma: f32,
    /// XTC: how often the top choices but the last are left out; 0: never.
    pub xtc_probability: f32,
    /// XTC: how likely a top choice is at least; above 0.5: none is.
    pub xtc_threshold: f32,
    /// How far the temperature moves either way with the entropy of the candidates; 0: not at all.
    pub dynatemp_range: f32,
    /// A power of the entropy's share of the greatest possible, for dynatemp_range.
    pub dynatemp_exponent: f32,
    /// DRY: discourages going on with what stands in the text already; 0: off.
    pub dry_multiplier: f32,
    /// DRY: how fast that grows with the length of what is repeated; 1 or more.
    pub dry_base: f32,
    /// DRY: up to so many tokens may be repeated freely.
    pub dry_allowed_length: u32,
    /// DRY: how many of the last tokens are looked at; 0: off.
    pub dry_last_n: u32,
    /// No sequence of so many tokens twice; 0: off.
    pub no_repeat_ngram: u32,
    /// Mirostat's algorithm 1 or 2 in the place of all that truncates; 0: off.
    pub mirostat: u32,
    /// Mirostat: the surprise to aim at, in bits.
    pub mirostat_tau: f32,
    /// Mirostat: how fast it learns.
    pub mirostat_eta: f32,
    /// DRY: texts over which no repetition reaches, an array of dry_breaker_count; NULL: a line end, ':', '"' and '*'.
    pub dry_breakers: *const *const c_char,
    /// How many of them there are.
    pub dry_breaker_count: usize,
    /// The steps in their order by name, as in "top_k;temperature"; what is left out is not done. NULL:
    /// "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature".
    pub samplers: *const c_char,
    /// Added to the logits of tokens: an array of logit_bias_count, which may be NULL when that is 0.
    pub logit_bias: *const Bias,
    /// How many biases there are.
    pub logit_bias_count: usize,
    /// Texts that must not be written: an array of banned_count, which may be NULL when that is 0. Where one would
    /// begin, another token is drawn, and nothing before it changes. Tokens in which one may have begun are held back:
    /// the callback hears of them later.
    pub banned: *const *const c_char,
    /// How many of them there are.
    pub banned_count: usize,
    /// Tokens of thought at most (between `<think>` and `</think>`, say), then what closes thoughts comes, and the
    /// answer; -1: any number.
    pub thinking_budget: i32,
    /// Not 0: tokens that end the text are never drawn, unless it has come to the end of its schema, grammar or regex.
    pub ignore_end: c_int,
}

/// A bias of a token.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bias {
    /// Its id.
    pub token: u32,
    /// Added to its logit; -INFINITY excludes it.
    pub bias: f32,
}

/// What quipu_generate() did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// sizeof(quipu_report), to be set before the call: no more than that is written.
    pub struct_size: usize,
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

// SAFETY: `repr(C)`, and `struct_size` comes first.
unsafe impl SizedStruct for Options {}
// SAFETY: as above.
unsafe impl SizedStruct for Params {}
// SAFETY: as above.
unsafe impl SizedStruct for Report {}
// SAFETY: numbers and raw pointers.
unsafe impl AnyBytes for Options {}
// SAFETY: as above.
unsafe impl AnyBytes for Params {}
