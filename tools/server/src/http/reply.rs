//! What goes out: whole, or piece by piece as a text is written.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::Value as Json;
use tokio::time::{Instant, Sleep, sleep};

use crate::engine::Running;
use crate::error::{ApiError, Dialect};
use crate::models::fetch::Progress;
use crate::models::state::Served;
use crate::stream::Writer;

/// A response of ours.
pub type Reply = Response<ReplyBody>;

/// Its body.
pub enum ReplyBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes.
    Live(Box<Live>),
    /// Line by line, of something that is no text.
    Lines(Progress),
}

/// `text` with this status.
pub fn whole(status: u16, kind: &'static str, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(ReplyBody::Whole(Some(text.into())));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// A JSON value with status 200.
pub fn json(value: &Json) -> Reply {
    whole(200, "application/json", value.to_string())
}

/// An error.
pub fn error(error: &ApiError, dialect: Dialect) -> Reply {
    let mut reply = whole(error.status, "application/json", error.body(dialect).to_string());
    if let Some(seconds) = error.retry_after {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// What becomes of `running` as `writer` writes it, with a sign of life every `ping`.
pub fn live(running: Running, writer: Box<dyn Writer>, served: Served, ping: Duration) -> Reply {
    let kind = writer.content_type();
    let (steps, timer) = (served.handle.counters().steps.get(), Box::pin(sleep(ping)));
    let live = Live { running, writer, served, steps, ping, timer, state: State::New };
    let mut reply = Response::new(ReplyBody::Live(Box::new(live)));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of nginx's kind hold back what comes piece by piece, unless told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

/// Lines of JSON as they come.
pub fn lines(progress: Progress) -> Reply {
    let mut reply = Response::new(ReplyBody::Lines(progress));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    reply
}

/// A text as it is written.
pub struct Live {
    running: Running,
    writer: Box<dyn Writer>,
    served: Served,
    /// The model's steps when the last sign of life was given.
    steps: u64,
    ping: Duration,
    timer: Pin<Box<Sleep>>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    New,
    Going,
    Over,
}

impl Live {
    /// The next piece; nothing at the end.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = String::new();
        if self.state == State::New {
            self.writer.start(&mut out);
            self.state = State::Going;
        }
        while self.state == State::Going {
            match self.running.events.poll_recv(context) {
                Poll::Ready(Some((text, heard))) => {
                    if let Err(error) = self.writer.hear(text, heard, &mut out) {
                        self.writer.fail(&error, &mut out);
                        self.state = State::Over;
                    }
                }
                Poll::Ready(None) => {
                    self.writer.end(&mut out);
                    self.state = State::Over;
                }
                Poll::Pending => break,
            }
        }
        if out.is_empty() && self.state == State::Going {
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer.as_mut().reset(Instant::now() + self.ping);
            // Nobody should wait for a model that hangs: without a step there is no sign of life.
            let steps = self.served.handle.counters().steps.get();
            if std::mem::replace(&mut self.steps, steps) != steps {
                self.writer.ping(&mut out);
            }
            if out.is_empty() {
                // The timer was set anew and must know whom to wake.
                let _ = self.timer.as_mut().poll(context);
                return Poll::Pending;
            }
        }
        Poll::Ready((!out.is_empty()).then(|| out.into()))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            ReplyBody::Whole(bytes) => Poll::Ready(bytes.take()),
            ReplyBody::Live(live) => live.poll(context),
            ReplyBody::Lines(progress) => progress.poll_next(context).map(|line| line.map(Bytes::from)),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ReplyBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            ReplyBody::Live(_) | ReplyBody::Lines(_) => SizeHint::default(),
        }
    }
}
