//! Schemas made at random.

use quipu_test_random::Random;
use serde_json::{Map, Value as Json, json};

/// A schema: nested, with references that may come back to it, alternatives, constants, patterns, formats, bounds.
pub fn schema(random: &mut Random) -> Json {
    let definitions = random.below(3);
    let mut maker = Maker { random, definitions, left: 14 };
    let mut root = maker.any(0);
    if definitions > 0 {
        let inner: Map<String, Json> = (0..definitions).map(|i| (format!("node{i}"), maker.definition(i))).collect();
        root = json!({"$defs": inner, "anyOf": [root, {"$ref": "#/$defs/node0"}]});
    }
    root
}

struct Maker<'a> {
    random: &'a mut Random,
    definitions: usize,
    /// How many schemas may still be made.
    left: usize,
}

/// Patterns, with nothing in them that engines disagree on.
pub const PATTERNS: [&str; 6] =
    ["^[a-c]{2,4}$", "^x", "z$", r"^\d{3}-\d{2}$", "^(red|green|blue)+$", r"^[A-Z][a-z]* \w+\.?$"];

pub const FORMATS: [&str; 10] =
    ["date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "hostname", "email", "uri"];

const NAMES: [&str; 8] = ["a", "b", "name", "an id", "größe", "x/y", "\"q\"", "next"];

impl Maker<'_> {
    fn chance(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    fn any(&mut self, depth: usize) -> Json {
        self.left = self.left.saturating_sub(1);
        let simple = depth > 4 || self.left == 0;
        match self.random.below(if simple { 6 } else { 11 }) {
            0 => json!({"type": if self.chance(2) { "null" } else { "boolean" }}),
            1 => self.integer(),
            2 => self.number(),
            3 => self.string(),
            4 => self.constants(),
            5 if self.definitions > 0 && depth > 0 => self.reference(),
            5 => json!({"type": ["string", "null"], "maxLength": 5}),
            6 | 7 => self.array(depth),
            8 => {
                let list: Vec<Json> = (0..2 + self.random.below(2)).map(|_| self.any(depth + 1)).collect();
                json!({ "anyOf": list })
            }
            _ => self.object(depth),
        }
    }

    fn reference(&mut self) -> Json {
        json!({"$ref": format!("#/$defs/node{}", self.random.below(self.definitions))})
    }

    /// A list of itself or of the others, so that it may come back.
    fn definition(&mut self, i: usize) -> Json {
        let child = self.reference();
        let value = self.any(3);
        match i % 2 {
            0 => json!({
                "type": "object",
                "properties": {"value": value, "next": {"anyOf": [child, {"type": "null"}]}},
                "required": ["value"],
                "additionalProperties": false,
            }),
            _ => json!({"type": "array", "items": {"anyOf": [child, value]}, "maxItems": 3}),
        }
    }

    fn integer(&mut self) -> Json {
        let mut schema = json!({"type": "integer"});
        let low = self.random.below(2000) as i64 - 1000;
        let width = [0, 3, 17, 500, 123_456][self.random.below(5)];
        if self.chance(2) {
            schema["minimum"] = low.into();
        } else if self.chance(3) {
            schema["exclusiveMinimum"] = (low - 1).into();
        }
        if self.chance(2) {
            schema["maximum"] = (low + width).into();
        } else if self.chance(3) {
            schema["exclusiveMaximum"] = (low + width + 1).into();
        }
        if width > 100 && self.chance(2) {
            schema["multipleOf"] = [2, 5, 7][self.random.below(3)].into();
        }
        schema
    }

    fn number(&mut self) -> Json {
        let mut schema = json!({"type": "number"});
        let low = (self.random.below(4000) as f64 - 2000.0) / 8.0;
        let width = [0.0, 0.125, 1.5, 40.0, 1e5][self.random.below(5)];
        if self.chance(2) {
            schema["minimum"] = low.into();
        }
        if self.chance(2) {
            schema["maximum"] = (low + width).into();
        }
        if width > 2.0 && self.chance(3) {
            schema["multipleOf"] = [0.5, 0.25, 3.0][self.random.below(3)].into();
        }
        schema
    }

    fn string(&mut self) -> Json {
        let mut schema = json!({"type": "string"});
        match self.random.below(5) {
            0 => schema["pattern"] = PATTERNS[self.random.below(PATTERNS.len())].into(),
            1 => schema["format"] = FORMATS[self.random.below(FORMATS.len())].into(),
            2 => {
                let least = self.random.below(4);
                schema["minLength"] = least.into();
                schema["maxLength"] = (least + self.random.below(6)).into();
            }
            3 => schema["maxLength"] = (1 + self.random.below(8)).into(),
            _ => {}
        }
        schema
    }

    fn constants(&mut self) -> Json {
        let constants =
            [json!("red"), json!("grün \"x\""), json!(7), json!(-0.5), json!(null), json!(true), json!([1, {"a": []}])];
        if self.chance(3) {
            return json!({"const": constants[self.random.below(constants.len())]});
        }
        let list: Vec<Json> = constants.into_iter().filter(|_| self.chance(2)).collect();
        if list.is_empty() { json!({"const": "only"}) } else { json!({ "enum": list }) }
    }

    fn array(&mut self, depth: usize) -> Json {
        let mut schema = json!({"type": "array", "items": self.any(depth + 1)});
        if self.chance(3) {
            schema["prefixItems"] = json!([self.any(depth + 1), self.any(depth + 1)]);
        }
        if self.chance(4) {
            schema["items"] = false.into();
        }
        let least = self.random.below(3);
        if self.chance(2) && schema["items"] != false {
            schema["minItems"] = least.into();
        }
        if self.chance(2) {
            schema["maxItems"] = (least + self.random.below(3)).into();
        }
        schema
    }

    fn object(&mut self, depth: usize) -> Json {
        let names: Vec<&str> = NAMES.into_iter().filter(|_| self.chance(3)).collect();
        let properties: Map<String, Json> = names.iter().map(|name| (name.to_string(), self.any(depth + 1))).collect();
        let required: Vec<&str> = names.into_iter().filter(|_| self.chance(2)).collect();
        let mut schema = json!({"type": "object", "properties": properties, "required": required});
        match self.random.below(5) {
            0 => {}
            1 => schema["additionalProperties"] = self.any(depth + 1),
            2 => {
                schema["patternProperties"] = json!({"^k\\d": self.any(depth + 1)});
                schema["additionalProperties"] = false.into();
            }
            _ => schema["additionalProperties"] = false.into(),
        }
        if self.chance(6) && schema["properties"] == json!({}) {
            schema["maxProperties"] = 2.into();
        }
        schema
    }
}
