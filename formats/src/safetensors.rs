//! safetensors: one file of tensors, read strictly.
//!
//! The format (<https://github.com/huggingface/safetensors#format>): eight bytes with the length of the header, the
//! header (a JSON object of `name → {dtype, shape, data_offsets}`, and `__metadata__`, a map from strings to strings),
//! then one buffer which the tensors fill exactly, without holes and without overlap. Whatever breaks one of these
//! rules is refused by name, before anything is allocated on its word.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use quipu_quant::TensorType;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use crate::map::{Advice, MapError, MappedFile};

/// The largest header that is read, the limit of the reference implementation.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Why a safetensors file could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file could not be read at all.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The file breaks a rule.
    #[error("{}: {fault}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The rule.
        fault: Box<SafetensorsFault>,
    },
}

/// A rule that a safetensors file breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum SafetensorsFault {
    /// A text file where the weights should be.
    #[error("not a safetensors file but {what}: download the file itself")]
    NotWeights { what: &'static str },
    /// The file is shorter than the length of the header.
    #[error("the file has {len} bytes, fewer than the 8 that every safetensors file starts with")]
    TooShort { len: usize },
    /// The header is longer than any real one.
    #[error("a header of {header} bytes; at most {MAX_HEADER_BYTES} are allowed (no safetensors file?)")]
    HeaderTooLarge { header: u64 },
    /// The file ends within its header.
    #[error("the file ends within its header: {missing} of {header} bytes are missing (a truncated download?)")]
    TruncatedHeader { header: u64, missing: u64 },
    /// The header does not start with `{`.
    #[error("the header is no JSON object (no safetensors file?)")]
    NotAnObject,
    /// The header is not UTF-8.
    #[error("the header is not UTF-8 at byte {at} of the file")]
    InvalidUtf8 { at: usize },
    /// The header is not the JSON that it should be.
    #[error("the header{}: {reason}", .key.as_ref().map(|k| format!(", entry {k:?}")).unwrap_or_default())]
    Json { key: Option<String>, reason: String },
    /// A name or metadata key occurs twice.
    #[error("the header has {key:?} twice")]
    DuplicateKey { key: String },
    /// A number type that the format does not know.
    #[error("tensor {tensor:?}: unknown dtype {dtype:?}")]
    UnknownDtype { tensor: String, dtype: String },
    /// The number of elements or bits overflows.
    #[error("tensor {tensor:?}: the shape {shape:?} overflows")]
    ShapeOverflow { tensor: String, shape: Vec<u64> },
    /// Elements of less than a byte that end within a byte.
    #[error("tensor {tensor:?}: {bits} bits do not fill whole bytes")]
    PartialByte { tensor: String, bits: u64 },
    /// The end lies before the beginning.
    #[error("tensor {tensor:?}: data_offsets [{begin}, {end}] end before they begin")]
    OffsetsReversed { tensor: String, begin: u64, end: u64 },
    /// The bytes are not as many as dtype and shape say.
    #[error("tensor {tensor:?}: {dtype} {shape:?} takes {expected} bytes, its data_offsets span {found}")]
    SizeMismatch { tensor: String, dtype: Dtype, shape: Vec<u64>, expected: u64, found: u64 },
    /// Two tensors share bytes.
    #[error("tensor {tensor:?} begins at byte {begin} of the data, within {before:?}, which ends at {end}")]
    Overlap { tensor: String, begin: u64, before: String, end: u64 },
    /// Bytes between tensors that belong to none.
    #[error(
        "tensor {tensor:?} begins at byte {begin} of the data, leaving {bytes} bytes before it that belong to no tensor"
    )]
    Hole { tensor: String, begin: u64, bytes: u64 },
    /// The file ends before its last tensor.
    #[error(
        "the file is truncated: {missing} bytes are missing, beginning in tensor {tensor:?} (an incomplete download?)"
    )]
    TruncatedData { tensor: String, missing: u64 },
    /// The file goes on after its last tensor.
    #[error("{bytes} bytes follow the last tensor and belong to none")]
    TrailingBytes { bytes: u64 },
}

macro_rules! dtypes {
    ($($name:ident $bits:literal),* $(,)?) => {
        /// A number type of the format, under its own name. Quipu computes with F32, F16 and BF16; the others are known
        /// so that files that have them can be checked and refused by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, non_camel_case_types)]
        pub enum Dtype { $($name),* }

        impl Dtype {
            /// Every dtype.
            pub const ALL: &[Dtype] = &[$(Dtype::$name),*];

            /// The name in a header.
            pub const fn name(self) -> &'static str {
                match self { $(Dtype::$name => stringify!($name)),* }
            }

            /// Bits of one element.
            pub const fn bits(self) -> u64 {
                match self { $(Dtype::$name => $bits),* }
            }
        }
    };
}

dtypes! {
    F32 32, F16 16, BF16 16, F64 64,
    F8_E4M3 8, F8_E4M3FNUZ 8, F8_E5M2 8, F8_E5M2FNUZ 8, F8_E8M0 8, F6_E2M3 6, F6_E3M2 6, F4 4,
    BOOL 8, U8 8, I8 8, U16 16, I16 16, U32 32, I32 32, U64 64, I64 64, C64 64,
}

impl Dtype {
    /// The dtype called `name` in a header.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().copied().find(|d| d.name() == name)
    }

    /// The tensor type with the same bits, for the three that Quipu computes with.
    pub const fn tensor_type(self) -> Option<TensorType> {
        match self {
            Dtype::F32 => Some(TensorType::F32),
            Dtype::F16 => Some(TensorType::F16),
            Dtype::BF16 => Some(TensorType::BF16),
            _ => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One tensor of a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeTensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its extents in the file's order: the last is the length of a row. None for a scalar; an extent may be zero.
    pub shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

/// A mapped safetensors file whose header has been checked.
///
/// The format does not align its tensors: their bytes may start anywhere.
#[derive(Debug)]
pub struct SafetensorsFile {
    map: MappedFile,
    header: Header,
}

#[derive(Debug, Default)]
struct Header {
    metadata: Vec<(String, String)>,
    tensors: Vec<SafeTensor>,
    index: HashMap<String, usize>,
}

impl SafetensorsFile {
    /// Maps and checks the file at `path`.
    pub fn open(path: impl Into<PathBuf>) -> Result<SafetensorsFile, SafetensorsError> {
        let map = MappedFile::open(path)?;
        match parse(&map) {
            Ok(header) => Ok(SafetensorsFile { map, header }),
            Err(fault) => Err(SafetensorsError::Invalid { path: map.path().to_owned(), fault: Box::new(fault) }),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// The pairs of `__metadata__`.
    pub fn metadata(&self) -> &[(String, String)] {
        &self.header.metadata
    }

    /// The tensors, in the order of their bytes.
    pub fn tensors(&self) -> &[SafeTensor] {
        &self.header.tensors
    }

    /// The number of the tensor called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.header.index.get(name).copied()
    }

    /// The bytes of tensor number `index`, row after row, little-endian.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn data(&self, index: usize) -> &[u8] {
        &self.map[self.header.tensors[index].range.clone()]
    }

    /// The mapped file and its tensors.
    pub(crate) fn into_parts(self) -> (MappedFile, Vec<SafeTensor>) {
        (self.map, self.header.tensors)
    }

    /// Gives the system advice about the bytes of tensor number `index`.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn advise(&self, index: usize, advice: Advice) {
        self.map.advise(self.header.tensors[index].range.clone(), advice);
    }
}

/// Reads and checks the header of a file whose bytes are `file`.
fn parse(file: &[u8]) -> Result<Header, SafetensorsFault> {
    if let Some(what) = text_instead_of_weights(file) {
        return Err(SafetensorsFault::NotWeights { what });
    }
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(SafetensorsFault::TooShort { len: file.len() });
    };
    let header = u64::from_le_bytes(*length);
    if header > MAX_HEADER_BYTES {
        return Err(SafetensorsFault::HeaderTooLarge { header });
    }
    // At most 10^8, so it fits every usize.
    let Some((text, data)) = rest.split_at_checked(header as usize) else {
        return Err(SafetensorsFault::TruncatedHeader { header, missing: header - rest.len() as u64 });
    };
    if text.first() != Some(&b'{') {
        return Err(SafetensorsFault::NotAnObject);
    }
    let text =
        std::str::from_utf8(text).map_err(|e| SafetensorsFault::InvalidUtf8 { at: length.len() + e.valid_up_to() })?;
    let raw = RawHeader::read(text)?;
    lay_out(raw, length.len() + text.len(), data.len() as u64)
}

/// What a failed download leaves in place of weights.
pub(crate) fn text_instead_of_weights(file: &[u8]) -> Option<&'static str> {
    let start = &file[..file.len().min(64)];
    let lower = start.to_ascii_lowercase();
    if start.starts_with(b"version https://git-lfs") {
        Some("a Git LFS pointer (git lfs pull fetches what it points to)")
    } else if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") {
        Some("an HTML page")
    } else {
        None
    }
}

/// Checks that the tensors tile the `data_len` bytes which start at `data_start`.
fn lay_out(raw: RawHeader, data_start: usize, data_len: u64) -> Result<Header, SafetensorsFault> {
    if let Some(key) = first_duplicate(raw.tensors.iter().map(|(name, _)| name.as_str())) {
        return Err(SafetensorsFault::DuplicateKey { key });
    }
    let mut tensors = Vec::with_capacity(raw.tensors.len());
    for (name, tensor) in raw.tensors {
        let dtype = check_size(&name, &tensor)?;
        tensors.push((name, dtype, tensor));
    }
    // Ties are tensors without bytes; sorted by end too, they stand before the one with bytes.
    tensors.sort_by_key(|(_, _, tensor)| tensor.data_offsets);
    let data_end = tensors.iter().map(|(_, _, tensor)| tensor.data_offsets.1).max().unwrap_or(0);

    let mut header = Header { metadata: raw.metadata, ..Header::default() };
    let mut at = 0;
    for (name, dtype, tensor) in tensors {
        let (begin, end) = tensor.data_offsets;
        if begin < at {
            let before = header.tensors.last().map(|t: &SafeTensor| t.name.clone()).unwrap_or_default();
            return Err(SafetensorsFault::Overlap { tensor: name, begin, before, end: at });
        }
        if begin > at {
            return Err(SafetensorsFault::Hole { tensor: name, begin, bytes: begin - at });
        }
        if end > data_len {
            return Err(SafetensorsFault::TruncatedData { tensor: name, missing: data_end - data_len });
        }
        // Offsets are inside the file from here on, so they fit usize; an extent does too, unless another one is zero.
        let Some(shape) = tensor.shape.iter().map(|&extent| usize::try_from(extent).ok()).collect() else {
            return Err(SafetensorsFault::ShapeOverflow { tensor: name, shape: tensor.shape });
        };
        let range = data_start + begin as usize..data_start + end as usize;
        header.index.insert(name.clone(), header.tensors.len());
        header.tensors.push(SafeTensor { name, dtype, shape, range });
        at = end;
    }
    if at < data_len {
        return Err(SafetensorsFault::TrailingBytes { bytes: data_len - at });
    }
    Ok(header)
}

/// Checks that dtype, shape and offsets of one tensor agree.
fn check_size(name: &str, tensor: &RawTensor) -> Result<Dtype, SafetensorsFault> {
    let name = || name.to_string();
    let Some(dtype) = Dtype::from_name(&tensor.dtype) else {
        return Err(SafetensorsFault::UnknownDtype { tensor: name(), dtype: tensor.dtype.clone() });
    };
    let (begin, end) = tensor.data_offsets;
    let Some(found) = end.checked_sub(begin) else {
        return Err(SafetensorsFault::OffsetsReversed { tensor: name(), begin, end });
    };
    let Some(bits) = tensor.shape.iter().try_fold(dtype.bits(), |n, &extent| n.checked_mul(extent)) else {
        return Err(SafetensorsFault::ShapeOverflow { tensor: name(), shape: tensor.shape.clone() });
    };
    if bits % 8 != 0 {
        return Err(SafetensorsFault::PartialByte { tensor: name(), bits });
    }
    let (expected, shape) = (bits / 8, tensor.shape.clone());
    if found != expected {
        return Err(SafetensorsFault::SizeMismatch { tensor: name(), dtype, shape, expected, found });
    }
    Ok(dtype)
}

/// The header as JSON has it, duplicates and all.
#[derive(Default)]
struct RawHeader {
    metadata: Vec<(String, String)>,
    tensors: Vec<(String, RawTensor)>,
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawHeader {
    fn read(text: &str) -> Result<RawHeader, SafetensorsFault> {
        let mut header = RawHeader::default();
        let mut key = None;
        let mut duplicate = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let seed = HeaderSeed { header: &mut header, key: &mut key, duplicate: &mut duplicate };
        match seed.deserialize(&mut json).and_then(|()| json.end()) {
            Ok(()) => Ok(header),
            Err(_) if duplicate.is_some() => Err(SafetensorsFault::DuplicateKey { key: duplicate.unwrap_or_default() }),
            Err(e) => Err(SafetensorsFault::Json { key, reason: e.to_string() }),
        }
    }
}

/// Reads a [`RawHeader`]; `key` is the entry being read and `duplicate` a key of `__metadata__` met twice, for the
/// messages.
struct HeaderSeed<'a> {
    header: &'a mut RawHeader,
    key: &'a mut Option<String>,
    duplicate: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut metadata_seen = false;
        while let Some(name) = map.next_key::<String>()? {
            *self.key = Some(name.clone());
            if name == "__metadata__" {
                if std::mem::replace(&mut metadata_seen, true) {
                    *self.duplicate = Some(name);
                    return Err(A::Error::custom("duplicate"));
                }
                self.header.metadata = map.next_value::<StringPairs>()?.0;
                if let Some(twice) = first_duplicate(self.header.metadata.iter().map(|(k, _)| k.as_str())) {
                    *self.duplicate = Some(twice);
                    return Err(A::Error::custom("duplicate"));
                }
            } else {
                self.header.tensors.push((name, map.next_value()?));
            }
        }
        *self.key = None;
        Ok(())
    }
}

fn first_duplicate<'a>(keys: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = HashSet::new();
    keys.into_iter().find(|key| !seen.insert(*key)).map(str::to_string)
}

/// The pairs of a JSON object of strings, duplicates kept.
pub(crate) struct StringPairs(pub(crate) Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for StringPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = StringPairs;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringPairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(StringPairs(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
