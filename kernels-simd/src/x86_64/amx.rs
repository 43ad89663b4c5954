//! AMX: products of tiles of int8, for tiles of 16 rows of activations; everything else is AVX-512.
//!
//! One `tdpbssd` multiplies 16 rows of activations × 32 columns by 16 output rows × the same 32 columns, which are the
//! eight lines of a block as they lie in memory: a line is a row of the second operand. So a product is the exact sum
//! `S_b` of a block for 256 outputs. Then the sums go to memory, since there is no other way out of a tile, and AVX-512
//! scales them and adds them up in the order that the design prescribes. The 256 outputs stay in 16 vector registers
//! from the first block to the last.
//!
//! Codes are widened to signed values, without an offset, so sums start from zero.
//!
//! # Shape
//!
//! Measured on an Emerald Rapids (family 6, model 207; 2.6 to 2.8 GHz while tiles are in use) on one thread, by loops
//! that do a part of the work alone; cycles of a block of 16 × 16 outputs, which are 8192 multiplications:
//!
//! | | scale only |
//! |---|---|
//! | multiplying: a row of activations each cycle, whatever its length | 16 |
//! | loading 16 rows of activations: from the first-level cache, from the second | 10, 16 |
//! | loading 8 lines of codes, from the second | 6 |
//! | storing the sums | 16 |
//! | scaling and adding them | 17 |
//! | loads, multiplying and stores, all in the first-level cache | 16 |
//! | the same, with codes and activations of 2048 columns, which pass through the second | 36 |
//! | all of it | 56 |
//!
//! So tiles overlap as they should, and what they wait for is the way from the second-level cache: 16 lines for a
//! product. Codes of 2048 columns and as many activations are 64 KB, more than the first level holds. All of it is 390
//! multiplications a nanosecond, where the tiles alone could do 1380; the kernel as it is called does 320.
//!
//! Where two threads share a core there is less to gain: products of 512 rows with all 16 threads of 8 cores are 1400
//! to 1600 multiplications a nanosecond, and 1460 by AVX-512. Fewer rows are faster by AVX-512 (`Tuning::AMX`), as
//! weights stream by.
//!
//! Tried there, and no faster: one or two buffers of sums instead of four, two products under way, scaling before the
//! next product begins or amid its loads, two groups or two tiles that share loads (their sums take the room that the
//! loads save), the sums of several blocks before any is scaled; nor codes that are widened on the way to tiles,
//! without a pass of their own (16 rows as fast, 24 to 48 rows slower). With 16 threads neither: blocking over columns
//! (8 or 16 blocks of up to eight tiles and eight groups, sums in memory meanwhile: 970 to 1300 multiplications a
//! nanosecond where there were 1400), scaling a sum when one, two or three more had been stored, asking for the next
//! codes amid products, tiles of 8 and fewer rows (607 where AVX-512 does 908).
//!
//! Four products are under way: tiles 0 to 3 take sums in turn, and a sum is stored when three more products have been
//! started.

use std::arch::{asm, x86_64::*};
use std::hint::black_box;

use crate::gemm::WidenedGroup;
use crate::operands::activations::{Acts, Tile};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::{BlockScales, GroupScales};
use crate::ops::blocks::scaled;
use crate::ops::roofline::Int8Loop;
use crate::simd::{ActBlock, LINE, Simd};

use super::avx512::{Avx512, Tiles};

/// A CPU with AVX-512 F, BW, DQ, VL and VNNI and AMX-INT8, whose tiles the system lets this process use.
pub(crate) type Amx = Avx512<Int8Tiles>;

/// Multiplication by `tdpbssd`.
#[derive(Clone, Copy)]
pub(crate) struct Int8Tiles;

/// Rows of a tile of activations, and of a tile of sums.
const ROWS: usize = 16;

/// Products under way: tiles 0 to 3 hold their sums, 4 and 5 take activations in turn, 6 and 7 codes.
const DEPTH: usize = 4;

impl Tiles for Int8Tiles {
    const FULL_TILE: usize = ROWS;
    // What streams is multiplied by AVX-512. Measured on Emerald Rapids: Q6_K, dear to widen, is faster by tiles.
    const STREAMED_WORK: usize = 4;
    // Codes that are widened here are tiles', without an offset.
    const WIDENED_WORK: usize = usize::MAX;

    #[inline(always)]
    fn codes(_: Amx, line: __m512i, offset: i32) -> __m512i {
        // SAFETY: an `Amx` exists, so this CPU has AVX-512BW; the operands are values.
        unsafe { _mm512_sub_epi8(line, _mm512_set1_epi8(offset as i8)) }
    }

    #[inline(always)]
    fn group_tiles<F: Form>(cpu: Amx, groups: &[WidenedGroup<'_>], tiles: &[Tile], mut out: MatMut<'_>) {
        for (g, group) in groups.iter().enumerate() {
            let out = out.part(0..tiles.len() * ROWS, 16 * g..16 * (g + 1));
            group_tiles::<F>(cpu, group.codes, group.scales, tiles, out);
        }
    }

    /// Four sums, two operands for either side, all in tiles: there is but one way to go about it.
    #[inline(always)]
    fn int8_loop(_: Amx, _bits: u32, _: Int8Loop, rounds: usize) -> u64 {
        // SAFETY: an `Amx` exists, so this CPU has the instructions.
        let _shape = unsafe { Shape::configure(16, 64) };
        let operands = black_box([1u8; 16 * LINE]);
        // SAFETY: `operands` has 16 rows of 64 bytes, and the tiles were configured for as many.
        unsafe {
            asm!(
                "tileloadd tmm4, [{at} + {line}]",
                "tileloadd tmm5, [{at} + {line}]",
                "tileloadd tmm6, [{at} + {line}]",
                "tileloadd tmm7, [{at} + {line}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                at = in(reg) operands.as_ptr(),
                line = in(reg) LINE,
                options(nostack, preserves_flags, readonly),
            );
        }
        for _ in 0..rounds {
            // SAFETY: the tiles were configured and loaded.
            unsafe {
                asm!(
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tdpbssd tmm1, tmm4, tmm7",
                    "tdpbssd tmm2, tmm5, tmm6",
                    "tdpbssd tmm3, tmm5, tmm7",
                    options(nostack, preserves_flags, nomem),
                );
            }
        }
        (rounds * 4 * 16 * 16 * 64) as u64
    }
}

/// Tiles configured on this thread, released when dropped. What is in them between two pieces of `asm!` stays there:
/// the compiler has no use for tiles and the system keeps them for each thread.
struct Shape;

impl Shape {
    /// Sums of 16 rows × 16 outputs; activations of 16 rows × `columns` bytes; codes of `lines` lines.
    ///
    /// # Safety
    /// This CPU has AMX and the system lets this process use it.
    unsafe fn configure(lines: u8, columns: u8) -> Shape {
        /// The operand of `ldtilecfg` (Intel SDM volume 2).
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        const _: () = assert!(size_of::<Config>() == 64);
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for tile in 0..8 {
            let (rows, row_bytes) = match tile {
                0..DEPTH => (ROWS as u8, LINE as u16),
                4 | 5 => (ROWS as u8, u16::from(columns)),
                _ => (lines, LINE as u16),
            };
            config.rows[tile] = rows;
            config.row_bytes[tile] = row_bytes;
        }
        // SAFETY: `config` is 64 readable bytes that say what palette 1 allows; the caller has the instruction.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags, readonly)) };
        Shape
    }
}

impl Drop for Shape {
    fn drop(&mut self) {
        // SAFETY: a `Shape` exists, so the CPU has AMX.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}

/// Sums of a block, or of half a one: activation row, then output.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Sums([[i32; 16]; ROWS]);

/// Starts product `$i` modulo [`DEPTH`], of the activations at `$acts` with the codes at `$codes`.
macro_rules! start {
    ($sum:literal, $a:literal, $b:literal, $acts:expr, $codes:expr) => {
        asm!(
            concat!("tileloadd tmm", $b, ", [{codes} + {line}]"),
            concat!("tileloadd tmm", $a, ", [{acts} + {row}]"),
            concat!("tilezero tmm", $sum),
            concat!("tdpbssd tmm", $sum, ", tmm", $a, ", tmm", $b),
            codes = in(reg) $codes,
            acts = in(reg) $acts,
            line = in(reg) LINE,
            row = in(reg) size_of::<ActBlock>(),
            options(nostack, preserves_flags, readonly),
        )
    };
}

/// Stores the sums of tile `$sum`.
macro_rules! store {
    ($sum:literal, $sums:expr) => {
        asm!(
            concat!("tilestored [{sums} + {line}], tmm", $sum),
            sums = in(reg) &raw mut $sums,
            line = in(reg) LINE,
            options(nostack, preserves_flags),
        )
    };
}

/// See [`Tiles::group_tiles`].
#[inline(always)]
fn group_tiles<F: Form>(cpu: Amx, codes: &[u8], scales: &GroupScales, tiles: &[Tile], mut out: MatMut<'_>) {
    // Products for each block: one, or one for either half.
    let parts = F::SCALES;
    let lines = 8 / parts;
    // SAFETY: an `Amx` exists, so this CPU has AMX and the system lets this process use it.
    let _shape = unsafe { Shape::configure(lines as u8, 4 * lines as u8) };
    for (i, tile) in tiles.iter().enumerate() {
        let blocks = tile.blocks;
        assert!(tile.rows == ROWS && tile.q.len() == blocks * ROWS && codes.len() == blocks * 8 * LINE);
        assert!(tile.d.len() == blocks * ROWS && scales.d.len() == F::SCALES * blocks);
        assert!(tile.weighted::<F>().len() == F::MINS * blocks * ROWS && scales.m.len() == F::MINS * blocks);
        let mut acc = [cpu.splat(0.0); ROWS];
        let mut sums = [Sums([[0; 16]; ROWS]); DEPTH];
        let products = blocks * parts;
        let mut first = 0;
        while first < products + DEPTH {
            macro_rules! step {
                ($i:literal, $a:literal, $b:literal) => {
                    let now = first + $i;
                    let done = now.wrapping_sub(DEPTH);
                    if done < products {
                        // SAFETY: tile `$i` was configured, for as many rows as `sums` has; a product ended in it.
                        unsafe { store!($i, sums[$i]) };
                    }
                    if now < products {
                        let acts = tile.q[now / parts * ROWS].as_ptr().wrapping_add(now % parts * 16);
                        let lines_at = codes[now * lines * LINE..].as_ptr();
                        // SAFETY: `lines` lines at `lines_at` and 16 rows of 4 · `lines` columns, a block of one row
                        // apart, at `acts` are there, as asserted; the tiles were configured for as many.
                        unsafe { start!($i, $a, $b, acts, lines_at) };
                    }
                    if done < products && done % parts == parts - 1 {
                        let b = done / parts;
                        if F::SCALES == 2 {
                            scale::<F>(cpu, b, [&sums[$i & 2], &sums[$i | 1]], scales, tile, &mut acc);
                        } else {
                            scale::<F>(cpu, b, [&sums[$i], &sums[$i]], scales, tile, &mut acc);
                        }
                    }
                };
            }
            step!(0, 4, 6);
            step!(1, 5, 7);
            step!(2, 4, 6);
            step!(3, 5, 7);
            first += DEPTH;
        }
        for m in 0..ROWS {
            cpu.store(acc[m], out.row(ROWS * i + m));
        }
    }
}

/// Adds block `b`, the sums of its products being `sums` (of the two halves, or the same twice), to the outputs.
#[inline(always)]
fn scale<F: Form>(
    cpu: Amx,
    b: usize,
    [sums, second]: [&Sums; 2],
    scales: &GroupScales,
    tile: &Tile,
    acc: &mut [__m512; ROWS],
) {
    let (scales, acts) = (BlockScales::of::<F>(&scales.d, &scales.m, b), Acts::of::<F>(tile, b, ROWS));
    for m in 0..ROWS {
        let mut sum = cpu.to_f32(cpu.load_i32(&sums.0[m]));
        if F::SCALES == 2 {
            let second = cpu.to_f32(cpu.load_i32(&second.0[m]));
            sum = cpu.fma(second, cpu.load(&scales.d[1]), cpu.mul(sum, cpu.load(&scales.d[0])));
        }
        acc[m] = scaled::<_, F>(cpu, sum, 0, scales, acts, m, acc[m]);
    }
}
