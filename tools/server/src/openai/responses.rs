//! `POST /v1/responses`, without a state on the server: what is asked, and the parts of an answer.

use std::sync::Arc;

use quipu_runtime::chat::Message;
use quipu_runtime::chat::answer::AnswerReader;
use serde_json::{Map, Value as Json, json};

use super::chat::StreamOptions;
use super::input::{Input, add_items};
use super::items::{history, incomplete, status};
use super::sampling::Sampling;
use super::tools;
use crate::answer::{Answer, Usage};
use crate::conversation::Conversation;
use crate::demand::Tools;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::mcp::granted::Granted;
use crate::mcp::hosted::Toolbox;
use crate::mcp::rounds::{Round, Rounds};
use crate::model::Model;
use crate::options::{Defaults, Limits};
use crate::random;
use crate::said::{Call, Part};
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
    /// The tools that the server runs itself.
    pub granted: Granted,
    /// The items that tell of these.
    pub lists: Vec<Json>,
    /// Calls that the client has agreed to.
    approved: Vec<Call>,
    /// How many calls the server runs.
    calls: usize,
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
    pub fn read(
        body: &Json,
        limits: &Limits,
        defaults: &Defaults,
        toolbox: &Toolbox,
    ) -> Result<ResponseBody, ApiError> {
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
        let granted = Granted::read(&fields, toolbox, limits)?;
        let instructions = fields.str("instructions")?;
        let system = instructions.map(|text| Message::new("system", text)).into_iter().collect();
        let Input { mut messages, approved, listed } = match fields.get("input") {
            Some(Json::String(text)) => {
                let user = json!({"role": "user", "content": text});
                Input::read(system, &[user], &granted)?
            }
            Some(Json::Array(items)) if items.len() <= limits.messages => Input::read(system, items, &granted)?,
            Some(_) => {
                return Err(fields.wrong("input", &format!("a string or a list of at most {} items", limits.messages)));
            }
            None => Input::read(system, &[], &granted)?,
        };
        // Clients ask for nothing to see whether somebody is there.
        if approved.is_empty() && messages.iter().all(|message| message.role == "system") {
            messages.push(Message::new("user", ""));
        }
        let or = |name: &str, default: Json| (name.to_string(), fields.get(name).cloned().unwrap_or(default));
        let sampler = &sampling.options.sampler;
        let repeated = [
            or("instructions", Json::Null),
            or("max_output_tokens", Json::Null),
            or("max_tool_calls", Json::Null),
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
        let mut conversation = Conversation::new(messages).tools(tools::read(&fields, limits, Some(&granted))?);
        let reasoning = fields.object("reasoning")?;
        let effort = reasoning.as_ref().map(|reasoning| reasoning.str("effort")).transpose()?.flatten();
        Thinking::read(&fields, effort)?.apply(&mut conversation, &mut sampling.options);
        let calls = fields.count("max_tool_calls", usize::MAX)?.map_or(limits.calls, |most| most.min(limits.calls));
        let unlisted = granted.lists().into_iter().filter(|(label, _)| !listed.contains(label));
        let list = |(label, tools)| {
            let id = random::id("mcpl_");
            json!({"id": id, "type": "mcp_list_tools", "server_label": label, "tools": tools, "error": null})
        };
        Ok(ResponseBody {
            model: fields.str("model")?.map(str::to_string),
            conversation,
            sampling,
            stream: StreamOptions::read(&fields)?,
            lists: unlisted.map(list).collect(),
            granted,
            approved,
            calls,
            id: random::id("resp_"),
            created: random::now(),
            repeated: repeated.into_iter().collect(),
        })
    }

    /// The tokens of the prompt.
    ///
    /// # Errors
    /// When the template refuses, or there is no room.
    pub fn prompt(&self, model: &Model) -> Result<Vec<u32>, ApiError> {
        self.conversation.prompt(model)
    }

    /// Where the answer is put together, which `reader` reads, if its first text is known already.
    pub fn answer(&self, reader: Option<&AnswerReader>) -> Answer {
        let answer = Answer::new(1, 1, self.sampling.options.logprobs);
        reader.map_or(answer.clone(), |reader| answer.read_by(reader))
    }

    /// The text that is written first; none if a call has to be run before it.
    ///
    /// # Errors
    /// Those of [`ResponseBody::prompt`].
    pub fn first(&self, model: &Model) -> Result<Option<Round>, ApiError> {
        self.approved.is_empty().then(|| self.round(model)).transpose()
    }

    /// How the answer goes on when it calls what the server runs; nothing if it has none of that. The first text is
    /// read by `reader`.
    pub fn rounds(&self, model: Arc<Model>, toolbox: Arc<Toolbox>, reader: Option<AnswerReader>) -> Option<Rounds> {
        if self.granted.is_empty() {
            return None;
        }
        let (mut body, budget) = (self.clone(), self.sampling.options.max_tokens);
        let next = move |parts: &[Part], may_call: bool, written: usize| {
            add_items(&mut body.conversation.messages, &history(parts, &body.granted))?;
            // What was demanded was done.
            body.conversation.tools.demand = None;
            if !may_call {
                body.conversation.tools = Tools::default();
            }
            body.sampling.options.max_tokens = budget.map(|budget| budget.saturating_sub(written));
            body.round(&model)
        };
        let (approved, calls, granted) = (self.approved.clone(), self.calls, self.granted.clone());
        Some(Rounds { toolbox, granted, approved, calls, reader, next: Box::new(next) })
    }

    /// What the scheduler is asked for, as far as the conversation has come.
    fn round(&self, model: &Model) -> Result<Round, ApiError> {
        let prompt = self.prompt(model)?;
        let reader = self.conversation.reader(model, &prompt);
        let mut requests = self.sampling.requests(model, prompt)?;
        self.conversation.prepare(model, &mut requests, self.sampling.shape.as_ref())?;
        Ok(Round { requests, messages: self.conversation.messages.clone(), reader })
    }

    /// The response whose text has ended.
    pub fn ended(&self, model: &Model, items: Vec<Json>, answer: &Answer) -> Json {
        let choice = &answer.choices[0];
        let output = self.lists.iter().cloned().chain(items).collect();
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
