//! What keeps the answers of a conversation to their shape, and calls to the tools that there are.

use std::sync::Arc;

use anyhow::Result;
use quipu_constrain::{CallForm, Calls, Grammars, Shape};
use quipu_runtime::chat::answer::{AnswerReader, ReadOptions, Tool, thoughts_opened_by};
use quipu_runtime::constraint::Grammar;
use quipu_runtime::tokenizer::Tokenizer;

/// Tokens at the end of a prompt in which a template may have opened the thoughts.
const LAST_TOKENS: usize = 8;

/// Makes the grammars of answers.
pub struct Keeper {
    tokenizer: Arc<Tokenizer>,
    grammars: Grammars,
    tools: Arc<[Tool]>,
    form: CallForm,
    shape: Option<Shape>,
}

impl Keeper {
    /// For answers of this shape, if they have one, in which these tools are called in this form.
    pub fn new(tokenizer: &Arc<Tokenizer>, tools: Arc<[Tool]>, form: CallForm, shape: Option<Shape>) -> Keeper {
        let grammars = Grammars::new(tokenizer.clone());
        Keeper { tokenizer: tokenizer.clone(), grammars, tools, form, shape }
    }

    /// What the answer to a prompt may be: anything with calls in it, or of the shape, or calls instead of that if it
    /// is JSON.
    ///
    /// # Errors
    /// When that cannot be enforced.
    pub fn grammar(&self, prompt: &[u32]) -> Result<Option<Arc<dyn Grammar>>> {
        let calls = Calls { tools: &self.tools, parallel: true, form: self.form };
        let end = self.end(prompt);
        Ok(Some(match &self.shape {
            // Calls are found without a grammar, too.
            None if self.tools.is_empty() || !quipu_constrain::BUILT => return Ok(None),
            None => self.grammars.offer(&calls, AnswerReader::new(ReadOptions::default(), &end))?,
            Some(shape @ (Shape::JsonObject | Shape::JsonSchema(_))) if !self.tools.is_empty() => {
                let shape = calls.demanded(&self.tokenizer, thoughts_opened_by(&end), Some(shape));
                self.grammars.compile(&shape)?
            }
            Some(shape) => self.grammars.compile(shape)?,
        }))
    }

    /// Who reads the answer to a prompt. Thoughts stay in its text, and what they say of a call is none.
    pub fn reader(&self, prompt: &[u32]) -> AnswerReader {
        let options = ReadOptions { tools: self.tools.clone(), thinking: false, ..ReadOptions::default() };
        AnswerReader::new(options, &self.end(prompt))
    }

    /// The end of a prompt as text.
    fn end(&self, prompt: &[u32]) -> String {
        self.tokenizer.decode(&prompt[prompt.len().saturating_sub(LAST_TOKENS)..], true)
    }
}
