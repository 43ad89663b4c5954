//! Names of models in requests: found in the list, or not at all.

use serde_json::json;

use crate::models::{Files, ask, statuses, wait};
use crate::server::shared;

#[test]
fn an_unknown_name_is_told_in_each_dialect_with_what_there_is() {
    let files = Files::new(&["a", "b"]);
    let server = files.serve(&["a", "b"], |_| ());
    let message = [json!({"role": "user", "content": "A"})];
    for (path, body, error) in [
        ("/v1/chat/completions", json!({"messages": message}), "/error/message"),
        ("/v1/responses", json!({"input": "A"}), "/error/message"),
        ("/v1/embeddings", json!({"input": "A"}), "/error/message"),
        ("/completion", json!({"prompt": "A"}), "/error/message"),
        ("/tokenize", json!({"content": "A"}), "/error/message"),
        ("/v1/messages", json!({"max_tokens": 1, "messages": message}), "/error/message"),
        ("/api/chat", json!({"messages": message}), "/error"),
        ("/api/show", json!({}), "/error"),
        ("/api/embed", json!({"input": "A"}), "/error"),
    ] {
        for name in ["c", "../a", "/etc/passwd", "a.gguf", "A", " a", "a:b"] {
            let mut body = body.clone();
            body["model"] = name.into();
            let missing = server.post(path, &body);
            let json = missing.json();
            let text = json.pointer(error).and_then(|text| text.as_str()).unwrap_or_else(|| panic!("{path}: {json}"));
            assert!(missing.status == 404 && text.ends_with("there are: a, b"), "{path}: {text}");
        }
    }
    let wrong = server.post("/v1/completions", &json!({"model": 5, "prompt": "A"}));
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("model")));
    assert_eq!(files.loads("b"), 0);
}

#[test]
fn a_directory_is_looked_at_again_for_a_name_that_is_not_known() {
    let files = Files::new(&["a"]);
    let server = files.serve_directory(&[], |_| ());
    assert_eq!(statuses(&server)["a"], "unloaded");
    assert_eq!(ask(&server, "").ok()["model"], "");
    assert_eq!(ask(&server, "b").status, 404);
    files.add("b");
    ask(&server, "b").ok();
    // Now a name is needed.
    let which = server.post("/v1/completions", &json!({"prompt": "A"}));
    assert!(which.status == 400 && which.text().contains("there are: a, b"), "{}", which.text());
    // What is loaded goes on without its file, and is gone when it is unloaded.
    std::fs::remove_file(files.path("b")).unwrap();
    ask(&server, "b").ok();
    server.post("/models/unload", &json!({"model": "b"})).ok();
    while statuses(&server).contains_key("b") {}
    assert_eq!(ask(&server, "b").status, 404);
    // A link to nothing, and what is no model by its name, are not there.
    std::fs::write(files.directory.path().join("notes.txt"), "secret").unwrap();
    for name in ["notes.txt", "notes", "./a", "a/../a", files.path("a").to_str().unwrap()] {
        assert_eq!(ask(&server, name).status, 404, "{name}");
    }
}

#[test]
fn what_was_given_goes_before_what_is_in_the_directory() {
    let files = Files::new(&["a", "b"]);
    let server = files.serve_directory(&["a"], |_| ());
    let mut names: Vec<String> = statuses(&server).into_keys().collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    wait(&server, "a", "loaded");
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "A", "max_tokens": 1})).ok()["model"], "a");
    assert_eq!(ask(&server, "c").status, 404, "with more than one model a name counts");
}

#[test]
fn a_server_with_one_model_answers_to_every_name() {
    for name in ["gpt-4o", "../..", ""] {
        assert_eq!(ask(shared(), name).ok()["model"], name);
    }
}

#[test]
fn what_no_model_here_can_is_told() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    for (path, body) in [
        ("/v1/images/generations", json!({"prompt": "A"})),
        ("/v1/images/edits", json!({"prompt": "A"})),
        ("/rerank", json!({"query": "A", "documents": ["B"]})),
        ("/v1/rerank", json!({"query": "A", "documents": ["B"]})),
        ("/v1/reranking", json!({"query": "A", "documents": ["B"]})),
        ("/api/create", json!({"model": "a"})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": [image]}]})),
        (
            "/v1/responses",
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}),
        ),
        (
            "/v1/messages",
            json!({
                "max_tokens": 1,
                "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}],
            }),
        ),
        ("/api/chat", json!({"messages": [{"role": "user", "content": "A", "images": ["AA=="]}]})),
        ("/api/generate", json!({"prompt": "A", "images": ["AA=="]})),
    ] {
        let refused = shared().post(path, &body);
        assert!(refused.status == 501 && refused.text().len() > 40, "{path}: {} {}", refused.status, refused.text());
    }
}
