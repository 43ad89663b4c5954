//! `quipu chat` with tools: what is asked, run, and told to the model. The model says what a script says, and its
//! template has it begin another part of the script for each kind of result.

use std::path::{Path, PathBuf};
use std::process::Command;

use quipu_test_script::Script;

use crate::{Ended, quipu_with_input};

const TEMPLATE: &str = "\
{% set last = messages[-1] %}{% for m in messages %}{{ m.content }}\n{% endfor %}<tool_call>{{ tools | tojson }}\
{% if last.role != 'tool' %}<|asked|>\
{% elif 'not allow' in last.content %}<|refused|>\
{% elif last.content.startswith('error: ') %}<|failed|>\
{% elif last.content == 'sun' %}<|told|>\
{% else %}<|odd|>{% endif %}";

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"]}}}]"#;

struct Scene {
    dir: tempfile::TempDir,
    model: PathBuf,
    tools: PathBuf,
}

/// Text and a call, with an argument that its schema forbids.
const CALL: &[&[&str]] = &[
    &["Let me see.\n"],
    &["<tool_call>"],
    &["\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Lima\", \"days\": "],
    &["\"three\"", "3"],
    &["}}"],
    &["\n</tool_call>"],
];

impl Scene {
    fn new() -> Scene {
        Scene::with(TEMPLATE, "<|asked|>", CALL)
    }

    /// What the model says when it is asked, after the control token at the end of its prompt.
    fn with(template: &str, asked: &str, says: &[&[&str]]) -> Scene {
        let mut script = Script::new(template);
        script.says(asked, says);
        script.says("<|told|>", &[&["It is sunny."]]);
        script.says("<|failed|>", &[&["It went wrong."]]);
        script.says("<|refused|>", &[&["As you like."]]);
        script.says("<|odd|>", &[&["How odd."]]);
        let dir = tempfile::tempdir().unwrap();
        let (model, tools) = (dir.path().join("script.gguf"), dir.path().join("tools.json"));
        script.write(&model).unwrap();
        std::fs::write(&tools, TOOLS).unwrap();
        Scene { dir, model, tools }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let text = |path: &'a Path| path.to_str().unwrap();
        [&["chat", text(&self.model), "--tools", text(&self.tools), "--temp", "0", "--no-tuning"], more].concat()
    }

    /// One turn, through a pipe.
    fn chat(&self, script: &str, more: &[&str]) -> Ended {
        let command = format!("get_weather = sh -c '{script}'");
        quipu_with_input(self.args(&[&["--tool-command", &command], more].concat()), "How is it?\n")
    }
}

#[test]
fn a_call_is_run_and_its_result_told() {
    let scene = Scene::new();
    let heard = scene.path("heard.json");
    let script = format!("cat > {}; echo sun", heard.display());
    let said = scene.chat(&script, &["--allow-tool", "get_weather"]).ok();
    assert_eq!(said, "Let me see.\n\nIt is sunny.\n");
    let heard: serde_json::Value = serde_json::from_slice(&std::fs::read(heard).unwrap()).unwrap();
    assert_eq!(heard, serde_json::json!({"city": "Lima", "days": 3}));
}

#[test]
fn what_fails_is_told_as_well() {
    let scene = Scene::new();
    for (script, more, problem) in
        [("exit 3", &[][..], "exit status: 3"), ("exec sleep 60", &["--tool-timeout", "1"], "more than 1 s")]
    {
        let ended = scene.chat(script, &[&["--allow-tool", "get_weather"], more].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (0, "Let me see.\n\nIt went wrong.\n"));
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("warning: ") && lines[0].contains(problem), "{lines:?}");
    }
}

/// What breaks off is told, and nothing runs: at a limit, or at a stop string where nothing but braces is missing.
#[test]
fn a_call_that_breaks_off_does_not_run() {
    let scene = Scene::new();
    let ran = scene.path("ran");
    for (more, reason) in [(["-n", "4"], "limit"), (["--stop", "}}"], "stop")] {
        let more = [&["--allow-tool", "get_weather"], &more[..]].concat();
        let ended = scene.chat(&format!("touch {}; echo sun", ran.display()), &more);
        assert_eq!((ended.code, ended.stdout.as_str(), ran.exists()), (0, "Let me see.\n\n", false));
        let warning = format!("warning: the call of get_weather is not complete ({reason}): it does not run\n");
        assert_eq!(ended.stderr, warning);
    }
}

/// What is thought is no call, whether the model opens its thoughts or the template does.
#[test]
fn a_call_in_thoughts_does_not_run() {
    const THOUGHT: &str =
        "\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Lima\", \"days\": 3}}\n</tool_call>\n";
    let opens = TEMPLATE.replace("<|asked|>", "<think>");
    for (template, asked, begin) in [(TEMPLATE, "<|asked|>", "<think>\nI could\n"), (&opens, "<think>", "I could\n")] {
        let pieces = [begin, "<tool_call>", THOUGHT, "</think>", "\n\nNo need."];
        let says = pieces.map(|piece| [piece]);
        let says: Vec<&[&str]> = says.iter().map(|piece| &piece[..]).collect();
        let scene = Scene::with(template, asked, &says);
        let ran = scene.path("ran");
        let ended = scene.chat(&format!("touch {}", ran.display()), &["--allow-tool", "get_weather"]);
        assert_eq!((ended.ok(), ran.exists()), (format!("{}\n", pieces.concat()), false));
    }
}

/// Where nobody can be asked nothing runs, and the model is told so.
#[test]
fn nothing_runs_without_consent() {
    let scene = Scene::new();
    let ran = scene.path("ran");
    let said = scene.chat(&format!("touch {}", ran.display()), &[]).ok();
    assert_eq!((said.as_str(), ran.exists()), ("Let me see.\n\nAs you like.\n", false));
    // Without a command there is nothing to run, and the turn is over.
    assert_eq!(quipu_with_input(scene.args(&[]), "How is it?\n").ok(), "Let me see.\n\n");
}

/// On a terminal: yes is for this call, always for all that follow, anything else is no.
#[cfg(target_os = "linux")]
#[test]
fn a_person_is_asked() {
    let scene = Scene::new();
    let runs = scene.path("runs");
    let answers = |lines: &str| {
        let _ = std::fs::remove_file(&runs);
        let command = format!("get_weather = sh -c \"echo run >> {}; echo sun\"", runs.display());
        let args = scene.args(&["--tool-command", &command]);
        let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let line = format!("{} {}", env!("CARGO_BIN_EXE_quipu"), quoted.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.env("HOME", scene.dir.path()).env("XDG_STATE_HOME", scene.dir.path()).env("TERM", "dumb");
        let ended = crate::with_input(script, lines);
        let runs = std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
        (ended.stdout, runs)
    };
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: a_person_is_asked: there is no `script`, which makes a terminal");
        return;
    }
    let (shown, runs) = answers("How is it?\ny\n/exit\n");
    assert!(shown.contains("calls get_weather({\"city\":\"Lima\",\"days\":3})"), "{shown}");
    assert!(shown.contains("run it? [y]es, [n]o, [a]lways") && shown.contains("It is sunny.") && runs == 1, "{shown}");
    let (shown, runs) = answers("How is it?\nno\n/exit\n");
    assert!(shown.contains("As you like.") && runs == 0, "{shown}");
    let (shown, runs) = answers("How is it?\nalways\nAnd now?\n/exit\n");
    assert!(shown.matches("It is sunny.").count() == 2 && runs == 2, "{shown}");
    assert_eq!(shown.matches("run it?").count(), 1, "{shown}");
}
