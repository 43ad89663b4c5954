//! From messages to tokens: what is marked, and what becomes of the marks.
//!
//! Every string of a message, a tool or a variable goes into the template with an origin that is not the template's.
//! In the rendered text control tokens are looked for only between such strings, so no text can forge one, however the
//! template cuts, trims or quotes it. Tokens that are mere text (kind "user-defined": `<think>`, runs of spaces) are
//! found everywhere, as always. The text is still cut into words as one, so the ids are those of Hugging Face as long
//! as no message holds the text of a control token.
//!
//! Answers have an origin each. Where the template prints one, whole or trimmed, its own tokens take its place.
//!
//! The limits: a template sees the messages as they are, so one that acts on what they say (`'/think' in content`)
//! still does. Text that spells out a control token is many tokens to the model, and whether that fools it is up to the
//! model. What the program itself passes as `…_token` counts as the template's.

use serde_json::Value as Json;

use super::jinja::{Error, Origin, Rendered, TEMPLATE, Value};
use super::message::Message;
use super::options::RenderOptions;
use crate::generate::one_bos;
use crate::tokenizer::{Part, Tokenizer};

/// The origin of what others wrote.
pub(super) const DATA: Origin = 1;

/// The origin of the answer that is message `number`.
fn answer_origin(number: usize) -> Origin {
    DATA + 1 + number as Origin
}

/// Bytes of everything that goes into a template.
pub(super) fn size(messages: &[Message], options: &RenderOptions) -> usize {
    let of_message =
        |m: &Message| m.role.len() + json_size(&m.content) + m.extra.values().map(json_size).sum::<usize>();
    let variables = options.variables.values().chain(&options.tools).map(json_size).sum::<usize>();
    messages.iter().map(of_message).sum::<usize>() + variables
}

/// What a value takes in memory, roughly.
fn json_size(json: &Json) -> usize {
    64 + match json {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(json_size).sum(),
        Json::Object(map) => map.iter().map(|(key, value)| key.len() + json_size(value)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
    }
}

/// The messages as the template sees them. Null fields are left out, as Hugging Face does: many templates fail on a
/// null where they handle a missing key.
pub(super) fn messages(messages: &[Message]) -> Result<Value, Error> {
    let mut list = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let content_origin = if message.tokens.is_empty() { DATA } else { answer_origin(number) };
        let mut fields = vec![("role", Value::from_json(&Json::from(message.role.as_str()), DATA)?)];
        if !message.content.is_null() {
            fields.push(("content", Value::from_json(&message.content, content_origin)?));
        }
        for (name, value) in message.extra.iter().filter(|(_, value)| !value.is_null()) {
            fields.push((name, Value::from_json(value, DATA)?));
        }
        list.push(Value::dict(fields, DATA)?);
    }
    Value::list(list)
}

/// The tokens of a rendered conversation.
pub(super) fn tokens(
    tokenizer: &Tokenizer,
    rendered: &Rendered,
    messages: &[Message],
    parse_special: bool,
) -> Vec<u32> {
    let text = rendered.text.as_str();
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut start = 0;
    for &(end, origin) in &rendered.stretches {
        let stretch = start..end;
        let answer = (origin as usize).checked_sub(answer_origin(0) as usize).and_then(|number| messages.get(number));
        let spliced = answer.and_then(|answer| {
            let before = match parts.last() {
                Some(Part::Template(before)) => before,
                _ => "",
            };
            splice(tokenizer, answer, &text[stretch.clone()], before, &text[end..])
        });
        if let Some(Splice { left, ids, covered }) = spliced {
            if let Some(Part::Template(before)) = parts.last_mut() {
                *before = &before[..before.len() - left];
            }
            parts.push(Part::Tokens(ids));
            if covered < stretch.len() {
                parts.push(Part::Data(&text[stretch.start + covered..end]));
            }
        } else if origin == TEMPLATE || parse_special {
            parts.push(Part::Template(&text[stretch]));
        } else {
            parts.push(Part::Data(&text[stretch]));
        }
        start = end;
    }
    let mut tokens = tokenizer.encode_parts(&parts);
    one_bos(&mut tokens, tokenizer.bos(), tokenizer.add_bos());
    tokens
}

/// Tokens that take the place of an answer's text.
struct Splice<'m> {
    /// Bytes of the template's text before it that they stand for, too.
    left: usize,
    ids: &'m [u32],
    /// Bytes of the answer's text that they stand for.
    covered: usize,
}

/// The tokens of `answer` that stand for a beginning of `shown`, which the template has made of it between `before` and
/// `after`; none if no token ends where `shown` begins.
fn splice<'m>(
    tokenizer: &Tokenizer,
    answer: &'m Message,
    shown: &str,
    before: &str,
    after: &str,
) -> Option<Splice<'m>> {
    let content = answer.content.as_str()?;
    // A tokenizer that puts a space in front would do so after the tokens, too, unless a control token follows.
    if tokenizer.adds_space_prefix() && !after.is_empty() && !tokenizer.begins_with_mark(after) {
        return None;
    }
    // Where the shown text begins in the answer: past white space that was trimmed, or wherever.
    let trimmed = content.len() - content.trim_start().len();
    let begins =
        [0, trimmed].into_iter().find(|at| content[*at..].starts_with(shown)).or_else(|| content.find(shown))?;
    let (mut end, mut first) = (0, None);
    let (mut last, mut covered) = (0, 0);
    for (i, id) in answer.tokens.iter().enumerate() {
        // The first token may bring along what the template has written itself: a space.
        if end <= begins && before.as_bytes().ends_with(&content.as_bytes()[end..begins]) && first.is_none() {
            first = Some((i, begins - end));
        }
        let piece = tokenizer.token_bytes(*id, false);
        if !content.as_bytes()[end..].starts_with(piece) {
            break;
        }
        end += piece.len();
        if end > begins + shown.len() {
            break;
        }
        if end > begins && shown.is_char_boundary(end - begins) {
            (last, covered) = (i + 1, end - begins);
        }
    }
    let (first, left) = first?;
    (last > first).then(|| Splice { left, ids: &answer.tokens[first..last], covered })
}
