use std::path::Path;

use quipu_formats::gguf::{GgufFile, GgufWriter, Metadata, Value};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;
use serde_json::Value as Json;

use crate::{quipu, tales};

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn greedy(model: &Path) -> Json {
    quipu(["run", arg(model), "Once upon a time", "-n", "16", "--temp", "0", "--json"]).json()["tokens"].take()
}

fn tensor(inspected: &Json, name: &str) -> Json {
    let tensors = inspected["tensors"].as_array().unwrap();
    tensors.iter().find(|t| t["name"] == name).unwrap_or_else(|| panic!("{name} is missing")).clone()
}

/// The whole way: checkpoint → GGUF → smaller → packed; every one runs, and the packed one gives the same numbers as
/// the plain one.
#[test]
fn a_checkpoint_becomes_files_that_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (full, small, packed, direct) = (path("bf16.gguf"), path("q4.gguf"), path("q4.quipu"), path("direct.quipu"));
    quipu(["convert", arg(tales()), "-o", arg(&full)]).ok();
    quipu(["quantize", arg(&full), arg(&small), "--type", "q4_0"]).ok();
    quipu(["pack", arg(&small), arg(&packed)]).ok();
    quipu(["convert", arg(tales()), "-o", arg(&direct), "--type", "Q4_0", "--packed"]).ok();

    assert_eq!(greedy(&full), greedy(tales()), "a directory runs as the file made from it");
    let expected = greedy(&small);
    assert_ne!(expected, greedy(&full));
    assert_eq!(greedy(&packed), expected);
    assert_eq!(greedy(&direct), expected);

    let inspect = |file: &Path| quipu(["inspect", arg(file), "--json"]).json();
    let (full, small, packed) = (inspect(&full), inspect(&small), inspect(&packed));
    let q = "blk.0.attn_q.weight";
    assert_eq!(
        (&tensor(&full, q)["type"], &tensor(&full, q)["shape"]),
        (&"BF16".into(), &serde_json::json!([256, 256]))
    );
    assert_eq!((&tensor(&small, q)["type"], &tensor(&small, q)["layout"]), (&"Q4_0".into(), &"plain".into()));
    assert_eq!((&tensor(&packed, q)["type"], &tensor(&packed, q)["layout"]), (&"Q4_0".into(), &"packed".into()));
    assert_eq!(tensor(&small, q)["bytes"], 256 * 256 / 32 * 18);
    assert_eq!(full["parameters"], small["parameters"]);
    assert!(small["bits_per_weight"].as_f64().unwrap() < 7.0 && full["bits_per_weight"].as_f64().unwrap() > 15.9);
    for report in [&full, &small, &packed] {
        assert_eq!(report["metadata"]["general.architecture"], "llama");
    }
}

/// A checkpoint whose texts would be cut otherwise than they should, or not at all: an error before any work, whatever
/// is to be written.
#[test]
fn a_checkpoint_that_cannot_be_used_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(tales()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
    }
    let tokenizer = model.join("tokenizer.json");
    let whole: Json = serde_json::from_slice(&std::fs::read(&tokenizer).unwrap()).unwrap();
    let out = dir.path().join("out.gguf");
    let scripts =
        serde_json::json!({"type": "Sequence", "pretokenizers": [{"type": "UnicodeScripts"}, whole["pre_tokenizer"]]});
    for (key, value, message) in [
        ("normalizer", serde_json::json!({"type": "Nmt"}), "the normalizer Nmt"),
        ("pre_tokenizer", scripts, "the pre-tokenizer UnicodeScripts"),
    ] {
        let mut json = whole.clone();
        json[key] = value;
        std::fs::write(&tokenizer, json.to_string()).unwrap();
        for more in [&[][..], &["--type", "q4_0"], &["--packed"], &["--split-size", "3M"]] {
            std::fs::write(&out, "precious").unwrap();
            let args = [&["convert", arg(&model), "-o", arg(&out)], more].concat();
            let error = quipu(args).error();
            assert!(error.contains(message), "{error}");
            assert_eq!(std::fs::read(&out).unwrap(), b"precious", "{more:?}");
        }
    }
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// The model in the binary is the one that the command in `models/README.md` makes, to the byte.
#[test]
fn the_demo_model_is_what_its_readme_says() {
    let models = tales().parent().unwrap();
    let readme = std::fs::read_to_string(models.join("README.md")).unwrap();
    let command = readme.lines().find_map(|line| line.strip_prefix("quipu convert ")).expect("the command");
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("tales.gguf");
    let args = command.split_whitespace().map(|word| match word {
        "models/tales" => arg(tales()),
        "models/tales.gguf" => arg(&made),
        option => option,
    });
    quipu(std::iter::once("convert").chain(args)).ok();
    assert!(std::fs::read(made).unwrap() == std::fs::read(models.join("tales.gguf")).unwrap());
}

#[test]
fn inspect_shows_every_kind_of_file() {
    let safetensors = tales().join("model.safetensors");
    let raw = quipu(["inspect", arg(&safetensors), "--json"]).json();
    let directory = quipu(["inspect", arg(tales()), "--json"]).json();
    let demo = quipu(["inspect", "demo", "--json"]).json();
    assert_eq!(raw["format"], "safetensors");
    let raw_q = tensor(&raw, "model.layers.0.mlp.gate_proj.weight");
    assert_eq!((&raw_q["type"], &raw_q["shape"]), (&"BF16".into(), &serde_json::json!([768, 256])));
    assert_eq!(tensor(&directory, "blk.0.ffn_gate.weight")["shape"], serde_json::json!([256, 768]));
    let torch = tales().join("../../tests/data/torch/views.pt");
    let torch = quipu(["inspect", arg(&torch), "--json"]).json();
    assert_eq!(torch["format"], "PyTorch checkpoint");
    let (whole, turned) = (tensor(&torch, "whole"), tensor(&torch, "transposed"));
    assert_eq!(
        (&whole["type"], &whole["layout"], &turned["layout"]),
        (&"F32".into(), &"plain".into(), &"strided".into())
    );
    assert_eq!(turned["shape"], serde_json::json!([10, 12]));
    for key in ["general.architecture", "llama.block_count", "llama.rope.freq_base", "tokenizer.ggml.bos_token_id"] {
        assert!(!demo["metadata"][key].is_null());
        assert_eq!(directory["metadata"][key], demo["metadata"][key]);
    }
    // Long arrays are cut, and whole on request.
    let tokens = &demo["metadata"]["tokenizer.ggml.tokens"];
    assert_eq!((&tokens["length"], tokens["first"].as_array().unwrap().len()), (&8192.into(), 8));
    let all = quipu(["inspect", "demo", "--json", "--all"]).json();
    assert_eq!(all["metadata"]["tokenizer.ggml.tokens"].as_array().unwrap().len(), 8192);
    let table = quipu(["inspect", "demo"]).ok();
    assert!(table.contains("blk.7.ffn_down.weight") && table.contains("bits per weight"), "{table}");
    assert!(table.lines().all(|l| l.chars().count() < 300), "long values are cut");
}

/// What a file says reaches no terminal as a command, whether it is shown or complained about.
#[test]
fn names_from_files_are_shown_and_not_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("\u{1b}]0;title\u{7}.gguf");
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("\u{1b}[2J\u{9b}31m".into()));
    metadata.set("a\u{1b}[31mkey", Value::String("\u{1b}[2Jvalue\u{202e}".into()));
    let tensor = TensorInfo::new("a\u{1b}[31mname", Encoding::Plain(TensorType::F32), vec![1]);
    let mut writer = GgufWriter::create(&file, None, &metadata, &[tensor]).unwrap();
    writer.write_tensor_part(&[0; 4]).unwrap();
    writer.finish().unwrap();
    let shown = quipu(["inspect", arg(&file)]).ok();
    assert!(shown.contains(r"a\u{1b}[31mkey") && shown.contains(r"a\u{1b}[31mname"), "{shown}");
    let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    let texts =
        [shown, quipu(["run", arg(&file), "x"]).error(), quipu(["pack", arg(&file), "no/such/a\u{1b}[2J"]).error()];
    for text in texts {
        assert!(!text.contains(bad), "{text:?}");
    }
}

#[test]
fn a_failed_run_leaves_the_old_output_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.gguf");
    std::fs::write(&output, "precious").unwrap();
    let broken = dir.path().join("broken.gguf");
    std::fs::write(&broken, "GGUF\x03\0\0\0 and then nonsense").unwrap();
    for command in
        [&["quantize", arg(&broken), arg(&output), "--type", "q8_0"][..], &["pack", arg(&broken), arg(&output)]]
    {
        let message = quipu(command).error();
        assert!(message.contains("broken.gguf"), "{message}");
    }
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.gguf");
    quipu(["convert", arg(tales()), "-o", arg(&file)]).ok();
    let before = std::fs::read(&file).unwrap();
    assert!(quipu(["quantize", arg(&file), arg(&file), "--type", "q8_0"]).error().contains("same file"));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let nowhere = dir.path().join("no/such/dir/b.gguf");
    assert!(quipu(["pack", arg(&file), arg(&nowhere)]).error().contains("no/such/dir"));
    assert!(quipu(["pack", arg(&file), arg(dir.path())]).error().contains("directory"));
}

#[test]
fn requantising_warns() {
    let dir = tempfile::tempdir().unwrap();
    let (eight, four) = (dir.path().join("8.gguf"), dir.path().join("4.gguf"));
    quipu(["convert", arg(tales()), "-o", arg(&eight), "--type", "q8_0"]).ok();
    let ended = quipu(["quantize", arg(&eight), arg(&four), "--type", "q4_0"]);
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.starts_with("warning: ") && ended.stderr.contains("Q8_0 to Q4_0"), "{}", ended.stderr);
    assert_eq!(quipu(["quantize", arg(&eight), arg(&four), "--type", "q4_0", "-q"]).ok(), "");
}

#[cfg(unix)]
#[test]
fn signals_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("a.gguf");
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        // The conversion may be done before the signal comes; then it was too fast, and is tried again.
        let caught = (0..100).any(|_| {
            let child =
                crate::listening(["convert", arg(tales()), "-o", arg(&output), "--type", "f32"]).spawn().unwrap();
            while std::fs::read_dir(dir.path()).unwrap().count() == 0 {
                std::thread::yield_now();
            }
            crate::kill(signal, &child);
            let ended = child.wait_with_output().unwrap();
            let left = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
            match ended.status.code() {
                Some(0) => assert_eq!(left, std::slice::from_ref(&output)),
                other => assert_eq!((other, left.as_slice()), (Some(code), &[][..]), "{signal}"),
            }
            std::fs::remove_file(&output).is_err()
        });
        if !caught {
            eprintln!("SKIPPED: {signal} never came before the conversion was done");
        }
    }
}

/// A context that holds fewer tokens than the texts of a calibration usually have makes them shorter.
#[test]
fn a_model_with_a_short_context_is_calibrated_too() {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tiny-llama2-f16"));
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    let short = config.replace(r#""max_position_embeddings": 2048"#, r#""max_position_embeddings": 64"#);
    assert_ne!(short, config);
    std::fs::write(dir.path().join("config.json"), short).unwrap();
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");
    for calibrate in ["", "--calibrate", &format!("--calibrate={text}")] {
        let out = dir.path().join("q8_0.gguf");
        let calibrate = Some(calibrate).filter(|option| !option.is_empty());
        quipu(["quantize", arg(dir.path()), arg(&out), "--type", "q8_0"].into_iter().chain(calibrate)).ok();
        assert!(GgufFile::open(&out).is_ok());
    }
}

/// A calibration lowers the divergence on the text that it was made from, and a model with other rows refuses it.
#[test]
fn an_importance_matrix_helps_its_own_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (full, blind, seeing, imatrix) =
        (path("bf16.gguf"), path("blind.gguf"), path("seeing.gguf"), path("of.imatrix"));
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");
    quipu(["convert", arg(tales()), "-o", arg(&full)]).ok();
    quipu(["imatrix", arg(&full), "-f", text, "-o", arg(&imatrix), "-c", "256", "-q"]).ok();
    quipu(["quantize", arg(&full), arg(&blind), "--type", "q4_k_m", "--no-calibrate"]).ok();
    quipu(["quantize", arg(&full), arg(&seeing), "--type", "q4_k_m", "--imatrix", arg(&imatrix)]).ok();
    let divergence = |model: &Path| {
        let report = quipu(["perplexity", arg(model), "--kl", arg(&full), "-f", text, "-c", "256", "--json"]).json();
        report["kl"].as_f64().unwrap()
    };
    // What the model writes itself resembles this text in nothing.
    let own = path("own.gguf");
    quipu(["quantize", arg(&full), arg(&own), "--type", "q4_k_m", "--calibrate"]).ok();
    let (blind, seeing, own) = (divergence(&blind), divergence(&seeing), divergence(&own));
    assert!(seeing < 0.8 * blind, "{seeing} with, {blind} without");
    assert!(own < 0.85 * blind, "{own} by its own text, {blind} without");

    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
    let nothing = path("nothing.gguf");
    let message = quipu(["quantize", other, arg(&nothing), "--type", "q8_0", "--imatrix", arg(&imatrix)]).error();
    assert!(message.contains("of.imatrix") && message.contains("columns"), "{message}");
    assert!(!nothing.exists());
}

/// A calibration is the same on every machine, and whether it takes the way over a file or not.
#[test]
fn a_calibration_is_the_same_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");
    let quantized = |isa: Option<&str>, options: &[&str]| {
        let output = path("out.gguf");
        let mut command =
            crate::command([&["quantize", model, arg(&output), "--type", "q5_1", "-q"], options].concat());
        isa.map(|isa| command.env("QUIPU_ISA", isa));
        crate::ended(command).ok();
        std::fs::read(output).unwrap()
    };
    let own = quantized(None, &["--calibrate"]);
    assert!(own == quantized(Some("portable"), &["--calibrate"]));
    assert!(own != quantized(None, &[]));

    let (imatrix, calibrate) = (path("of.imatrix"), format!("--calibrate={text}"));
    quipu(["imatrix", model, "-f", text, "-o", arg(&imatrix), "-c", "512", "-q"]).ok();
    let by_text = quantized(None, &[&calibrate]);
    assert!(by_text == quantized(None, &["--imatrix", arg(&imatrix)]) && by_text != own);

    let message = quipu(["quantize", model, "no.gguf", "--type", "q8_0", "--calibrate=no such text"]).error();
    assert!(message.contains("no such text"), "{message}");
    let message = quipu(["convert", model, "-o", "no.gguf", "--calibrate"]).error();
    assert!(message.contains("nothing to calibrate for"), "{message}");
}

/// Without being asked the errors of weights make each other good, by what the matrices meet on tokens drawn at random.
#[test]
fn rounding_knows_what_the_matrices_meet() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");
    let full = path("bf16.gguf");
    quipu(["convert", arg(tales()), "-o", arg(&full)]).ok();
    let quantized = |ty: &str, options: &[&str]| {
        let file = path(&format!("{ty}{}.gguf", options.concat()));
        quipu([&["quantize", arg(&full), arg(&file), "--type", ty], options].concat()).ok();
        file
    };
    let divergence = |model: &Path| {
        let report = quipu(["perplexity", arg(model), "--kl", arg(&full), "-f", text, "-c", "256", "--json"]).json();
        report["kl"].as_f64().unwrap()
    };
    for ty in ["q4_0", "q4_k_m", "q3_k_m"] {
        let (seeing, blind) = (quantized(ty, &[]), quantized(ty, &["--no-calibrate"]));
        assert_eq!(std::fs::metadata(&seeing).unwrap().len(), std::fs::metadata(&blind).unwrap().len());
        let (seeing, blind) = (divergence(&seeing), divergence(&blind));
        assert!(seeing < 0.9 * blind, "{ty}: {seeing}, {blind} without running the model");
    }
    // Nothing is to be gained, so nothing is run.
    assert!(
        std::fs::read(quantized("q8_0", &[])).unwrap()
            == std::fs::read(quantized("q8_0", &["--no-calibrate"])).unwrap()
    );
    let (packed, direct) = (path("packed.quipu"), quantized("q4_0", &["--packed"]));
    quipu(["pack", arg(&quantized("q4_0", &[])), arg(&packed)]).ok();
    assert!(std::fs::read(direct).unwrap() == std::fs::read(packed).unwrap());
}

/// A model that does not run here is quantised all the same, and the user is told what it lacks.
#[test]
fn a_model_that_does_not_run_is_quantised() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (whole, part) = (path("whole.gguf"), path("part.gguf"));
    quipu(["convert", arg(tales()), "-o", arg(&whole)]).ok();
    let source = GgufFile::open(&whole).unwrap();
    let kept = || source.tensors().iter().enumerate().filter(|(_, t)| t.name != "blk.3.ffn_norm.weight");
    let tensors: Vec<_> = kept().map(|(_, t)| t.clone()).collect();
    let mut writer = GgufWriter::create(&part, None, source.metadata(), &tensors).unwrap();
    kept().for_each(|(i, t)| writer.write_tensor_part(&source.rows(i, 0..t.rows())).unwrap());
    writer.finish().unwrap();

    let (told, silent) = (path("told.gguf"), path("silent.gguf"));
    let ended = quipu(["quantize", arg(&part), arg(&told), "--type", "q4_0"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("blk.3.ffn_norm.weight") && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    let ended = quipu(["quantize", arg(&part), arg(&silent), "--type", "q4_0", "--no-calibrate"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(std::fs::read(told).unwrap() == std::fs::read(silent).unwrap());
}
