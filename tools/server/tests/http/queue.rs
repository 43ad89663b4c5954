//! Clients that go away, and more clients than there is room for.

use std::time::{Duration, Instant};

use quipu_server::engine::Room;
use serde_json::json;

use crate::client::{Connection, request};
use crate::server::Running;

/// A stream that goes on until somebody stops it, past its first token.
fn begin(server: &Running) -> Connection {
    let mut connection = Connection::open(server.address);
    // Nothing that ends the text: it is 500 tokens long.
    let body = json!({"prompt": "A", "stream": true, "max_tokens": 500, "seed": 1, "logit_bias": [[2, -1000]]});
    connection.write(request("POST", "/v1/completions", &[], body.to_string().as_bytes()));
    assert_eq!(connection.head().unwrap().0, 200);
    assert!(!connection.chunk().unwrap().is_empty());
    connection
}

#[test]
fn when_too_many_wait_the_next_is_told_when_to_come_again() {
    let server = Running::with(|options| options.room = Room { running: 1, waiting: 1 });
    let (one, two) = (begin(&server), {
        let mut waits = Connection::open(server.address);
        let body = json!({"prompt": "A", "stream": true, "max_tokens": 500}).to_string();
        waits.write(request("POST", "/v1/completions", &[], body.as_bytes()));
        assert_eq!(waits.head().unwrap().0, 200);
        waits
    });
    let busy = server.post("/v1/completions", &json!({"prompt": "A", "max_tokens": 1}));
    assert_eq!((busy.status, busy.json()["error"]["code"].as_str()), (503, Some("overloaded")));
    assert!((1..=60).contains(&busy.header("retry-after").unwrap().parse::<u32>().unwrap()));
    // Health is answered all the same.
    assert_eq!(server.get("/health").status, 200);
    drop((one, two));
}

/// A text whose client is gone gives its place free at once, and so does one that still waits.
#[test]
fn a_client_that_goes_away_ends_its_text() {
    let server = Running::with(|options| options.room = Room { running: 1, waiting: 1 });
    for _ in 0..3 {
        let (writes, waits) = (begin(&server), {
            let mut waits = Connection::open(server.address);
            let body = json!({"prompt": "A", "max_tokens": 500}).to_string();
            waits.write(request("POST", "/v1/completions", &[], body.as_bytes()));
            waits
        });
        drop((writes, waits));
        let started = Instant::now();
        let short = json!({"prompt": ["A", "B"], "max_tokens": 1});
        while server.post("/v1/completions", &short).status != 200 {
            assert!(started.elapsed() < Duration::from_secs(20), "the texts go on");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Asked to end, a server takes nobody else in, lets texts end, and cuts off what takes too long.
#[test]
fn a_server_that_stops_lets_texts_end() {
    let server = Running::with(|options| options.drain = Duration::from_secs(30));
    let mut connection = begin(&server);
    server.stop();
    let mut text = Vec::new();
    while let Some(chunk) = connection.chunk().filter(|chunk| !chunk.is_empty()) {
        text.extend(chunk);
    }
    assert!(String::from_utf8(text).unwrap().ends_with("data: [DONE]\n\n"));
    server.join();
}
