//! Which paths there are, and what stands behind each.

use serde_json::Value as Json;

use crate::anthropic;
use crate::context::{Context, Embedding, Moderation, Plan};
use crate::error::{ApiError, Dialect};
use crate::llama_cpp::{adapters, endpoints, infill, router, state, text};
use crate::models::host::Host;
use crate::moderation::moderator::Moderator;
use crate::{ollama, openai};

/// What a request is answered with before it is known which model it names, if that is all that it asks for.
pub type Early = fn(&Host, &Json) -> Result<Option<Json>, ApiError>;

/// What stands behind a path.
#[derive(Clone, Copy)]
pub enum Action {
    /// Says whether requests are answered yet.
    Health,
    /// Tells something, of what the rest of the path names, or its query.
    Tell(fn(&Host, &str) -> Result<Json, ApiError>),
    /// Does something with the list of models, or tells of one, as the body says.
    Manage(fn(&Host, &Json) -> Result<Json, ApiError>),
    /// Tells all numbers, as text.
    Metrics,
    /// Says this.
    Say(&'static str),
    /// Works something out, without the model's thread.
    Compute(fn(&Context, &Json) -> Result<Json, ApiError>),
    /// Has a text written.
    Write(fn(&Context, &Json) -> Result<Plan, ApiError>),
    /// Has a text written, or something done with the model instead.
    WriteUnless(Early, fn(&Context, &Json) -> Result<Plan, ApiError>),
    /// Has vectors made.
    Embed(fn(&Context, &Json) -> Result<Embedding, ApiError>),
    /// Asks a guard whether texts are safe.
    Moderate(fn(&Context, &Moderator, &Json) -> Result<Moderation, ApiError>),
    /// Has a model fetched.
    Pull,
    /// Is not done here, and says why.
    Refuse(&'static str),
}

/// A path.
pub struct Route {
    /// GET or POST. HEAD is answered as GET is.
    pub method: &'static str,
    /// The path; one that ends with `/` has something behind it, which is handed on.
    pub path: &'static str,
    /// Whose words its errors have.
    pub dialect: Dialect,
    /// What stands behind it.
    pub action: Action,
}

impl Route {
    /// Whether it asks for no key.
    pub fn is_public(&self) -> bool {
        matches!(self.action, Action::Health | Action::Say(_))
    }
}

const fn get(path: &'static str, action: Action) -> Route {
    Route { method: "GET", path, dialect: Dialect::OpenAi, action }
}

const fn post(path: &'static str, action: Action) -> Route {
    Route { method: "POST", path, dialect: Dialect::OpenAi, action }
}

const fn ollama_get(path: &'static str, action: Action) -> Route {
    Route { method: "GET", path, dialect: Dialect::Ollama, action }
}

const fn ollama_post(path: &'static str, action: Action) -> Route {
    Route { method: "POST", path, dialect: Dialect::Ollama, action }
}

const fn messages(path: &'static str, action: Action) -> Route {
    Route { method: "POST", path, dialect: Dialect::Anthropic, action }
}

const NO_CHANGE: &str = "models are not changed by requests; the server is started with them";
const NO_RERANK: &str = "reranking needs a model that was trained for it, which is not supported";
const NO_IMAGES: &str = "the models here read and write text; images are neither made nor changed";

/// All paths. Those without `/v1` are for clients whose base URL lacks it.
const ROUTES: &[Route] = &[
    get("/health", Action::Health),
    get("/v1/health", Action::Health),
    get("/v1/models", Action::Tell(openai::models::list)),
    get("/models", Action::Tell(openai::models::list)),
    get("/v1/models/", Action::Tell(openai::models::one)),
    get("/models/", Action::Tell(openai::models::one)),
    post("/models/load", Action::Manage(router::load)),
    post("/models/unload", Action::Manage(router::unload)),
    post("/v1/chat/completions", Action::Write(openai::endpoints::chat)),
    post("/chat/completions", Action::Write(openai::endpoints::chat)),
    post("/v1/completions", Action::Write(openai::endpoints::completions)),
    post("/v1/responses", Action::Write(openai::endpoints::responses)),
    post("/responses", Action::Write(openai::endpoints::responses)),
    post("/v1/responses/input_tokens", Action::Compute(openai::endpoints::response_tokens)),
    post("/v1/embeddings", Action::Embed(openai::embeddings::embeddings)),
    post("/embeddings", Action::Embed(openai::embeddings::embeddings)),
    post("/embedding", Action::Embed(openai::embeddings::embeddings)),
    post("/v1/moderations", Action::Moderate(openai::moderations::moderations)),
    post("/moderations", Action::Moderate(openai::moderations::moderations)),
    messages("/v1/messages", Action::Write(anthropic::endpoints::messages)),
    messages("/v1/messages/count_tokens", Action::Compute(anthropic::endpoints::count_tokens)),
    get("/props", Action::Tell(state::props)),
    get("/slots", Action::Tell(state::slots)),
    get("/lora-adapters", Action::Tell(adapters::list)),
    post("/lora-adapters", Action::Manage(adapters::apply)),
    get("/metrics", Action::Metrics),
    post("/tokenize", Action::Compute(text::tokenize)),
    post("/detokenize", Action::Compute(text::detokenize)),
    post("/apply-template", Action::Compute(text::apply_template)),
    post("/v1/chat/completions/input_tokens", Action::Compute(text::input_tokens)),
    post("/chat/completions/input_tokens", Action::Compute(text::input_tokens)),
    post("/completion", Action::Write(endpoints::completion)),
    // In llama.cpp, this path without `/v1` is its own completion.
    post("/completions", Action::Write(endpoints::completion)),
    post("/infill", Action::Write(infill::infill)),
    post("/rerank", Action::Refuse(NO_RERANK)),
    post("/v1/rerank", Action::Refuse(NO_RERANK)),
    post("/reranking", Action::Refuse(NO_RERANK)),
    post("/v1/reranking", Action::Refuse(NO_RERANK)),
    post("/v1/images/generations", Action::Refuse(NO_IMAGES)),
    post("/v1/images/edits", Action::Refuse(NO_IMAGES)),
    post("/v1/images/variations", Action::Refuse(NO_IMAGES)),
    ollama_get("/", Action::Say("Ollama is running")),
    ollama_get("/api/version", Action::Tell(ollama::models::version)),
    ollama_get("/api/tags", Action::Tell(ollama::models::tags)),
    ollama_get("/api/ps", Action::Tell(ollama::models::ps)),
    ollama_post("/api/show", Action::Manage(ollama::models::show)),
    ollama_post("/api/chat", Action::WriteUnless(ollama::keep::unload, ollama::chat::chat)),
    ollama_post("/api/generate", Action::WriteUnless(ollama::keep::unload, ollama::generate::generate)),
    ollama_post("/api/embed", Action::Embed(ollama::embed::embed)),
    ollama_post("/api/embeddings", Action::Embed(ollama::embed::embeddings)),
    ollama_post("/api/pull", Action::Pull),
    ollama_post("/api/push", Action::Refuse(NO_CHANGE)),
    ollama_post("/api/create", Action::Refuse(NO_CHANGE)),
    ollama_post("/api/copy", Action::Refuse(NO_CHANGE)),
    Route { method: "DELETE", path: "/api/delete", dialect: Dialect::Ollama, action: Action::Refuse(NO_CHANGE) },
];

/// The route of a request, and what its path has behind the route's.
///
/// # Errors
/// 404, and 405 for a path that takes another method, which is told, too.
pub fn find<'p>(method: &str, path: &'p str) -> Result<(&'static Route, &'p str), (ApiError, Option<&'static str>)> {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut other = None;
    for route in ROUTES {
        let open = route.path.len() > 1 && route.path.ends_with('/');
        let rest = match path.strip_prefix(route.path) {
            Some(rest) if rest.is_empty() != open => rest,
            _ => continue,
        };
        if route.method == method {
            return Ok((route, rest));
        }
        other = Some(route);
    }
    Err(match other {
        Some(route) => (ApiError::method(method, path), Some(route.method)),
        None => (ApiError::no_path(path), None),
    })
}

/// Whose words an error at `path` has.
pub fn dialect_of(path: &str) -> Dialect {
    match path {
        _ if path.starts_with("/api/") => Dialect::Ollama,
        _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
        _ => Dialect::OpenAi,
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn paths_are_found_whole() {
        let rest =
            |method, path| find(method, path).map(|(_, rest)| rest.to_string()).map_err(|(error, _)| error.status);
        assert_eq!(rest("GET", "/v1/models"), Ok(String::new()));
        assert_eq!(rest("HEAD", "/health"), Ok(String::new()));
        assert_eq!(rest("GET", "/v1/models/a/b"), Ok("a/b".into()));
        assert_eq!(rest("POST", "/v1/models"), Err(405));
        for path in ["/v1/models/", "/v1/modelsx", "/v1", "", "/healthy", "//health", "/v1/chat/completions/x"] {
            assert_eq!(rest("GET", path), Err(404), "{path}");
        }
    }
}
