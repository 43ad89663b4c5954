//! Calls of tools: answers that have to be calls, and answers that may have some.
//!
//! An answer that has to be calls is a [`Shape`] like any other, from its first token on. Where the model decides, its
//! text is free until a call begins; from there on it is kept to one of a tool that was declared, with arguments that
//! are valid against its schema, and after it the text is free again. A call begins with the mark that the model's
//! [`CallForm`] has, or, since Llama 3 has none, with an object whose first member names a tool
//! (`{"name": "get_weather"`) where the answer begins or after another call. What is thought is no answer, so nothing
//! begins there.
//!
//! - `form`: how models write calls. `rules`: calls as rules of Lark. `trigger`: where in a text a call begins.
//!   `offered`: a text with calls in it, as a grammar of the runtime.

mod form;
mod offered;
mod rules;
mod trigger;

use quipu_runtime::chat::answer::Tool;
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::{Value as Json, json};

pub use form::CallForm;
pub(crate) use offered::{Offered, TextWithCalls};
use rules::Rules;
use trigger::Triggers;

use crate::shape::Shape;

/// The tools that may be called, and how.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a> {
    /// The tools, at least one.
    pub tools: &'a [Tool],
    /// Whether there may be several calls in an answer.
    pub parallel: bool,
    /// How they are written.
    pub form: CallForm,
}

/// Tools that Llama 3.1 calls in another way than with an object after its mark: with Python.
const OF_PYTHON: [&str; 5] = ["code_interpreter", "python", "ipython", "brave_search", "wolfram_alpha"];

impl Calls<'_> {
    /// The shape of an answer that is nothing but calls, or else what `instead` says, which is JSON. `open` is what
    /// closes the thoughts that the prompt has opened.
    pub fn demanded(&self, tokenizer: &Tokenizer, open: Option<&str>, instead: Option<&Shape>) -> Shape {
        let instead = match instead {
            Some(Shape::JsonSchema(schema)) => Some(schema.clone()),
            Some(Shape::JsonObject) => Some(json!({"type": "object"})),
            _ => None,
        };
        Shape::Lark(self.rules(&|mark| symbol(tokenizer, mark)).answer(open, instead.as_ref()))
    }

    /// What a call has to be from its trigger on.
    pub(crate) fn after_trigger(&self, tokenizer: &Tokenizer) -> Shape {
        Shape::Lark(self.rules(&|mark| symbol(tokenizer, mark)).after_trigger())
    }

    /// What begins a call.
    pub(crate) fn triggers(&self, tokenizer: &Tokenizer) -> Triggers {
        let mut triggers = Triggers { marks: Vec::new(), tokens: Vec::new(), names: Vec::new() };
        if self.form == CallForm::Plain {
            triggers.names = self.tools.iter().map(|tool| tool.name.clone()).collect();
            if self.tools.iter().any(|tool| OF_PYTHON.contains(&tool.name.as_str())) {
                return triggers;
            }
        }
        for &mark in self.form.marks() {
            match control(tokenizer, mark) {
                Some(id) => triggers.tokens.push(id),
                None => triggers.marks.push(mark),
            }
        }
        triggers
    }

    fn rules<'s>(&'s self, symbol: &'s dyn Fn(&str) -> String) -> Rules<'s> {
        Rules { tools: self.tools, parallel: self.parallel, form: self.form, symbol }
    }
}

/// A mark that is a control token.
fn control(tokenizer: &Tokenizer, mark: &str) -> Option<u32> {
    tokenizer.id(mark).filter(|&id| tokenizer.is_control(id))
}

/// How a grammar has a mark: by its id if it is a control token, otherwise as text.
fn symbol(tokenizer: &Tokenizer, mark: &str) -> String {
    control(tokenizer, mark).map_or_else(|| Json::from(mark).to_string(), |id| format!("<[{id}]>"))
}
