//! Converting, quantising, packing and unpacking whole files.

mod bench;
mod bits;
mod importance;
mod outcome;
mod types;
