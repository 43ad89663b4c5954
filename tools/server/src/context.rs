//! What every request may look at, and what becomes of it.

use std::sync::Arc;

use quipu_runtime::embedding::EmbedOptions;
use quipu_runtime::generate::Request;
use serde_json::Value as Json;

use crate::answer::Answer;
use crate::engine::Handle;
use crate::error::ApiError;
use crate::model::Model;
use crate::options::{Defaults, Limits};
use crate::stream::Writer;

/// A model that is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// What is known of it.
    pub model: Arc<Model>,
    /// By which it is asked.
    pub handle: Handle,
}

/// What every request may look at.
#[derive(Debug)]
pub struct Context {
    /// The models that are served; one at least.
    pub models: Vec<Served>,
    /// What the server takes at most.
    pub limits: Limits,
    /// How texts are written where a request does not say.
    pub defaults: Defaults,
}

impl Context {
    /// The model that is called `name`. A server with one model has it answer to any name, since clients send the name
    /// of whatever they were written for.
    ///
    /// # Errors
    /// 404.
    pub fn model(&self, name: Option<&str>) -> Result<&Served, ApiError> {
        match (&self.models[..], name) {
            ([only], _) => Ok(only),
            ([first, ..], None) => Ok(first),
            (models, name) => {
                let name = name.unwrap_or_default();
                let is_called = |served: &&Served| served.model.names.iter().any(|own| own == name);
                models.iter().find(is_called).ok_or_else(|| ApiError::no_model(name))
            }
        }
    }
}

/// What becomes of a request that asks for texts.
pub struct Plan {
    /// Who writes them.
    pub served: Served,
    /// What is to be written.
    pub requests: Vec<Request>,
    /// What is told of it.
    pub form: Form,
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

/// What is told of the texts.
pub enum Form {
    /// This, at once: there is nothing to write.
    Now(Json),
    /// One JSON value, when all of them have ended.
    Whole(Answer, Box<dyn FnOnce(&Answer) -> Json + Send>),
    /// A stream.
    Live(Box<dyn Writer>),
}
