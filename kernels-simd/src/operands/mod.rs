//! What a matrix product takes and gives: weights and their scales, activations, and the matrix of outputs.

pub(crate) mod activations;
pub(crate) mod form;
pub(crate) mod matrix;
pub(crate) mod scales;
