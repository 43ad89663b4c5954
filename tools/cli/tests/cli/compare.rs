//! `quipu compare`: the figures are those of `perplexity`, the sizes those of the files, and nothing is left half done.

use std::path::{Path, PathBuf};

use crate::{quipu, tales};

/// A text, the demo model in F16 and two smaller types.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let files = Files { dir: tempfile::tempdir().unwrap() };
        let words = "The fox went out on a chilly night, and he prayed for the moon to give him light. ".repeat(8);
        std::fs::write(files.path("text.txt"), words).unwrap();
        quipu(["convert", tales().to_str().unwrap(), "-o", &files.text("full.gguf"), "--type", "f16"]).ok();
        for ty in ["q8_0", "q4_0"] {
            let out = files.text(&format!("{ty}.gguf"));
            quipu(["quantize", &files.text("full.gguf"), &out, "--type", ty]).ok();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    /// Compares `models`, files of this directory, with more options.
    fn compare(&self, models: &[&str], more: &[&str]) -> crate::Ended {
        let mut args: Vec<String> = vec!["compare".into()];
        args.extend(models.iter().map(|name| self.text(name)));
        args.extend(["-f", &self.text("text.txt"), "-c", "32"].map(String::from));
        args.extend(more.iter().map(|s| s.to_string()));
        quipu(args)
    }
}

#[test]
fn the_figures_are_those_of_perplexity() {
    let files = Files::new();
    let models = ["q4_0.gguf", "full.gguf", "q8_0.gguf"];
    let json = files.compare(&models, &["--no-speed", "--json"]).json();
    assert_eq!(json["base"].as_str(), Some(files.text("full.gguf").as_str()));
    assert_eq!(json["base_chosen_by"], "the most bits per weight");
    assert_eq!(json["files"].as_array().unwrap().len(), 3);
    for (row, name) in json["files"].as_array().unwrap().iter().zip(models) {
        let path = files.text(name);
        assert_eq!(row["file"].as_str(), Some(path.as_str()));
        assert_eq!(row["bytes"].as_u64().unwrap(), std::fs::metadata(&path).unwrap().len());
        let inspected = quipu(["inspect", &path, "--json"]).json();
        assert_eq!(row["bits_per_weight"], inspected["bits_per_weight"]);
        let shares: f64 = row["types"].as_array().unwrap().iter().map(|t| t["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{row}");

        let text = files.text("text.txt");
        let args = ["perplexity", &path, "-f", &text, "-c", "32", "--chunks", "20", "--json"];
        let full = files.text("full.gguf");
        let expected = quipu(args.iter().chain(&["--kl", &full])).json();
        assert_eq!((&row["ppl"], &row["error"]), (&expected["ppl"], &expected["error"]));
        assert_eq!((&json["tokens"], &json["chunks"]), (&expected["tokens"], &expected["chunks"]));
        for key in ["kl", "kl_error", "kl_99", "same_top", "same_top_error"] {
            let expected = if name == "full.gguf" { &serde_json::Value::Null } else { &expected[key] };
            assert_eq!(&row[key], expected, "{key} of {name}");
        }
        assert!(row["decode_tokens_per_s"].is_null() && row["prefill_tokens_per_s"].is_null());
    }
}

#[test]
fn a_base_may_be_another_file_and_speeds_are_measured() {
    let files = Files::new();
    let base = files.text("q8_0.gguf");
    let more = ["--base", &base, "-p", "8", "-n", "4", "-r", "1", "-t", "1", "--chunks", "2", "--json"];
    let json = files.compare(&["q4_0.gguf"], &more).json();
    assert_eq!((json["base"].as_str(), json["base_chosen_by"].as_str()), (Some(base.as_str()), Some("--base")));
    let [first, second] = json["files"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert!(first["kl"].is_null() && second["kl"].as_f64().unwrap() > 0.0, "{json}");
    for row in [first, second] {
        for key in ["decode_tokens_per_s", "prefill_tokens_per_s"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{row}");
        }
    }
}

#[test]
fn the_table_has_a_line_for_every_file() {
    let files = Files::new();
    let text = files.compare(&["full.gguf", "q4_0.gguf"], &["--no-speed", "--chunks", "2"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("file ") && lines[0].ends_with("same top"), "{text}");
    assert!(lines[1].starts_with("full.gguf ") && lines[1].contains(" base"), "{text}");
    assert!(lines[2].starts_with("q4_0.gguf ") && lines[2].contains("Q4_0") && lines[2].contains("Q6_K"), "{text}");
    assert!(lines[4].starts_with("30 predicted tokens; base: ") && lines[4].contains("full.gguf"), "{text}");
    assert_eq!(lines.len(), 5, "{text}");
    let with_speed = files.compare(&["q8_0.gguf"], &["-p", "4", "-n", "4", "-r", "1", "--chunks", "2"]).ok();
    assert!(with_speed.lines().next().unwrap().ends_with("decode/s"), "{with_speed}");
}

#[test]
fn the_plot_has_every_file_but_the_base() {
    let files = Files::new();
    let plot = files.text("plot.svg");
    files.compare(&["full.gguf", "q8_0.gguf", "q4_0.gguf"], &["--no-speed", "--chunks", "2", "--plot", &plot]).ok();
    let svg = std::fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.matches("<circle ").count() == 2, "{svg}");
    assert!(
        svg.contains("q8_0.gguf") && svg.contains("q4_0.gguf") && svg.contains("Divergence from full.gguf"),
        "{svg}"
    );
}

#[test]
fn what_cannot_be_compared_is_said_in_one_line() {
    let files = Files::new();
    let names = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    let before = names(files.dir.path());
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
    for (models, more, word) in [
        (&["q8_0.gguf", "no-such.gguf"][..], &[][..], "no-such.gguf"),
        (&["q8_0.gguf"], &["--base", tiny], "vocabulary"),
        (&["q8_0.gguf"], &["--plot", "/no/such/directory/a.svg"], "/no/such/directory"),
        (&["q8_0.gguf"], &["--no-speed", "--plot", &files.text("a.svg")], "nothing to plot"),
        (&["q8_0.gguf"], &["--chunks", "0"], "--chunks 0"),
    ] {
        let message = files.compare(models, more).error();
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(names(files.dir.path()), before, "something was left behind");
    assert_eq!(files.compare(&["q8_0.gguf"], &["-n", "0"]).code, 2);
    assert_eq!(quipu(["compare"]).code, 2);
}

/// No number of tokens is too large to be refused in a sentence.
#[test]
fn prompts_without_room_are_errors() {
    const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");
    for (option, number) in [("-p", "18446744073709551615"), ("-n", "4000000000000000000")] {
        let message = quipu(["compare", "demo", "-f", TEXT, "-c", "16", "--chunks", "1", option, number]).error();
        assert!(message.contains("of memory, but"), "{message}");
    }
}
