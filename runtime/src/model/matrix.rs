//! A matrix of weights, and the memory of those that do not stay in their file.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;
use quipu_formats::source::SharedBytes;
use quipu_kernels::Weights;
use quipu_quant::TensorType;
use quipu_quant::pack::{PackedLayout, dequantize_row};

use crate::host::memory;

/// A weight matrix, outputs × inputs, in R16·K4. It keeps its bytes alive.
pub(crate) struct Matrix {
    layout: PackedLayout,
    bytes: Bytes,
}

enum Bytes {
    /// A part of the memory of all matrices that were packed or copied while they were loaded.
    Memory(Arc<MmapMut>, Range<usize>),
    /// Where they lie in a packed file.
    File(SharedBytes),
}

impl Matrix {
    /// The matrix that was put at `at` in `memory`.
    ///
    /// # Panics
    /// When `at` does not have the layout's length, or reaches beyond `memory`.
    pub(super) fn in_memory(layout: PackedLayout, memory: Arc<MmapMut>, at: Range<usize>) -> Matrix {
        assert!(at.len() == layout.total_bytes() && at.end <= memory.len(), "{at:?} of {}", memory.len());
        Matrix { layout, bytes: Bytes::Memory(memory, at) }
    }

    /// The matrix that lies in a file.
    ///
    /// # Panics
    /// When the bytes are not as many as the layout has.
    pub(super) fn in_file(layout: PackedLayout, bytes: SharedBytes) -> Matrix {
        assert_eq!((*bytes).as_ref().len(), layout.total_bytes());
        Matrix { layout, bytes: Bytes::File(bytes) }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Memory(memory, at) => &memory[at.clone()],
            Bytes::File(bytes) => (**bytes).as_ref(),
        }
    }

    pub(crate) fn weights(&self) -> Weights<'_> {
        Weights::new(self.layout, self.bytes())
    }

    pub(crate) fn ty(&self) -> TensorType {
        self.layout.ty()
    }

    pub(crate) fn rows(&self) -> usize {
        self.layout.rows()
    }

    pub(crate) fn groups(&self) -> usize {
        self.layout.groups()
    }

    /// Row `row` as f32: an embedding.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        dequantize_row(&self.layout, self.bytes(), row, out);
    }
}

/// Matrices in a region begin at multiples of so many bytes, so that no page of memory has parts of two.
pub(super) const ALIGNMENT: usize = 16 << 10;

/// `size` bytes of memory for matrices one after the other, those of `what`. Only what is written to is taken from the
/// system.
///
/// Decode reads every byte once per token: with 4 KiB pages it waits for the TLB, so huge ones are asked for. Those are
/// 2 MiB, and a matrix with memory of its own would end in up to 2 MiB of small pages. A system that does not offer
/// huge pages loses only that.
pub(super) fn region(size: usize, what: impl FnOnce() -> String) -> io::Result<MmapMut> {
    memory::check(size as u64, what).map_err(io::Error::other)?;
    let memory = MmapMut::map_anon(size)?;
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}
