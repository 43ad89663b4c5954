//! From the head of a file to metadata and a tensor directory whose every range lies inside the file.

use std::collections::HashMap;
use std::ops::Range;

use quipu_quant::{InterleavedType, StoredType, TensorType};

use super::cursor::{Cursor, Place};
use super::fault::{GgufFault, quote, recognise};
use super::limits::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAX_ALIGNMENT, MAX_DIMS, MAX_KEY_BYTES, MAX_TENSOR_NAME_BYTES};
use super::packed::{
    LAYOUT_KEY, LAYOUT_NAME, LAYOUT_VERSION, LAYOUT_VERSION_KEY, PACKED_ALIGNMENT, PACKED_TYPE_BASE, is_packable,
};
use super::split::Split;
use super::value::{Metadata, Required};
use super::wire;
use crate::oddity::Oddity;
use crate::source::{Encoding, TensorInfo};

/// What the head of a file says, checked.
#[derive(Debug)]
pub(super) struct Header {
    pub version: u32,
    pub metadata: Metadata,
    pub alignment: usize,
    /// Where tensor data starts.
    pub data_start: usize,
    pub tensors: Vec<TensorInfo>,
    /// The bytes of each tensor, as ranges of the file.
    pub ranges: Vec<Range<usize>>,
    /// Tensor numbers by name.
    pub names: HashMap<String, usize>,
    /// Which part of a model in several files this is.
    pub split: Option<Split>,
    pub oddities: Vec<Oddity>,
}

/// A tensor as the directory has it, before its bytes are looked for.
struct Entry {
    info: TensorInfo,
    offset: u64,
}

/// The fewest bytes of a key (empty, with a value of one byte) and of a tensor's entry (no name, one extent).
const MIN_KEY_BYTES: usize = 8 + 4 + 1;
const MIN_TENSOR_BYTES: usize = 8 + 4 + 8 + 4 + 8;

pub(super) fn parse(file: &[u8]) -> Result<Header, GgufFault> {
    if !file.starts_with(&wire::MAGIC) {
        return Err(GgufFault::NotGguf { found: recognise(file) });
    }
    let mut cursor = Cursor::new(file);
    cursor.take(wire::MAGIC.len(), Place::Start)?;
    let version = cursor.u32(Place::Start)?;
    if !(2..=3).contains(&version) {
        let swapped = version.swap_bytes();
        return Err(match swapped {
            1..=0xff => GgufFault::BigEndian { version: swapped },
            _ => GgufFault::UnsupportedVersion { version },
        });
    }
    let tensor_count = cursor.u64(Place::Start)?;
    let key_count = cursor.u64(Place::Start)?;
    let key_count = cursor.count(key_count, MIN_KEY_BYTES, Place::Start)?;
    cursor.count(tensor_count, MIN_TENSOR_BYTES, Place::Start)?;

    let metadata = keys(&mut cursor, key_count)?;
    let alignment = alignment(&metadata)?;
    let packed = packed_layout(&metadata, alignment)?;
    let split = Split::read(&metadata)?;

    // Asked again, now that the keys have had their share.
    let tensor_count = cursor.count(tensor_count, MIN_TENSOR_BYTES, Place::Start)?;
    let mut entries = Vec::new();
    let mut names = HashMap::new();
    for number in 0..tensor_count {
        let entry = entry(&mut cursor, number, packed)?;
        if names.insert(entry.info.name.clone(), number).is_some() {
            return Err(GgufFault::DuplicateTensor { tensor: entry.info.name });
        }
        entries.push(entry);
    }

    let data_start = cursor.at().next_multiple_of(alignment);
    let ranges = entries.iter().map(|e| locate(e, data_start, alignment, file.len())).collect::<Result<Vec<_>, _>>()?;
    let tensors: Vec<TensorInfo> = entries.into_iter().map(|e| e.info).collect();
    refuse_overlap(&tensors, &ranges)?;
    let not_utf8 = |key| Oddity::NotUtf8 { place: format!("the value of {}", quote(key)) };
    let oddities = cursor.not_utf8.iter().map(|key| not_utf8(key)).collect();
    Ok(Header { version, metadata, alignment, data_start, tensors, ranges, names, split, oddities })
}

fn keys(cursor: &mut Cursor, count: usize) -> Result<Metadata, GgufFault> {
    let mut metadata = Metadata::default();
    for number in 0..count {
        let key = cursor.string(Place::Key(number))?;
        if key.len() > MAX_KEY_BYTES {
            return Err(GgufFault::KeyTooLong { number, len: key.len() });
        }
        let id = cursor.u32(Place::Value(key))?;
        let value = cursor.value(id, key)?;
        if metadata.get(key).is_some() {
            return Err(GgufFault::DuplicateKey { key: key.into() });
        }
        metadata.set(key, value);
    }
    Ok(metadata)
}

/// `general.alignment` as the file has it or leaves it.
pub(super) fn alignment(metadata: &Metadata) -> Result<usize, GgufFault> {
    let value = metadata.usize_opt(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if value.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&value) {
        Ok(value)
    } else {
        Err(GgufFault::Alignment { value })
    }
}

/// True when the metadata announces packed tensors, in a layout that this code knows.
pub(super) fn packed_layout(metadata: &Metadata, alignment: usize) -> Result<bool, GgufFault> {
    match metadata.str_opt(LAYOUT_KEY)? {
        None => return Ok(false),
        Some(LAYOUT_NAME) => {}
        Some(other) => return Err(GgufFault::UnknownLayout { found: other.into() }),
    }
    match metadata.u32_opt(LAYOUT_VERSION_KEY).required(LAYOUT_VERSION_KEY)? {
        0 => Err(GgufFault::ZeroLayoutVersion),
        LAYOUT_VERSION if alignment != PACKED_ALIGNMENT => Err(GgufFault::PackedAlignment { found: alignment }),
        LAYOUT_VERSION => Ok(true),
        version => Err(GgufFault::NewerLayout { version }),
    }
}

fn entry(cursor: &mut Cursor, number: usize, packed_file: bool) -> Result<Entry, GgufFault> {
    let name = cursor.string(Place::TensorName(number))?;
    if name.len() > MAX_TENSOR_NAME_BYTES {
        return Err(GgufFault::TensorNameTooLong { number, len: name.len() });
    }
    let tensor = || name.to_owned();
    let place = Place::Tensor(name);
    let dims = cursor.u32(place)?;
    if !(1..=MAX_DIMS as u32).contains(&dims) {
        return Err(GgufFault::DimensionCount { tensor: tensor(), dims });
    }
    let extents = (0..dims).map(|_| cursor.u64(place)).collect::<Result<Vec<u64>, _>>()?;
    let id = cursor.u32(place)?;
    let offset = cursor.u64(place)?;

    if extents.contains(&0) {
        return Err(GgufFault::ZeroDimension { tensor: tensor(), shape: extents });
    }
    let overflow = || GgufFault::ShapeOverflow { tensor: name.to_owned(), shape: extents.clone() };
    let shape: Vec<usize> =
        extents.iter().map(|&e| usize::try_from(e)).collect::<Result<_, _>>().map_err(|_| overflow())?;
    shape.iter().try_fold(1usize, |n, &e| n.checked_mul(e)).ok_or_else(overflow)?;

    // The base's own bits are above every ggml id, so a plain id never looks packed.
    let found = match id ^ PACKED_TYPE_BASE {
        packed @ 0..=0xffff => TensorType::from_id(packed).map(Encoding::Packed),
        _ => TensorType::from_id(id)
            .map(Encoding::Plain)
            .or_else(|| StoredType::from_id(id).map(Encoding::Stored))
            .or_else(|| InterleavedType::from_id(id).map(Encoding::Interleaved)),
    };
    let Some(encoding) = found else {
        return Err(GgufFault::UnknownTensorType { tensor: tensor(), id });
    };
    if encoding.is_packed() && !packed_file {
        return Err(GgufFault::PackedWithoutLayout { tensor: tensor() });
    }
    if encoding.is_packed() && !is_packable(&shape) {
        return Err(GgufFault::PackedShape { tensor: tensor(), shape });
    }
    let block = encoding.block_len();
    let info = TensorInfo::new(name, encoding, shape);
    if !info.cols().is_multiple_of(block) {
        return Err(GgufFault::PartialBlock { tensor: tensor(), cols: info.cols(), ty: encoding.name(), block });
    }
    if let Encoding::Interleaved(order) = encoding
        && let rows = info.shape.get(1).copied().unwrap_or(1)
        && !rows.is_multiple_of(order.group())
    {
        return Err(GgufFault::PartialGroup { tensor: tensor(), rows, ty: order });
    }
    Ok(Entry { info, offset })
}

/// The range of the file that holds a tensor.
fn locate(entry: &Entry, data_start: usize, alignment: usize, file_len: usize) -> Result<Range<usize>, GgufFault> {
    let tensor = || entry.info.name.clone();
    let Some(size) = entry.info.byte_len() else {
        let shape = entry.info.shape.iter().map(|&e| e as u64).collect();
        return Err(GgufFault::ShapeOverflow { tensor: tensor(), shape });
    };
    if !entry.offset.is_multiple_of(alignment as u64) {
        return Err(GgufFault::MisalignedTensor { tensor: tensor(), offset: entry.offset, alignment });
    }
    // In u128 no sum of these can wrap.
    let end = data_start as u128 + entry.offset as u128 + size as u128;
    if end > file_len as u128 {
        let missing = u64::try_from(end - file_len as u128).unwrap_or(u64::MAX);
        return Err(GgufFault::TensorBeyondFile { tensor: tensor(), offset: entry.offset, size, missing });
    }
    let end = end as usize;
    Ok(end - size..end)
}

fn refuse_overlap(tensors: &[TensorInfo], ranges: &[Range<usize>]) -> Result<(), GgufFault> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_unstable_by_key(|&i| (ranges[i].start, i));
    for pair in order.windows(2) {
        if ranges[pair[0]].end > ranges[pair[1]].start {
            let name = |i: usize| tensors[i].name.clone();
            return Err(GgufFault::OverlappingTensors { first: name(pair[0]), second: name(pair[1]) });
        }
    }
    Ok(())
}
