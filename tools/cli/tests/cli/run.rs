use std::io::Read;
use std::process::Stdio;

use serde_json::Value as Json;

#[cfg(unix)]
use crate::kill;
use crate::{command, ended, ids, quipu, quipu_with_input};

const PROMPT: &str = "Once upon a time";

#[test]
fn the_text_is_the_prompt_and_what_follows() {
    let text = quipu(["run", "demo", PROMPT, "-n", "12", "--temp", "0"]).ok();
    assert!(text.starts_with(PROMPT) && text.ends_with('\n') && text.len() > PROMPT.len() + 20, "{text}");
    let rest = quipu(["run", "demo", PROMPT, "-n", "12", "--temp", "0", "--no-echo"]).ok();
    assert_eq!(format!("{PROMPT}{rest}"), text);
}

#[test]
fn json_has_what_the_contract_says() {
    let json = quipu(["run", "demo", PROMPT, "-n", "10", "--seed", "3", "--json"]).json();
    assert_eq!(json["prompt"], PROMPT);
    assert_eq!(json["seed"], 3);
    let tokens = json["tokens"].as_array().unwrap();
    let ended_early = json["stop"] == "end";
    assert!(tokens.len() == 10 || ended_early, "{json}");
    let joined: String = tokens.iter().map(|t| t["text"].as_str().unwrap()).collect();
    assert_eq!(json["text"], joined);
    for token in tokens {
        let logprob = token["logprob"].as_f64().unwrap();
        assert!(token["id"].is_u64() && logprob <= 0.0 && logprob > -30.0, "{token}");
    }
    let timings = &json["timings"];
    assert!(timings["load_ms"].as_f64().unwrap() > 0.0);
    // BOS and the prompt's words; then all tokens but the first and the last go through the model.
    assert_eq!(timings["prefill"]["tokens"], 1 + PROMPT.split(' ').count());
    assert!(ended_early || timings["decode"]["tokens"] == 9);
    for part in ["prefill", "decode"] {
        assert!(timings[part]["ms"].as_f64().unwrap() > 0.0);
    }
    if cfg!(target_os = "linux") {
        assert!(json["peak_rss_bytes"].as_u64().unwrap() > 4 << 20);
    } else {
        assert!(json["peak_rss_bytes"].is_null());
    }
}

#[test]
fn samplers_are_off_until_they_are_asked_for() {
    let run = |more: &[&str]| quipu(["run", "demo", PROMPT, "-n", "40", "--seed", "4"].iter().chain(more));
    let plain = run(&[]).ok();
    let default = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature";
    for off in [["--typical", "1"], ["--top-nsigma", "-1"], ["--mirostat", "0"], ["--samplers", default]] {
        assert_eq!(run(&off).ok(), plain, "{off:?}");
    }
    for on in [
        &["--typical", "0.3"][..],
        &["--top-nsigma", "0.7"],
        &["--xtc-probability", "1", "--xtc-threshold", "0.05"],
        &["--dynatemp-range", "0.7", "--dynatemp-exp", "0.5"],
        &["--dry-multiplier", "5", "--dry-base", "3", "--dry-allowed-length", "1", "--dry-penalty-last-n", "-1"],
        &["--mirostat", "2", "--mirostat-ent", "2", "--mirostat-lr", "0.3"],
        &["--no-repeat-ngram", "2"],
        &["--samplers", "temperature"],
    ] {
        assert_ne!(run(on).ok(), plain, "{on:?}");
    }
    let banned = run(&["--ban", " the", "--ban", "e"]).ok();
    assert!(!banned[PROMPT.len()..].contains('e') && banned != plain, "{banned}");
    let wrong = run(&["--samplers", "top_k;warmth"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("warmth") && wrong.stderr.contains("typ_p"), "{}", wrong.stderr);
    let wrong = run(&["--typical", "2"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("typical_p is 2, but must be from 0 to 1"), "{}", wrong.stderr);
}

#[test]
fn the_prompt_may_come_from_anywhere() {
    let args = ["-n", "8", "--temp", "0", "--json"];
    let expected = quipu(["run", "demo", PROMPT].iter().chain(&args)).json();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prompt.txt");
    std::fs::write(&file, PROMPT).unwrap();
    let from_file = quipu(["run", "demo", "-f", file.to_str().unwrap()].iter().chain(&args)).json();
    let from_pipe = quipu_with_input(["run", "demo"].iter().chain(&args), PROMPT).json();
    // A line end at the end is the editor's, or echo's.
    let with_line_end = quipu_with_input(["run", "demo"].iter().chain(&args), &format!("{PROMPT}\n")).json();
    std::fs::write(&file, format!("{PROMPT}\r\n")).unwrap();
    let from_windows = quipu(["run", "demo", "-f", file.to_str().unwrap()].iter().chain(&args)).json();
    let two = quipu_with_input(["run", "demo"].iter().chain(&args), &format!("{PROMPT}\n\n")).json();
    assert_eq!(two["prompt"], format!("{PROMPT}\n"), "one does not count, another does");
    for got in [from_file, from_pipe, with_line_end, from_windows] {
        assert_eq!((&got["prompt"], &got["tokens"]), (&expected["prompt"], &expected["tokens"]));
    }
    let twice = quipu(["run", "demo", PROMPT, "-f", file.to_str().unwrap()]);
    assert!(twice.code == 2 && twice.stderr.contains("twice"), "{}", twice.stderr);
    std::fs::write(&file, b"caf\xe9").unwrap();
    let ended = quipu(["run", "demo", "-f", file.to_str().unwrap(), "-n", "1"]);
    assert!(
        ended.code == 0 && ended.stderr.starts_with("warning: ") && ended.stderr.contains("UTF-8"),
        "{}",
        ended.stderr
    );
}

/// What llama.cpp's users write.
#[test]
fn numbers_that_stand_for_none_or_the_models_own() {
    let json = |more: &[&str]| quipu(["run", "demo", PROMPT, "-n", "8", "--json"].iter().chain(more)).json();
    assert_eq!(json(&["--temp", "0", "-c", "0"])["tokens"], json(&["--temp", "0"])["tokens"]);
    assert_ne!(json(&["--seed", "-1"])["seed"], json(&["--seed", "-1"])["seed"]);
    assert_eq!(quipu(["run", "demo", PROMPT, "--seed", "-2"]).code, 2);
}

#[test]
fn a_seed_fixes_the_text_whatever_the_machine_does() {
    let text = |more: &[&str]| -> Json {
        let args = ["run", "demo", PROMPT, "-n", "24", "--temp", "1", "--json"];
        quipu(args.iter().chain(more)).json()["tokens"].take()
    };
    let expected = text(&["--seed", "1"]);
    assert_eq!(text(&["--seed", "1"]), expected);
    assert_eq!(text(&["--seed", "1", "-t", "1"]), expected);
    assert_eq!(text(&["--seed", "1", "--isa", "portable"]), expected);
    assert_ne!(text(&["--seed", "2"]), expected);
    assert_ne!(text(&[]), text(&[]), "without --seed each run is new");
}

#[test]
fn the_instruction_set_can_be_forced_by_flag_and_variable() {
    let args = ["run", "demo", PROMPT, "-n", "2", "-v"];
    let said = quipu(args.iter().chain(&["--isa", "portable"])).stderr;
    assert!(said.contains("portable"), "{said}");
    let mut by_variable = command(args);
    by_variable.env("QUIPU_ISA", "portable");
    let said = ended(by_variable).stderr;
    assert!(said.contains("portable"), "{said}");
    let mut unknown = command(["run", "demo", PROMPT]);
    unknown.env("QUIPU_ISA", "mmx");
    let message = ended(unknown).error();
    assert!(message.contains("QUIPU_ISA") && message.contains("mmx") && message.contains("portable"), "{message}");
}

#[test]
fn a_text_ends_where_it_is_told() {
    let args = ["run", "demo", PROMPT, "-n", "30", "--temp", "0", "--no-echo"];
    let full = quipu(args).ok();
    let words: Vec<&str> = full.split(' ').collect();
    let stop = format!("{} {}", words[4], words[5]);
    let json = quipu(args.iter().chain(&["--json", "--stop", &stop])).json();
    assert_eq!(json["stop"], "stop");
    assert_eq!(json["text"].as_str().unwrap(), full[..full.find(&stop).unwrap()].to_string());

    let tokens = quipu(args.iter().chain(&["--json"])).json()["tokens"].take();
    let token = tokens[3]["id"].to_string();
    let json = quipu(args.iter().chain(&["--json", "--stop-token", &token])).json();
    assert_eq!(json["stop"], "end");
    let first = tokens.as_array().unwrap().iter().position(|t| t["id"] == tokens[3]["id"]).unwrap();
    assert_eq!(json["tokens"].as_array().unwrap(), &tokens.as_array().unwrap()[..first]);

    let none = quipu(["run", "demo", PROMPT, "-n", "0", "--json"]).json();
    assert_eq!((&none["text"], &none["stop"]), (&"".into(), &"limit".into()));
    assert_eq!(ids(&none["tokens"]).len(), 0);

    // 5 tokens of prompt, and every token written but the last takes a place, too.
    let short = quipu(["run", "demo", PROMPT, "-n", "-1", "-c", "9", "--temp", "0", "--json"]).json();
    assert_eq!(short["stop"], "context");
    assert_eq!(ids(&short["tokens"]).len(), 5);
}

#[test]
fn special_tokens_may_be_written_or_not() {
    let prefill = |more: &[&str]| {
        let args = ["run", "demo", "<|begin_of_text|>Once", "-n", "0", "--json"];
        quipu(args.iter().chain(more)).json()["timings"]["prefill"]["tokens"].as_u64().unwrap()
    };
    assert_eq!(prefill(&[]), 2, "one BOS, never two");
    assert!(prefill(&["--plain"]) > 5);
}

/// `quipu run … | head -1`: the reader goes away, and that is no failure.
#[test]
fn a_closed_pipe_ends_it_silently() {
    let mut child = command(["run", "demo", PROMPT, "-n", "-1", "-c", "4000", "--temp", "0"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 20]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[cfg(unix)]
#[test]
fn signals_keep_what_there_is() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        // At temperature 0 this text has no end; others may end before the signal.
        let args = ["run", "demo", PROMPT, "-n", "-1", "-c", "100000", "--stop", "\u{1}", "--temp", "0"];
        let mut child = crate::listening(args).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 40]).unwrap();
        kill(signal, &child);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(code), String::new()));
        assert!(rest.ends_with('\n'));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let mut run = command(["run", "demo", PROMPT, "-n", "2"]);
    run.stdout(Stdio::from(std::fs::File::create("/dev/full").unwrap()));
    let message = ended(run).error();
    assert!(message.contains("stdout") && message.contains("No space left"), "{message}");
}

#[test]
fn talk_is_for_those_who_watch() {
    let args = ["run", "demo", PROMPT, "-n", "4"];
    assert_eq!(quipu(args).stderr, "", "stderr is no terminal");
    let said = quipu(args.iter().chain(&["--verbose"])).stderr;
    for word in ["load", "prefill", "decode", "threads", "seed"] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
}

#[test]
fn an_answer_has_the_shape_that_is_asked_for() {
    let run = |options: &[&str]| {
        let arguments = ["run", "demo", PROMPT, "--no-echo", "--seed", "4", "-n", "200"];
        quipu(arguments.iter().chain(options).copied())
    };
    let schema = r#"{"type": "array", "items": {"type": "integer", "maximum": 99, "minimum": 10}, "minItems": 2, "maxItems": 3}"#;
    let list: Vec<u8> = serde_json::from_str(&run(&["--schema", schema]).ok()).unwrap();
    assert!((2..=3).contains(&list.len()) && list.iter().all(|n| (10..=99).contains(n)), "{list:?}");
    let dir = tempfile::tempdir().unwrap();
    let (file, grammar) = (dir.path().join("schema.json"), dir.path().join("a.gbnf"));
    std::fs::write(&file, schema).unwrap();
    std::fs::write(&grammar, "root ::= \"so\" \" so\"{2}").unwrap();
    assert_eq!(run(&["--schema", file.to_str().unwrap()]).ok().trim().as_bytes()[0], b'[');
    assert_eq!(run(&["--grammar", grammar.to_str().unwrap()]).ok(), "so so so\n");
    let text = run(&["--regex", "[a-z]{3}(, [a-z]{3}){2}"]).ok();
    assert!(text.trim_end().split(", ").all(|word| word.len() == 3), "{text}");
    // What is wrong with it is said before anything is written.
    for (options, words) in [
        (&["--schema", r#"{"uniqueItems": true}"#][..], "#/uniqueItems"),
        (&["--schema", "{"], "no JSON"),
        (&["--schema", "/no/such/file"], "/no/such/file"),
        (&["--regex", "("], "regular expression"),
    ] {
        let error = run(options).error();
        assert!(error.contains(words), "{options:?}: {error}");
    }
}
