//! Calls as rules of Lark.

use quipu_runtime::chat::answer::Tool;
use serde_json::{Value as Json, json};

use super::form::CallForm;
use crate::shape::Shape;

/// Calls in one answer at most, where there have to be some: a small model would go on for ever.
const MOST: usize = 8;

/// White space where a model may have its own way.
const SPACE: &str = "[ \\t\\r\\n]{0,8}";

/// What calls are made of.
pub(super) struct Rules<'a> {
    pub(super) tools: &'a [Tool],
    pub(super) parallel: bool,
    pub(super) form: CallForm,
    /// How a grammar has a mark: by its id if it is a control token, otherwise as text.
    pub(super) symbol: &'a dyn Fn(&str) -> String,
}

impl Rules<'_> {
    /// An answer that is nothing but calls, as they are usually written, or `instead`. `open` is what closes the
    /// thoughts that the prompt has opened.
    pub(super) fn answer(&self, open: Option<&str>, instead: Option<&Json>) -> String {
        let (mut start, mut rules) = (String::new(), String::new());
        if let Some(close) = open {
            start += "thoughts ";
            rules += &match (self.symbol)(close) {
                id if id.starts_with('<') => format!("thoughts: /(?s:.*)/ {id}\n"),
                text => format!("thoughts[lazy]: /(?s:.*)/ {text}\n"),
            };
        }
        start += if instead.is_some() { "(calls | instead)" } else { "calls" };
        rules += &instead.map(|schema| format!("instead: %json {schema}\n")).unwrap_or_default();
        let several = |between: &str| match self.parallel {
            true => format!("call ({} call){{0,{}}}", quoted(between), MOST - 1),
            false => "call".to_string(),
        };
        let calls = match self.form {
            CallForm::Plain => several("; "),
            CallForm::Tags | CallForm::Functions => several("\n"),
            CallForm::List => format!("{} \"[\" {} \"]\"", (self.symbol)("[TOOL_CALLS]"), several(", ")),
            CallForm::Named => several(""),
        };
        rules += &self.each(|name| {
            let object = |arguments: &str| quoted(&format!("{{\"name\": {}, \"{arguments}\": ", quoted(name)));
            match self.form {
                CallForm::Plain => (object("parameters"), quoted("}")),
                CallForm::List => (object("arguments"), quoted("}")),
                CallForm::Tags => {
                    let mark = |mark| (self.symbol)(mark);
                    let open = format!("{} \"\\n\" {}", mark("<tool_call>"), object("arguments"));
                    (open, format!("\"}}\\n\" {}", mark("</tool_call>")))
                }
                CallForm::Functions => (quoted(&format!("<function={name}>")), quoted("</function>")),
                CallForm::Named => {
                    let open = [&(self.symbol)("[TOOL_CALLS]"), &quoted(name), &(self.symbol)("[ARGS]")];
                    (open.map(String::as_str).join(" "), String::new())
                }
            }
        });
        format!("start: {start}\ncalls: {calls}\n{rules}")
    }

    /// What stands from a trigger to the end of the call, with the white space that the model likes.
    pub(super) fn after_trigger(&self) -> String {
        let start = match self.form {
            CallForm::List if self.parallel => {
                format!("/{SPACE}\\[{SPACE}/ call (/{SPACE},{SPACE}/ call)* /{SPACE}\\]/")
            }
            CallForm::List => format!("/{SPACE}\\[{SPACE}/ call /{SPACE}\\]/"),
            _ => "call".to_string(),
        };
        let rules = self.each(|name| {
            let name = regex_syntax::escape(name);
            let object = format!(
                "\\{{{SPACE}\"name\"{SPACE}:{SPACE}\"{name}\"{SPACE},{SPACE}\"(parameters|arguments)\"{SPACE}:{SPACE}"
            );
            match self.form {
                CallForm::Plain => (format!("/{SPACE}{object}/"), format!("/{SPACE}\\}}/")),
                CallForm::List => (format!("/{object}/"), format!("/{SPACE}\\}}/")),
                CallForm::Tags => {
                    let close = (self.symbol)("</tool_call>");
                    (format!("/{SPACE}{object}/"), format!("/{SPACE}\\}}{SPACE}/ {close}"))
                }
                CallForm::Functions => (format!("/{name}>{SPACE}/"), format!("/{SPACE}<\\/function>/")),
                CallForm::Named => {
                    let id = format!("({} /[A-Za-z0-9]{{1,32}}/)?", (self.symbol)("[CALL_ID]"));
                    (format!("/{SPACE}{name}/ {id} {}", (self.symbol)("[ARGS]")), String::new())
                }
            }
        });
        format!("start: {start}\n{rules}")
    }

    /// A rule for each tool; `around` has what stands before and after the arguments.
    fn each(&self, around: impl Fn(&str) -> (String, String)) -> String {
        let names: Vec<String> = (0..self.tools.len()).map(|i| format!("call_{i}")).collect();
        let mut rules = format!("call: {}\n", names.join(" | "));
        for (tool, rule) in self.tools.iter().zip(&names) {
            let (before, after) = around(&tool.name);
            rules += &format!("{rule}: {before} {rule}_arguments {after}\n{rule}_arguments: %json {}\n", schema(tool));
        }
        rules
    }
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
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
        let grammar = |form, parallel, open| {
            Rules { tools: std::slice::from_ref(&tool), parallel, form, symbol: &quoted }.answer(open, None)
        };
        let arguments =
            "call_0_arguments: %json {\"properties\":{},\"type\":\"object\",\"additionalProperties\":false}\n";
        let plain = r#"call_0: "{\"name\": \"now\", \"parameters\": " call_0_arguments "}""#;
        assert_eq!(
            grammar(CallForm::Plain, false, None),
            format!("start: calls\ncalls: call\ncall: call_0\n{plain}\n{arguments}")
        );
        let tags = grammar(CallForm::Tags, true, Some("</think>"));
        assert!(tags.starts_with("start: thoughts calls\ncalls: call (\"\\n\" call){0,7}\n"), "{tags}");
        assert!(tags.contains("call_0: \"<tool_call>\" \"\\n\" "), "{tags}");
        assert!(tags.contains("thoughts[lazy]: /(?s:.*)/ \"</think>\"\n"), "{tags}");
        let list = grammar(CallForm::List, false, None);
        assert!(list.starts_with("start: calls\ncalls: \"[TOOL_CALLS]\" \"[\" call \"]\"\n"), "{list}");
        let named = grammar(CallForm::Named, false, None);
        assert!(named.contains("call_0: \"[TOOL_CALLS]\" \"now\" \"[ARGS]\" call_0_arguments"), "{named}");
    }
}
