//! A conversation that another run goes on with.

use anyhow::{Context, Result};
use quipu_runtime::chat::{Conversation, Message};
use quipu_runtime::session::Session;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a session has besides what was read.
#[derive(Serialize, Deserialize)]
struct Kept {
    messages: Vec<Said>,
    /// The seed of the next answer.
    seed: u64,
}

/// A message, with the tokens that a model has written for it.
#[derive(Serialize, Deserialize)]
struct Said {
    message: Message,
    tokens: Vec<u32>,
}

/// Begins `conversation` with what a session has. Returns the seed of the next answer.
pub fn begin(conversation: &mut Conversation, session: Session) -> Result<u64> {
    let kept: Option<Kept> = serde_json::from_value(session.state).ok();
    let kept = kept.context("the session has a text and no conversation; `quipu run` goes on with it")?;
    for Said { mut message, tokens } in kept.messages {
        message.tokens = tokens;
        conversation.push(message);
    }
    conversation.set_sequence(session.sequence);
    Ok(kept.seed)
}

/// The conversation so far.
///
/// # Panics
/// When nothing was read.
pub fn session(conversation: &Conversation, seed: u64) -> Session {
    let sequence = conversation.sequence().expect("something was read").clone();
    let said = |message: &Message| Said { message: message.clone(), tokens: message.tokens.clone() };
    let kept = Kept { messages: conversation.messages().iter().map(said).collect(), seed };
    Session { tokens: sequence.tokens().to_vec(), sequence, state: json!(kept) }
}
