//! Codes as R16·K4 stores them (the table in `quipu_quant::pack`), widened to a byte each.

use quipu_quant::blocks::{E2M1_DOUBLED, IQ4_VALUES};

use crate::gemm::{Codes, Gemm};
use crate::simd::{LINE, Simd};

// Vectors are gathered by loops and not by closures: a closure that LLVM leaves out of line loses the ISA's features.

/// Four lines of nibbles.
#[inline(always)]
fn nibbles<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
    let mut lines = [s.line(block, sub); 8];
    for j in 0..4 {
        let pair = s.line(&block[LINE * j..], sub);
        lines[j] = s.low_nibbles(pair);
        lines[j + 4] = s.high_nibbles(pair);
    }
    lines
}

/// Line `j` of these.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[inline(always)]
fn nibble<S: Simd>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
    let pair = s.line(&block[LINE * (j % 4)..], sub);
    if j < 4 { s.low_nibbles(pair) } else { s.high_nibbles(pair) }
}

/// Two lines of which each has two bits of four lines.
#[inline(always)]
fn bit_pairs<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
    let mut lines = [s.line(block, sub); 8];
    for j in 0..8 {
        lines[j] = s.bits::<2>(s.line(&block[LINE * (j / 4)..], sub), 2 * (j as u32 % 4));
    }
    lines
}

/// Line `j` of these.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[inline(always)]
fn bit_pair<S: Simd>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
    s.bits::<2>(s.line(&block[LINE * (j / 4)..], sub), 2 * (j as u32 % 4))
}

/// Q2_K.
pub(crate) struct Packed2;
impl Codes for Packed2 {
    const BITS: u32 = 2;
    const BYTES: usize = 2 * LINE;
    const WORK: usize = 2;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        bit_pairs(s, block, sub)
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        bit_pair(s, block, sub, j)
    }
}

/// Q3_K: a third line holds bit 2 of the codes.
pub(crate) struct Packed3;
impl Codes for Packed3 {
    const BITS: u32 = 3;
    const BYTES: usize = 3 * LINE;
    const WORK: usize = 5;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = bit_pairs(s, block, sub);
        let high = s.line(&block[2 * LINE..], sub);
        for j in 0..8 {
            lines[j] = s.or_bits::<1, 2>(lines[j], high, j as u32);
        }
        lines
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        s.or_bits::<1, 2>(bit_pair(s, block, sub, j), s.line(&block[2 * LINE..], sub), j as u32)
    }
}

/// Q4_0, Q4_1, Q4_K.
pub(crate) struct Packed4;
impl Codes for Packed4 {
    const BITS: u32 = 4;
    const BYTES: usize = 4 * LINE;
    const WORK: usize = 2;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        nibbles(s, block, sub)
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        nibble(s, block, sub, j)
    }
}

/// Q5_0, Q5_1, Q5_K: a fifth line holds bit 4 of the codes.
pub(crate) struct Packed5;
impl Codes for Packed5 {
    const BITS: u32 = 5;
    const BYTES: usize = 5 * LINE;
    const WORK: usize = 5;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = nibbles(s, block, sub);
        let high = s.line(&block[4 * LINE..], sub);
        for j in 0..8 {
            lines[j] = s.or_bits::<1, 4>(lines[j], high, j as u32);
        }
        lines
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        s.or_bits::<1, 4>(nibble(s, block, sub, j), s.line(&block[4 * LINE..], sub), j as u32)
    }
}

/// Q6_K: two more lines hold bits 4 and 5.
pub(crate) struct Packed6;
impl Codes for Packed6 {
    const BITS: u32 = 6;
    const BYTES: usize = 6 * LINE;
    const WORK: usize = 5;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = nibbles(s, block, sub);
        for j in 0..8 {
            let high = s.line(&block[LINE * (4 + j / 4)..], sub);
            lines[j] = s.or_bits::<2, 4>(lines[j], high, 2 * (j as u32 % 4));
        }
        lines
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        let high = s.line(&block[LINE * (4 + j / 4)..], sub);
        s.or_bits::<2, 4>(nibble(s, block, sub, j), high, 2 * (j as u32 % 4))
    }
}

/// The values of IQ4 as [`Gemm::bytes`] would make codes of them.
const fn iq4_codes(offset: i32) -> [u8; 16] {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 16 {
        codes[i] = (IQ4_VALUES[i] as i32 + offset) as u8;
        i += 1;
    }
    codes
}

/// IQ4_NL, IQ4_XS: nibbles that stand for signed bytes.
pub(crate) struct Table4;
impl Codes for Table4 {
    const BITS: u32 = 8;
    const BYTES: usize = 4 * LINE;
    const WORK: usize = 3;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = nibbles(s, block, sub);
        for j in 0..8 {
            lines[j] = s.look_up(const { &iq4_codes(S::BYTE_OFFSET) }, lines[j]);
        }
        lines
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        s.look_up(const { &iq4_codes(S::BYTE_OFFSET) }, nibble(s, block, sub, j))
    }
}

/// `values` and an offset that makes codes of `bits` bits of them.
const fn moved(values: &[i8; 16], bits: u32) -> [u8; 16] {
    let (mut codes, mut i) = ([0; 16], 0);
    while i < 16 {
        let code = values[i] as i32 + (1 << (bits - 1));
        assert!(0 <= code && code < 1 << bits);
        codes[i] = code as u8;
        i += 1;
    }
    codes
}

/// MXFP4: nibbles that stand for numbers from −12 to 12, which five bits hold. So sums of 16 bits hold four lines.
pub(crate) struct Fp4;
impl Codes for Fp4 {
    const BITS: u32 = 5;
    const BYTES: usize = 4 * LINE;
    const WORK: usize = 3;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = nibbles(s, block, sub);
        for j in 0..8 {
            lines[j] = s.look_up(const { &moved(&E2M1_DOUBLED, 5) }, lines[j]);
        }
        lines
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        s.look_up(const { &moved(&E2M1_DOUBLED, 5) }, nibble(s, block, sub, j))
    }
}

/// What the codes of TQ2_0 stand for.
const TERNARY: [i8; 16] = [-1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// TQ2_0: pairs of bits that stand for numbers from −1 to 2. Four bits hold them, for which every instruction set has
/// sums.
pub(crate) struct Ternary;
impl Codes for Ternary {
    const BITS: u32 = 4;
    const BYTES: usize = 2 * LINE;
    const WORK: usize = 3;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = bit_pairs(s, block, sub);
        for j in 0..8 {
            lines[j] = s.look_up(const { &moved(&TERNARY, 4) }, lines[j]);
        }
        lines
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        s.look_up(const { &moved(&TERNARY, 4) }, bit_pair(s, block, sub, j))
    }
}

/// Q8_0.
pub(crate) struct Packed8;
impl Codes for Packed8 {
    const BITS: u32 = 8;
    const BYTES: usize = 8 * LINE;
    const WORK: usize = 1;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = Widened::lines(s, block, sub);
        for j in 0..8 {
            lines[j] = s.bytes(lines[j]);
        }
        lines
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        s.bytes(s.line(&block[LINE * j..], sub))
    }
}

/// Codes that were widened to bytes by [`Gemm::store_codes`], unless an instruction set has a way of its own.
pub(crate) struct Widened;
impl Codes for Widened {
    const BITS: u32 = 8;
    const BYTES: usize = 8 * LINE;
    const WORK: usize = 0;
    const WIDENED: bool = true;
    #[inline(always)]
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = [s.line(block, sub); 8];
        for j in 0..8 {
            lines[j] = s.line(&block[LINE * j..], sub);
        }
        lines
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        s.line(&block[LINE * j..], sub)
    }
}

/// Memory for widened codes, each of whose lines is one line of the cache: loads that need two take twice as long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    memory: Vec<u8>,
    start: usize,
}

impl Lines {
    /// Room for `bytes`, some of which may be old ones.
    pub(crate) fn room(&mut self, bytes: usize) -> &mut [u8] {
        self.memory.resize(bytes + LINE - 1, 0);
        self.start = self.memory.as_ptr().align_offset(LINE);
        &mut self.memory[self.start..][..bytes]
    }

    /// What [`Lines::room`] made room for.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.memory.len() + 1 - LINE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_lines_of_the_cache() {
        let mut lines = Lines::default();
        for bytes in [0, LINE, 1000 * LINE, 3 * LINE] {
            let room = lines.room(bytes);
            room.fill(bytes as u8);
            assert_eq!((room.len(), room.as_ptr().align_offset(LINE)), (bytes, 0));
            assert_eq!(lines.bytes(), vec![bytes as u8; bytes]);
        }
    }
}
