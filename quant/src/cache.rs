//! Blocks of the KV cache: 32 elements of a head at one position, in 8 or 4 bits, with one scale.
//!
//! They are made anew at every token, so there is no search; and always the same way, in plain steps, so that every
//! machine makes the same bits.

use half::f16;

/// Elements that share one scale.
pub const BLOCK: usize = 32;

/// `x` as signed bytes: `d = f16(max|x| / 127)`, `q = round_ties_even(x / d)`, within ±127. Where `d` is too small for
/// its reciprocal, all are zero.
///
/// ```
/// let mut x = [0.0; 32];
/// x[3] = -2.54;
/// let (codes, d) = quipu_quant::cache::quantize8(&x);
/// assert_eq!((codes[3], codes[4], d.to_f32()), (-127, 0, 0.020_004_272));
/// ```
pub fn quantize8(x: &[f32; BLOCK]) -> ([i8; BLOCK], f16) {
    let max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let Some((d, inverse)) = scale(max / 127.0) else { return ([0; BLOCK], f16::ZERO) };
    (x.map(|x| round((x * inverse).clamp(-127.0, 127.0)) as i32 as i8), d)
}

/// What the outermost element may become: of these scales the one with the least squared error is taken, the first of
/// equal ones.
const OUTERMOST: [f32; 5] = [-8.0, -7.25, -8.75, 7.0, 7.75];

/// `x` as codes from 0 to 15, which stand for `code − 8`: `code = round_ties_even(x / d) + 8`, within 0 and 15, with
/// `d = f16(m / o)`, where `m` is the outermost element and `o` a number from −8.75 to 7.75 that gives the least
/// squared error of a few. Where `d` is too small for its reciprocal, all are 8.
///
/// ```
/// let mut x = [0.0; 32];
/// x[3] = -2.0;
/// let (codes, d) = quipu_quant::cache::quantize4(&x);
/// assert_eq!((f32::from(codes[3]) - 8.0) * d.to_f32(), -2.0);
/// ```
pub fn quantize4(x: &[f32; BLOCK]) -> ([u8; BLOCK], f16) {
    let outermost = x.iter().fold(0.0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
    let codes = |inverse: f32| x.map(|x| round((x * inverse).clamp(-8.0, 7.0)));
    let mut best = ([8; BLOCK], f16::ZERO);
    let mut least = f32::INFINITY;
    for o in OUTERMOST {
        let Some((d, inverse)) = scale(outermost / o) else { continue };
        let q = codes(inverse);
        // Eight sums side by side, which the compiler can keep in vectors.
        let mut sums = [0.0f32; 8];
        for (q, x) in q.as_chunks::<8>().0.iter().zip(x.as_chunks::<8>().0) {
            for i in 0..8 {
                let error = x[i] - d.to_f32() * q[i];
                sums[i] += error * error;
            }
        }
        let error = sums.iter().sum();
        if error < least {
            (best, least) = ((q.map(|q| (q + 8.0) as i32 as u8), d), error);
        }
    }
    best
}

/// `x`, far smaller than 2²², to the nearest integer, ties to even: the sum has no room for a fraction. (The function
/// of the standard library is a call for each number where a compiler may not count on SSE4.1.)
fn round(x: f32) -> f32 {
    const NO_FRACTION: f32 = 1.5 * (1 << 23) as f32;
    (x + NO_FRACTION) - NO_FRACTION
}

/// `d` in 16 bits, and its reciprocal; nothing if that is no number.
fn scale(d: f32) -> Option<(f16, f32)> {
    let d = f16::from_f32(d);
    let inverse = 1.0 / d.to_f32();
    inverse.is_finite().then_some((d, inverse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_even() {
        for i in -2000..2000 {
            let x = i as f32 / 8.0;
            assert_eq!(round(x), x.round_ties_even(), "{x}");
        }
    }

    #[test]
    fn errors_are_half_a_step_and_nothing_is_something() {
        for seed in 0..200u32 {
            let x: [f32; BLOCK] = std::array::from_fn(|i| ((seed * 37 + i as u32 * 101) % 255) as f32 - 127.0);
            let (q, d) = quantize8(&x);
            assert!(x.iter().zip(q).all(|(x, q)| (x - d.to_f32() * f32::from(q)).abs() <= 0.51 * d.to_f32()));
            let (q, d) = quantize4(&x);
            // The outermost code may be cut off.
            assert!(
                x.iter().zip(q).all(|(x, q)| (x - d.to_f32() * (f32::from(q) - 8.0)).abs() <= 1.3 * d.to_f32().abs())
            );
        }
        for x in [[0.0; BLOCK], [1e-12; BLOCK], [-0.0; BLOCK]] {
            assert_eq!((quantize8(&x).1, quantize4(&x).1), (f16::ZERO, f16::ZERO));
        }
    }

    /// What a reader has of the extremes is what was written.
    #[test]
    fn the_largest_scale_is_finite() {
        let most = 65504.0;
        assert!(quantize8(&[127.0 * most; BLOCK]).1.is_finite());
        assert!(quantize4(&[7.0 * most; BLOCK]).1.is_finite());
    }
}
