//! The scales plane of a row group, widened to what the block loop multiplies with.

use std::ops::{Deref, DerefMut};

use crate::simd::{LINE, Simd, u16s};

use super::form::Form;

/// Blocks of 32 columns in a block of 256.
pub(crate) const SUPER: usize = 8;

/// A scale of each of the 16 rows of a group, in one line of the cache: loads that need two lines take twice as long.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct RowScales([f32; 16]);

impl Deref for RowScales {
    type Target = [f32];
    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for RowScales {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// The scales of [`SUPER`] blocks of 32 columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct SuperScales {
    /// What integer sums are multiplied by: [`Scaling::SCALES`] for each block.
    pub(crate) d: [RowScales; 2 * SUPER],
    /// What `d·Σq` of the activations is multiplied by: [`Scaling::MINS`] for each block.
    pub(crate) m: [RowScales; 2 * SUPER],
}

/// The scales of a group, block by block; what its type does not have is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupScales {
    pub(crate) d: Vec<RowScales>,
    pub(crate) m: Vec<RowScales>,
}

/// The scales of one block.
#[derive(Clone, Copy)]
pub(crate) struct BlockScales<'a> {
    /// [`Form::SCALES`].
    pub(crate) d: &'a [RowScales],
    /// [`Form::MINS`].
    pub(crate) m: &'a [RowScales],
}

impl<'a> BlockScales<'a> {
    /// Those of block `b`.
    #[inline(always)]
    pub(crate) fn of<F: Form>(d: &'a [RowScales], m: &'a [RowScales], b: usize) -> BlockScales<'a> {
        BlockScales { d: &d[F::SCALES * b..][..F::SCALES], m: &m[F::MINS * b..][..F::MINS] }
    }
}

/// How a block's sum becomes part of an output, and how the scales for that are stored.
pub(crate) trait Scaling {
    /// Scales of a block: one, or one for each half.
    const SCALES: usize = 1;
    /// Minima that are added: none, one, or one for each half of a block.
    const MINS: usize = 0;
    /// Bytes of a unit of the scales plane: the smallest part that can be widened alone.
    const BYTES: usize;
    /// Blocks of a unit, a divisor of [`SUPER`].
    const BLOCKS: usize;

    /// Widens one unit into the scales of the blocks from `at` on; what the type does not have stays as it is.
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, at: usize);
}

/// Sixteen binary16 numbers as f32.
#[inline(always)]
fn widen_f16<S: Simd>(s: S, bytes: &[u8], out: &mut RowScales) {
    let bits = u16s(bytes);
    for sub in 0..S::SUBS {
        let at = sub * S::LANES;
        s.store(s.load_f16(&bits[at..]), &mut out[at..]);
    }
}

/// A scale: Q4_0, Q5_0, Q8_0.
pub(crate) struct Plain;
impl Scaling for Plain {
    const BYTES: usize = 32;
    const BLOCKS: usize = 1;
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, at: usize) {
        widen_f16(s, unit, &mut out.d[at]);
    }
}

/// A scale for 256 columns: TQ2_0.
pub(crate) struct OneForAll;
impl Scaling for OneForAll {
    const BYTES: usize = 32;
    const BLOCKS: usize = SUPER;
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, _: usize) {
        for block in &mut out.d[..SUPER] {
            widen_f16(s, unit, block);
        }
    }
}

/// A power of two: MXFP4.
pub(crate) struct PowerOfTwo;
impl Scaling for PowerOfTwo {
    const BYTES: usize = 16;
    const BLOCKS: usize = 1;

    /// `2^(e − 128)`, for the smallest exponents in two factors, since it is subnormal then.
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, at: usize) {
        let one = s.splat(1.0);
        for sub in 0..S::SUBS {
            let from = sub * S::LANES;
            let n = s.sub(s.load_u8(&unit[from..]), s.splat(128.0));
            let normal = s.max(n, s.splat(-126.0));
            let rest = s.scale_by_power_of_two(one, s.sub(n, normal));
            s.store(s.mul(s.scale_by_power_of_two(one, normal), rest), &mut out.d[at][from..]);
        }
    }
}

/// A scale and a minimum: Q4_1, Q5_1.
pub(crate) struct WithMin;
impl Scaling for WithMin {
    const MINS: usize = 1;
    const BYTES: usize = 64;
    const BLOCKS: usize = 1;
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, at: usize) {
        widen_f16(s, unit, &mut out.d[at]);
        widen_f16(s, &unit[32..], &mut out.m[at]);
    }
}

/// A scale and a minimum of which each block has six bits: Q4_K, Q5_K.
pub(crate) struct SixBits;
impl Scaling for SixBits {
    const MINS: usize = 1;
    const BYTES: usize = 64 + 3 * LINE;
    const BLOCKS: usize = SUPER;

    /// The format's 12 bytes of scales are three lines here: `a` has the six bits of scales 0–3 and `b` of minima 0–3,
    /// each with two bits of number 4–7 on top, whose other four bits are the nibbles of `c`. Products are exact: 11
    /// bits of f16 times 6 bits.
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, _: usize) {
        let packed = &unit[64..];
        let (mut scales, mut minima) = ([0; 2 * LINE], [0; 2 * LINE]);
        for sub in 0..S::SUBS {
            let [a, b, c] = [s.line(packed, sub), s.line(&packed[LINE..], sub), s.line(&packed[2 * LINE..], sub)];
            s.store_line(s.or_bits::<2, 4>(s.low_nibbles(a), a, 4), &mut scales, sub);
            s.store_line(s.or_bits::<2, 4>(s.low_nibbles(c), a, 6), &mut scales[LINE..], sub);
            s.store_line(s.or_bits::<2, 4>(s.low_nibbles(b), b, 4), &mut minima, sub);
            s.store_line(s.or_bits::<2, 4>(s.high_nibbles(c), b, 6), &mut minima[LINE..], sub);
        }
        let (d, dmin) = (u16s(unit), u16s(&unit[32..]));
        for sub in 0..S::SUBS {
            let at = sub * S::LANES;
            let d = s.load_f16(&d[at..]);
            let minus = s.mul(s.splat(-1.0), s.load_f16(&dmin[at..]));
            for g in 0..SUPER {
                s.store(s.mul(d, s.load_u8(&scales[16 * g + at..])), &mut out.d[g][at..]);
                s.store(s.mul(minus, s.load_u8(&minima[16 * g + at..])), &mut out.m[g][at..]);
            }
        }
    }
}

/// A scale and a minimum of which each half of a block has four bits: Q2_K.
pub(crate) struct FourBits;
impl Scaling for FourBits {
    const SCALES: usize = 2;
    const MINS: usize = 2;
    const BYTES: usize = 64 + 4 * LINE;
    const BLOCKS: usize = SUPER;

    /// A byte has a scale in its low, a minimum in its high half. Products are exact: 11 bits of f16 times 4 bits.
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, _: usize) {
        let packed = &unit[64..];
        let (mut scales, mut minima) = ([0; 4 * LINE], [0; 4 * LINE]);
        for at in [0, LINE, 2 * LINE, 3 * LINE] {
            for sub in 0..S::SUBS {
                let line = s.line(&packed[at..], sub);
                s.store_line(s.low_nibbles(line), &mut scales[at..], sub);
                s.store_line(s.high_nibbles(line), &mut minima[at..], sub);
            }
        }
        let (d, dmin) = (u16s(unit), u16s(&unit[32..]));
        for sub in 0..S::SUBS {
            let at = sub * S::LANES;
            let d = s.load_f16(&d[at..]);
            let minus = s.mul(s.splat(-1.0), s.load_f16(&dmin[at..]));
            for g in 0..2 * SUPER {
                s.store(s.mul(d, s.load_u8(&scales[16 * g + at..])), &mut out.d[g][at..]);
                s.store(s.mul(minus, s.load_u8(&minima[16 * g + at..])), &mut out.m[g][at..]);
            }
        }
    }
}

/// A scale of which each half of a block has six bits around 32: Q3_K.
pub(crate) struct SixBitHalves;
impl Scaling for SixBitHalves {
    const SCALES: usize = 2;
    const BYTES: usize = 32 + 3 * LINE;
    const BLOCKS: usize = SUPER;

    /// The format's 12 bytes of scales are three lines here: `a` has the low four bits of scales 0–3 and 8–11, `b` of
    /// 4–7 and 12–15, `c` two bits of every fourth. Products are exact: 11 bits of f16 times 6 bits.
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, _: usize) {
        let packed = &unit[32..];
        let mut scales = [0; 4 * LINE];
        for sub in 0..S::SUBS {
            let [a, b, c] = [s.line(packed, sub), s.line(&packed[LINE..], sub), s.line(&packed[2 * LINE..], sub)];
            s.store_line(s.or_bits::<2, 4>(s.low_nibbles(a), c, 0), &mut scales, sub);
            s.store_line(s.or_bits::<2, 4>(s.low_nibbles(b), c, 2), &mut scales[LINE..], sub);
            s.store_line(s.or_bits::<2, 4>(s.high_nibbles(a), c, 4), &mut scales[2 * LINE..], sub);
            s.store_line(s.or_bits::<2, 4>(s.high_nibbles(b), c, 6), &mut scales[3 * LINE..], sub);
        }
        let d = u16s(unit);
        for sub in 0..S::SUBS {
            let at = sub * S::LANES;
            let (d, zero) = (s.load_f16(&d[at..]), s.splat(32.0));
            for g in 0..2 * SUPER {
                let scale = s.load_u8(&scales[16 * g + at..]);
                s.store(s.mul(d, s.sub(scale, zero)), &mut out.d[g][at..]);
            }
        }
    }
}

/// A scale of which each block has six bits around 32: IQ4_XS.
pub(crate) struct SixBitScales;
impl Scaling for SixBitScales {
    const BYTES: usize = 32 + 32 + LINE;
    const BLOCKS: usize = SUPER;

    /// Two bits each of scales 0–3 stand in the sixteen bytes `h0`, of 4–7 in `h1`; then the low four bits in a line,
    /// of two scales in a byte. Products are exact: 11 bits of f16 times 6 bits.
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, _: usize) {
        let (high, low) = (&unit[32..64], &unit[64..]);
        // Below each of the low bytes the one that has its upper bits. The four lines have them for scales 0 and 4, 1
        // and 5, 2 and 6, 3 and 7; what they have for others is not used.
        let mut above = [0; LINE];
        for (i, above) in above.chunks_exact_mut(16).enumerate() {
            above.copy_from_slice(&high[16 * (i / 2)..][..16]);
        }
        let mut scales = [0; 4 * LINE];
        for sub in 0..S::SUBS {
            let (low, high) = (s.line(low, sub), s.line(&above, sub));
            s.store_line(s.or_bits::<2, 4>(s.low_nibbles(low), high, 0), &mut scales, sub);
            s.store_line(s.or_bits::<2, 4>(s.high_nibbles(low), high, 2), &mut scales[LINE..], sub);
            s.store_line(s.or_bits::<2, 4>(s.low_nibbles(low), high, 4), &mut scales[2 * LINE..], sub);
            s.store_line(s.or_bits::<2, 4>(s.high_nibbles(low), high, 6), &mut scales[3 * LINE..], sub);
        }
        let d = u16s(unit);
        for sub in 0..S::SUBS {
            let at = sub * S::LANES;
            let (d, zero) = (s.load_f16(&d[at..]), s.splat(32.0));
            for g in 0..SUPER {
                let scale = s.load_u8(&scales[LINE * (g % 4) + 16 * (g / 2) + at..]);
                s.store(s.mul(d, s.sub(scale, zero)), &mut out.d[g][at..]);
            }
        }
    }
}

/// A scale, of which each half of a block has eight bits: Q6_K.
pub(crate) struct EightBitHalves;
impl Scaling for EightBitHalves {
    const SCALES: usize = 2;
    const BYTES: usize = 32 + SUPER * 32;
    const BLOCKS: usize = SUPER;

    /// Products are exact: 11 bits of f16 times 8 bits.
    #[inline(always)]
    fn widen<S: Simd>(s: S, unit: &[u8], out: &mut SuperScales, _: usize) {
        let (d, scales) = (u16s(unit), &unit[32..]);
        for sub in 0..S::SUBS {
            let at = sub * S::LANES;
            let d = s.load_f16(&d[at..]);
            for g in 0..2 * SUPER {
                s.store(s.mul(d, s.load_i8(&scales[16 * g + at..])), &mut out.d[g][at..]);
            }
        }
    }
}

impl GroupScales {
    /// Widens the scales plane of one group.
    #[inline(always)]
    pub(crate) fn widen<S: Simd, K: Scaling>(&mut self, s: S, plane: &[u8]) {
        self.d.clear();
        self.m.clear();
        let mut scales = SuperScales::default();
        for unit in plane.chunks_exact(K::BYTES) {
            K::widen(s, unit, &mut scales, 0);
            self.d.extend_from_slice(&scales.d[..K::SCALES * K::BLOCKS]);
            self.m.extend_from_slice(&scales.m[..K::MINS * K::BLOCKS]);
        }
    }
}
