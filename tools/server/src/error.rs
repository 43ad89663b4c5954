//! What a client is told when something is wrong, in the words of each dialect.

use quipu_runtime::chat::ChatError;
use quipu_runtime::generate::GenerateError;
use quipu_runtime::sampler::SamplerError;
use serde_json::{Value as Json, json};

/// A dialect of HTTP interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's, and llama.cpp's, which has the same errors.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// ollama's `/api`.
    Ollama,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// A sentence.
    pub message: String,
    /// The field that is to blame.
    pub param: Option<String>,
    /// OpenAI's `code`.
    pub code: Option<&'static str>,
    /// Tokens of the prompt and of the context, when the one exceeds the other.
    pub exceeds: Option<Box<(usize, usize)>>,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

impl ApiError {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, kind, message: message.into(), param: None, code: None, exceeds: None, retry_after: None }
    }

    /// 400: the request as a whole.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "invalid_request_error", message)
    }

    /// 400: a field; `message` goes on after its name.
    pub fn field(name: impl Into<String>, message: impl AsRef<str>) -> ApiError {
        let name = name.into();
        let error = ApiError::bad_request(format!("`{name}` {}", message.as_ref()));
        ApiError { param: Some(name), ..error }
    }

    /// 400: the guard does not let it through.
    pub fn refused(message: &str) -> ApiError {
        ApiError { code: Some("content_filter"), ..ApiError::bad_request(message) }
    }

    /// 401: no key, or a wrong one.
    pub fn unauthorized() -> ApiError {
        let message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY` or `X-Api-Key: KEY`";
        ApiError { code: Some("invalid_api_key"), ..ApiError::new(401, "authentication_error", message) }
    }

    /// 403: not from there.
    pub fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(403, "permission_error", message)
    }

    /// 404: no such path.
    pub fn no_path(path: &str) -> ApiError {
        ApiError::new(404, "not_found_error", format!("there is nothing at {path}"))
    }

    /// 404: no such model; these are there. What exists elsewhere on this machine is not told.
    pub fn no_model(name: &str, names: &[&str]) -> ApiError {
        let message = format!("there is no model {name:?} here; {}", list(names));
        let error = ApiError::new(404, "not_found_error", message);
        ApiError { param: Some("model".into()), code: Some("model_not_found"), ..error }
    }

    /// 400: no model is named, and any of these could be meant.
    pub fn which_model(names: &[&str]) -> ApiError {
        ApiError::field("model", format!("is needed; {}", list(names)))
    }

    /// 500: a model that can't be loaded. Its file may bring a text of its own into `why`: a long one loses its middle.
    pub fn not_loaded(name: &str, why: &str) -> ApiError {
        const SHOWN: usize = 600;
        let count = why.chars().count();
        let part = |from: usize| why.chars().skip(from).take(SHOWN).collect::<String>();
        let why = if count <= 2 * SHOWN { why.into() } else { format!("{} […] {}", part(0), part(count - SHOWN)) };
        ApiError::internal(format!("the model {name:?} cannot be loaded: {why}"))
    }

    /// 503: other models are in use, and there is no memory for one more.
    pub fn no_room(name: &str) -> ApiError {
        let message = format!(
            "there is no memory for the model {name:?} beside those that are being used at the moment; try again later"
        );
        let error = ApiError::new(503, "unavailable_error", message);
        ApiError { code: Some("overloaded"), retry_after: Some(5), ..error }
    }

    /// 500: a model that is larger than what all together may have.
    pub fn never_fits(name: &str, bytes: u64, limit: u64) -> ApiError {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let (needs, has) = (megabytes(bytes), megabytes(limit));
        ApiError::not_loaded(name, &format!("its weights take {needs} MB, and those of all models may take {has} MB"))
    }

    /// 405: a path, but another method.
    pub fn method(method: &str, path: &str) -> ApiError {
        ApiError::new(405, "invalid_request_error", format!("{path} does not take {method}"))
    }

    /// 408: too slow.
    pub fn slow() -> ApiError {
        ApiError::new(408, "invalid_request_error", "the body came too slowly")
    }

    /// 413: too large.
    pub fn too_large(most: usize) -> ApiError {
        ApiError::new(413, "invalid_request_error", format!("the body is larger than {most} bytes"))
    }

    /// 415: a body that would have to be unpacked.
    pub fn encoded() -> ApiError {
        ApiError::new(415, "invalid_request_error", "bodies with a Content-Encoding are not read")
    }

    /// 400: a prompt that does not fit. Nothing is ever cut off in silence.
    pub fn exceeds_context(tokens: usize, context: usize) -> ApiError {
        let message = format!(
            "the prompt has {tokens} tokens, which exceeds the available context size of {context} tokens; shorten it, or \
             start the server with a larger context"
        );
        let error = ApiError::new(400, "exceed_context_size_error", message);
        ApiError { code: Some("context_length_exceeded"), exceeds: Some(Box::new((tokens, context))), ..error }
    }

    /// 501: nothing stands behind it.
    pub fn unsupported(message: impl Into<String>) -> ApiError {
        ApiError::new(501, "not_supported_error", message)
    }

    /// 501: a field with pictures.
    pub fn images(name: impl Into<String>) -> ApiError {
        let name = name.into();
        let message = format!("`{name}`: the models here read text; images are not supported");
        ApiError { param: Some(name), ..ApiError::unsupported(message) }
    }

    /// 503: too many wait already.
    pub fn busy(seconds: u32) -> ApiError {
        let message = "as many requests as this server lets wait are waiting already; try again later";
        let error = ApiError::new(503, "unavailable_error", message);
        ApiError { code: Some("overloaded"), retry_after: Some(seconds), ..error }
    }

    /// 503: not yet.
    pub fn loading() -> ApiError {
        ApiError { retry_after: Some(1), ..ApiError::new(503, "unavailable_error", "Loading model") }
    }

    /// 503: not any more.
    pub fn stopping() -> ApiError {
        ApiError::new(503, "unavailable_error", "the server is shutting down")
    }

    /// 500: a fault of ours, or of the model's file.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(500, "server_error", message)
    }

    /// The body in a dialect.
    pub fn body(&self, dialect: Dialect) -> Json {
        match dialect {
            Dialect::OpenAi => {
                let mut error =
                    json!({"message": self.message, "type": self.kind, "param": self.param, "code": self.code});
                if let Some(exceeds) = &self.exceeds {
                    error["n_prompt_tokens"] = exceeds.0.into();
                    error["n_ctx"] = exceeds.1.into();
                }
                json!({ "error": error })
            }
            Dialect::Anthropic => {
                json!({"type": "error", "error": {"type": self.anthropic_type(), "message": self.message}})
            }
            Dialect::Ollama => json!({ "error": self.message }),
        }
    }

    fn anthropic_type(&self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            503 => "overloaded_error",
            500 => "api_error",
            _ => "invalid_request_error",
        }
    }
}

/// The names of models, as many as one reads.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    match names {
        [] => "there are none".into(),
        names if names.len() <= SHOWN => format!("there are: {}", names.join(", ")),
        names => format!("`GET /v1/models` lists all {}", names.len()),
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> ApiError {
        match error {
            ChatError::NoTemplate => ApiError::bad_request(format!("{error}; use /v1/completions")),
            ChatError::Syntax(_) => ApiError::internal(error.to_string()),
            _ => ApiError::field("messages", format!("cannot be put into the model's words: {error}")),
        }
    }
}

impl From<SamplerError> for ApiError {
    fn from(error: SamplerError) -> ApiError {
        match error {
            SamplerError::Option { option, .. } => {
                ApiError { param: Some(option.into()), ..ApiError::bad_request(error.to_string()) }
            }
            SamplerError::EmptyBan => {
                ApiError { param: Some("banned_strings".into()), ..ApiError::bad_request(error.to_string()) }
            }
            SamplerError::EmptyStop => {
                ApiError { param: Some("stop".into()), ..ApiError::bad_request(error.to_string()) }
            }
            _ => ApiError::internal(error.to_string()),
        }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> ApiError {
        match error {
            GenerateError::PromptTooLong { tokens, context } => ApiError::exceeds_context(tokens, context),
            GenerateError::KvMemory { .. } => {
                ApiError { code: Some("context_length_exceeded"), ..ApiError::bad_request(error.to_string()) }
            }
            GenerateError::EmptyPrompt => ApiError::bad_request(error.to_string()),
            GenerateError::OnlyBanned => ApiError::field("banned_strings", error.to_string()),
            GenerateError::Sampler(error) => error.into(),
            GenerateError::Constraint(_) => ApiError::bad_request(error.to_string()),
            _ => ApiError::internal(error.to_string()),
        }
    }
}
