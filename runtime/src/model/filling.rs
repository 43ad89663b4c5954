//! Matrices into memory: packed, or copied where they are packed already, by all threads.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use quipu_formats::source::{Source, TensorInfo};
use quipu_quant::pack::{GROUP_ROWS, PackedLayout, group_is_finite, pack_group};

use super::loading::WeightsError;
use crate::cancel::Cancel;
use crate::pool::Pool;

/// Bytes that are packed or copied before the file's pages are released: about so much memory does loading take beyond
/// the weights.
const SLAB: usize = 16 << 20;

/// A matrix that has to be packed or copied.
pub(super) struct Filling {
    /// Its number in the source.
    pub(super) index: usize,
    pub(super) layout: PackedLayout,
    /// Rows of an expert's matrix, or of the only one: after so many a group begins.
    pub(super) unit: usize,
    /// Its place in the region.
    pub(super) at: Range<usize>,
}

impl Filling {
    /// The rows of the source that stand in group `group`.
    fn rows(&self, group: usize) -> Range<usize> {
        let groups = self.unit.div_ceil(GROUP_ROWS);
        let first = group / groups * self.unit;
        let within = group % groups * GROUP_ROWS;
        first + within..first + (within + GROUP_ROWS).min(self.unit)
    }

    /// Copies a packed matrix with all threads, and releases the file's pages.
    pub(super) fn copy(
        &self,
        source: &dyn Source,
        packed: &[u8],
        to: &mut [u8],
        pool: &mut Pool,
        cancel: &Cancel,
    ) -> Result<(), WeightsError> {
        let mut locals = vec![(); pool.threads()];
        for (to, from) in to.chunks_mut(SLAB).zip(packed.chunks(SLAB)) {
            go_on(cancel)?;
            const PART: usize = 256 << 10;
            let mut parts: Vec<_> = to.chunks_mut(PART).zip(from.chunks(PART)).collect();
            pool.for_items(&mut locals, &mut parts, |(), _, (to, from)| to.copy_from_slice(from));
            source.release(self.index);
        }
        let bad = AtomicUsize::new(usize::MAX);
        let (layout, to) = (&self.layout, &*to);
        pool.for_each(&mut locals, layout.groups(), |(), group| {
            let (quants, scales) = layout.group(to, group);
            if !group_is_finite(layout, quants, scales) {
                bad.fetch_min(group, Ordering::Relaxed);
            }
        });
        match bad.into_inner() {
            usize::MAX => Ok(()),
            group => Err(bad_group(source, self, group)),
        }
    }

    /// Packs a plain matrix with all threads, and releases the file's pages.
    pub(super) fn pack(
        &self,
        source: &dyn Source,
        to: &mut [u8],
        pool: &mut Pool,
        cancel: &Cancel,
    ) -> Result<(), WeightsError> {
        let Filling { index, layout, .. } = self;
        let (quants, scales) = to.split_at_mut(layout.scales_offset());
        let mut no_scales: Vec<&mut [u8]> = Vec::new();
        let scales: Vec<&mut [u8]> = match layout.group_scale_bytes() {
            0 => {
                no_scales.resize_with(layout.groups(), || &mut []);
                no_scales
            }
            n => scales.chunks_exact_mut(n).collect(),
        };
        let mut groups: Vec<(&mut [u8], &mut [u8])> =
            quants.chunks_exact_mut(layout.group_quant_bytes()).zip(scales).collect();
        let mut locals = vec![(); pool.threads()];
        let bad = AtomicUsize::new(usize::MAX);
        let in_slab = (SLAB / layout.group_quant_bytes().max(1)).max(1);
        for (slab, groups) in groups.chunks_mut(in_slab).enumerate() {
            go_on(cancel)?;
            pool.for_items(&mut locals, groups, |(), g, (quants, scales)| {
                let group = slab * in_slab + g;
                let plain: Cow<'_, [u8]> = source.rows(*index, self.rows(group));
                pack_group(layout, &plain, quants, scales);
                if !group_is_finite(layout, quants, scales) {
                    bad.fetch_min(group, Ordering::Relaxed);
                }
            });
            source.release(*index);
            match bad.load(Ordering::Relaxed) {
                usize::MAX => {}
                group => return Err(bad_group(source, self, group)),
            }
        }
        Ok(())
    }
}

/// The layout in which a matrix runs, and after how many of its rows a group begins: those of each expert by itself.
pub(super) fn memory_layout(info: &TensorInfo) -> (PackedLayout, usize) {
    match info.shape[..] {
        [cols, rows, experts] if !rows.is_multiple_of(GROUP_ROWS) => {
            let padded = rows.checked_next_multiple_of(GROUP_ROWS).and_then(|rows| rows.checked_mul(experts));
            let layout = padded.and_then(|rows| PackedLayout::new(info.ty(), rows, cols));
            (layout.expect("experts have fewer rows of padding than bytes in their file"), rows)
        }
        [_, rows, _] => (info.packed_layout(), rows),
        _ => (info.packed_layout(), info.rows()),
    }
}

/// The error for a weight that is no number.
pub(super) fn not_finite(source: &dyn Source, index: usize, row: usize, found: &str) -> WeightsError {
    let (path, name) = (source.path().into(), source.tensors()[index].name.clone());
    WeightsError::NotFinite { path, name, row, found: found.into() }
}

/// The error for a group of rows that has weights which are no numbers.
fn bad_group(source: &dyn Source, filling: &Filling, group: usize) -> WeightsError {
    let (index, mut rows) = (filling.index, filling.rows(group));
    let is_bad = |row: &usize| !source.values(index, *row..row + 1).iter().all(|x| x.is_finite());
    // A type that is recoded may have numbers that are too large for the type in its place.
    let row = rows.clone().find(is_bad).or(rows.next()).unwrap_or(0);
    not_finite(source, index, row, "NaN or infinity")
}

/// Ends the loading if it was cancelled. Called before every slab: on a slow disk, gigabytes take minutes.
fn go_on(cancel: &Cancel) -> Result<(), WeightsError> {
    if cancel.cancelled() { Err(WeightsError::Cancelled) } else { Ok(()) }
}
