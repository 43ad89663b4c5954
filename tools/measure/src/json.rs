//! How names of other crates' types are written in JSON.

use quipu_quant::TensorType;
use quipu_runtime::Isa;
use serde::Serializer;

/// `q4_0`.
pub(crate) fn lowercase<S: Serializer>(ty: &TensorType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&ty.name().to_ascii_lowercase())
}

/// `avx2`.
pub(crate) fn isa<S: Serializer>(isa: &Isa, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(isa.name())
}
