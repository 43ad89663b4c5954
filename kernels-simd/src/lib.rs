//! Arithmetic: every intrinsic of the project.
//!
//! Start with [`Kernels`]: the operations that a model needs, as a table per instruction set ([`Isa`]). All tables give
//! the same bits; what those bits are is defined by `quipu-quant` for products with quantised weights and by the
//! portable table for the rest.
//!
//! - `simd`: the vector vocabulary, implemented by `portable` and by a file per instruction set (`x86_64`, `aarch64`).
//! - `ops`: the operations, written once over that vocabulary.
//! - `table`: their instances behind safe functions that check shapes.
//! - `cpu`: what this machine can do.
//!
//! No threads and no model knowledge live here: every function works on the part of the output that it is given.

#[cfg(target_pointer_width = "32")]
compile_error!("Quipu maps whole models into memory and needs a 64-bit system: use an x86_64 or aarch64 target");
#[cfg(all(target_arch = "aarch64", not(target_feature = "neon")))]
compile_error!("the kernels for AArch64 need NEON, which its soft-float targets lack");

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activations;
mod cpu;
mod matrix;
mod ops;
mod portable;
mod simd;
mod table;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activations::Tile;
pub use cpu::{Feature, cpu};
pub use matrix::{MatMut, Weights, padded_rows};
pub use ops::attention::{AttentionScratch, Queries, SEGMENT, Segment, state_len};
pub use ops::matmul_quant::Scratch;
pub use ops::roof::Int8Loop;
pub use table::{Isa, Kernels};
