//! What the program writes and prints is what the library gives: whoever calls that gets the same rounding.

use std::path::Path;

use quipu_formats::convert::{Mix, Rounding, TensorRule, TypeRule};
use quipu_formats::imatrix::Imatrix;
use quipu_measure::{
    CalibrateOn, CompareOptions, ImatrixOptions, ModelFile, Monitor, PerplexityOptions, QuantizeOptions, Types,
    compare, imatrix, kl_divergence, perplexity, quantize,
};
use quipu_quant::TensorType;
use quipu_runtime::{Engine, LoadOptions, open};
use serde::Serialize;
use serde_json::Value as Json;

use crate::{quipu, tales};

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn engine(name: &str) -> Engine {
    Engine::load(open(name).unwrap(), &LoadOptions::default(), &|_, _| {}).unwrap()
}

/// What the program would print of `value`, read as what it prints is read.
fn printed_as(value: &impl Serialize) -> Json {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

#[test]
fn the_bytes_of_a_quantised_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (full, of) = (path("bf16.gguf"), path("of.imatrix"));
    quipu(["convert", arg(tales()), "-o", arg(&full)]).ok();
    quipu(["imatrix", STORIES, "-f", TEXT, "-o", arg(&of), "-q"]).ok();
    let text = std::fs::read_to_string(TEXT).unwrap();
    let by_text = format!("--calibrate={TEXT}");
    let read = CalibrateOn::Imatrix(Imatrix::read(&of).unwrap().into());
    let rule = TensorRule { pattern: "attn_v".into(), ty: TensorType::Q8_0 };
    let options = |types: Types, calibrate_on: CalibrateOn, change: fn(&mut QuantizeOptions)| {
        let mut options = QuantizeOptions::new(types);
        options.calibrate_on = calibrate_on;
        change(&mut options);
        options
    };
    let (q5_1, mix) = (Types::Rule(TypeRule::To(TensorType::Q5_1)), Types::Rule(TypeRule::Mix(Mix::Q4_K_M)));
    let as_it_is: fn(&mut QuantizeOptions) = |_| {};
    let cases: [(&str, &[&str], QuantizeOptions); 8] = [
        (arg(&full), &["--type", "q4_k_m"], QuantizeOptions::new(mix)),
        (STORIES, &["--type", "q5_1", "--packed"], options(q5_1, CalibrateOn::RandomTokens, |o| o.packed = true)),
        (STORIES, &["--type", "q5_1", "--no-calibrate"], options(q5_1, CalibrateOn::Nothing, as_it_is)),
        (
            STORIES,
            &["--type", "q8_0", "--rounding", "plain"],
            options(TypeRule::To(TensorType::Q8_0).into(), CalibrateOn::RandomTokens, |o| {
                o.rounding = Rounding::Plain;
            }),
        ),
        (STORIES, &["--type", "q5_1", "--calibrate"], options(q5_1, CalibrateOn::OwnText, as_it_is)),
        (STORIES, &["--type", "q5_1", &by_text], options(q5_1, CalibrateOn::Text(text), as_it_is)),
        (STORIES, &["--type", "q5_1", "--imatrix", arg(&of)], options(q5_1, read, as_it_is)),
        (STORIES, &["--target-bits", "8", "--tensor", "attn_v=q8_0"], {
            let mut options = QuantizeOptions::new(Types::Bits(8.0));
            options.tensors.push(rule);
            options
        }),
    ];
    let (by_program, by_library) = (path("program.gguf"), path("library.gguf"));
    for (model, args, options) in cases {
        quipu([&["quantize", model, arg(&by_program), "-q"], args].concat()).ok();
        let written = quantize(open(model).unwrap(), &by_library, &options, &Monitor::silent()).unwrap();
        assert!(std::fs::read(&by_program).unwrap() == std::fs::read(&by_library).unwrap(), "{args:?}");
        assert_eq!(written.file.bytes, std::fs::metadata(&by_library).unwrap().len());
        assert_eq!(written.chosen.is_some(), args[0] == "--target-bits");
        assert!(written.not_calibrated.is_none());
    }
}

#[test]
fn an_importance_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let (by_program, by_library) = (dir.path().join("program.imatrix"), dir.path().join("library.imatrix"));
    quipu(["imatrix", STORIES, "-f", TEXT, "-o", arg(&by_program), "-c", "64", "--chunks", "3"]).ok();
    let mut options = ImatrixOptions::default();
    (options.context, options.chunks, options.datasets) = (64, Some(3), vec![TEXT.into()]);
    let text = std::fs::read_to_string(TEXT).unwrap();
    let found = imatrix(&mut engine(STORIES), &text, &options, &Monitor::silent()).unwrap();
    found.write(&by_library, &quipu_formats::output::Inputs::new()).unwrap();
    assert!(std::fs::read(by_program).unwrap() == std::fs::read(by_library).unwrap());
}

#[test]
fn the_figures_of_perplexity_and_compare() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small.gguf");
    quipu(["quantize", STORIES, arg(&small), "--type", "q5_1", "-q"]).ok();
    let text = std::fs::read_to_string(TEXT).unwrap();
    let mut options = PerplexityOptions::default();
    (options.context, options.chunks) = (64, Some(4));
    let common = ["-f", TEXT, "-c", "64", "--chunks", "4", "--json"];
    let printed = |args: &[&str]| quipu([args, &common].concat()).json();
    let monitor = Monitor::silent();

    let found = perplexity(&mut engine(arg(&small)), &text, &options, &monitor).unwrap();
    assert_eq!(printed(&["perplexity", arg(&small)]), printed_as(&found));
    let found = kl_divergence(&mut engine(arg(&small)), &mut engine(STORIES), &text, &options, &monitor).unwrap();
    assert_eq!(printed(&["perplexity", arg(&small), "--kl", STORIES]), printed_as(&found));

    let files = [arg(&small), STORIES].map(|name| ModelFile::open(name).unwrap());
    let mut options = CompareOptions::default();
    (options.context, options.chunks, options.speed) = (64, 4, None);
    let found = compare(&files, ModelFile::most_precise(&files), &text, &options, &monitor).unwrap();
    let printed = printed(&["compare", arg(&small), STORIES, "--no-speed"]);
    let expected = printed_as(&found);
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&printed[key], value, "{key}");
    }
    let divergence = printed_as(&found.files[0].divergence);
    assert!(!divergence["kl"].is_null() && divergence["kl"] == expected["files"][0]["kl"]);
}
