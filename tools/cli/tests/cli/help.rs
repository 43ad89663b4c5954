use crate::quipu;

const COMMANDS: [&str; 18] = [
    "run",
    "chat",
    "serve",
    "batch",
    "convert",
    "quantize",
    "imatrix",
    "pack",
    "merge",
    "inspect",
    "tokenize",
    "score",
    "embed",
    "guard",
    "perplexity",
    "compare",
    "bench",
    "doctor",
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
