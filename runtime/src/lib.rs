//! Placeholder.
pub mod sampler;
