//! Quantising by search: never worse than the plain rule, sane on every input.

use proptest::prelude::*;
use quipu_quant::TensorType::{self, *};
use quipu_quant::blocks;
use quipu_quant::search::{Calibration, quantize};
use quipu_test_random::Random;

fn searched(ty: TensorType, x: &[f32], calibration: Option<&Calibration>) -> Vec<f32> {
    let mut bytes = vec![0; ty.row_bytes(x.len()).unwrap()];
    quantize(ty, x.len(), x, calibration, &mut bytes).unwrap();
    let mut values = vec![0.0; x.len()];
    blocks::dequantize(ty, &bytes, &mut values).unwrap();
    values
}

fn plain(ty: TensorType, x: &[f32]) -> Vec<f32> {
    let (mut bytes, mut values) = (vec![0; ty.row_bytes(x.len()).unwrap()], vec![0.0; x.len()]);
    blocks::quantize(ty, x, &mut bytes).unwrap();
    blocks::dequantize(ty, &bytes, &mut values).unwrap();
    values
}

fn error(x: &[f32], values: &[f32], w: &[f32]) -> f64 {
    x.iter().zip(values).zip(w).map(|((x, v), w)| f64::from(*w) * (f64::from(*x) - f64::from(*v)).powi(2)).sum()
}

/// Rows of two blocks of 256, of any size that weights have, with a few large ones among them.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![9 => -1.0_f32..1.0, 1 => -8.0_f32..8.0, 1 => Just(0.0)];
    (prop::collection::vec(value, 512), -20_i32..8, -1.0_f32..1.0)
        .prop_map(|(x, e, shift)| x.into_iter().map(|x| (x + shift) * 2_f32.powi(e)).collect())
}

proptest! {
    #[test]
    fn never_worse_than_the_plain_rule(x in rows(), w in prop::collection::vec(1e-3_f32..1.0, 512)) {
        let calibration = Calibration::from_squares(&w);
        for ty in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0] {
            let (found, plain) = (error(&x, &searched(ty, &x, Some(&calibration)), &w), error(&x, &plain(ty, &x), &w));
            prop_assert!(found <= plain * (1.0 + 1e-6), "{}: {:e}, plain {:e}", ty, found, plain);
        }
    }

    /// Any bits as input: blocks come out, and where the input is finite and f16 can hold it, so are the values.
    #[test]
    fn no_input_is_too_strange(bits in prop::collection::vec(any::<u32>(), 256), shift in 0_u32..8, w in any::<f32>()) {
        let x: Vec<f32> = bits.iter().map(|b| f32::from_bits(b >> shift)).collect();
        let products: Vec<f32> = bits.iter().cycle().take(256 * 256).map(|&b| f32::from_bits(b)).collect();
        let calibrations = [
            None,
            Some(Calibration::from_squares(&[w; 256])),
            Calibration::from_products(&x, &products, 1e6),
        ];
        let tame = x.iter().all(|x| x.abs() < 60000.0);
        for ty in TensorType::ALL {
            for calibration in &calibrations[..2] {
                let values = searched(ty, &x, calibration.as_ref());
                prop_assert!(!tame || values.iter().all(|v| v.is_finite()), "{}", ty);
            }
            searched(ty, &x, calibrations[2].as_ref());
        }
    }
}

/// Values by least squares would be shorter than the weights, which makes all outputs too small.
#[test]
fn q2_k_keeps_the_length() {
    let x = Random::new(1).numbers(1 << 14);
    let values = searched(Q2_K, &x, None);
    let (xx, xv) = x.iter().zip(&values).fold((0.0, 0.0), |(xx, xv), (x, v)| (xx + x * x, xv + x * v));
    assert!((xv / xx - 1.0).abs() < 2e-3, "{}", xv / xx);
}

/// On weights as they are, more bits give less error, and a K-quant less than the plain block of 32 with as many bits.
#[test]
fn k_quants_keep_their_rank() {
    let x: Vec<f32> = Random::new(1).normals(1 << 14).iter().map(|x| 0.03 * x).collect();
    let w = vec![1.0; x.len()];
    let of = |ty| error(&x, &searched(ty, &x, None), &w);
    let (q2, q3, q4, q5, q6) = (of(Q2_K), of(Q3_K), of(Q4_K), of(Q5_K), of(Q6_K));
    assert!(q3 < 0.5 * q2 && q4 < 0.35 * q3, "{q2:e} {q3:e} {q4:e}");
    assert!(of(IQ4_XS) < q3 && of(IQ4_NL) < 0.8 * error(&x, &plain(Q4_0, &x), &w));
    assert!(q6 < 0.35 * q5 && q5 < 0.35 * q4, "{q4:e} {q5:e} {q6:e}");
    assert!(q4 < 0.8 * error(&x, &plain(Q4_0, &x), &w) && q5 < 0.8 * error(&x, &plain(Q5_0, &x), &w), "{q4:e} {q5:e}");
}

#[test]
fn zeros_stay_zero_and_ones_one() {
    for ty in TensorType::ALL {
        assert!(searched(ty, &[0.0; 256], None).iter().all(|&v| v == 0.0), "{ty}");
        for x in [1.0, -1.0] {
            let values = searched(ty, &[x; 256], None);
            assert!(values.iter().all(|v| (v - x).abs() < 2e-3), "{ty}: {}", values[0]);
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let mut out = [0; 36];
    assert!(quantize(Q4_0, 64, &[0.0; 64], None, &mut out).is_ok());
    assert!(quantize(Q4_0, 64, &[0.0; 32], None, &mut out[..18]).is_err(), "half a row");
    assert!(quantize(Q4_0, 0, &[0.0; 64], None, &mut out).is_err());
    assert!(quantize(Q4_0, 64, &[0.0; 64], None, &mut out[..35]).is_err());
    let other = Calibration::from_squares(&[1.0; 32]);
    assert!(quantize(Q4_0, 64, &[0.0; 64], Some(&other), &mut out).is_err());
}
