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
//! - [`GgufWriter`]: a GGUF (v3) written front to back, into anything that takes bytes; as a rule into an
//!   [`OutputFile`], which appears under its name only when it is complete.
//!
//! # Packed files
//!
//! A packed file is the same container with matrices in the R16·K4 layout (`quipu_quant::pack`). Its packed tensors
//! have the type id [`PACKED_TYPE_BASE`]` | id`, which no other reader knows, so that all refuse the file instead of
//! misreading it. The keys [`LAYOUT_KEY`]` = "r16k4"` and [`LAYOUT_VERSION_KEY`]` = 1` name the layout, and
//! `general.alignment` is [`PACKED_ALIGNMENT`].

mod cursor;
mod fault;
mod file;
mod output;
mod parse;
mod strings;
mod value;
mod wire;
mod writer;

pub use fault::{GgufError, GgufFault};
pub use file::GgufFile;
pub use output::{OutputError, OutputFile};
pub use strings::Strings;
pub use value::{Array, Metadata, MetadataError, Required, Value};
pub use writer::{GgufWriter, WriteError};

/// `general.alignment` where a file does not say.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// The largest `general.alignment` that is read or written. The specification has no bound; the largest page of any
/// system in use is smaller.
pub const MAX_ALIGNMENT: usize = 1 << 30;

/// The most bytes that keys and tensor directory together may take. The largest real ones (vocabularies of 256 k tokens
/// with their merges) take some 20 MB; the bound keeps a lying length from being backed by gigabytes of tensor data.
pub const MAX_HEADER_BYTES: usize = 128 << 20;

/// How deep arrays may nest. Real files nest none.
pub const MAX_ARRAY_DEPTH: usize = 8;

/// The longest key, in bytes; the specification's bound.
pub const MAX_KEY_BYTES: usize = 65535;

/// The longest tensor name, in bytes; the specification's bound.
pub const MAX_TENSOR_NAME_BYTES: usize = 64;

/// The most extents a tensor may have (`GGML_MAX_DIMS`).
pub const MAX_DIMS: usize = 4;

/// The key of the alignment of tensor data.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// The key that names the layout of a packed file.
pub const LAYOUT_KEY: &str = "quipu.layout";

/// The key of that layout's version.
pub const LAYOUT_VERSION_KEY: &str = "quipu.layout.version";

/// The layout that this Quipu reads and writes.
pub const LAYOUT_NAME: &str = "r16k4";

/// Its version.
pub const LAYOUT_VERSION: u32 = 1;

/// Packed tensors have this type id, or-ed with the id of their [`quipu_quant::TensorType`]: "QP".
pub const PACKED_TYPE_BASE: u32 = 0x5150_0000;

/// `general.alignment` of packed files: the page of a Pi 5, of Apple and of Android 15, so that a tensor can be advised
/// about alone.
pub const PACKED_ALIGNMENT: usize = 16 << 10;
