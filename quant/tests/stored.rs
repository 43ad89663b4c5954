//! Types that are only stored: values against ggml's (`make_stored_fixtures.py`), and what recoding them loses.

use half::f16;
use proptest::prelude::*;
use quipu_quant::StoredType::{self, *};
use quipu_quant::blocks;
use quipu_quant::stored::{dequantize, recode};
use quipu_test_random::Random;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// Bits, with one NaN for all: infinity times zero leaves sign and payload open.
fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

fn values(ty: StoredType, blocks: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; blocks.len() / ty.block_bytes() * ty.block_len()];
    dequantize(ty, blocks, &mut values).unwrap();
    values
}

/// The values after recoding.
fn recoded_values(ty: StoredType, bytes: &[u8]) -> Vec<f32> {
    let weights = bytes.len() / ty.block_bytes() * ty.block_len();
    let mut recoded = vec![0; ty.runs_as().row_bytes(weights).unwrap()];
    recode(ty, bytes, &mut recoded).unwrap();
    let mut values = vec![0.0; weights];
    blocks::dequantize(ty.runs_as(), &recoded, &mut values).unwrap();
    values
}

#[test]
fn values_are_ggmls() {
    for ty in StoredType::ALL {
        let path = format!("{}/tests/data/stored_{ty}.bin", env!("CARGO_MANIFEST_DIR"));
        let data = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; make_stored_fixtures.py makes it"));
        let count = u32::from_le_bytes(data[..4].try_into().unwrap()) as usize;
        let (blocks, expected) = data[4..].split_at(count * ty.block_bytes());
        let (found, expected) = (values(ty, blocks), floats(expected));
        assert_eq!(found.len(), expected.len());
        for (k, (&f, &e)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(bits(f), bits(e), "{ty} block {} weight {}: {f} != {e}", k / ty.block_len(), k % ty.block_len());
        }
    }
}

/// Random blocks whose f16 scale is `d` (NVFP4's stay random).
fn random_blocks(ty: StoredType, count: usize, d: f16) -> Vec<u8> {
    let mut bytes = Random::new(ty.id().into()).bytes(count * ty.block_bytes());
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        let at = match ty {
            NVFP4 => continue,
            IQ1_M => {
                let nibbles = (0..4).map(|n| (d.to_bits() >> (4 * n)) as u8 & 15);
                nibbles.enumerate().for_each(|(n, bits)| block[49 + 2 * n] = block[49 + 2 * n] & 15 | bits << 4);
                continue;
            }
            TQ1_0 => ty.block_bytes() - 2,
            _ => 0,
        };
        block[at..at + 2].copy_from_slice(&d.to_le_bytes());
    }
    bytes
}

/// The mean squared error as a fraction of the mean square.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(expected).map(|(f, e)| square(f64::from(f - e))).sum();
    error / expected.iter().map(|&e| square(e.into())).sum::<f64>()
}

/// With a scale whose multiples f16 holds exactly, nothing at all is lost where codes go over as they are.
#[test]
fn exact_types_keep_their_values() {
    for ty in [IQ1_S, IQ1_M, IQ3_XXS, IQ3_S, TQ1_0, Q1_0, Q2_0] {
        for d in [0.0625, -0.0625] {
            let blocks = random_blocks(ty, 64, f16::from_f32(d));
            assert_eq!(recoded_values(ty, &blocks), values(ty, &blocks), "{ty}");
        }
    }
}

/// The figures of [`StoredType::runs_as`], for scales of any size that models have.
#[test]
fn recoding_loses_little() {
    for ty in StoredType::ALL {
        for d in [0.0123, 0.777, -0.00345] {
            let blocks = random_blocks(ty, 256, f16::from_f32(d));
            let error = relative_error(&recoded_values(ty, &blocks), &values(ty, &blocks)).sqrt();
            let most = match ty {
                IQ2_XXS | IQ2_XS | IQ2_S => 0.0100,
                NVFP4 => 0.0060,
                // The scale is rounded to f16, and so is a minimum of fifteen times the scale.
                _ => 15.0 / 4096.0,
            };
            assert!(error < most, "{ty} with scale {d}: {error}");
        }
    }
}

#[test]
fn blocks_may_start_at_any_address() {
    for ty in StoredType::ALL {
        let aligned = random_blocks(ty, 3, f16::ONE);
        let shifted = [&[0], &aligned[..]].concat();
        assert_eq!(values(ty, &aligned), values(ty, &shifted[1..]), "{ty}");
        assert_eq!(recoded_values(ty, &aligned), recoded_values(ty, &shifted[1..]), "{ty}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let message = |r: Result<(), _>| r.map_err(|e: quipu_quant::stored::StoredLengthError| e.to_string()).unwrap_err();
    let found = message(dequantize(IQ2_XS, &[0; 75], &mut [0.0; 256]));
    assert_eq!(found, "IQ2_XS: src has 75 elements, expected 74");
    let found = message(dequantize(IQ2_XS, &[0; 74], &mut [0.0; 255]));
    assert_eq!(found, "IQ2_XS: dst has 255 elements, expected 256");
    assert_eq!(message(recode(Q2_0, &[0; 36], &mut [0; 71])), "Q2_0: dst has 71 elements, expected 72");
    assert_eq!(recode(Q2_0, &[], &mut []), Ok(()));
}

proptest! {
    /// Whatever the bytes say, scales of NaN included, there are values and blocks for them.
    #[test]
    fn any_bytes_are_blocks(t in 0..StoredType::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..1000)) {
        let ty = StoredType::ALL[t];
        let bytes = &bytes[..bytes.len() / ty.block_bytes() * ty.block_bytes()];
        prop_assert_eq!(values(ty, bytes).len(), recoded_values(ty, bytes).len());
    }
}
