//! Numbers that are none: where they are noticed, and which weight they come from.
//!
//! NaN and infinity stay what they are in sums and products, but not everywhere: the largest of some numbers, or an
//! exponential that is cut off, may pass over a NaN, and then a broken model writes text. So the rows that enter a
//! product are looked at where they are quantised, queries, keys and values before attention, and logits before they
//! are shown. What a plain file has is looked at when it is packed; a packed file is mapped as it is, and its weights
//! are searched only once something was noticed.

use std::sync::atomic::{AtomicUsize, Ordering};

use quipu_formats::source::Source;
use quipu_quant::pack::{GROUP_ROWS, group_is_finite};

/// The largest magnitude of a query, a key or a value. Sums of products of such numbers stay far from infinity.
pub(super) const ATTENTION_LIMIT: f32 = 1e15;

/// A token after which some number of the forward pass was NaN, infinite or too large to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFinite {
    /// The token's id.
    pub(crate) token: u32,
    /// Its position in its sequence.
    pub(crate) position: usize,
    /// The number of that sequence in the batch.
    pub(crate) sequence: usize,
}

/// What a forward pass has noticed so far.
#[derive(Debug)]
pub(crate) struct Noticed(AtomicUsize);

impl Noticed {
    pub(super) fn nothing() -> Noticed {
        Noticed(AtomicUsize::new(usize::MAX))
    }

    /// Remembers the first row, by number in the batch.
    pub(super) fn add(&self, row: usize) {
        self.0.fetch_min(row, Ordering::Relaxed);
    }

    /// The first row.
    pub(super) fn row(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&row| row != usize::MAX)
    }
}

/// The first packed matrix that has a weight which is no number, by name, with the first of its groups of rows that
/// has one. What is not packed was looked at when it was loaded.
fn broken_tensor(source: &dyn Source) -> Option<(String, usize)> {
    source.tensors().iter().enumerate().filter(|(_, info)| info.encoding.is_packed()).find_map(|(index, info)| {
        let (layout, packed) = (info.packed_layout(), source.mapped(index)?);
        let broken = (0..layout.groups()).find(|&group| {
            let (quants, scales) = layout.group(packed, group);
            !group_is_finite(&layout, quants, scales)
        })?;
        Some((info.name.clone(), broken))
    })
}

/// Where numbers that are none come from, for a message.
pub(crate) fn broken_weight(source: &dyn Source) -> String {
    match broken_tensor(source) {
        Some((name, group)) => {
            let first = group * GROUP_ROWS;
            format!("tensor `{name}` has NaN or infinity in one of the rows from {first} on: a damaged file?")
        }
        None => "no weight is to blame: its activations are too large to compute with".into(),
    }
}
