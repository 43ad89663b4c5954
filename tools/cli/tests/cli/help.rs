use crate::quipu;

const COMMANDS: [&str; 26] = [
    "run",
    "chat",
    "infill",
    "serve",
    "batch",
    "convert",
    "quantize",
    "imatrix",
    "pack",
    "bundle",
    "merge",
    "inspect",
    "pull",
    "list",
    "rm",
    "verify",
    "tokenize",
    "score",
    "embed",
    "guard",
    "perplexity",
    "compare",
    "bench",
    "doctor",
    "completions",
    "man",
];

#[test]
fn every_command_explains_itself_with_an_example() {
    let overview = quipu(["--help"]).ok();
    assert!(overview.contains("quipu run demo"), "{overview}");
    for command in COMMANDS {
        assert!(overview.contains(&format!("\n  {command} ")), "{command} is not in the overview");
        let help = quipu([command, "--help"]).ok();
        assert!(help.contains("Example") && help.contains(&format!("quipu {command} ")), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for args in
        [&["run"][..], &["sing"], &["run", "demo", "--no-such-flag"], &["quantize", "a", "b", "--type", "q9"], &[]]
    {
        let ended = quipu(args);
        assert_eq!(ended.code, 2, "{args:?}");
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty());
    }
    let ended = quipu(["quantize", "a", "b", "--type", "q9_k"]);
    assert!(
        ended.stderr.contains("q4_0, q4_1, q5_0, q5_1, q8_0") && ended.stderr.contains("q4_k_m"),
        "{}",
        ended.stderr
    );
    for wrong in ["attn_v", "attn_v=q9"] {
        assert_eq!(quipu(["quantize", "a", "b", "--type", "q4_0", "--tensor", wrong]).code, 2);
    }
}

#[test]
fn it_knows_its_version() {
    assert_eq!(quipu(["--version"]).ok(), format!("quipu {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn shells_learn_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = quipu(["completions", shell]).ok();
        for word in COMMANDS.into_iter().chain(["kv-memory", "target-bits"]) {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(quipu(["completions", "csh"]).code, 2);
}

/// What bash makes of its script, if it is there.
#[test]
fn bash_completes_a_command_line() {
    let scratch = tempfile::tempdir().unwrap();
    let script = scratch.path().join("quipu");
    std::fs::write(&script, quipu(["completions", "bash"]).ok()).unwrap();
    let ask = r#"source "$0"; COMP_WORDS=(quipu perp); COMP_CWORD=1; _quipu quipu perp quipu; echo "${COMPREPLY[@]}""#;
    match std::process::Command::new("bash").args(["-c", ask]).arg(&script).output() {
        Ok(bash) => assert_eq!(String::from_utf8_lossy(&bash.stdout), "perplexity\n"),
        Err(e) => eprintln!("SKIPPED: bash_completes_a_command_line: no bash ({e})"),
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let scratch = tempfile::tempdir().unwrap();
    let pages = scratch.path().join("share/man1");
    quipu(["man", "--all", pages.to_str().unwrap()]).ok();
    for command in COMMANDS {
        let page = std::fs::read_to_string(pages.join(format!("quipu-{command}.1"))).unwrap();
        assert!(page.contains(".TH quipu-") && page.contains("Example"), "{page}");
        assert_eq!(quipu(["man", command]).ok(), page);
    }
    assert_eq!(quipu(["man"]).ok(), std::fs::read_to_string(pages.join("quipu.1")).unwrap());
    let wrong = quipu(["man", "sing"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("perplexity"), "{}", wrong.stderr);
}
