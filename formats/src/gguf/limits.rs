//! The largest that the parts of a file may be, and the alignment where a file does not say.

/// The key of the alignment of tensor data.
pub const ALIGNMENT_KEY: &str = "general.alignment";

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
