//! The demo model of Quipu, as the bytes of a GGUF file: a Llama of 8.4 million parameters that tells tales of a sort.
//!
//! It is a crate of its own so that whoever builds on `quipu-runtime` need not carry seven megabytes that only show
//! that everything works.
//!
//! ```
//! assert!(quipu_demo::TALES.starts_with(b"GGUF"));
//! ```
#![forbid(unsafe_code)]

/// The model `tales`: a GGUF file, its matrices Q5_1 and its embedding Q8_0.
pub static TALES: &[u8] = include_bytes!("../tales.gguf");
