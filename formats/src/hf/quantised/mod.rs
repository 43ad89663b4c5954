//! Checkpoints whose weights are quantised: codes with scales, made into F32 as they are read.
//!
//! ```text
//! w[r, c] = (code[r, c] - zero[r, c]) · scale[r, c]
//! ```
//!
//! A code is a float or an integer of eight bits, or an integer of fewer, packed (`codes.rs`). A scale stands for the
//! whole matrix, a row, a group of a row's columns or a block of rows and columns (`scales.rs`); it and the zero
//! point lie in tensors beside the codes (`fold.rs`). The difference and the product are rounded to F32, once each,
//! as torch does where the scales are F32. Where they are F16 or BF16, other libraries round the product to that
//! type, which loses bits that the checkpoint has; Quipu keeps them.
//!
//! Meta's Llama 3.2 in four bits (SpinQuant, QLoRA) have more than that beside a matrix (`meta.rs`).
//!
//! Read are `quant_method` fp8 (DeepSeek's blocks and scales of whole matrices), fbgemm_fp8, and compressed-tensors
//! in the formats float-quantized, int-quantized and pack-quantized (`method.rs`). Activations stay as they are:
//! scales for them, and for the KV cache, change no weight and are passed over.

mod codes;
pub(super) mod fold;
pub(super) mod matrix;
mod meta;
pub(super) mod method;
mod scales;
