use serde_json::{Value as Json, json};

use crate::{quipu, quipu_with_input};

/// The demo model has Llama 3's marks, so it can be asked as a guard, whatever that is worth.
const GUARD: [&str; 4] = ["guard", "demo", "--form", "3"];
const FEW: &str = "C1: Puns.\nShould not\n- Be made.\nC2: Rhymes.\n";

#[test]
fn the_exit_code_says_whether_a_text_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let categories = dir.path().join("few.txt");
    std::fs::write(&categories, FEW).unwrap();
    let few = [&GUARD[..], &["--categories", categories.to_str().unwrap()]].concat();
    let safe = quipu([&few[..], &["A pun.", "--threshold", "1", "--json"]].concat()).json();
    assert_eq!((&safe["flagged"], &safe["categories"]), (&json!(false), &json!([])));
    let probability = safe["unsafe"].as_f64().unwrap();
    assert!(0.0 < probability && probability < 1.0 && safe["prompt_tokens"].as_u64().unwrap() > 100);

    let found = quipu([&few[..], &["A pun.", "--threshold", "0", "--json"]].concat());
    assert_eq!((found.code, found.stderr.as_str()), (3, ""));
    let found: Json = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((&found["flagged"], &found["unsafe"]), (&json!(true), &safe["unsafe"]));
    let named = found["categories"].as_array().unwrap();
    let known = [json!({"code": "C1", "name": "Puns"}), json!({"code": "C2", "name": "Rhymes"})];
    assert!(!named.is_empty() && named.iter().all(|category| known.contains(category)), "{found}");

    // At the probability itself it is flagged; a line for a person says the same.
    let line = quipu([&few[..], &["A pun.", "--threshold", &probability.to_string()]].concat());
    assert_eq!(line.code, 3);
    assert!(line.stdout.starts_with(&format!("unsafe {probability:.4}  C")), "{}", line.stdout);
    let line = quipu([&few[..], &["A pun.", "--threshold", "1"]].concat()).ok();
    assert_eq!(line, format!("safe {probability:.4}\n"));
    // One category is left.
    let one = quipu([&few[..], &["A pun.", "--threshold", "0", "--exclude", "C1", "--json"]].concat());
    let one: Json = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!(one["categories"], json!([known[1]]));
}

#[test]
fn a_conversation_is_judged_by_its_last_message() {
    let talk = json!([{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho."}]).to_string();
    let shown =
        |args: &[&str], input: &str| quipu_with_input([&GUARD[..], &["--show-prompt"], args].concat(), input).ok();
    let answer = shown(&["--chat"], &talk);
    assert!(
        answer.contains("User: Hi.\n\nAgent: Ho.\n\n<END") && answer.contains("ONLY THE LAST Agent message"),
        "{answer}"
    );
    let question = shown(&["--chat", "--role", "user"], &format!("{{\"messages\": {talk}}}"));
    assert!(question.contains("User: Hi.\n\n<END") && question.contains("ONLY THE LAST User message"), "{question}");
    let alone = shown(&["--role", "assistant"], "Ho.\n");
    assert!(alone.contains("User: \n\nAgent: Ho.\n\n<END"), "{alone}");
    assert!(shown(&[], &talk).contains("User: [{"));
}

#[test]
fn what_is_no_guard_no_policy_and_no_conversation_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let categories = dir.path().join("few.txt");
    std::fs::write(&categories, "S1: Puns.\nS1: Puns.").unwrap();
    let path = categories.to_str().unwrap();
    for (args, named) in [
        (&["guard", "demo", "text"][..], "no guard"),
        (&["guard", "demo", "--form", "3", "text", "--categories", path], "few.txt: line 2: S1 stands there twice"),
        (&["guard", "demo", "--form", "3", "text", "--exclude", "S99"], "no category S99"),
        (&["guard", "demo", "--form", "3", "--chat", "text"], "expected a conversation"),
        (&["guard", "demo", "--form", "3", "--chat", "[]"], "it is empty"),
        (&["guard", "demo", "--form", "3", "A long text.", "-c", "300"], "there is room for"),
    ] {
        let message = quipu(args).error();
        assert!(message.contains(named), "{message}");
    }
    assert_eq!(quipu(["guard", "demo", "x", "--threshold", "2"]).code, 2);
    assert_eq!(quipu(["guard", "demo", "x", "--form", "4"]).code, 2);
}
