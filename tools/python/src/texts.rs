//! Texts that are being written.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use quipu_runtime::Cancel;
use quipu_runtime::chat::answer::Delta;
use quipu_runtime::generate::{GenerateError, Token};
use quipu_server::engine::{End, Heard};
use quipu_server::said::{Change, Said};

use crate::failure::{Error, failure};
use crate::host::News;
use crate::prompt::Asking;
use crate::wait::{GLANCE, gone};

/// One text.
struct Text {
    seed: u64,
    /// The parts of an answer; of another text nobody asks for them.
    said: Option<Said>,
    raw: String,
    tokens: Vec<Token>,
    prompt: Vec<Token>,
    end: Option<End>,
}

/// Something new of a text: its number, more of what it says and of what was thought, of calls the number, id, name and
/// more of the arguments; and the token that brought it, with its probability and the likeliest in its place.
type Piece = (usize, String, String, Vec<(usize, String, String, String)>, Option<u32>, Option<f64>, Vec<(u32, f64)>);

impl Text {
    /// Takes what has happened; something new for a reader, if there is.
    fn hear(&mut self, number: usize, heard: Heard) -> Result<Option<Piece>, GenerateError> {
        let (text, token) = match heard {
            Heard::Token(token) => (token.text.clone(), Some(token)),
            Heard::End(end) => {
                let text = end.text.clone();
                self.end = Some(end);
                (text, None)
            }
            Heard::Prompt(tokens) => {
                self.prompt.extend(tokens);
                return Ok(None);
            }
            Heard::Failed(error) => return Err(error),
            _ => return Ok(None),
        };
        self.raw.push_str(&text);
        let (mut new, mut thought, mut calls) = (text.clone(), String::new(), Vec::new());
        if let Some(said) = &mut self.said {
            let mut changes = said.hear(&text);
            if let Some(end) = &self.end {
                changes.extend(said.end(end.stop));
            }
            new.clear();
            for Change { part, delta } in changes {
                match delta {
                    Delta::Content(more) => new.push_str(&more),
                    Delta::Reasoning(more) => thought.push_str(&more),
                    Delta::Begin { name } => {
                        if let Some((at, call)) = said.call(part) {
                            calls.push((at, call.id.clone(), name, String::new()));
                        }
                    }
                    Delta::Arguments(more) => {
                        if let Some((at, _)) = said.call(part) {
                            calls.push((at, String::new(), String::new(), more));
                        }
                    }
                    Delta::End { .. } => {}
                }
            }
        }
        let (id, logprob, top) = match &token {
            Some(token) => (Some(token.id), token.logprob, token.top_logprobs.clone()),
            None => (None, None, Vec::new()),
        };
        self.tokens.extend(token);
        let is_nothing = new.is_empty() && thought.is_empty() && calls.is_empty() && id.is_none();
        Ok((!is_nothing).then_some((number, new, thought, calls, id, logprob, top)))
    }

    /// All of it, once it has ended.
    fn answer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let end = self.end.as_ref().ok_or_else(gone)?;
        let dict = PyDict::new(py);
        let (text, thought) = match &self.said {
            Some(said) => (said.text(), said.thought()),
            None => (self.raw.clone(), String::new()),
        };
        let calls: Vec<_> = match &self.said {
            Some(said) => {
                said.calls().map(|c| (c.id.clone(), c.name.clone(), c.arguments.clone(), c.complete)).collect()
            }
            None => Vec::new(),
        };
        dict.set_item("text", text)?;
        dict.set_item("thought", thought)?;
        dict.set_item("calls", calls)?;
        dict.set_item("stop", end.stop.name())?;
        dict.set_item("stop_string", end.stop_string.as_deref())?;
        dict.set_item("seed", self.seed)?;
        dict.set_item("tokens", told(&self.tokens))?;
        dict.set_item("prompt", told(&self.prompt))?;
        dict.set_item("prompt_tokens", end.prompt_tokens)?;
        dict.set_item("cached_tokens", end.cached_tokens)?;
        dict.set_item("prefill_seconds", end.prefill.time.as_secs_f64())?;
        dict.set_item("decode_seconds", end.decode.time.as_secs_f64())?;
        Ok(dict)
    }
}

/// A token's id, text and probability, and the likeliest in its place.
type Told = (u32, String, Option<f64>, Vec<(u32, f64)>);

fn told(tokens: &[Token]) -> Vec<Told> {
    tokens.iter().map(|token| (token.id, token.text.clone(), token.logprob, token.top_logprobs.clone())).collect()
}

struct Running {
    news: Receiver<News>,
    texts: Vec<Text>,
    left: usize,
}

/// Texts that are being written; they end when this is gone.
#[pyclass(frozen, module = "quipu._quipu")]
pub struct Texts {
    running: Mutex<Running>,
    cancels: Vec<Cancel>,
}

impl Texts {
    /// Those of `asked`, of which `news` tells.
    pub fn new(asked: Vec<(u64, Cancel, Option<Said>)>, news: Receiver<News>) -> Texts {
        let (mut texts, mut cancels) = (Vec::new(), Vec::new());
        for (seed, cancel, said) in asked {
            let (raw, tokens, prompt) = (String::new(), Vec::new(), Vec::new());
            texts.push(Text { seed, said, raw, tokens, prompt, end: None });
            cancels.push(cancel);
        }
        let left = texts.len();
        Texts { running: Mutex::new(Running { news, texts, left }), cancels }
    }

    /// What has to be kept of a request.
    pub fn kept((request, reader): &Asking) -> (u64, Cancel, Option<Said>) {
        (request.options.sampler.seed, request.cancel.clone(), reader.clone().map(Said::new))
    }

    /// Takes news for at most [`GLANCE`]; if `each` is to be told, until there is some.
    fn hear(&self, each: bool) -> PyResult<Heed> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { news, texts, left } = &mut *running;
        let until = Instant::now() + GLANCE;
        while *left > 0 {
            let (number, heard) = match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(news) => news,
                Err(RecvTimeoutError::Timeout) => return Ok(Heed::Nothing),
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            };
            *left -= usize::from(heard.is_last());
            let several = texts.len() > 1;
            let piece = texts[number].hear(number, heard).map_err(|error| match several {
                true => Error::new_err(format!("prompt {number}: {error}")),
                false => failure(error),
            })?;
            if let Some(piece) = piece.filter(|_| each) {
                return Ok(Heed::New(Box::new(piece)));
            }
        }
        Ok(Heed::End)
    }

    /// The next piece, if `each` is to be told; None at the end. An exception ends all texts.
    fn next(&self, py: Python<'_>, each: bool) -> PyResult<Option<Piece>> {
        let next = || loop {
            match py.detach(|| self.hear(each))? {
                Heed::New(piece) => return Ok(Some(*piece)),
                Heed::End => return Ok(None),
                Heed::Nothing => py.check_signals()?,
            }
        };
        next().inspect_err(|_| self.cancel())
    }
}

/// What has come of waiting.
enum Heed {
    New(Box<Piece>),
    Nothing,
    End,
}

#[pymethods]
impl Texts {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Piece>> {
        py.check_signals().inspect_err(|_| self.cancel())?;
        self.next(py, true)
    }

    /// Waits for all texts to end.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        self.next(py, false).map(|_| ())
    }

    /// All texts, once they have ended.
    fn answers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        // Whoever has it waits for no GIL, and not long for anything else.
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let answers: Vec<_> = running.texts.iter().map(|text| text.answer(py)).collect::<PyResult<_>>()?;
        PyList::new(py, answers)
    }

    /// Ends them early.
    fn cancel(&self) {
        self.cancels.iter().for_each(Cancel::cancel);
    }
}

impl Drop for Texts {
    fn drop(&mut self) {
        self.cancels.iter().for_each(Cancel::cancel);
    }
}
