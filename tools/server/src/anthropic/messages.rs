//! `POST /v1/messages` and `/v1/messages/count_tokens`: what is asked, and the parts of an answer.

use quipu_runtime::chat::Message;
use quipu_runtime::generate::{Request, StopReason};
use serde_json::{Value as Json, json};

use super::tools;
use crate::answer::{Answer, Choice, Usage};
use crate::conversation::Conversation;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Model;
use crate::openai::samplers::MANY;
use crate::openai::sampling::{Sampling, strings};
use crate::options::{Defaults, Limits};
use crate::said::{Part, Said};
use crate::shape;
use crate::thinking::Thinking;

/// What is asked.
#[derive(Clone, Debug)]
pub struct MessagesBody {
    /// Which model.
    pub model: Option<String>,
    /// What was said, and what the model may do with it.
    conversation: Conversation,
    /// How the answer is written.
    pub sampling: Sampling,
    /// Whether it comes piece by piece.
    pub stream: bool,
}

/// llama.cpp's default; Anthropic's own server demands a number.
const MAX_TOKENS: usize = 4096;

impl MessagesBody {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(body: &Json, limits: &Limits, defaults: &Defaults) -> Result<MessagesBody, ApiError> {
        let fields = Fields::of_body(body)?;
        let mut sampling = Sampling::read(&fields, limits, defaults, &["max_tokens"])?;
        sampling.choices = 1;
        let config = fields.object("output_config")?.map(|config| config.object("format")).transpose()?.flatten();
        if let Some(format) = config.or(fields.object("output_format")?)
            && let Some(asked) = shape::of_format(&format)?
        {
            sampling.shape = Some(asked);
        }
        if fields.get("max_tokens").is_none() {
            sampling.options.max_tokens = Some(MAX_TOKENS);
        }
        if let Some(stops) = fields.get("stop_sequences") {
            sampling.options.stops = strings(stops, "stop_sequences", limits)?;
        }
        let mut messages = Vec::new();
        match fields.get("system") {
            None => {}
            Some(Json::String(text)) => messages.push(Message::new("system", text.as_str())),
            Some(Json::Array(blocks)) => messages.push(Message::new("system", text_of(blocks, "system")?)),
            Some(_) => return Err(fields.wrong("system", "a string or a list of blocks")),
        }
        let list = fields.array("messages", limits.messages)?.ok_or_else(|| fields.missing("messages"))?;
        if list.is_empty() {
            return Err(ApiError::field("messages", "is empty"));
        }
        for (i, message) in list.iter().enumerate() {
            read_message(&Fields::of(message, format!("messages[{i}]"))?, &mut messages)?;
        }
        if fields.get("mcp_servers").is_some_and(|servers| servers.as_array().is_none_or(|list| !list.is_empty())) {
            let message =
                "is not supported: addresses are not taken from requests; /v1/responses has tools of MCP servers";
            return Err(ApiError::field("mcp_servers", message));
        }
        let mut conversation = Conversation::new(messages).tools(tools::read(&fields, limits)?);
        thinking(&fields)?.apply(&mut conversation, &mut sampling.options);
        Ok(MessagesBody {
            model: fields.str("model")?.map(str::to_string),
            conversation,
            sampling,
            stream: fields.bool("stream")?.unwrap_or(false),
        })
    }

    /// The tokens of the prompt.
    ///
    /// # Errors
    /// When the template refuses, or there is no room.
    pub fn prompt(&self, model: &Model) -> Result<Vec<u32>, ApiError> {
        self.conversation.prompt(model)
    }

    /// What the scheduler is asked for, and where the answer is put together.
    ///
    /// # Errors
    /// 400 if the answer cannot be kept to its shape.
    pub fn requests(&self, model: &Model, prompt: Vec<u32>) -> Result<(Vec<Request>, Answer), ApiError> {
        let reader = self.conversation.reader(model, &prompt);
        let mut requests = self.sampling.requests(model, prompt)?;
        self.conversation.prepare(model, &mut requests, self.sampling.shape.as_ref())?;
        Ok((requests, Answer::new(1, 1, false).read_by(&reader)))
    }

    /// What was said.
    pub fn messages(&self) -> &[Message] {
        &self.conversation.messages
    }

    /// The message, as far as it has come.
    pub fn message(&self, model: &Model, id: &str, content: Json, stop: Json, usage: Json) -> Json {
        let mut message = json!({
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": self.model.as_deref().unwrap_or(model.id()),
            "content": content,
            "usage": usage,
        });
        message["stop_reason"] = stop["stop_reason"].clone();
        message["stop_sequence"] = stop["stop_sequence"].clone();
        message
    }
}

/// Why a text has ended.
pub fn stop(choice: &Choice) -> Json {
    let end = choice.end.as_ref();
    let reason = end.map(|end| match end.stop {
        _ if choice.is_refused() => "refusal",
        StopReason::StopString => "stop_sequence",
        StopReason::Limit | StopReason::ContextFull => "max_tokens",
        _ if choice.said.calls().any(|call| call.complete) => "tool_use",
        _ => "end_turn",
    });
    json!({"stop_reason": reason, "stop_sequence": end.and_then(|end| end.stop_string.clone())})
}

/// The blocks of an answer. A call that is not complete has no input that could be told, and is text; without any part
/// there is an empty text.
pub fn blocks(said: &Said) -> Json {
    let block = |part: &Part| match part {
        Part::Text(text) => text_block(text),
        Part::Thought(text) => json!({"type": "thinking", "thinking": text, "signature": ""}),
        Part::Call(call) => match serde_json::from_str::<Json>(&call.arguments) {
            Ok(input) if call.complete => json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}),
            _ => text_block(&format!("{}{}", call.name, call.arguments)),
        },
    };
    match &said.parts[..] {
        [] => json!([text_block("")]),
        parts => parts.iter().map(block).collect(),
    }
}

/// A block of text.
pub fn text_block(text: &str) -> Json {
    json!({"type": "text", "text": text})
}

/// How much was read and written; what did not have to be read counts apart.
pub fn usage(usage: Usage) -> Json {
    json!({
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.written,
    })
}

/// `thinking`: `disabled`, `adaptive`, or `enabled` with `budget_tokens`.
fn thinking<'b>(fields: &Fields<'b>) -> Result<Thinking<'b>, ApiError> {
    let Some(thinking) = fields.object("thinking")? else { return Thinking::read(fields, None) };
    Ok(match (thinking.str("type")?, thinking.count("budget_tokens", MANY)?) {
        (Some("disabled"), _) => Thinking::Whether(false),
        (_, Some(tokens)) => Thinking::Tokens(tokens),
        (_, None) => Thinking::Whether(true),
    })
}

/// Reads a message; results of tools become messages of their own.
fn read_message(fields: &Fields<'_>, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let role = match fields.str("role")?.ok_or_else(|| fields.missing("role"))? {
        role @ ("user" | "assistant" | "system") => role,
        _ => return Err(fields.wrong("role", "`user` or `assistant`")),
    };
    let blocks = match fields.get("content").ok_or_else(|| fields.missing("content"))? {
        Json::String(text) => {
            messages.push(Message::new(role, text.as_str()));
            return Ok(());
        }
        Json::Array(blocks) => blocks,
        _ => return Err(fields.wrong("content", "a string or a list of blocks")),
    };
    let (mut text, mut thought, mut calls, mut is_text) = (String::new(), String::new(), Vec::new(), false);
    for (i, block) in blocks.iter().enumerate() {
        let block = Fields::of(block, format!("{}[{i}]", fields.name("content")))?;
        match block.str("type")?.ok_or_else(|| block.missing("type"))? {
            "text" => {
                if is_text {
                    text.push('\n');
                }
                text.push_str(block.str("text")?.ok_or_else(|| block.missing("text"))?);
                is_text = true;
            }
            "tool_use" => {
                let name = block.str("name")?.ok_or_else(|| block.missing("name"))?;
                let function = json!({"name": name, "arguments": block.get("input").unwrap_or(&json!({}))});
                calls.push(json!({"type": "function", "id": block.str("id")?, "function": function}));
            }
            "tool_result" => {
                let content = match block.get("content") {
                    None => String::new(),
                    Some(Json::String(text)) => text.clone(),
                    Some(Json::Array(parts)) => text_of(parts, &block.name("content"))?,
                    Some(_) => return Err(block.wrong("content", "a string or a list of blocks")),
                };
                let mut result = Message::new("tool", content);
                result.extra.extend(block.str("tool_use_id")?.map(|id| ("tool_call_id".to_string(), id.into())));
                messages.push(result);
            }
            // Whether the model sees again what it has thought is the template's affair.
            "thinking" => thought.push_str(block.str("thinking")?.unwrap_or_default()),
            "redacted_thinking" => {}
            "image" => return Err(ApiError::images(block.name("type"))),
            _ => return Err(block.wrong("type", "`text`, `tool_use`, `tool_result` or `thinking`")),
        }
    }
    if is_text || !calls.is_empty() {
        let mut message = Message::new(role, text);
        if !calls.is_empty() {
            message.extra.insert("tool_calls".into(), calls.into());
        }
        if !thought.is_empty() {
            message.extra.insert("reasoning_content".into(), thought.into());
        }
        messages.push(message);
    }
    Ok(())
}

/// The text of blocks, one below the other.
fn text_of(blocks: &[Json], name: &str) -> Result<String, ApiError> {
    let mut texts = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        let block = Fields::of(block, format!("{name}[{i}]"))?;
        if block.str("type")? == Some("image") {
            return Err(ApiError::images(block.name("type")));
        }
        if block.str("type")? != Some("text") {
            return Err(block.wrong("type", "`text`: this model reads nothing else"));
        }
        texts.push(block.str("text")?.ok_or_else(|| block.missing("text"))?);
    }
    Ok(texts.join("\n"))
}
