//! Models with tensors of types that have no kernels run: as the types that run in their place, near the values that
//! are stored.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_formats::gguf::GgufWriter;
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::{StoredType, TensorType};
use quipu_test_random::Random;
use quipu_tests::{assert_same_bits, kl_divergence, load, logits, open, options};

fn demo() -> Box<dyn Source> {
    open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales"))
}

/// A type for each matrix of the layers, one after the other. All have their scale in the first bytes of a block.
const TYPES: [StoredType; 7] = [
    StoredType::IQ1_S,
    StoredType::IQ2_XXS,
    StoredType::IQ2_XS,
    StoredType::IQ2_S,
    StoredType::IQ3_XXS,
    StoredType::IQ3_S,
    StoredType::Q1_0,
];

/// Random blocks whose values are some hundredths large, as weights are.
fn random_blocks(ty: StoredType, weights: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = random.bytes(weights / ty.block_len() * ty.block_bytes());
    // The largest value for a scale of 1.
    let largest = match ty {
        StoredType::IQ1_S => 17.0,
        StoredType::IQ2_XXS | StoredType::IQ2_XS | StoredType::IQ2_S => 167.0,
        StoredType::IQ3_XXS | StoredType::IQ3_S => 480.0,
        _ => 1.0,
    };
    let scale = TensorType::F16;
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        quipu_quant::blocks::quantize(scale, &[0.06 / largest], &mut block[..2]).unwrap();
    }
    bytes
}

/// The demo model with other matrices in its layers.
fn write(path: &Path) -> PathBuf {
    let source = demo();
    let (mut infos, mut data, mut random, mut matrices) = (Vec::new(), Vec::new(), Random::new(1), 0);
    for (i, tensor) in source.tensors().iter().enumerate() {
        if tensor.name.starts_with("blk.") && tensor.shape.len() == 2 {
            let ty = TYPES[matrices % TYPES.len()];
            matrices += 1;
            infos.push(TensorInfo { encoding: Encoding::Stored(ty), ..tensor.clone() });
            data.push(random_blocks(ty, tensor.rows() * tensor.cols(), &mut random));
        } else {
            infos.push(tensor.clone());
            data.push(source.rows(i, 0..tensor.rows()).into_owned());
        }
    }
    let mut writer = GgufWriter::create(path, None, source.metadata(), &infos).unwrap();
    data.iter().for_each(|bytes| writer.write_tensor_part(bytes).unwrap());
    writer.finish().unwrap();
    path.to_path_buf()
}

fn convert(from: &Path, to: PathBuf, types: TypeRule, packed: bool) -> PathBuf {
    let options = ConvertOptions::new(types).packed(packed);
    write_gguf(open(from).as_ref(), &options, &to, &AtomicBool::new(false), &|_| {}).unwrap();
    to
}

#[test]
fn they_run_near_the_values_that_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir.path().join("stored.gguf"));
    let tokens: Vec<u32> = (0..40).map(|i| i * 37 % 1000).collect();
    let mut engine = load(&path, &options());
    let found = logits(&mut engine, &tokens, 16);

    let packed = convert(&path, dir.path().join("packed.quipu"), TypeRule::Keep, true);
    assert_same_bits(&found, &logits(&mut load(&packed, &options()), &tokens, 16), "packed");

    // F32 has neither the recoding nor the rounding of activations, which is by far the larger.
    let exact = convert(&path, dir.path().join("f32.gguf"), TypeRule::To(TensorType::F32), false);
    let expected = logits(&mut load(&exact, &options()), &tokens, 16);
    let kl = expected.iter().zip(&found).map(|(p, q)| kl_divergence(p, q)).sum::<f64>() / tokens.len() as f64;
    assert!(kl < 0.01, "{kl}");
    let shifted = expected.iter().zip(&found[1..]).map(|(p, q)| kl_divergence(p, q)).sum::<f64>() / 39.0;
    assert!(shifted > 20.0 * kl, "other logits are as near: {shifted}");
}

/// `name.scale` multiplies the outputs of `name.weight`: weights that are half as large with a scale of 2 are the same.
#[test]
fn a_matrix_may_have_a_scale() {
    let source = demo();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scaled.gguf");
    let (mut infos, mut data) = (Vec::new(), Vec::new());
    for (i, tensor) in source.tensors().iter().enumerate() {
        let mut bytes = source.rows(i, 0..tensor.rows()).into_owned();
        let halved = tensor.name.starts_with("blk.") && tensor.shape.len() == 2;
        if halved {
            assert_eq!(tensor.ty(), TensorType::BF16);
            // One less in the exponent, unless the number is too small for that.
            for number in bytes.as_chunks_mut::<2>().0 {
                let bits = u16::from_le_bytes(*number);
                let less = if bits >> 7 & 0xff > 1 { bits - (1 << 7) } else { 0 };
                *number = less.to_le_bytes();
            }
            let name = tensor.name.replace(".weight", ".scale");
            infos.push(TensorInfo::new(name, Encoding::Plain(TensorType::F32), [1]));
            data.push(2.0f32.to_le_bytes().to_vec());
        }
        infos.push(tensor.clone());
        data.push(bytes);
    }
    let mut writer = GgufWriter::create(&path, None, source.metadata(), &infos).unwrap();
    data.iter().for_each(|bytes| writer.write_tensor_part(bytes).unwrap());
    writer.finish().unwrap();
    let tokens: Vec<u32> = (0..20).map(|i| i * 37 % 1000).collect();
    let mut unscaled = quipu_runtime::Engine::load(source, &options(), &|_, _| {}).unwrap();
    assert_same_bits(
        &logits(&mut unscaled, &tokens, 20),
        &logits(&mut load(&path, &options()), &tokens, 20),
        "weights halved, outputs doubled",
    );
}
