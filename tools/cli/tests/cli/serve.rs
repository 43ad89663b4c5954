use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value as Json, json};

use crate::{kill, listening, quipu};

/// A server that is ready, its port, and the rest of what it says.
struct Server {
    child: Child,
    address: String,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(args: &[&str]) -> Server {
        let mut command = listening(["serve", "demo", "--port", "0", "-v", "-t", "1"].iter().chain(args));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut server = Server { child, address: String::new(), stderr };
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            assert!(server.stderr.read_line(&mut line).unwrap() > 0, "the server has ended");
            if let Some(found) = line.trim().strip_prefix("listening at http://") {
                server.address = found.to_string();
            }
        }
        server
    }

    fn post(&self, path: &str, body: &Json) -> Json {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (body, host) = (body.to_string(), &self.address);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

#[test]
fn the_server_writes_what_run_writes_and_ends_when_asked() {
    let mut server = Server::start(&["--temp", "1.2"]);
    for seed in ["3", "4"] {
        let body =
            json!({"prompt": "The old king", "seed": seed.parse::<u64>().unwrap(), "max_tokens": 30, "logprobs": 0});
        let answer = server.post("/v1/completions", &body);
        let args = ["run", "demo", "The old king", "--seed", seed, "-n", "30", "--temp", "1.2", "--json"];
        let run = quipu(args).json();
        assert_eq!(answer["choices"][0]["text"], run["text"]);
        let logprobs: Vec<&Json> = run["tokens"].as_array().unwrap().iter().map(|token| &token["logprob"]).collect();
        let own: Vec<&Json> = answer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().iter().collect();
        assert_eq!(own, logprobs);
    }
    kill("-INT", &server.child);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    server.stderr.read_to_string(&mut said).unwrap();
    assert!(said.contains("stopped"), "{said}");
}

#[test]
fn the_server_says_why_it_cannot_begin() {
    let open = quipu(["serve", "demo", "--host", "0.0.0.0", "--port", "0"]).error();
    assert!(open.contains("no API key") && open.contains("--api-key-file") && open.contains("--insecure"), "{open}");
    let missing = quipu(["serve", "no-such.gguf", "--port", "0"]).error();
    assert!(missing.contains("no-such.gguf"), "{missing}");
    let host = quipu(["serve", "demo", "--host", "example.org"]).error();
    assert!(host.contains("--host example.org"), "{host}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let taken = quipu(["serve", "demo", "--port", &port]).error();
    assert!(taken.contains(&port) && taken.contains("--port"), "{taken}");
    let keys = tempfile::NamedTempFile::new().unwrap();
    let none = quipu(["serve", "demo", "--port", "0", "--api-key-file", keys.path().to_str().unwrap()]).error();
    assert!(none.contains("no key"), "{none}");
}
