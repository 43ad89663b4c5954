//! The stores of models that ollama and Hugging Face's programs keep, which Quipu shares with them.
//!
//! - [`list`]: what there is; [`remove`]: less of it; [`verify`]: whether it is what it was.
//! - `pull`, a feature: more of it. Start with `pull/puller.rs`; the Hub's protocol and ollama's have a file each, and
//!   `pull/blob.rs` fetches one file of either.
//! - [`digest`]: names of files that are what is in them.
//!
//! Where the stores are and what a name means is `quipu_formats::stores`' matter, which reads models where they lie.
//! No network is used but by `pull`.
#![forbid(unsafe_code)]

pub mod digest;
mod error;
pub mod list;
#[cfg(feature = "pull")]
pub mod pull;
pub mod remove;
pub mod verify;

pub use error::StoreError;
