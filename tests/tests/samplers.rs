//! The sampler's steps against llama.cpp's: the same candidates with the same probabilities.
//!
//! What llama.cpp makes of each case is in `tests/data/samplers` (`tests/refs/llama_cpp_samplers.py`). It computes in
//! f32, so its probabilities are good to about one part in a million.

use quipu_runtime::open;
use quipu_runtime::sampler::{DryOptions, MirostatOptions, Sampler, SamplerOptions, SamplerStep};
use quipu_runtime::tokenizer::Tokenizer;
use quipu_tests::{data, json};
use serde_json::Value as Json;

fn number(value: &Json) -> f32 {
    value.as_f64().expect("a number") as f32
}

fn texts(value: &Json) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text").to_string()).collect()
}

/// The options of a case, with llama.cpp's names: its own, or what turns a step off.
fn options(case: &Json, off: &Json) -> SamplerOptions {
    let get = |name: &str| case["options"].get(name).unwrap_or(&off[name]);
    let float = |name: &str| number(get(name));
    let count = |name: &str| get(name).as_u64().expect("a count") as usize;
    let bias = |pair: &Json| (pair[0].as_u64().expect("an id") as u32, number(&pair[1]));
    SamplerOptions::default()
        .temperature(float("temperature"))
        .dynatemp_range(float("dynatemp_range"))
        .dynatemp_exponent(float("dynatemp_exponent"))
        .top_k(count("top_k"))
        .top_p(float("top_p"))
        .min_p(float("min_p"))
        .typical_p(float("typical_p"))
        .top_n_sigma(float("top_n_sigma"))
        .xtc_probability(float("xtc_probability"))
        .xtc_threshold(float("xtc_threshold"))
        .repeat_penalty(float("repeat_penalty"))
        .frequency_penalty(float("frequency_penalty"))
        .presence_penalty(float("presence_penalty"))
        .repeat_last_n(count("repeat_last_n"))
        .dry(
            DryOptions::default()
                .multiplier(float("dry_multiplier"))
                .base(float("dry_base"))
                .allowed_length(count("dry_allowed_length"))
                .last_n(count("dry_penalty_last_n"))
                .breakers(texts(get("dry_sequence_breakers"))),
        )
        .mirostat(
            MirostatOptions::default()
                .version(count("mirostat") as u8)
                .tau(float("mirostat_tau"))
                .eta(float("mirostat_eta")),
        )
        .steps(texts(get("samplers")).iter().map(|name| name.parse().expect("a step")).collect::<Vec<SamplerStep>>())
        .logit_bias(get("logit_bias").as_array().expect("a list").iter().map(bias).collect())
}

/// The logits of the script's formula.
fn logits(count: u64, case: &Json) -> Vec<f32> {
    let (step, width) = (case["step"].as_u64().expect("a step"), case["width"].as_f64().expect("a width"));
    let at = |i: u64| {
        let x = i * step % 1009;
        ((x * x) as f64 / 1009.0 / 1009.0 * width) as f32
    };
    (0..count).map(at).collect()
}

#[test]
fn steps_leave_what_llama_cpp_leaves() {
    let golden = json(data("samplers/llama_cpp.json"));
    let model = open("demo").expect("the demo opens");
    let tokenizer = std::sync::Arc::new(Tokenizer::from_metadata(model.metadata()).expect("its tokenizer"));
    let cases = golden["cases"].as_array().expect("cases");
    for (i, case) in cases.iter().enumerate() {
        let mut sampler = Sampler::for_tokenizer(options(case, &golden["off"]), &tokenizer).expect("sensible options");
        for token in case["text"].as_array().expect("a text") {
            sampler.accept(token.as_u64().expect("an id") as u32);
        }
        let logits = logits(golden["count"].as_u64().expect("a count"), &case["logits"]);
        let found = sampler.distribution(&logits).expect("candidates");
        let kept = case["kept"].as_array().expect("what is kept");
        let about = format!("case {i}, {}", case["options"]);
        assert_eq!(found.len(), kept.len(), "{about}: how many are kept");
        for ((id, p), expected) in found.into_iter().zip(kept) {
            let (expected_id, expected) = (expected[0].as_u64(), expected[1].as_f64().expect("a probability"));
            assert_eq!(Some(u64::from(id)), expected_id, "{about}");
            assert!((p - expected).abs() < 2e-6 * expected + 2e-8, "{about}: token {id} has {p}, not {expected}");
        }
    }
    assert!(cases.len() >= 37);
    println!("ok: {} cases as in llama.cpp", cases.len());
}
