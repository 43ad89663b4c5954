//! `quipu batch`: the same answers in any order, beside any neighbours, and after a kill; nothing lost, nothing twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::{command, quipu};

/// Requests of both kinds of prompts, some with seeds and options of their own, some that cannot be answered.
fn lines() -> Vec<Json> {
    let line = |i: usize| {
        let body = match i % 5 {
            0 => json!({"model": "demo", "prompt": format!("Once upon a time, {i} ravens"), "max_tokens": 40}),
            1 => json!({"prompt": "The old king of the mountain", "max_tokens": 12, "seed": i, "n": 2}),
            2 => json!({"prompt": ["A miller", "The fox said"], "max_tokens": 10, "temperature": 0}),
            3 => json!({"prompt": format!("Once upon a time, {i} dwarfs"), "max_tokens": 20, "logprobs": 2}),
            _ => json!({"prompt": "A fox", "max_tokens": "many"}),
        };
        json!({"custom_id": format!("r{i}"), "method": "POST", "url": "/v1/completions", "body": body})
    };
    (0..20).map(line).collect()
}

fn write(path: &Path, lines: &[Json]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
}

/// The answers by id: status, choices, and how much was read and written. Each is there once.
fn answers(path: &Path) -> BTreeMap<String, (u64, Json, Json)> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    let mut answers = BTreeMap::new();
    for line in text.lines() {
        let answer: Json = serde_json::from_str(line).unwrap();
        let (response, body) = (&answer["response"], &answer["response"]["body"]);
        let usage = json!([body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]]);
        let what = if body["error"].is_null() { body["choices"].clone() } else { body["error"]["param"].clone() };
        let found = (response["status_code"].as_u64().unwrap(), what, usage);
        let id = answer["custom_id"].as_str().unwrap().to_string();
        assert!(answer["id"].as_str().unwrap().starts_with("batch_req_") && answer["error"].is_null());
        assert!(answers.insert(id.clone(), found).is_none(), "{id} is answered twice");
    }
    answers
}

#[test]
fn a_batch_gets_the_same_answers_in_any_order_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let batch = |input: &str, output: &str, options: &[&str]| {
        let (input, output) = (path(input), path(output));
        let mut args = vec!["batch", "demo", input.to_str().unwrap(), "-o", output.to_str().unwrap()];
        args.extend(options);
        quipu(args)
    };
    let mut lines = lines();
    write(&path("in.jsonl"), &lines);
    assert_eq!(batch("in.jsonl", "out.jsonl", &[]).ok(), "");
    let expected = answers(&path("out.jsonl"));
    assert_eq!(expected.len(), lines.len());
    for (id, (status, what, usage)) in &expected {
        let i: usize = id[1..].parse().unwrap();
        match i % 5 {
            4 => assert_eq!((*status, what), (400, &json!("max_tokens"))),
            kind => {
                let choices = what.as_array().unwrap();
                assert_eq!((*status, choices.len()), (200, [1, 2, 2, 1][kind]));
                assert!(usage[1].as_u64().unwrap() > 0);
                assert!(choices.iter().all(|choice| choice["text"].as_str().is_some_and(|text| !text.is_empty())));
            }
        }
    }
    // It is what `run` writes.
    let (_, choices, _) = &expected["r2"];
    let run = quipu(["run", "demo", "A miller", "-n", "10", "--temp", "0", "--no-echo"]).ok();
    assert_eq!(choices[0]["text"].as_str().unwrap(), run.trim_end_matches('\n'));

    // Again: nothing is left to do.
    let before = std::fs::read(path("out.jsonl")).unwrap();
    batch("in.jsonl", "out.jsonl", &[]).ok();
    assert_eq!(std::fs::read(path("out.jsonl")).unwrap(), before);

    // In another order, one after the other, with little memory.
    lines.reverse();
    lines.swap(3, 11);
    write(&path("other.jsonl"), &lines);
    batch("other.jsonl", "alone.jsonl", &["--parallel", "1", "--threads", "1"]).ok();
    assert_eq!(answers(&path("alone.jsonl")), expected);
    batch("other.jsonl", "little.jsonl", &["--kv-memory", "2M", "-c", "128"]).ok();
    assert_eq!(answers(&path("little.jsonl")), expected);

    // Killed after some answers, with half a line at the end.
    let output = path("killed.jsonl");
    let mut child = command(["batch", "demo", path("in.jsonl").to_str().unwrap(), "-o", output.to_str().unwrap()])
        .args(["--parallel", "1", "--threads", "1"])
        .spawn()
        .unwrap();
    let (begun, whole) = (Instant::now(), |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count());
    while std::fs::read(&output).map_or(0, |bytes| whole(&bytes)) < 6 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut bytes = std::fs::read(&output).unwrap();
    bytes.truncate(bytes.len() - 7);
    std::fs::write(&output, &bytes).unwrap();
    batch("in.jsonl", "killed.jsonl", &[]).ok();
    assert_eq!(answers(&output), expected);
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    assert_eq!(std::fs::read(&output).unwrap()[..whole], bytes[..whole]);
}

#[test]
fn what_is_no_batch_is_refused_by_its_line_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let good = &lines()[0];
    let refused = |text: String| {
        std::fs::write(path("in.jsonl"), text).unwrap();
        let error = quipu(["batch", "demo", &path("in.jsonl"), "-o", &path("out.jsonl")]).error();
        assert!(!Path::new(&path("out.jsonl")).exists());
        error
    };
    let with = |field: &str, value: Json| {
        let mut line = good.clone();
        line[field] = value;
        line["custom_id"] = if field == "custom_id" { line["custom_id"].clone() } else { json!("other") };
        refused(format!("{good}\n\n{line}\n"))
    };
    for (error, expected) in [
        (with("custom_id", json!(7)), "line 3: `custom_id` must be a string"),
        (with("custom_id", json!("r0")), "line 3: `custom_id` \"r0\" is that of line 1, too"),
        (with("method", json!("GET")), "line 3: `method` is \"GET\", expected \"POST\""),
        (with("url", json!("/v1/embeddings")), "line 3: `url` is \"/v1/embeddings\", expected"),
        (with("body", json!("text")), "line 3: `body` must be an object"),
        (refused("{]".to_string()), "line 1: is no JSON"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
    // An output that is something else, or the input, stays as it is.
    let input = path("in.jsonl");
    std::fs::write(&input, format!("{good}\n")).unwrap();
    for other in ["my diary", "my diary\nof two lines\n", "{\"custom_id\":\"else\"}\n"] {
        std::fs::write(path("out.jsonl"), other).unwrap();
        let error = quipu(["batch", "demo", &input, "-o", &path("out.jsonl")]).error();
        assert!(error.contains("choose another output"), "{error}");
        assert_eq!(std::fs::read_to_string(path("out.jsonl")).unwrap(), other);
    }
    let error = quipu(["batch", "demo", &input, "-o", &input]).error();
    assert!(error.contains("output and input are the same file"), "{error}");
    assert_eq!(std::fs::read_to_string(&input).unwrap(), format!("{good}\n"));
}
