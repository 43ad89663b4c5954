//! A guard before and behind all other models of a server: it judges what they are told, what they answer, or both.
//!
//! What is refused is never seen. A prompt is judged before anything is written. An answer that is told whole is judged
//! when it has ended. Of one that is streamed, pieces are held back until the guard has judged the answer up to their
//! ends; so what was judged safe by itself may be followed by a refusal. A guard that cannot be asked refuses by its
//! error.

use std::sync::Arc;

use quipu_runtime::chat::Message;
use quipu_runtime::generate::{Request, StopReason};
use serde_json::{Map, Value as Json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Duration, sleep};

use super::ask::{Named, ask};
use super::error::ModerationError;
use super::moderator::{Moderator, ModeratorOptions, turns};
use super::verdict::Verdict;
use crate::engine::{End, Heard, Note, Running};
use crate::error::ApiError;
use crate::models::offer::Offer;
use crate::models::state::Served;

/// How a server is guarded.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// The guard.
    pub offer: Offer,
    /// How it judges.
    pub moderator: ModeratorOptions,
    /// Whether prompts are judged.
    pub prompts: bool,
    /// Whether answers are.
    pub answers: bool,
    /// Whether what is flagged is refused, or only marked.
    pub refuse: bool,
    /// Tokens of a streamed answer that are judged at once.
    pub piece: usize,
}

/// A guard that is ready.
#[derive(Clone)]
pub struct Gate {
    options: Arc<GateOptions>,
    served: Served,
    moderator: Arc<Moderator>,
}

/// Before another try, where a guard has too much to do in the middle of an answer.
const AGAIN: Duration = Duration::from_millis(50);

impl Gate {
    /// With a guard that is loaded.
    ///
    /// # Errors
    /// When the model is none.
    pub fn new(options: Arc<GateOptions>, served: Served) -> Result<Gate, ApiError> {
        // Not what a request has done wrong.
        let wrong = |error: ModerationError| ApiError::internal(error.to_string());
        let moderator = Moderator::new(served.model.clone(), &options.moderator).map_err(wrong)?.into();
        Ok(Gate { options, served, moderator })
    }

    /// Judges what `requests` are to be answered: `messages`, or, where there are none, the texts of their prompts.
    /// Returns what is to be told of each.
    ///
    /// # Errors
    /// What is refused, and what keeps the guard from being asked.
    pub async fn prompts(&self, said: &Said) -> Result<Vec<Option<Verdict>>, ApiError> {
        let mut verdicts: Vec<Option<Verdict>> = Vec::new();
        for (number, messages) in said.0.iter().enumerate() {
            if !self.options.prompts {
                verdicts.push(None);
            } else if number > 0 && said.0[number - 1] == *messages {
                verdicts.push(verdicts[number - 1].clone());
            } else {
                let verdict = self.judge(messages.clone(), false).await?;
                if verdict.flagged && self.options.refuse {
                    return Err(ApiError::refused(&format!(
                        "the prompt was refused by the guard: {}",
                        verdict.in_words()
                    )));
                }
                verdicts.push(Some(verdict));
            }
        }
        Ok(verdicts)
    }

    /// What becomes of `running`: the same, but for what is refused or marked.
    pub fn watch(self, running: Running, said: Said, prompts: Vec<Option<Verdict>>, is_stream: bool) -> Running {
        if !self.options.answers && prompts.iter().all(Option::is_none) {
            return running;
        }
        let (to, events) = unbounded_channel();
        let watched = running.replaced(events);
        let text = |(messages, prompt)| Watched { messages, prompt, ..Watched::default() };
        let texts = said.0.into_iter().zip(prompts).map(text).collect();
        tokio::spawn(self.listen(running, texts, is_stream, to));
        watched
    }

    async fn listen(
        self,
        mut running: Running,
        mut texts: Vec<Watched>,
        is_stream: bool,
        to: UnboundedSender<(usize, Heard)>,
    ) {
        let piece = if is_stream { self.options.piece } else { usize::MAX };
        while let Some((number, heard)) = running.events.recv().await {
            let text = &mut texts[number];
            if text.over {
                continue;
            }
            let told = match self.hear(text, heard, piece).await {
                Ok(told) => told,
                Err(error) => {
                    let _ = to.send((number, Heard::Stopped(error)));
                    return;
                }
            };
            if text.over {
                running.cancel(number);
            }
            for heard in told {
                if to.send((number, heard)).is_err() {
                    return;
                }
            }
        }
    }

    /// What is told of what has happened to a text.
    async fn hear(&self, text: &mut Watched, heard: Heard, piece: usize) -> Result<Vec<Heard>, ApiError> {
        match heard {
            Heard::Started { cached } => {
                text.cached = cached;
                Ok(vec![heard])
            }
            Heard::Progress { total, .. } => {
                text.tokens = total;
                Ok(vec![heard])
            }
            Heard::Token(token) => {
                text.written.push_str(&token.text);
                if !self.options.answers || !self.options.refuse {
                    return Ok(vec![Heard::Token(token)]);
                }
                text.held.push(Heard::Token(token));
                if text.held.len() < piece {
                    return Ok(Vec::new());
                }
                match self.answer(text).await? {
                    verdict if verdict.flagged => Ok(vec![text.refused(verdict)]),
                    _ => Ok(std::mem::take(&mut text.held)),
                }
            }
            Heard::End(mut end) => {
                if end.stop == StopReason::Cancelled {
                    return Ok(vec![Heard::End(end)]);
                }
                text.written.push_str(&end.text);
                let is_new = !text.held.is_empty() || !end.text.is_empty() || !self.options.refuse || text.judged == 0;
                let mut verdict = None;
                if self.options.answers && is_new {
                    let found = self.answer(text).await?;
                    if found.flagged && self.options.refuse {
                        return Ok(vec![text.refused(found)]);
                    }
                    verdict = Some(found);
                }
                end.note = text.note(verdict, false);
                let mut told = std::mem::take(&mut text.held);
                told.push(Heard::End(end));
                Ok(told)
            }
            other => Ok(vec![other]),
        }
    }

    /// Judges an answer as far as it has come.
    async fn answer(&self, text: &mut Watched) -> Result<Verdict, ApiError> {
        text.judged += 1;
        let mut messages = text.messages.clone();
        let written = Message::new("assistant", text.written.as_str());
        match messages.last_mut().filter(|last| last.role == "assistant") {
            // An answer that was begun by whoever asks for it.
            Some(Message { content: Json::String(begun), .. }) => begun.push_str(&text.written),
            _ => messages.push(written),
        }
        loop {
            match self.judge(messages.clone(), true).await {
                Err(error) if error.status == 503 && error.retry_after.is_some() => sleep(AGAIN).await,
                done => return done,
            }
        }
    }

    async fn judge(&self, messages: Vec<Message>, by_assistant: bool) -> Result<Verdict, ApiError> {
        let moderator = self.moderator.clone();
        let prepare = move || moderator.question_that_fits(&turns(&messages, by_assistant)?);
        // Making tokens of a long text would hold up all connections.
        let question = tokio::task::spawn_blocking(prepare).await;
        let question = question.map_err(|_| ApiError::internal("the question to the guard could not be made"))??;
        let verdicts = ask(&self.served.handle, &self.moderator, &[question], Named::IfFlagged).await?;
        verdicts.into_iter().next().ok_or_else(|| ApiError::internal("the guard has given no verdict"))
    }
}

/// What was said before each text that is to be written.
#[derive(Clone, Debug)]
pub struct Said(Vec<Vec<Message>>);

impl Said {
    /// `messages` before all `requests`; without any, what their prompts say is what a user says.
    pub fn before(requests: &[Request], messages: &[Message], text: impl Fn(&[u32]) -> String) -> Said {
        let before = |request: &Request| match messages {
            [] => vec![Message::new("user", text(&request.tokens))],
            messages => messages.to_vec(),
        };
        Said(requests.iter().map(before).collect())
    }
}

/// A text that is being judged.
#[derive(Default)]
struct Watched {
    /// What was said before it.
    messages: Vec<Message>,
    /// The verdict on that.
    prompt: Option<Verdict>,
    /// What is written so far.
    written: String,
    /// What nobody has been told yet.
    held: Vec<Heard>,
    /// How often it was judged.
    judged: usize,
    /// Whether it was refused.
    over: bool,
    /// Tokens of its prompt, and those of them that did not have to be read.
    tokens: usize,
    cached: usize,
}

impl Watched {
    /// Ends it: what is held back is forgotten.
    fn refused(&mut self, verdict: Verdict) -> Heard {
        self.over = true;
        self.held.clear();
        Heard::End(End {
            text: String::new(),
            stop: StopReason::Limit,
            stop_string: None,
            prompt_tokens: self.tokens,
            cached_tokens: self.cached,
            prefill: Default::default(),
            decode: Default::default(),
            drafted: Default::default(),
            note: self.note(Some(verdict), true),
        })
    }

    fn note(&self, answer: Option<Verdict>, refused: bool) -> Option<Arc<Note>> {
        let verdicts = [("prompt", &self.prompt), ("answer", &answer)];
        let told = |(name, verdict): (&str, &Option<Verdict>)| Some((name.to_string(), verdict.as_ref()?.to_json()));
        let told: Map<String, Json> = verdicts.into_iter().filter_map(told).collect();
        (!told.is_empty()).then(|| Arc::new(Note { refused, told: told.into() }))
    }
}
