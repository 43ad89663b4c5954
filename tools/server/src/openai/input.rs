//! The conversation that a response goes on from: messages, calls of functions and their results, and what became of
//! calls that the server runs itself.

use std::collections::HashMap;

use quipu_runtime::chat::Message;
use serde_json::{Value as Json, json};

use super::messages::text_of;
use crate::conversation::arguments;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::mcp::granted::Granted;
use crate::said::Call;

/// What the model is told of a call that its user did not agree to; `quipu chat` says the same.
const REFUSED: &str = "The user did not allow this call.";

/// What a client sends.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// What was said.
    pub messages: Vec<Message>,
    /// Calls that the client has agreed to, and that were not run yet.
    pub approved: Vec<Call>,
    /// The servers whose tools the client was told of.
    pub listed: Vec<String>,
}

impl Input {
    /// Reads the items of `input`, after `messages`.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(messages: Vec<Message>, items: &[Json], granted: &Granted) -> Result<Input, ApiError> {
        let mut input = Input { messages, ..Input::default() };
        let mut answers = Answers::read(items)?;
        for (i, item) in items.iter().enumerate() {
            let fields = Fields::of(item, format!("input[{i}]"))?;
            match fields.str("type")? {
                Some("mcp_list_tools") => input.listed.extend(fields.str("server_label")?.map(str::to_string)),
                Some("mcp_approval_response") => {}
                Some("mcp_approval_request") => {
                    let id = needed(&fields, "id")?;
                    match answers.take(id) {
                        Some(Answered::Ran) => {}
                        Some(Answered::Yes) => input.approved.push(agreed(&fields, id, granted)?),
                        Some(Answered::No(why)) => {
                            add(&mut input.messages, call(&fields, "id")?);
                            let said = why.map_or_else(|| REFUSED.to_string(), |why| format!("{REFUSED} {why}"));
                            input.messages.push(result(said, id));
                        }
                        None => {
                            add(&mut input.messages, call(&fields, "id")?);
                            input.messages.push(result(REFUSED.into(), id));
                        }
                    }
                }
                _ => input.add(&fields)?,
            }
        }
        answers.check_all_taken()?;
        Ok(input)
    }

    fn add(&mut self, fields: &Fields<'_>) -> Result<(), ApiError> {
        message(fields)?.into_iter().for_each(|message| add(&mut self.messages, message));
        Ok(())
    }
}

/// Adds items of an answer, as if a client had sent them.
///
/// # Errors
/// When they are no items.
pub fn add_items(messages: &mut Vec<Message>, items: &[Json]) -> Result<(), ApiError> {
    for item in items {
        message(&Fields::of(item, "output")?)?.into_iter().for_each(|message| add(messages, message));
    }
    Ok(())
}

/// What a client has said of a call that it was asked about.
enum Answered {
    /// It agreed, and the call was run.
    Ran,
    /// It agrees.
    Yes,
    /// It does not, and may say why.
    No(Option<String>),
}

/// By the ids of what was asked, with the place in which it was answered.
struct Answers(HashMap<String, (Answered, String)>);

impl Answers {
    fn read(items: &[Json]) -> Result<Answers, ApiError> {
        let mut answers = HashMap::new();
        for (i, item) in items.iter().enumerate() {
            let fields = Fields::of(item, format!("input[{i}]"))?;
            let (id, answered) = match fields.str("type")? {
                Some("mcp_approval_response") => {
                    let agrees = fields.bool("approve")?.ok_or_else(|| fields.missing("approve"))?;
                    let no = Answered::No(fields.str("reason")?.map(str::to_string));
                    (needed(&fields, "approval_request_id")?, if agrees { Answered::Yes } else { no })
                }
                Some("mcp_call") => match fields.str("approval_request_id")? {
                    Some(id) => (id, Answered::Ran),
                    None => continue,
                },
                _ => continue,
            };
            // What was run was answered before.
            let place = fields.name("approval_request_id");
            answers.insert(id.to_string(), (answered, place));
        }
        Ok(Answers(answers))
    }

    fn take(&mut self, id: &str) -> Option<Answered> {
        self.0.remove(id).map(|(answered, _)| answered)
    }

    /// Who agrees to something must have been asked.
    fn check_all_taken(self) -> Result<(), ApiError> {
        let left = self.0.into_values().filter(|(answered, _)| !matches!(answered, Answered::Ran));
        match left.map(|(_, place)| place).min() {
            None => Ok(()),
            Some(place) => {
                Err(ApiError::field(place, "is the id of no `mcp_approval_request` of the input: send that as well"))
            }
        }
    }
}

/// A call that the client has agreed to.
fn agreed(fields: &Fields<'_>, id: &str, granted: &Granted) -> Result<Call, ApiError> {
    let (name, label) = (needed(fields, "name")?, needed(fields, "server_label")?);
    if granted.find(name).is_none_or(|grant| grant.label != label) {
        let message = format!("is `{name}`, which is no tool of `{label}` that this request lets the server run");
        return Err(ApiError::field(fields.name("name"), message));
    }
    let arguments = needed(fields, "arguments")?;
    if !serde_json::from_str(arguments).is_ok_and(|arguments: Json| arguments.is_object()) {
        return Err(fields.wrong("arguments", "the text of a JSON object"));
    }
    Ok(Call { arguments: arguments.into(), complete: true, approval: Some(id.into()), ..Call::new(name) })
}

/// Adds a message; a call joins what the assistant has said or called right before it.
fn add(messages: &mut Vec<Message>, mut message: Message) {
    if let Some(Json::Array(calls)) = message.extra.get_mut("tool_calls")
        && let Some(last) = messages.last_mut().filter(|last| last.role == "assistant")
    {
        match last.extra.get_mut("tool_calls") {
            Some(Json::Array(before)) => before.append(calls),
            _ => last.extra = message.extra,
        }
    } else {
        messages.push(message);
    }
}

/// The messages that an item of the conversation is; none for what a model has thought, which it does not see again.
fn message(fields: &Fields<'_>) -> Result<Vec<Message>, ApiError> {
    match fields.str("type")?.unwrap_or("message") {
        "message" => {
            let role = match needed(fields, "role")? {
                "developer" => "system",
                role @ ("system" | "user" | "assistant") => role,
                _ => return Err(fields.wrong("role", "`system`, `developer`, `user` or `assistant`")),
            };
            Ok(vec![Message::new(role, text(fields, "content")?)])
        }
        "function_call" => Ok(vec![call(fields, "call_id")?]),
        "function_call_output" => {
            let mut result = Message::new("tool", text(fields, "output")?);
            result.extra.extend(fields.str("call_id")?.map(|id| ("tool_call_id".to_string(), id.into())));
            Ok(vec![result])
        }
        "mcp_call" => {
            let said = match (fields.str("output")?, fields.get("error")) {
                (Some(output), _) => output.to_string(),
                (None, Some(error)) => format!("error: {}", failure(error)),
                (None, None) => "error: it did not run".into(),
            };
            Ok(vec![call(fields, "id")?, result(said, needed(fields, "id")?)])
        }
        "reasoning" => Ok(Vec::new()),
        _ => Err(fields.wrong(
            "type",
            "`message`, `function_call`, `function_call_output`, `reasoning`, or one of those with `mcp_`",
        )),
    }
}

/// A call, whose id is the field `id`.
fn call(fields: &Fields<'_>, id: &str) -> Result<Message, ApiError> {
    let function =
        json!({"name": needed(fields, "name")?, "arguments": arguments(&needed(fields, "arguments")?.into())});
    let calls = json!([{"type": "function", "id": needed(fields, id)?, "function": function}]);
    let extra = [("tool_calls".to_string(), calls)].into_iter().collect();
    Ok(Message { role: "assistant".into(), content: Json::Null, extra, tokens: Vec::new() })
}

/// The result of a call.
fn result(text: String, id: &str) -> Message {
    let mut result = Message::new("tool", text);
    result.extra.insert("tool_call_id".into(), id.into());
    result
}

/// What an error says, in the form that it has here, or as a text.
fn failure(error: &Json) -> String {
    let text = error["message"].as_str().or(error["content"][0]["text"].as_str()).or(error.as_str());
    text.map_or_else(|| error.to_string(), str::to_string)
}

fn needed<'a>(fields: &Fields<'a>, name: &str) -> Result<&'a str, ApiError> {
    fields.str(name)?.ok_or_else(|| fields.missing(name))
}

/// A text, or the text of a list of parts.
fn text(fields: &Fields<'_>, name: &str) -> Result<String, ApiError> {
    match fields.get(name).ok_or_else(|| fields.missing(name))? {
        Json::String(text) => Ok(text.clone()),
        Json::Array(parts) => text_of(parts, &fields.name(name)),
        _ => Err(fields.wrong(name, "a string or a list of parts")),
    }
}
