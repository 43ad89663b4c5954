//! What measures models and machines, and what chooses by measurements.
//!
//! - [`roofline`]: how fast this machine reads memory and multiplies at best; [`cost`]: what a model asks of it.
#![forbid(unsafe_code)]

pub mod cost;
pub mod roofline;
