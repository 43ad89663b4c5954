//! Several models in one server: which one answers, when it is loaded, and how long it stays.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use quipu_runtime::{Engine, LoadOptions, TuningChoice};
use quipu_server::engine::Room;
use quipu_server::model::Model;
use quipu_server::models::directory::Directory;
use quipu_server::models::keep_alive::KeepAlive;
use quipu_server::models::library::{Library, Loaded};
use quipu_server::models::offer::Offer;
use quipu_server::options::{Address, ServerOptions};
use serde_json::{Value as Json, json};

use crate::client::{Connection, Response, request};
use crate::server::{CONTEXT, Running, scheduler};

/// How long loading takes.
const SLOW: Duration = Duration::from_millis(400);

/// Files of the demo model, and how often each was loaded.
pub struct Files {
    pub directory: tempfile::TempDir,
    loads: Arc<Mutex<HashMap<String, usize>>>,
}

impl Files {
    pub fn new(names: &[&str]) -> Files {
        let files = Files { directory: tempfile::tempdir().unwrap(), loads: Arc::default() };
        names.iter().for_each(|name| files.add(name));
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.gguf"))
    }

    pub fn add(&self, name: &str) {
        std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tales.gguf"), self.path(name)).unwrap();
    }

    pub fn loads(&self, name: &str) -> usize {
        self.loads.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    pub fn offer(&self, name: &str) -> Offer {
        Offer::new(vec![name.into()], self.path(name).to_str().unwrap())
    }

    /// Some of the files by name. What is called `slow…` takes its time, what is called `panic…` panics, what is called
    /// `short…` has room for 30 tokens.
    pub fn library(&self, names: &[&str]) -> Library<std::io::Error> {
        let loads = self.loads.clone();
        let load = move |offer: &Offer| {
            let name = offer.id();
            *loads.lock().unwrap().entry(name.to_string()).or_insert(0) += 1;
            if name.starts_with("slow") {
                sleep(SLOW);
            }
            assert!(!name.starts_with("panic"), "a test");
            let context = if name.starts_with("short") { 30 } else { CONTEXT };
            let options = LoadOptions::default().threads(1).context(context).tuning(TuningChoice::Defaults);
            let source = quipu_runtime::open(&offer.model).map_err(std::io::Error::other)?;
            let engine = Engine::load(source, &options, &|_, _| {}).map_err(std::io::Error::other)?;
            Ok(Loaded { model: Model::of(&engine, offer.names.clone()), scheduler: scheduler(engine, 4) })
        };
        Library::new(names.iter().map(|name| self.offer(name)), load)
    }

    pub fn serve(&self, names: &[&str], set: impl FnOnce(&mut Library<std::io::Error>)) -> Running {
        self.serve_with(names, |_| (), set)
    }

    fn serve_with(
        &self,
        names: &[&str],
        set_options: impl FnOnce(&mut ServerOptions),
        set: impl FnOnce(&mut Library<std::io::Error>),
    ) -> Running {
        let mut options = ServerOptions::new(Address::Tcp([127, 0, 0, 1].into(), 0));
        options.drain = Duration::from_millis(200);
        set_options(&mut options);
        let mut library = self.library(names);
        set(&mut library);
        Running::of(options, library)
    }

    /// A server for all that is in the directory, by names alone.
    pub fn serve_directory(&self, names: &[&str], set: impl FnOnce(&mut Library<std::io::Error>)) -> Running {
        let path = self.directory.path().to_path_buf();
        let directory = Directory { path, keep_alive: KeepAlive::Forever, aliases: vec![] };
        self.serve(names, |library| {
            library.directory = Some(directory);
            set(library);
        })
    }
}

/// A short text by a model.
pub fn ask(server: &Running, model: &str) -> Response {
    server.post("/v1/completions", &json!({"model": model, "prompt": "The old king", "max_tokens": 5, "seed": 1}))
}

/// A stream by a model that goes on until somebody stops it, past its first token.
pub fn begin(server: &Running, model: &str) -> Connection {
    let mut connection = Connection::open(server.address);
    let body = json!({
        "model": model, "prompt": "A", "stream": true, "max_tokens": 500, "seed": 1, "logit_bias": [[2, -1000]],
    });
    connection.write(request("POST", "/v1/completions", &[], body.to_string().as_bytes()));
    assert_eq!(connection.head().unwrap().0, 200);
    assert!(!connection.chunk().unwrap().is_empty());
    connection
}

/// llama.cpp's word for the status of each model.
pub fn statuses(server: &Running) -> HashMap<String, String> {
    let list = server.get("/v1/models").ok();
    let text = |json: &Json| json.as_str().unwrap().to_string();
    let one = |model: &Json| (text(&model["id"]), text(&model["status"]["value"]));
    list["data"].as_array().unwrap().iter().map(one).collect()
}

/// Waits until a model's status is as expected.
#[track_caller]
pub fn wait(server: &Running, model: &str, status: &str) {
    let started = Instant::now();
    while statuses(server).get(model).map(String::as_str) != Some(status) {
        assert!(started.elapsed() < Duration::from_secs(20), "{model} is not {status}: {:?}", statuses(server));
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_request_goes_to_the_model_that_it_names() {
    let files = Files::new(&["a", "short"]);
    let server = files.serve(&["a", "short"], |_| ());
    assert_eq!((&statuses(&server)["a"][..], &statuses(&server)["short"][..]), ("loaded", "unloaded"));
    assert_eq!((files.loads("a"), files.loads("short")), (1, 0));
    let long = "once upon a time ".repeat(20);
    let answer =
        |model: &str| server.post("/v1/completions", &json!({"model": model, "prompt": long, "max_tokens": 1}));
    assert_eq!(answer("a").ok()["model"], "a");
    let short = answer("short");
    assert_eq!((short.status, &short.json()["error"]["n_ctx"]), (400, &json!(30)));
    assert_eq!(answer("short:latest").status, 400, "ollama's clients add the tag");
    assert_eq!(files.loads("short"), 1);
    // Without a name the first is meant.
    assert_eq!(server.post("/v1/completions", &json!({"prompt": long, "max_tokens": 1})).ok()["model"], "a");
    let alone = Files::new(&["a"]);
    let alone = alone.serve(&["a"], |_| ());
    assert_eq!(ask(&server, "a").ok()["choices"], ask(&alone, "anything").ok()["choices"]);
}

#[test]
fn what_is_told_of_models_is_true_whether_or_not_they_are_loaded() {
    let files = Files::new(&["a", "short"]);
    let server = files.serve(&["a", "short"], |_| ());
    let list = server.get("/v1/models").ok();
    let meta = |i: usize, field: &str| list["data"][i]["meta"][field].clone();
    for field in ["n_vocab", "n_params", "size", "n_ctx_train", "n_embd"] {
        assert!(meta(0, field).as_u64().unwrap() > 0 && meta(0, field) == meta(1, field), "{field}");
    }
    assert_eq!(server.get("/api/tags").ok()["models"].as_array().unwrap().len(), 2);
    assert_eq!(server.get("/api/ps").ok()["models"].as_array().unwrap().len(), 1);
    let show = server.post("/api/show", &json!({"model": "short"})).ok();
    assert_eq!(show["details"], server.get("/api/tags").ok()["models"][1]["details"]);
    let props = server.get("/props?model=short").ok();
    assert_eq!((&props["model_alias"], &props["is_sleeping"]), (&json!("short"), &json!(true)));
    assert_eq!(server.get("/props").ok()["model_alias"], "a");
    assert_eq!(server.get("/props?model=b").status, 404);
    assert_eq!(server.get("/slots?model=short").ok().as_array().unwrap().len(), 32);
    assert_eq!(files.loads("short"), 0, "nothing of this loads a model");
    ask(&server, "short").ok();
    assert_eq!(server.get("/props?model=short").ok()["default_generation_settings"]["n_ctx"], 30);
    let metrics = server.get("/metrics");
    for model in ["a", "short"] {
        assert!(metrics.text().contains(&format!("llamacpp:n_decode_total{{model=\"{model}\"}} ")), "{model}");
    }
    assert_eq!(server.get("/health").ok()["status"], "ok");
}

#[test]
fn requests_that_come_at_once_load_once_and_hold_up_nobody() {
    let files = Files::new(&["a", "slow"]);
    let server = files.serve(&["a", "slow"], |_| ());
    scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| ask(&server, "slow"))).collect();
        wait(&server, "slow", "loading");
        ask(&server, "a").ok();
        assert_eq!(server.get("/health").status, 200);
        assert_eq!(statuses(&server)["slow"], "loading", "the other model has answered meanwhile");
        let texts: Vec<Json> = waiting.into_iter().map(|asked| asked.join().unwrap().ok()["choices"].clone()).collect();
        assert!(texts.iter().all(|text| *text == texts[0]));
    });
    assert_eq!(files.loads("slow"), 1);
}

#[test]
fn no_more_wait_for_a_model_than_it_lets_wait() {
    let files = Files::new(&["a", "slow"]);
    let room = Room { running: 1, waiting: 1 };
    let server = files.serve_with(&["a", "slow"], |options| options.room = room, |_| ());
    scope(|scope| {
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(|| ask(&server, "slow"))).collect();
        let statuses: Vec<u16> = asked.into_iter().map(|asked| asked.join().unwrap().status).collect();
        let of = |status| statuses.iter().filter(|&&other| other == status).count();
        // Who comes when the model is there may find a place again.
        assert!(of(200) >= 2 && of(503) >= 1 && of(200) + of(503) == 12, "{statuses:?}");
    });
}

#[test]
fn nobody_is_loaded_for_a_client_that_has_left() {
    let files = Files::new(&["a", "slow", "b"]);
    let server = files.serve(&["a", "slow", "b"], |_| ());
    let post = |model: &str| {
        let mut connection = Connection::open(server.address);
        let body = json!({"model": model, "prompt": "A", "max_tokens": 500}).to_string();
        connection.write(request("POST", "/v1/completions", &[], body.as_bytes()));
        wait(&server, model, "loading");
        connection
    };
    let slow = post("slow");
    while files.loads("slow") == 0 {
        sleep(Duration::from_millis(1));
    }
    // It waits for its turn, and is gone before that comes.
    drop(post("b"));
    drop(slow);
    wait(&server, "slow", "loaded");
    wait(&server, "b", "unloaded");
    assert_eq!(files.loads("b"), 0);
    ask(&server, "b").ok();
    // Nothing is written for those who have left.
    assert_eq!(server.get("/slots?model=slow").ok()[0]["is_processing"], false);
    assert!(server.get("/metrics").text().contains("llamacpp:requests_finished_total{model=\"slow\"} 0\n"));
}

#[test]
fn a_model_that_nobody_uses_is_unloaded_in_time() {
    let files = Files::new(&["a", "b"]);
    let short = KeepAlive::For(Duration::from_millis(300));
    let server = files.serve(&["a", "b"], |library| library.offers[1].keep_alive = short);
    let text = ask(&server, "b").ok()["choices"].clone();
    assert_eq!(statuses(&server)["b"], "loaded");
    let ps = server.get("/api/ps").ok();
    let expires = |i: usize| ps["models"][i]["expires_at"].as_str().unwrap();
    assert!(expires(0).starts_with("2318-") && !expires(1).starts_with("2318-"), "{ps}");
    wait(&server, "b", "unloaded");
    assert_eq!(statuses(&server)["a"], "loaded");
    // While it writes it is not idle.
    let mut stream = begin(&server, "b");
    sleep(2 * Duration::from_millis(300));
    assert!(!stream.chunk().unwrap().is_empty());
    drop(stream);
    wait(&server, "b", "unloaded");
    assert_eq!((ask(&server, "b").ok()["choices"].clone(), files.loads("b")), (text, 3));
}

#[test]
fn ollamas_keep_alive_is_kept() {
    let files = Files::new(&["a", "b"]);
    let server = files.serve(&["a", "b"], |library| library.offers[1].keep_alive = KeepAlive::For(Duration::ZERO));
    let generate = |keep_alive: Json, prompt: &str| {
        let body = json!({
            "model": "b", "prompt": prompt, "stream": false, "keep_alive": keep_alive, "options": {"num_predict": 2},
        });
        server.post("/api/generate", &body)
    };
    // To unload what is not loaded loads nothing.
    assert_eq!(generate(json!(0), "").ok()["done_reason"], "unload");
    assert_eq!(files.loads("b"), 0);
    let loads = |answer: &Json| {
        let times = ["load_duration", "total_duration"].map(|name| answer[name].as_u64().unwrap());
        assert!(times[0] < times[1], "{answer}");
        times[0] > 0
    };
    assert!(loads(&generate(json!("1h"), "A").ok()));
    assert!(!loads(&generate(json!("1h"), "A").ok()));
    sleep(Duration::from_millis(50));
    assert_eq!(statuses(&server)["b"], "loaded");
    // Without the field it stays as it was.
    generate(Json::Null, "A").ok();
    sleep(Duration::from_millis(50));
    assert_eq!((&statuses(&server)["b"][..], files.loads("b")), ("loaded", 1));
    generate(json!(-1), "A").ok();
    assert!(server.get("/api/ps").ok()["models"][1]["expires_at"].as_str().unwrap().starts_with("2318-"));
    generate(json!("0s"), "A").ok();
    wait(&server, "b", "unloaded");
    assert_eq!(generate(json!("-1"), "").ok()["done_reason"], "load");
    assert_eq!(server.post("/api/chat", &json!({"model": "b", "keep_alive": 0})).ok()["done_reason"], "unload");
    wait(&server, "b", "unloaded");
    let wrong = generate(json!("soon"), "A");
    assert!(wrong.status == 400 && wrong.text().contains("keep_alive"), "{}", wrong.text());
}

/// Unloading never takes a model from under a text.
#[test]
fn unloading_under_load_loses_nothing() {
    let files = Files::new(&["a", "b"]);
    let server = files.serve(&["a", "b"], |library| library.offers[1].keep_alive = KeepAlive::For(Duration::ZERO));
    let expected = ask(&server, "a").ok()["choices"].clone();
    scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..8).for_each(|_| assert_eq!(ask(&server, "b").ok()["choices"], expected)));
        }
        scope.spawn(|| (0..20).for_each(|_| drop(server.post("/models/unload", &json!({"model": "b"})))));
    });
    wait(&server, "b", "unloaded");
}

#[test]
fn llama_cpps_router_loads_and_unloads() {
    let files = Files::new(&["a", "slow"]);
    let server = files.serve(&["a", "slow"], |_| ());
    let post = |path: &str, model: &str| server.post(path, &json!({"model": model}));
    assert_eq!(post("/models/unload", "slow").status, 400);
    assert_eq!(post("/models/load", "slow").ok()["success"], true);
    assert_eq!(statuses(&server)["slow"], "loading", "nobody waits");
    wait(&server, "slow", "loaded");
    assert_eq!(post("/models/unload", "slow").ok()["success"], true);
    wait(&server, "slow", "unloaded");
    assert_eq!((post("/models/load", "b").status, server.post("/models/load", &json!({})).status), (404, 400));
}

#[test]
fn a_server_that_stops_waits_for_no_load() {
    let files = Files::new(&["a", "slow"]);
    let server = files.serve(&["a", "slow"], |_| ());
    scope(|scope| {
        let asked = scope.spawn(|| {
            let mut connection = Connection::open(server.address);
            connection.write(request("POST", "/v1/completions", &[], br#"{"model": "slow", "prompt": "A"}"#));
            connection.response(false)
        });
        wait(&server, "slow", "loading");
        server.stop();
        // Cut off, or answered in time.
        assert!(asked.join().unwrap().is_none_or(|answer| [200, 503].contains(&answer.status)));
    });
    let started = Instant::now();
    server.join();
    assert!(started.elapsed() < Duration::from_secs(5));
}
