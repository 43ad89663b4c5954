use crate::{ids, quipu, quipu_with_input, tales};

const TEXT: &str = "Once upon a time there was";

#[test]
fn score_gives_each_token_its_probability() {
    let json = quipu(["score", "demo", TEXT, "--top", "3", "--json"]).json();
    let tokens = json["tokens"].as_array().unwrap();
    let tokenized = quipu(["tokenize", "demo", TEXT, "--json"]).json();
    assert_eq!(
        ids(&json["tokens"]),
        tokenized["ids"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap()).collect::<Vec<_>>()
    );
    assert!(tokens[0]["logprob"].is_null() && tokens[0]["top"].as_array().unwrap().is_empty());
    let mut total = 0.0;
    for token in &tokens[1..] {
        let logprob = token["logprob"].as_f64().unwrap();
        total += logprob;
        let top: Vec<f64> = token["top"].as_array().unwrap().iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert_eq!(top.len(), 3);
        assert!(top.is_sorted_by(|a, b| a >= b));
        assert!(logprob <= top[0] && top.iter().map(|l| l.exp()).sum::<f64>() <= 1.0);
        // A token among the best has the same number in both places.
        if let Some(same) = token["top"].as_array().unwrap().iter().find(|t| t["id"] == token["id"]) {
            assert_eq!(same["logprob"], token["logprob"]);
        }
    }
    assert_eq!(json["total"].as_f64().unwrap(), total);
    assert_eq!(json["next"].as_array().unwrap().len(), 3);
}

/// What `run` wrote greedily, `score` finds likeliest, with the same numbers to the last bit: reading a text whole and
/// token by token is the same arithmetic.
#[test]
fn score_agrees_with_run() {
    let run = quipu(["run", "demo", TEXT, "-n", "20", "--temp", "0", "--json"]).json();
    let prompt = quipu(["tokenize", "demo", TEXT, "--json"]).json();
    let mut tokens: Vec<u64> = prompt["ids"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap()).collect();
    let start = tokens.len();
    tokens.extend(ids(&run["tokens"]));
    let list = tokens.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let score = quipu(["score", "demo", "--tokens", &list, "--top", "1", "--json"]).json();
    for (i, token) in run["tokens"].as_array().unwrap().iter().enumerate() {
        let scored = &score["tokens"][start + i];
        assert_eq!((&scored["id"], &scored["logprob"]), (&token["id"], &token["logprob"]));
        assert_eq!(scored["top"][0]["id"], token["id"]);
    }
}

#[test]
fn tokenize_shows_ids_and_pieces() {
    let json = quipu(["tokenize", "demo", TEXT, "--json"]).json();
    let pieces: Vec<&str> = json["pieces"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    assert_eq!(pieces[0], "<|begin_of_text|>");
    assert_eq!(pieces[1..].concat(), TEXT);
    assert_eq!(json["count"], pieces.len());
    let bare = quipu_with_input(["tokenize", "demo", "--json", "--no-special"], TEXT).json();
    assert_eq!(bare["count"], pieces.len() - 1);
    let table = quipu(["tokenize", "demo", TEXT]).ok();
    assert_eq!(table.lines().count(), pieces.len());
    let written = quipu(["tokenize", "demo", "<|eot_id|>", "--json", "--no-special"]).json();
    assert_eq!(written["count"], 1);
    let plain = quipu(["tokenize", "demo", "<|eot_id|>", "--json", "--no-special", "--plain"]).json();
    assert!(plain["count"].as_u64().unwrap() > 1);
}

/// llama.cpp's rule, followed by hand through `score`: pieces of n tokens, BOS in each one's first place, the second
/// half counts.
#[test]
fn perplexity_is_what_scoring_the_pieces_gives() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.txt");
    let text = "The fox went out on a chilly night, and he prayed for the moon to give him light. ".repeat(8);
    std::fs::write(&file, &text).unwrap();
    let path = file.to_str().unwrap();
    let json = quipu(["perplexity", "demo", "-f", path, "-c", "32", "--json"]).json();

    let tokenized = quipu(["tokenize", "demo", "-f", path, "--json"]).json();
    let tokens: Vec<u64> = tokenized["ids"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap()).collect();
    let (mut sum, mut count) = (0.0, 0);
    for piece in tokens.chunks_exact(32) {
        let list: Vec<String> = [&tokens[..1], &piece[1..]].concat().iter().map(u64::to_string).collect();
        let score = quipu(["score", "demo", "--tokens", &list.join(","), "--json"]).json();
        for token in &score["tokens"].as_array().unwrap()[17..] {
            sum -= token["logprob"].as_f64().unwrap();
            count += 1;
        }
    }
    assert_eq!(json["tokens"], count);
    assert_eq!(json["chunks"], tokens.len() / 32);
    let expected = (sum / count as f64).exp();
    let ppl = json["ppl"].as_f64().unwrap();
    assert!((ppl / expected - 1.0).abs() < 1e-9, "{ppl} {expected}");

    assert!(quipu(["perplexity", "demo", "-f", path, "-c", "32"]).ok().starts_with("perplexity "));
    let one = quipu(["perplexity", "demo", "-f", path, "-c", "32", "--chunks", "1", "--json"]).json();
    assert_eq!((&one["chunks"], &one["tokens"]), (&1.into(), &15.into()));
    let message = quipu(["perplexity", "demo", "-f", path, "-c", "4096"]).error();
    assert!(message.contains("8192"), "{message}");
}

/// A model does not diverge from itself; a quantised one does, and more places than none agree.
#[test]
fn divergence_from_a_base() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (text, full, small) = (path("text.txt"), path("full.gguf"), path("small.gguf"));
    let words = "The fox went out on a chilly night, and he prayed for the moon to give him light. ".repeat(8);
    std::fs::write(&text, words).unwrap();
    quipu(["convert", tales().to_str().unwrap(), "-o", &full]).ok();
    quipu(["quantize", &full, &small, "--type", "q4_0"]).ok();
    let measure = |model: &str| quipu(["perplexity", model, "-f", &text, "-c", "32", "--kl", &full, "--json"]).json();
    let (same, other) = (measure(&full), measure(&small));
    assert_eq!((&same["kl"], &same["same_top"], &same["ppl"]), (&0.0.into(), &1.0.into(), &same["base_ppl"]));
    assert_eq!(same["ppl"], other["base_ppl"]);
    let number = |key: &str| other[key].as_f64().unwrap();
    assert!(number("kl") > 0.0 && number("kl") < number("kl_99") && number("kl_error") < number("kl"));
    assert!(number("same_top") > 0.5 && number("same_top") <= 1.0);
    let table = quipu(["perplexity", &small, "-f", &text, "-c", "32", "--kl", &full]).ok();
    assert_eq!(table.lines().count(), 4, "{table}");
}

#[test]
fn a_base_with_another_vocabulary_is_refused() {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
    let message = quipu_with_input(["perplexity", "demo", "-c", "4", "--kl", tiny], "The fox went out. ").error();
    assert!(message.contains("vocabulary"), "{message}");
}
