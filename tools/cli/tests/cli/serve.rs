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
        let mut command = listening(["serve", "--port", "0", "-v", "-t", "1"].iter().chain(args));
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
    let mut server = Server::start(&["demo", "--temp", "1.2"]);
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

/// A directory, and a model besides that clients know by another name.
#[test]
fn several_models_are_served_and_unloaded() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["one.gguf", "two.gguf", "none.txt"] {
        std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tales.gguf"), directory.path().join(name))
            .unwrap();
    }
    let path = directory.path().to_str().unwrap();
    let args = ["demo", "--models", path, "--alias", "tales", "--alias", "uno=one", "--keep-alive", "0"];
    let mut server = Server::start(&args);
    let ask = |model: &str| {
        let body = json!({"model": model, "prompt": "The old king", "seed": 3, "max_tokens": 8, "temperature": 0});
        server.post("/v1/completions", &body)
    };
    let text = ask("tales")["choices"][0]["text"].clone();
    for model in ["uno", "two"] {
        assert_eq!(ask(model)["choices"][0]["text"], text, "{model}");
    }
    let missing = ask("one")["error"]["message"].as_str().unwrap().to_string();
    assert!(missing.ends_with("there are: tales, two, uno"), "{missing}");
    kill("-INT", &server.child);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    server.stderr.read_to_string(&mut said).unwrap();
    for line in ["two is loaded, in ", "two is unloaded: nobody has used it lately"] {
        assert!(said.contains(line), "{said}");
    }
    let wrong = quipu(["serve", "--models", path, "--port", "0", "--alias", "x=three"]).error();
    assert!(wrong.contains("no model three; there are one, two"), "{wrong}");
    assert!(quipu(["serve", "--models", "no-such-directory", "--port", "0"]).error().contains("no-such-directory"));
    let time = quipu(["serve", "demo", "--keep-alive", "soon"]);
    assert!(time.code == 2 && time.stderr.contains("such as `5m`"), "{}", time.stderr);
    assert_eq!(quipu(["serve"]).code, 2);
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
