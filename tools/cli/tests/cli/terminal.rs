//! Names from files move no cursor and recolour nothing: whatever a command says of a model, a terminal may show it.

use std::path::Path;

use quipu_formats::gguf::{GgufFile, GgufWriter, Value};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;

use crate::command;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");
/// Clears the screen, writes from right to left, and is red in terminals that read eight-bit controls.
const NASTY: &str = "\u{1b}[2Jname\u{202e}gnp\u{9b}31m<b>";

/// What says something of the model MODEL, most of it with everything that it says.
const COMMANDS: &[&str] = &[
    "inspect MODEL -v",
    "tokenize MODEL Once -v",
    "score MODEL Once -v",
    "embed MODEL Once -v",
    "run MODEL Once -n 1 -v",
    "chat MODEL -v -n 1",
    "guard MODEL Once -v",
    "perplexity MODEL -f text -c 64 --chunks 1 -v --kl MODEL",
    "compare MODEL other.gguf -f text -c 64 --chunks 1 --no-speed -v --plot plot.svg",
    "bench MODEL -p 4 -n 2 -r 1 -t 1 -v",
    "doctor MODEL -t 1 -v",
    "imatrix MODEL -f text -o OUT -c 64 --chunks 1 -v",
    "convert MODEL -o OUT -v",
    "convert MODEL -o OUT --split-size 100K -v",
    "pack MODEL OUT -v",
    "quantize MODEL OUT --type q8_0 -v",
    "quantize MODEL OUT --target-bits 12 -v",
    "batch MODEL text -o OUT -v",
    "serve MODEL -v --port 0 --alias x=NOBODY",
    "serve MODEL -v --port 0 --template MODEL",
];

/// The model with nasty names, and one tensor that it does not use.
fn write(path: &Path) {
    let model = GgufFile::open(MODEL).unwrap();
    let mut metadata = model.metadata().clone();
    for key in ["general.name", "general.license", NASTY, "tokenizer.chat_template"] {
        metadata.set(key, Value::String(NASTY.into()));
    }
    let mut tensors = model.tensors().to_vec();
    let more = TensorInfo::new(format!("other.{NASTY}"), Encoding::Plain(TensorType::F32), [32, 1]);
    tensors.push(more);
    let mut writer = GgufWriter::create(path, None, &metadata, &tensors).unwrap();
    for index in 0..model.tensors().len() {
        writer.write_tensor_part(&std::fs::read(MODEL).unwrap()[model.range(index)]).unwrap();
    }
    writer.write_tensor_part(&[0; 128]).unwrap();
    writer.finish().unwrap();
}

#[test]
fn names_are_shown_without_what_a_terminal_obeys() {
    let dir = tempfile::tempdir().unwrap();
    // In the names of files, too.
    let (model, out) = (format!("m{NASTY}.gguf"), format!("out{NASTY}"));
    write(&dir.path().join(&model));
    std::fs::copy(MODEL, dir.path().join("other.gguf")).unwrap();
    std::fs::write(dir.path().join("text"), &std::fs::read(TEXT).unwrap()[..6000]).unwrap();
    let mut said = 0;
    for line in COMMANDS {
        let words = line.split(' ').map(|word| match word {
            "MODEL" => model.clone(),
            "OUT" => out.clone(),
            word => word.replace("NOBODY", NASTY),
        });
        let ended = command(words).current_dir(dir.path()).output().unwrap();
        for text in [&ended.stdout, &ended.stderr] {
            // That of our own progress neither, in a pipe.
            let text = String::from_utf8_lossy(text);
            let obeyed = text.chars().find(|&c| c.is_control() && !"\n\t".contains(c) || c == '\u{202e}');
            assert_eq!(obeyed, None, "{line}: {text:?}");
            said += usize::from(text.contains("\\u{1b}"));
        }
    }
    // Not because nobody named it.
    assert!(said >= COMMANDS.len() - 4, "{said}");
    let plot = std::fs::read_to_string(dir.path().join("plot.svg")).unwrap();
    assert!(plot.contains("&lt;b&gt;") && !plot.contains("<b>") && !plot.contains('\u{1b}'), "{plot}");
}
