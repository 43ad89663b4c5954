//! Which paths there are, and what stands behind each.

use serde_json::Value as Json;

use crate::context::{Context, Plan};
use crate::error::{ApiError, Dialect};
use crate::openai;

/// What stands behind a path.
#[derive(Clone, Copy)]
pub enum Action {
    /// Says whether there is a model yet.
    Health,
    /// Tells something, of what the rest of the path names.
    Tell(fn(&Context, &str) -> Result<Json, ApiError>),
    /// Has a text written.
    Write(fn(&Context, &Json) -> Result<Plan, ApiError>),
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
        matches!(self.action, Action::Health)
    }
}

const fn get(path: &'static str, action: Action) -> Route {
    Route { method: "GET", path, dialect: Dialect::OpenAi, action }
}

const fn post(path: &'static str, action: Action) -> Route {
    Route { method: "POST", path, dialect: Dialect::OpenAi, action }
}

/// All paths. Those without `/v1` are for clients whose base URL lacks it.
const ROUTES: &[Route] = &[
    get("/health", Action::Health),
    get("/v1/health", Action::Health),
    get("/v1/models", Action::Tell(|context, _| Ok(openai::models::list(context)))),
    get("/models", Action::Tell(|context, _| Ok(openai::models::list(context)))),
    get("/v1/models/", Action::Tell(openai::models::one)),
    get("/models/", Action::Tell(openai::models::one)),
    post("/v1/chat/completions", Action::Write(openai::endpoints::chat)),
    post("/chat/completions", Action::Write(openai::endpoints::chat)),
    post("/v1/completions", Action::Write(openai::endpoints::completions)),
    post("/completions", Action::Write(openai::endpoints::completions)),
];

/// The route of a request, and what its path has behind the route's.
///
/// # Errors
/// 404, and 405 for a path that takes another method, which is told, too.
pub fn find<'p>(method: &str, path: &'p str) -> Result<(&'static Route, &'p str), (ApiError, Option<&'static str>)> {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut other = None;
    for route in ROUTES {
        let rest = match path.strip_prefix(route.path) {
            Some(rest) if rest.is_empty() != route.path.ends_with('/') || route.path == "/" && rest.is_empty() => rest,
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
        for path in ["/v1/models/", "/v1/modelsx", "/v1", "", "/", "/healthy", "//health", "/v1/chat/completions/x"] {
            assert_eq!(rest("GET", path), Err(404), "{path}");
        }
    }
}
