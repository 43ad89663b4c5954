//! More models than there is memory for.

use std::fs;

use serde_json::json;

use crate::client::Connection;
use crate::models::{Files, ask, begin, statuses, wait};

/// Bytes of the weights of the demo model.
fn bytes(files: &Files) -> u64 {
    let source = quipu_runtime::open(files.path("a").to_str().unwrap()).unwrap();
    source.tensors().iter().map(|tensor| tensor.byte_len().unwrap() as u64).sum()
}

#[test]
fn who_was_used_longest_ago_goes_for_another() {
    let files = Files::new(&["a", "b", "c"]);
    let two = 2 * bytes(&files);
    let server = files.serve(&["a", "b", "c"], |library| library.weights = Some(two));
    let loaded = || {
        let mut loaded: Vec<String> =
            statuses(&server).into_iter().filter(|(_, status)| status == "loaded").map(|(name, _)| name).collect();
        loaded.sort();
        loaded.concat()
    };
    for (model, expected) in [("b", "ab"), ("c", "bc"), ("b", "bc"), ("a", "ab"), ("c", "ac")] {
        ask(&server, model).ok();
        assert_eq!(loaded(), expected, "after {model}");
    }
    assert_eq!((files.loads("a"), files.loads("b"), files.loads("c")), (2, 1, 2));
}

#[test]
fn nobody_goes_while_somebody_uses_it() {
    let files = Files::new(&["a", "b", "c"]);
    let two = 2 * bytes(&files);
    let server = files.serve(&["a", "b", "c"], |library| library.weights = Some(two));
    let streams: Vec<Connection> = ["a", "b"].map(|model| begin(&server, model)).into();
    let busy = ask(&server, "c");
    assert_eq!((busy.status, busy.json()["error"]["code"].as_str()), (503, Some("overloaded")));
    assert!(busy.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    let busy = server.post("/api/chat", &json!({"model": "c", "messages": []}));
    assert!(busy.status == 503 && busy.json()["error"].as_str().unwrap().contains("no memory"), "{}", busy.text());
    assert_eq!(files.loads("c"), 0);
    // The streams have gone on, and when they end there is room.
    for mut stream in streams {
        assert!(!stream.chunk().unwrap().is_empty());
    }
    while ask(&server, "c").status == 503 {}
    assert_eq!(statuses(&server)["c"], "loaded");
}

#[test]
fn what_never_fits_is_told_and_costs_nobody() {
    let files = Files::new(&["a", "b"]);
    let less = bytes(&files) - 1;
    let server = files.serve_directory(&[], |library| library.weights = Some(less));
    let never = ask(&server, "b");
    assert!(never.status == 500 && never.text().contains("MB"), "{}", never.text());
    assert_eq!(files.loads("b"), 0);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_load_that_fails_is_told_and_the_next_one_is_another_try() {
    let files = Files::new(&["a", "b", "panic"]);
    fs::write(files.path("b"), "no model at all").unwrap();
    let server = files.serve(&["a", "b", "panic"], |_| ());
    for (path, body) in [
        ("/v1/completions", json!({"model": "b", "prompt": "A"})),
        ("/v1/messages", json!({"model": "b", "max_tokens": 1, "messages": [{"role": "user", "content": "A"}]})),
        ("/api/generate", json!({"model": "b", "prompt": "A"})),
    ] {
        let failed = server.post(path, &body);
        assert!(failed.status == 500 && failed.text().contains("b.gguf"), "{path}: {}", failed.text());
    }
    let list = server.get("/v1/models").ok();
    assert_eq!(list["data"][1]["status"], json!({"value": "unloaded", "failed": true}));
    assert_eq!(server.post("/api/show", &json!({"model": "b"})).status, 500);
    assert_eq!(ask(&server, "panic").status, 500);
    ask(&server, "a").ok();
    files.add("b");
    ask(&server, "b").ok();
    wait(&server, "b", "loaded");
    assert_eq!(ask(&server, "panic").status, 500);
}
