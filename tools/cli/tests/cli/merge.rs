use serde_json::{Value as Json, json};

use crate::quipu;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tiny-llama3-bf16");
const ONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/lora/one");
const TWO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/lora/two");
const GGUF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/lora/one.gguf");

/// The tokens that a model writes, with their probabilities.
fn written(model: &str, options: &[&str]) -> Json {
    quipu([&["run", model, "A llama", "-n", "12", "--temp", "0", "--json"], options].concat()).json()["tokens"].clone()
}

/// The same tokens, with the same probabilities but for what rounding does.
fn assert_about_equal(a: &Json, b: &Json) {
    let read = |tokens: &Json| -> Vec<(u64, f64)> {
        let one = |token: &Json| (token["id"].as_u64().unwrap(), token["logprob"].as_f64().unwrap());
        tokens.as_array().unwrap().iter().map(one).collect()
    };
    let (a, b) = (read(a), read(b));
    let is_close = |((a, p), (b, q)): (&(u64, f64), &(u64, f64))| a == b && (p - q).abs() < 1e-3;
    assert!(a.len() == b.len() && a.iter().zip(&b).all(is_close), "{a:?} {b:?}");
}

#[test]
fn a_merged_model_writes_what_the_model_with_its_adapters_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (both, scaled) = (path("both.gguf"), format!("{TWO}:2"));
    quipu(["merge", MODEL, ONE, &scaled, "-o", &both, "--type", "f32"]).ok();
    let expected = written(MODEL, &["--lora", ONE, "--lora", &scaled]);
    assert_about_equal(&written(&both, &[]), &expected);
    assert_eq!(written(MODEL, &["--lora", GGUF, "--lora", &scaled]), expected);
    let plain = written(MODEL, &[]);
    assert_ne!(plain, expected);
    assert_ne!(written(MODEL, &["--lora", ONE]), expected);
    assert_eq!(written(MODEL, &["--lora", &format!("{ONE}:0")]), plain);
    // Each matrix has the type that it had.
    let kept = path("kept.gguf");
    quipu(["merge", MODEL, ONE, "-o", &kept]).ok();
    let types = |model: &str| {
        let tensors = quipu(["inspect", model, "--json"]).json()["tensors"].clone();
        let one = |tensor: &Json| (tensor["name"].to_string(), tensor["type"].to_string());
        tensors.as_array().unwrap().iter().map(one).collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(types(&kept), types(MODEL));
    // A quantised model stays one.
    let (small, merged) = (path("small.gguf"), path("merged.gguf"));
    quipu(["convert", MODEL, "-o", &small, "--type", "q8_0"]).ok();
    quipu(["merge", &small, ONE, "-o", &merged]).ok();
    assert_eq!(types(&merged), types(&small));
    assert_ne!(written(&merged, &[]), written(&small, &[]));
    // Beside it, an adapter is not rounded.
    let apart = written(&small, &["--lora", ONE]);
    assert_ne!(apart, written(&small, &[]));
    assert_ne!(apart, written(&merged, &[]));
}

/// A batch chooses adapters as requests to the server do, and each text is what `run` writes.
#[test]
fn a_batch_chooses_adapters() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let line = |id: &str, fields: Json| {
        let mut body = json!({"prompt": "A llama", "max_tokens": 12, "temperature": 0});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body}).to_string()
    };
    let lines = [
        line("plain", json!({})),
        line("one", json!({"model": "one"})),
        line("both", json!({"lora": [{"id": 0, "scale": 1}, {"id": 1, "scale": 2}]})),
    ];
    std::fs::write(path("in.jsonl"), lines.join("\n")).unwrap();
    let (one, two) = (format!("one={ONE}"), format!("two={TWO}:2"));
    quipu(["batch", MODEL, &path("in.jsonl"), "-o", &path("out.jsonl"), "--lora", &one, "--lora", &two]).ok();
    let answers: std::collections::HashMap<String, String> = std::fs::read_to_string(path("out.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap())
        .map(|line| {
            let text = line["response"]["body"]["choices"][0]["text"].as_str().unwrap().to_string();
            (line["custom_id"].as_str().unwrap().to_string(), text)
        })
        .collect();
    let run = |options: &[&str]| {
        let args = [&["run", MODEL, "A llama", "-n", "12", "--temp", "0", "--json"], options].concat();
        quipu(args).json()["text"].as_str().unwrap().to_string()
    };
    assert_eq!(answers["plain"], run(&[]));
    assert_eq!(answers["one"], run(&["--lora", ONE]));
    assert_eq!(answers["both"], run(&["--lora", ONE, "--lora", &format!("{TWO}:2")]));
    assert!(answers["plain"] != answers["one"] && answers["one"] != answers["both"]);

    let bench = ["bench", MODEL, "-p", "0", "-n", "2", "-r", "1", "--sequences", "3", "--lora", ONE, "--lora", TWO];
    assert!(quipu([&bench[..], &["--json"]].concat()).json()["runs"][0]["sequences"][0]["ms_per_step"].is_number());
    assert!(quipu(["bench", MODEL, "-p", "0", "-n", "2", "--lora", "missing"]).error().contains("missing"));
    let twice = ["serve", MODEL, "--port", "0", "--lora", ONE, "--lora", ONE];
    assert!(quipu(twice).error().contains("two adapters are called one"));
    assert!(quipu(["serve", MODEL, "demo", "--port", "0", "--lora", ONE]).error().contains("--lora is for one model"));
    assert!(quipu(["serve", MODEL, "--port", "0", "--lora", "x=missing"]).error().contains("missing"));
}

#[test]
fn what_cannot_be_merged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = dir.path().join("adapter");
    std::fs::create_dir(&adapter).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(format!("{ONE}/{file}"), adapter.join(file)).unwrap();
    }
    let (adapter, weights) = (adapter.to_str().unwrap(), adapter.join("adapter_model.safetensors"));
    let before = std::fs::read(&weights).unwrap();
    quipu(["merge", MODEL, adapter, "-o", weights.to_str().unwrap()]).error();
    assert_eq!(std::fs::read(&weights).unwrap(), before);
    let out = dir.path().join("out.gguf");
    let out = out.to_str().unwrap();
    let message = quipu(["merge", "demo", adapter, "-o", out]).error();
    assert!(message.contains("adapter_model.safetensors") && message.contains("expected"), "{message}");
    assert!(quipu(["merge", MODEL, "missing:0.5", "-o", out]).error().contains("missing"));
    assert!(quipu(["run", MODEL, "A", "--lora", MODEL]).error().contains("adapter_config.json"));
    assert_eq!(quipu(["merge", MODEL, "-o", out]).code, 2);
    assert!(!std::path::Path::new(out).exists());
}
