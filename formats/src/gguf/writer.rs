//! Writing GGUF version 3.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::fault::{GgufFault, quote};
use super::limits::{MAX_ARRAY_DEPTH, MAX_DIMS, MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_TENSOR_NAME_BYTES};
use super::packed::{PACKED_TYPE_BASE, is_packable};
use super::parse::{alignment, packed_layout};
use super::value::{Array, Metadata, Value};
use super::wire;
use crate::output::{Inputs, OutputError, OutputFile};
use crate::source::{Encoding, TensorInfo};

/// Why a GGUF could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file itself: no directory, no permission, no space.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Whatever else takes the bytes did not take them.
    #[error("cannot write a GGUF: {0}")]
    Io(#[source] io::Error),
    /// What was written can't be used.
    #[error("{}: what was written cannot be opened, so it was not kept: {reason}", .path.display())]
    Unreadable {
        /// The name that it was to have.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The metadata would break a rule of the container.
    #[error("cannot write a GGUF: {0}")]
    Rule(#[from] GgufFault),
    /// A tensor that no GGUF can hold: its name is too long, or its shape does not fit its type.
    #[error("cannot write tensor {}: {why}", quote(.tensor))]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        why: String,
    },
    /// More bytes were handed in than the tensor has.
    #[error("tensor {}: {got} bytes given, {left} were left to write", quote(.tensor))]
    TooManyBytes {
        /// The tensor.
        tensor: String,
        /// The bytes of the part that did not fit.
        got: usize,
        /// The bytes that would have completed the tensor.
        left: usize,
    },
    /// The end came before all tensors were complete.
    #[error("tensor {}: {left} bytes were never written", quote(.tensor))]
    Unfinished {
        /// The first incomplete tensor.
        tensor: String,
        /// The bytes that are missing from it.
        left: usize,
    },
    /// Parts so small that there would be more than `split.count` can say.
    #[error("parts of {part_bytes} bytes would be {parts} files, more than a model can have; make them larger")]
    TooManyParts {
        /// The parts.
        parts: usize,
        /// The bytes of each.
        part_bytes: u64,
    },
    /// Data was handed in after the last tensor.
    #[error("{got} bytes given after the last tensor was complete")]
    NoTensorLeft {
        /// The bytes of that part.
        got: usize,
    },
}

impl From<io::Error> for WriteError {
    fn from(e: io::Error) -> Self {
        // An `OutputFile` hides its own error, with the file's name, inside the io::Error.
        e.downcast::<OutputError>().map_or_else(WriteError::Io, WriteError::Output)
    }
}

/// A GGUF being written: the header first, then the tensors' bytes in the order of the directory, in parts of any size
/// that do not cross tensors.
#[derive(Debug)]
pub struct GgufWriter<W> {
    out: W,
    alignment: usize,
    /// Names and sizes in bytes, in order.
    tensors: Vec<(String, usize)>,
    /// The tensor being written, and how much of it is left.
    current: usize,
    left: usize,
    /// Bytes passed on so far.
    written: u64,
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header of a file with these keys and tensors to `out`. Types, layouts and shapes are those of the
    /// bytes to come.
    pub fn new(mut out: W, metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Self, WriteError> {
        let (header, alignment, sizes) = header(metadata, tensors)?;
        out.write_all(&header)?;
        let tensors: Vec<_> = tensors.iter().map(|t| t.name.clone()).zip(sizes).collect();
        let left = tensors.first().map_or(0, |t| t.1);
        Ok(GgufWriter { out, alignment, tensors, current: 0, left, written: header.len() as u64 })
    }

    /// Writes the next part of the tensor at hand. When that tensor is complete, the next part belongs to the next one.
    pub fn write_tensor_part(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let Some((name, _)) = self.tensors.get(self.current) else {
            return Err(WriteError::NoTensorLeft { got: bytes.len() });
        };
        if bytes.len() > self.left {
            return Err(WriteError::TooManyBytes { tensor: name.clone(), got: bytes.len(), left: self.left });
        }
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        self.left -= bytes.len();
        if self.left == 0 {
            let padding = self.written.next_multiple_of(self.alignment as u64) - self.written;
            io::copy(&mut io::repeat(0).take(padding), &mut self.out)?;
            self.written += padding;
            self.current += 1;
            self.left = self.tensors.get(self.current).map_or(0, |t| t.1);
        }
        Ok(())
    }

    /// Whether every tensor has got its bytes.
    pub(super) fn is_complete(&self) -> bool {
        self.current == self.tensors.len()
    }

    /// Checks that every tensor has got its bytes; returns what they were written to, and their number.
    pub fn complete(self) -> Result<(W, u64), WriteError> {
        match self.tensors.get(self.current) {
            Some((name, _)) => Err(WriteError::Unfinished { tensor: name.clone(), left: self.left }),
            None => Ok((self.out, self.written)),
        }
    }
}

impl GgufWriter<OutputFile> {
    /// Starts the file `path`, which must be none of `inputs`, the files that are being read meanwhile.
    pub fn create(
        path: &Path,
        inputs: Option<&Inputs>,
        metadata: &Metadata,
        tensors: &[TensorInfo],
    ) -> Result<Self, WriteError> {
        let out = OutputFile::create(path, inputs.unwrap_or(&Inputs::new()))?;
        Self::new(out, metadata, tensors)
    }

    /// [`GgufWriter::complete`], then syncs the file and gives it its name; returns its length in bytes.
    pub fn finish(self) -> Result<u64, WriteError> {
        let (out, bytes) = self.complete()?;
        out.finish()?;
        Ok(bytes)
    }
}

/// The bytes of the header of a file with these keys and no tensors, unpadded.
pub(super) fn header_bytes(metadata: &Metadata) -> Result<u64, WriteError> {
    Ok(keys(metadata, 0)?.len() as u64)
}

/// The bytes of a tensor's entry in the directory.
pub(super) fn entry_bytes(tensor: &TensorInfo) -> u64 {
    (8 + tensor.name.len() + 4 + 8 * tensor.shape.len() + 4 + 8) as u64
}

/// The beginning of a header: everything but the directory of its `tensors` tensors.
fn keys(metadata: &Metadata, tensors: usize) -> Result<Vec<u8>, WriteError> {
    let mut out = wire::MAGIC.to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (number, (key, value)) in metadata.iter().enumerate() {
        if key.len() > MAX_KEY_BYTES {
            return Err(GgufFault::KeyTooLong { number, len: key.len() }.into());
        }
        put_string(&mut out, key);
        put_value(&mut out, key, value)?;
    }
    Ok(out)
}

/// The header, padded to where tensor data starts; the alignment; the size of each tensor.
fn header(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<(Vec<u8>, usize, Vec<usize>), WriteError> {
    let alignment = alignment(metadata)?;
    let packed = packed_layout(metadata, alignment)?;
    let mut out = keys(metadata, tensors.len())?;
    let mut sizes = Vec::with_capacity(tensors.len());
    let mut names = HashSet::new();
    let mut offset = 0u64;
    for t in tensors {
        let fail = |why: &str| WriteError::Tensor { tensor: t.name.clone(), why: why.into() };
        if !names.insert(&t.name) {
            return Err(GgufFault::DuplicateTensor { tensor: t.name.clone() }.into());
        }
        // ggml keeps names in 64 bytes with a zero at the end.
        if t.name.len() >= MAX_TENSOR_NAME_BYTES {
            return Err(fail("the name is longer than 63 bytes"));
        }
        if t.shape.is_empty() || t.shape.len() > MAX_DIMS || t.shape.contains(&0) {
            return Err(fail(&format!("a shape of {:?}", t.shape)));
        }
        if t.encoding.is_packed() && (!packed || !is_packable(&t.shape)) {
            return Err(fail("packed, but no matrix in a file with the key quipu.layout"));
        }
        let size =
            t.byte_len().ok_or_else(|| fail(&format!("rows of {} elements as {}", t.cols(), t.encoding.name())))?;
        put_string(&mut out, &t.name);
        out.extend((t.shape.len() as u32).to_le_bytes());
        for &extent in &t.shape {
            out.extend((extent as u64).to_le_bytes());
        }
        let id = match t.encoding {
            Encoding::Plain(ty) => ty.id(),
            Encoding::Packed(ty) => PACKED_TYPE_BASE | ty.id(),
            Encoding::Stored(ty) => ty.id(),
            Encoding::Interleaved(order) => return Err(fail(&format!("{order} is read, but not written"))),
        };
        out.extend(id.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset.checked_add(size as u64))
            .and_then(|end| end.checked_next_multiple_of(alignment as u64))
            .ok_or_else(|| fail("the file would be larger than 2^64 bytes"))?;
        sizes.push(size);
    }
    if out.len() > MAX_HEADER_BYTES {
        // Nobody could read it again.
        let place = format!("{} keys and {} tensors", metadata.len(), tensors.len());
        return Err(GgufFault::HeaderTooLarge { place }.into());
    }
    out.resize(out.len().next_multiple_of(alignment), 0);
    Ok((out, alignment, sizes))
}

fn put_string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

fn put_value(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<(), GgufFault> {
    macro_rules! scalar {
        ($id:expr, $v:expr) => {{
            out.extend($id.to_le_bytes());
            out.extend($v.to_le_bytes());
        }};
    }
    match value {
        Value::U8(v) => scalar!(wire::U8, v),
        Value::I8(v) => scalar!(wire::I8, v),
        Value::U16(v) => scalar!(wire::U16, v),
        Value::I16(v) => scalar!(wire::I16, v),
        Value::U32(v) => scalar!(wire::U32, v),
        Value::I32(v) => scalar!(wire::I32, v),
        Value::U64(v) => scalar!(wire::U64, v),
        Value::I64(v) => scalar!(wire::I64, v),
        Value::F32(v) => scalar!(wire::F32, v),
        Value::F64(v) => scalar!(wire::F64, v),
        Value::Bool(v) => scalar!(wire::BOOL, u8::from(*v)),
        Value::String(v) => {
            out.extend(wire::STRING.to_le_bytes());
            put_string(out, v);
        }
        Value::Array(v) => {
            out.extend(wire::ARRAY.to_le_bytes());
            put_array(out, key, v, 1)?;
        }
    }
    Ok(())
}

fn put_array(out: &mut Vec<u8>, key: &str, array: &Array, depth: usize) -> Result<(), GgufFault> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(GgufFault::ArrayTooDeep { key: key.into() });
    }
    let mut head = |id: u32| {
        out.extend(id.to_le_bytes());
        out.extend((array.len() as u64).to_le_bytes());
    };
    macro_rules! numbers {
        ($id:expr, $v:expr) => {{
            head($id);
            $v.iter().for_each(|v| out.extend(v.to_le_bytes()));
        }};
    }
    match array {
        Array::U8(v) => numbers!(wire::U8, v),
        Array::I8(v) => numbers!(wire::I8, v),
        Array::U16(v) => numbers!(wire::U16, v),
        Array::I16(v) => numbers!(wire::I16, v),
        Array::U32(v) => numbers!(wire::U32, v),
        Array::I32(v) => numbers!(wire::I32, v),
        Array::U64(v) => numbers!(wire::U64, v),
        Array::I64(v) => numbers!(wire::I64, v),
        Array::F32(v) => numbers!(wire::F32, v),
        Array::F64(v) => numbers!(wire::F64, v),
        Array::Bool(v) => {
            head(wire::BOOL);
            out.extend(v.iter().map(|&b| u8::from(b)));
        }
        Array::String(v) => {
            head(wire::STRING);
            v.iter().for_each(|s| put_string(out, s));
        }
        Array::Array(v) => {
            head(wire::ARRAY);
            for inner in v {
                put_array(out, key, inner, depth + 1)?;
            }
        }
    }
    Ok(())
}
