//! Answers with a shape: JSON schemas, regular expressions, Lark and GBNF as grammars for `quipu-runtime`.
//!
//! A [`Shape`] is what somebody asks for; [`Grammars`] makes a [`Grammar`](quipu_runtime::constraint::Grammar) of it
//! that fits the tokens of one model. The work of a parser and of a lexer over tokens is done by `llguidance`; what is
//! done here is all that must not be left to chance. What cannot be enforced is refused by name and place
//! ([`ShapeError`]), never left out: an answer that ends by itself is always one of the shape.
//!
//! ```
//! use quipu_constrain::{Grammars, Shape};
//! use quipu_runtime::generate::{GenerateOptions, Request, Scheduler, prompt_tokens};
//! use quipu_runtime::{Engine, LoadOptions};
//!
//! let engine = Engine::load(quipu_runtime::open("demo")?, &LoadOptions::default(), &|_, _| {})?;
//! let grammars = Grammars::new(engine.tokenizer().clone());
//! let shape = Shape::schema(r#"{"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}},
//!     "required": ["age"], "additionalProperties": false}"#)?;
//! let prompt = prompt_tokens(engine.tokenizer(), "A miller had a son of", true);
//! let options = GenerateOptions::default().max_tokens(200).grammar(grammars.compile(&shape)?);
//! let (text, _) = Scheduler::new(engine).complete(Request::new(prompt, options))?;
//! assert!(text.trim_start().starts_with('{'), "{text}");
//!
//! let refused = grammars.compile(&Shape::schema(r#"{"items": {"type": "array", "uniqueItems": true}}"#)?);
//! assert!(refused.unwrap_err().to_string().contains("#/items/uniqueItems"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - `shape`, `error`: what is asked for, and why it is refused. `grammars`: what is compiled, and kept.
//! - [`Calls`]: calls of tools, in an answer that has to be some or may have some. `kept`: what was made lately.
//! - `schema`: JSON schemas, checked and brought into the form that is enforced exactly. `gbnf`: llama.cpp's grammars
//!   as Lark. `lark`: Lark from outside. `limits`: what all of this may cost; `size`: how large a regular
//!   expression is.
//! - `parser`: all that knows `llguidance`. Without the feature of that name, which is on by default, every shape is
//!   refused ([`ShapeError::NotBuilt`]), and the crate has five dependencies less.
//!
//! **A grammar from some place on**, as for a tool that a model may call or not: with Lark, as free text followed by
//! the grammar, where the text stops at what begins the call. The tokens may be cut anywhere, also within the
//! beginning. [`Shape::after`] writes such a grammar:
//!
//! ```
//! use quipu_constrain::Shape;
//!
//! let shape = Shape::after(&[("<tool_call>", "call")], r#"call: %json {"type": "object"} "</tool_call>""#);
//! assert!(matches!(shape, Shape::Lark(_)));
//! ```
#![forbid(unsafe_code)]

mod calls;
mod error;
mod gbnf;
mod grammars;
mod kept;
mod lark;
#[cfg_attr(not(feature = "llguidance"), expect(dead_code, reason = "there is no parser that costs anything"))]
mod limits;
mod parser;
mod schema;
mod shape;
mod size;

pub use calls::{CallForm, Calls};
pub use error::ShapeError;
pub use grammars::Grammars;
pub use parser::BUILT;
pub use shape::Shape;
