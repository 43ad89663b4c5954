//! An answer in several texts: the model calls, the server has the tool run, and the model goes on with its result.
//!
//! Nobody waits for a tool but the answer that has called it: this runs beside the connections, and the model's thread
//! writes other texts meanwhile. Calls of one text run one after the other. When nobody listens any longer, the text is
//! cancelled, or the tool.

use std::sync::Arc;

use quipu_runtime::chat::Message;
use quipu_runtime::chat::answer::AnswerReader;
use quipu_runtime::generate::{Request, StopReason};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Duration, sleep};

use super::granted::Granted;
use super::hosted::{Failure, Toolbox};
use crate::engine::{Heard, Running, Task};
use crate::error::ApiError;
use crate::said::{Call, Part, Said};

/// What is written next.
pub struct Round {
    /// The text.
    pub requests: Vec<Request>,
    /// The conversation that it answers.
    pub messages: Vec<Message>,
    /// Who reads it.
    pub reader: AnswerReader,
}

/// Makes the next round: of what was said and called since the last one, whether there may be more calls, and how many
/// tokens the answer has so far.
pub type Next = Box<dyn FnMut(&[Part], bool, usize) -> Result<Round, ApiError> + Send>;

/// How an answer goes on when it has called what the server runs.
pub struct Rounds {
    /// The tools.
    pub toolbox: Arc<Toolbox>,
    /// Those that may be called.
    pub granted: Granted,
    /// Calls that the client has agreed to, which run first.
    pub approved: Vec<Call>,
    /// How many calls may be run.
    pub calls: usize,
    /// Who reads the first text, if it is known already.
    pub reader: Option<AnswerReader>,
    /// Makes the others.
    pub next: Next,
}

/// Before another try, where the model has too much to do in the middle of an answer.
const AGAIN: Duration = Duration::from_millis(50);

/// Has a text written, once there is room for it.
pub trait Begin: Send + Sync + 'static {
    /// Begins.
    fn begin(
        &self,
        requests: Vec<Request>,
        messages: Vec<Message>,
    ) -> impl Future<Output = Result<Running, ApiError>> + Send;
}

impl Rounds {
    /// The whole answer, whose first text is `first`, if it need not wait for a tool.
    pub fn run(self, first: Option<Running>, begin: impl Begin) -> Running {
        let (to, events) = unbounded_channel();
        let task = tokio::spawn(async move {
            if let Err(error) = self.follow(first, begin, &to).await {
                let _ = to.send((0, Heard::Stopped(error)));
            }
        });
        Running::of_task(events, Task::new(task))
    }

    async fn follow(
        mut self,
        first: Option<Running>,
        begin: impl Begin,
        to: &UnboundedSender<(usize, Heard)>,
    ) -> Result<(), ApiError> {
        // A listener that is gone aborts this, so nobody looks whether it still hears.
        let tell = |heard| drop(to.send((0, heard)));
        let (mut before, mut written) = (0, 0);
        let mut parts = Vec::new();
        for call in std::mem::take(&mut self.approved) {
            tell(Heard::Approved(call.clone()));
            parts.push(Part::Call(call));
        }
        let mut running = match first {
            Some(first) => first,
            None => {
                self.run_calls(&mut parts, before, &tell).await;
                before += parts.len();
                self.go_on(&parts, written, &begin, &tell).await?
            }
        };
        loop {
            let mut said = self.reader.take().map(Said::new).unwrap_or_default();
            let mut stop = None;
            while let Some((_, heard)) = running.events.recv().await {
                match &heard {
                    Heard::Token(token) => {
                        said.hear(&token.text);
                        written += 1;
                    }
                    Heard::End(end) => {
                        written += usize::from(end.stop == StopReason::End);
                        said.hear(&end.text);
                        said.end(end.stop);
                        stop = Some(end.stop).filter(|_| end.note.as_ref().is_none_or(|note| !note.refused));
                    }
                    _ => {}
                }
                tell(heard);
            }
            // Who breaks off, for whatever reason, has not asked for anything.
            if stop != Some(StopReason::End) || said.is_cut_in_a_call() {
                return Ok(());
            }
            let mut parts = said.parts;
            let all_ran = self.run_calls(&mut parts, before, &tell).await;
            before += parts.len();
            if !all_ran {
                return Ok(());
            }
            running = self.go_on(&parts, written, &begin, &tell).await?;
        }
    }

    /// Runs what may be run. Returns whether there were calls, and none that the client has to do something about.
    async fn run_calls(&mut self, parts: &mut [Part], before: usize, tell: &impl Fn(Heard)) -> bool {
        let mut ran = (0, 0);
        for (number, part) in parts.iter_mut().enumerate() {
            let Part::Call(call) = part else { continue };
            ran.1 += 1;
            let agreed = call.approval.is_some();
            let Some(grant) = self.granted.find(&call.name).filter(|grant| agreed || !grant.asks) else { continue };
            ran.0 += 1;
            let outcome = if self.calls == 0 {
                Err(Failure::Server("the limit of calls in one answer is reached; this one did not run".into()))
            } else {
                self.calls -= 1;
                self.toolbox.call(grant.server, &call.name, &call.arguments).await
            };
            call.outcome = Some(outcome.clone());
            tell(Heard::Called(before + number, outcome));
        }
        ran.0 > 0 && ran.0 == ran.1
    }

    async fn go_on(
        &mut self,
        parts: &[Part],
        written: usize,
        begin: &impl Begin,
        tell: &impl Fn(Heard),
    ) -> Result<Running, ApiError> {
        let Round { requests, messages, reader } = (self.next)(parts, self.calls > 0, written)?;
        let running = loop {
            match begin.begin(requests.clone(), messages.clone()).await {
                // Too many wait at the moment. What has come so far is worth some patience.
                Err(error) if error.status == 503 && error.retry_after.is_some() => sleep(AGAIN).await,
                begun => break begun?,
            }
        };
        self.reader = Some(reader.clone());
        tell(Heard::Next(reader));
        Ok(running)
    }
}
