//! Converting, quantising, packing and unpacking whole files.

mod bench;
mod bits;
mod experts;
mod importance;
mod outcome;
mod types;
