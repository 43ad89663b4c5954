//! An open GGUF.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{GgufError, GgufFault};
use super::mllama;
use super::parse::{Header, parse};
use super::split::{Split, parts_beside};
use super::value::Metadata;
use crate::map::{Advice, MapError, MappedFile};
use crate::oddity::Oddity;
use crate::source::{SharedBytes, Source, TensorInfo};

/// A GGUF (version 2 or 3, plain or packed): its header copied out and checked, its tensors where they lie. They may
/// lie in several files, the parts of one model.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    parts: Vec<Part>,
    /// The first part's, but with the tensors of all parts, in their order.
    header: Header,
}

/// A file of a model.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    bytes: Bytes,
    /// The number of its first tensor.
    first: usize,
}

#[derive(Debug)]
enum Bytes {
    Mapped(MappedFile),
    Held(Cow<'static, [u8]>),
}

impl GgufFile {
    /// Maps and checks the file at `path`, and the other parts of the model if it is the first of several.
    pub fn open(path: impl Into<PathBuf>) -> Result<GgufFile, GgufError> {
        let map = MappedFile::open(path)?;
        let mut file = Self::check(map.path().to_owned(), Bytes::Mapped(map))?;
        if let Some(split) = file.header.split {
            file.open_parts(split)?;
        }
        Ok(file)
    }

    /// Maps and checks what follows the first `start` bytes of the file at `path`, which are a multiple of every page.
    pub(crate) fn open_from(path: impl Into<PathBuf>, start: u64) -> Result<GgufFile, GgufError> {
        let map = MappedFile::open_from(path, start)?;
        let file = Self::check(map.path().to_owned(), Bytes::Mapped(map))?;
        file.in_one_file()
    }

    /// The same, with more that is odd about it.
    pub fn with_oddities(mut self, more: impl IntoIterator<Item = Oddity>) -> GgufFile {
        self.header.oddities.extend(more);
        self
    }

    /// Opens the `files` of a model that do not have their names yet, without the first `start` bytes of the first;
    /// messages call it `path`.
    pub(super) fn open_unplaced(path: &Path, start: u64, files: &[&Path]) -> Result<Option<GgufFile>, GgufError> {
        let Some((first, others)) = files.split_first() else { return Ok(None) };
        let mut file = Self::check(path.to_owned(), Bytes::Mapped(MappedFile::open_from(*first, start)?))?;
        for (part, number) in others.iter().zip(1..) {
            file.add_part(part.to_path_buf(), number, files.len())?;
        }
        Ok(Some(file))
    }

    /// Checks a file that is already in memory (built into the program, say). `path` is what messages call it.
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: impl Into<Cow<'static, [u8]>>) -> Result<GgufFile, GgufError> {
        Self::check(path.into(), Bytes::Held(bytes.into()))?.in_one_file()
    }

    /// Refuses a part of a model: there is nothing beside it.
    fn in_one_file(self) -> Result<GgufFile, GgufError> {
        match self.header.split {
            None => Ok(self),
            Some(Split { count, .. }) => Err(invalid(&self.path, GgufFault::PartName { count })),
        }
    }

    fn check(path: PathBuf, bytes: Bytes) -> Result<GgufFile, GgufError> {
        let mut header = parse(bytes.all()).map_err(|fault| invalid(&path, fault))?;
        // ollama, which alone has written such models, writes one file.
        if header.split.is_none() {
            mllama::keep_text(&mut header).map_err(|fault| invalid(&path, fault))?;
        }
        Ok(GgufFile { path: path.clone(), parts: vec![Part { path, bytes, first: 0 }], header })
    }

    /// Opens what follows this first part.
    fn open_parts(&mut self, split: Split) -> Result<(), GgufError> {
        let Split { number, count, tensors } = split;
        let path = self.path.clone();
        let Some((by_name, path_of)) = parts_beside(&path, count) else {
            return Err(invalid(&path, GgufFault::PartName { count }));
        };
        if by_name != number {
            let found = split.to_string();
            return Err(invalid(&path, GgufFault::OtherPart { number: by_name, count, found }));
        }
        if number != 0 {
            return Err(invalid(
                &path,
                GgufFault::LaterPart { number, count, first: path_of(0).display().to_string() },
            ));
        }
        for number in 1..count {
            self.add_part(path_of(number), number, count)?;
        }
        match tensors.filter(|expected| *expected != self.header.tensors.len()) {
            Some(expected) => {
                Err(invalid(&self.path, GgufFault::PartTensors { expected, found: self.header.tensors.len() }))
            }
            None => Ok(()),
        }
    }

    fn add_part(&mut self, path: PathBuf, number: usize, count: usize) -> Result<(), GgufError> {
        let map = match MappedFile::open(&path) {
            Err(MapError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(GgufError::MissingPart { path: self.path.clone(), part: path, number, count });
            }
            other => other?,
        };
        let bytes = Bytes::Mapped(map);
        let header = parse(bytes.all()).map_err(|fault| invalid(&path, fault))?;
        let found = match header.split {
            Some(split) if (split.number, split.count) == (number, count) => None,
            Some(split) => Some(split.to_string()),
            None => Some("a model in one file".into()),
        };
        if let Some(found) = found {
            return Err(invalid(&path, GgufFault::OtherPart { number, count, found }));
        }
        let first = self.header.tensors.len();
        for (i, tensor) in header.tensors.iter().enumerate() {
            if let Some(other) = self.header.names.insert(tensor.name.clone(), first + i) {
                let other = self.part(other).path.display().to_string();
                return Err(invalid(&path, GgufFault::TensorInTwoParts { tensor: tensor.name.clone(), other }));
            }
        }
        self.header.tensors.extend(header.tensors);
        self.header.ranges.extend(header.ranges);
        self.parts.push(Part { path, bytes, first });
        Ok(())
    }

    /// The part that has tensor number `index`.
    fn part(&self, index: usize) -> &Part {
        // A part without tensors has the same first one as the part behind it.
        &self.parts[self.parts.partition_point(|part| part.first <= index) - 1]
    }

    /// The version of the container, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// The alignment of tensor data, in bytes.
    pub fn alignment(&self) -> usize {
        self.header.alignment
    }

    /// The length of the file, in bytes; of all parts, if there are several.
    pub fn file_len(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.all().len()).sum()
    }

    /// Where in the (first) file tensor data starts.
    pub fn data_start(&self) -> usize {
        self.header.data_start
    }

    /// Where in its file the bytes of tensor number `index` are.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn range(&self, index: usize) -> Range<usize> {
        self.header.ranges[index].clone()
    }

    /// The bytes of tensor number `index` in its encoding. In a mapped file they start at a multiple of
    /// [`GgufFile::alignment`] (or of the page, if that is less); in one held in memory they may start anywhere.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn data(&self, index: usize) -> &[u8] {
        &self.part(index).bytes.all()[self.range(index)]
    }

    /// True when the file has packed tensors.
    pub fn is_packed(&self) -> bool {
        self.header.tensors.iter().any(|t| t.encoding.is_packed())
    }

    /// Advises the system about the bytes of tensor number `index`; nothing happens for a file held in memory.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn advise(&self, index: usize, advice: Advice) {
        if let Bytes::Mapped(map) = &self.part(index).bytes {
            map.advise(self.range(index), advice);
        }
    }
}

fn invalid(path: &Path, fault: GgufFault) -> GgufError {
    GgufError::Invalid { path: path.to_owned(), fault: Box::new(fault) }
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Held(bytes) => bytes,
        }
    }
}

impl Source for GgufFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn files(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| part.path.clone()).collect()
    }

    fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    fn oddities(&self) -> &[Oddity] {
        &self.header.oddities
    }

    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        self.header.tensors[index].plain_rows(self.data(index), rows)
    }

    fn mapped(&self, index: usize) -> Option<&[u8]> {
        Some(self.data(index))
    }

    fn shared(self: Arc<Self>, index: usize) -> Option<SharedBytes> {
        Some(Arc::new(TensorBytes { index, file: self }))
    }

    fn release(&self, index: usize) {
        self.advise(index, Advice::DontNeed);
    }

    fn read_ahead(&self, index: usize) {
        self.advise(index, Advice::WillNeed);
    }

    fn lock(&self) -> io::Result<()> {
        self.parts.iter().try_for_each(|part| match &part.bytes {
            Bytes::Mapped(map) => map.lock(),
            Bytes::Held(_) => Ok(()),
        })
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.header.names.get(name).copied()
    }
}

/// The bytes of one tensor, which keep their file.
struct TensorBytes {
    file: Arc<GgufFile>,
    index: usize,
}

impl AsRef<[u8]> for TensorBytes {
    fn as_ref(&self) -> &[u8] {
        self.file.data(self.index)
    }
}

impl GgufError {
    /// The rule that the file breaks, if it could be read at all.
    pub fn fault(&self) -> Option<&GgufFault> {
        match self {
            GgufError::Map(_) | GgufError::MissingPart { .. } => None,
            GgufError::Invalid { fault, .. } => Some(fault),
        }
    }
}
