//! Whether an instance is valid against a schema of `schemas.rs`: written anew, plainly, to hold the other one against.

use serde_json::Value as Json;

/// `None` if it is valid, otherwise what is wrong.
pub fn invalid(root: &Json, schema: &Json, instance: &Json) -> Option<String> {
    let wrong = |what: &str| Some(format!("{what}: {instance} against {schema}"));
    let map = match schema {
        Json::Bool(true) => return None,
        Json::Object(map) => map,
        _ => return wrong("false"),
    };
    for (key, value) in map {
        let number = |value: &Json| value.as_f64().expect("a number");
        let count = value.as_u64().unwrap_or_default() as usize;
        let ok = match (key.as_str(), instance) {
            ("type", instance) => match value {
                Json::Array(list) => list.iter().any(|name| is_type(name, instance)),
                name => is_type(name, instance),
            },
            ("const", instance) => same(value, instance),
            ("enum", instance) => value.as_array().expect("a list").iter().any(|value| same(value, instance)),
            ("anyOf", instance) => {
                let list = value.as_array().expect("a list");
                list.iter().any(|schema| invalid(root, schema, instance).is_none())
            }
            ("$ref", instance) => {
                let pointer = value.as_str().and_then(|text| text.strip_prefix('#')).expect("a fragment");
                let target = root.pointer(pointer).expect("a target");
                if let Some(problem) = invalid(root, target, instance) {
                    return Some(problem);
                }
                true
            }
            ("minimum", Json::Number(_)) => number(instance) >= number(value),
            ("maximum", Json::Number(_)) => number(instance) <= number(value),
            ("exclusiveMinimum", Json::Number(_)) => number(instance) > number(value),
            ("exclusiveMaximum", Json::Number(_)) => number(instance) < number(value),
            // A double does not have every integer beyond 2⁵³.
            ("multipleOf", Json::Number(_)) => number(instance).abs() > 9e15 || number(instance) % number(value) == 0.0,
            ("minLength", Json::String(text)) => text.chars().count() >= count,
            ("maxLength", Json::String(text)) => text.chars().count() <= count,
            ("pattern", Json::String(text)) => matches_pattern(value.as_str().expect("a pattern"), text),
            ("format", Json::String(text)) => is_format(value.as_str().expect("a name"), text),
            ("minItems", Json::Array(list)) => list.len() >= count,
            ("maxItems", Json::Array(list)) => list.len() <= count,
            ("maxProperties", Json::Object(map)) => map.len() <= count,
            ("prefixItems", Json::Array(list)) => {
                let schemas = value.as_array().expect("schemas");
                if let Some(p) = list.iter().zip(schemas).find_map(|(item, schema)| invalid(root, schema, item)) {
                    return Some(p);
                }
                true
            }
            ("items", Json::Array(list)) => {
                let skip = map.get("prefixItems").and_then(Json::as_array).map_or(0, Vec::len);
                if let Some(problem) = list.iter().skip(skip).find_map(|item| invalid(root, value, item)) {
                    return Some(problem);
                }
                true
            }
            ("required", Json::Object(has)) => {
                value.as_array().expect("names").iter().all(|name| has.contains_key(name.as_str().expect("a name")))
            }
            ("properties", Json::Object(has)) => {
                let inner = value.as_object().expect("schemas").iter();
                let mut found = inner.filter_map(|(name, schema)| invalid(root, schema, has.get(name)?));
                if let Some(problem) = found.next() {
                    return Some(problem);
                }
                true
            }
            ("patternProperties" | "additionalProperties", Json::Object(has)) => {
                let named = |name: &str| map.get("properties").is_some_and(|names| names.get(name).is_some());
                let is_k = |name: &str| {
                    name.strip_prefix('k').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                };
                let patterns = map.get("patternProperties").is_some();
                let (schema, applies): (&Json, &dyn Fn(&str) -> bool) = match key.as_str() {
                    "patternProperties" => (&value["^k\\d"], &is_k),
                    _ => (value, &|name: &str| !(named(name) || patterns && is_k(name))),
                };
                let problem =
                    has.iter().filter(|(name, _)| applies(name)).find_map(|(_, value)| invalid(root, schema, value));
                if problem.is_some() {
                    return problem;
                }
                true
            }
            ("$defs" | "properties" | "items" | "prefixItems" | "patternProperties" | "additionalProperties", _)
            | ("required" | "minItems" | "maxItems" | "minLength" | "maxLength" | "pattern" | "format", _)
            | ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" | "maxProperties", _) => {
                true
            }
            (other, _) => panic!("{other} is not known here"),
        };
        if !ok {
            return wrong(key);
        }
    }
    None
}

/// Equal, numbers by their value.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn is_type(name: &Json, value: &Json) -> bool {
    match name.as_str().expect("a name") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}"),
    }
}

fn matches_pattern(pattern: &str, text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match pattern {
        "^[a-c]{2,4}$" => (2..=4).contains(&text.len()) && text.bytes().all(|b| (b'a'..=b'c').contains(&b)),
        "^x" => text.starts_with('x'),
        "z$" => text.ends_with('z'),
        r"^\d{3}-\d{2}$" => {
            text.split_once('-').is_some_and(|(a, b)| a.len() == 3 && b.len() == 2 && digits(a) && digits(b))
        }
        "^(red|green|blue)+$" => {
            let mut rest = text;
            while let Some(more) = ["red", "green", "blue"].iter().find_map(|word| rest.strip_prefix(word)) {
                rest = more;
            }
            !text.is_empty() && rest.is_empty()
        }
        _ => text.split_once(' ').is_some_and(|(name, word)| {
            let mut name = name.bytes();
            let word = word.strip_suffix('.').unwrap_or(word);
            name.next().is_some_and(|b| b.is_ascii_uppercase())
                && name.all(|b| b.is_ascii_lowercase())
                && !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        }),
    }
}

/// The basics of a format; `tests/refs/json_schema.py` has more exact ones.
fn is_format(name: &str, text: &str) -> bool {
    let bytes =
        |text: &str, other: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || other.as_bytes().contains(&b));
    match name {
        "date" => text.len() == 10 && text.split('-').count() == 3,
        "time" => text.len() >= 9 && text.split(':').count() >= 3,
        "date-time" => text.len() >= 20 && text.as_bytes()[10].eq_ignore_ascii_case(&b't'),
        "duration" => text.starts_with('P') && text.len() > 2,
        "uuid" => text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12]),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "hostname" => !text.is_empty() && text.split('.').all(|l| (1..64).contains(&l.len()) && bytes(l, "-")),
        "email" => text.split_once('@').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()),
        _ => text.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty() && bytes(scheme, "+.-")),
    }
}
