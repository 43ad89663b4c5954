//! Products of AVX-512 with four rows of activations and two row groups at once.
//!
//! Four activations come into a register by a load, and a CPU loads no more vectors at a time than it multiplies. The
//! generic kernel keeps a block's eight lines of codes and loads the activations for each product; here these serve two
//! row groups and a line of codes four rows, which takes two thirds of the loads. Then multiplying is what there is
//! least of: on Zen 5, 78 % of all multiplications are `vpdpbusd` (generic kernel: 71), of 80 that the rule for scales
//! leaves possible.

use std::arch::{asm, x86_64::*};

use crate::gemm::{ADDED, Asked, Blocks, Codes, Gemm, MOST_GROUPS, Sums, WidenedGroup, offset, start};
use crate::operands::activations::{TILE_ROWS, Tile};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::ops::codes::Widened;
use crate::simd::{ActBlock, four};

/// A CPU with AVX-512 and VNNI: nothing else has these vectors.
pub(super) trait Cpu: Gemm<V = __m512, I = __m512i, Line = __m512i> {}
impl<S: Gemm<V = __m512, I = __m512i, Line = __m512i>> Cpu for S {}

/// For each row, the sums of each group.
type Acc<const R: usize, const G: usize> = [[__m512; G]; R];

/// `x`, which the compiler takes for another value: so products stay in the order that is written, row by row and group
/// by group, and sums do not wait for each other.
///
/// # Safety
/// The CPU has AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn pin(mut x: __m512i) -> __m512i {
    // SAFETY: no instructions.
    unsafe { asm!("/* {} */", inout(zmm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

/// `acc` and the products of all blocks of `groups`, the first of which is block `block`, with row `row` of `tile` and
/// those after it.
#[inline(always)]
fn add<S: Cpu, C: Codes, P: Codes, F: Form, const R: usize, const G: usize>(
    cpu: S,
    groups: [Blocks<'_>; G],
    tile: &Tile,
    block: usize,
    row: usize,
    ahead: Asked,
    mut acc: Acc<R, G>,
) -> Acc<R, G> {
    let bytes = C::BYTES;
    let offset = const { offset::<S, F>() };
    let lines = const { 8 / F::SCALES };
    let blocks = groups[0].codes.len() / bytes;
    for group in &groups {
        assert!(group.codes.len() == blocks * bytes);
        assert!(group.d.len() == F::SCALES * blocks && group.m.len() == F::MINS * blocks);
    }
    let few = "rows of a tile";
    let mut at = block * tile.rows + row;
    for b in 0..blocks {
        for group in &groups {
            ahead.ask::<_, P>(cpu, group.stored, b);
        }
        let mut codes = [&groups[0].codes[..0]; G];
        for g in 0..G {
            codes[g] = &groups[g].codes[b * bytes..][..bytes];
        }
        let q: &[ActBlock; R] = tile.q[at..].first_chunk().expect(few);
        let d: &[f32; R] = tile.d[at..].first_chunk().expect(few);
        let minus: &[i32; R] = tile.minus[at..].first_chunk().expect(few);
        let halves: &[[i32; 2]; R] = tile.minus_halves[at..].first_chunk().expect(few);
        at += tile.rows;
        let mut sums = [[cpu.splat(0.0); G]; R];
        for part in 0..F::SCALES {
            let mut dots = [[cpu.splat_i32(0); G]; R];
            for r in 0..R {
                let minus = if F::SCALES == 1 { minus[r] } else { halves[r][part] };
                dots[r] = [start::<_, F>(cpu, minus, offset); G];
            }
            for j in part * lines..(part + 1) * lines {
                let mut line = [cpu.splat_i32(0); G];
                for g in 0..G {
                    line[g] = C::line(cpu, codes[g], 0, j);
                }
                for r in 0..R {
                    let acts = cpu.splat_i32(four(&q[r].as_chunks::<4>().0[j]));
                    for g in 0..G {
                        // SAFETY: a `Cpu` exists, so there is AVX-512 VNNI; the operands are values.
                        unsafe { dots[r][g] = pin(_mm512_dpbusd_epi32(dots[r][g], line[g], acts)) };
                    }
                }
            }
            for g in 0..G {
                if F::SCALES == 2 {
                    let scale = cpu.load(&groups[g].d[2 * b + part]);
                    for r in 0..R {
                        let dot = cpu.to_f32(dots[r][g]);
                        sums[r][g] = if part == 0 { cpu.mul(dot, scale) } else { cpu.fma(dot, scale, sums[r][g]) };
                    }
                } else {
                    for r in 0..R {
                        sums[r][g] = cpu.to_f32(dots[r][g]);
                    }
                }
            }
        }
        for r in 0..R {
            let d = cpu.splat(d[r]);
            for g in 0..G {
                acc[r][g] = match F::SCALES {
                    1 => cpu.fma(cpu.mul(cpu.load(&groups[g].d[b]), d), sums[r][g], acc[r][g]),
                    _ => cpu.fma(sums[r][g], d, acc[r][g]),
                };
            }
        }
        for i in 0..F::MINS {
            let at = F::MINS * (block + b) * tile.rows + i * tile.rows + row;
            let weighted = &tile.weighted::<F>()[at..at + R];
            for r in 0..R {
                let weighted = cpu.splat(weighted[r]);
                for g in 0..G {
                    acc[r][g] = cpu.fma(cpu.load(&groups[g].m[F::MINS * b + i]), weighted, acc[r][g]);
                }
            }
        }
    }
    acc
}

/// See [`Gemm::add_rows`].
#[inline(always)]
pub(super) fn add_rows<S: Cpu, C: Codes, P: Codes, F: Form, const R: usize>(
    cpu: S,
    groups: &[Blocks<'_>],
    tile: &Tile,
    block: usize,
    row: usize,
    ahead: Asked,
    sums: &mut [Sums],
) {
    match *groups {
        [one] => add_to::<S, C, P, F, R, 1>(cpu, [one], tile, block, row, ahead, sums),
        [one, two] => add_to::<S, C, P, F, R, 2>(cpu, [one, two], tile, block, row, ahead, sums),
        _ => unreachable!("one group or two"),
    }
}

#[inline(always)]
fn add_to<S: Cpu, C: Codes, P: Codes, F: Form, const R: usize, const G: usize>(
    cpu: S,
    groups: [Blocks<'_>; G],
    tile: &Tile,
    block: usize,
    row: usize,
    ahead: Asked,
    sums: &mut [Sums],
) {
    let mut acc = [[cpu.splat(0.0); G]; R];
    for r in 0..R {
        for g in 0..G {
            acc[r][g] = cpu.load(&sums[r * G + g].0);
        }
    }
    acc = add::<S, C, P, F, R, G>(cpu, groups, tile, block, row, ahead, acc);
    for r in 0..R {
        for g in 0..G {
            cpu.store(acc[r][g], &mut sums[r * G + g].0);
        }
    }
}

/// See [`Gemm::group_tiles`].
#[inline(always)]
pub(super) fn group_tiles<S: Cpu, F: Form>(cpu: S, groups: &[WidenedGroup<'_>], tiles: &[Tile], out: MatMut<'_>) {
    const { assert!(MOST_GROUPS == 2) };
    match *groups {
        [one] => tiles_of::<S, F, 1>(cpu, [one.blocks()], tiles, out),
        [one, two] => tiles_of::<S, F, 2>(cpu, [one.blocks(), two.blocks()], tiles, out),
        _ => unreachable!("one group or two"),
    }
}

#[inline(always)]
fn tiles_of<S: Cpu, F: Form, const G: usize>(cpu: S, groups: [Blocks<'_>; G], tiles: &[Tile], mut out: MatMut<'_>) {
    for (i, tile) in tiles.iter().enumerate() {
        for row in (0..TILE_ROWS).step_by(ADDED) {
            let acc = add::<S, Widened, Widened, F, ADDED, G>(
                cpu,
                groups,
                tile,
                0,
                row,
                Asked::NOTHING,
                [[cpu.splat(0.0); G]; ADDED],
            );
            for r in 0..ADDED {
                let out = out.row(i * TILE_ROWS + row + r);
                for g in 0..G {
                    cpu.store(acc[r][g], &mut out[16 * g..]);
                }
            }
        }
    }
}
