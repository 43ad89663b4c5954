//! Arithmetic: every intrinsic of the project.
//!
//! Start with [`Kernels`]: the operations that a model needs, for one instruction set ([`Isa`]). All instruction sets
//! give the same bits; what those bits are is defined by `quipu-quant` for products with quantised weights and by the
//! portable kernels for the rest. There are no threads here and no knowledge of models: every function works on the
//! part of the output that it is given.
//!
//! # Example
//!
//! A product of 2 rows of activations × 48 outputs, each of 64 inputs:
//!
//! ```
//! use quipu_kernels::{Isa, MatMut, Scratch, Weights};
//! use quipu_quant::TensorType;
//! use quipu_quant::pack::{PackedLayout, pack};
//!
//! // Weights as a GGUF has them: in Q8_0, 32 weights are a scale in f16 (0x3c00 is 1) and 32 signed bytes. All weights
//! // of output `i` are `i` here. They are packed so that sixteen outputs stand side by side.
//! let (outputs, inputs, rows) = (48, 64, 2);
//! let plain: Vec<u8> = (0..outputs as u8)
//!     .flat_map(|i| [vec![0x00, 0x3c], vec![i; 32], vec![0x00, 0x3c], vec![i; 32]].concat())
//!     .collect();
//! let layout = PackedLayout::new(TensorType::Q8_0, outputs, inputs).expect("whole blocks");
//! let packed = pack(&layout, &plain);
//! let weights = Weights::new(layout, &packed);
//!
//! // The first row of activations is all 1, the second all −2. They become int8, 32 at a time, on the way.
//! let activations = [vec![1.0; inputs], vec![-2.0; inputs]].concat();
//!
//! let kernels = Isa::best().kernels().expect("the best is one that this CPU has");
//! let tiles = kernels.tiles(&activations, rows, inputs);
//! let mut out = vec![0.0; rows * outputs];
//! kernels.matmul_quant(
//!     &weights,
//!     0..weights.groups(),
//!     &tiles,
//!     &mut Scratch::default(),
//!     &mut MatMut::new(&mut out, rows, outputs, outputs),
//! );
//! assert_eq!(out[3], 3.0 * 64.0);
//! assert_eq!(out[outputs + 3], -2.0 * 3.0 * 64.0);
//! ```
//!
//! # Inside
//!
//! From the bottom up; a file imports only from files above it in this list:
//!
//! - `simd`: the trait `Simd` of vectors, what the registers of an instruction set hold and do.
//! - `tuning`: what depends on the machine and changes no bit.
//! - `operands`: what products take and give: weights, their scales, activations, outputs.
//! - `gemm`: the trait `Gemm` of products: how bytes are multiplied, and in which tiles.
//! - `call`: kernels that are functions of their own.
//! - `ops`: the operations, written once over these traits.
//! - `portable`, `x86_64`, `aarch64`: the implementations of the traits, a file for each instruction set.
//! - `cpu`: what this CPU has; `isa`: the instruction sets, a row of a table for each.
//! - `kernels`: [`Kernels`], the public functions, which check shapes (`rows`: those on single rows); `table`: what
//!   they call, compiled for each row.

#[cfg(target_pointer_width = "32")]
compile_error!("Quipu maps whole models into memory and needs a 64-bit system: use an x86_64 or aarch64 target");
#[cfg(all(target_arch = "aarch64", not(target_feature = "neon")))]
compile_error!("the kernels for AArch64 need NEON, which its soft-float targets lack");

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(test)]
mod asked;
mod call;
mod cpu;
mod gemm;
mod isa;
mod kernels;
mod operands;
mod ops;
mod portable;
mod rows;
mod simd;
mod table;
mod tuning;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use cpu::{Feature, cpu};
pub use isa::{Isa, UnknownIsa};
pub use kernels::Kernels;
pub use operands::activations::Tile;
pub use operands::matrix::{MatMut, Weights, padded_rows};
pub use ops::attention::{AttentionScratch, Queries, SEGMENT, Segment, state_len};
pub use ops::attention_quant::{QuantQueries, QuantScratch, QuantSegment};
pub use ops::matmul_quant::Scratch;
pub use ops::roofline::{Int8Loop, Reading};
pub use tuning::{Ahead, Tuning, TuningError};
