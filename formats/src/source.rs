//! What all model files have in common: metadata, a tensor directory, rows of bytes.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quipu_quant::blocks::dequantize;
use quipu_quant::pack::{PackedLayout, unpack_rows};
use quipu_quant::{InterleavedType, StoredType, TensorType, stored};

use crate::families::names::{Input, Role, TensorName};
use crate::gguf::value::Metadata;
use crate::oddity::Oddity;

/// How the weights of a tensor lie in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Row after row, as GGUF and safetensors have it.
    Plain(TensorType),
    /// R16·K4 (see [`quipu_quant::pack`]).
    Packed(TensorType),
    /// Row after row in a type without kernels, which is recoded on the way in (see [`quipu_quant::stored`]).
    Stored(StoredType),
    /// Rows interleaved as llama.cpp once did, made plain on the way in (see [`quipu_quant::interleaved`]). Read, never
    /// written.
    Interleaved(InterleavedType),
}

impl Encoding {
    /// The type in which the weights are computed with, which is that of the plain rows.
    pub const fn ty(self) -> TensorType {
        match self {
            Encoding::Plain(ty) | Encoding::Packed(ty) => ty,
            Encoding::Stored(ty) => ty.runs_as(),
            Encoding::Interleaved(ty) => ty.plain(),
        }
    }

    /// GGUF's name of the type in the file, e.g. `IQ2_XS`.
    pub const fn name(self) -> &'static str {
        match self {
            Encoding::Plain(ty) | Encoding::Packed(ty) => ty.name(),
            Encoding::Stored(ty) => ty.name(),
            Encoding::Interleaved(ty) => ty.name(),
        }
    }

    /// Weights of one block of the type in the file; a row is a whole number of blocks.
    pub const fn block_len(self) -> usize {
        match self {
            Encoding::Plain(ty) | Encoding::Packed(ty) => ty.block_len(),
            Encoding::Stored(ty) => ty.block_len(),
            Encoding::Interleaved(ty) => ty.plain().block_len(),
        }
    }

    /// The bytes of a matrix of `rows` × `cols` weights; `None` when rows are no whole number of blocks or the size
    /// overflows.
    pub fn byte_len(self, rows: usize, cols: usize) -> Option<usize> {
        match self {
            Encoding::Plain(ty) => ty.row_bytes(cols)?.checked_mul(rows),
            Encoding::Packed(ty) => Some(PackedLayout::new(ty, rows, cols)?.total_bytes()),
            Encoding::Stored(ty) => ty.row_bytes(cols)?.checked_mul(rows),
            Encoding::Interleaved(ty) => ty.plain().row_bytes(cols)?.checked_mul(rows),
        }
    }

    /// Whether this is [`Encoding::Packed`].
    pub const fn is_packed(self) -> bool {
        matches!(self, Encoding::Packed(_))
    }
}

/// One entry of a tensor directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// GGUF's name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// How the weights lie in the file.
    pub encoding: Encoding,
    /// The extents in GGUF's order: `shape[0]` is the length of a row. One to four of them, none zero, product checked.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// The entry of a tensor.
    pub fn new(name: impl Into<String>, encoding: Encoding, shape: impl Into<Vec<usize>>) -> TensorInfo {
        TensorInfo { name: name.into(), encoding, shape: shape.into() }
    }

    /// The type in which the weights are computed with: [`Encoding::ty`].
    pub const fn ty(&self) -> TensorType {
        self.encoding.ty()
    }

    /// The length of a row, in elements.
    pub fn cols(&self) -> usize {
        self.shape[0]
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// The bytes of the whole tensor as it lies in the file; `None` when rows are no whole number of blocks or the size
    /// overflows.
    pub fn byte_len(&self) -> Option<usize> {
        self.encoding.byte_len(self.rows(), self.cols())
    }

    /// The layout that the tensor has when it is packed, whether or not it is packed in its file.
    ///
    /// # Panics
    /// When the shape is not as the directory promises.
    pub fn packed_layout(&self) -> PackedLayout {
        PackedLayout::new(self.ty(), self.rows(), self.cols())
            .expect("shapes are checked when a file is opened or planned")
    }

    /// `rows` of the tensor as plain rows of [`TensorInfo::ty`], one after the other, from `data`, the tensor's bytes
    /// in its file. Borrowed where they lie there as they are.
    ///
    /// # Panics
    /// When there are no such rows or `data` is shorter than [`TensorInfo::byte_len`].
    pub fn plain_rows<'a>(&self, data: &'a [u8], rows: Range<usize>) -> Cow<'a, [u8]> {
        match self.encoding {
            Encoding::Plain(_) => Cow::Borrowed(self.bytes_of(data, rows)),
            Encoding::Packed(_) => {
                let layout = self.packed_layout();
                let mut plain = vec![0; rows.len() * layout.row_bytes()];
                unpack_rows(&layout, data, rows, &mut plain);
                Cow::Owned(plain)
            }
            Encoding::Stored(stored) => {
                let ty = stored.runs_as();
                let mut recoded = vec![0; rows.len() * self.cols() / ty.block_len() * ty.block_bytes()];
                stored::recode(stored, self.bytes_of(data, rows), &mut recoded).expect("whole rows of whole blocks");
                Cow::Owned(recoded)
            }
            Encoding::Interleaved(order) => Cow::Owned(order.plain_rows(self.cols(), data, rows)),
        }
    }

    /// The bytes of `rows`, where each row lies by itself.
    pub(crate) fn bytes_of<'a>(&self, data: &'a [u8], rows: Range<usize>) -> &'a [u8] {
        let row_bytes = data.len() / self.rows();
        &data[rows.start * row_bytes..rows.end * row_bytes]
    }
}

/// Bytes that stay as long as somebody holds them.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A model file, or what can stand for one: GGUF metadata, a tensor directory, the rows of each tensor.
///
/// A Hugging Face directory implements this too, under GGUF's names, so that loading, converting, quantising and
/// packing each have one way in.
pub trait Source: Sync + Send {
    /// Where it comes from, for messages.
    fn path(&self) -> &Path;

    /// The metadata, with GGUF's keys.
    fn metadata(&self) -> &Metadata;

    /// All files and directories that are read, if they are more than [`Source::path`]: no output may replace them.
    fn files(&self) -> Vec<PathBuf> {
        vec![self.path().to_owned()]
    }

    /// The tensor directory, in file order.
    fn tensors(&self) -> &[TensorInfo];

    /// What is odd about the files; a user should be told.
    fn oddities(&self) -> &[Oddity] {
        &[]
    }

    /// `rows` of tensor number `index` as plain rows of [`TensorInfo::ty`], one after the other, whatever the
    /// [`Encoding`]: borrowed from the mapping where they lie there as they are, computed where they do not.
    ///
    /// # Panics
    /// When `index` or `rows` are wrong: those come from [`Source::tensors`], not from outside.
    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]>;

    /// All bytes of tensor number `index`, when they lie in the mapping in one piece and in its encoding. Those of
    /// every encoding but [`Encoding::Plain`] do.
    fn mapped(&self, index: usize) -> Option<&[u8]>;

    /// The values of `rows` of tensor number `index`, row after row, whatever the [`Encoding`]. Those of
    /// [`Encoding::Stored`] are the file's own, which recoding for [`Source::rows`] may have rounded.
    ///
    /// # Panics
    /// As [`Source::rows`].
    fn values(&self, index: usize, rows: Range<usize>) -> Vec<f32> {
        let info = &self.tensors()[index];
        let mut values = vec![0.0; rows.len() * info.cols()];
        if let Encoding::Stored(ty) = info.encoding {
            let data = self.mapped(index).expect("what is not plain lies in its file as it is");
            stored::dequantize(ty, info.bytes_of(data, rows), &mut values).map_err(drop)
        } else {
            dequantize(info.ty(), &self.rows(index, rows), &mut values).map_err(drop)
        }
        .expect("whole rows, of types whose blocks divide them");
        values
    }

    /// The bytes of [`Source::mapped`], in a form that keeps them in place by itself. `None` also where a source cannot
    /// share them.
    fn shared(self: Arc<Self>, _index: usize) -> Option<SharedBytes> {
        None
    }

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

    /// Whether the embedding is the output matrix too: there is no other.
    fn is_tied(&self) -> bool {
        self.find(&Role::Output.weight().to_string()).is_none()
    }

    /// The name of the matrix whose outputs are logits.
    fn output_matrix(&self) -> TensorName {
        Input::Head.first(self.is_tied())
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
        let Encoding::Stored(from) = tensor.encoding else { continue };
        match types.iter_mut().find(|recoded| recoded.from == from) {
            Some(recoded) => recoded.tensors += 1,
            None => types.push(Recoded { from, to: tensor.ty(), tensors: 1 }),
        }
    }
    types
}
