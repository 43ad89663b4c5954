//! The tools that a request declares, in the forms of chat completions, of their older functions, and of responses.

use quipu_runtime::chat::answer::Tool;
use serde_json::Value as Json;

use crate::conversation::doubled;
use crate::demand::{Demand, Tools};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::mcp::granted::Granted;
use crate::options::Limits;

/// Bytes of a name.
const LONGEST_NAME: usize = 128;

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`, or `functions` and `function_call`. Tools of other kinds
/// than functions are left out: clients offer what their makers' own servers can do. Those that this server runs itself
/// are `hosted`, in a dialect that has a place for what comes of them.
///
/// # Errors
/// 400 with the name of the field.
pub fn read(fields: &Fields<'_>, limits: &Limits, hosted: Option<&Granted>) -> Result<Tools, ApiError> {
    let choice = if fields.get("tool_choice").is_some() { "tool_choice" } else { "function_call" };
    let parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
    let choice = match fields.get(choice) {
        None => Choice::Auto,
        Some(Json::String(word)) => match word.as_str() {
            "none" => Choice::None,
            "auto" => Choice::Auto,
            "required" => Choice::Demand(Demand::Any),
            _ => return Err(fields.wrong(choice, "`none`, `auto`, `required` or a function")),
        },
        Some(_) => {
            let named = fields.object(choice)?.ok_or_else(|| fields.missing(choice))?;
            // Chat completions have it within, responses and functions flat.
            let named = named.object("function")?.unwrap_or(named);
            Choice::Demand(Demand::Named(named.str("name")?.ok_or_else(|| named.missing("name"))?.into()))
        }
    };
    // Of tools that are not to be called nothing need be known.
    if choice == Choice::None {
        return Ok(Tools::default());
    }
    let mut list = Vec::new();
    for (i, tool) in fields.array("tools", limits.tools)?.unwrap_or_default().iter().enumerate() {
        let tool = Fields::of(tool, format!("tools[{i}]"))?;
        match tool.str("type")?.unwrap_or("function") {
            // Responses have it flat.
            "function" => list.push(function(&tool.object("function")?.unwrap_or(tool), "parameters")?),
            "mcp" if hosted.is_none() => {
                return Err(ApiError::field(
                    tool.name("type"),
                    "is not supported here: /v1/responses has tools of MCP",
                ));
            }
            _ => {}
        }
    }
    list.extend(hosted.iter().flat_map(|granted| granted.tools.iter().cloned()));
    for (i, function_) in fields.array("functions", limits.tools)?.unwrap_or_default().iter().enumerate() {
        list.push(function(&Fields::of(function_, format!("functions[{i}]"))?, "parameters")?);
    }
    chosen(list, choice, parallel, fields)
}

/// What a request says of whether tools are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The model does not even know of them.
    None,
    /// The model decides.
    Auto,
    /// One is called in any case.
    Demand(Demand),
}

/// The tools, as the request has chosen.
///
/// # Errors
/// 400 with the name of the field.
pub fn chosen(list: Vec<Tool>, choice: Choice, parallel: bool, fields: &Fields<'_>) -> Result<Tools, ApiError> {
    if let Some(name) = doubled(&list) {
        return Err(ApiError::field(fields.name("tools"), format!("has two tools called `{name}`")));
    }
    let demand = match choice {
        Choice::None => return Ok(Tools::default()),
        Choice::Auto => None,
        Choice::Demand(demand) => Some(demand),
    };
    let is_there = match &demand {
        Some(Demand::Named(name)) => list.iter().any(|tool| tool.name == *name),
        Some(Demand::Any) => !list.is_empty(),
        None => true,
    };
    if !is_there {
        return Err(ApiError::field(fields.name("tool_choice"), "demands a call of a tool that is not declared"));
    }
    Ok(Tools { list: list.into(), parallel, demand })
}

/// A function, whose arguments' schema is the field `schema`.
///
/// # Errors
/// 400 with the name of the field.
pub fn function(fields: &Fields<'_>, schema: &str) -> Result<Tool, ApiError> {
    let name = fields.str("name")?.ok_or_else(|| fields.missing("name"))?;
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
        let message = format!("must be letters, digits, `_`, `-` and `.`, at most {LONGEST_NAME} bytes");
        return Err(ApiError::field(fields.name("name"), message));
    }
    let parameters = fields.object(schema)?.map_or(Json::Null, |schema| schema.map().clone().into());
    Ok(Tool {
        name: name.into(),
        description: fields.str("description")?.map(str::to_string),
        parameters,
        strict: fields.bool("strict")?.unwrap_or(false),
    })
}
