//! The operations, each written once over [`Simd`](crate::simd::Simd) or, where bytes are multiplied, over
//! [`Gemm`](crate::gemm::Gemm).

pub(crate) mod attention;
pub(crate) mod attention_quant;
pub(crate) mod blocks;
pub(crate) mod codes;
pub(crate) mod elementwise;
pub(crate) mod exp;
pub(crate) mod matmul_float;
pub(crate) mod matmul_quant;
pub(crate) mod roofline;
pub(crate) mod scores_quant;
pub(crate) mod softmax;
pub(crate) mod stream_tiles;
