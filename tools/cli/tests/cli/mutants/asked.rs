//! What users ask for, with lies in it: schemas, grammars, tools, templates, and files of requests.

use quipu_test_random::Random;
use serde_json::Value as Json;

use super::bytes::{integer, mutate_bytes};
use super::hf::mutate_json;
use super::hunt::{hunt, ready};
use super::requests::{GRAMMARS, SCHEMAS, TEMPLATE, lines, requests, tools};

/// What a text may get in between.
const WORDS: [&str; 20] = [
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "\\",
    "|",
    "*",
    "+",
    "{9999}",
    "::=",
    "root",
    "%json {}",
    "/(a*)*/",
    "{% for x in ",
    "{{ ",
    " %}",
    "|join",
];

/// Parts of a text, doubled, left out, or with something in between.
fn mutate_text(text: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = bytes.len().min(at + 1 + random.below(30));
        match random.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let part = bytes[at..end].repeat(1 << random.below(12));
                bytes.splice(at..at, part);
            }
            2 => drop(bytes.splice(at..at, integer(random).to_string().into_bytes())),
            3 => drop(mutate_bytes(&mut bytes, random)),
            _ => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].bytes())),
        }
    }
    bytes
}

/// JSON with another value somewhere, or as a text.
fn mutate(mut json: Json, random: &mut Random) -> (Vec<u8>, String) {
    if random.below(4) == 0 {
        return (mutate_text(&json.to_string(), random), "another text".into());
    }
    let what = (0..1 + random.below(2)).map(|_| mutate_json(&mut json, random)).collect::<Vec<_>>().join(", ");
    (json.to_string().into_bytes(), what)
}

#[test]
fn lies_of_a_shape_are_errors() {
    if !ready() {
        return;
    }
    let commands = ["run demo Once -n 6 -t 1 --schema schema", "run demo Once -n 6 -t 1 --grammar grammar"];
    hunt("schemas and grammars", &commands, |dir, random| {
        let (schema, what) = mutate(serde_json::from_str(SCHEMAS[random.below(SCHEMAS.len())]).unwrap(), random);
        std::fs::write(dir.join("schema"), schema).unwrap();
        let which = random.below(GRAMMARS.len());
        std::fs::write(dir.join("grammar"), mutate_text(GRAMMARS[which], random)).unwrap();
        format!("schema {what}, grammar {which}")
    });
}

#[test]
fn lies_of_tools_and_templates_are_errors() {
    if !ready() {
        return;
    }
    let commands = ["chat demo -n 2 -t 1 --template template --tools tools"];
    hunt("tools and templates", &commands, |dir, random| {
        std::fs::write(dir.join("text"), "Once upon a time\nAnd then?\n").unwrap();
        if random.below(2) == 0 {
            std::fs::write(dir.join("template"), mutate_text(TEMPLATE, random)).unwrap();
            return "template".into();
        }
        let (tools, what) = mutate(tools(), random);
        std::fs::write(dir.join("tools"), tools).unwrap();
        format!("tools {what}")
    });
}

#[test]
fn lies_of_requests_are_errors() {
    if !ready() {
        return;
    }
    hunt("files of requests", &["batch demo lines -o out -t 1"], |dir, random| {
        let (mut requests, mut what) = (requests(), String::new());
        let text = if random.below(4) == 0 {
            mutate_text(&lines(&requests), random)
        } else {
            for _ in 0..1 + random.below(2) {
                let which = random.below(requests.len());
                what += &format!("{which}: {}, ", mutate_json(&mut requests[which], random));
            }
            lines(&requests).into_bytes()
        };
        std::fs::write(dir.join("lines"), text).unwrap();
        what
    });
}
