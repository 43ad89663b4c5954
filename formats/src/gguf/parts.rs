//! Writing a model in one file or in several parts, which appear together.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::file::GgufFile;
use super::limits::ALIGNMENT_KEY;
use super::packed::{LAYOUT_KEY, LAYOUT_VERSION_KEY};
use super::parse::alignment;
use super::split::{part_name, set_keys};
use super::value::Metadata;
use super::writer::{GgufWriter, WriteError, entry_bytes, header_bytes};
use crate::output::{Inputs, OutputError, OutputFile, is_stream};
use crate::source::TensorInfo;

/// The most parts of a model: `split.count` is a u16.
const MOST_PARTS: usize = 1 << 16;

/// A GGUF being written to a file, or to several that appear under their names together.
#[derive(Debug)]
pub struct PartsWriter {
    /// In order; their tensors, too.
    writers: Vec<GgufWriter<OutputFile>>,
    paths: Vec<PathBuf>,
    /// The bytes before the model.
    lead: u64,
    /// The one that takes the next tensor.
    current: usize,
}

impl PartsWriter {
    /// Starts the file `path`, or with a `part_bytes` parts that have about so many bytes each, called
    /// `NAME-00001-of-00003.gguf` and so on for a `path` of `NAME.gguf`. No tensor is cut, so one that is larger has a
    /// larger part of its own. None may be one of `inputs`. A model in one file can have a program as a
    /// `lead` before it.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn create(
        path: &Path,
        part_bytes: Option<u64>,
        lead: Option<&[u8]>,
        inputs: &Inputs,
        metadata: &Metadata,
        tensors: &[TensorInfo],
    ) -> Result<PartsWriter, WriteError> {
        let Some(part_bytes) = part_bytes else {
            let mut out = OutputFile::create(path, inputs)?;
            if let Some(lead) = lead {
                out.write_all(lead)?;
                out.make_executable()?;
            }
            let writers = vec![GgufWriter::new(out, metadata, tensors)?];
            let lead = lead.map_or(0, |lead| lead.len() as u64);
            return Ok(PartsWriter { writers, paths: vec![path.to_owned()], lead, current: 0 });
        };
        let parts = cut(metadata, tensors, part_bytes)?;
        let paths: Vec<PathBuf> =
            (0..parts.len()).map(|n| part_path(path, n, parts.len())).collect::<Result<_, _>>()?;
        let mut writers = Vec::with_capacity(parts.len());
        for (number, (path, part)) in paths.iter().zip(&parts).enumerate() {
            let keys = part_metadata(metadata, number, parts.len(), tensors.len());
            writers.push(GgufWriter::create(path, Some(inputs), &keys, &tensors[part.clone()])?);
        }
        Ok(PartsWriter { writers, paths, lead: 0, current: 0 })
    }

    /// The files, in order.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Writes the next part of the tensor at hand, as [`GgufWriter::write_tensor_part`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write_tensor_part(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        while self.writers[self.current].is_complete() && self.current + 1 < self.writers.len() {
            self.current += 1;
        }
        self.writers[self.current].write_tensor_part(bytes)
    }

    /// Checks that every tensor has got its bytes, syncs all files, opens them, and if `check` has nothing to say
    /// against the model gives them their names; returns their length in bytes together. The first part is the last to
    /// get its name, so that nobody opens a model of which others are missing. What went into a pipe is not opened
    /// again.
    ///
    /// # Errors
    /// See [`WriteError`]. Names that were given before are taken away again, unless there was a file of that name.
    pub fn finish(self, check: &dyn Fn(GgufFile) -> Result<(), String>) -> Result<u64, WriteError> {
        let done = self.writers.into_iter().map(GgufWriter::complete).collect::<Result<Vec<_>, _>>()?;
        for (file, _) in &done {
            file.sync()?;
        }
        if let Some(files) = done.iter().map(|(file, _)| file.unplaced()).collect::<Option<Vec<_>>>() {
            let path = &self.paths[0];
            let opened = GgufFile::open_unplaced(path, self.lead, &files).map_err(|error| error.to_string());
            let checked = opened.and_then(|file| file.map_or(Ok(()), check));
            checked.map_err(|reason| WriteError::Unreadable { path: path.clone(), reason })?;
        }
        let bytes = self.lead + done.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let mut placed = Vec::new();
        for ((file, _), path) in done.into_iter().zip(&self.paths).rev() {
            let is_new = !path.exists();
            if let Err(error) = file.finish() {
                placed.iter().for_each(|path| drop(std::fs::remove_file(path)));
                return Err(error.into());
            }
            placed.extend(is_new.then_some(path));
        }
        Ok(bytes)
    }
}

/// The name of the first part of what would be called `path` if it is written in parts, before it is known of how many.
///
/// # Errors
/// When `path` is no name of a file.
pub fn first_part_path(path: &Path) -> Result<PathBuf, OutputError> {
    part_path(path, 0, 1)
}

/// Which tensors each part has: as many as fit into `part_bytes` with the part's header, and at least one.
fn cut(metadata: &Metadata, tensors: &[TensorInfo], part_bytes: u64) -> Result<Vec<Range<usize>>, WriteError> {
    let alignment = alignment(metadata)? as u64;
    let mut parts: Vec<Range<usize>> = Vec::new();
    let header_of = |part: usize| header_bytes(&part_metadata(metadata, part, 0, tensors.len()));
    // One for each beginning of tensor data, which is padded.
    let (mut start, mut bytes) = (0, header_of(0)? + alignment);
    for (i, tensor) in tensors.iter().enumerate() {
        let data = (tensor.byte_len().unwrap_or(0) as u64).next_multiple_of(alignment);
        let more = entry_bytes(tensor) + data;
        if i > start && bytes + more > part_bytes {
            parts.push(start..i);
            (start, bytes) = (i, header_of(parts.len())? + alignment);
        }
        bytes += more;
    }
    parts.push(start..tensors.len());
    if parts.len() >= MOST_PARTS {
        return Err(WriteError::TooManyParts { parts: parts.len(), part_bytes });
    }
    Ok(parts)
}

/// The keys of part `number`: the first has those of the model, the others what a reader needs to read the part.
fn part_metadata(metadata: &Metadata, number: usize, count: usize, tensors: usize) -> Metadata {
    let mut keys = metadata.clone();
    if number > 0 {
        keys = Metadata::default();
        for key in [ALIGNMENT_KEY, LAYOUT_KEY, LAYOUT_VERSION_KEY] {
            if let Some(value) = metadata.get(key) {
                keys.set(key, value.clone());
            }
        }
    }
    set_keys(&mut keys, number, count, tensors);
    keys
}

/// The name of part `number`, from 0, of `count` parts of what would be called `path`.
fn part_path(path: &Path, number: usize, count: usize) -> Result<PathBuf, OutputError> {
    let (Some(name), Some(stem)) = (path.file_name(), path.file_stem()) else {
        return Err(OutputError::IsDirectory { path: path.to_owned() });
    };
    if path.is_dir() {
        return Err(OutputError::IsDirectory { path: path.to_owned() });
    }
    if is_stream(path) {
        let source =
            io::Error::other("parts are files of their own, beside each other, and this is a device or a pipe");
        return Err(OutputError::Create { path: path.to_owned(), source });
    }
    let is_model = |e: &&OsStr| *e == "gguf" || *e == "quipu";
    let name = match path.extension().filter(is_model) {
        Some(extension) => part_name(stem, Some(extension), number, count),
        None => part_name(name, Some(OsStr::new("gguf")), number, count),
    };
    Ok(path.with_file_name(name))
}
