//! R16·K4: the one layout that every instruction set reads.
//!
//! Sixteen rows stand side by side: a *line* of 64 bytes has 4 consecutive columns of 16 rows, byte `4·r + i` for row
//! `r` and column `i`. The lanes of a vector are then rows, whatever its width, and no sum crosses lanes.
//!
//! A packed tensor is a plane of codes ("quants"), padded with zeros to a multiple of 64 bytes, then a plane of scales.
//! Both are ordered by group of 16 rows, then by column. The rows that fill up the last group are zeros. Everything is
//! a permutation of the plain bits: [`unpack`] gives back the plain rows byte for byte.
//!
//! Codes of 32 columns, with `code[r][k]` as stored in the block ([`Block::codes`]), in lines:
//!
//! | type | lines | content |
//! | --- | --- | --- |
//! | Q8_0 | 8 | line j: `code[r][4j + i]` |
//! | Q2_K, TQ2_0 | 2 | line t: bits 2u..2u + 2 are `code[r][4(4t + u) + i]` |
//! | Q3_K | 2 + 1 | low 2 bits as above; then bit j (of 8) is bit 2 of `code[r][4j + i]` |
//! | Q4_0, Q4_1, Q4_K, IQ4_NL, IQ4_XS, MXFP4 | 4 | line j: low half `code[r][4j + i]`, high half `code[r][16 + 4j + i]` |
//! | Q5_0, Q5_1, Q5_K | 4 + 1 | low 4 bits as for Q4_0; then bit j (of 8) is bit 4 of `code[r][4j + i]` |
//! | Q6_K | 4 + 2 | low 4 bits as for Q4_0; then in line t bits 2u..2u + 2 are the upper bits of `code[r][4(4t + u) + i]` |
//!
//! So a code of `b` bits takes `b` lines. F32, F16 and BF16 have for each column the values of the 16 rows, and no
//! scales.
//!
//! Scales of one block (32 or 256 columns): first each f16 scale as f16\[16\], in the order d, m or d, dmin; then, for
//! the blocks of 256, each byte of the block's `scales` (IQ4_XS: `scales_h`, `scales_l`) as u8\[16\]. MXFP4 has but one
//! byte, its exponent, as u8\[16\].

use std::ops::Range;

use crate::blocks::{self, Block, SUB, float, join_nibbles, split_nibbles, with_block};
use crate::types::TensorType;

/// Rows that stand side by side.
pub const GROUP_ROWS: usize = 16;

/// Bytes of a line.
const LINE: usize = 64;

/// Bytes of the quants plane for 32 columns of a group; for the float types for one column.
pub const fn quant_bytes(ty: TensorType) -> usize {
    if ty.is_float() { ty.block_bytes() * GROUP_ROWS } else { ty.code_bits() * LINE }
}

/// Bytes of the scales plane for one block's columns of a group; 0 for the float types.
pub const fn scale_bytes(ty: TensorType) -> usize {
    GROUP_ROWS * (2 * ty.f16_scales() + ty.byte_scales())
}

/// Shape and sizes of a packed tensor; all sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedLayout {
    ty: TensorType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    group_quant_bytes: usize,
    group_scale_bytes: usize,
    scales_offset: usize,
    total_bytes: usize,
}

impl PackedLayout {
    /// The layout of `rows` × `cols` weights, or `None` when one is zero, `cols` is no whole number of blocks, or a
    /// size overflows.
    pub fn new(ty: TensorType, rows: usize, cols: usize) -> Option<PackedLayout> {
        if rows == 0 || cols == 0 {
            return None;
        }
        let row_bytes = ty.row_bytes(cols)?;
        row_bytes.checked_mul(rows)?;
        let groups = rows.div_ceil(GROUP_ROWS);
        let units = if ty.is_float() { cols } else { cols / SUB };
        let group_quant_bytes = units.checked_mul(quant_bytes(ty))?;
        let group_scale_bytes = (cols / ty.block_len()).checked_mul(scale_bytes(ty))?;
        let scales_offset = groups.checked_mul(group_quant_bytes)?.checked_next_multiple_of(LINE)?;
        let total_bytes = groups.checked_mul(group_scale_bytes)?.checked_add(scales_offset)?;
        Some(PackedLayout {
            ty,
            rows,
            cols,
            row_bytes,
            group_quant_bytes,
            group_scale_bytes,
            scales_offset,
            total_bytes,
        })
    }

    /// The type of the weights.
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Rows, without the padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of one plain row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Groups of 16 rows.
    pub fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP_ROWS)
    }

    /// One group's part of the quants plane.
    pub fn group_quant_bytes(&self) -> usize {
        self.group_quant_bytes
    }

    /// One group's part of the scales plane; 0 for the float types.
    pub fn group_scale_bytes(&self) -> usize {
        self.group_scale_bytes
    }

    /// Start of the scales plane, a multiple of 64.
    pub fn scales_offset(&self) -> usize {
        self.scales_offset
    }

    /// The whole tensor, both planes.
    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// The parts `(quants, scales)` of group `group` in the packed tensor.
    ///
    /// # Panics
    /// When there is no such group or `packed` is shorter than [`PackedLayout::total_bytes`].
    pub fn group<'a>(&self, packed: &'a [u8], group: usize) -> (&'a [u8], &'a [u8]) {
        self.groups_of(packed, group..group + 1)
    }

    /// The parts `(quants, scales)` of neighbouring groups in the packed tensor.
    ///
    /// # Panics
    /// When there are no such groups or `packed` is shorter than [`PackedLayout::total_bytes`].
    pub fn groups_of<'a>(&self, packed: &'a [u8], groups: Range<usize>) -> (&'a [u8], &'a [u8]) {
        assert!(groups.end <= self.groups(), "groups {groups:?} of {}", self.groups());
        let (quants, scales) = packed[..self.total_bytes].split_at(self.scales_offset);
        (
            &quants[groups.start * self.group_quant_bytes..groups.end * self.group_quant_bytes],
            &scales[groups.start * self.group_scale_bytes..groups.end * self.group_scale_bytes],
        )
    }

    /// Panics unless the parts of a group have their sizes and `rows` is at most 16 whole rows; returns how many.
    fn check_group(&self, rows: usize, quants: usize, scales: usize) -> usize {
        assert_eq!(quants, self.group_quant_bytes, "bytes of a group's quants");
        assert_eq!(scales, self.group_scale_bytes, "bytes of a group's scales");
        assert!(
            rows.is_multiple_of(self.row_bytes) && rows / self.row_bytes <= GROUP_ROWS,
            "{rows} bytes are not up to {GROUP_ROWS} rows of {}",
            self.row_bytes
        );
        rows / self.row_bytes
    }
}

/// Packs up to 16 plain rows (their bytes one after the other) as one group.
///
/// # Panics
/// When `rows` is more than 16 rows or no whole number of them, or `quants` and `scales` are not
/// [`PackedLayout::group_quant_bytes`] and [`PackedLayout::group_scale_bytes`] long.
pub fn pack_group(layout: &PackedLayout, rows: &[u8], quants: &mut [u8], scales: &mut [u8]) {
    let n_rows = layout.check_group(rows.len(), quants.len(), scales.len());
    if n_rows < GROUP_ROWS {
        quants.fill(0);
        scales.fill(0);
    }
    with_block!(layout.ty, pack_blocks(layout, rows, quants, scales), float: match layout.ty {
        TensorType::F32 => transpose::<4>(layout.cols, rows, quants),
        _ => transpose::<2>(layout.cols, rows, quants),
    });
}

/// Whether all weights of a group are numbers: no float is NaN or infinite, no f16 scale is, and no scale of MXFP4
/// makes infinities.
///
/// # Panics
/// When the parts are not as long as the layout says.
pub fn group_is_finite(layout: &PackedLayout, quants: &[u8], scales: &[u8]) -> bool {
    layout.check_group(0, quants.len(), scales.len());
    match layout.ty {
        ty if ty.is_float() => float::all_finite(ty, quants),
        TensorType::MXFP4 => scales.iter().all(|&e| e <= blocks::LARGEST_EXPONENT),
        ty => {
            let halves = GROUP_ROWS * 2 * ty.f16_scales();
            scales.chunks_exact(scale_bytes(ty)).all(|block| float::all_finite(TensorType::F16, &block[..halves]))
        }
    }
}

/// Writes some rows of a whole packed tensor to `plain`, one after the other.
///
/// # Panics
/// When there are no such rows, `packed` is shorter than the tensor or `plain` is not as long as the rows.
pub fn unpack_rows(layout: &PackedLayout, packed: &[u8], rows: Range<usize>, plain: &mut [u8]) {
    assert!(rows.start <= rows.end && rows.end <= layout.rows, "rows {rows:?} of {}", layout.rows);
    assert_eq!(plain.len(), rows.len() * layout.row_bytes, "bytes of the plain rows");
    for (row, plain) in rows.zip(plain.chunks_exact_mut(layout.row_bytes)) {
        let (quants, scales) = layout.group(packed, row / GROUP_ROWS);
        unpack_row(layout, quants, scales, row % GROUP_ROWS, plain);
    }
}

/// The f32 values of row `row` of a whole packed tensor, the same as [`blocks::dequantize`] gives for the plain row.
///
/// # Panics
/// When there is no such row, `packed` is shorter than the tensor or `out` does not have one element for each column.
pub fn dequantize_row(layout: &PackedLayout, packed: &[u8], row: usize, out: &mut [f32]) {
    assert!(row < layout.rows, "row {row} of {}", layout.rows);
    assert_eq!(out.len(), layout.cols, "columns");
    let (quants, scales) = layout.group(packed, row / GROUP_ROWS);
    let lane = row % GROUP_ROWS;
    fn dequantize<B: Block>(quants: &[u8], scales: &[u8], lane: usize, out: &mut [f32]) {
        for (b, out) in out.chunks_exact_mut(B::TYPE.block_len()).enumerate() {
            gather_block::<B>(quants, scales, b, lane).dequantize(out);
        }
    }
    with_block!(layout.ty, dequantize(quants, scales, lane, out), float: {
        let mut plain = vec![0; layout.row_bytes];
        unpack_row(layout, quants, scales, lane, &mut plain);
        blocks::dequantize(layout.ty, &plain, out).expect("lengths were checked");
    });
}

/// Packs a whole tensor.
///
/// ```
/// use quipu_quant::TensorType;
/// use quipu_quant::pack::{PackedLayout, pack, unpack};
///
/// // 20 rows of 64 columns; a block of Q4_0 is 32 weights in 18 bytes.
/// let layout = PackedLayout::new(TensorType::Q4_0, 20, 64).expect("whole blocks");
/// let rows: Vec<u8> = (0..20 * 2 * 18).map(|i| i as u8).collect();
/// let packed = pack(&layout, &rows);
/// assert_eq!(unpack(&layout, &packed), rows);
/// ```
///
/// # Panics
/// When `plain` is not `rows` times [`PackedLayout::row_bytes`] long.
pub fn pack(layout: &PackedLayout, plain: &[u8]) -> Vec<u8> {
    assert_eq!(plain.len(), layout.rows * layout.row_bytes, "bytes of the plain rows");
    let mut packed = vec![0; layout.total_bytes];
    let (all_quants, all_scales) = packed.split_at_mut(layout.scales_offset);
    let mut scales = all_scales;
    let groups = plain.chunks(GROUP_ROWS * layout.row_bytes);
    for (rows, quants) in groups.zip(all_quants.chunks_exact_mut(layout.group_quant_bytes)) {
        // Float types have no scales, and chunks of zero bytes are not for chunks_exact_mut.
        let (here, rest) = scales.split_at_mut(layout.group_scale_bytes);
        pack_group(layout, rows, quants, here);
        scales = rest;
    }
    packed
}

/// Inverse of [`pack`].
///
/// # Panics
/// When `packed` is shorter than the tensor.
pub fn unpack(layout: &PackedLayout, packed: &[u8]) -> Vec<u8> {
    let mut plain = vec![0; layout.rows * layout.row_bytes];
    unpack_rows(layout, packed, 0..layout.rows, &mut plain);
    plain
}

fn pack_blocks<B: Block>(layout: &PackedLayout, rows: &[u8], quants: &mut [u8], scales: &mut [u8]) {
    let block_quants = B::TYPE.block_len() / SUB * B::BITS * LINE;
    let quants = quants.chunks_exact_mut(block_quants);
    for (b, (quants, scales)) in quants.zip(scales.chunks_exact_mut(scale_bytes(B::TYPE))).enumerate() {
        for (r, row) in rows.chunks_exact(layout.row_bytes).enumerate() {
            let bytes = &row[b * size_of::<B>()..][..size_of::<B>()];
            scatter_codes::<B>(&bytemuck::pod_read_unaligned(bytes), r, quants);
            for (place, offset) in scale_places::<B>(r) {
                scales[place] = bytes[offset];
            }
        }
    }
}

fn scatter_codes<B: Block>(block: &B, r: usize, quants: &mut [u8]) {
    for (sub, lines) in quants.chunks_exact_mut(B::BITS * LINE).enumerate() {
        let words = to_lines::<B>(&block.codes(sub));
        for (line, word) in lines.chunks_exact_mut(LINE).zip(words) {
            line[4 * r..4 * r + 4].copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// Block `b` of row `r` of a group, put together again.
fn gather_block<B: Block>(quants: &[u8], scales: &[u8], b: usize, r: usize) -> B {
    let subs = B::TYPE.block_len() / SUB;
    let mut block = B::zeroed();
    for sub in 0..subs {
        let lines = &quants[(b * subs + sub) * B::BITS * LINE..][..B::BITS * LINE];
        let mut words = [0; SUB / 4];
        for (word, line) in words.iter_mut().zip(lines.chunks_exact(LINE)) {
            *word = u32::from_le_bytes([line[4 * r], line[4 * r + 1], line[4 * r + 2], line[4 * r + 3]]);
        }
        block.set_codes(sub, &from_lines::<B>(&words));
    }
    let scales = &scales[b * scale_bytes(B::TYPE)..][..scale_bytes(B::TYPE)];
    let bytes = bytemuck::bytes_of_mut(&mut block);
    for (place, offset) in scale_places::<B>(r) {
        bytes[offset] = scales[place];
    }
    block
}

/// Where the scale bytes of row `r` are: for each byte its place in the group's scales of one block, and its offset in
/// the plain block.
fn scale_places<B: Block>(r: usize) -> impl Iterator<Item = (usize, usize)> {
    let f16s = (0..2 * B::F16_SCALES.len()).map(move |n| {
        let (field, byte) = (n / 2, n % 2);
        (2 * (GROUP_ROWS * field + r) + byte, B::F16_SCALES[field] + byte)
    });
    let bytes_start = 2 * GROUP_ROWS * B::F16_SCALES.len();
    f16s.chain(B::BYTE_SCALES.enumerate().map(move |(n, offset)| (bytes_start + GROUP_ROWS * n + r, offset)))
}

/// One row's 4 bytes in each of the `B::BITS` lines for these codes. The table at the top of this file, 4 columns at a
/// time: word `j` has columns `4j..4j + 4`.
fn to_lines<B: Block>(codes: &[u8; SUB]) -> [u32; SUB / 4] {
    let words: [u32; SUB / 4] = bytemuck::pod_read_unaligned(codes);
    let mut lines = [0; SUB / 4];
    match B::BITS {
        8 => return words,
        2 | 3 => {
            for j in 0..8 {
                lines[j / 4] |= (words[j] & 0x0303_0303) << (2 * (j % 4));
            }
        }
        _ => bytemuck::bytes_of_mut(&mut lines)[..SUB / 2].copy_from_slice(&join_nibbles(codes)),
    }
    for j in 0..8 {
        match B::BITS {
            3 => lines[2] |= (words[j] >> 2 & 0x0101_0101) << j,
            5 => lines[4] |= (words[j] >> 4 & 0x0101_0101) << j,
            6 => lines[4 + j / 4] |= (words[j] >> 4 & 0x0303_0303) << (2 * (j % 4)),
            _ => {}
        }
    }
    lines
}

/// Inverse of [`to_lines`].
fn from_lines<B: Block>(lines: &[u32; SUB / 4]) -> [u8; SUB] {
    let mut words = match B::BITS {
        8 => *lines,
        2 | 3 => {
            let mut words = [0; SUB / 4];
            for j in 0..8 {
                words[j] = lines[j / 4] >> (2 * (j % 4)) & 0x0303_0303;
            }
            words
        }
        _ => bytemuck::cast(split_nibbles(&bytemuck::cast([lines[0], lines[1], lines[2], lines[3]]))),
    };
    for j in 0..8 {
        match B::BITS {
            3 => words[j] |= (lines[2] >> j & 0x0101_0101) << 2,
            5 => words[j] |= (lines[4] >> j & 0x0101_0101) << 4,
            6 => words[j] |= (lines[4 + j / 4] >> (2 * (j % 4)) & 0x0303_0303) << 4,
            _ => {}
        }
    }
    bytemuck::cast(words)
}

fn unpack_row(layout: &PackedLayout, quants: &[u8], scales: &[u8], r: usize, row: &mut [u8]) {
    fn unpack<B: Block>(quants: &[u8], scales: &[u8], r: usize, row: &mut [u8]) {
        for (b, bytes) in row.chunks_exact_mut(size_of::<B>()).enumerate() {
            bytes.copy_from_slice(bytemuck::bytes_of(&gather_block::<B>(quants, scales, b, r)));
        }
    }
    fn unpack_values<const N: usize>(quants: &[u8], r: usize, row: &mut [u8]) {
        for (value, lanes) in row.as_chunks_mut::<N>().0.iter_mut().zip(quants.chunks_exact(N * GROUP_ROWS)) {
            *value = lanes.as_chunks().0[r];
        }
    }
    with_block!(layout.ty, unpack(quants, scales, r, row), float: match layout.ty {
        TensorType::F32 => unpack_values::<4>(quants, r, row),
        _ => unpack_values::<2>(quants, r, row),
    });
}

/// Values of `N` bytes: for each column the values of 16 rows.
fn transpose<const N: usize>(cols: usize, rows: &[u8], quants: &mut [u8]) {
    /// Columns at a time, few enough that their part of `quants` stays in the first-level cache.
    const TILE: usize = 64;
    for (t, quants) in quants.chunks_mut(TILE * N * GROUP_ROWS).enumerate() {
        for (r, row) in rows.chunks_exact(cols * N).enumerate() {
            let values = row[t * TILE * N..].as_chunks::<N>().0;
            for (lanes, value) in quants.chunks_exact_mut(N * GROUP_ROWS).zip(values) {
                lanes.as_chunks_mut().0[r] = *value;
            }
        }
    }
}
