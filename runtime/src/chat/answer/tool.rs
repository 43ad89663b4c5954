//! Tools that a model may call.

use serde_json::{Value as Json, json};

/// A tool that was declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON Schema of its arguments, an object; null if it says nothing.
    pub parameters: Json,
    /// Whether its arguments are to be what the schema says, without any exception.
    pub strict: bool,
}

impl Tool {
    /// As templates and OpenAI's clients have it: `{"type": "function", "function": {…}}`.
    pub fn to_json(&self) -> Json {
        let mut function = json!({"name": self.name});
        if let Some(description) = &self.description {
            function["description"] = description.as_str().into();
        }
        // Templates print it without asking whether it is there.
        let nothing = || json!({"type": "object", "properties": {}});
        function["parameters"] = if self.parameters.is_null() { nothing() } else { self.parameters.clone() };
        json!({"type": "function", "function": function})
    }

    /// The schema of the argument called `name`, null if there is none.
    pub(super) fn schema_of(&self, name: &str) -> &Json {
        &self.parameters["properties"][name]
    }

    /// Whether an argument may be left out.
    pub(super) fn is_optional(&self, name: &str) -> bool {
        !self.parameters["required"].as_array().is_some_and(|required| required.iter().any(|key| key == name))
    }

    /// The name of the argument at place `number`.
    pub(super) fn argument(&self, number: usize) -> Option<&str> {
        self.parameters["properties"].as_object()?.keys().nth(number).map(String::as_str)
    }
}
