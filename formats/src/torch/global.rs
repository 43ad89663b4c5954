//! The few names that a list of tensors may ask for.

use crate::safetensors::Dtype;

/// What a name of Python's stands for here. Nothing of it is ever run: each is a word of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// A tuple of extents.
    Size,
    /// Where a tensor was.
    Device,
    /// A tensor of storage, offset, shape, strides; the third generation has a dtype of its own.
    Tensor,
    /// See [`Global::Tensor`].
    TensorOfDtype,
    /// A tensor that was trained.
    Parameter,
    /// A storage of such numbers; `None` for bytes.
    Storage(Option<Dtype>),
    /// A dtype.
    Dtype(Dtype),
}

impl Global {
    /// What `name` of `module` stands for, if for anything.
    pub fn find(module: &str, name: &str) -> Option<Global> {
        let storage = |dtype| Some(Global::Storage(Some(dtype)));
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch", "Size") => Some(Global::Size),
            ("torch", "device") => Some(Global::Device),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::Tensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Global::TensorOfDtype),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Global::Parameter),
            ("torch.storage" | "torch", "UntypedStorage") => Some(Global::Storage(None)),
            ("torch" | "torch.cuda", _) => match name {
                "FloatStorage" => storage(Dtype::F32),
                "HalfStorage" => storage(Dtype::F16),
                "BFloat16Storage" => storage(Dtype::BF16),
                "DoubleStorage" => storage(Dtype::F64),
                "CharStorage" => storage(Dtype::I8),
                "ByteStorage" => storage(Dtype::U8),
                "ShortStorage" => storage(Dtype::I16),
                "IntStorage" => storage(Dtype::I32),
                "LongStorage" => storage(Dtype::I64),
                "BoolStorage" => storage(Dtype::BOOL),
                other => dtype(other).map(Global::Dtype),
            },
            _ => None,
        }
    }
}

/// The dtype that PyTorch calls `torch.NAME`.
fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float64" => Dtype::F64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        "bool" => Dtype::BOOL,
        "uint8" => Dtype::U8,
        "int8" => Dtype::I8,
        "uint16" => Dtype::U16,
        "int16" => Dtype::I16,
        "uint32" => Dtype::U32,
        "int32" => Dtype::I32,
        "uint64" => Dtype::U64,
        "int64" => Dtype::I64,
        _ => return None,
    })
}
