//! Conversations: messages become one text, in the form that the model was trained on, for the model to continue.
//!
//! [`ChatTemplate`] is a Jinja program that came with the model. It is rendered as Hugging Face's `apply_chat_template`
//! renders it: blocks trimmed, `raise_exception`, `strftime_now`, `tojson` as Python's `json.dumps`, Python's string
//! methods, loop controls, `{% generation %}`. `tests/chat.rs` compares the two. [`Conversation`] holds what was said,
//! forgets the oldest turns when the context is full, and reads nothing twice.
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

mod conversation;
mod date;
mod error;
mod json;
mod message;
mod template;

pub use conversation::{Conversation, Turn};
pub use date::DateTime;
pub use error::ChatError;
pub use message::Message;
pub use template::{ChatTemplate, RenderOptions};
