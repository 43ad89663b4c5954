//! Answers that may have calls in them.

use std::sync::Arc;

use quipu_constrain::{CallForm, Calls};
use quipu_runtime::chat::answer::{AnswerReader, ReadOptions, Tool};
use quipu_runtime::constraint::{Constraint, Grammar, TokenMask};
use quipu_test_random::Random;
use serde_json::{Value as Json, json};

use crate::walk::{grammars, tokenizer};

fn tools() -> [Tool; 2] {
    let tool = |name: &str, parameters: Json| Tool { name: name.into(), description: None, parameters, strict: false };
    let days = json!({"type": "object", "properties": {"days": {"type": "integer", "maximum": 9, "minimum": 1}}, "required": ["days"]});
    [tool("get_weather", days), tool("now", Json::Null)]
}

fn offered(form: CallForm, parallel: bool, prompt: &str) -> Arc<dyn Grammar> {
    let tools = tools();
    let thoughts = AnswerReader::new(ReadOptions::default(), prompt);
    grammars().offer(&Calls { tools: &tools, parallel, form }, thoughts).unwrap()
}

/// What is allowed after `text`; none if it is not allowed itself, cut as its usual tokens, marks among them.
fn after(grammar: &dyn Grammar, text: &str) -> Option<(TokenMask, bool)> {
    let tokenizer = tokenizer();
    let tokens = tokenizer.encode(text, false, true);
    let mut place = grammar.begin().unwrap();
    let mut next = TokenMask::new(tokenizer.vocab_size());
    for &token in &tokens {
        next.clear();
        place.allow(&mut next).unwrap();
        if !next.contains(token) {
            return None;
        }
        place.advance(token).unwrap();
    }
    next.clear();
    let may_end = place.allow(&mut next).unwrap();
    Some((next, may_end))
}

/// Whether `text` may be written and end there.
fn is(grammar: &dyn Grammar, text: &str) -> bool {
    after(grammar, text).is_some_and(|(_, may_end)| may_end)
}

/// Whether anything at all may come after `text`.
fn is_free(grammar: &dyn Grammar, text: &str) -> bool {
    after(grammar, text).is_some_and(|(next, may_end)| may_end && next.len() == tokenizer().vocab_size())
}

#[test]
fn a_call_is_kept_to_its_tool_from_its_trigger_on() {
    let call = |name: &str, arguments: &str| format!("{{\"name\": \"{name}\", \"parameters\": {arguments}}}");
    let (good, typed, unknown) =
        (call("get_weather", "{\"days\": 3}"), call("get_weather", "{\"days\": \"3\"}"), call("rain", "{}"));
    let now = call("now", "{}");
    let tags = |call: &str| format!("<tool_call>\n{call}\n</tool_call>");
    let cases = [
        (CallForm::Tags, tags(&good), tags(&typed), tags(&unknown)),
        (CallForm::Tags, tags(&good.replace('\n', "")), tags(&good.replace("name", "call")), tags("7")),
        (
            CallForm::List,
            format!("[TOOL_CALLS][{good}, {now}]"),
            format!("[TOOL_CALLS][{typed}]"),
            "[TOOL_CALLS]{}".into(),
        ),
        (
            CallForm::Named,
            "[TOOL_CALLS]get_weather[ARGS]{\"days\": 3}".into(),
            "[TOOL_CALLS]get_weather[ARGS]{\"days\": 0}".into(),
            "[TOOL_CALLS]rain[ARGS]{}".into(),
        ),
        (
            CallForm::Functions,
            "<function=get_weather>{\"days\": 3}</function>".into(),
            "<function=get_weather>{\"day\": 3}</function>".into(),
            "<function=rain>{}</function>".into(),
        ),
        (CallForm::Plain, good.clone(), typed.clone(), format!("<|python_tag|>{unknown}")),
        (CallForm::Plain, format!("\n{good}; {now}"), format!("{good}; {typed}"), format!("{now}\n\n{typed}")),
        (CallForm::Plain, format!("<|python_tag|>{good}"), format!("<|python_tag|>{typed}"), "<|python_tag|>1".into()),
    ];
    for (form, good, typed, unknown) in cases {
        let grammar = offered(form, true, "");
        for before in ["", "Let me see. "] {
            // Without a mark a call begins an answer.
            if form == CallForm::Plain && !before.is_empty() {
                continue;
            }
            assert!(is(&*grammar, &format!("{before}{good}")), "{form:?} {before}{good}");
            assert!(is_free(&*grammar, &format!("{before}{good}\nAnd now.")), "{form:?} {before}{good}");
            for wrong in [&typed, &unknown] {
                assert!(!is(&*grammar, &format!("{before}{wrong}")), "{form:?} {before}{wrong}");
            }
            let half = &good[..good.rfind('{').unwrap()];
            assert!(after(&*grammar, half).is_some_and(|(_, may_end)| !may_end), "{form:?} {half}");
        }
    }
    let single = offered(CallForm::Tags, false, "");
    assert!(is(&*single, &tags(&good)) && !is(&*single, &format!("{} ", tags(&good))));
}

/// What calls nothing may be written as without tools, token by token.
#[test]
fn other_text_is_free() {
    let texts = [
        "",
        "Well.",
        "if (a < b) { return [1]; }",
        "<tool",
        "The mark <tool_calls",
        "{\"name\": \"Alice\", \"age\": 7}",
        "{\"name\": \"get_weather_now\", \"parameters\": 7",
        "A tool: {\"name\": \"get_weather\", \"description\": 7}",
        "```json\n{\"name\": \"get_weather\", \"x",
        "<think>First <tool_call> 7, [TOOL_CALLS] or {\"name\": \"now\"} 7",
        "<think>{\"name\": \"now\"</think>Well.",
    ];
    for form in [CallForm::Plain, CallForm::Tags, CallForm::Functions, CallForm::List, CallForm::Named] {
        let grammar = offered(form, true, "");
        for text in texts {
            assert!(is_free(&*grammar, text) || is(&*grammar, text) && text.ends_with("<tool"), "{form:?} {text}");
        }
    }
    // The prompt has opened the thoughts.
    let thinking = offered(CallForm::Tags, true, "<|assistant|><think>\n");
    assert!(is_free(&*thinking, "Is <tool_call> 7 right? </think> Well."));
    assert!(!is(&*thinking, "Right.</think><tool_call> 7"));
}

/// Whatever is drawn at random, also what is no text at all: nothing is refused, and what was written comes again.
#[test]
fn random_tokens_go_through() {
    let (tokenizer, mut random) = (tokenizer(), Random::new(5));
    let vocabulary = tokenizer.vocab_size();
    let grammar = offered(CallForm::Tags, true, "");
    let mut place: Box<dyn Constraint> = grammar.begin().unwrap();
    for _ in 0..2000 {
        let mut next = TokenMask::new(vocabulary);
        assert!(place.allow(&mut next).unwrap());
        assert!((0..vocabulary as u32).filter(|&id| tokenizer.is_control(id)).all(|id| next.contains(id)));
        let token = random.below(vocabulary) as u32;
        if next.contains(token) {
            place.advance(token).unwrap();
            place = place.copy();
        }
    }
}
