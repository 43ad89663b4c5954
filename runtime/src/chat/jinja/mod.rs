//! Jinja, as Hugging Face runs it for chat templates: jinja2's syntax in `ImmutableSandboxedEnvironment` with
//! `trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}`, `raise_exception`, `strftime_now`, and Python's
//! methods on what is a `str`, `list` or `dict` there.
//!
//! It is written by hand for three things that no library offers together. Values are Python's, so that a template
//! does what it does for Hugging Face. Every string and list is charged to an account, every step too, and nesting is
//! bounded, so that a template from outside costs an error and no more (`budget.rs`, `stack.rs`). And strings know
//! which of their characters come from the conversation (`text.rs`), so that these can be kept from becoming control
//! tokens.
//!
//! What is there: all statements but `extends`, `include` and `import`, which need files; all operators; the functions,
//! filters, tests and methods that `names.rs` lists. What jinja2 has besides: the filters `filesizeformat`, `random`,
//! `striptags`, `urlize`, `wordwrap` and `xmlattr`, `lipsum`, and markup: `escape` returns a plain string. Integers
//! have 128 bits. `x is test if …` is read as it is meant; jinja2 takes `if` for an argument there. `tests/jinja.rs`
//! holds all of this against jinja2.

mod access;
mod args;
mod ast;
mod budget;
mod call;
mod chars;
mod containers;
mod error;
mod eval;
mod expressions;
mod filters;
mod format;
mod json;
mod layout;
mod lexer;
mod names;
mod numbers;
mod operators;
mod parser;
mod percent;
mod print;
mod sequences;
mod stack;
mod state;
mod statements;
mod strings;
mod tests;
mod text;
mod value;

use std::rc::Rc;

use super::date::DateTime;
pub(super) use error::Error;
pub(super) use text::{Origin, TEMPLATE};
pub(super) use value::Value;

/// A text that a template has rendered, as stretches of one origin each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// Where each stretch ends, and its origin; they follow each other.
    pub(super) stretches: Vec<(usize, Origin)>,
}

/// A parsed template.
#[derive(Debug)]
pub(super) struct Template(Vec<ast::Statement>);

impl Template {
    pub(super) fn parse(source: &str) -> Result<Template, Error> {
        let parsed = stack::on_own_stack(|| parser::parse(source));
        parsed.unwrap_or_else(refused).map(Template)
    }

    /// Renders with the variables that `variables` makes of an input of `bytes` bytes.
    pub(super) fn render(
        &self,
        bytes: usize,
        now: DateTime,
        variables: impl FnOnce() -> Result<Vec<(String, Value)>, Error> + Send,
    ) -> Result<Rendered, Error> {
        stack::on_own_stack(|| {
            budget::open(bytes);
            let mut run = state::Run::new(now);
            let scope = Rc::new(value::Scope::default());
            for name in names::FUNCTIONS {
                scope.set(name, value::Callable::Function(name).into());
            }
            for (name, value) in variables()? {
                scope.set(&name, value);
            }
            let inner = value::Scope::inside(&scope);
            let text = run.template(&self.0, &inner);
            // Namespaces may hold themselves and each other.
            for namespace in &run.namespaces {
                drop(namespace.0.take());
            }
            let text = text?;
            let stretches = text.stretches(0..text.as_str().len()).map(|(range, origin)| (range.end, origin)).collect();
            Ok(Rendered { text: text.as_str().to_string(), stretches })
        })
        .unwrap_or_else(refused)
    }
}

fn refused<T>(error: std::io::Error) -> Result<T, Error> {
    Err(Error::new(format!("no thread for it: {error}")))
}
