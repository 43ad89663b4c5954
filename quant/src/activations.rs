//! Activations as int8: the form in which they enter a product with a quantised weight.
//!
//! One format for all weight types. It defines the numbers that every instruction set must make.

/// Values that share one scale.
pub const BLOCK: usize = 32;

/// The largest magnitude of a quantised value.
pub const MAX: i8 = 127;

/// Quantises `x`, block by block of 32: `d = max|x| / 127`, `q = round_ties_even(x · (1/d))` within ±127, `sum = Σq`.
///
/// A block whose `d` would be subnormal becomes all zero, so that `1/d` is always finite. The values must be finite:
/// for others `q` is unspecified (but never a panic).
///
/// # Panics
/// When `x` is no whole number of blocks, `q` is not as long as `x`, or `d` or `sum` does not have one element a block.
pub fn quantize(x: &[f32], q: &mut [i8], d: &mut [f32], sum: &mut [i32]) {
    let (x, rest) = x.as_chunks::<BLOCK>();
    let (q, q_rest) = q.as_chunks_mut::<BLOCK>();
    assert!(rest.is_empty() && q_rest.is_empty(), "activations come in whole blocks of {BLOCK}");
    assert!(
        q.len() == x.len() && d.len() == x.len() && sum.len() == x.len(),
        "{} blocks of activations for {} blocks of values, {} scales and {} sums",
        x.len(),
        q.len(),
        d.len(),
        sum.len()
    );
    for (((x, q), d), sum) in x.iter().zip(q).zip(d).zip(sum) {
        (*d, *sum) = quantize_block(x, q);
    }
}

/// One block: writes `q`, returns `(d, Σq)`.
fn quantize_block(x: &[f32; BLOCK], q: &mut [i8; BLOCK]) -> (f32, i32) {
    let amax = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    let d = amax / f32::from(MAX);
    if d < f32::MIN_POSITIVE {
        *q = [0; BLOCK];
        return (0.0, 0);
    }
    let inv = 1.0 / d;
    // x · inv can exceed 127 by a rounding error; no more than that, but the bound on dot products rests on it.
    let max = f32::from(MAX);
    *q = x.map(|x| (x * inv).round_ties_even().clamp(-max, max) as i8);
    (d, q.iter().map(|&q| i32::from(q)).sum())
}
