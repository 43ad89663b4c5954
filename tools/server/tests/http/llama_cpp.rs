//! llama.cpp's own endpoints.

use serde_json::{Value as Json, json};

use crate::server::{CONTEXT, Running, TEMPLATE, engine, shared};

#[test]
fn tokens_and_texts() {
    let engine = engine();
    let text = "Once upon a time é 🦙 <|eot_id|>";
    let ids = engine.tokenizer().encode(text, false, true);
    assert_eq!(shared().post("/tokenize", &json!({ "content": text })).ok()["tokens"], json!(ids));
    let plain = engine.tokenizer().encode(text, true, false);
    let body = json!({"content": text, "add_special": true, "parse_special": false});
    assert_eq!(shared().post("/tokenize", &body).ok()["tokens"], json!(plain));
    assert_eq!(shared().post("/detokenize", &json!({ "tokens": ids })).ok()["content"], text);
    let pieces = shared().post("/tokenize", &json!({"content": text, "with_pieces": true})).ok();
    let bytes = pieces["tokens"].as_array().unwrap().iter().flat_map(|token| match &token["piece"] {
        Json::String(piece) => piece.as_bytes().to_vec(),
        bytes => bytes.as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect(),
    });
    assert_eq!(bytes.collect::<Vec<u8>>(), text.as_bytes());
    for (path, body) in
        [("/tokenize", json!({})), ("/detokenize", json!({"tokens": ["x"]})), ("/detokenize", json!({"tokens": [-1]}))]
    {
        assert_eq!(shared().post(path, &body).status, 400);
    }
    let rendered = shared().post("/apply-template", &json!({"messages": [{"role": "user", "content": "hi"}]})).ok();
    assert!(rendered["prompt"].as_str().unwrap().contains("<|start_header_id|>user<|end_header_id|>hi<|eot_id|>"));
    let count =
        shared().post("/v1/chat/completions/input_tokens", &json!({"messages": [{"role": "user", "content": "hi"}]}));
    assert!(count.ok()["input_tokens"].as_u64().unwrap() > 5);
}

#[test]
fn a_completion_tells_how_it_ended() {
    let body = json!({"prompt": "Once upon a time", "seed": 3, "n_predict": 12, "n_probs": 3, "return_tokens": true});
    let answer = shared().post("/completion", &body).ok();
    let openai = json!({"prompt": "Once upon a time", "seed": 3, "max_tokens": 12});
    let text = shared().post("/v1/completions", &openai).ok()["choices"][0]["text"].clone();
    assert_eq!(answer["content"], text);
    assert_eq!((&answer["stop_type"], &answer["tokens_predicted"]), (&json!("limit"), &json!(12)));
    assert_eq!((&answer["truncated"], &answer["generation_settings"]["seed"]), (&json!(false), &json!(3)));
    assert_eq!(answer["completion_probabilities"].as_array().unwrap().len(), 12);
    let content = shared().post("/detokenize", &json!({"tokens": answer["tokens"]})).ok();
    assert_eq!(content["content"], text);

    let word = &text.as_str().unwrap()[6..10];
    let stopped = json!({"prompt": "Once upon a time", "seed": 3, "n_predict": 12, "stop": [word]});
    let stopped = shared().post("/completion", &stopped).ok();
    assert_eq!((&stopped["stop_type"], &stopped["stopping_word"]), (&json!("word"), &json!(word)));

    let stream = json!({"prompt": "Once upon a time", "seed": 3, "n_predict": 12, "stream": true});
    let events = shared().post("/completion", &stream).events();
    let pieces: Vec<Json> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let texts = pieces.iter().map(|piece| piece["content"].as_str().unwrap());
    assert_eq!(texts.collect::<String>(), text.as_str().unwrap());
    let stops: Vec<bool> = pieces.iter().map(|piece| piece["stop"].as_bool().unwrap()).collect();
    assert!(stops.last() == Some(&true) && !stops[..stops.len() - 1].contains(&true));

    let fields =
        json!({"prompt": "A", "n_predict": 2, "response_fields": ["content", "generation_settings/n_predict"]});
    let fields = shared().post("/completion", &fields).ok();
    assert_eq!((fields.as_object().unwrap().len(), &fields["generation_settings/n_predict"]), (2, &json!(2)));

    // The prompt as the model saw it.
    let prompt = shared().post("/completion", &json!({"prompt": "A", "n_predict": 1})).ok()["prompt"].clone();
    let tokens = shared().post("/tokenize", &json!({"content": "A", "add_special": true})).ok();
    assert_eq!(prompt, shared().post("/detokenize", &tokens).ok()["content"]);
    let object = json!({"prompt": {"prompt_string": "Once upon a time"}, "seed": 3, "n_predict": 12});
    assert_eq!(shared().post("/completion", &object).ok()["content"], text);
    let media = json!({"prompt": {"prompt_string": "A", "multimodal_data": ["aGk="]}, "n_predict": 1});
    assert_eq!(shared().post("/completion", &media).status, 400);

    let ids = engine().tokenizer().encode("upon a time", false, true);
    let mixed = json!({"prompt": ["Once ", ids[0], " a time"], "n_predict": 2, "seed": 1});
    assert!(shared().post("/completion", &mixed).ok()["content"].is_string());
    let several = shared().post("/completion", &json!({"prompt": ["A", "B"], "n_predict": 2})).ok();
    assert_eq!(several.as_array().unwrap().len(), 2);
}

/// Of what could be drawn, with the probabilities of the draw.
#[test]
fn probabilities_after_sampling() {
    let mut body = json!({"prompt": "Once upon a time", "seed": 3, "n_predict": 8, "n_probs": 5, "top_k": 3});
    body["post_sampling_probs"] = true.into();
    let answer = shared().post("/completion", &body).ok();
    for token in answer["completion_probabilities"].as_array().unwrap() {
        let top = token["top_probs"].as_array().unwrap();
        assert!(top.len() <= 3 && top.iter().any(|other| other["id"] == token["id"] && other["prob"] == token["prob"]));
        let sum: f64 = top.iter().map(|token| token["prob"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{top:?}");
    }
    body["temperature"] = 0.into();
    let greedy = shared().post("/completion", &body).ok();
    assert_eq!(greedy["completion_probabilities"][0]["top_probs"].as_array().unwrap().len(), 1);
    assert_eq!(greedy["completion_probabilities"][0]["prob"], 1.0);
}

/// How long things took, in each piece and with each piece of the prompt.
#[test]
fn times_are_told_while_a_text_is_written() {
    let body = json!({"prompt": "Once upon a time", "n_predict": 6, "stream": true, "timings_per_token": true, "return_progress": true});
    let events = shared().post("/completion", &body).events();
    let pieces: Vec<Json> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let timings = |piece: &Json, name: &str| piece["timings"][name].as_f64().unwrap();
    let progress: Vec<&Json> = pieces.iter().filter(|piece| !piece["prompt_progress"].is_null()).collect();
    assert!(progress.len() >= 2, "{pieces:?}");
    assert_eq!((timings(progress[0], "prompt_n"), timings(progress[0], "prompt_ms")), (0.0, 0.0));
    let last = progress.last().unwrap();
    assert_eq!(last["prompt_progress"]["processed"], last["prompt_progress"]["total"]);
    assert!(timings(last, "prompt_ms") > 0.0);
    for pair in pieces.windows(2) {
        assert!(timings(&pair[0], "predicted_n") <= timings(&pair[1], "predicted_n"));
    }
    for (path, kind) in [("/v1/chat/completions", "messages"), ("/v1/responses", "input")] {
        let mut body = json!({"max_tokens": 6, "max_output_tokens": 6, "stream": true, "timings_per_token": true});
        body[kind] = json!([{"role": "user", "content": "Tell me a tale."}]);
        let text = shared().post(path, &body).text().to_string();
        assert!(text.matches("\"predicted_per_second\"").count() >= 5, "{text}");
    }
}

#[test]
fn props_slots_and_metrics() {
    let server = Running::with(|options| options.room.running = 3);
    let props = server.get("/props").ok();
    assert_eq!((&props["total_slots"], &props["default_generation_settings"]["n_ctx"]), (&json!(3), &json!(CONTEXT)));
    assert_eq!((&props["chat_template"], &props["model_alias"]), (&json!(TEMPLATE), &json!("demo")));
    let params = &props["default_generation_settings"]["params"];
    assert_eq!(
        params["samplers"],
        json!(["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"])
    );
    assert_eq!(
        (&params["typical_p"], &params["mirostat"], &params["dry_base"]),
        (&json!(1.0), &json!(0), &json!(1.75))
    );
    let slots = server.get("/slots?fail_on_no_slot=1").ok();
    assert_eq!(slots.as_array().unwrap().len(), 3);
    server.post("/completion", &json!({"prompt": "Once upon a time", "n_predict": 5})).ok();
    let metrics = server.get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
    let number = |name: &str| {
        let line = metrics.text().lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(number("llamacpp:prompt_tokens_total"), 5.0);
    assert_eq!(number("llamacpp:tokens_predicted_total"), 5.0);
    assert_eq!(number("llamacpp:requests_processing"), 0.0);
    assert!(metrics.text().contains("vllm:time_to_first_token_seconds_count{model_name=\"demo\"} 1\n"));
    for line in metrics.text().lines() {
        assert!(
            line.starts_with("# HELP ")
                || line.starts_with("# TYPE ")
                || line.rsplit(' ').next().unwrap().parse::<f64>().is_ok()
        );
    }
}

/// What the runtime makes of a text, as numbers and as base64.
#[test]
fn embeddings() {
    let mut engine = engine();
    let tokens = quipu_runtime::generate::prompt_tokens(engine.tokenizer(), "a llama", true);
    let expected = engine.embed(&tokens, &quipu_runtime::embedding::EmbedOptions::default()).unwrap();
    let body = json!({"input": ["a llama", "an alpaca"], "model": "demo"});
    let answer = shared().post("/v1/embeddings", &body);
    assert!(answer.text().contains(&json!(expected).to_string()));
    assert_eq!(answer.ok()["data"].as_array().unwrap().len(), 2);
    let answer = shared().post("/v1/embeddings", &json!({"input": "a llama", "encoding_format": "base64"})).ok();
    // Four bytes are 5⅓ digits.
    assert_eq!(answer["data"][0]["embedding"].as_str().unwrap().len(), (expected.len() * 4).div_ceil(3) * 4);
    let short = shared().post("/v1/embeddings", &json!({"input": "a llama", "dimensions": 8})).ok();
    assert_eq!(short["data"][0]["embedding"].as_array().unwrap().len(), 8);
    let ollama = shared().post("/api/embed", &json!({"model": "demo", "input": "a llama"}));
    assert!(ollama.text().contains(&json!([expected]).to_string()));
    for (name, value) in
        [("input", json!([])), ("input", Json::Null), ("encoding_format", json!("x")), ("dimensions", json!(0))]
    {
        let mut body = json!({"input": "a llama"});
        body[name] = value;
        let refused = shared().post("/v1/embeddings", &body);
        assert_eq!(refused.status, 400, "{name}");
    }
}

/// A model without tokens for it says so.
#[test]
fn infill_and_rerank_say_why_not() {
    assert_eq!(shared().post("/infill", &json!({"input_prefix": "a", "input_suffix": "b"})).status, 501);
    assert_eq!(shared().post("/v1/rerank", &json!({})).status, 501);
}

/// What a conversation had before is not read again, and nothing changes by that.
#[test]
fn what_was_read_is_kept() {
    let server = Running::with(|_| {});
    let prompt = "The king and the miller went to the river. ".repeat(20);
    let body = json!({"prompt": prompt, "seed": 1, "max_tokens": 10, "logprobs": 1});
    let (first, second) = (server.post("/v1/completions", &body).ok(), server.post("/v1/completions", &body).ok());
    assert_eq!(first["choices"], second["choices"]);
    let cached = |answer: &Json| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(cached(&first), 0);
    assert!(cached(&second) >= 128, "{}", cached(&second));
}
