//! Blocks against ggml: `make_fixtures.py` has let ggml quantise and dequantise, and the same bytes must come out here.

use quipu_quant::{
    TensorType,
    blocks::{self, BlockError},
};

fn read(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; make_fixtures.py makes it"))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// Bits, with one NaN for all: infinity times zero leaves sign and payload open.
fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

#[test]
fn dequantised_values_are_ggmls() {
    for ty in TensorType::ALL.into_iter().filter(|ty| !ty.is_float()) {
        let data = read(&format!("dequantize_{ty}.bin"));
        let count = u32::from_le_bytes(data[..4].try_into().unwrap()) as usize;
        let (blocks, values) = data[4..].split_at(count * ty.block_bytes());
        let expected = floats(values);
        let mut found = vec![0.0; count * ty.block_len()];
        blocks::dequantize(ty, blocks, &mut found).unwrap();
        assert_eq!(found.len(), expected.len());
        for (k, (&f, &e)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(bits(f), bits(e), "{ty} block {} weight {}: {f} != {e}", k / ty.block_len(), k % ty.block_len());
        }
    }
}

#[test]
fn quantised_bytes_are_ggmls() {
    let x = floats(&read("quantize_input.bin"));
    for ty in TensorType::ALL {
        let mut found = vec![0; x.len() / ty.block_len() * ty.block_bytes()];
        match blocks::quantize(ty, &x, &mut found) {
            Err(e) => assert!(!blocks::has_plain_rule(ty), "{e}"),
            Ok(()) => {
                let input = ty == TensorType::F32;
                let expected = if input { read("quantize_input.bin") } else { read(&format!("quantize_{ty}.bin")) };
                assert_eq!(found.len(), expected.len());
                let both = found.chunks(ty.block_bytes()).zip(expected.chunks(ty.block_bytes()));
                for (b, (found, expected)) in both.enumerate() {
                    assert_eq!(found, expected, "{ty} block {b}: {:?}", &x[b * ty.block_len()..][..ty.block_len()]);
                }
            }
        }
    }
}

#[test]
fn k_quants_are_refused_by_name() {
    let error = blocks::quantize(TensorType::Q4_K, &[0.0; 256], &mut [0; 144]).unwrap_err();
    assert_eq!(error, BlockError::CannotQuantize { ty: TensorType::Q4_K });
    assert!(error.to_string().contains("Q4_K"));
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let length = |what, expected, found| Err(BlockError::Length { ty: TensorType::Q8_0, what, expected, found });
    let values = "number of values, in whole blocks,";
    assert_eq!(blocks::dequantize(TensorType::Q8_0, &[0; 68], &mut [0.0; 63]), length(values, 32, 63));
    assert_eq!(blocks::dequantize(TensorType::Q8_0, &[0; 67], &mut [0.0; 64]), length("number of bytes", 68, 67));
    assert_eq!(blocks::quantize(TensorType::Q8_0, &[0.0; 64], &mut [0; 69]), length("number of bytes", 68, 69));
    assert_eq!(blocks::quantize(TensorType::Q8_0, &[], &mut []), Ok(()));
}

#[test]
fn blocks_may_start_at_any_address() {
    for ty in TensorType::ALL {
        let aligned: Vec<u8> = (0..ty.block_bytes() * 3).map(|i| (i * 37 % 120) as u8).collect();
        let shifted = [&[0], &aligned[..]].concat();
        let mut values = [vec![0.0; 3 * ty.block_len()], vec![1.0; 3 * ty.block_len()]];
        blocks::dequantize(ty, &aligned, &mut values[0]).unwrap();
        blocks::dequantize(ty, &shifted[1..], &mut values[1]).unwrap();
        assert_eq!(
            values[0].iter().map(|&x| bits(x)).collect::<Vec<_>>(),
            values[1].iter().map(|&x| bits(x)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn f16_and_bf16_keep_infinities_and_nan() {
    for ty in [TensorType::F16, TensorType::BF16] {
        let x = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0];
        let (mut bytes, mut back) = ([0; 8], [0.0; 4]);
        blocks::quantize(ty, &x, &mut bytes).unwrap();
        blocks::dequantize(ty, &bytes, &mut back).unwrap();
        assert_eq!(back.map(bits), x.map(bits), "{ty}");
    }
}
