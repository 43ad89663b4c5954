//! What a model has written: what it thought, what it says, and the tools that it calls.
//!
//! Llama models write calls in many forms, often not in the one that their template asks for, and so do the models of
//! other families. [`AnswerReader`] knows all of these forms. It takes a text in pieces, as it comes, and gives out
//! [`Delta`]s; in which pieces the text came makes no difference to what they are put together. Nothing is lost: what
//! is no call of a tool that was declared is content, as it stands.
//!
//! | form | |
//! |---|---|
//! | `{"name": …, "parameters": {…}}`, `"arguments"` | Llama 3; in any order of keys, within `"function": {…}`, in a fence, a list, several with `;`, `,` or lines between them |
//! | `<\|python_tag\|>` and any form, `name.call(key="…")`, or Python for a tool `code_interpreter` | Llama 3.1 |
//! | `[name(key='…'), …]` | Llama 3.2 and 4 |
//! | `<function=name>{…}</function>` | Llama 3.1 |
//! | `<tool_call>{…}</tool_call>` | Hermes, Qwen, SmolLM3 |
//! | `[TOOL_CALLS][{…}, …]`, `[TOOL_CALLS]name[ARGS]{…}` | Mistral |
//! | `<think>…</think>`, `[THINK]…[/THINK]` | what was thought: R1, Qwen3, SmolLM3; Mistral |
//!
//! Arguments come out as the text of one JSON object. They are brought into the form that the tool's schema asks for
//! where only one thing can be meant ([`coerce`]).
//!
//! Start with `reader.rs`; `opening.rs` has the forms.

mod arguments;
mod coerce;
mod cursor;
mod delta;
mod literal;
mod marks;
mod opening;
mod reader;
mod tail;
mod thinking;
mod tool;

pub use coerce::coerce;
pub use delta::{Delta, Piece};
pub use marks::control_tokens;
pub use reader::{AnswerReader, ReadOptions, Stage};
pub use thinking::thoughts_opened_by;
pub(crate) use thinking::{MARKS, Marks, opened_by};
pub use tool::Tool;
