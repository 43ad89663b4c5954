//! A checkpoint of Hugging Face with lies in its JSON files and in the header of its weights.

use std::path::Path;

use quipu_test_random::Random;
use serde_json::{Value as Json, json};

use super::bytes::{integer, mutate_bytes};

/// Changes one thing in one of the files `names` of a directory; returns what.
pub fn mutate(dir: &Path, names: &[&str], random: &mut Random) -> String {
    let name = names[random.below(names.len())];
    let path = dir.join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    let weights = name == "model.safetensors";
    let what = match json(&bytes, weights).filter(|_| random.below(6) > 0) {
        Some((mut json, end)) => {
            let what = mutate_json(&mut json, random);
            let mut text = json.to_string().into_bytes();
            if weights {
                let said = if random.below(10) == 0 { integer(random) } else { text.len() as u64 };
                text.splice(..0, said.to_le_bytes());
            }
            bytes.splice(..end, text);
            what
        }
        None => mutate_bytes(&mut bytes, random),
    };
    std::fs::write(&path, bytes).unwrap();
    format!("{name}: {what}")
}

/// The JSON at the start of a file and where it ends; an earlier lie may have left none.
fn json(bytes: &[u8], weights: bool) -> Option<(Json, usize)> {
    let (start, end) = if weights {
        let len = u64::from_le_bytes(bytes.get(..8)?.try_into().unwrap());
        (8, usize::try_from(len).ok()?.checked_add(8)?)
    } else {
        (0, bytes.len())
    };
    Some((serde_json::from_slice(bytes.get(start..end)?).ok()?, end))
}

/// Walks from the root to some value and changes that.
pub fn mutate_json(mut json: &mut Json, random: &mut Random) -> String {
    let mut path = String::new();
    // Whatever the depth is, a value near the root as often as one near the leaves.
    loop {
        let len = match json {
            Json::Array(list) => list.len(),
            Json::Object(map) => map.len(),
            _ => 0,
        };
        if len == 0 || !path.is_empty() && random.below(5) == 0 {
            break;
        }
        let i = random.below(len);
        match json {
            Json::Object(map) if random.below(12) == 0 => {
                let key = map.keys().nth(i).unwrap().clone();
                let value = map.remove(&key).unwrap();
                if random.below(2) == 0 {
                    map.insert(format!("{key}x"), value);
                }
                return format!("no {path}/{key}");
            }
            Json::Object(map) => {
                let (key, value) = map.iter_mut().nth(i).unwrap();
                path += &format!("/{key}");
                json = value;
            }
            Json::Array(list) => {
                path += &format!("/{i}");
                json = &mut list[i];
            }
            _ => unreachable!("a value with children"),
        }
    }
    let other = match random.below(16) {
        0 => Json::Null,
        1 => json!([true, false][random.below(2)]),
        2 => json!(["", "llama", "gelu", "x", "\u{0}", "(a+)+$", "F64", "\u{1b}[2J", "ByteLevel"][random.below(9)]),
        3 => json!([0.5, -1.0, 1e308, 5e-324][random.below(4)]),
        4 => json!([]),
        5 => json!({}),
        6 => json!("x".repeat(70_000)),
        7 => (0..100).fold(json!(1), |inner, _| json!([inner])),
        8 => json!(-(integer(random) as i64 as i128 as f64)),
        _ => match json.as_u64() {
            Some(n) => json!([n.wrapping_add(1), n * 2, n / 2, n.wrapping_sub(1)][random.below(4)]),
            None => json!(integer(random)),
        },
    };
    *json = other;
    path
}
