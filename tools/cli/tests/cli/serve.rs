use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value as Json, json};

use crate::{Ended, kill, listening, quipu};

/// A server that is ready, its port, and the rest of what it says.
pub struct Server {
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
    #[track_caller]
    fn start(args: &[&str]) -> Server {
        let command = listening(["serve", "--port", "0", "-v", "-t", "1"].iter().chain(args));
        Server::of(command).unwrap_or_else(|ended| panic!("the server has ended: {}", ended.stderr))
    }

    /// The server that a command with `-v` is, as soon as it is ready; or how it ended before it was.
    pub fn of(mut command: Command) -> Result<Server, Ended> {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut server = Server { child, address: String::new(), stderr };
        let (mut line, mut said) = (String::new(), String::new());
        while line.trim() != "ready" {
            line.clear();
            if server.stderr.read_line(&mut line).unwrap() == 0 {
                let code = server.child.wait().unwrap().code().unwrap_or(-1);
                return Err(Ended { code, stdout: String::new(), stderr: said });
            }
            said += &line;
            if let Some(found) = line.trim().strip_prefix("listening at http://") {
                server.address = found.to_string();
            }
        }
        Ok(server)
    }

    /// Ends it as Ctrl-C does: the exit code, and what it has said since it was ready.
    fn stop(self) -> (Option<i32>, String) {
        self.stop_by("-INT")
    }

    /// Ends it by a signal. In the background of a script SIGINT is ignored, which only [`listening`] takes back.
    pub fn stop_by(mut self, signal: &str) -> (Option<i32>, String) {
        kill(signal, &self.child);
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Json) -> Json {
        self.ask(path, body).unwrap()
    }

    /// The JSON that it answers, or why there is none.
    pub fn ask(&self, path: &str, body: &Json) -> Result<Json, String> {
        let text = self.send(path, body)?;
        let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
        body.ok_or_else(|| format!("no JSON: {text:?}"))
    }

    /// All that it answers.
    pub fn send(&self, path: &str, body: &Json) -> Result<String, String> {
        let (body, host) = (body.to_string(), &self.address);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut text = String::new();
        TcpStream::connect(host)
            .and_then(|mut stream| {
                stream.write_all((head + &body).as_bytes())?;
                stream.read_to_string(&mut text)
            })
            .map_err(|error| format!("{error} after {text:?}"))?;
        Ok(text)
    }
}

#[test]
fn the_server_writes_what_run_writes_and_ends_when_asked() {
    let server = Server::start(&["demo", "--temp", "1.2"]);
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
    let (code, said) = server.stop();
    assert!(code == Some(0) && said.contains("stopped"), "{code:?} {said}");
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
    let server = Server::start(&args);
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
    let (code, said) = server.stop();
    assert_eq!(code, Some(0));
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
