//! The ways in which a GGUF can be wrong.

use std::path::PathBuf;

use quipu_quant::{InterleavedType, StoredType, TensorType};

use super::limits::{MAX_ALIGNMENT, MAX_ARRAY_DEPTH, MAX_DIMS, MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_TENSOR_NAME_BYTES};
use super::packed::PACKED_ALIGNMENT;
use super::value::MetadataError;
use crate::map::MapError;

/// Why a GGUF could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file could not be read at all.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The file breaks a rule.
    #[error("{}: {fault}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The rule.
        fault: Box<GgufFault>,
    },
    /// A part of a model in several files is not there.
    #[error("{}: part {} of {count} is missing: {}", .path.display(), .number + 1, .part.display())]
    MissingPart {
        /// The first part.
        path: PathBuf,
        /// The missing one.
        part: PathBuf,
        /// Its number, from 0.
        number: usize,
        /// How many there are.
        count: usize,
    },
}

/// A rule that a GGUF breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum GgufFault {
    /// The file does not start with `GGUF`.
    #[error("not a GGUF file: {found}")]
    NotGguf { found: String },
    /// The file is of the other byte order.
    #[error(
        "a big-endian GGUF (version {version}); Quipu reads little-endian files: convert it with gguf-py's gguf_convert_endian.py"
    )]
    BigEndian { version: u32 },
    /// The file is of a version that is not read.
    #[error(
        "GGUF version {version}; Quipu reads versions 2 and 3{}",
        if *.version == 1 { " (version 1 was replaced in 2023: convert the model again)" } else { "" }
    )]
    UnsupportedVersion { version: u32 },
    /// The file ends inside the header.
    #[error("the file ends within {place}: {needed} bytes needed at byte {at}, {left} left (a truncated download?)")]
    Truncated { place: String, at: usize, needed: usize, left: usize },
    /// A count or length promises more than the rest of the file can hold.
    #[error("{place}: a count or length of {count}, but only {left} bytes follow")]
    CountBeyondFile { place: String, count: u64, left: usize },
    /// Keys and tensor directory are larger than any real ones.
    #[error("{place}: the header would exceed {} MiB", MAX_HEADER_BYTES >> 20)]
    HeaderTooLarge { place: String },
    /// A string is not UTF-8.
    #[error("{place}: not UTF-8 at byte {at} of the file")]
    InvalidUtf8 { place: String, at: usize },
    /// A key is longer than the specification allows.
    #[error("key number {number} has {len} bytes, {MAX_KEY_BYTES} are allowed")]
    KeyTooLong { number: usize, len: usize },
    /// Experts' matrices that are tensors of their own, but do not make one tensor together.
    #[error("the experts' matrices cannot be joined to {name:?}, as newer files have them: {problem}")]
    Experts { name: String, problem: String },
    /// A key occurs twice.
    #[error("key {} occurs twice", quote(.key))]
    DuplicateKey { key: String },
    /// A number that stands for no value type.
    #[error("key {}: {id} is no value type", quote(.key))]
    UnknownValueType { key: String, id: u32 },
    /// A bool that is neither 0 nor 1.
    #[error("key {}: a bool with the value {value}", quote(.key))]
    InvalidBool { key: String, value: u8 },
    /// Arrays within arrays within arrays.
    #[error("key {}: arrays nested deeper than {MAX_ARRAY_DEPTH}", quote(.key))]
    ArrayTooDeep { key: String },
    /// A key that the container itself needs has the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// `general.alignment` is not a power of two between 8 and [`MAX_ALIGNMENT`].
    #[error("general.alignment is {value}, expected a power of two from 8 to {MAX_ALIGNMENT}")]
    Alignment { value: usize },
    /// The layers that look at an image are none of the model's.
    #[error("key `{key}`: expected an array of some of the {layers} layers, each once")]
    CrossLayers { key: &'static str, layers: usize },
    /// The file is a later part of a model in several files.
    #[error("part {} of {count} of a model in several files; give the first one: {first}", .number + 1)]
    LaterPart { number: usize, count: usize, first: String },
    /// The file is the first part of several, but its name does not say what the others are called.
    #[error(
        "part 1 of {count} of a model in several files, but the others are found by a name that ends in -00001-of-{count:05}"
    )]
    PartName { count: usize },
    /// The keys of a part are not those that its name promises.
    #[error(
        "part {} of {count} by its name, but split.no and split.count make it {found} (files of different models?)",
        .number + 1
    )]
    OtherPart { number: usize, count: usize, found: String },
    /// The parts do not have as many tensors as the first one says.
    #[error("split.tensors.count is {expected}, but the parts have {found} tensors (files of different models?)")]
    PartTensors { expected: usize, found: usize },
    /// Two parts have a tensor of one name.
    #[error("tensor {} is in {other} too", quote(.tensor))]
    TensorInTwoParts { tensor: String, other: String },
    /// A tensor's name is longer than the specification allows.
    #[error("the name of tensor number {number} has {len} bytes, {MAX_TENSOR_NAME_BYTES} are allowed")]
    TensorNameTooLong { number: usize, len: usize },
    /// Two tensors have one name.
    #[error("tensor {} occurs twice", quote(.tensor))]
    DuplicateTensor { tensor: String },
    /// A tensor without extents, or with too many.
    #[error("tensor {}: {dims} dimensions, expected 1 to {MAX_DIMS}", quote(.tensor))]
    DimensionCount { tensor: String, dims: u32 },
    /// A tensor without elements.
    #[error("tensor {}: shape {shape:?} has a zero", quote(.tensor))]
    ZeroDimension { tensor: String, shape: Vec<u64> },
    /// A tensor whose size no machine can address.
    #[error("tensor {}: shape {shape:?} has more elements than can be addressed", quote(.tensor))]
    ShapeOverflow { tensor: String, shape: Vec<u64> },
    /// A tensor of a type that holds no weights, was given up, or that nobody knows.
    #[error(
        "tensor {}: type {id}{}; Quipu reads {}, {} and {}",
        quote(.tensor),
        ggml_type_name(*.id).map(|n| format!(" ({n})")).unwrap_or_default(),
        TensorType::ALL.map(TensorType::name).join(", "),
        StoredType::ALL.map(StoredType::name).join(", "),
        InterleavedType::ALL.map(InterleavedType::name).join(", ")
    )]
    UnknownTensorType { tensor: String, id: u32 },
    /// Rows that are no whole number of blocks.
    #[error("tensor {}: rows of {cols} elements are no multiple of {ty}'s block of {block}", quote(.tensor))]
    PartialBlock { tensor: String, cols: usize, ty: &'static str, block: usize },
    /// A matrix whose last rows are no whole group of those that its type interleaves.
    #[error("tensor {}: {rows} rows are no multiple of the {} that {ty} interleaves", quote(.tensor), .ty.group())]
    PartialGroup { tensor: String, rows: usize, ty: InterleavedType },
    /// A tensor that does not start at a multiple of the alignment.
    #[error("tensor {}: offset {offset} is no multiple of the alignment {alignment}", quote(.tensor))]
    MisalignedTensor { tensor: String, offset: u64, alignment: usize },
    /// A tensor that reaches past the end of the file.
    #[error(
        "tensor {}: {size} bytes at offset {offset} reach {missing} bytes past the end of the file (a truncated download?)",
        quote(.tensor)
    )]
    TensorBeyondFile { tensor: String, offset: u64, size: usize, missing: u64 },
    /// Two tensors share bytes.
    #[error("tensors {} and {} overlap", quote(.first), quote(.second))]
    OverlappingTensors { first: String, second: String },
    /// A packed tensor in a file that does not name its layout.
    #[error("tensor {} is packed, but the file has no key quipu.layout", quote(.tensor))]
    PackedWithoutLayout { tensor: String },
    /// A layout that this Quipu does not know.
    #[error("quipu.layout is {}, expected \"r16k4\"", quote(.found))]
    UnknownLayout { found: String },
    /// A version of the layout that never was.
    #[error("quipu.layout.version is 0, expected 1")]
    ZeroLayoutVersion,
    /// A layout from the future.
    #[error(
        "quipu.layout.version is {version}: made by a newer Quipu, this one reads version 1; pack the model again or update"
    )]
    NewerLayout { version: u32 },
    /// A packed file whose tensors do not start at page borders.
    #[error("a packed file with general.alignment {found}, expected {PACKED_ALIGNMENT}")]
    PackedAlignment { found: usize },
    /// A packed tensor that is no matrix.
    #[error("tensor {}: packed, but of shape {shape:?}; only matrices are, and those of experts in groups of 16 rows", quote(.tensor))]
    PackedShape { tensor: String, shape: Vec<usize> },
}

/// A name from a file, fit for a message of one line.
pub(crate) fn quote(name: &str) -> String {
    const SHOWN: usize = 80;
    match name.char_indices().nth(SHOWN) {
        None => format!("{name:?}"),
        Some((cut, _)) => format!("{:?}…", &name[..cut]),
    }
}

/// What files that are no GGUF look like, by their first bytes.
pub(super) fn recognise(file: &[u8]) -> String {
    let head = &file[..file.len().min(512)];
    let text = String::from_utf8_lossy(head).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    let starts = |magic: &[u8]| head.starts_with(magic);
    // GGML's own formats before GGUF began with a little-endian u32, so their letters stand reversed.
    let old = [(b"lmgg", "ggml"), (b"fmgg", "ggmf"), (b"tjgg", "ggjt"), (b"algg", "ggla")];
    if let Some((_, name)) = old.iter().find(|(magic, _)| starts(*magic)) {
        return format!("a file of the format {name} from before GGUF; get or convert the model as GGUF");
    }
    if starts(b"FUGG") {
        return "its magic is reversed: a big-endian GGUF, or a damaged one".into();
    }
    if starts(b"PK\x03\x04") {
        return "a ZIP archive (a PyTorch .bin or .pt file?); convert a safetensors checkpoint".into();
    }
    if head.len() > 1 && head[0] == 0x80 && (2..=5).contains(&head[1]) {
        return "a Python pickle (an old PyTorch .bin file?); convert a safetensors checkpoint".into();
    }
    if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") {
        return "an HTML page (a download link that led to a web page?)".into();
    }
    if text.starts_with("version https://git-lfs") {
        return "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`".into();
    }
    // safetensors: the length of a JSON header, then the header.
    if head.len() > 9 && head[8] == b'{' && head[5..8] == [0; 3] {
        return "a safetensors file; a model is the directory that it is in".into();
    }
    if starts(b"\x1f\x8b") || starts(b"\x28\xb5\x2f\xfd") || starts(b"BZh") || starts(b"\xfd7zXZ") {
        return "a compressed file; unpack it first".into();
    }
    let first: Vec<String> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("it starts with the bytes {}", first.join(" "))
}

/// What ggml's other types are (`enum ggml_type` in `ggml.h`): removed ones, and those that no weight of a model has.
fn ggml_type_name(id: u32) -> Option<&'static str> {
    Some(match id {
        4 => "Q4_2, removed from ggml in 2023",
        5 => "Q4_3, removed from ggml in 2023",
        9 => "Q8_1, for activations",
        15 => "Q8_K, for activations",
        24 => "I8, not for weights",
        25 => "I16, not for weights",
        26 => "I32, not for weights",
        27 => "I64, not for weights",
        28 => "F64, not for weights",
        36 => "IQ4_NL_4_4, which no program wrote",
        37 => "IQ4_NL_4_8, which no program wrote",
        38 => "IQ4_NL_8_8, which no program wrote",
        _ => return None,
    })
}
