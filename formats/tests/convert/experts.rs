//! Files in which the matrices of experts are tensors of their own.

use quipu_formats::gguf::join_experts;
use quipu_formats::hf::HfDirectory;
use quipu_formats::oddity::Oddity;

use super::bench::*;

/// The tensors of `bank`, as they were before March 2024.
fn apart(bank: &TensorInfo, bytes: &[u8]) -> Vec<(TensorInfo, Vec<u8>)> {
    let experts = bank.shape[2];
    let expert = |number: usize| {
        let name = bank.name.replace("_exps.", &format!(".{number}."));
        let bytes = &bytes[number * bytes.len() / experts..(number + 1) * bytes.len() / experts];
        (TensorInfo::new(name, bank.encoding, &bank.shape[..2]), bytes.to_vec())
    };
    (0..experts).map(expert).collect()
}

/// A Mixtral as llama.cpp wrote it then: all matrices of one expert after those of another.
#[test]
fn a_model_with_experts_apart_is_the_same_model() {
    let bench = Bench::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny-mixtral-bf16");
    let hf = HfDirectory::open(&data).unwrap();
    let mut tensors = Vec::new();
    for (index, info) in hf.tensors().iter().enumerate() {
        let bytes = hf.rows(index, 0..info.rows()).into_owned();
        if info.shape.len() == 3 { tensors.extend(apart(info, &bytes)) } else { tensors.push((info.clone(), bytes)) }
    }
    // blk.0.ffn_gate.0, blk.0.ffn_down.0, blk.0.ffn_up.0, blk.0.ffn_gate.1 …
    let number = |info: &TensorInfo| info.name.trim_end_matches(".weight").rsplit('.').next().map(str::parse::<usize>);
    tensors.sort_by_key(|(info, _)| number(info).and_then(Result::ok));
    let infos: Vec<TensorInfo> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let mut writer = GgufWriter::create(&bench.path("old.gguf"), None, hf.metadata(), &infos).unwrap();
    tensors.iter().for_each(|(_, bytes)| writer.write_tensor_part(bytes).unwrap());
    writer.finish().unwrap();

    let old = join_experts(GgufFile::open(bench.path("old.gguf")).unwrap()).unwrap();
    assert_eq!(old.oddities(), [Oddity::ExpertsApart { tensors: 2 * 3 * 5 }]);
    for (index, info) in hf.tensors().iter().enumerate() {
        let joined = old.find(&info.name).unwrap();
        assert_eq!(&old.tensors()[joined], info);
        for rows in [0..info.rows(), info.rows() / 3..info.rows() - info.rows() / 4, 0..0] {
            assert_eq!(old.rows(joined, rows.clone()), hf.rows(index, rows.clone()), "{} {rows:?}", info.name);
            assert_eq!(old.values(joined, rows.clone()), hf.values(index, rows.clone()), "{} {rows:?}", info.name);
        }
    }
    for (packed, types) in [(false, TypeRule::Keep), (true, TypeRule::To(Q4_0))] {
        let (new, _) = bench.convert(&hf, types, packed, "new.gguf");
        let (converted, _) = bench.convert(&*old, types, packed, "converted.gguf");
        for (index, info) in new.tensors().iter().enumerate() {
            assert!(super::bench::data(&converted, &info.name) == new.data(index), "{}", info.name);
        }
    }
}

/// Of a type that is recoded the joined tensor has what runs.
#[test]
fn experts_apart_of_a_type_without_kernels_are_joined() {
    let bench = Bench::new();
    let encoding = Encoding::Stored(quipu_quant::StoredType::IQ2_XXS);
    let bank = TensorInfo::new("blk.0.ffn_up_exps.weight", encoding, [256, 3, 2]);
    let bytes = Random::new(3).bytes(bank.byte_len().unwrap());
    let bytes: Vec<u8> = bytes.chunks(66).flat_map(|block| [&[0x55, 0x24], &block[2..]].concat()).collect();
    let whole = bench.source_of(&[(bank.clone(), bytes.clone())]);
    let old = join_experts(bench.source_of(&apart(&bank, &bytes))).unwrap();
    assert_eq!(old.tensors()[0].encoding, Encoding::Plain(bank.ty()));
    assert_eq!((old.rows(0, 2..5), old.values(0, 2..5)), (whole.rows(0, 2..5), whole.values(0, 2..5)));
}

#[test]
fn experts_that_do_not_go_together_are_refused() {
    let bench = Bench::new();
    let up = |expert: usize, ty, shape: &[usize]| info(&format!("blk.3.ffn_up.{expert}.weight"), ty, shape);
    let bank = info("blk.3.ffn_up_exps.weight", F16, &[64, 2, 2]);
    for (tensors, expected) in [
        (vec![up(0, F16, &[64, 2]), up(2, F16, &[64, 2])], "that of expert 1 is missing"),
        (vec![up(0, F16, &[64, 2]), up(1, F16, &[64, 3])], "\"blk.3.ffn_up.1.weight\" is F16 [64, 3]"),
        (vec![up(0, F16, &[64, 2]), up(1, Q8_0, &[64, 2])], "\"blk.3.ffn_up.1.weight\" is Q8_0 [64, 2]"),
        (vec![up(0, F16, &[64, 2]), up(1, F16, &[64, 2]), bank], "it is there, too"),
        (vec![up(0, F16, &[64])], "which is no matrix"),
    ] {
        let error = join_experts(bench.source(&tensors)).err().expect(expected).to_string();
        assert!(error.contains("source.gguf") && error.contains("\"blk.3.ffn_up_exps.weight\""), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    // Other names are names, and what has no experts is as it was.
    for name in ["blk.0.ffn_up.00.weight", "blk.0.ffn_norm.0.weight", "blk.0.ffn_up.weight", "ffn_up.0.weight"] {
        let same = join_experts(bench.source(&[info(name, F16, &[64, 2])])).unwrap();
        assert_eq!((same.tensors()[0].name.as_str(), same.oddities()), (name, &[][..]));
    }
}
