//! The operations, each written once over [`Simd`](crate::simd::Simd) and instantiated per ISA in [`crate::table`].

pub(crate) mod attention;
pub(crate) mod codes;
pub(crate) mod elementwise;
pub(crate) mod exp;
pub(crate) mod form;
pub(crate) mod matmul_float;
pub(crate) mod matmul_quant;
pub(crate) mod roof;
pub(crate) mod scales;
pub(crate) mod softmax;
