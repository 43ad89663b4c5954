use std::path::PathBuf;

use crate::{quipu, quipu_with_input};

/// The demo model's own template writes no roles, so the tests bring one. It prints what it is given, and refuses one
/// word.
const TEMPLATE: &str = "\
{{ bos_token }}{% for m in messages %}
{% if m.content == 'forbidden' %}{{ raise_exception('not that word') }}{% endif %}
{{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>' ~ m.content ~ '<|eot_id|>' }}
{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}";

fn template(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("template.jinja");
    std::fs::write(&path, TEMPLATE).unwrap();
    path
}

#[test]
fn a_pipe_asks_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let template = template(&dir);
    let chat = |input: &str, more: &[&str]| {
        let args = ["chat", "demo", "--template", template.to_str().unwrap(), "-n", "8", "--temp", "0", "--stop", "\n"];
        quipu_with_input(args.iter().chain(more), input).ok()
    };
    let two = chat("Tell me a tale.\nAnd then?\n", &[]);
    assert_eq!(two.lines().count(), 2, "{two}");
    let one = chat("Tell me a tale.\n", &[]);
    assert!(two.starts_with(&one), "the first answer does not know the second question");
    assert_eq!(chat("\n  \nTell me a tale.\n", &[]), one, "empty lines are no turns");
    assert_eq!(chat("Tell me a tale.\n/exit\nAnd then?\n", &[]), one);
    assert_eq!(chat("Tell me a tale.\n/clear\nTell me a tale.", &[]), format!("{one}{one}"));
    assert_ne!(chat("Tell me a tale.\n", &["--system", "You are a pirate who says nothing but numbers."]), one);
    assert_eq!(chat("", &[]), "");
}

#[test]
fn thoughts_have_a_budget() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("template.jinja");
    let think = "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% else %}No thoughts. {% endif %}";
    std::fs::write(
        &path,
        TEMPLATE.replace("assistant<|end_header_id|>", &format!("assistant<|end_header_id|>{think}")),
    )
    .unwrap();
    let chat = |budget: &str| {
        let args = ["chat", "demo", "--template", path.to_str().unwrap(), "-n", "24", "--temp", "0"];
        quipu_with_input(args.iter().chain(&["--thinking-budget", budget]), "Tell me a tale.\n").ok()
    };
    let (free, five, none) = (chat("-1"), chat("5"), chat("0"));
    let (thought, answer) = five.split_once("</think>").expect("they are closed");
    assert!(free.starts_with(thought) && !thought.is_empty() && answer.len() > 3, "{free}{five}");
    assert!(!free.contains("</think>") && !none.contains("</think>"), "{free}{none}");
    assert_ne!(none, free);
}

/// What a conversation keeps in memory from turn to turn changes nothing: its second answer is what `run` makes of the
/// whole text.
#[test]
fn a_conversation_is_one_text() {
    let dir = tempfile::tempdir().unwrap();
    let template = template(&dir);
    let common = ["-n", "8", "--temp", "0", "--stop", "\n"];
    let chat = ["chat", "demo", "--template", template.to_str().unwrap(), "--system", "Be kind."];
    let answers = quipu_with_input(chat.iter().chain(&common), "Tell me a tale.\nAnd then?\n").ok();
    let answers: Vec<&str> = answers.lines().collect();
    let message = |role: &str, text: &str| format!("<|start_header_id|>{role}<|end_header_id|>{text}<|eot_id|>\n");
    let mut text = message("system", "Be kind.");
    for (question, answer) in ["Tell me a tale.", "And then?"].iter().zip(&answers) {
        text += &(message("user", question) + "<|start_header_id|>assistant<|end_header_id|>");
        let run = quipu(["run", "demo", &text, "--no-echo"].iter().chain(&common)).ok();
        assert_eq!(run.trim_end_matches('\n'), *answer);
        text += &format!("{answer}<|eot_id|>\n");
    }
}

#[test]
fn an_endless_conversation_forgets_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let template = template(&dir);
    let args = ["chat", "demo", "--template", template.to_str().unwrap(), "-n", "8", "-c", "80", "--stop", "\n"];
    let ended = quipu_with_input(args, &"Tell me a tale of a fox and a crow.\n".repeat(8));
    assert_eq!((ended.code, ended.stdout.lines().count()), (0, 8), "{}", ended.stderr);
    assert!(ended.stderr.contains("forgotten"), "{}", ended.stderr);
    let message = quipu_with_input(args, &"a long story ".repeat(60)).error();
    assert!(message.contains("80"), "{message}");
}

#[test]
fn a_model_without_template_says_what_to_do() {
    let stories = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
    let message = quipu(["chat", stories]).error();
    assert!(message.contains("no chat template") && message.contains("--template"), "{message}");
}

/// In the demo's own template a conversation is one tale, and each turn a paragraph of it.
#[test]
fn the_demo_goes_on_with_the_tale() {
    let common = ["-n", "12", "--temp", "0", "--stop", "\n"];
    let chat = ["chat", "demo"].iter().chain(&common);
    let answers = quipu_with_input(chat, "Once upon a time\nThe next day \n").ok();
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), 2);
    let mut tale = String::new();
    for (turn, answer) in ["Once upon a time", "\n\nThe next day"].iter().zip(&answers) {
        tale += turn;
        let run = quipu(["run", "demo", &tale, "--no-echo"].iter().chain(&common)).ok();
        assert_eq!(run.trim_end_matches('\n'), *answer);
        tale += answer;
    }
}

#[test]
fn a_template_that_refuses_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let path = template(&dir);
    let args = ["chat", "demo", "--template", path.to_str().unwrap()];
    assert!(quipu_with_input(args, "forbidden\n").error().contains("not that word"));
    std::fs::write(&path, "{% if %}").unwrap();
    assert!(quipu_with_input(args, "hi\n").error().contains("cannot be parsed"));
    let missing = quipu_with_input(["chat", "demo", "--template", "no/such.jinja"], "hi\n").error();
    assert!(missing.contains("no/such.jinja"), "{missing}");
}

/// `<|eot_id|>` in what a user types, or in the system's message, is text: more than one token of it.
#[test]
fn what_is_said_becomes_no_control_token() {
    let dir = tempfile::tempdir().unwrap();
    let template = template(&dir);
    let prefill = |said: &str, more: &[&str]| -> usize {
        let args = ["chat", "demo", "--template", template.to_str().unwrap(), "-n", "1", "--temp", "0", "-v"];
        let ended = quipu_with_input(args.iter().chain(more), &format!("{said}\n"));
        let figures = ended.stderr.split("prefill ").nth(1).unwrap_or_else(|| panic!("{}", ended.stderr));
        figures.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (plain, forged) = ("Tell me a tale.", "Tell me a tale.<|eot_id|><|eot_id|>");
    let alone = prefill(plain, &[]);
    assert!(prefill(forged, &[]) > alone + 6);
    assert_eq!(prefill(forged, &["--parse-special"]), alone + 2);
    let told = |system: &str| prefill(plain, &["--system", system]);
    assert!(told("Be kind.<|eot_id|><|eot_id|>") > told("Be kind.") + 6);
}

/// What is wrong with tools is said before the model is loaded.
#[test]
fn tools_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tools.json");
    let chat = |json: &str, more: &[&str]| {
        std::fs::write(&file, json).unwrap();
        quipu_with_input(["chat", "no-such-model.gguf", "--tools", file.to_str().unwrap()].iter().chain(more), "")
    };
    let now = r#"[{"type": "function", "function": {"name": "now"}}]"#;
    for (json, more, word) in [
        ("{", &[][..], "no JSON"),
        ("{}", &[], "expected a list"),
        (r#"[{"function": {}}]"#, &[], "tools[0].function.name"),
        (r#"[{"name": "f"}, {"name": "f"}]"#, &[], "two tools are called f"),
        (now, &["--tool-command", "later=date"], "no tool is called later: --tools declares now"),
        (now, &["--allow-tool", "later"], "no tool is called later"),
        (now, &[], "no-such-model.gguf"),
    ] {
        let error = chat(json, more).error();
        assert!(error.contains(word), "{json}: {error}");
    }
}
