//! Block formats: what the bits of a weight mean.
//!
//! Everything here is scalar and plain: it *defines* the numbers that the kernels must reproduce to the bit. No I/O, no
//! threads, no intrinsics.
//!
//! - [`types`]: the tensor types, their ids, block sizes and names. Start here.
//! - [`blocks`]: the layout of each type's block; dequantise, quantise.
//! - [`activations`]: the int8 form in which activations enter a quantised product.
//! - [`dot`]: the reference dot product of a weight row and a quantised activation row.
//! - [`cache`]: blocks of the KV cache.
//! - [`search`]: quantise with less error than the plain rule, using what is known of the activations.
//! - [`stored`]: types that are read and recoded, but have no kernels.
//! - [`interleaved`]: types that are Q4_0 with rows interleaved, and are read as Q4_0.
//! - [`pack`]: R16·K4, the one layout that every instruction set reads, as a permutation of the plain rows.
//!
//! A row of weights becomes blocks and values again:
//!
//! ```
//! use quipu_quant::{TensorType, blocks};
//!
//! let weights: Vec<f32> = (0..64).map(|i| (i as f32 / 10.0).sin()).collect();
//! let ty = TensorType::Q8_0;
//! let mut row = vec![0; ty.row_bytes(weights.len()).expect("a whole number of blocks")];
//! blocks::quantize(ty, &weights, &mut row)?;
//! assert_eq!(row.len(), 2 * 34);
//!
//! let mut values = vec![0.0; weights.len()];
//! blocks::dequantize(ty, &row, &mut values)?;
//! // Off by at most half a step, and a step is the largest weight divided by 127.
//! assert!(weights.iter().zip(&values).all(|(w, v)| (w - v).abs() < 0.6 / 127.0));
//! # Ok::<(), blocks::BlockError>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("model files are little-endian and are used in place; big-endian machines are not supported");

pub mod activations;
pub mod blocks;
pub mod cache;
pub mod dot;
pub mod interleaved;
pub mod pack;
pub mod search;
pub mod stored;
pub mod types;

pub use types::{InterleavedType, StoredType, TensorType};
