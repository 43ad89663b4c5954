//! Calls that are demanded: the grammar that keeps an answer to them.

use quipu_constrain::Shape;
use quipu_runtime::chat::answer::Tool;
use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::model::Model;

/// What an answer has to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Any tool.
    Any,
    /// This one.
    Named(String),
}

/// Calls in one answer at most, where there may be several: a small model would go on for ever.
const MOST_CALLS: usize = 8;

/// How calls are written: as the model's template has them, so that it is asked for what it has learnt.
#[derive(Clone, Copy, Debug)]
struct Form {
    /// The mark before a list of all calls.
    list: Option<&'static str>,
    /// The marks around each call, on lines of their own.
    tags: Option<(&'static str, &'static str)>,
    /// What arguments are called.
    arguments: &'static str,
    between: &'static str,
}

/// Llama's.
const PLAIN: Form = Form { list: None, tags: None, arguments: "parameters", between: "; " };
/// Hermes' and Qwen's.
const TAGS: Form =
    Form { list: None, tags: Some(("<tool_call>", "</tool_call>")), arguments: "arguments", between: "\n" };
/// Mistral's.
const LIST: Form = Form { list: Some("[TOOL_CALLS]"), tags: None, arguments: "arguments", between: ", " };

/// The shape of an answer that does what is demanded.
///
/// # Errors
/// When the model has no template.
pub fn shape(
    demand: &Demand,
    tools: &[Tool],
    parallel: bool,
    model: &Model,
    open: Option<&str>,
) -> Result<Shape, ApiError> {
    let allowed: Vec<&Tool> = match demand {
        Demand::Any => tools.iter().collect(),
        Demand::Named(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    let template = model.template()?.source();
    let form = match () {
        () if template.contains("<tool_call>") => TAGS,
        () if template.contains("[TOOL_CALLS]") => LIST,
        () => PLAIN,
    };
    Ok(Shape::Lark(lark(&allowed, parallel, form, open, |mark| symbol(model, mark))))
}

/// How a grammar has a mark: by its id if it is a control token, otherwise as text.
fn symbol(model: &Model, mark: &str) -> String {
    match model.tokenizer.id(mark).filter(|&id| model.tokenizer.is_control(id)) {
        Some(id) => format!("<[{id}]>"),
        None => quoted(mark),
    }
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// The grammar. `open` is what closes the thoughts that the prompt has opened.
fn lark(tools: &[&Tool], parallel: bool, form: Form, open: Option<&str>, symbol: impl Fn(&str) -> String) -> String {
    let mut start = String::new();
    let mut rules = String::new();
    if let Some(close) = open {
        start += "thoughts ";
        rules += &match symbol(close) {
            id if id.starts_with('<') => format!("thoughts: /(?s:.*)/ {id}\n"),
            text => format!("thoughts[lazy]: /(?s:.*)/ {text}\n"),
        };
    }
    let mut calls = "call".to_string();
    if parallel {
        calls += &format!(" ({} call){{0,{}}}", quoted(form.between), MOST_CALLS - 1);
    }
    start += &match form.list {
        Some(mark) => format!("{} \"[\" {calls} \"]\"", symbol(mark)),
        None => calls,
    };
    let names: Vec<String> = (0..tools.len()).map(|i| format!("call_{i}")).collect();
    for (tool, rule) in tools.iter().zip(&names) {
        let head = quoted(&format!("{{\"name\": {}, \"{}\": ", quoted(&tool.name), form.arguments));
        rules += &format!("{rule}: {head} {rule}_arguments \"}}\"\n{rule}_arguments: %json {}\n", schema(tool));
    }
    let any = names.join(" | ");
    let call = match form.tags {
        Some((open, close)) => format!("{} \"\\n\" ({any}) \"\\n\" {}", symbol(open), symbol(close)),
        None => any,
    };
    format!("start: {start}\ncall: {call}\n{rules}")
}

/// The schema of a tool's arguments. One that cannot be enforced is left to the model, unless the tool is `strict`.
fn schema(tool: &Tool) -> Json {
    let mut schema = tool.parameters.clone();
    if !schema.is_object() {
        schema = json!({"properties": {}});
    }
    schema["type"] = "object".into();
    // What a schema does not name is permitted by it, but nobody asks for it.
    if schema["properties"].is_object()
        && schema["additionalProperties"].is_null()
        && schema["patternProperties"].is_null()
    {
        schema["additionalProperties"] = false.into();
    }
    if !tool.strict && Shape::JsonSchema(schema.clone()).check().is_err() {
        return json!({"type": "object"});
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_template_has_its_form() {
        let tool = Tool { name: "now".into(), description: None, parameters: Json::Null, strict: false };
        let grammar = |form, parallel, open| lark(&[&tool], parallel, form, open, quoted);
        let arguments =
            "call_0_arguments: %json {\"properties\":{},\"type\":\"object\",\"additionalProperties\":false}\n";
        let plain = r#"call_0: "{\"name\": \"now\", \"parameters\": " call_0_arguments "}""#;
        assert_eq!(grammar(PLAIN, false, None), format!("start: call\ncall: call_0\n{plain}\n{arguments}"));
        let tags = grammar(TAGS, true, Some("</think>"));
        assert!(
            tags.starts_with("start: thoughts call (\"\\n\" call){0,7}\ncall: \"<tool_call>\" \"\\n\" (call_0) "),
            "{tags}"
        );
        assert!(tags.contains("thoughts[lazy]: /(?s:.*)/ \"</think>\"\n"), "{tags}");
        let list = grammar(LIST, false, None);
        assert!(list.starts_with("start: \"[TOOL_CALLS]\" \"[\" call \"]\"\n"), "{list}");
    }
}
