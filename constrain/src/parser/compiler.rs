//! llguidance's compiler, with limits on every cost.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::Value as Json;

use super::compiled::{Compiled, first_line};
use super::environment::Environment;
use crate::error::ShapeError;
use crate::limits;

/// Compiles grammars for the tokens of one model. What it refuses, it refuses in a line.
pub struct Compiler(ParserFactory);

impl Compiler {
    /// Looks at all tokens.
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Result<Compiler, ShapeError> {
        let environment: TokEnv = Arc::new(Environment::new(tokenizer.clone()));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
            .map_err(|error| ShapeError::Grammar { kind: "vocabulary", problem: error.to_string() })?;
        factory.quiet();
        let given = factory.limits_mut();
        given.max_grammar_size = limits::SYMBOLS;
        given.max_lexer_states = limits::LEXER_STATES;
        given.initial_lexer_fuel = limits::COMPILE_FUEL;
        given.step_lexer_fuel = limits::MASK_FUEL;
        given.step_max_items = limits::MASK_ITEMS;
        // Errors would have the text in them.
        given.verbose_errors = false;
        Ok(Compiler(factory))
    }

    /// A JSON schema, as it is.
    pub fn schema(&self, schema: Json) -> Result<Compiled, String> {
        self.compile(TopLevelGrammar::from_json_schema(schema))
    }

    /// A regular expression.
    pub fn regex(&self, regex: &str) -> Result<Compiled, String> {
        self.compile(TopLevelGrammar::from_regex(regex))
    }

    /// Lark, as it is.
    pub fn lark(&self, lark: String) -> Result<Compiled, String> {
        self.compile(TopLevelGrammar::from_lark(lark))
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Compiled, String> {
        let parser = self.0.create_parser(grammar).map_err(|error| first_line(&error.to_string()).to_string())?;
        Compiled::new(Matcher::new(Ok(parser))).map_err(|error| first_line(&error).to_string())
    }
}
