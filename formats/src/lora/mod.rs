//! LoRA adapters (Hu et al. 2021): small matrices that are added to those of a model.
//!
//! A changed matrix is `W + s·B·A`, where `A` has `r` rows as long as `W`'s, and `B` has as many rows as `W`, of length
//! `r`. [`Adapter`] reads what PEFT and llama.cpp write; [`Merged`] is a [`Source`](crate::source::Source): the model
//! with adapters added, which everything that takes a model can take.
//!
//! **The order of sums** is stated, so that the same numbers come out everywhere: of each element
//! `d ← d + b_i·a_i` for `i` ascending, from 0, then `w ← w + s·d`, all in f32 and each operation rounded by itself;
//! several adapters one after the other.

mod adapter;
mod error;
mod gguf;
mod merged;
mod open;
mod peft;

pub use adapter::{Adapter, Change};
pub use error::{AdapterError, AdapterFault};
pub use merged::Merged;
