//! Where the crate was built without llguidance: every shape is refused, so nothing is ever followed.

use std::sync::Arc;

use quipu_runtime::constraint::{Constraint, ConstraintError, Grammar, TokenMask};
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::Value as Json;

use crate::error::ShapeError;

/// There is none.
#[derive(Debug)]
pub enum Compiler {}

impl Compiler {
    pub fn new(_: &Arc<Tokenizer>) -> Result<Compiler, ShapeError> {
        Err(ShapeError::NotBuilt)
    }

    pub fn schema(&self, _: Json) -> Result<Compiled, String> {
        match *self {}
    }

    pub fn regex(&self, _: &str) -> Result<Compiled, String> {
        match *self {}
    }

    pub fn lark(&self, _: String) -> Result<Compiled, String> {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub enum Compiled {}

impl Compiled {
    pub fn after(&self, _: &[u8]) -> Option<Place> {
        match *self {}
    }
}

impl Grammar for Compiled {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        match *self {}
    }
}

/// There is none.
#[derive(Clone, Debug)]
pub enum Place {}

impl Place {
    pub fn is_complete(&mut self) -> Result<bool, ConstraintError> {
        match *self {}
    }
}

impl Constraint for Place {
    fn allow(&mut self, _: &mut TokenMask) -> Result<bool, ConstraintError> {
        match *self {}
    }

    fn advance(&mut self, _: u32) -> Result<(), ConstraintError> {
        match *self {}
    }

    fn copy(&self) -> Box<dyn Constraint> {
        match *self {}
    }
}
