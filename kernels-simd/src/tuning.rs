//! What depends on the machine and not on the model: how far ahead weights are asked for, how much stays in a cache.
//!
//! The table of instruction sets (`isa`) has a safe value for each; what runs on top may measure better ones. None of
//! them changes a bit of any result, whatever it is: they only say what is read when, and by whom.

use quipu_quant::TensorType;

/// How far ahead of the arithmetic products with a few rows ask for weights, in bytes; 0 is not at all. Where a row
/// group ends the next one begins, so that nothing waits there, either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// In the plane of codes.
    pub codes: u32,
    /// In the plane of scales, which has an eighth of the codes' bytes or less.
    pub scales: u32,
}

/// The parameters of kernels, and of what calls them. Values that make no sense are taken for the nearest that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// By type, in the order of [`TensorType::ALL`].
    ahead: [Ahead; TensorType::ALL.len()],
    /// How far ahead of the arithmetic attention asks for keys and values, in bytes; 0 is not at all.
    pub kv_ahead: u32,
    /// Up to so many rows in full tiles, weights are widened on the way, as for a few rows, and not first. It counts
    /// only for instruction sets whose full tiles can be streamed.
    pub streamed_rows: u32,
    /// Bytes of widened codes that several row groups have together: they stay in the second-level cache while the
    /// activations pass by.
    pub widened: u32,
    /// Bytes of activations that are multiplied with all of these groups before the next activations are: they stay in
    /// the second-level cache, too. So activations of megabytes come from the third level or from memory once for all
    /// of these groups, and not once for each.
    pub passing: u32,
    /// The most bytes of activations that are read for one set of row groups before they are all read again for the
    /// next set. 512 rows of 8192 inputs can be twice 8 MB, more than a thread's share of many last-level caches: then
    /// they would come from memory each time.
    pub panel: u32,
    /// Chunks of a product for each thread: enough to balance the load, few enough that each reads a long run of
    /// memory.
    pub chunks_per_thread: u32,
    /// The most row groups of one chunk, so that a worker's scratch stays in its cache.
    pub chunk_groups: u32,
    /// Microseconds that a worker spins for the next step before it parks.
    pub spin_us: u32,
}

impl Tuning {
    /// For all instruction sets that do not say otherwise. Sizes are for a second-level cache of 1 MB.
    const ANY: Tuning = Tuning {
        ahead: [Ahead { codes: 0, scales: 0 }; TensorType::ALL.len()],
        kv_ahead: 0,
        streamed_rows: 0,
        widened: 560 << 10,
        passing: 256 << 10,
        panel: 8 << 20,
        chunks_per_thread: 4,
        chunk_groups: 8,
        spin_us: 50,
    };

    /// The portable kernels have no instruction to ask for memory with.
    pub(crate) const PORTABLE: Tuning = Tuning::ANY;

    /// Measured on one machine (Zen 5): on the way to 8 KiB every doubling gained, beyond it none did.
    pub(crate) const X86: Tuning =
        Tuning { kv_ahead: 4 << 10, ..Tuning::ANY.all_ahead(Ahead { codes: 8 << 10, scales: 1 << 10 }) };

    /// Measured on Zen 5: streaming takes 1.2 times as long from 64 rows on, and as long as widening first with 32.
    pub(crate) const AVX2: Tuning = Tuning { streamed_rows: 24, ..Tuning::X86 };

    /// For AVX-VNNI and AVX-512. Measured on Zen 5: 64 rows gain by streaming, 128 nothing, and 256 would lose.
    pub(crate) const VNNI: Tuning = Tuning { streamed_rows: 120, ..Tuning::X86 };

    /// By the manuals, measured nowhere yet. A core's own prefetcher follows streams (Cortex-A76 TRM, A6.5), but a
    /// Cortex-A72's not beyond a page of 4 KiB (its TRM, 7.4); so half a page is asked for ahead, which is also more
    /// than what arrives while a line is under way: 12 GB/s for 150 ns are 1.8 KB.
    pub(crate) const ARM: Tuning =
        Tuning { kv_ahead: 2 << 10, ..Tuning::ANY.all_ahead(Ahead { codes: 2 << 10, scales: 256 }) };

    const fn all_ahead(self, ahead: Ahead) -> Tuning {
        Tuning { ahead: [ahead; TensorType::ALL.len()], ..self }
    }

    /// How far weights of type `ty` are asked for ahead.
    pub fn ahead(&self, ty: TensorType) -> Ahead {
        self.ahead[ty as usize]
    }

    /// The same with another distance for weights of type `ty`.
    pub fn with_ahead(mut self, ty: TensorType, ahead: Ahead) -> Tuning {
        self.ahead[ty as usize] = ahead;
        self
    }
}
