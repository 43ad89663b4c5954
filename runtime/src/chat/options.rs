//! What a template may see besides the messages.

use serde_json::{Map, Value as Json};

use super::date::DateTime;
use crate::setters::setters;

/// What a template may see besides the messages.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RenderOptions {
    /// The tools offered to the model, a list of JSON schemas.
    pub tools: Option<Json>,
    /// Whether to open the assistant's answer at the end.
    pub add_generation_prompt: bool,
    /// Further variables, e.g. `date_string`, `custom_tools`. They override the special tokens.
    pub variables: Map<String, Json>,
    /// What `strftime_now` takes for now; the present moment if none.
    pub now: Option<DateTime>,
}

setters!(RenderOptions {
    tools: impl Into<Option<Json>>,
    add_generation_prompt: bool,
    variables: Map<String, Json>,
    now: impl Into<Option<DateTime>>,
});
