//! Whatever schema: what is written is valid, whoever draws.
//!
//! `QUIPU_SCHEMAS` says how many; what is written is appended to the file `QUIPU_WRITTEN` as well, for
//! `tests/refs/json_schema.py`.

use std::fs::{File, OpenOptions};
use std::io::Write;

use quipu_constrain::{Shape, ShapeError};
use quipu_test_random::Random;
use serde_json::Value as Json;

use crate::{check, schemas, walk};

/// How many schemas are tried.
pub fn count() -> u64 {
    std::env::var("QUIPU_SCHEMAS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Texts that were written to their end.
pub struct Written {
    file: Option<File>,
    pub complete: usize,
}

impl Written {
    pub fn new() -> Written {
        let open = |path| OpenOptions::new().create(true).append(true).open(path).expect("a file");
        Written { file: std::env::var_os("QUIPU_WRITTEN").map(open), complete: 0 }
    }

    /// Holds a text against the schema that was made of `seed`.
    pub fn check(&mut self, seed: u64, schema: &Json, text: &str) {
        self.complete += 1;
        if let Some(file) = &mut self.file {
            // In one piece, since another test may write as well.
            let line = serde_json::json!({"schema": schema, "text": text});
            file.write_all(format!("{line}\n").as_bytes()).expect("a line");
        }
        // Numbers may be beyond what a double holds.
        let instance: Json = match serde_json::from_str(text) {
            Ok(instance) => instance,
            Err(error) if error.to_string().contains("number out of range") => return,
            Err(error) => panic!("seed {seed}: {error}: {text:?} for {schema}"),
        };
        if let Some(problem) = check::invalid(schema, schema, &instance) {
            panic!("seed {seed}: {problem}\n  {text}\n  {schema}");
        }
    }
}

#[test]
fn what_is_written_is_valid() {
    let tokenizer = walk::tokenizer();
    let count = count();
    let (mut written, mut refused) = (Written::new(), 0);
    for seed in 0..count {
        let random = &mut Random::new(seed);
        let schema = schemas::schema(random);
        let grammar = match walk::compile(&Shape::JsonSchema(schema.clone())) {
            Ok(grammar) => grammar,
            // Bounds that exclude each other, and the like: nothing is valid.
            Err(ShapeError::Schema { problem, .. }) if problem.contains("nsatisfiable") => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}: {schema}"),
        };
        for _ in 0..3 {
            let (text, ended) = walk::write(&*grammar, &tokenizer, random, 400);
            if ended {
                written.check(seed, &schema, &text);
            }
        }
    }
    let complete = written.complete;
    println!("{count} schemas, {refused} without a valid instance; {complete} complete texts");
    assert!(complete > count as usize && refused < count as usize / 10, "{complete} {refused}");
}
