//! The x86-64 instruction sets.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod avxvnni;
mod pairs;
mod rounding;
mod tile;
mod vectors;
