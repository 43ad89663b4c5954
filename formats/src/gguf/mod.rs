//! GGUF: the container.
//!
//! Specification: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod value;

pub use value::{Array, Metadata, MetadataError, Required, Value};
