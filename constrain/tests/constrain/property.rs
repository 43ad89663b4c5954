//! Whatever schema: what is written is valid, whoever draws.
//!
//! `QUIPU_SCHEMAS` says how many; what is written goes to the file `QUIPU_WRITTEN` as well, for
//! `tests/refs/json_schema.py`.

use std::io::Write;

use quipu_constrain::{Shape, ShapeError};
use quipu_test_random::Random;
use serde_json::Value as Json;

use crate::{check, schemas, walk};

#[test]
fn what_is_written_is_valid() {
    let tokenizer = walk::tokenizer();
    let count = std::env::var("QUIPU_SCHEMAS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let mut kept = std::env::var_os("QUIPU_WRITTEN").map(|path| std::fs::File::create(path).expect("a file"));
    let (mut complete, mut refused) = (0, 0);
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
            if !ended {
                continue;
            }
            complete += 1;
            if let Some(file) = &mut kept {
                let line = serde_json::json!({"schema": schema, "text": text});
                writeln!(file, "{line}").expect("a line");
            }
            // Numbers may be beyond what a double holds.
            let instance: Json = match serde_json::from_str(&text) {
                Ok(instance) => instance,
                Err(error) if error.to_string().contains("number out of range") => continue,
                Err(error) => panic!("seed {seed}: {error}: {text:?} for {schema}"),
            };
            if let Some(problem) = check::invalid(&schema, &schema, &instance) {
                panic!("seed {seed}: {problem}\n  {text}\n  {schema}");
            }
        }
    }
    println!("{count} schemas, {refused} without a valid instance; {complete} complete texts");
    assert!(complete > count as usize && refused < count as usize / 10, "{complete} {refused}");
}
