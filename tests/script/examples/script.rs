//! `script SCRIPT.json MODEL.gguf`: a script as a model. `cargo test` builds it, for the check of the server's page.
#![forbid(unsafe_code)]

use std::path::Path;

use quipu_test_script::Script;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [script, model] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("expected a script and the model to be written".into());
    };
    let script = serde_json::from_str(&std::fs::read_to_string(script)?)?;
    Ok(Script::from_json(&script).write(Path::new(model))?)
}
