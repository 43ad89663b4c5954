//! The best scale, or scale and minimum, for a group of weights: weighted least squares over codes that are themselves
//! rounded.
//!
//! For given codes `q` the error `Σ w·(x − d·q − m)²` is quadratic in `(d, m)`, and its minimum solves a system of two
//! linear equations; for given `(d, m)` the best codes are the nearest ones. So both are improved in turn. That ends in
//! the nearest local minimum, hence several starts. Of many starts most lead nowhere, hence only the best of them is
//! followed to its end.
//!
//! Sums run over eight virtual lanes, so that they are vectors on every machine and the same on each.

/// Lanes of a sum.
const LANES: usize = 8;

/// A group of values with their weights, none of them negative.
#[derive(Clone, Copy)]
pub(super) struct Group<'a, const N: usize> {
    pub x: &'a [f32; N],
    pub w: &'a [f32; N],
}

/// What codes stand for before they are scaled.
pub(crate) trait Grid: Copy {
    /// The least of the values.
    fn lo(self) -> f32;
    /// The greatest of them.
    fn hi(self) -> f32;
    /// The nearest of them.
    fn nearest(self, v: f32) -> f32;
}

/// The integers from `lo` to `hi`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes {
    pub lo: f32,
    pub hi: f32,
}

impl Grid for Codes {
    fn lo(self) -> f32 {
        self.lo
    }

    fn hi(self) -> f32 {
        self.hi
    }

    /// Up to 2²² the sum rounds to an integer, ties to even: cheaper than `round_ties_even` on machines that have no
    /// instruction for it.
    #[inline(always)]
    fn nearest(self, v: f32) -> f32 {
        let v = if v < self.lo { self.lo } else { v };
        let v = if v > self.hi { self.hi } else { v };
        (v + INTEGERS) - INTEGERS
    }
}

/// 1.5·2²³: the sum with an integer from −128 to 255 has it in its lowest byte.
const INTEGERS: f32 = 12_582_912.0;

/// The lowest byte of an integer.
#[inline(always)]
pub(super) fn low_byte(q: f32) -> u8 {
    (q + INTEGERS).to_bits() as u8
}

/// The sums over a group that determine the affine fit for given codes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub w: f32,
    pub x: f32,
    pub q: f32,
    pub qq: f32,
    pub xq: f32,
}

/// The best scale of a group, and the sums that it is the quotient of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScaleFit {
    pub d: f32,
    pub qq: f32,
    pub xq: f32,
}

/// `1 / d`, or 0 where that is not finite.
pub(super) fn inverse(d: f32) -> f32 {
    let inverse = 1.0 / d;
    if inverse.is_finite() { inverse } else { 0.0 }
}

fn fold(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

impl<const N: usize> Group<'_, N> {
    /// `(Σ w·x·q, Σ w·q²)` for the codes nearest to `x · inverse`.
    #[inline(always)]
    fn scale_sums(self, inverse: f32, codes: impl Grid) -> (f32, f32) {
        let (mut xq, mut qq) = ([0.0; LANES], [0.0; LANES]);
        for (x, w) in self.x.as_chunks::<LANES>().0.iter().zip(self.w.as_chunks::<LANES>().0) {
            for i in 0..LANES {
                let q = codes.nearest(x[i] * inverse);
                let wq = w[i] * q;
                xq[i] += wq * x[i];
                qq[i] += wq * q;
            }
        }
        (fold(xq), fold(qq))
    }

    /// The moments of the codes nearest to `(x − min) · inverse`.
    #[inline(always)]
    pub fn moments(self, min: f32, inverse: f32, codes: impl Grid) -> Moments {
        let (mut sw, mut sx, mut sq, mut sqq, mut sxq) =
            ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for (x, w) in self.x.as_chunks::<LANES>().0.iter().zip(self.w.as_chunks::<LANES>().0) {
            for i in 0..LANES {
                let q = codes.nearest((x[i] - min) * inverse);
                let wq = w[i] * q;
                sw[i] += w[i];
                sx[i] += w[i] * x[i];
                sq[i] += wq;
                sqq[i] += wq * q;
                sxq[i] += wq * x[i];
            }
        }
        Moments { w: fold(sw), x: fold(sx), q: fold(sq), qq: fold(sqq), xq: fold(sxq) }
    }

    /// `Σ w·(x − d·q − min)²` for the nearest codes.
    #[inline(always)]
    pub fn error(self, d: f32, min: f32, codes: impl Grid) -> f32 {
        let inverse = inverse(d);
        let mut sum = [0.0; LANES];
        for (x, w) in self.x.as_chunks::<LANES>().0.iter().zip(self.w.as_chunks::<LANES>().0) {
            for i in 0..LANES {
                let x = x[i] - min;
                let e = x - d * codes.nearest(x * inverse);
                sum[i] += w[i] * e * e;
            }
        }
        fold(sum)
    }

    /// The scale `d` for which `Σ w·(x − d·q)²` is least; `q` is the nearest code. `starts` are values, of both signs,
    /// that the code of the weight farthest from zero may take.
    pub fn best_scale(self, codes: impl Grid, starts: &[f32], steps: usize) -> ScaleFit {
        let far = self.x.iter().fold(0.0, |far: f32, &x| if x.abs() > far.abs() { x } else { far });
        if far == 0.0 {
            return ScaleFit::default();
        }
        let (mut best, mut best_gain) = (ScaleFit::default(), 0.0);
        // With the best d for its codes the error is Σ w·x² less this gain.
        let mut consider = |inverse: f32| {
            let (xq, qq) = self.scale_sums(inverse, codes);
            let gain = xq * xq / qq;
            let better = gain > best_gain;
            if better {
                (best, best_gain) = (ScaleFit { d: xq / qq, qq, xq }, gain);
            }
            (best.d, better)
        };
        let mut d = 0.0;
        for start in starts {
            (d, _) = consider(start / far);
        }
        for _ in 0..steps {
            let (next, better) = consider(inverse(d));
            if !better {
                break;
            }
            d = next;
        }
        best
    }

    /// The `(d, min)` for which `Σ w·(x − d·q − min)²` is least; `q` is the nearest code, and codes start at 0.
    /// `starts` are values that the largest weight's code may take when the smallest weight's is 0. With `below_zero`,
    /// `min` is not positive.
    pub fn best_affine(self, codes: Codes, starts: &[f32], steps: usize, below_zero: bool) -> (f32, f32, Moments) {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for &x in self.x {
            low = if x < low { x } else { low };
            high = if x > high { x } else { high };
        }
        if below_zero && low > 0.0 {
            low = 0.0;
        }
        let mut best = (0.0, low, Moments { w: self.w.iter().sum(), ..Moments::default() });
        if high <= low {
            return best;
        }
        let mut best_gain = f32::NEG_INFINITY;
        let mut consider = |min: f32, inverse: f32| {
            let s = self.moments(min, inverse, codes);
            let (d, min) = s.solve(below_zero);
            let gain = d * s.xq + min * s.x;
            let better = gain > best_gain && d > 0.0;
            if better {
                (best, best_gain) = ((d, min, s), gain);
            }
            (best.0, best.1, better)
        };
        let (mut d, mut min) = (0.0, 0.0);
        for start in starts {
            (d, min, _) = consider(low, start / (high - low));
        }
        for _ in 0..steps {
            let better;
            (d, min, better) = consider(min, inverse(d));
            if !better {
                break;
            }
        }
        best
    }
}

impl Moments {
    /// The `(d, min)` with the least error.
    fn solve(&self, below_zero: bool) -> (f32, f32) {
        let det = self.w * self.qq - self.q * self.q;
        if det > 0.0 {
            let min = (self.qq * self.x - self.q * self.xq) / det;
            if !(below_zero && min > 0.0) {
                return ((self.w * self.xq - self.q * self.x) / det, min);
            }
        }
        if self.qq > 0.0 { (self.xq / self.qq, 0.0) } else { (0.0, 0.0) }
    }
}
