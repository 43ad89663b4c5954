//! Moderation: a Llama Guard model says whether what was said is safe, and which category it violates if not.
//!
//! [`policy`]: the categories that a guard is told. [`form`]: how the three generations of Llama Guard are asked, where
//! a model's own template cannot do it. [`moderator`]: a guard model with its policy: from a conversation to a
//! question, and from what the model writes to a [`verdict`]. [`ask`]: asks a model in a thread of its own. [`gate`]: a
//! guard before and behind all other models of a server.

pub mod ask;
pub mod error;
pub mod form;
pub mod gate;
pub mod moderator;
pub mod policy;
pub mod verdict;
