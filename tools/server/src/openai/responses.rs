//! `POST /v1/responses`, without a state on the server: what is asked, and the parts of an answer.

use quipu_runtime::chat::Message;
use quipu_runtime::generate::Request;
use serde_json::{Map, Value as Json, json};

use super::chat::StreamOptions;
use super::messages::text_of;
use super::parts;
use super::sampling::Sampling;
use super::tools;
use crate::answer::{Answer, Choice, Usage};
use crate::conversation::{Conversation, arguments};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Model;
use crate::options::{Defaults, Limits};
use crate::random;
use crate::shape;
use crate::thinking::Thinking;

/// What is asked.
#[derive(Clone, Debug)]
pub struct ResponseBody {
    /// Which model.
    pub model: Option<String>,
    /// What was said, and what the model may do with it.
    conversation: Conversation,
    /// How the answer is written.
    pub sampling: Sampling,
    /// Whether it comes piece by piece, and how.
    pub stream: Option<StreamOptions>,
    id: String,
    created: u64,
    /// What the answer repeats of the request.
    repeated: Map<String, Json>,
}

impl ResponseBody {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(body: &Json, limits: &Limits, defaults: &Defaults) -> Result<ResponseBody, ApiError> {
        let fields = Fields::of_body(body)?;
        for name in ["previous_response_id", "conversation", "prompt"] {
            if fields.get(name).is_some() {
                return Err(ApiError::field(
                    name,
                    "is not supported: nothing is kept here; send the whole conversation",
                ));
            }
        }
        if fields.bool("background")? == Some(true) {
            return Err(ApiError::field("background", "is not supported"));
        }
        let mut sampling = Sampling::read(&fields, limits, defaults, &["max_output_tokens"])?;
        sampling.choices = 1;
        let format = fields.object("text")?.map(|text| text.object("format")).transpose()?.flatten();
        if let Some(format) = &format
            && let Some(asked) = shape::of_format(format)?
        {
            sampling.shape = Some(asked);
        }
        let format = format.map_or_else(|| json!({"type": "text"}), |format| format.map().clone().into());
        if let Some(n) = fields.count("top_logprobs", limits.top_logprobs)?.filter(|&n| n > 0) {
            (sampling.options.logprobs, sampling.options.top_logprobs) = (true, n);
        }
        let mut messages = Vec::new();
        let instructions = fields.str("instructions")?;
        messages.extend(instructions.map(|text| Message::new("system", text)));
        match fields.get("input") {
            Some(Json::String(text)) => messages.push(Message::new("user", text.as_str())),
            Some(Json::Array(items)) if items.len() <= limits.messages => {
                for (i, item) in items.iter().enumerate() {
                    add(&mut messages, message(item, format!("input[{i}]"))?);
                }
            }
            Some(_) => {
                return Err(fields.wrong("input", &format!("a string or a list of at most {} items", limits.messages)));
            }
            None => {}
        }
        // Clients ask for nothing to see whether somebody is there.
        if messages.iter().all(|message| message.role == "system") {
            messages.push(Message::new("user", ""));
        }
        let or = |name: &str, default: Json| (name.to_string(), fields.get(name).cloned().unwrap_or(default));
        let sampler = &sampling.options.sampler;
        let repeated = [
            or("instructions", Json::Null),
            or("max_output_tokens", Json::Null),
            or("metadata", json!({})),
            or("parallel_tool_calls", true.into()),
            or("temperature", sampler.temperature.into()),
            or("tool_choice", "auto".into()),
            or("tools", json!([])),
            or("top_p", sampler.top_p.into()),
            or("top_logprobs", 0.into()),
            or("user", Json::Null),
            ("text".to_string(), json!({ "format": format })),
        ];
        let mut conversation = Conversation::new(messages).tools(tools::read(&fields, limits)?);
        let reasoning = fields.object("reasoning")?;
        let effort = reasoning.as_ref().map(|reasoning| reasoning.str("effort")).transpose()?.flatten();
        Thinking::read(&fields, effort)?.apply(&mut conversation, &mut sampling.options);
        Ok(ResponseBody {
            model: fields.str("model")?.map(str::to_string),
            conversation,
            sampling,
            stream: StreamOptions::read(&fields)?,
            id: random::id("resp_"),
            created: random::now(),
            repeated: repeated.into_iter().collect(),
        })
    }

    /// What was said.
    pub fn messages(&self) -> &[Message] {
        &self.conversation.messages
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
    /// Those of [`ResponseBody::prompt`].
    pub fn requests(&self, model: &Model) -> Result<(Vec<Request>, Answer), ApiError> {
        let prompt = self.prompt(model)?;
        let reader = self.conversation.reader(model, &prompt);
        let mut requests = self.sampling.requests(model, prompt)?;
        self.conversation.prepare(model, &mut requests, self.sampling.shape.as_ref())?;
        Ok((requests, Answer::new(1, 1, self.sampling.options.logprobs).read_by(&reader)))
    }

    /// The response whose text has ended.
    pub fn ended(&self, model: &Model, output: Json, answer: &Answer) -> Json {
        let choice = &answer.choices[0];
        let mut response = self.response(model, status(choice), output, Some(answer.usage()));
        if let Some(reason) = incomplete(choice) {
            response["incomplete_details"] = json!({ "reason": reason });
        }
        choice.tell_note(&mut response);
        response
    }

    /// The response, as far as it has come.
    pub fn response(&self, model: &Model, status: &str, output: Json, usage: Option<Usage>) -> Json {
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "model": self.model.as_deref().unwrap_or(model.id()),
            "output": output,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "service_tier": "default",
            "store": false,
            "truncation": "disabled",
            "usage": usage.map(usage_of),
        });
        for (name, value) in &self.repeated {
            response[name] = value.clone();
        }
        response
    }
}

fn usage_of(usage: Usage) -> Json {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.written,
    })
}

/// Adds a message; a call joins what the assistant has said or called right before it.
fn add(messages: &mut Vec<Message>, message: Option<Message>) {
    let Some(mut message) = message else { return };
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

/// The message that an item of the conversation is; none for what a model has thought, which it does not see again.
fn message(item: &Json, name: String) -> Result<Option<Message>, ApiError> {
    let fields = Fields::of(item, name)?;
    match fields.str("type")?.unwrap_or("message") {
        "message" => {
            let role = match fields.str("role")?.ok_or_else(|| fields.missing("role"))? {
                "developer" => "system",
                role @ ("system" | "user" | "assistant") => role,
                _ => return Err(fields.wrong("role", "`system`, `developer`, `user` or `assistant`")),
            };
            let content = match fields.get("content").ok_or_else(|| fields.missing("content"))? {
                Json::String(text) => text.clone(),
                Json::Array(parts) => text_of(parts, &fields.name("content"))?,
                _ => return Err(fields.wrong("content", "a string or a list of parts")),
            };
            Ok(Some(Message::new(role, content)))
        }
        "function_call" => {
            let text = |name: &str| fields.str(name)?.ok_or_else(|| fields.missing(name));
            let function = json!({"name": text("name")?, "arguments": arguments(&text("arguments")?.into())});
            let calls = json!([{"type": "function", "id": text("call_id")?, "function": function}]);
            let extra = [("tool_calls".to_string(), calls)].into_iter().collect();
            Ok(Some(Message { role: "assistant".into(), content: Json::Null, extra, tokens: Vec::new() }))
        }
        "function_call_output" => {
            let output = match fields.get("output").ok_or_else(|| fields.missing("output"))? {
                Json::String(text) => text.clone(),
                Json::Array(parts) => text_of(parts, &fields.name("output"))?,
                _ => return Err(fields.wrong("output", "a string or a list of parts")),
            };
            let mut result = Message::new("tool", output);
            result.extra.extend(fields.str("call_id")?.map(|id| ("tool_call_id".to_string(), id.into())));
            Ok(Some(result))
        }
        "reasoning" => Ok(None),
        _ => Err(fields.wrong("type", "`message`, `function_call`, `function_call_output` or `reasoning`")),
    }
}

/// The status of a response whose text has ended.
pub fn status(choice: &Choice) -> &'static str {
    if incomplete(choice).is_some() { "incomplete" } else { "completed" }
}

/// The status of its last item: a response that a stop string has ended is complete, and a call that it has cut is not.
pub fn last_status(choice: &Choice) -> &'static str {
    if choice.is_cut_in_a_call() { "incomplete" } else { status(choice) }
}

/// Why the text of a response is not complete, if it is not.
fn incomplete(choice: &Choice) -> Option<&'static str> {
    match parts::finish_reason(choice) {
        Some("length") => Some("max_output_tokens"),
        Some("content_filter") => Some("content_filter"),
        _ => None,
    }
}

/// The probabilities of a text's tokens, if they are asked for.
pub fn logprobs(model: &Model, choice: &Choice) -> Json {
    choice.tokens.iter().map(|token| parts::token_logprobs(&model.tokenizer, token)).collect()
}
