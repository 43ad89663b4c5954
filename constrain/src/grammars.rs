//! The grammars of one model: compiled, and kept.

use std::fmt;
use std::sync::{Arc, OnceLock};

use quipu_runtime::chat::answer::AnswerReader;
use quipu_runtime::constraint::Grammar;
use quipu_runtime::host::threads;
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::Value as Json;

use crate::calls::{Calls, Offered, TextWithCalls};
use crate::error::ShapeError;
use crate::kept::Kept;
use crate::parser::{Compiled, Compiler};
use crate::shape::Shape;
use crate::{gbnf, lark, limits, schema, size};

/// Makes grammars for the tokens of one model, and keeps those that were asked for lately.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    compiler: OnceLock<Result<Compiler, ShapeError>>,
    kept: Kept<Compiled>,
    offered: Kept<Offered>,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// For a model with this tokenizer. Nothing is done before it is needed.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Grammars {
        Grammars { tokenizer, compiler: OnceLock::new(), kept: Kept::default(), offered: Kept::default() }
    }

    /// Looks at all tokens now, so that the first grammar need not wait for that: half a second for 128,000 tokens.
    pub fn prepare(&self) {
        let _ = self.compiler();
    }

    fn compiler(&self) -> Result<&Compiler, ShapeError> {
        self.compiler.get_or_init(|| Compiler::new(&self.tokenizer)).as_ref().map_err(Clone::clone)
    }

    /// The grammar of a shape; from memory if it was asked for lately.
    ///
    /// # Errors
    /// [`ShapeError`]: whatever cannot be enforced is refused.
    pub fn compile(&self, shape: &Shape) -> Result<Arc<dyn Grammar>, ShapeError> {
        Ok(self.compiled(shape)?)
    }

    /// The grammar of an answer that may have calls in it; `thoughts` reads it from the end of the prompt on, and tells
    /// the thoughts before it apart.
    ///
    /// # Errors
    /// [`ShapeError`], when the arguments of a call cannot be kept to their schema.
    pub fn offer(&self, calls: &Calls<'_>, thoughts: AnswerReader) -> Result<Arc<dyn Grammar>, ShapeError> {
        let call = calls.after_trigger(&self.tokenizer);
        let key = format!("{:?} {} {}", calls.form, calls.parallel, call.key());
        let make = || {
            let triggers = calls.triggers(&self.tokenizer);
            let call = self.compiled(&call)?;
            let offered = Offered::new(self.tokenizer.clone(), triggers, call, !calls.parallel);
            Ok::<_, ShapeError>(self.offered.keep(key.clone(), offered))
        };
        let offered = self.offered.find(&key).map_or_else(make, Ok)?;
        Ok(Arc::new(TextWithCalls { offered, thoughts }))
    }

    fn compiled(&self, shape: &Shape) -> Result<Arc<Compiled>, ShapeError> {
        let key = shape.key();
        if key.len() > limits::TEXT {
            let (kind, found, most) = (shape.kind(), key.len(), limits::TEXT);
            return Err(ShapeError::TooLarge { kind, what: "bytes", found, most });
        }
        if let Some(found) = self.kept.find(&key) {
            return Ok(found);
        }
        let compiler = self.compiler()?;
        let work = || compile(compiler, shape);
        // By a thread of its own, since what is nested is read by functions that call themselves.
        let compiled = std::thread::scope(|scope| {
            let builder = threads::builder_with_stack("quipu-grammar", limits::STACK);
            let thread = builder.and_then(|builder| builder.spawn_scoped(scope, work));
            let thread = thread.map_err(|error| ShapeError::Thread(error.to_string()))?;
            let problem = || ShapeError::Grammar { kind: shape.kind(), problem: "compiling it panicked".into() };
            thread.join().unwrap_or_else(|_| Err(problem()))
        })?;
        Ok(self.kept.keep(key, compiled))
    }
}

fn compile(compiler: &Compiler, shape: &Shape) -> Result<Compiled, ShapeError> {
    let compiled = match shape {
        Shape::JsonObject => compiler.schema(schema::object()),
        Shape::JsonSchema(asked) => {
            let compiled = compiler.schema(schema::prepare(asked)?);
            return compiled.map_err(|problem| schema_error(compiler, asked, problem));
        }
        Shape::Regex(regex) => {
            lark::check_depth(regex, shape.kind())?;
            size::check(regex).map_err(|problem| ShapeError::Grammar { kind: shape.kind(), problem })?;
            compiler.regex(regex)
        }
        Shape::Choice(texts) => compiler.lark(choice(texts)?),
        Shape::Lark(lark) => compiler.lark(lark::check(lark)?),
        Shape::Gbnf(text) => compiler.lark(gbnf::to_lark(text)?),
    };
    compiled.map_err(|problem| ShapeError::Grammar { kind: shape.kind(), problem })
}

/// One of some texts, as Lark.
fn choice(texts: &[String]) -> Result<String, ShapeError> {
    if texts.is_empty() {
        return Err(ShapeError::Grammar { kind: "list of choices", problem: "it is empty".into() });
    }
    let texts: Vec<String> = texts.iter().map(|text| Json::from(text.as_str()).to_string()).collect();
    Ok(format!("start: CHOICE\nCHOICE: {}\n", texts.join(" | ")))
}

/// What llguidance does not compile, with its place. Only for `oneOf` it takes a compiler to find out.
fn schema_error(compiler: &Compiler, schema: &Json, problem: String) -> ShapeError {
    if problem.contains("oneOf") {
        let fails = |one: &Json| compiler.schema(one.clone()).is_err();
        if let Some(pointer) = schema::find_one_of(schema, fails) {
            let problem = "its alternatives may be valid at once, and that just one of them is cannot be enforced; \
                           tell them apart by a property with a `const`, or use `anyOf`";
            return ShapeError::Schema { pointer, problem: problem.into() };
        }
    }
    ShapeError::Schema { pointer: "#".into(), problem }
}
