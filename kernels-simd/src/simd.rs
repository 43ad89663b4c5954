//! Vectors: what the registers of an instruction set hold and do.
//!
//! The operations in `ops` are written once over the trait [`Simd`]. Sixteen *lanes* are `16 / LANES` native vectors,
//! so one source gives the same sums in the same order on every instruction set; an implementation only says how wide
//! its vectors are and which instruction does what. Products of matrices take more: `Gemm`.

/// Quantised activations of 32 consecutive columns of one row.
pub(crate) type ActBlock = [i8; 32];

/// Bytes of one line: 16 output rows × 4 consecutive columns.
pub(crate) const LINE: usize = 64;

/// Four activations as one 32-bit lane.
///
/// Like the other helpers here it is spelled out: `array::map` and `from_fn` are functions of the standard library that
/// LLVM may leave out of line, and then they run without the ISA's features in the middle of the hottest loop.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn four(acts: &[i8; 4]) -> i32 {
    i32::from_le_bytes([acts[0] as u8, acts[1] as u8, acts[2] as u8, acts[3] as u8])
}

/// The sixteen 16-bit numbers at the head of `bytes`.
#[inline(always)]
pub(crate) fn u16s(bytes: &[u8]) -> [u16; 16] {
    let bytes: &[u8; 32] = bytes.first_chunk().expect("16 numbers");
    let mut out = [0; 16];
    for i in 0..16 {
        out[i] = u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    }
    out
}

/// Folds sixteen lanes: upper half onto lower half, 16 → 8 → 4 → 2 → 1.
#[inline(always)]
pub(crate) fn fold(lanes: &mut [f32; 16], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// One instruction set, seen as vectors of [`Simd::LANES`] 32-bit lanes.
///
/// A value of an implementing type is the proof that this CPU has the instructions. All methods are `inline(always)`
/// and end up inside the functions of the table, which enable them.
pub(crate) trait Simd: Copy {
    /// 32-bit lanes of a native vector: 4, 8 or 16.
    const LANES: usize;
    /// Native vectors that make sixteen lanes.
    const SUBS: usize = 16 / Self::LANES;
    /// Vector registers.
    const REGISTERS: usize;
    /// Whether it pays to have kernels for each common number of rows.
    const UNROLL: bool = true;

    /// `LANES` f32.
    type V: Copy;
    /// `LANES` i32.
    type I: Copy;
    /// A native vector's part of a line: `LANES` rows × 4 columns of codes.
    type Line: Copy;

    /// A value of this type, without asking the CPU.
    ///
    /// # Safety
    /// This CPU has the instructions, and the system saves their registers.
    unsafe fn new_unchecked() -> Self;

    /// Prefetches the cache line that is `ahead` bytes after the head of `at`, which may be beyond its end; a hint
    /// that changes no result.
    #[inline(always)]
    fn prefetch<E>(self, at: &[E], ahead: usize) {
        let line = at.as_ptr().wrapping_byte_add(ahead).cast();
        #[cfg(test)]
        crate::asked::note(line);
        self.ask_for(line);
    }

    /// See [`Simd::prefetch`]; `line` need not be ours.
    #[inline(always)]
    fn ask_for(self, line: *const u8) {
        let _ = line;
    }

    fn splat(self, x: f32) -> Self::V;
    /// The first `LANES` elements of `x`.
    fn load(self, x: &[f32]) -> Self::V;
    fn store(self, v: Self::V, out: &mut [f32]);
    /// The first `LANES` binary16 numbers of `x`, exactly.
    fn load_f16(self, x: &[u16]) -> Self::V;
    /// The first `LANES` bfloat16 numbers of `x`, exactly.
    fn load_bf16(self, x: &[u16]) -> Self::V;
    /// The first `LANES` bytes of `x`.
    fn load_u8(self, x: &[u8]) -> Self::V;
    /// The first `LANES` bytes of `x`, signed.
    fn load_i8(self, x: &[u8]) -> Self::V;
    /// The first `LANES` bytes of `x`: of each the upper half, or the lower one, minus 8.
    fn load_nibbles<const HIGH: bool>(self, x: &[u8]) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of two finite numbers.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of two finite numbers.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `a < b ? 0 : v`, lane by lane.
    fn zero_if_less(self, a: Self::V, b: Self::V, v: Self::V) -> Self::V;
    /// `v · 2^n` for integral `n` with a normal result.
    fn scale_by_power_of_two(self, v: Self::V, n: Self::V) -> Self::V;

    fn splat_i32(self, x: i32) -> Self::I;
    /// `x · 2^by` in all lanes, for an `x` that comes from memory and a constant `by`. Where `by` is negative, `x` is a
    /// multiple of `2^−by`.
    #[inline(always)]
    fn splat_shifted(self, x: i32, by: i32) -> Self::I {
        self.splat_i32(if by < 0 { x >> -by } else { x << by })
    }
    fn load_i32(self, x: &[i32]) -> Self::I;
    fn store_i32(self, v: Self::I, out: &mut [i32]);
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// To f32, rounded to nearest even.
    fn to_f32(self, a: Self::I) -> Self::V;
    /// Integral f32 to i32.
    fn to_i32(self, a: Self::V) -> Self::I;

    /// The largest magnitude of finite numbers.
    #[inline(always)]
    fn largest(self, x: &[f32; 32]) -> f32 {
        let mut largest = self.splat(0.0);
        for x in x.chunks_exact(Self::LANES) {
            largest = self.max(largest, self.abs(self.load(x)));
        }
        let mut lanes = [0.0; 16];
        self.store(largest, &mut lanes);
        fold(&mut lanes, f32::max)
    }
    /// `x · scale`, rounded to the nearest integer, ties to even, and at most 127 in magnitude; and the sums of both
    /// halves.
    #[inline(always)]
    fn round_block(self, x: &[f32; 32], scale: f32) -> (ActBlock, [i32; 2]) {
        let (scale, low, high) = (self.splat(scale), self.splat(-127.0), self.splat(127.0));
        let mut q = [0i32; 32];
        for (x, q) in x.chunks_exact(Self::LANES).zip(q.chunks_exact_mut(Self::LANES)) {
            let v = self.round(self.mul(self.load(x), scale));
            self.store_i32(self.to_i32(self.min(self.max(v, low), high)), q);
        }
        let halves = [q[..16].iter().sum(), q[16..].iter().sum()];
        let mut bytes = [0; 32];
        for (byte, q) in bytes.iter_mut().zip(q) {
            *byte = q as i8;
        }
        (bytes, halves)
    }

    /// Part `sub` of the line at the head of `bytes`.
    fn line(self, bytes: &[u8], sub: usize) -> Self::Line;
    /// Stores part `sub` of a line.
    fn store_line(self, line: Self::Line, out: &mut [u8], sub: usize);
    /// `line & 15`, byte by byte.
    fn low_nibbles(self, line: Self::Line) -> Self::Line;
    /// `line >> 4`, byte by byte.
    fn high_nibbles(self, line: Self::Line) -> Self::Line;
    /// The `BITS` bits from position `shift` of each byte, alone.
    fn bits<const BITS: u32>(self, line: Self::Line, shift: u32) -> Self::Line;
    /// The `BITS` bits from position `shift` of each byte of `high`, put at bit `AT` of `line`, where that has zeros.
    fn or_bits<const BITS: u32, const AT: u32>(self, line: Self::Line, high: Self::Line, shift: u32) -> Self::Line;
    /// What the table has for each byte, all of them below 16.
    fn look_up(self, table: &[u8; 16], line: Self::Line) -> Self::Line;
}
