//! Which tools of the server's a request may have run: entries of `tools` with the type `mcp`, in the form of OpenAI's
//! responses. They name what the operator has set up; a request never brings an address or a command.

use quipu_runtime::chat::answer::Tool;
use serde_json::{Value as Json, json};

use super::hosted::{Hosted, Toolbox};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::options::Limits;

/// What would make the server talk to whom a request likes.
const FOREIGN: [&str; 5] = ["server_url", "connector_id", "tunnel_id", "authorization", "headers"];

/// A tool that may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub name: String,
    /// The number of its server in the toolbox, and what that is called.
    pub server: usize,
    /// What that is called.
    pub label: String,
    /// Whether the client has to agree to each call.
    pub asks: bool,
}

/// All that may be run.
#[derive(Clone, Debug, Default)]
pub struct Granted {
    grants: Vec<Grant>,
    /// What the model is told of them.
    pub tools: Vec<Tool>,
}

impl Granted {
    /// Reads the entries of `tools` that are of this kind.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(fields: &Fields<'_>, toolbox: &Toolbox, limits: &Limits) -> Result<Granted, ApiError> {
        let mut granted = Granted::default();
        for (i, entry) in fields.array("tools", limits.tools)?.unwrap_or_default().iter().enumerate() {
            let entry = Fields::of(entry, format!("tools[{i}]"))?;
            if entry.str("type")? == Some("mcp") {
                granted.add(&entry, toolbox, limits)?;
            }
        }
        Ok(granted)
    }

    fn add(&mut self, entry: &Fields<'_>, toolbox: &Toolbox, limits: &Limits) -> Result<(), ApiError> {
        if let Some(foreign) = FOREIGN.into_iter().find(|name| entry.get(name).is_some()) {
            let message =
                "is not taken from requests: `server_label` names an MCP server that this server was started with";
            return Err(ApiError::field(entry.name(foreign), message));
        }
        let label = entry.str("server_label")?.ok_or_else(|| entry.missing("server_label"))?;
        let server = toolbox.servers.iter().position(|server| server.label == label);
        let server = server.ok_or_else(|| ApiError::field(entry.name("server_label"), unknown(label, toolbox)))?;
        let Hosted { label, tools, .. } = &toolbox.servers[server];
        if self.grants.iter().any(|grant| grant.server == server) {
            return Err(ApiError::field(entry.name("server_label"), format!("names `{label}` a second time")));
        }
        let allowed = Names::read(entry, "allowed_tools", limits)?;
        if let Some(missing) = allowed.iter().flat_map(|names| &names.0).find(|name| !has(tools, name)) {
            let message = format!("names `{missing}`, which is no tool of `{label}` that may be used here");
            return Err(ApiError::field(entry.name("allowed_tools"), message));
        }
        let approval = Approval::read(entry, limits)?;
        for tool in tools.iter().filter(|tool| allowed.as_ref().is_none_or(|names| names.have(&tool.name))) {
            let asks = approval.asks(&tool.name);
            self.grants.push(Grant { name: tool.name.clone(), server, label: label.clone(), asks });
            self.tools.push(tool.clone());
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// The tool that is called `name`.
    pub fn find(&self, name: &str) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.name == name)
    }

    /// For each server what it is called and its tools, in OpenAI's form.
    pub fn lists(&self) -> Vec<(String, Json)> {
        let mut lists: Vec<(String, Vec<Json>)> = Vec::new();
        for (grant, tool) in self.grants.iter().zip(&self.tools) {
            let told = json!({
                "name": tool.name,
                "description": tool.description,
                "input_schema": if tool.parameters.is_null() { json!({"type": "object"}) } else { tool.parameters.clone() },
                "annotations": null,
            });
            match lists.last_mut() {
                Some((label, list)) if *label == grant.label => list.push(told),
                _ => lists.push((grant.label.clone(), vec![told])),
            }
        }
        lists.into_iter().map(|(label, list)| (label, list.into())).collect()
    }
}

fn has(tools: &[Tool], name: &str) -> bool {
    tools.iter().any(|tool| tool.name == name)
}

fn unknown(label: &str, toolbox: &Toolbox) -> String {
    let there: Vec<&str> = toolbox.servers.iter().map(|server| server.label.as_str()).collect();
    match &there[..] {
        [] => "names an MCP server, and this server was started without any".into(),
        there => format!("names no MCP server of this server ({label:?}); there are: {}", there.join(", ")),
    }
}

/// Names of tools: a list, or an object with one.
struct Names(Vec<String>);

impl Names {
    fn read(fields: &Fields<'_>, name: &str, limits: &Limits) -> Result<Option<Names>, ApiError> {
        let list = match fields.get(name) {
            None => return Ok(None),
            Some(Json::Array(_)) => fields.array(name, limits.tools)?,
            Some(_) => {
                let filter = fields.object(name)?.ok_or_else(|| fields.missing(name))?;
                if filter.get("read_only").is_some() {
                    return Err(ApiError::field(filter.name("read_only"), "is not supported: name the tools"));
                }
                filter.array("tool_names", limits.tools)?
            }
        };
        let wrong = || fields.wrong(name, "a list of names");
        let names = list.ok_or_else(wrong)?.iter().map(|name| name.as_str().map(str::to_string).ok_or_else(wrong));
        Ok(Some(Names(names.collect::<Result<_, _>>()?)))
    }

    fn have(&self, name: &str) -> bool {
        self.0.iter().any(|own| own == name)
    }
}

/// `require_approval`.
enum Approval {
    /// Every call, or none.
    All(bool),
    /// These tools never; all others, or these alone if there are any.
    Some { never: Option<Names>, always: Option<Names> },
}

impl Approval {
    fn read(entry: &Fields<'_>, limits: &Limits) -> Result<Approval, ApiError> {
        match entry.get("require_approval") {
            // As OpenAI has it.
            None => Ok(Approval::All(true)),
            Some(Json::String(word)) if word == "always" => Ok(Approval::All(true)),
            Some(Json::String(word)) if word == "never" => Ok(Approval::All(false)),
            Some(Json::Object(_)) => {
                let each = entry.object("require_approval")?.ok_or_else(|| entry.missing("require_approval"))?;
                let (never, always) = (Names::read(&each, "never", limits)?, Names::read(&each, "always", limits)?);
                Ok(Approval::Some { never, always })
            }
            Some(_) => Err(entry.wrong("require_approval", "`always`, `never` or an object with these")),
        }
    }

    fn asks(&self, tool: &str) -> bool {
        match self {
            Approval::All(asks) => *asks,
            // In doubt yes.
            Approval::Some { never: Some(never), always } => {
                !never.have(tool) || always.as_ref().is_some_and(|always| always.have(tool))
            }
            Approval::Some { never: None, always: Some(always) } => always.have(tool),
            Approval::Some { never: None, always: None } => true,
        }
    }
}
