//! Activations and dot products: to the bit against a second implementation of the definition
//! (`make_dot_fixtures.py`, exact fractions), and within rounding of the true product.

use proptest::prelude::*;
use quipu_quant::{
    TensorType, activations, blocks,
    dot::{QuantizedRow, dot, dot_f32},
};

/// Splits fixture data into little-endian numbers.
struct Reader(Vec<u8>, usize);

impl Reader {
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        self.1 += n;
        self.0[self.1 - n..self.1].to_vec()
    }

    fn numbers<T, const N: usize>(&mut self, n: usize, from: fn([u8; N]) -> T) -> Vec<T> {
        self.bytes(n * N).as_chunks().0.iter().map(|&b| from(b)).collect()
    }
}

#[test]
fn products_equal_the_second_implementation_to_the_bit() {
    for ty in TensorType::ALL {
        let path = format!("{}/tests/data/dot_{ty}.bin", env!("CARGO_MANIFEST_DIR"));
        let data = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; make_dot_fixtures.py makes it"));
        let mut data = Reader(data, 0);
        let shape = data.numbers(2, u32::from_le_bytes);
        let (rows, cols) = (shape[0] as usize, shape[1] as usize);
        let row_bytes = ty.row_bytes(cols).unwrap();
        let weights = data.bytes(rows * row_bytes);
        let x = data.numbers(cols, f32::from_le_bytes);
        let quantized = QuantizedRow::new(&x);
        if !ty.is_float() {
            assert_eq!(quantized.q, data.numbers(cols, i8::from_le_bytes));
            assert_eq!(quantized.d, data.numbers(cols / 32, f32::from_le_bytes));
            assert_eq!(quantized.sum, data.numbers(cols / 32, i32::from_le_bytes));
        }
        for (r, expected) in data.numbers(rows, f32::from_le_bytes).into_iter().enumerate() {
            let row = &weights[r * row_bytes..][..row_bytes];
            let found = if ty.is_float() { dot_f32(ty, row, &x) } else { dot(ty, row, &quantized) };
            assert_eq!(found.to_bits(), expected.to_bits(), "{ty} row {r}: {found} != {expected}");
        }
        assert_eq!(data.1, data.0.len(), "{path} is read to its end");
    }
}

/// Activations with magnitudes from the smallest subnormals to 2^100.
fn activations_strategy(blocks: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f32>> {
    let block = (-149_i32..100, prop::collection::vec(-1.0_f32..=1.0, 32))
        .prop_map(|(e, x)| x.into_iter().map(|x| (f64::from(x) * 2_f64.powi(e)) as f32).collect::<Vec<_>>());
    prop::collection::vec(block, blocks).prop_map(|blocks| blocks.concat())
}

proptest! {
    #[test]
    fn activations_are_within_half_a_step(x in activations_strategy(1..6)) {
        let row = QuantizedRow::new(&x);
        for (b, x) in x.chunks(32).enumerate() {
            let q = &row.q[32 * b..][..32];
            let d = f64::from(row.d[b]);
            prop_assert_eq!(row.sum[b], q.iter().map(|&q| i32::from(q)).sum::<i32>());
            if d == 0.0 {
                prop_assert!(q.iter().all(|&q| q == 0));
                prop_assert!(x.iter().all(|x| x.abs() < 127.0 * f32::MIN_POSITIVE * (1.0 + 1e-6)));
                continue;
            }
            prop_assert!(d >= f64::from(f32::MIN_POSITIVE));
            prop_assert_eq!(q.iter().map(|q| q.unsigned_abs()).max(), Some(127));
            for (&x, &q) in x.iter().zip(q) {
                prop_assert!((f64::from(x) - d * f64::from(q)).abs() <= d * (0.5 + 1e-4), "{} as {} · {}", x, q, d);
            }
        }
    }

    /// The integer part is exact, so what is left of the error is one rounding for each scale and each fma.
    #[test]
    fn products_are_within_rounding_of_the_true_ones(
        t in 0..TensorType::ALL.len(),
        x in prop::collection::vec(-4.0_f32..4.0, 512),
        bytes in prop::collection::vec(any::<u8>(), 512 * 4),
    ) {
        let ty = TensorType::ALL[t];
        let row = with_small_scales(ty, bytes, 512);
        let mut w = vec![0.0; 512];
        blocks::dequantize(ty, &row, &mut w).unwrap();
        let quantized = QuantizedRow::new(&x);
        let (found, x) = if ty.is_float() {
            (dot_f32(ty, &row, &x), x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>())
        } else {
            let x = quantized.q.iter().enumerate().map(|(k, &q)| f64::from(quantized.d[k / 32]) * f64::from(q));
            (dot(ty, &row, &quantized), x.collect())
        };
        let exact: f64 = w.iter().zip(&x).map(|(&w, x)| f64::from(w) * x).sum();
        // A weight with a minimum is the difference of two numbers that may both be larger than it, up to the row's
        // largest weight (where a code is 0 or the largest). So the bound takes the largest weight in place of each.
        let largest = w.iter().fold(0.0, |max: f64, w| max.max(f64::from(w.abs())));
        let magnitude: f64 = x.iter().map(|x| largest * x.abs()).sum();
        let steps = if ty.is_float() { 512.0 } else { 4.0 * 16.0 };
        let bound = steps * f64::from(f32::EPSILON) * magnitude;
        prop_assert!((f64::from(found) - exact).abs() <= bound, "{}: {} is not {}", ty, found, exact);
    }
}

/// The first row of `cols` weights in `bytes`, with the exponents of the floats among them lowered to at most 2, and
/// those of MXFP4 to near 0.
fn with_small_scales(ty: TensorType, mut bytes: Vec<u8>, cols: usize) -> Vec<u8> {
    let tops: Vec<usize> = match ty {
        _ if ty.is_float() => vec![ty.block_bytes() - 1],
        _ => blocks::f16_scales(ty).iter().map(|at| at + 1).collect(),
    };
    bytes.truncate(ty.row_bytes(cols).unwrap());
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        for &top in &tops {
            block[top] &= !0x40;
        }
        if ty == TensorType::MXFP4 {
            block[0] = 100 + block[0] % 32;
        }
    }
    bytes
}

#[test]
fn blocks_of_tiny_values_are_zero() {
    for tiny in [0.0, -0.0, f32::MIN_POSITIVE, 126.0 * f32::MIN_POSITIVE, f32::from_bits(1)] {
        let row = QuantizedRow::new(&[tiny; 32]);
        assert_eq!((row.q, row.d, row.sum), (vec![0; 32], vec![0.0], vec![0]), "{tiny:e}");
    }
    let row = QuantizedRow::new(&[-127.0 * f32::MIN_POSITIVE; 32]);
    assert_eq!((row.q, row.d, row.sum), (vec![-127; 32], vec![f32::MIN_POSITIVE], vec![-127 * 32]));
}

#[test]
fn halves_round_to_even() {
    let mut x = [0.0; 32];
    x[..8].copy_from_slice(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]);
    let row = QuantizedRow::new(&x);
    assert_eq!(row.q[..8], [127, 0, 2, 2, 0, -2, -2, 126]);
    assert_eq!((row.d[0], row.sum[0]), (1.0, 127 - 2 + 2 + 126));
}

#[test]
fn the_largest_sums_are_exact() {
    // Every product at its extreme: the integer sum must still be an exact f32.
    let x = QuantizedRow::new(&[-1.0; 256]);
    let one = 0x3c00_u16.to_le_bytes();
    let q8: Vec<u8> = [&one[..], &[0x80; 32]].concat().repeat(8);
    let d = 1.0 / 127.0_f32;
    assert_eq!(dot(TensorType::Q8_0, &q8, &x), (0..8).fold(0.0, |acc, _| d.mul_add((32 * 128 * 127) as f32, acc)));
    // Q6_K: codes 0 stand for −32, scales −128.
    let q6: Vec<u8> = [&[0; 192][..], &[0x80; 16], &one].concat();
    assert_eq!(
        dot(TensorType::Q6_K, &q6, &x),
        (0..8).fold(0.0, |acc, _| d.mul_add(-(32.0 * 32.0 * 128.0 * 127.0), acc))
    );
}

#[test]
fn activations_that_are_not_finite_do_not_panic() {
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let mut row = [1.0; 32];
        row[3] = x;
        QuantizedRow::new(&row);
    }
}

#[test]
#[should_panic(expected = "whole blocks")]
fn activations_come_in_whole_blocks() {
    activations::quantize(&[0.0; 33], &mut [0; 33], &mut [0.0], &mut [0]);
}
