//! Calls of tools, and what keeps an answer to them.

use std::sync::Arc;

use quipu_constrain::{CallForm, Calls, Shape};
use quipu_runtime::chat::answer::{AnswerReader, ReadOptions, Tool, thoughts_opened_by};
use quipu_runtime::constraint::Grammar;

use crate::error::ApiError;
use crate::model::Model;

/// What an answer has to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Any tool.
    Any,
    /// This one.
    Named(String),
}

/// The tools that may be called.
#[derive(Clone, Debug)]
pub struct Tools {
    /// They.
    pub list: Arc<[Tool]>,
    /// Whether there may be several calls.
    pub parallel: bool,
    /// What has to be called, if anything has.
    pub demand: Option<Demand>,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { list: Arc::new([]), parallel: true, demand: None }
    }
}

impl Tools {
    /// What keeps the answer to a prompt that ends with `end` to calls that are demanded, or those that the model makes
    /// to what was declared. An answer that is to have a `shape` is either calls or of that shape; of one that is no
    /// JSON there are no calls.
    ///
    /// # Errors
    /// 400 if calls cannot be kept to what was declared.
    pub fn grammar(
        &self,
        model: &Model,
        end: &str,
        shape: Option<&Shape>,
    ) -> Result<Option<Arc<dyn Grammar>>, ApiError> {
        if self.list.is_empty() {
            return Ok(None);
        }
        let is_json = shape.is_none_or(|shape| matches!(shape, Shape::JsonObject | Shape::JsonSchema(_)));
        let named: Vec<Tool>;
        let (tools, instead) = match &self.demand {
            Some(_) if !is_json => {
                return Err(ApiError::field("tool_choice", "cannot demand a call of an answer that has another shape"));
            }
            None if !is_json => return Ok(None),
            // Calls that nobody demands are found all the same.
            None if shape.is_none() && !quipu_constrain::BUILT => return Ok(None),
            Some(Demand::Named(name)) => {
                named = self.list.iter().filter(|tool| tool.name == *name).cloned().collect();
                (&named[..], None)
            }
            Some(Demand::Any) => (&self.list[..], None),
            None => (&self.list[..], shape),
        };
        // Who names one tool wants one call.
        let parallel = self.parallel && !matches!(self.demand, Some(Demand::Named(_)));
        let calls = Calls { tools, parallel, form: CallForm::of_template(model.template()?.source()) };
        let grammar = if self.demand.is_some() || instead.is_some() {
            model.grammars.compile(&calls.demanded(&model.tokenizer, thoughts_opened_by(end), instead))
        } else {
            model.grammars.offer(&calls, AnswerReader::new(ReadOptions::default(), end))
        };
        grammar.map(Some).map_err(|error| ApiError::field("tools", format!("cannot be kept to: {error}")))
    }
}
