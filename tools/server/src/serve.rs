//! From a request to its answer, whatever the dialect.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, HeaderValue, VARY,
};
use hyper::{Method, Request, StatusCode};
use quipu_runtime::chat::Message;
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::context::{Context, Embedding, Form, Moderation, Plan};
use crate::engine::Running;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::http::body;
use crate::http::guard::{Arrival, Guard};
use crate::http::reply::{self, Reply};
use crate::llama_cpp::metrics;
use crate::mcp::rounds::Begin;
use crate::models::host::{Found, Host};
use crate::models::state::Served;
use crate::moderation::ask::{Named, ask};
use crate::moderation::gate::{Gate, Said};
use crate::moderation::moderator::Moderator;
use crate::ollama;
use crate::options::Limits;
use crate::page;
use crate::routes::{self, Action, Route};

/// What all connections share.
pub struct Shared {
    /// Who may ask.
    pub guard: Guard,
    /// The models.
    pub host: Arc<Host>,
    /// When the server was started, in seconds since 1970.
    pub started: u64,
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
    let host = &shared.host;
    if !host.is_ready() {
        return Err(ApiError::loading());
    }
    match route.action {
        Action::Health => Ok(reply::json(&json!({"status": "ok"}))),
        Action::Tell(tell) => {
            let query = request.uri().query().unwrap_or_default();
            let about = if rest.is_empty() { query } else { rest }.to_string();
            let host = host.clone();
            Ok(reply::json(&aside(move || tell(&host, &about)).await?))
        }
        Action::Manage(manage) => {
            let (bytes, host) = (read(request, &host.limits).await?, host.clone());
            Ok(reply::json(&aside(move || manage(&host, &parse(&bytes)?)).await?))
        }
        Action::Metrics => {
            let mut reply = reply::whole(200, metrics::TYPE, metrics::text(host));
            // By which who collects them sees that counters began anew.
            reply.headers_mut().insert("process-start-time-unix", HeaderValue::from(shared.started));
            Ok(reply)
        }
        Action::Say(text) => Ok(reply::whole(200, "text/plain; charset=utf-8", text)),
        Action::Refuse(why) => Err(ApiError::unsupported(why)),
        Action::Pull => pull(host, request).await,
        Action::Compute(compute) => Ok(reply::json(&with_model(host, request, nothing, compute).await?)),
        Action::Write(plan) => write(with_model(host, request, nothing, plan).await?, host).await,
        Action::WriteUnless(early, plan) => {
            let early = move |host: &Host, body: &Json| Ok(early(host, body)?.map(Err));
            let plan = move |context: &Context, body: &Json| plan(context, body).map(Ok);
            match with_model(host, request, early, plan).await? {
                Ok(plan) => write(plan, host).await,
                Err(done) => Ok(reply::json(&done)),
            }
        }
        Action::Moderate(plan) => Ok(reply::json(&moderate(host, request, plan).await?)),
        Action::Embed(plan) => {
            let Embedding { served, texts, options, tell } = with_model(host, request, nothing, plan).await?;
            let mut embedding = served.handle.embed(texts, options).map_err(|busy| ApiError::busy(busy.0))?;
            let vectors = (&mut embedding.vectors)
                .await
                .map_err(|_| ApiError::internal("the thread that runs the model has ended"))?;
            Ok(reply::json(&tell(vectors?)))
        }
    }
}

/// A model fetched, told line by line, or by the last line alone.
async fn pull(host: &Arc<Host>, request: Request<Incoming>) -> Result<Reply, ApiError> {
    let bytes = read(request, &host.limits).await?;
    let mut progress = ollama::pull::pull(host, &parse(&bytes)?)?;
    if progress.is_stream {
        return Ok(reply::lines(progress));
    }
    let mut last = String::new();
    while let Some(line) = progress.next().await {
        last = line;
    }
    let mut reply = reply::json(&serde_json::from_str(&last).unwrap_or_default());
    if last.starts_with(r#"{"error""#) {
        *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(reply)
}

/// The body of a request.
async fn read(request: Request<Incoming>, limits: &Limits) -> Result<Vec<u8>, ApiError> {
    let (head, incoming) = request.into_parts();
    body::read(&head.headers, incoming, limits).await
}

/// For requests that are never answered before their model is there.
fn nothing<T>(_: &Host, _: &Json) -> Result<Option<T>, ApiError> {
    Ok(None)
}

/// What `plan` makes of the body with the model that it names, once that is loaded; unless `early` has an answer.
async fn with_model<T: Send + 'static>(
    host: &Arc<Host>,
    request: Request<Incoming>,
    early: impl FnOnce(&Host, &Json) -> Result<Option<T>, ApiError> + Send + 'static,
    plan: impl FnOnce(&Context, &Json) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    enum Step<T, P> {
        Done(T),
        Loads(oneshot::Receiver<Result<Served, ApiError>>, Json, P),
    }
    let bytes = read(request, &host.limits).await?;
    let ours = host.clone();
    let begin = move || {
        let body = parse(&bytes)?;
        if let Some(done) = early(&ours, &body)? {
            return Ok(Step::Done(done));
        }
        match ours.find(Fields::of_body(&body)?.str("model")?)? {
            Found::Ready(served) => plan(&context(&ours, served, Duration::ZERO), &body).map(Step::Done),
            Found::Loads(loaded) => Ok(Step::Loads(loaded, body, plan)),
        }
    };
    match aside(begin).await? {
        Step::Done(done) => Ok(done),
        Step::Loads(loaded, body, plan) => {
            // Whoever leaves meanwhile drops this, and the keeper sees that nobody waits.
            let asked = Instant::now();
            let served = loaded.await.map_err(|_| ApiError::stopping())??;
            let context = context(host, served, asked.elapsed());
            aside(move || plan(&context, &body)).await
        }
    }
}

fn context(host: &Host, served: Served, loading: Duration) -> Context {
    let (limits, defaults, toolbox) = (host.limits.clone(), host.defaults.clone(), host.toolbox.clone());
    Context { served, loading, limits, defaults, toolbox }
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

async fn write(plan: Plan, host: &Arc<Host>) -> Result<Reply, ApiError> {
    let Plan { served, requests, form, messages, rounds } = plan;
    let is_stream = match &form {
        Form::Now(json) => return Ok(reply::json(json)),
        Form::Whole(..) => false,
        Form::Live(_) => true,
    };
    let texts = Texts { served: served.clone(), host: host.clone(), is_stream };
    let running = match rounds {
        None => texts.begin(requests, messages).await?,
        Some(rounds) => {
            let first = if requests.is_empty() { None } else { Some(texts.begin(requests, messages).await?) };
            rounds.run(first, texts)
        }
    };
    match form {
        Form::Now(json) => Ok(reply::json(&json)),
        Form::Whole(answer, tell) => {
            let answer = listen(running, answer).await?;
            let mut told = tell(&answer);
            let notes: Vec<&Json> = answer.choices.iter().filter_map(|choice| Some(&choice.note()?.told)).collect();
            // A dialect whose answer is a list of texts has told them there.
            match &notes[..] {
                _ if !told.is_object() => {}
                [] => {}
                [note] => told["guard"] = (*note).clone(),
                notes => told["guard"] = notes.iter().copied().cloned().collect(),
            }
            Ok(reply::json(&told))
        }
        Form::Live(writer) => Ok(reply::live(running, writer, served, host.limits.ping)),
    }
}

/// Has texts written by a model, past the guard.
struct Texts {
    served: Served,
    host: Arc<Host>,
    is_stream: bool,
}

impl Begin for Texts {
    async fn begin(
        &self,
        requests: Vec<quipu_runtime::generate::Request>,
        messages: Vec<Message>,
    ) -> Result<Running, ApiError> {
        let guarded = match gate(&self.host).await? {
            None => None,
            Some(gate) => {
                let tokenizer = &self.served.model.tokenizer;
                let said = Said::before(&requests, &messages, |tokens| tokenizer.decode(tokens, false));
                let verdicts = gate.prompts(&said).await?;
                Some((gate, said, verdicts))
            }
        };
        let running = self.served.handle.submit(requests).map_err(|busy| ApiError::busy(busy.0))?;
        Ok(match guarded {
            Some((gate, said, verdicts)) => gate.watch(running, said, verdicts, self.is_stream),
            None => running,
        })
    }
}

/// The guard of the server, once it is loaded.
async fn gate(host: &Arc<Host>) -> Result<Option<Gate>, ApiError> {
    let Some(options) = host.guard().cloned() else { return Ok(None) };
    let served = loaded(host.find_guard(None)?).await?;
    aside(move || Gate::new(options, served)).await.map(Some)
}

/// A model, once it is loaded.
async fn loaded(found: Found) -> Result<Served, ApiError> {
    match found {
        Found::Ready(served) => Ok(served),
        Found::Loads(loaded) => loaded.await.map_err(|_| ApiError::stopping())?,
    }
}

/// What a guard finds about the texts in the body.
async fn moderate(
    host: &Arc<Host>,
    request: Request<Incoming>,
    plan: fn(&Context, &Moderator, &Json) -> Result<Moderation, ApiError>,
) -> Result<Json, ApiError> {
    let bytes = read(request, &host.limits).await?;
    let ours = host.clone();
    let find = move || {
        let body = parse(&bytes)?;
        let found = ours.find_guard(Fields::of_body(&body)?.str("model")?)?;
        Ok::<_, ApiError>((body, found))
    };
    let (body, found) = aside(find).await?;
    let served = loaded(found).await?;
    let ours = host.clone();
    let prepare = move || {
        let options = ours.guard().map(|guard| guard.moderator.clone()).unwrap_or_default();
        let moderator = Moderator::new(served.model.clone(), &options)?;
        let handle = served.handle.clone();
        let moderation = plan(&context(&ours, served.clone(), Duration::ZERO), &moderator, &body)?;
        Ok::<_, ApiError>((served, handle, moderator, moderation))
    };
    let (_served, handle, moderator, moderation) = aside(prepare).await?;
    let verdicts = ask(&handle, &moderator, &moderation.questions, Named::Always).await?;
    Ok((moderation.tell)(&verdicts))
}

/// Hears all texts to their ends.
async fn listen(mut running: Running, mut answer: Answer) -> Result<Answer, ApiError> {
    while let Some((text, heard)) = running.events.recv().await {
        answer.hear(text, heard)?;
    }
    answer.check_ended()?;
    Ok(answer)
}
