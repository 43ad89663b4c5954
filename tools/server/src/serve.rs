//! From a request to its answer, whatever the dialect.

use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};

use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, HeaderValue, VARY,
};
use hyper::{Method, Request};
use serde_json::{Value as Json, json};

use crate::answer::Answer;
use crate::context::{Context, Embedding, Form, Plan};
use crate::engine::Running;
use crate::error::ApiError;
use crate::http::body;
use crate::http::guard::{Arrival, Guard};
use crate::http::reply::{self, Reply};
use crate::llama_cpp::metrics;
use crate::options::Limits;
use crate::page;
use crate::routes::{self, Action, Route};

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// Who may ask.
    pub guard: Guard,
    /// What is taken at most.
    pub limits: Limits,
    /// The models, once they are loaded.
    pub context: OnceLock<Arc<Context>>,
}

/// Answers a request.
pub async fn answer(shared: Arc<Shared>, arrival: Arrival, request: Request<Incoming>) -> Reply {
    let (path, method) = (request.uri().path().to_string(), request.method().clone());
    let dialect = routes::dialect_of(&path);
    if let Err(error) = shared.guard.check_caller(arrival, request.uri(), request.headers()) {
        return reply::error(&error, dialect);
    }
    let reader = shared.guard.reader(request.headers());
    let mut reply = if method == Method::OPTIONS {
        preflight(reader.is_some())
    } else if let Some(file) = page::find(&method, &path, request.headers()) {
        file
    } else {
        match routes::find(method.as_str(), &path) {
            Ok((route, rest)) => match route_answer(&shared, route, rest, request).await {
                Ok(reply) => reply,
                Err(error) => reply::error(&error, route.dialect),
            },
            Err((error, other)) => {
                let mut reply = reply::error(&error, dialect);
                if let Some(other) = other {
                    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(other));
                }
                reply
            }
        }
    };
    if let Some(origin) = reader {
        reply.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        reply.headers_mut().insert(VARY, HeaderValue::from_static("Origin"));
    }
    reply
}

/// What a browser wants to know before a page of another origin may call: yes only to those that were allowed by name.
fn preflight(allowed: bool) -> Reply {
    let mut reply = reply::whole(204, "text/plain", "");
    if allowed {
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        let allowed = "authorization, content-type, x-api-key, anthropic-version, anthropic-beta";
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    }
    reply
}

async fn route_answer(
    shared: &Arc<Shared>,
    route: &'static Route,
    rest: &str,
    request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    if !route.is_public() {
        shared.guard.check_key(request.headers())?;
    }
    let context = shared.context.get().ok_or_else(ApiError::loading)?.clone();
    match route.action {
        Action::Health => Ok(reply::json(&json!({"status": "ok"}))),
        Action::Tell(tell) => {
            let query = request.uri().query().unwrap_or_default();
            Ok(reply::json(&tell(&context, if rest.is_empty() { query } else { rest })?))
        }
        Action::Metrics => Ok(reply::whole(200, metrics::TYPE, metrics::text(&context))),
        Action::Say(text) => Ok(reply::whole(200, "text/plain; charset=utf-8", text)),
        Action::Refuse(why) => Err(ApiError::unsupported(why)),
        Action::Compute(compute) => Ok(reply::json(&read(shared, request, move |body| compute(&context, body)).await?)),
        Action::Write(plan) => {
            write(read(shared, request, move |body| plan(&context, body)).await?, &shared.limits).await
        }
        Action::Embed(plan) => {
            let Embedding { served, texts, options, tell } =
                read(shared, request, move |body| plan(&context, body)).await?;
            let vectors = served.handle.embed(texts, options).map_err(|busy| ApiError::busy(busy.0))?;
            let vectors = vectors.await.map_err(|_| ApiError::internal("the thread that runs the model has ended"))?;
            Ok(reply::json(&tell(vectors?)))
        }
    }
}

/// What `read` makes of the body.
async fn read<T: Send + 'static>(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    read: impl FnOnce(&Json) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (head, incoming) = request.into_parts();
    let bytes = body::read(&head.headers, incoming, &shared.limits).await?;
    aside(move || read(&parse(&bytes)?)).await
}

/// Runs what may take some milliseconds, such as making tokens of a long text, where it holds up nobody else.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => resume_unwind(error.into_panic()),
    }
}

/// Reads JSON. It may be 127 levels deep: that is where the reader stops, before the stack does.
fn parse(bytes: &[u8]) -> Result<Json, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| ApiError::bad_request(format!("the body is no JSON: {error}")))
}

async fn write(plan: Plan, limits: &Limits) -> Result<Reply, ApiError> {
    let Plan { served, requests, form } = plan;
    let submit = |requests| served.handle.submit(requests).map_err(|busy| ApiError::busy(busy.0));
    match form {
        Form::Now(json) => Ok(reply::json(&json)),
        Form::Whole(answer, tell) => Ok(reply::json(&tell(&listen(submit(requests)?, answer).await?))),
        Form::Live(writer) => Ok(reply::live(submit(requests)?, writer, served.handle, limits.ping)),
    }
}

/// Hears all texts to their ends.
async fn listen(mut running: Running, mut answer: Answer) -> Result<Answer, ApiError> {
    while let Some((text, heard)) = running.events.recv().await {
        answer.hear(text, heard)?;
    }
    answer.check_ended()?;
    Ok(answer)
}
