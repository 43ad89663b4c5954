//! How a packed file says that it is one: see the [module above](super).

use quipu_quant::pack::GROUP_ROWS;

/// The key that names the layout of a packed file.
pub const LAYOUT_KEY: &str = "quipu.layout";

/// The key of that layout's version.
pub const LAYOUT_VERSION_KEY: &str = "quipu.layout.version";

/// The layout that this Quipu reads and writes.
pub const LAYOUT_NAME: &str = "r16k4";

/// Its version.
pub const LAYOUT_VERSION: u32 = 1;

/// Whether a tensor of this shape can be packed: a matrix, or matrices one after the other (experts) whose rows fill
/// groups, so that each begins with one.
pub(crate) fn is_packable(shape: &[usize]) -> bool {
    match shape {
        [_, _] => true,
        [_, rows, _] => rows.is_multiple_of(GROUP_ROWS),
        _ => false,
    }
}

/// Packed tensors have this type id, or-ed with the id of their [`quipu_quant::TensorType`]: "QP".
pub const PACKED_TYPE_BASE: u32 = 0x5150_0000;

/// `general.alignment` of packed files: the page of a Pi 5, of Apple and of Android 15, so that a tensor can be advised
/// about alone.
pub const PACKED_ALIGNMENT: usize = 16 << 10;
