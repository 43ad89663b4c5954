//! Parts that several answers have.

use quipu_runtime::generate::{Drafted, StopReason, Timing, Token};
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::{Map, Value as Json, json};

use crate::answer::{Answer, Choice, Usage};
use crate::error::{ApiError, Dialect};
use crate::stream::event;

/// What an answer says of its maker: a build and its name, in llama.cpp's form.
pub const FINGERPRINT: &str = concat!("b", env!("CARGO_PKG_VERSION"), "-quipu");

/// How much was read and written.
pub fn usage(usage: Usage) -> Json {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.written,
        "total_tokens": usage.prompt + usage.written,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    })
}

/// Why a text has ended: OpenAI's words.
pub fn finish_reason(choice: &Choice) -> Option<&'static str> {
    choice.end.as_ref().map(|end| match end.stop {
        _ if choice.is_refused() => "content_filter",
        StopReason::Limit | StopReason::ContextFull => "length",
        _ => "stop",
    })
}

/// llama.cpp's account of time, up to now.
pub fn timings(choices: &[Choice]) -> Json {
    let (mut prompt, mut written, mut cached) = (Timing::default(), Timing::default(), 0);
    let mut drafted = Drafted::default();
    for choice in choices {
        for (sum, timing) in [&mut prompt, &mut written].into_iter().zip(<[Timing; 2]>::from(choice.timing())) {
            sum.tokens += timing.tokens;
            sum.time += timing.time;
        }
        cached += choice.cached_tokens();
        if let Some(end) = &choice.end {
            drafted.tokens += end.drafted.tokens;
            drafted.accepted += end.drafted.accepted;
        }
    }
    let mut timings = Map::new();
    timings.insert("cache_n".into(), cached.into());
    let drawn: usize = choices.iter().map(Choice::drawn).sum();
    for (name, timing, n) in [("prompt", prompt, prompt.tokens), ("predicted", written, drawn)] {
        let ms = timing.time.as_secs_f64() * 1e3;
        let per_token = if timing.tokens == 0 { 0.0 } else { ms / timing.tokens as f64 };
        timings.insert(format!("{name}_n"), n.into());
        timings.insert(format!("{name}_ms"), json!(ms));
        timings.insert(format!("{name}_per_token_ms"), json!(per_token));
        timings.insert(format!("{name}_per_second"), json!(if per_token == 0.0 { 0.0 } else { 1e3 / per_token }));
    }
    if drafted.tokens > 0 {
        timings.insert("draft_n".into(), drafted.tokens.into());
        timings.insert("draft_n_accepted".into(), drafted.accepted.into());
    }
    timings.into()
}

/// A token as text.
pub fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(id, true)).into_owned()
}

/// Tokens as text, with those that are marks for the model, and with the space that a text gets in front.
pub fn shown(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let mut text = Vec::new();
    tokens.iter().for_each(|&id| text.extend_from_slice(tokenizer.token_bytes(id, true)));
    String::from_utf8_lossy(&text).into_owned()
}

/// A logarithm of a probability as JSON has it, which knows no −∞: as small as a number can be.
pub fn logprob(logprob: f64) -> f64 {
    logprob.max(-9999.0)
}

/// `{token, bytes, logprob, top_logprobs}` of chat completions. llama.cpp's `id` is there, too.
pub fn token_logprobs(tokenizer: &Tokenizer, token: &Token) -> Json {
    let one = |id: u32, value: f64| {
        json!({
            "id": id,
            "token": token_text(tokenizer, id),
            "bytes": tokenizer.token_bytes(id, true),
            "logprob": logprob(value),
        })
    };
    let mut json = one(token.id, token.logprob.unwrap_or(f64::NEG_INFINITY));
    json["top_logprobs"] = token.top_logprobs.iter().map(|&(id, value)| one(id, value)).collect();
    json
}

/// Ends a stream of pieces like `piece`: with `with_usage` the usage, and `[DONE]`; or the error, if a text of `answer`
/// has not ended.
pub fn end_stream(answer: &Answer, with_usage: bool, piece: &mut Json, out: &mut String) {
    if let Err(error) = answer.check_ended() {
        return fail_stream(&error, out);
    }
    if with_usage {
        piece["choices"] = json!([]);
        piece["usage"] = usage(answer.usage());
        piece["timings"] = timings(&answer.choices);
        event(piece, out);
    }
    out.push_str("data: [DONE]\n\n");
}

/// Tells an error within a stream.
pub fn fail_stream(error: &ApiError, out: &mut String) {
    event(&error.body(Dialect::OpenAi), out);
}
