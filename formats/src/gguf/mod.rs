//! GGUF: the container.
//!
//! Specification: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. In short, all little-endian:
//!
//! ```text
//! "GGUF"  u32 version  u64 number of tensors  u64 number of keys
//! keys:     string key, u32 value type, value                    string: u64 length, UTF-8 bytes
//! tensors:  string name, u32 number of extents, u64 extents,     array:  u32 element type, u64 length, elements
//!           u32 type, u64 offset
//! zeros up to a multiple of `general.alignment` (32 if absent); the tensors' bytes, each at its offset from here
//! ```
//!
//! - [`Metadata`], [`Value`]: the keys.
//! - [`GgufFile`]: a file read (v2 and v3). The reader is strict: it believes no number before it has been held against
//!   the length of the file, and every rule it enforces has a name in [`GgufFault`].
//!   A model in several parts is one of these too, opened by its first part.
//! - [`join_experts`]: older files, in which each matrix of an expert is a tensor of its own, as newer ones have them.
//! - [`GgufWriter`]: a GGUF (v3) written front to back, into anything that takes bytes; as a rule into an
//!   [`OutputFile`](crate::output::OutputFile), which appears under its name only when it is complete.
//!
//! # Packed files
//!
//! A packed file is the same container with matrices in the R16·K4 layout (`quipu_quant::pack`). Its packed tensors
//! have the type id [`PACKED_TYPE_BASE`]` | id`, which no other reader knows, so that all refuse the file instead of
//! misreading it. The keys [`LAYOUT_KEY`]` = "r16k4"` and [`LAYOUT_VERSION_KEY`]` = 1` name the layout, and
//! `general.alignment` is [`PACKED_ALIGNMENT`].

mod cursor;
mod experts;
mod fault;
mod file;
mod limits;
mod mllama;
pub(crate) mod packed;
mod parse;
mod parts;
pub(crate) mod split;
mod strings;
pub(crate) mod value;
mod wire;
mod writer;

pub use experts::join_experts;
pub use fault::{GgufError, GgufFault};
pub use file::GgufFile;
pub use limits::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAX_ALIGNMENT, MAX_ARRAY_DEPTH, MAX_DIMS, MAX_HEADER_BYTES, MAX_KEY_BYTES,
    MAX_TENSOR_NAME_BYTES,
};
pub use packed::{LAYOUT_KEY, LAYOUT_NAME, LAYOUT_VERSION, LAYOUT_VERSION_KEY, PACKED_ALIGNMENT, PACKED_TYPE_BASE};
pub use parts::{PartsWriter, first_part_path};
pub use strings::Strings;
pub use value::{Array, Metadata, MetadataError, Required, Value};
pub use writer::{GgufWriter, WriteError};
