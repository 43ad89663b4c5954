//! Many clients at once that behave badly, each in its own way. The server goes on as if nothing were.
//!
//! `QUIPU_ABUSE` says how many (120); 1000 take half a minute.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quipu_runtime::generate::GenerateOptions;
use quipu_runtime::sampler::SamplerOptions;
use serde_json::json;

use crate::client::{Connection, request};
use crate::server::{Running, alone};

/// Connections that are open at once, two files each in this process.
const AT_ONCE: usize = 120;

fn completion(body: &str) -> Vec<u8> {
    request("POST", "/v1/completions", &[], body.as_bytes())
}

/// What client number `i` does; most of it ends without an answer.
fn misbehave(address: SocketAddr, i: usize) {
    let mut connection = Connection::open(address);
    let mut send = |bytes: &[u8]| connection.0.get_mut().write_all(bytes).is_ok();
    let endless = json!({"prompt": format!("{i} "), "max_tokens": -1, "stream": true, "ignore_eos": true}).to_string();
    match i % 10 {
        // Says nothing until it is thrown out.
        0 => {}
        // A header that does not end, a byte now and then.
        1 => {
            send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ");
            while send(b"x") {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        // Half a body.
        2 => {
            send(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{\"prompt\": \"a");
        }
        // Half a body, and gone.
        3 => {
            send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{");
            return;
        }
        // Goes while its text is being written.
        4 => {
            send(&completion(&endless));
            let _ = connection.head();
            let _ = connection.chunk();
            return;
        }
        // Goes before its text is begun.
        5 => {
            send(&completion(&endless));
            return;
        }
        // Numbers of every size.
        6 => {
            for number in ["-1e308", "18446744073709551615", "-9223372036854775808", "1e-320", "2147483648"] {
                for field in ["max_tokens", "n", "seed", "top_k", "logprobs", "temperature", "best_of"] {
                    let body =
                        format!("{{\"prompt\": \"a\", \"stream\": false, \"stop\": \"e\", \"{field}\": {number}}}");
                    let mut connection = Connection::open(address);
                    let _ = connection.0.get_mut().write_all(&completion(&body));
                    let status = connection.head().map(|(status, _)| status);
                    assert!(matches!(status, Some(200 | 400 | 503)), "{body}: {status:?}");
                }
            }
            return;
        }
        // JSON without a bottom.
        7 => {
            send(&completion(&"[".repeat(200_000)));
        }
        // Requests without waiting for answers.
        8 => {
            send(&request("GET", "/health", &[], b"").repeat(500));
        }
        // Noise.
        _ => {
            send(&(0..4000u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>());
        }
    }
    while connection.line().is_some() {}
}

#[test]
fn misbehaving_clients_harm_nobody() {
    let clients = std::env::var("QUIPU_ABUSE").map_or(120, |n| n.parse().expect("QUIPU_ABUSE is a number"));
    let server = Running::with(|options| {
        options.limits.header_time = Duration::from_millis(500);
        options.limits.body_time = Duration::from_millis(500);
        options.room.waiting = 10_000;
    });
    let over = AtomicBool::new(false);
    let mut health = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut times = Vec::new();
            let mut connection = Connection::open(server.address);
            while !over.load(Ordering::Relaxed) {
                let started = Instant::now();
                connection.write(request("GET", "/health", &[], b""));
                assert_eq!(connection.response(false).expect("health is told").status, 200);
                times.push(started.elapsed());
                std::thread::sleep(Duration::from_millis(10));
            }
            times
        });
        for first in (0..clients).step_by(AT_ONCE) {
            std::thread::scope(|scope| {
                for i in first..clients.min(first + AT_ONCE) {
                    let address = server.address;
                    scope.spawn(move || misbehave(address, i));
                }
            });
        }
        over.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    health.sort();
    let worst = *health.last().unwrap();
    println!(
        "{clients} clients; health p50 {:?}, p99 {:?}, worst {worst:?}",
        health[health.len() / 2],
        health[health.len() * 99 / 100]
    );
    // Where others use the machine, a thread may wait for its turn for much longer than the server needs.
    assert!(worst < Duration::from_secs(2), "{worst:?}");

    // Nothing is left of them, and others are served as ever.
    let started = Instant::now();
    let count = |name: &str| {
        let text = server.get("/metrics").text().to_string();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect("it is told");
        line.parse::<f64>().unwrap()
    };
    while count("llamacpp:requests_processing") + count("llamacpp:requests_deferred") > 0.0 {
        assert!(started.elapsed() < Duration::from_secs(10), "texts are written for nobody");
        std::thread::sleep(Duration::from_millis(20));
    }
    let body = json!({"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0});
    let written = server.post("/v1/completions", &body).ok();
    let options = GenerateOptions::new(SamplerOptions::greedy()).max_tokens(12);
    assert_eq!(written["choices"][0]["text"], alone("Once upon a time", options).0);
}
