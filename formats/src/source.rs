//! What every model file looks like from above.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;

use quipu_quant::pack::PackedLayout;
use quipu_quant::{InterleavedType, StoredType, TensorType};

use crate::gguf::Metadata;

/// How the bytes of a tensor are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row after row, as GGUF and safetensors have it.
    Plain,
    /// R16·K4 (see `quipu_quant::pack`).
    Packed,
    /// Row after row in a type without kernels, which is recoded on the way in (see `quipu_quant::stored`).
    Stored(StoredType),
    /// Rows interleaved as llama.cpp once did, made plain on the way in (see `quipu_quant::interleaved`). Read, never
    /// written.
    Interleaved(InterleavedType),
}

/// One entry of a tensor directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// GGUF's name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// The type of the weights as they are computed with. That is how they are stored, but for [`Layout::Stored`].
    pub ty: TensorType,
    /// How the rows are arranged.
    pub layout: Layout,
    /// The extents in GGUF's order: `shape[0]` is the length of a row. One to four of them, none zero, product checked.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// The length of a row, in elements.
    pub fn cols(&self) -> usize {
        self.shape[0]
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// The bytes of the whole tensor in its layout; `None` when rows are no whole number of blocks or the size
    /// overflows.
    pub fn byte_len(&self) -> Option<usize> {
        match self.layout {
            Layout::Plain | Layout::Interleaved(_) => self.ty.row_bytes(self.cols())?.checked_mul(self.rows()),
            Layout::Packed => Some(PackedLayout::new(self.ty, self.rows(), self.cols())?.total_bytes()),
            Layout::Stored(ty) => ty.row_bytes(self.cols())?.checked_mul(self.rows()),
        }
    }

    /// GGUF's name of the type in which the weights are stored.
    pub fn stored_as(&self) -> &'static str {
        match self.layout {
            Layout::Plain | Layout::Packed => self.ty.name(),
            Layout::Stored(ty) => ty.name(),
            Layout::Interleaved(ty) => ty.name(),
        }
    }
}

/// A model file, or what can stand for one: GGUF metadata, a tensor directory, the rows of each tensor.
///
/// A Hugging Face directory implements this too, under GGUF's names, so that loading, converting, quantising and
/// packing each have one way in.
pub trait Source: Sync + Send {
    /// Where it comes from, for messages.
    fn path(&self) -> &Path;

    /// The metadata, with GGUF's keys.
    fn metadata(&self) -> &Metadata;

    /// The tensor directory, in file order.
    fn tensors(&self) -> &[TensorInfo];

    /// The bytes of `rows` of tensor number `index` in its type, one after the other: borrowed from the mapping where
    /// they lie there as they are, computed where they must be (row order, number type, [`Layout::Stored`],
    /// [`Layout::Interleaved`]). Not for [`Layout::Packed`].
    ///
    /// # Panics
    /// When `index`, `rows` or the layout are wrong: those come from [`Source::tensors`], not from outside.
    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]>;

    /// All bytes of tensor number `index`, when they lie in the mapping contiguous and in its layout.
    fn mapped(&self, index: usize) -> Option<&[u8]>;

    /// Tells the system that the bytes of tensor number `index` will not be needed again soon.
    fn release(&self, _index: usize) {}

    /// Tells the system that the bytes of tensor number `index` will be needed soon.
    fn read_ahead(&self, _index: usize) {}

    /// Keeps what is mapped in memory, where the system lets this process.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    /// The number of the tensor called `name`.
    fn find(&self, name: &str) -> Option<usize> {
        self.tensors().iter().position(|t| t.name == name)
    }
}

/// Tensors that are not run in the type in which they are stored. As text it is what a user should know of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recoded {
    /// The type in the file.
    pub from: StoredType,
    /// The type that runs.
    pub to: TensorType,
    /// How many tensors there are of it.
    pub tensors: usize,
}

impl fmt::Display for Recoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recoded { from, to, tensors } = self;
        let (stored, run) = (from.bits_per_weight(), to.bits_per_weight());
        write!(
            f,
            "{tensors} tensors of type {from} are run as {to}: there are no kernels for {from}, and {to} takes {run:.1} bits per weight \
             instead of {stored:.1}"
        )
    }
}

/// The types of `source` that are recoded on the way in, in the order of their first tensors.
pub fn recoded_types(source: &dyn Source) -> Vec<Recoded> {
    let mut types: Vec<Recoded> = Vec::new();
    for tensor in source.tensors() {
        let Layout::Stored(from) = tensor.layout else { continue };
        match types.iter_mut().find(|recoded| recoded.from == from) {
            Some(recoded) => recoded.tensors += 1,
            None => types.push(Recoded { from, to: tensor.ty, tensors: 1 }),
        }
    }
    types
}
