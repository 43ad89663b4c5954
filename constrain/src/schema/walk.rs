//! Through a schema and its definitions.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value as Json, json};

use super::keywords::{self, Keyword};
use super::pointer::Pointer;
use super::values::{self, refuse};
use crate::error::ShapeError;
use crate::limits;

/// The schema with all that it refers to, and nothing that is not enforced.
pub fn walk(root: &Json) -> Result<Json, ShapeError> {
    walk_at(root, &Pointer::default())
}

/// The part of a schema that stands at `at`, with all that it refers to.
pub fn walk_at(root: &Json, at: &Pointer) -> Result<Json, ShapeError> {
    let mut walk = Walk { root, names: HashMap::new(), queue: VecDeque::new(), schemas: 0 };
    let place = Place { at: at.clone(), depth: 0, merged: false };
    let schema = walk.schema(place.find(root)?, &place)?;
    let mut definitions = Map::new();
    while let Some((name, place)) = walk.queue.pop_front() {
        let found = walk.schema(place.find(root)?, &place)?;
        definitions.insert(name, found);
    }
    let mut schema = match schema {
        Json::Object(map) => map,
        // Nothing is valid: `false`, and only an object can have definitions.
        Json::Bool(false) => return refuse(at, "is `false`: there is no answer that it would allow"),
        _ => Map::new(),
    };
    if !definitions.is_empty() {
        schema.insert("$defs".into(), definitions.into());
    }
    Ok(schema.into())
}

/// Where each `oneOf` stands, with the place of the schema that has it.
pub fn one_ofs(root: &Json) -> Vec<(String, Pointer)> {
    let (mut found, mut queue) = (Vec::new(), VecDeque::from([(root, Pointer::default())]));
    while let Some((value, at)) = queue.pop_front() {
        match value {
            Json::Object(map) => {
                if map.get("oneOf").is_some_and(Json::is_array) {
                    found.push((at.at("oneOf").shown(), at.clone()));
                }
                queue.extend(map.iter().map(|(key, value)| (value, at.at(key))));
            }
            Json::Array(list) => queue.extend(list.iter().enumerate().map(|(i, value)| (value, at.index(i)))),
            _ => {}
        }
    }
    // The innermost first: it may be the only reason for those around it.
    found.reverse();
    found
}

/// Where a schema stands.
#[derive(Clone)]
struct Place {
    at: Pointer,
    depth: usize,
    /// Whether it holds together with others for the same instance.
    merged: bool,
}

impl Place {
    fn find<'a>(&self, root: &'a Json) -> Result<&'a Json, ShapeError> {
        self.at.find(root).map_or_else(|| refuse(&self.at, "does not exist"), Ok)
    }

    /// Of a part of the instance.
    fn part(&self, at: Pointer) -> Place {
        Place { at, depth: self.depth + 1, merged: false }
    }
}

struct Walk<'a> {
    root: &'a Json,
    /// The names of definitions that are referred to, by place and whether they hold together with others.
    names: HashMap<(Pointer, bool), String>,
    queue: VecDeque<(String, Place)>,
    schemas: usize,
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Json, place: &Place) -> Result<Json, ShapeError> {
        self.schemas += 1;
        values::check_count(self.schemas)?;
        if place.depth > limits::DEPTH {
            return Err(values::too_deep(place.depth));
        }
        match schema {
            Json::Bool(_) => Ok(schema.clone()),
            Json::Object(map) => self.object(map, place).map(Json::Object),
            _ => refuse(&place.at, "is no schema: that is an object, `true` or `false`"),
        }
    }

    fn object(&mut self, schema: &Map<String, Json>, place: &Place) -> Result<Map<String, Json>, ShapeError> {
        let at = &place.at;
        let in_place = |name: &str| matches!(keywords::find(name), Keyword::InPlace | Keyword::Reference);
        let applicators = schema.keys().filter(|name| in_place(name)).count();
        values::check_bounds(schema, place.merged || applicators > 0, at)?;
        check_properties(schema, at)?;
        // The bounds of an alternative of `anyOf` that stands alone meet no others.
        let alone = !place.merged && applicators == 1 && !values::has_bounds(schema);
        let inner = |name: &str, many: usize| !alone || name == "allOf" && many > 1;
        let mut out = Map::new();
        for (name, value) in schema {
            let here = at.at(name);
            match keywords::find(name) {
                Keyword::Annotation => continue,
                Keyword::Refused if keywords::is_idle(name, value) => continue,
                Keyword::Refused => return refuse(&here, "is not supported, and an answer might break it"),
                Keyword::Value => self.value(schema, name, value, &here, &mut out)?,
                Keyword::Schema => self.items(schema, name, value, place, &mut out)?,
                Keyword::Schemas => {
                    out.insert(name.clone(), self.list(value, &place.part(here))?);
                }
                Keyword::InPlace => {
                    let many = value.as_array().map_or(0, Vec::len);
                    let merged = inner(name, many);
                    let list = self.list(value, &Place { at: here, depth: place.depth + 1, merged })?;
                    append(&mut out, name, list);
                }
                Keyword::Reference => {
                    let target = self.reference(value, place, inner(name, 1))?;
                    out.insert(name.clone(), target.into());
                }
                Keyword::SchemasByName | Keyword::SchemasByPattern => {
                    let Some(map) = value.as_object() else { return refuse(&here, "must be an object of schemas") };
                    let mut inner = Map::new();
                    for (key, schema) in map {
                        let at = here.at(key);
                        let key = match name == "patternProperties" {
                            true => values::translate(&Json::from(key.as_str()), &at)?,
                            false => key.clone(),
                        };
                        let schema = self.schema(schema, &place.part(at.clone()))?;
                        if inner.insert(key, schema).is_some() {
                            return refuse(&at, "is the same pattern as another one");
                        }
                    }
                    out.insert(name.clone(), inner.into());
                }
            }
        }
        Ok(out)
    }

    fn list(&mut self, value: &Json, place: &Place) -> Result<Json, ShapeError> {
        let Some(list) = value.as_array().filter(|list| !list.is_empty()) else {
            return refuse(&place.at, "must be a list of schemas, and not empty");
        };
        let place = |i| Place { at: place.at.index(i), ..place.clone() };
        list.iter().enumerate().map(|(i, schema)| self.schema(schema, &place(i))).collect()
    }

    /// `items`, which old drafts have as a list, and what else has one schema for parts.
    fn items(
        &mut self,
        schema: &Map<String, Json>,
        name: &str,
        value: &Json,
        place: &Place,
        out: &mut Map<String, Json>,
    ) -> Result<(), ShapeError> {
        let is_list = schema.get("items").is_some_and(Json::is_array);
        let place = place.part(place.at.at(name));
        match name {
            "items" if is_list && schema.contains_key("prefixItems") => {
                return refuse(&place.at, "is a list beside `prefixItems`");
            }
            "items" if is_list => {
                if value.as_array().is_some_and(|list| !list.is_empty()) {
                    out.insert("prefixItems".into(), self.list(value, &place)?);
                }
            }
            "additionalItems" if is_list => {
                out.insert("items".into(), self.schema(value, &place)?);
            }
            // Without a list it says nothing.
            "additionalItems" => {}
            _ => {
                out.insert(name.into(), self.schema(value, &place)?);
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        schema: &Map<String, Json>,
        name: &str,
        value: &Json,
        here: &Pointer,
        out: &mut Map<String, Json>,
    ) -> Result<(), ShapeError> {
        let mut kept = value.clone();
        match name {
            "type" => values::check_type(value, here)?,
            "const" => values::check_constant(value, here, 0, &mut self.schemas)?,
            "enum" => {
                if value.as_array().is_none_or(Vec::is_empty) {
                    return refuse(here, "must be a list of values, and not empty");
                }
                values::check_constant(value, here, 0, &mut self.schemas)?;
            }
            "required" => {
                let is_names = value.as_array().is_some_and(|list| list.iter().all(Json::is_string));
                if !is_names {
                    return refuse(here, "must be a list of names");
                }
            }
            "pattern" => kept = values::translate(value, here)?.into(),
            "format" => {
                // It says nothing of anything but strings.
                if !values::may_be(schema, "string") {
                    return Ok(());
                }
                let pattern = values::format_pattern(value, here)?;
                match schema.contains_key("pattern") {
                    true => append(out, "allOf", json!([{ "pattern": pattern }])),
                    false => drop(out.insert("pattern".into(), pattern.into())),
                }
                return Ok(());
            }
            "multipleOf" => values::check_step(value, here)?,
            "minimum" | "maximum" => drop(values::bound(value, here)?),
            // Draft 4 has `true` and `false` here.
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => {
                return refuse(here, "must be a number, as it is since draft 6");
            }
            "exclusiveMinimum" | "exclusiveMaximum" => drop(values::bound(value, here)?),
            _ => kept = values::count(value, here)?.into(),
        }
        out.insert(name.into(), kept);
        Ok(())
    }

    /// The reference to a definition of ours.
    fn reference(&mut self, value: &Json, place: &Place, merged: bool) -> Result<String, ShapeError> {
        let here = place.at.at("$ref");
        let Some(text) = value.as_str() else { return refuse(&here, "must be a string") };
        let Some(fragment) = text.strip_prefix('#') else {
            return refuse(&here, format!("{value} leads out of this schema; only `#/…` is followed"));
        };
        let Some(target) = Pointer::of_fragment(fragment) else {
            return refuse(&here, format!("{value} is no JSON pointer; write `#/$defs/NAME`"));
        };
        // A schema with an id of its own is a document of its own.
        let has_id = |at: Pointer| {
            let id = at.find(self.root).and_then(|schema| schema.get("$id").or(schema.get("id")));
            id.and_then(Json::as_str).is_some_and(|id| !id.starts_with('#'))
        };
        if place.at.way().any(has_id) || target.way().any(has_id) {
            return refuse(&here, "leads into or out of a schema with an `$id` of its own, which is not supported");
        }
        if target.find(self.root).is_none() {
            return refuse(&here, format!("{value} leads nowhere"));
        }
        let number = self.names.len();
        if number >= limits::DEFINITIONS {
            let (found, most) = (number + 1, limits::DEFINITIONS);
            return Err(ShapeError::TooLarge { kind: "JSON schema", what: "targets of `$ref`", found, most });
        }
        let queue = &mut self.queue;
        let name = self.names.entry((target.clone(), merged)).or_insert_with(|| {
            let name = format!("d{number}");
            queue.push_back((name.clone(), Place { at: target, depth: 0, merged }));
            name
        });
        Ok(format!("#/$defs/{name}"))
    }
}

/// Adds the entries of `list` to the list that is called `name`.
fn append(out: &mut Map<String, Json>, name: &str, list: Json) {
    match (out.get_mut(name), list) {
        (Some(Json::Array(there)), Json::Array(more)) => there.extend(more),
        (_, list) => drop(out.insert(name.into(), list)),
    }
}

/// Refuses numbers of properties that cannot be counted: names that are not in `properties` may come twice.
fn check_properties(schema: &Map<String, Json>, at: &Pointer) -> Result<(), ShapeError> {
    let get = |name: &str| schema.get(name).map(|value| values::count(value, &at.at(name))).transpose();
    let (least, most) = (get("minProperties")?.unwrap_or(0), get("maxProperties")?);
    let mut required: Vec<&str> =
        schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
    required.sort_unstable();
    required.dedup();
    let names = schema.get("properties").and_then(Json::as_object);
    let optional = names.into_iter().flatten().any(|(name, _)| !required.contains(&name.as_str()));
    let more = least.saturating_sub(required.len() as u64);
    if more > 1 {
        return refuse(&at.at("minProperties"), "asks for more than one property beside those in `required`");
    }
    let closed = schema.get("additionalProperties") == Some(&Json::Bool(false))
        && schema.get("patternProperties").is_none_or(|patterns| *patterns == json!({}));
    let at_most_one = most.is_none_or(|most| most.saturating_sub(required.len() as u64) == 1);
    if optional && (more > 0 || most.is_some()) && !(closed && at_most_one) {
        let name = if more > 0 { "minProperties" } else { "maxProperties" };
        let problem = "cannot be counted beside optional `properties`, but for one of them and \
                       `additionalProperties: false`";
        return refuse(&at.at(name), problem);
    }
    Ok(())
}
