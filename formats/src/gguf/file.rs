//! An open GGUF.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{GgufError, GgufFault};
use super::parse::{Header, parse};
use super::value::Metadata;
use crate::map::{Advice, MappedFile};
use crate::source::{SharedBytes, Source, TensorInfo};

/// A GGUF (version 2 or 3, plain or packed): its header copied out and checked, its tensors where they lie.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
}

#[derive(Debug)]
enum Bytes {
    Mapped(MappedFile),
    Held(Cow<'static, [u8]>),
}

impl GgufFile {
    /// Maps and checks the file at `path`.
    pub fn open(path: impl Into<PathBuf>) -> Result<GgufFile, GgufError> {
        let map = MappedFile::open(path)?;
        Self::check(map.path().to_owned(), Bytes::Mapped(map))
    }

    /// Checks a file that is already in memory (built into the program, say). `path` is what messages call it.
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: impl Into<Cow<'static, [u8]>>) -> Result<GgufFile, GgufError> {
        Self::check(path.into(), Bytes::Held(bytes.into()))
    }

    fn check(path: PathBuf, bytes: Bytes) -> Result<GgufFile, GgufError> {
        match parse(bytes.all()) {
            Ok(header) => Ok(GgufFile { path, bytes, header }),
            Err(fault) => Err(GgufError::Invalid { path, fault: Box::new(fault) }),
        }
    }

    /// The version of the container, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// The alignment of tensor data, in bytes.
    pub fn alignment(&self) -> usize {
        self.header.alignment
    }

    /// The length of the file, in bytes.
    pub fn file_len(&self) -> usize {
        self.bytes.all().len()
    }

    /// Where in the file tensor data starts.
    pub fn data_start(&self) -> usize {
        self.header.data_start
    }

    /// Where in the file the bytes of tensor number `index` are.
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
        &self.bytes.all()[self.range(index)]
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
        if let Bytes::Mapped(map) = &self.bytes {
            map.advise(self.range(index), advice);
        }
    }
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

    fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
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
        match &self.bytes {
            Bytes::Mapped(map) => map.lock(),
            Bytes::Held(_) => Ok(()),
        }
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
            GgufError::Map(_) => None,
            GgufError::Invalid { fault, .. } => Some(fault),
        }
    }
}
