//! Block formats: what the bits of a weight mean.
//!
//! Everything here is scalar and plain: it *defines* the numbers that the kernels must reproduce to the bit. No I/O, no
//! threads, no intrinsics.
//!
//! - [`types`]: the tensor types, their ids, block sizes and names. Start here.
//! - [`blocks`]: for every type the layout of a block, dequantise, quantise.
//! - [`activations`]: the int8 form in which activations enter a quantised product.
//! - [`dot`]: the reference dot product of a weight row and a quantised activation row.
//! - [`search`]: quantise with less error than the plain rule, by what is known of the activations.
//! - [`stored`]: types that are read and recoded, but have no kernels.
//! - [`interleaved`]: types that are Q4_0 with rows interleaved, and are read as Q4_0.
//! - [`pack`]: R16·K4, the one layout that every instruction set reads, as a permutation of the plain rows.
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("model files are little-endian and are used in place; big-endian machines are not supported");

pub mod activations;
pub mod blocks;
pub mod dot;
pub mod interleaved;
pub mod pack;
pub mod search;
pub mod stored;
pub mod types;

pub use types::{InterleavedType, StoredType, TensorType};
