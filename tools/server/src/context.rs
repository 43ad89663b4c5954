//! What every request may look at, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use quipu_runtime::chat::Message;
use quipu_runtime::embedding::EmbedOptions;
use quipu_runtime::generate::Request;
use serde_json::Value as Json;

use crate::answer::Answer;
use crate::mcp::hosted::Toolbox;
use crate::mcp::rounds::Rounds;
use crate::models::state::Served;
use crate::moderation::moderator::Question;
use crate::moderation::verdict::Verdict;
use crate::options::{Defaults, Limits};
use crate::stream::Writer;

/// What a request may look at.
#[derive(Clone, Debug)]
pub struct Context {
    /// The model that it names.
    pub served: Served,
    /// How long the request has waited until it was loaded.
    pub loading: Duration,
    /// What the server takes at most.
    pub limits: Arc<Limits>,
    /// How texts are written where a request does not say.
    pub defaults: Arc<Defaults>,
    /// The tools that the server runs itself.
    pub toolbox: Arc<Toolbox>,
}

/// What becomes of a request that asks for texts.
pub struct Plan {
    /// Who writes them.
    pub served: Served,
    /// What is to be written.
    pub requests: Vec<Request>,
    /// What is told of it.
    pub form: Form,
    /// The conversation that is answered; empty where texts are continued.
    pub messages: Vec<Message>,
    /// How the answer goes on when it calls what the server runs. Then there are no `requests` if calls come first.
    pub rounds: Option<Box<Rounds>>,
}

/// What becomes of a request that asks for vectors.
pub struct Embedding {
    /// Who makes them.
    pub served: Served,
    /// The texts.
    pub texts: Vec<Vec<u32>>,
    /// How a text becomes a vector.
    pub options: EmbedOptions,
    /// What is told of them.
    pub tell: Box<dyn FnOnce(Vec<Vec<f32>>) -> Json + Send>,
}

/// What becomes of a request that asks whether texts are safe.
pub struct Moderation {
    /// What a guard is asked.
    pub questions: Vec<Question>,
    /// What is told of its verdicts.
    pub tell: TellVerdicts,
}

/// What is told of verdicts, one for each question.
pub type TellVerdicts = Box<dyn FnOnce(&[Verdict]) -> Json + Send>;

/// What is told of the texts.
pub enum Form {
    /// This, at once: there is nothing to write.
    Now(Json),
    /// One JSON value, when all of them have ended.
    Whole(Answer, Box<dyn FnOnce(&Answer) -> Json + Send>),
    /// A stream.
    Live(Box<dyn Writer>),
}
