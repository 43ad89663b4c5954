//! Answers that call tools, in all forms that models write (`tests/refs/call_texts.py` put them together): read whole,
//! and cut into pieces in every way.

use std::path::Path;

use quipu_runtime::chat::answer::{AnswerReader, Delta, Piece, ReadOptions, Tool};
use quipu_test_random::Random;
use serde::Deserialize;
use serde_json::Value as Json;

#[derive(Deserialize)]
struct Texts {
    tools: Vec<Declared>,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
struct Declared {
    name: String,
    parameters: Json,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    content: String,
    reasoning: String,
    calls: Vec<Expected>,
    tools: Option<Vec<Declared>>,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    cut: bool,
    parallel: Option<bool>,
    thinking: Option<bool>,
}

/// Arguments that are a string are those of a call that is not complete.
#[derive(Deserialize)]
struct Expected {
    name: String,
    arguments: Json,
}

/// An answer put together.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    content: String,
    reasoning: String,
    calls: Vec<Call>,
}

#[derive(Debug, PartialEq)]
struct Call {
    name: String,
    arguments: String,
    complete: Option<bool>,
}

fn texts() -> Texts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/calls/texts.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn options(case: &Case, tools: &[Declared]) -> ReadOptions {
    let tools = case.tools.as_deref().unwrap_or(tools).iter().cloned();
    let tool = |Declared { name, parameters }| Tool { name, description: None, parameters, strict: false };
    ReadOptions {
        tools: tools.map(tool).collect(),
        parallel: case.parallel.unwrap_or(true),
        thinking: case.thinking.unwrap_or(true),
    }
}

fn read<'a>(case: &Case, options: &ReadOptions, pieces: impl IntoIterator<Item = &'a str>) -> Answer {
    let mut reader = AnswerReader::new(options.clone(), &case.prompt);
    let mut answer = Answer::default();
    for piece in pieces {
        answer.add(reader.push(piece));
    }
    answer.add(reader.finish(case.cut));
    answer
}

impl Answer {
    fn add(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let call = self.calls.last_mut().filter(|call| call.complete.is_none());
            match (piece.delta, call) {
                (Delta::Content(text), None) => self.content += &text,
                (Delta::Reasoning(text), None) => self.reasoning += &text,
                (Delta::Begin { name }, None) => {
                    self.calls.push(Call { name, arguments: String::new(), complete: None });
                }
                (Delta::Arguments(text), Some(call)) => call.arguments += &text,
                (Delta::End { complete }, Some(call)) => call.complete = Some(complete),
                (delta, call) => panic!("{delta:?} in {call:?}"),
            }
        }
    }

    /// What is not as expected.
    fn wrong(&self, case: &Case) -> bool {
        let right = |(call, expected): (&Call, &Expected)| {
            call.name == expected.name
                && match expected.arguments.as_str() {
                    Some(broken) => call.complete == Some(false) && call.arguments == broken,
                    None => {
                        call.complete == Some(true)
                            && serde_json::from_str::<Json>(&call.arguments).ok().as_ref() == Some(&expected.arguments)
                    }
                }
        };
        self.content != case.content
            || self.reasoning != case.reasoning
            || self.calls.len() != case.calls.len()
            || !self.calls.iter().zip(&case.calls).all(right)
    }
}

#[test]
fn whole() {
    let texts = texts();
    assert!(texts.cases.len() >= 300);
    let mut wrong = 0;
    for case in &texts.cases {
        let answer = read(case, &options(case, &texts.tools), [case.text.as_str()]);
        if answer.wrong(case) {
            wrong += 1;
            println!("{}:\n{:?}\nbecame {answer:#?}", case.name, case.text);
        }
    }
    assert_eq!(wrong, 0, "of {}", texts.cases.len());
}

/// Character by character, in two pieces in every way, short ones in three, and at random.
#[test]
fn in_pieces() {
    let texts = texts();
    let mut random = Random::new(18);
    for case in &texts.cases {
        let options = options(case, &texts.tools);
        let text = case.text.as_str();
        let whole = read(case, &options, [text]);
        let same = |pieces: &[&str]| assert_eq!(read(case, &options, pieces.iter().copied()), whole, "{pieces:?}");
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let cut = |at: &[usize]| {
            let ends = at.iter().copied().chain([text.len()]);
            let mut from = 0;
            same(&ends.map(|end| &text[std::mem::replace(&mut from, end)..end]).collect::<Vec<_>>());
        };
        cut(&cuts);
        for (i, first) in cuts.iter().enumerate() {
            cut(&[*first]);
            if cuts.len() < 100 {
                cuts[i..].iter().for_each(|second| cut(&[*first, *second]));
            }
        }
        for _ in 0..20 {
            let step = 1 + random.below(12);
            cut(&cuts.iter().copied().filter(|_| random.below(step) == 0).collect::<Vec<_>>());
        }
    }
}

/// What is certain is given out at once: text as it comes, and strings within arguments.
#[test]
fn nothing_is_held_back_without_need() {
    let texts = texts();
    let tools = texts.tools.iter().cloned();
    let tool = |Declared { name, parameters }| Tool { name, description: None, parameters, strict: false };
    let options = ReadOptions { tools: tools.map(tool).collect(), ..ReadOptions::default() };
    let mut reader = AnswerReader::new(options, "");
    for (text, expected) in [
        ("Hi", vec![Delta::Content("Hi".into())]),
        (" [x] a < b\n", vec![Delta::Content(" [x] a < b\n".into())]),
        ("{\"name\": \"Lima\"", vec![Delta::Content("{\"name\": \"Lima\"".into())]),
        ("}\n{\"name\": \"write_file\", \"para", vec![Delta::Content("}\n".into())]),
        ("meters\": ", vec![]),
        ("{", vec![Delta::Begin { name: "write_file".into() }, Delta::Arguments("{".into())]),
        ("\"text\": \"one", vec![Delta::Arguments("\"text\":\"".into()), Delta::Arguments("one".into())]),
        (" two\\", vec![Delta::Arguments(" two".into())]),
        ("n", vec![Delta::Arguments("\\n".into())]),
        ("\"", vec![Delta::Arguments("\"".into())]),
        ("}", vec![Delta::Arguments("}".into()), Delta::End { complete: true }]),
        ("}", vec![]),
        ("\nDone", vec![Delta::Content("Done".into())]),
    ] {
        let pieces: Vec<Delta> = reader.push(text).into_iter().map(|piece| piece.delta).collect();
        assert_eq!(pieces, expected, "{text:?}");
    }
}

/// The time that a text takes is in proportion to its length, in whatever pieces it comes.
#[test]
fn long_texts() {
    let texts = texts();
    let tool = |Declared { name, parameters }: &Declared| Tool {
        name: name.clone(),
        description: None,
        parameters: parameters.clone(),
        strict: false,
    };
    let tools: std::sync::Arc<[Tool]> = texts.tools.iter().map(tool).collect();
    let options = ReadOptions { tools, ..ReadOptions::default() };
    let long = "a\\n".repeat(100_000);
    for text in [
        format!("{{\"parameters\": {{\"text\": \"{long}\"}}, \"name\": \"write_file\"}}"),
        format!("[write_file(text='{long}')]"),
        format!("{{\"name\": \"write_file\", \"parameters\": {{\"text\": \"{long}\"}}}}"),
        format!("{{\"name\": \"place_order\", \"parameters\": {{\"item\": {{\"x\": \"{long}\"}}}}}}"),
        format!("<think>{}x", "\n".repeat(300_000)),
        "\n".repeat(300_000),
        "[".repeat(300_000),
        "{\"parameters\": [\n".repeat(4_000),
    ] {
        let started = std::time::Instant::now();
        let mut reader = AnswerReader::new(options.clone(), "");
        let pieces: usize =
            text.as_bytes().chunks(3).map(|piece| reader.push(str::from_utf8(piece).unwrap()).len()).sum();
        let ended = reader.finish(false).len();
        assert!(pieces + ended > 0 && started.elapsed().as_secs() < 10, "{} {:?}", &text[..40], started.elapsed());
    }
}
