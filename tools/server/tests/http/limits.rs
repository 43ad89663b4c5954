//! What is taken at most. After each attack the server must answer as before.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Connection, request};
use crate::server::{Running, shared};

const COMPLETIONS: &str = "/v1/completions";

fn alive(server: &Running) {
    assert_eq!(server.post(COMPLETIONS, &json!({"prompt": "A", "max_tokens": 1})).status, 200);
}

/// A body that is too large, as it says itself or not (CVE-2025-52566 of llama.cpp: more tokens than a number holds).
#[test]
fn bodies_have_a_limit() {
    let server = Running::with(|options| options.limits.body_bytes = 1000);
    let mut connection = Connection::open(server.address);
    connection
        .write("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551615\r\n\r\n");
    assert!(matches!(connection.head().map(|(status, _)| status), Some(400..=431) | None));
    let mut connection = Connection::open(server.address);
    connection.write("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(connection.head().unwrap().0, 413);
    let mut connection = Connection::open(server.address);
    connection.write("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.write(format!("400\r\n{}\r\n", " ".repeat(1024)));
    assert_eq!(connection.head().unwrap().0, 413);
    alive(&server);
}

/// A body that would have to be unpacked (CVE-2024-12886 of ollama: a gzip bomb).
#[test]
fn nothing_is_unpacked() {
    let packed = shared().send("POST", COMPLETIONS, &[("Content-Encoding", "gzip")], b"\x1f\x8b");
    assert_eq!(packed.status, 415);
    alive(shared());
}

/// CVE-2025-48956 of vLLM: headers without end.
#[test]
fn headers_have_a_limit() {
    let long = "x".repeat(100 << 10);
    let many: Vec<String> = (0..101).map(|i| format!("x-{i}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    for headers in [&[("x-long", long.as_str())][..], &many] {
        let mut connection = Connection::open(shared().address);
        // The server may have had enough before all of it is written.
        let _ = std::io::Write::write_all(connection.0.get_mut(), &request("GET", "/health", headers, b""));
        assert!(matches!(connection.head().map(|(status, _)| status), Some(431) | None));
    }
    alive(shared());
}

/// Connections that say nothing, or next to nothing (slowloris).
#[test]
fn slow_clients_are_left() {
    let server = Running::with(|options| {
        options.limits.header_time = Duration::from_millis(300);
        options.limits.body_time = Duration::from_millis(300);
    });
    let started = Instant::now();
    let mut silent = Connection::open(server.address);
    let mut half = Connection::open(server.address);
    half.write("POST /v1/completions HTTP/1.1\r\nHost: local");
    let mut half_body = Connection::open(server.address);
    half_body.write("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"pro");
    assert_eq!(half_body.head().unwrap().0, 408);
    assert!(matches!(half.head().map(|(status, _)| status), Some(408) | None));
    assert!(silent.head().is_none());
    assert!(started.elapsed() < Duration::from_secs(20));
    // A byte now and then is not enough either.
    let mut trickle = Connection::open(server.address);
    trickle.write("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
    let started = Instant::now();
    while std::io::Write::write_all(trickle.0.get_mut(), b" ").is_ok() && started.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(trickle.head().unwrap().0, 408);
    alive(&server);
}

/// JSON as deep as it likes, broken, or no JSON at all.
#[test]
fn bad_json_is_refused() {
    let deep = |n: usize| format!("{{\"prompt\": {}1{}}}", "[".repeat(n), "]".repeat(n));
    let bodies = [
        deep(200),
        deep(1_000_000),
        "{\"a\":".repeat(100_000),
        String::new(),
        "{".into(),
        "[]".into(),
        "1".into(),
        "{\"prompt\": \"\\ud800\"}".into(),
        "{\"prompt\": 1e999}".into(),
        "{\"prompt\": \"x\"} x".into(),
    ];
    for body in &bodies {
        let response = shared().send("POST", COMPLETIONS, &[], body.as_bytes());
        assert_eq!(response.status, 400, "{:.40}", body);
        assert!(response.json()["error"]["message"].as_str().unwrap().len() < 300);
    }
    let latin = shared().send("POST", COMPLETIONS, &[], b"{\"prompt\": \"caf\xe9\"}");
    assert_eq!(latin.status, 400);
    alive(shared());
}

/// A text that cannot fit, however its bytes become tokens, is refused without making tokens of it.
#[test]
fn a_huge_prompt_costs_nothing() {
    let body = json!({"prompt": "a ".repeat(7 << 20), "max_tokens": 1}).to_string();
    let started = Instant::now();
    let response = shared().send("POST", COMPLETIONS, &[], body.as_bytes());
    assert_eq!((response.status, response.json()["error"]["type"].as_str()), (400, Some("exceed_context_size_error")));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// What is no HTTP.
#[test]
fn noise_is_refused() {
    for noise in
        ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\r\n\r\n"]
    {
        let mut connection = Connection::open(shared().address);
        connection.write(noise);
        assert!(matches!(connection.head().map(|(status, _)| status), Some(400..=505) | None));
    }
    alive(shared());
}
