//! OpenAI's dialect: the same tokens as alone, streams byte for byte, errors by name.

use quipu_runtime::generate::GenerateOptions;
use quipu_runtime::sampler::{DryOptions, MirostatOptions, SamplerOptions, SamplerStep};
use serde_json::{Value as Json, json};

use crate::server::{CONTEXT, alone, shared};

const COMPLETIONS: &str = "/v1/completions";

/// The options of a request with this seed.
fn options(seed: u64, tokens: usize) -> GenerateOptions {
    GenerateOptions::new(SamplerOptions::default().seed(seed)).max_tokens(tokens)
}

#[test]
fn every_text_is_the_one_that_quipu_run_writes() {
    let prompts = ["Once upon a time", "The old king", "A", "There was a miller who had nothing but his mill and"];
    let ask = |i: usize| {
        let (prompt, n) = (prompts[i % prompts.len()], 5 + 11 * (i % 5));
        let body = json!({"prompt": prompt, "seed": i, "max_tokens": n, "logprobs": 0});
        let response = shared().post(COMPLETIONS, &body);
        let answer = response.ok();
        let (text, tokens) = alone(prompt, options(i as u64, n));
        let choice = &answer["choices"][0];
        assert_eq!(choice["text"], text);
        let logprobs: Vec<f64> = tokens.iter().map(|(_, logprob)| *logprob).collect();
        // As text, since a reader of JSON may round.
        let expected = format!("\"token_logprobs\":{}", json!(logprobs));
        assert!(response.text().contains(&expected), "{expected} in {}", response.text());
        assert_eq!(answer["usage"]["completion_tokens"].as_u64().unwrap() as usize - tokens.len(), {
            usize::from(choice["finish_reason"] == "stop")
        });
    };
    std::thread::scope(|scope| {
        for i in 0..12 {
            scope.spawn(move || ask(i));
        }
    });
}

/// The samplers have llama.cpp's names, and are the runtime's.
#[test]
fn samplers_are_those_of_the_runtime() {
    let dry = DryOptions::default().multiplier(0.8).base(2.0).allowed_length(1).last_n(100).breakers([",".into()]);
    let mirostat = MirostatOptions::default().version(2).tau(3.0).eta(0.2);
    let order = [SamplerStep::TopK, SamplerStep::Dry, SamplerStep::Temperature, SamplerStep::TypicalP];
    let base = || SamplerOptions::default().seed(11);
    let cases = [
        (json!({"typical_p": 0.5, "top_n_sigma": 1.5}), base().typical_p(0.5).top_n_sigma(1.5)),
        (json!({"xtc_probability": 1, "xtc_threshold": 0.02}), base().xtc_probability(1.0).xtc_threshold(0.02)),
        (json!({"dynatemp_range": 0.7, "dynatemp_exponent": 2}), base().dynatemp_range(0.7).dynatemp_exponent(2.0)),
        (
            json!({"dry_multiplier": 0.8, "dry_base": 2, "dry_allowed_length": 1, "dry_penalty_last_n": 100,
                "dry_sequence_breakers": [","]}),
            base().dry(dry),
        ),
        (json!({"mirostat": 2, "mirostat_tau": 3, "mirostat_eta": 0.2}), base().mirostat(mirostat)),
        (json!({"no_repeat_ngram_size": 2}), base().no_repeat_ngram(2)),
        (
            json!({"samplers": ["top_k", "dry", "temperature", "typ_p"], "typical_p": 0.4}),
            base().steps(order).typical_p(0.4),
        ),
        (json!({"samplers": "top-k;dry;temp;typical", "typical_p": 0.4}), base().steps(order).typical_p(0.4)),
        (json!({"samplers": "kdty", "typical_p": 0.4}), base().steps(order).typical_p(0.4)),
    ];
    let plain = alone("Once upon a time", GenerateOptions::new(base()).max_tokens(60)).0;
    let bans = ["the".to_string(), ", and".to_string()];
    let (expected, _) = alone("Once upon a time", GenerateOptions::new(base()).max_tokens(60).bans(bans.clone()));
    assert!(plain.contains("the") && !expected.contains("the"), "{expected}");
    let mut body = json!({"prompt": "Once upon a time", "seed": 11, "max_tokens": 60, "banned_strings": bans});
    assert_eq!(shared().post(COMPLETIONS, &body).ok()["choices"][0]["text"], expected);
    body["stream"] = true.into();
    let pieces = pieces(COMPLETIONS, &body);
    let text: String = pieces.iter().filter_map(|piece| piece["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, expected);
    // Beside a shape, as long as that leaves another way.
    let mut body = json!({"prompt": "A", "seed": 1, "banned_strings": ["ab", "c"], "guided_choice": ["abc", "xyz"]});
    assert_eq!(shared().post(COMPLETIONS, &body).ok()["choices"][0]["text"], "xyz");
    body["banned_strings"] = json!(["b", "yz"]);
    assert_eq!(shared().post(COMPLETIONS, &body).json()["error"]["param"], "banned_strings");
    for (mut body, sampler) in cases {
        body["prompt"] = "Once upon a time".into();
        body["seed"] = 11.into();
        body["max_tokens"] = 60.into();
        let (expected, _) = alone("Once upon a time", GenerateOptions::new(sampler).max_tokens(60));
        assert_ne!(expected, plain, "{body}: it changes nothing");
        assert_eq!(shared().post(COMPLETIONS, &body).ok()["choices"][0]["text"], expected, "{body}");
        // ollama has them in `options`.
        body["num_predict"] = 60.into();
        let body =
            json!({"model": "demo", "prompt": "Once upon a time", "raw": true, "stream": false, "options": body});
        assert_eq!(shared().post("/api/generate", &body).ok()["response"], expected, "{body}");
    }
}

#[test]
fn thoughts_have_a_budget() {
    let base = SamplerOptions::default().seed(11);
    let options = GenerateOptions::new(base).max_tokens(30).thinking_budget(4);
    let (expected, _) = alone("Once upon a time\n<think>\n", options);
    let body = json!({"prompt": "Once upon a time\n<think>\n", "seed": 11, "max_tokens": 30, "reasoning_budget": 4});
    assert_eq!(shared().post(COMPLETIONS, &body).ok()["choices"][0]["text"], expected);
    let (thought, answer) = expected.split_once("</think>").expect("they are closed");
    assert!(!thought.is_empty() && !answer.is_empty(), "{expected}");
    // A shape is for the answer, which comes after them.
    let mut body = body;
    body["guided_choice"] = json!(["yes", "no"]);
    let text = shared().post(COMPLETIONS, &body).ok()["choices"][0]["text"].clone();
    let (again, answer) = text.as_str().unwrap().split_once("</think>").expect("they are closed");
    assert!(again == thought && ["yes", "no"].contains(&answer), "{text}");
}

/// The pieces of a stream but the last, which is `[DONE]`.
fn pieces(path: &str, body: &Json) -> Vec<Json> {
    let mut events = shared().post(path, body).events();
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

#[test]
fn a_stream_is_the_whole_answer_in_pieces() {
    let body = json!({"prompt": "Once upon a time", "seed": 5, "max_tokens": 40, "temperature": 1.5, "logprobs": 2});
    let whole = shared().post(COMPLETIONS, &body).ok();
    let mut stream = body;
    stream["stream"] = true.into();
    stream["stream_options"] = json!({"include_usage": true});
    let pieces = pieces(COMPLETIONS, &stream);
    let (usage, pieces) = pieces.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(usage["usage"][count], whole["usage"][count]);
    }
    let (end, pieces) = pieces.split_last().unwrap();
    assert_eq!((&end["choices"][0]["text"], &end["choices"][0]["finish_reason"]), (&json!(""), &json!("length")));
    let (mut text, mut tokens, mut offsets) = (String::new(), Vec::new(), Vec::new());
    for piece in pieces {
        let choice = &piece["choices"][0];
        assert!(piece["usage"].is_null() && choice["finish_reason"].is_null());
        assert_ne!(choice["text"], "");
        assert_eq!(piece["id"], usage["id"]);
        text += choice["text"].as_str().unwrap();
        tokens.extend(choice["logprobs"]["tokens"].as_array().cloned().unwrap_or_default());
        offsets.extend(choice["logprobs"]["text_offset"].as_array().cloned().unwrap_or_default());
    }
    let choice = &whole["choices"][0];
    assert_eq!(choice["text"], text);
    assert_eq!((&choice["logprobs"]["tokens"], &choice["logprobs"]["text_offset"]), (&json!(tokens), &json!(offsets)));
}

/// Neither half a character nor the beginning of a stop string ever leaves.
#[test]
fn what_may_become_a_stop_string_is_held_back() {
    let (text, _) = alone("Once upon a time", options(3, 60));
    // A stop string that spans tokens, and one that never comes but begins all the time.
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let stop = &words[8..11].concat()[1..];
    let body = json!({"prompt": "Once upon a time", "seed": 3, "max_tokens": 60, "stream": true, "stop": [stop, " the king's q"]});
    let pieces = pieces(COMPLETIONS, &body);
    let texts = pieces.iter().map(|piece| piece["choices"][0]["text"].as_str().unwrap());
    assert_eq!(texts.collect::<String>(), text[..text.find(stop).unwrap()]);
    assert_eq!(pieces.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[test]
fn several_prompts_and_choices_come_in_order() {
    let body = json!({"prompt": ["A king", [5, 6, 7]], "n": 2, "seed": 9, "max_tokens": 6, "echo": true});
    let answer = shared().post(COMPLETIONS, &body).ok();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    for (i, seed) in [(0, 9), (1, 10)] {
        let (text, _) = alone("A king", options(seed, 6));
        assert_eq!(choices[i]["text"], format!("A king{text}"));
        assert_eq!(choices[i]["index"], i);
    }
    assert_ne!(choices[2]["text"], choices[3]["text"]);
    let (prompt, written) = (&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]);
    assert_eq!((prompt.as_u64(), written.as_u64()), (Some(3 + 3), Some(24)));
}

#[test]
fn null_is_absent_and_unknown_is_ignored() {
    let plain = json!({"prompt": "A king", "seed": 1, "max_tokens": 6});
    let mut full = plain.clone();
    for name in
        ["temperature", "stop", "logit_bias", "n", "stream", "logprobs", "tools", "response_format", "model", "echo"]
    {
        full[name] = Json::Null;
    }
    full["no_such_field"] = json!({"a": [1]});
    full["user"] = "me".into();
    let text = |body: &Json| shared().post(COMPLETIONS, body).ok()["choices"].clone();
    assert_eq!(text(&plain), text(&full));
}

#[test]
fn a_bias_excludes_and_forces() {
    let body = json!({"prompt": "A king", "seed": 1, "max_tokens": 5, "temperature": 0, "logit_bias": {"17": 10000}});
    let forced = shared().post(COMPLETIONS, &body).ok();
    let list = json!({"prompt": "A king", "seed": 1, "max_tokens": 5, "temperature": 0, "logit_bias": [[17, 10000]]});
    assert_eq!(shared().post(COMPLETIONS, &list).ok()["choices"], forced["choices"]);
    let engine = crate::server::engine();
    // A word means all its tokens.
    let (word, ids) = (" the king", engine.tokenizer().encode(" the king", false, false));
    let biases: Vec<_> = ids.iter().map(|id| json!([id, -7.5])).collect();
    let ask =
        |bias: Json| json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 30, "logit_bias": bias});
    let by_ids = shared().post(COMPLETIONS, &ask(biases.into())).ok();
    for by_word in [json!({ word: -7.5 }), json!([[word, -7.5]])] {
        assert_eq!(shared().post(COMPLETIONS, &ask(by_word)).ok()["choices"], by_ids["choices"]);
    }
    let tokenizer = &engine;
    assert_eq!(forced["choices"][0]["text"], tokenizer.tokenizer().decode(&[17; 5], false));
}

#[test]
fn what_is_wrong_is_named() {
    let numbers = ["temperature", "top_p", "min_p", "top_k", "repeat_penalty", "seed", "n", "max_tokens", "logprobs"];
    let bad = [json!("1"), json!(1e308), json!([1]), json!(true), json!({})];
    let mut cases: Vec<(String, Json)> = Vec::new();
    for name in numbers {
        cases.extend(bad.iter().map(|value| (name.to_string(), value.clone())));
    }
    for (name, value) in [
        ("temperature", json!(-1)),
        ("top_p", json!(1.5)),
        ("n", json!(0)),
        ("n", json!(-1)),
        ("n", json!(17)),
        ("n", json!(2147483648u64)),
        ("max_tokens", json!(-2)),
        ("logprobs", json!(21)),
        ("logprobs", json!(-1)),
        ("stop", json!(1)),
        ("stop", json!(vec!["x"; 17])),
        ("stop", json!("x".repeat(257))),
        ("logit_bias", json!([1])),
        ("logit_bias", json!({"x": true})),
        ("logit_bias", json!([[1.5, 1]])),
        ("logit_bias", json!({"x".repeat(300): 1})),
        ("logit_bias", json!({"1": "x"})),
        ("logit_bias", json!([[1, 2, 3]])),
        ("stream", json!("yes")),
        ("echo", json!(1)),
        ("model", json!(1)),
        ("best_of", json!(3)),
        ("suffix", json!("x")),
        ("prompt", json!(1)),
        ("prompt", json!([])),
        ("prompt", json!([1, "a"])),
        ("prompt", json!([-1])),
        ("prompt", json!([8192])),
        ("prompt", json!([1e30])),
        ("prompt", json!(vec!["x"; 257])),
        ("prompt", Json::Null),
        ("grammar", json!("root ::= a")),
        ("adaptive_target", json!(0.5)),
        ("mirostat", json!(3)),
        ("mirostat_tau", json!(-1)),
        ("typical_p", json!(1.5)),
        ("top_n_sigma", json!("wide")),
        ("xtc_probability", json!(2)),
        ("xtc_threshold", json!(-0.1)),
        ("dynatemp_range", json!(-1)),
        ("dry_base", json!(0.5)),
        ("dry_allowed_length", json!(-1)),
        ("dry_sequence_breakers", json!([1])),
        ("banned_strings", json!([1])),
        ("reasoning_budget", json!("much")),
        ("thinking_budget", json!(-2)),
        ("banned_strings", json!(vec!["x"; 17])),
        ("samplers", json!(["top_k", "warmth"])),
        ("samplers", json!("top_k;top_k")),
        ("samplers", json!(1)),
        ("stream_options", json!(1)),
    ] {
        cases.push((name.into(), value));
    }
    for (name, value) in cases {
        let mut body = json!({"prompt": "x", "max_tokens": 1});
        body[name.as_str()] = value.clone();
        let response = shared().post(COMPLETIONS, &body);
        let error = &response.json()["error"];
        assert_eq!((response.status, error["param"].as_str()), (400, Some(name.as_str())), "{value}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains(&name), "{error}");
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_both_numbers() {
    for stream in [false, true] {
        let fits = json!({"prompt": vec![5; CONTEXT], "max_tokens": 4, "stream": stream});
        assert_eq!(shared().post(COMPLETIONS, &fits).status, 200);
        let body = json!({"prompt": vec![5; CONTEXT + 1], "max_tokens": 4, "stream": stream});
        let response = shared().post(COMPLETIONS, &body);
        let error = &response.json()["error"];
        assert_eq!((response.status, &error["type"]), (400, &json!("exceed_context_size_error")));
        assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(CONTEXT + 1), &json!(CONTEXT)));
        assert!(error["message"].as_str().unwrap().contains("exceeds the available context size"));
        assert_eq!(error["code"], "context_length_exceeded");
    }
    // At the end of the context a text ends, and says why.
    let body = json!({"prompt": vec![5; CONTEXT - 3], "max_tokens": 100, "seed": 1, "temperature": 0});
    let answer = shared().post(COMPLETIONS, &body).ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 4);
}

#[test]
fn models_are_listed_and_described() {
    let list = shared().get("/v1/models").ok();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("demo")));
    assert_eq!(shared().get("/v1/models/other-name").ok()["id"], "other-name");
    let missing = shared().get("/v1/models/..%2f..%2fetc%2fpasswd");
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[test]
fn other_paths_and_methods_are_refused() {
    assert_eq!(shared().get("/v1/nothing").status, 404);
    assert_eq!(shared().get("/x/").json()["error"]["type"], "not_found_error");
    let wrong = shared().get(COMPLETIONS);
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    let wrong = shared().send("DELETE", "/v1/models", &[], b"");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET")));
    let head = shared().send("HEAD", "/health", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("15")));
}

/// The text of a prompt with the probabilities of its tokens, in one piece and in a stream.
#[test]
fn a_prompt_is_scored() {
    let prompt = "Once upon a time, there was a king who";
    let mut engine = crate::server::engine();
    let tokens = quipu_runtime::generate::prompt_tokens(engine.tokenizer(), prompt, true);
    let (mut sequence, mut expected) = (engine.new_sequence(), Vec::new());
    let mut see = |i: usize, logits: &[f32]| {
        if let Some(&next) = tokens.get(i + 1) {
            expected.push(quipu_runtime::sampler::log_probability(logits, next));
        }
    };
    engine.score(&mut sequence, &tokens, &mut see).unwrap();
    let body = json!({"prompt": prompt, "echo": true, "logprobs": 2, "max_tokens": 3, "seed": 1});
    // What is kept of it by then does not count.
    for _ in 0..2 {
        let response = shared().post(COMPLETIONS, &body);
        let whole = &response.ok()["choices"][0];
        let told = &whole["logprobs"];
        assert!(whole["text"].as_str().unwrap().starts_with(prompt));
        assert_eq!(told["tokens"].as_array().unwrap().len(), expected.len() + 3);
        let texts = told["tokens"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        assert_eq!(texts.collect::<String>(), whole["text"].as_str().unwrap());
        let list = json!(expected).to_string();
        assert!(response.text().contains(list.trim_end_matches(']')), "{list} in {}", response.text());
        let mut stream = body.clone();
        stream["stream"] = true.into();
        let (mut text, mut values) = (String::new(), Vec::new());
        for piece in pieces(COMPLETIONS, &stream) {
            text += piece["choices"][0]["text"].as_str().unwrap();
            let told = &piece["choices"][0]["logprobs"]["token_logprobs"];
            values.extend(told.as_array().cloned().unwrap_or_default());
        }
        assert_eq!((&json!(text), &json!(values)), (&whole["text"], &told["token_logprobs"]));
    }
    // Nothing stands before the first token of a prompt of tokens.
    let body = json!({"prompt": tokens[1..], "echo": true, "logprobs": 0, "max_tokens": 0});
    let told = shared().post(COMPLETIONS, &body).ok()["choices"][0]["logprobs"]["token_logprobs"].clone();
    assert_eq!((told.as_array().unwrap().len(), &told[0], told[1].is_number()), (expected.len(), &Json::Null, true));
}

#[test]
fn a_text_without_end_goes_on() {
    let body = json!({"prompt": "The end.", "seed": 1, "max_tokens": 200, "ignore_eos": true});
    let answer = shared().post(COMPLETIONS, &body).ok();
    assert_eq!(
        (&answer["choices"][0]["finish_reason"], &answer["usage"]["completion_tokens"]),
        (&json!("length"), &json!(200))
    );
}
