//! The JSON Schema Test Suite: `QUIPU_JSON_SCHEMA_SUITE` is its directory `tests/draft2020-12`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quipu_constrain::Shape;
use serde_json::{Map, Value as Json};

use crate::walk;

/// What became of the tests of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Valid and accepted, invalid and not.
    right: usize,
    /// The schema is refused.
    refused: usize,
    /// Valid, and never written.
    narrow: usize,
    /// Invalid and accepted.
    wrong: usize,
}

#[test]
fn no_invalid_instance_is_accepted() {
    let Some(directory) = std::env::var_os("QUIPU_JSON_SCHEMA_SUITE").map(PathBuf::from) else {
        println!("SKIPPED: QUIPU_JSON_SCHEMA_SUITE is not set");
        return;
    };
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for directory in [directory.clone(), directory.join("optional/format")] {
        let entries = std::fs::read_dir(&directory).expect("the suite");
        files.extend(
            entries
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| path.extension().is_some_and(|e| e == "json")),
        );
    }
    files.sort();
    for path in files {
        let name = path.strip_prefix(&directory).expect("within").display().to_string();
        let groups: Json = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        let found = counts.entry(name.clone()).or_default();
        for group in groups.as_array().expect("groups") {
            let tests = group["tests"].as_array().expect("tests");
            let grammar = match walk::compile(&Shape::JsonSchema(group["schema"].clone())) {
                Ok(grammar) => grammar,
                Err(error) => {
                    assert!(error.to_string().contains('#') || error.to_string().contains("nsatisf"), "{error}");
                    found.refused += tests.len();
                    continue;
                }
            };
            for test in tests {
                let valid = test["valid"] == true;
                let accepted =
                    written(&group["schema"], &test["data"]).iter().any(|text| walk::accepts(&*grammar, text));
                match (valid, accepted) {
                    (true, true) | (false, false) => found.right += 1,
                    (true, false) => found.narrow += 1,
                    (false, true) => {
                        found.wrong += 1;
                        wrong.push(format!(
                            "{name}: {}: {}: {}",
                            group["description"], test["description"], test["data"]
                        ));
                    }
                }
            }
        }
    }
    let mut sum = Counts::default();
    for (name, Counts { right, refused, narrow, wrong }) in counts {
        println!("{name:40} {right:4} right {refused:4} refused {narrow:4} narrower {wrong:4} wrong");
        sum.right += right;
        sum.refused += refused;
        sum.narrow += narrow;
        sum.wrong += wrong;
    }
    println!("{sum:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The ways in which an instance may be written: members in their order, in that of `properties`, and backwards.
fn written(schema: &Json, instance: &Json) -> Vec<String> {
    let names: Vec<&String> = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
    let mut all = vec![instance.to_string()];
    if let Json::Object(map) = instance {
        let mut members: Vec<(&String, &Json)> = map.iter().collect();
        members.reverse();
        all.push(text(&members));
        members.sort_by_key(|(name, _)| names.iter().position(|known| known == name).unwrap_or(usize::MAX));
        all.push(text(&members));
    }
    all
}

fn text(members: &[(&String, &Json)]) -> String {
    let map: Map<String, Json> = members.iter().map(|(name, value)| ((*name).clone(), (*value).clone())).collect();
    Json::from(map).to_string()
}
