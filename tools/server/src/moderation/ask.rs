//! Asks a guard that has a thread of its own.

use std::time::Instant;

use quipu_runtime::generate::{Request, StopReason, Token};

use super::error::ModerationError;
use super::moderator::{Moderator, Question};
use super::verdict::Verdict;
use crate::engine::{Handle, Heard};
use crate::error::ApiError;

/// Which verdicts name categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// All of them.
    Always,
    /// Those that flag something.
    IfFlagged,
}

/// Questions that are asked side by side.
const AT_ONCE: usize = 16;

/// The verdicts on `questions`, in their order.
///
/// # Errors
/// When the model has too much to do, or fails.
pub async fn ask(
    handle: &Handle,
    moderator: &Moderator,
    questions: &[Question],
    named: Named,
) -> Result<Vec<Verdict>, ApiError> {
    let mut verdicts = Vec::with_capacity(questions.len());
    for questions in questions.chunks(AT_ONCE) {
        let since = Instant::now();
        let decisions = questions.iter().map(|question| moderator.decision(question));
        let decisions = hear(handle, decisions.collect::<Result<_, _>>()?).await?;
        let mut found = Vec::new();
        for decision in &decisions {
            found.push(moderator.verdict(moderator.probability(&decision.tokens)?, Vec::new()));
        }
        let wanted: Vec<usize> = (0..found.len()).filter(|&i| named == Named::Always || found[i].flagged).collect();
        let categories = wanted.iter().map(|&i| moderator.categories(&questions[i]));
        let categories = hear(handle, categories.collect::<Result<_, _>>()?).await?;
        for (i, text) in wanted.into_iter().zip(categories) {
            found[i].named = moderator.named(&text.whole()?);
        }
        found.iter().for_each(|verdict| handle.counters().judged(since, verdict.flagged));
        verdicts.extend(found);
    }
    Ok(verdicts)
}

/// A text that has ended.
#[derive(Default)]
struct Text {
    text: String,
    tokens: Vec<Token>,
    ended: bool,
}

impl Text {
    /// The text, which must have ended by itself.
    fn whole(self) -> Result<String, ModerationError> {
        if self.ended { Ok(self.text) } else { Err(ModerationError::NoAnswer(self.text)) }
    }
}

async fn hear(handle: &Handle, requests: Vec<Request>) -> Result<Vec<Text>, ApiError> {
    let mut texts: Vec<Text> = requests.iter().map(|_| Text::default()).collect();
    if requests.is_empty() {
        return Ok(texts);
    }
    let mut running = handle.submit(requests).map_err(|busy| ApiError::busy(busy.0))?;
    let mut open = texts.len();
    while let Some((number, heard)) = running.events.recv().await {
        let text = &mut texts[number];
        match heard {
            Heard::Token(token) => {
                text.text.push_str(&token.text);
                text.tokens.push(token);
            }
            Heard::End(end) => {
                text.text.push_str(&end.text);
                text.ended = end.stop == StopReason::End;
                open -= 1;
            }
            Heard::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    if open > 0 { Err(ApiError::internal("the thread that runs the guard has ended")) } else { Ok(texts) }
}
