//! LoRA adapters: chosen by a request's field, by the name in `model`, or applied to all that say nothing.

use quipu_formats::lora::Adapter;
use quipu_runtime::generate::{GenerateOptions, Request, prompt_tokens};
use quipu_runtime::{AdapterId, Adapters, Engine, LoadOptions, TuningChoice};
use quipu_server::lora::Lora;
use quipu_server::model::Model;
use quipu_server::models::library::{Library, Loaded};
use quipu_server::models::offer::Offer;
use quipu_server::options::{Address, ServerOptions};
use serde_json::{Value as Json, json};

use crate::server::{Running, scheduler};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data");

/// The tests' model with two adapters, `one` and `two`.
fn engine() -> (Engine, [AdapterId; 2]) {
    let options = LoadOptions::default().threads(1).context(200).tuning(TuningChoice::Defaults);
    let source = quipu_runtime::open(&format!("{DATA}/tiny-llama3-bf16")).unwrap();
    let mut engine = Engine::load(source, &options, &|_, _| {}).unwrap();
    let ids = ["one", "two"].map(|name| {
        let adapter = Adapter::open(format!("{DATA}/lora/{name}").as_ref(), engine.source()).unwrap();
        engine.load_adapter(&adapter).unwrap()
    });
    (engine, ids)
}

/// A server in which `two` has the scale 2 and is applied, or none is.
fn serve(applied: bool) -> Running {
    let mut options = ServerOptions::new(Address::Tcp([127, 0, 0, 1].into(), 0));
    options.drain = std::time::Duration::from_millis(200);
    let mut offer = Offer::new(vec!["base".into()], "tiny");
    offer.adapters = vec!["one".into(), "two".into()];
    let load = move |offer: &Offer| {
        let (engine, ids) = engine();
        let lora = |n: usize, name: &str, scale, applied| Lora {
            name: name.into(),
            path: format!("{name}/"),
            id: ids[n],
            scale,
            applied,
        };
        let list = vec![lora(0, "one", 1.0, false), lora(1, "two", 2.0, applied)];
        let model = Model::of(&engine, offer.names.clone()).with_loras(list);
        Ok(Loaded { model, scheduler: scheduler(engine, 8) })
    };
    Running::of(options, Library::new([offer], load))
}

/// What the engine writes with these scales.
fn expected(scales: [f32; 2]) -> String {
    let (engine, ids) = engine();
    let tokens = prompt_tokens(engine.tokenizer(), "A llama", true);
    let mut options = GenerateOptions::default().max_tokens(12);
    options.sampler.seed = 3;
    let request = Request::new(tokens, options).adapters(Adapters::new(ids.into_iter().zip(scales)).unwrap());
    scheduler(engine, 1).complete(request).unwrap().0
}

fn body(fields: Json) -> Json {
    let mut body = json!({"prompt": "A llama", "max_tokens": 12, "seed": 3});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn completion(server: &Running, fields: Json) -> String {
    let answer = server.post("/v1/completions", &body(fields)).ok();
    answer["choices"][0]["text"].as_str().unwrap().to_string()
}

#[test]
fn each_request_chooses_its_adapters() {
    let texts = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.5, -1.0]].map(expected);
    assert!((1..4).all(|n| !texts[..n].contains(&texts[n])), "{texts:?}");
    let [plain, one, two, both] = &texts;
    let server = serve(false);
    let lora = json!([{"id": 0, "scale": 0.5}, {"id": 1, "scale": -1.0}]);
    // All at once, so that they share batches.
    std::thread::scope(|scope| {
        let asked = [
            (json!({}), plain),
            (json!({"model": "base"}), plain),
            (json!({"model": "one"}), one),
            (json!({"model": "two"}), two),
            (json!({"lora": lora}), both),
            (json!({"model": "one", "lora": []}), plain),
            (json!({"lora": [{"id": 0, "scale": 1}]}), one),
        ];
        let begun = asked.map(|(fields, text)| {
            let server = &server;
            scope.spawn(move || assert_eq!(completion(server, fields.clone()), *text, "{fields}"))
        });
        begun.into_iter().for_each(|thread| thread.join().unwrap());
    });
    // In other dialects, and as llama.cpp writes it.
    let answer = server.post("/completion", &body(json!({"lora": lora, "n_predict": 12}))).ok();
    assert_eq!(answer["content"], **both);
    let options = json!({"model": "two", "prompt": "A llama", "raw": true, "stream": false,
        "options": {"seed": 3, "num_predict": 12}});
    assert_eq!(server.post("/api/generate", &options).ok()["response"], **two);
    assert_eq!(server.post("/v1/completions", &body(json!({"model": "one"}))).ok()["model"], "one");
}

#[test]
fn adapters_are_listed_applied_and_refused() {
    let texts = [[0.0, 0.0], [0.0, 2.0], [1.5, 0.0]].map(expected);
    let server = serve(true);
    let list = server.get("/lora-adapters").ok();
    let entry =
        |id: usize, name: &str, scale: f32| json!({"id": id, "name": name, "path": format!("{name}/"), "scale": scale});
    assert_eq!(list, json!([entry(0, "one", 0.0), entry(1, "two", 2.0)]));
    assert_eq!(completion(&server, json!({})), texts[1]);
    assert_eq!(server.post("/lora-adapters", &json!([{"id": 0, "scale": 1.5}])).ok(), json!({"success": true}));
    assert_eq!(server.get("/lora-adapters").ok(), json!([entry(0, "one", 1.5), entry(1, "two", 0.0)]));
    assert_eq!(completion(&server, json!({"model": "base"})), texts[2]);
    server.post("/lora-adapters", &json!([])).ok();
    assert_eq!(completion(&server, json!({})), texts[0]);

    let models = server.get("/v1/models").ok()["data"].clone();
    let named: Vec<_> = models.as_array().unwrap().iter().map(|model| (&model["id"], &model["parent"])).collect();
    let base = &json!("base");
    assert_eq!(named, [(base, &Json::Null), (&json!("one"), base), (&json!("two"), base)]);
    assert_eq!(server.get("/v1/models/two").ok()["parent"], "base");

    for (fields, param) in [
        (json!({"lora": [{"id": 2, "scale": 1}]}), "lora[0].id"),
        (json!({"lora": [{"id": 0, "scale": 1}, {"id": 1}]}), "lora[1].scale"),
        (json!({"lora": {"id": 0}}), "lora"),
    ] {
        let refused = server.post("/v1/completions", &body(fields));
        assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some(param)));
    }
    let unknown = server.post("/v1/completions", &body(json!({"model": "three"})));
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("two"), "{}", unknown.text());
    assert_eq!(server.post("/lora-adapters", &json!([{"id": 7, "scale": 1}])).status, 400);
    assert_eq!(server.post("/lora-adapters", &json!({"id": 0})).status, 400);
    let vectors = json!({"model": "one", "input": "A llama"});
    assert_eq!(server.post("/v1/embeddings", &vectors).status, 400);
    assert_eq!(server.post("/api/embed", &vectors).status, 400);
}
