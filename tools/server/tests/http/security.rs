//! Who may ask. Each test names what happened to others.

use quipu_server::keys::Keys;
use quipu_server::options::{Address, ServerOptions};
use quipu_server::server::{ServeError, Server};

use crate::server::{Running, shared};

const PATHS: &[&str] =
    &["/health", "/v1/models", "/v1/models/demo", "/v1/chat/completions", "/v1/completions", "/nothing", "/"];

/// DNS rebinding (CVE-2024-28224 of ollama): the name in `Host` is not ours.
#[test]
fn another_name_is_refused_on_every_path_and_method() {
    for path in PATHS {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
            for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""] {
                let response = shared().send(method, path, &[("Host", host)], b"");
                assert_eq!(response.status, 403, "{method} {path} {host}");
            }
        }
    }
    let twice = shared().send("GET", "/health", &[("Host", "localhost"), ("Host", "evil.example")], b"");
    assert!(twice.status == 403 || twice.status == 400);
    let absolute = shared().send("GET", "http://evil.example/health", &[("Host", "localhost")], b"");
    assert_eq!(absolute.status, 403);
}

/// Pages of other origins, with and without asking first (llama.cpp #25606: any origin, with credentials).
#[test]
fn pages_of_other_origins_are_refused() {
    for origin in ["http://evil.example", "null", "http://localhost.evil.example"] {
        for (method, path) in [("POST", "/v1/completions"), ("GET", "/v1/models"), ("OPTIONS", "/v1/completions")] {
            let response = shared().send(method, path, &[("Origin", origin)], b"{}");
            assert_eq!(response.status, 403, "{method} {origin}");
            assert!(response.headers.iter().all(|(name, _)| !name.starts_with("access-control")));
        }
    }
    let same = shared().send("GET", "/v1/models", &[("Origin", "http://localhost")], b"");
    assert_eq!((same.status, same.header("access-control-allow-origin")), (200, None));
}

#[test]
fn an_origin_that_was_allowed_may_call() {
    let server = Running::with(|options| options.origins = vec!["https://chat.example".into()]);
    let asks = server.send("OPTIONS", "/v1/completions", &[("Origin", "https://chat.example")], b"");
    assert_eq!((asks.status, asks.header("access-control-allow-origin")), (204, Some("https://chat.example")));
    assert!(asks.header("access-control-allow-credentials").is_none());
    let other = server.send("OPTIONS", "/v1/completions", &[("Origin", "https://chat.example.evil")], b"");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (403, None));
}

#[test]
fn without_a_key_only_health_is_told() {
    let server = Running::with(|options| options.keys = Keys::of_lines("right-key\nother-key"));
    assert_eq!(server.get("/health").status, 200);
    for path in PATHS.iter().filter(|path| path.starts_with("/v1")) {
        for method in ["GET", "POST"] {
            let refused = server.send(method, path, &[], b"");
            assert!([401, 405].contains(&refused.status), "{method} {path}: {}", refused.status);
        }
    }
    let with = |name: &str, value: &str| server.send("GET", "/v1/models", &[(name, value)], b"").status;
    for key in ["right-key", "other-key"] {
        assert_eq!(with("Authorization", &format!("Bearer {key}")), 200);
        assert_eq!(with("authorization", &format!("bearer {key}")), 200);
        assert_eq!(with("X-Api-Key", key), 200);
    }
    for wrong in ["", "Bearer", "Bearer ", "Bearer right-ke", "Bearer right-keyy", "Basic right-key", "right-key"] {
        assert_eq!(with("Authorization", wrong), 401, "{wrong}");
    }
    let error = server.get("/v1/models").json();
    assert_eq!(error["error"]["type"], "authentication_error");
}

/// 175,000 servers without a key stand open to the world because a tutorial said 0.0.0.0.
#[test]
fn an_address_that_others_reach_wants_a_key() {
    let options = |address: [u8; 4]| ServerOptions::new(Address::Tcp(address.into(), 0));
    assert!(matches!(Server::bind(options([0, 0, 0, 0])), Err(ServeError::Open { .. })));
    let mut insecure = options([0, 0, 0, 0]);
    insecure.insecure = true;
    assert!(Server::bind(insecure).is_ok());
    let mut with_key = options([0, 0, 0, 0]);
    with_key.keys = Keys::of_lines("k");
    assert!(Server::bind(with_key).is_ok());
    assert!(Server::bind(options([127, 0, 0, 1])).is_ok());
}

#[cfg(unix)]
#[test]
fn a_socket_in_the_file_system() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    let directory = std::env::temp_dir().join(format!("quipu-server-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    // One that a server left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = Running::with(|options| options.addresses = vec![Address::Unix(path.clone())]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.1 503"), "{text}");
    drop(server);
    assert!(!path.exists());
    // What is no socket is not in the way of one: it stays, whatever its name leads to.
    std::fs::write(&path, "precious").unwrap();
    let link = directory.join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for name in [&path, &link] {
        let options = ServerOptions::at(vec![Address::Unix(name.clone())]);
        assert!(matches!(Server::bind(options), Err(ServeError::Bind { .. })), "{name:?}");
        assert_eq!(std::fs::read_to_string(name).unwrap(), "precious");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
