//! Kernels as functions of their own.
//!
//! What is generic over an instruction set is inlined into the functions of its table. Products and attention have
//! dozens of kernels, though, and LLVM takes far more time for one function with all of them than for each alone. So
//! each of these is a type that implements [`Kernel`], and [`Call`] gives it a function that is compiled for the
//! instruction set, under a name that says in a profile what it does.
//!
//! (Symbols name neither the type of the weights nor the number of rows, unless Rust is told to write them out:
//! `RUSTFLAGS=-Csymbol-mangling-version=v0`.)

use crate::simd::Simd;

/// Work for one of the functions of [`Call`].
pub(crate) trait Kernel<S> {
    /// Does it; always inlined.
    fn run(self, s: S);
}

/// An instruction set with functions that are compiled for it. Each does what it is given.
pub(crate) trait Call: Simd {
    /// Attention of some rows of queries to one segment.
    fn attend<K: Kernel<Self>>(self, kernel: K);
    /// The weights of one row group, widened for full tiles.
    fn widen<K: Kernel<Self>>(self, kernel: K);
    /// The product of one row group, widened, with full tiles.
    fn full_tiles<K: Kernel<Self>>(self, kernel: K);
    /// The product of one row group with a few rows, widened on the way.
    fn stream<K: Kernel<Self>>(self, kernel: K);
    /// The product of some row groups with more rows, widened on the way.
    fn stream_tiles<K: Kernel<Self>>(self, kernel: K);
}
