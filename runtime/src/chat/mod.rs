//! Conversations: messages become one text, in the form that the model was trained on, for the model to continue.
//!
//! [`ChatTemplate`] is a Jinja program that came with the model. It is rendered as Hugging Face's `apply_chat_template`
//! renders it, by an interpreter of our own (`jinja`); `tests/chat.rs` and `tests/jinja.rs` compare the two. What comes
//! of a message is marked on its way through the template, so that it cannot become a control token (`prompt.rs`).
//! [`answer`] reads what a model has written: thoughts, text, calls of tools. [`history`] fits calls into templates
//! that have no place for them. [`Conversation`] holds what was said, forgets the oldest turns when the context is
//! full, and reads nothing twice.
//!
//! ```
//! use quipu_runtime::chat::{ChatTemplate, Message, RenderOptions};
//!
//! let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
//! let template = ChatTemplate::new(source, None, None)?;
//! let messages = [Message::new("system", "Be brief."), Message::new("user", "Hello!")];
//! assert_eq!(template.render(&messages, &RenderOptions::default())?, "<system>Be brief.<user>Hello!");
//! # Ok::<(), quipu_runtime::chat::ChatError>(())
//! ```

pub mod answer;
mod conversation;
mod date;
mod error;
mod folded;
pub mod history;
mod jinja;
mod message;
mod options;
mod prompt;
mod template;

pub use conversation::{Conversation, Turn};
pub use date::DateTime;
pub use error::ChatError;
pub use message::Message;
pub use options::RenderOptions;
pub use template::ChatTemplate;
