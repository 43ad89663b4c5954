//! `--draft MODEL`: the same text, and a sentence for each model that can't guess.

use serde_json::{Value as Json, json};

use crate::quipu;

#[test]
fn a_draft_model_changes_no_text() {
    let run = |draft: &str, seed: &str| {
        let json =
            quipu(["run", "demo", "The old king", "-n", "60", "--seed", seed, "--draft", draft, "--json"]).json();
        (json["text"].clone(), json["tokens"].clone(), json["stop"].clone())
    };
    for seed in ["1", "2", "3"] {
        assert_eq!(run("demo", seed), run("none", seed), "seed {seed}");
    }
}

#[test]
fn a_model_that_cannot_guess_is_refused_by_name() {
    let run = |draft: &str| quipu(["run", "demo", "A king", "-n", "2", "--draft", draft]).error();
    let message = run("no/such.gguf");
    assert!(message.contains("--draft no/such.gguf") && message.contains("none, text"), "{message}");
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
    let message = run(other);
    for part in ["stories260K-f32.gguf cannot guess for demo: token ", " is \"", "the same vocabulary"] {
        assert!(message.contains(part), "{message}");
    }
    // What is not asked of a model.
    let message = quipu(["serve", "demo", "demo", "--draft", "demo", "--port", "0"]).error();
    assert!(message.contains("one model"), "{message}");
}

#[test]
fn bench_shows_what_guesses_are_worth() {
    let bench = |options: &[&str]| -> Json {
        let args = ["bench", "demo", "-p", "0", "-n", "24", "-r", "1", "-t", "1", "--json"];
        quipu(args.iter().chain(options)).json()["runs"][0]["guesses"].clone()
    };
    let found = bench(&["--draft", "demo", "--acceptance", "0.5", "--sequences", "1,3", "-d", "0,30"]);
    let tests = found.as_array().unwrap();
    assert_eq!(tests.len(), 4);
    for (test, (depth, sequences)) in tests.iter().zip([(0, 1), (0, 3), (30, 1), (30, 3)]) {
        assert_eq!(
            (&test["depth"], &test["sequences"], &test["tokens"]),
            (&json!(depth), &json!(sequences), &json!(24))
        );
        assert_eq!((&test["draft"], &test["acceptance"]), (&json!("demo"), &json!(0.5)));
        let number = |name: &str| test[name].as_f64().unwrap();
        assert!((number("speedup") - number("tokens_per_s") / number("plain_tokens_per_s")).abs() < 1e-9);
        assert!(number("accepted") <= number("guessed") && number("plain_tokens_per_s") > 0.0);
    }
    let found = bench(&["--draft", "text"]);
    assert_eq!((found[0]["draft"].clone(), found[0]["acceptance"].clone()), (Json::Null, Json::Null));
    assert_eq!(bench(&[]), json!([]));
    let message = quipu(["bench", "demo", "--draft", "text", "--acceptance", "0.5"]).error();
    assert!(message.contains("--draft MODEL"), "{message}");
    let text = quipu(["bench", "demo", "-p", "0", "-n", "8", "-r", "1", "-t", "1", "--draft", "demo"]).ok();
    assert!(text.contains("guesses by demo: ") && text.contains(" times; "), "{text}");
}
