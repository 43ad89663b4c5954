//! The tools that a request declares, in Anthropic's form.

use crate::demand::{Demand, Tools};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::openai::tools::{Choice, chosen, function};
use crate::options::Limits;

/// Reads `tools` and `tool_choice`. Tools that Anthropic's own server runs are left out.
///
/// # Errors
/// 400 with the name of the field.
pub fn read(fields: &Fields<'_>, limits: &Limits) -> Result<Tools, ApiError> {
    let mut list = Vec::new();
    for (i, tool) in fields.array("tools", limits.tools)?.unwrap_or_default().iter().enumerate() {
        let tool = Fields::of(tool, format!("tools[{i}]"))?;
        if tool.str("type")?.unwrap_or("custom") == "custom" {
            list.push(function(&tool, "input_schema")?);
        }
    }
    let choice = fields.object("tool_choice")?;
    let single = choice.as_ref().map(|choice| choice.bool("disable_parallel_tool_use")).transpose()?.flatten();
    let choice = match choice.as_ref().map(|choice| choice.str("type")).transpose()?.flatten() {
        None | Some("auto") => Choice::Auto,
        Some("none") => Choice::None,
        Some("any") => Choice::Demand(Demand::Any),
        Some("tool") => {
            let name = choice.as_ref().map(|choice| choice.str("name")).transpose()?.flatten();
            Choice::Demand(Demand::Named(name.ok_or_else(|| ApiError::field("tool_choice.name", "is needed"))?.into()))
        }
        Some(_) => return Err(fields.wrong("tool_choice", "of type `auto`, `any`, `tool` or `none`")),
    };
    chosen(list, choice, single != Some(true), fields)
}
