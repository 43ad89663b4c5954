//! Converting, quantising, packing and unpacking whole files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use quipu_formats::convert::rounded::Rounded;
use quipu_formats::convert::type_choices::{MatrixTypes, TypeChoices};
use quipu_formats::convert::{
    ConvertError, ConvertOptions, Mix, Rounding, Summary, TensorRule, TypeRule, Warning, write_gguf,
};
use quipu_formats::gguf::{GgufFile, GgufWriter, Metadata, OutputError, Value, WriteError};
use quipu_formats::imatrix::Imatrix;
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType::{self, *};
use quipu_quant::blocks::{dequantize, f16_scales, has_plain_rule, quantize};
use quipu_quant::pack::{PackedLayout, pack};
use quipu_quant::search;
use quipu_test_random::Random;

/// A directory with a source in it, and room for what is made of that.
struct Bench {
    dir: tempfile::TempDir,
}

/// Weights between −0.5 and 0.5.
fn weights(seed: usize, n: usize) -> Vec<f32> {
    Random::new(seed as u64).numbers(n).iter().map(|x| 0.5 * x).collect()
}

/// Weights of any type that can be made; random blocks with sane scales of one that can't.
fn bytes_of(seed: usize, ty: TensorType, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n / ty.block_len() * ty.block_bytes()];
    if quantize(ty, &weights(seed, n), &mut bytes).is_err() {
        bytes = Random::new(seed as u64).bytes(bytes.len());
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            // The f16 scales: 2^-6 or so.
            f16_scales(ty).iter().for_each(|&at| block[at..at + 2].copy_from_slice(&[0x55, 0x24]));
        }
    }
    bytes
}

fn values(ty: TensorType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
    dequantize(ty, bytes, &mut values).unwrap();
    values
}

fn info(name: &str, ty: TensorType, shape: &[usize]) -> TensorInfo {
    TensorInfo::new(name, Encoding::Plain(ty), shape)
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn source_of(&self, tensors: &[(TensorInfo, Vec<u8>)]) -> GgufFile {
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", Value::String("llama".into()));
        metadata.set("general.alignment", Value::U32(64));
        let infos: Vec<TensorInfo> = tensors.iter().map(|t| t.0.clone()).collect();
        let path = self.path("source.gguf");
        let mut writer = GgufWriter::create(&path, None, &metadata, &infos).unwrap();
        tensors.iter().for_each(|(_, bytes)| writer.write_tensor_part(bytes).unwrap());
        writer.finish().unwrap();
        GgufFile::open(path).unwrap()
    }

    fn source(&self, tensors: &[TensorInfo]) -> GgufFile {
        let with_bytes = tensors.iter().enumerate().map(|(seed, t)| {
            let bytes = bytes_of(seed, t.ty(), t.shape.iter().product());
            (t.clone(), bytes)
        });
        self.source_of(&with_bytes.collect::<Vec<_>>())
    }

    fn convert(&self, source: &dyn Source, types: TypeRule, packed: bool, name: &str) -> (GgufFile, Summary) {
        self.convert_with(source, &ConvertOptions::new(types).packed(packed), name)
    }

    fn convert_with(&self, source: &dyn Source, options: &ConvertOptions, name: &str) -> (GgufFile, Summary) {
        let path = self.path(name);
        let summary = write_gguf(source, options, &path, &AtomicBool::new(false), &|_| {}).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), summary.bytes);
        (GgufFile::open(path).unwrap(), summary)
    }

    fn fail(&self, source: &dyn Source, types: TypeRule, out: &Path) -> ConvertError {
        self.fail_with(source, &ConvertOptions::new(types), out)
    }

    fn fail_with(&self, source: &dyn Source, options: &ConvertOptions, out: &Path) -> ConvertError {
        write_gguf(source, options, out, &AtomicBool::new(false), &|_| {}).unwrap_err()
    }
}

fn types(file: &GgufFile) -> Vec<(&str, TensorType)> {
    file.tensors().iter().map(|t| (t.name.as_str(), t.ty())).collect()
}

fn data<'a>(file: &'a GgufFile, name: &str) -> &'a [u8] {
    file.data(file.find(name).unwrap())
}

/// A matrix of every type, of several chunks and of fewer rows than a group; vectors beside them.
fn all_types() -> Vec<TensorInfo> {
    let mut tensors = vec![info("output_norm.weight", F32, &[77]), info("token_embd.weight", F16, &[64, 100])];
    for (layer, ty) in TensorType::ALL.into_iter().enumerate() {
        tensors.push(info(&format!("blk.{layer}.ffn_down.weight"), ty, &[512, 1003]));
        tensors.push(info(&format!("blk.{layer}.attn_q.weight"), ty, &[256, 5]));
        tensors.push(info(&format!("blk.{layer}.attn_q.bias"), F32, &[33]));
    }
    tensors.push(info("blk.0.attn_k.weight", F16, &[7, 3]));
    tensors
}

#[test]
fn packing_and_unpacking_leaves_every_byte() {
    let bench = Bench::new();
    let source = bench.source(&all_types());
    let (packed, summary) = bench.convert(&source, TypeRule::Keep, true, "packed.quipu");
    assert_eq!(summary.warnings, []);
    for (i, t) in packed.tensors().iter().enumerate() {
        let plain = source.find(&t.name).unwrap();
        assert_eq!((t.ty(), &t.shape), (source.tensors()[plain].ty(), &source.tensors()[plain].shape));
        // The reference packs the whole tensor at once.
        let expected = match t.shape.len() {
            1 => source.data(plain).to_vec(),
            _ => pack(&PackedLayout::new(t.ty(), t.rows(), t.cols()).unwrap(), source.data(plain)),
        };
        assert_eq!(t.encoding.is_packed(), t.shape.len() == 2, "{}", t.name);
        assert!(packed.data(i) == expected, "{} was packed differently", t.name);
        assert!(packed.range(i).start.is_multiple_of(16384), "{} is not at a page's start", t.name);
    }

    let (again, _) = bench.convert(&packed, TypeRule::Keep, true, "again.quipu");
    assert!(
        std::fs::read(again.path()).unwrap() == std::fs::read(packed.path()).unwrap(),
        "packing twice changed something"
    );

    let (unpacked, summary) = bench.convert(&packed, TypeRule::Keep, false, "unpacked.gguf");
    assert_eq!(summary.warnings, []);
    assert_eq!(unpacked.alignment(), 32);
    for t in source.tensors() {
        assert!(data(&unpacked, &t.name) == data(&source, &t.name), "{} came back changed", t.name);
    }
    for key in ["quipu.layout", "quipu.layout.version", "general.alignment"] {
        assert_eq!(unpacked.metadata().get(key), None);
        assert!(packed.metadata().get(key).is_some());
    }
}

#[test]
fn packed_tensors_stand_in_the_order_of_the_forward_pass() {
    let bench = Bench::new();
    let names = ["token_embd", "blk.1.ffn_down", "blk.1.attn_q", "output_norm", "output", "rope_freqs", "blk.0.ffn_up"];
    let tensors = names.map(|name| {
        let shape: &[usize] = if matches!(name, "rope_freqs" | "output_norm") { &[32] } else { &[32, 16] };
        info(&format!("{name}.weight"), F32, shape)
    });
    let source = bench.source(&tensors);
    let (packed, _) = bench.convert(&source, TypeRule::To(Q8_0), true, "packed.quipu");
    let order = ["rope_freqs", "blk.0.ffn_up", "blk.1.attn_q", "blk.1.ffn_down", "output_norm", "output", "token_embd"];
    let found: Vec<&str> = packed.tensors().iter().map(|t| t.name.strip_suffix(".weight").unwrap()).collect();
    assert_eq!(found, order);
    let starts: Vec<usize> = (0..order.len()).map(|i| packed.range(i).start).collect();
    assert!(starts.is_sorted());
    // A plain file keeps the order it finds.
    let (plain, _) = bench.convert(&source, TypeRule::To(Q8_0), false, "plain.gguf");
    let found: Vec<&str> = plain.tensors().iter().map(|t| t.name.strip_suffix(".weight").unwrap()).collect();
    assert_eq!(found, names);
}

/// However the work was cut into chunks, the result is that of the whole tensor quantised at once; plain, packed, and
/// from packed sources alike.
#[test]
fn every_path_gives_the_same_bytes() {
    let bench = Bench::new();
    for from in [F32, F16, BF16, Q4_K] {
        let source = bench.source(&[info("blk.0.ffn_up.weight", from, &[512, 1003])]);
        let (packed_source, _) = bench.convert(&source, TypeRule::Keep, true, "source.quipu");
        for to in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q6_K, IQ4_NL, IQ4_XS] {
            let values = values(from, source.data(0));
            for rounding in [Rounding::Plain, Rounding::Search] {
                let mut expected = vec![0; to.row_bytes(512).unwrap() * 1003];
                match rounding {
                    _ if to == from => expected.copy_from_slice(source.data(0)),
                    Rounding::Plain if !has_plain_rule(to) => continue,
                    Rounding::Plain => quantize(to, &values, &mut expected).unwrap(),
                    Rounding::Search => search::quantize(to, 512, &values, None, &mut expected).unwrap(),
                }
                let options = |packed| ConvertOptions::new(TypeRule::To(to)).packed(packed).rounding(rounding);
                let (plain, _) = bench.convert_with(&source, &options(false), "plain.gguf");
                assert!(plain.data(0) == expected, "{from} to {to}");
                let (plain, _) = bench.convert_with(&packed_source, &options(false), "plain.gguf");
                assert!(plain.data(0) == expected, "packed {from} to {to}");
                let expected = pack(&PackedLayout::new(to, 1003, 512).unwrap(), &expected);
                let (packed, _) = bench.convert_with(&source, &options(true), "packed.quipu");
                assert!(packed.data(0) == expected, "{from} to packed {to}");
            }
        }
    }
}

#[test]
fn types_follow_the_table() {
    let bench = Bench::new();
    let tensors = |head: &[TensorInfo]| {
        let mut tensors = vec![
            info("token_embd.weight", F16, &[64, 8]),
            info("blk.0.attn_norm.weight", F16, &[64]),
            info("blk.0.attn_q.weight", F16, &[64, 8]),
            info("blk.0.attn_q.bias", F16, &[64]),
            info("blk.0.odd.weight", F16, &[48, 8]),
            info("blk.0.experts.weight", F16, &[64, 2, 2]),
            info("blk.0.table", F16, &[64, 2]),
        ];
        tensors.extend_from_slice(head);
        tensors
    };
    let untied = [info("output.weight", F16, &[64, 8])];
    let expected = |ty: TensorType, embedding, odd, head| {
        let mut expected = vec![
            ("token_embd.weight", embedding),
            ("blk.0.attn_norm.weight", F32),
            ("blk.0.attn_q.weight", ty),
            ("blk.0.attn_q.bias", F32),
            ("blk.0.odd.weight", odd),
            ("blk.0.experts.weight", ty),
            ("blk.0.table", F16),
        ];
        expected.extend(head);
        expected
    };
    let file_types = [(F32, 0), (F16, 1), (Q4_0, 2), (Q4_1, 3), (Q8_0, 7), (Q5_0, 8), (Q5_1, 9), (BF16, 32)];
    for (ty, number) in file_types {
        let low = matches!(ty, Q4_0 | Q4_1 | Q5_0 | Q5_1);
        // Rows of 64 are no multiple of Q6_K's blocks, so Q8_0 stands for it.
        let head_type = if low { Q8_0 } else { ty };
        let odd = if ty.is_float() { ty } else { F16 };

        let source = bench.source(&tensors(&untied));
        let (file, summary) = bench.convert(&source, TypeRule::To(ty), false, "out.gguf");
        assert_eq!(types(&file), expected(ty, ty, odd, Some(("output.weight", head_type))), "{ty}");
        assert_eq!(file.metadata().u32_opt("general.file_type").unwrap(), Some(number), "{ty}");
        let version = if ty.is_float() { None } else { Some(2) };
        assert_eq!(file.metadata().u32_opt("general.quantization_version").unwrap(), version, "{ty}");
        let odd_ones = Warning::NotWholeBlocks { wanted: ty, used: F16, tensors: vec!["blk.0.odd.weight".into()] };
        let head = Warning::NotWholeBlocks { wanted: Q6_K, used: Q8_0, tensors: vec!["output.weight".into()] };
        let all = [(!ty.is_float()).then_some(odd_ones), low.then_some(head)];
        assert_eq!(summary.warnings, all.into_iter().flatten().collect::<Vec<_>>());

        let source = bench.source(&tensors(&[]));
        let (file, _) = bench.convert(&source, TypeRule::To(ty), false, "out.gguf");
        assert_eq!(types(&file), expected(ty, head_type, odd, None), "{ty}, tied");
    }

    let source = bench.source(&tensors(&untied));
    let (file, summary) = bench.convert(&source, TypeRule::Keep, false, "out.gguf");
    assert_eq!(types(&file), expected(F16, F16, F16, Some(("output.weight", F16))));
    assert_eq!(file.metadata().u32_opt("general.file_type").unwrap(), Some(1));
    assert_eq!(summary.types, [(F16, 6), (F32, 2)]);
    for ty in [Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS] {
        let plain = ConvertOptions::new(TypeRule::To(ty)).rounding(Rounding::Plain);
        let source = bench.source(&[info("blk.0.attn_q.weight", F16, &[256, 8])]);
        let error = bench.fail_with(&source, &plain, &bench.path("k.gguf"));
        assert!(matches!(error, ConvertError::NoPlainRule { ty: t, .. } if t == ty));
    }
}

/// The tensors of a Llama of `layers` layers, small.
fn llama(layers: usize, cols: usize) -> Vec<TensorInfo> {
    llama_of_groups(layers, cols, 1)
}

/// The same with `queries` queries to a key.
fn llama_of_groups(layers: usize, cols: usize, queries: usize) -> Vec<TensorInfo> {
    let mut tensors = vec![info("token_embd.weight", F16, &[cols, 2])];
    for layer in 0..layers {
        for part in ["attn_q", "attn_v", "attn_output", "ffn_gate", "ffn_down"] {
            let rows = if part == "attn_q" { 2 * queries } else { 2 };
            tensors.push(info(&format!("blk.{layer}.{part}.weight"), F16, &[cols, rows]));
        }
    }
    tensors
}

/// What `llama-quantize` made of a model of 8 layers, read off its files.
#[test]
fn mixes_are_llama_cpps() {
    let bench = Bench::new();
    let source = bench.source(&llama(8, 256));
    let exceptions = |mix: Mix, part: &str| {
        let (file, summary) = bench.convert(&source, TypeRule::Mix(mix), false, "mix.gguf");
        assert_eq!(summary.warnings, []);
        let types = types(&file);
        assert_eq!(types[0], ("token_embd.weight", Q6_K), "tied");
        let found = |i: usize| types.iter().find(|t| t.0 == format!("blk.{i}.{part}.weight")).unwrap().1;
        let other: Vec<_> = (0..8).map(|i| (i, found(i))).filter(|t| t.1 != mix.base()).collect();
        (file.metadata().u32_opt("general.file_type").unwrap(), other)
    };
    let favoured = vec![(0, Q6_K), (3, Q6_K), (6, Q6_K), (7, Q6_K)];
    let first_four = (0..4).map(|i| (i, Q5_K)).collect::<Vec<_>>();
    assert_eq!(exceptions(Mix::Q4_K_M, "attn_v"), (Some(15), favoured.clone()));
    assert_eq!(exceptions(Mix::Q4_K_M, "ffn_down"), (Some(15), favoured.clone()));
    assert_eq!(exceptions(Mix::Q4_K_M, "attn_output"), (Some(15), vec![]));
    assert_eq!(exceptions(Mix::Q4_K_S, "attn_v"), (Some(14), first_four));
    assert_eq!(exceptions(Mix::Q4_K_S, "ffn_down"), (Some(14), vec![(0, Q5_K)]));
    assert_eq!(exceptions(Mix::Q5_K_M, "ffn_down"), (Some(17), favoured));
    assert_eq!(exceptions(Mix::Q5_K_S, "ffn_down"), (Some(16), vec![]));

    let all = |ty| (0..8).map(|i| (i, ty)).collect::<Vec<_>>();
    let first = |n, first, other| (0..8).map(|i| (i, if i < n { first } else { other })).collect::<Vec<_>>();
    for (mix, number, v, down, output) in [
        (Mix::Q2_K, 10, all(Q3_K), all(Q3_K), all(Q3_K)),
        (Mix::Q3_K_S, 11, vec![], vec![], vec![]),
        (Mix::Q3_K_M, 12, first(2, Q5_K, Q4_K), all(Q4_K), all(Q4_K)),
        (Mix::Q3_K_L, 13, all(Q5_K), all(Q5_K), all(Q5_K)),
        (Mix::IQ4_NL, 25, vec![], vec![(0, Q5_K)], vec![]),
        (Mix::IQ4_XS, 30, vec![], vec![(0, Q5_K)], vec![]),
    ] {
        for (part, expected) in [("attn_v", v), ("ffn_down", down), ("attn_output", output), ("ffn_gate", vec![])] {
            assert_eq!(exceptions(mix, part), (Some(number), expected), "{} {part}", mix.name());
        }
    }

    // Rows that are no multiple of 256.
    let source = bench.source(&llama(8, 96));
    let (file, summary) = bench.convert(&source, TypeRule::Mix(Mix::Q4_K_M), false, "mix.gguf");
    let found: Vec<TensorType> = types(&file).iter().map(|t| t.1).collect();
    assert_eq!(found[..6], [Q8_0, Q5_0, Q8_0, Q5_0, Q5_0, Q8_0]);
    assert_eq!(summary.warnings.len(), 2);
    for (mix, expected) in [(Mix::Q2_K, Q4_0), (Mix::Q3_K_S, Q4_0), (Mix::IQ4_XS, IQ4_NL)] {
        let (file, _) = bench.convert(&source, TypeRule::Mix(mix), false, "mix.gguf");
        assert_eq!(types(&file)[1].1, expected, "{}", mix.name());
    }
}

/// The same for 16 layers with 4 queries to a key, and with an importance matrix.
#[test]
fn mixes_are_llama_cpps_for_grouped_queries() {
    let bench = Bench::new();
    let source = bench.source(&llama_of_groups(16, 256, 4));
    let found = |options: &ConvertOptions, tensor: &str| {
        let (file, _) = bench.convert_with(&source, options, "mix.gguf");
        types(&file).iter().find(|t| t.0 == format!("blk.{tensor}.weight")).unwrap().1
    };
    for (mix, tensor, expected) in [
        (Mix::Q2_K, "5.attn_v", Q4_K),
        (Mix::Q3_K_M, "1.attn_v", Q5_K),
        (Mix::Q3_K_M, "2.attn_v", Q4_K),
        (Mix::Q3_K_M, "0.ffn_down", Q5_K),
        (Mix::Q3_K_M, "1.ffn_down", Q4_K),
        (Mix::IQ4_NL, "5.attn_v", Q5_K),
        (Mix::IQ4_XS, "5.attn_v", Q5_K),
        (Mix::IQ4_XS, "1.ffn_down", Q5_K),
        (Mix::IQ4_XS, "2.ffn_down", IQ4_XS),
    ] {
        let options = ConvertOptions::new(TypeRule::Mix(mix));
        assert_eq!(found(&options, tensor), expected, "{} {tensor}", mix.name());
    }
    let imatrix = Some(Imatrix::new(vec![], 1, 512).into());
    let options = ConvertOptions::new(TypeRule::Mix(Mix::IQ4_XS)).imatrix(imatrix).imatrix_types(true);
    assert_eq!(found(&options, "1.ffn_down"), IQ4_XS, "Q5_K only without an importance matrix");
}

#[test]
fn single_tensors_may_have_types_of_their_own() {
    let bench = Bench::new();
    let source = bench.source(&llama(2, 256));
    let rule = |pattern: &str, ty| TensorRule { pattern: pattern.into(), ty };
    let tensors = vec![rule("blk.1.*down", F16), rule("ffn_down", Q8_0), rule("token_embd", Q4_0)];
    let options = ConvertOptions::new(TypeRule::To(Q5_0)).tensors(tensors);
    let (file, _) = bench.convert_with(&source, &options, "out.gguf");
    let types = types(&file);
    let find = |name: &str| types.iter().find(|t| t.0.contains(name)).unwrap().1;
    assert_eq!(
        (find("blk.1.ffn_down"), find("blk.0.ffn_down"), find("token_embd"), find("attn_q")),
        (F16, Q8_0, Q4_0, Q5_0)
    );
}

/// Written and read again an importance matrix is the same; q, k and v share their input; it changes what is written;
/// one of another model is refused.
#[test]
fn importance_matrices() {
    let bench = Bench::new();
    let mut imatrix = Imatrix::new(vec!["a.txt".into()], 3, 512);
    let x = weights(5, 40 * 300);
    imatrix.entry("blk.0.attn_q.weight", 300).add(&x, 30, 310);
    imatrix.entry("blk.0.attn_q.weight", 300).add(&x, 7, 310);
    imatrix.entry("blk.0.ffn_down.weight", 256).add(&x, 40, 256);
    let path = bench.path("imatrix");
    imatrix.write(&path).unwrap();
    let read = Imatrix::read(&path).unwrap();
    assert_eq!((read.chunks, read.chunk_size, &read.datasets[..]), (3, 512, &["a.txt".to_string()][..]));
    let of = |name: &str| read.find(&format!("blk.0.{name}.weight"));
    for name in ["attn_q", "attn_k", "attn_v"] {
        assert_eq!(of(name), imatrix.find("blk.0.attn_q.weight"), "{name}");
    }
    assert!(of("attn_output").is_none() && of("ffn_gate").is_none());
    // The sums are what they say.
    let sums = of("attn_q").unwrap();
    assert_eq!(sums.count, 37.0);
    let row = |r: usize| &x[r % 30 * 310..];
    let rows = (0..30).chain(0..7);
    let product = |i: usize, j: usize| rows.clone().map(|r| row(r)[i] * row(r)[j]).sum::<f32>();
    for (i, j) in [(0, 0), (3, 200), (255, 255), (256, 299), (299, 299)] {
        assert!((sums.products[i * 256 + j % 256] - product(i, j)).abs() < 1e-3);
    }
    assert!((sums.squares[299] - product(299, 299)).abs() < 1e-3);

    let source =
        bench.source(&[info("blk.0.ffn_down.weight", F16, &[256, 20]), info("blk.0.other.weight", F16, &[256, 2])]);
    let with = ConvertOptions::new(TypeRule::To(Q4_K)).imatrix(Some(read.into()));
    let (calibrated, summary) = bench.convert_with(&source, &with, "with.gguf");
    let (blind, _) = bench.convert(&source, TypeRule::To(Q4_K), false, "without.gguf");
    assert_eq!(summary.warnings, [Warning::NotCalibrated { tensors: 1 }]);
    assert!(calibrated.data(0) != blind.data(0) && calibrated.data(1) == blind.data(1));

    // Embeddings are looked up: nobody can know their inputs, unless they are the output matrix, too.
    let matrices = [info("token_embd.weight", F16, &[256, 4]), info("output.weight", F16, &[256, 4])];
    for matrices in [&matrices[..], &matrices[..1], &matrices[1..]] {
        let (_, summary) = bench.convert_with(&bench.source(matrices), &with, "with.gguf");
        assert_eq!(summary.warnings, [Warning::NotCalibrated { tensors: 1 }], "{} matrices", matrices.len());
    }

    let other = bench.source(&[info("blk.0.attn_v.weight", F16, &[256, 20])]);
    let error = bench.fail_with(&other, &with, &bench.path("no.gguf"));
    assert!(matches!(error, ConvertError::OtherModel { expected: 256, found: 300, .. }), "{error}");
}

#[test]
fn importance_matrices_that_lie_are_refused() {
    let bench = Bench::new();
    let read = |tensors: &[(&str, &[usize], &[f32])]| {
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let tensors: Vec<_> = tensors.iter().map(|(name, shape, v)| (info(name, F32, shape), bytes(v))).collect();
        let source = bench.source_of(&tensors);
        Imatrix::read(source.path())
    };
    let sums: (&str, &[usize], &[f32]) = ("a.weight.in_sum2", &[2, 1], &[1.0, 2.0]);
    assert!(read(&[sums, ("a.weight.counts", &[1, 1], &[5.0])]).is_ok());
    assert!(read(&[]).is_err() && read(&[("a.weight", &[2], &[1.0, 2.0])]).is_err());
    assert!(read(&[sums]).is_err(), "no counts");
    assert!(read(&[sums, ("a.weight.counts", &[2, 1], &[5.0, 5.0])]).is_err(), "two counts");
    assert!(read(&[sums, ("a.weight.counts", &[1, 1], &[0.0])]).is_err(), "nothing counted");
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        assert!(read(&[("a.weight.in_sum2", &[2, 1], &[1.0, bad]), ("a.weight.counts", &[1, 1], &[5.0])]).is_err());
    }
    let products = ("a.weight.in_products", &[256, 1][..], &[0.0; 256][..]);
    assert!(read(&[sums, ("a.weight.counts", &[1, 1], &[5.0]), products]).is_err(), "products of one column, not two");
    std::fs::write(bench.path("text"), "no GGUF").unwrap();
    assert!(Imatrix::read(&bench.path("text")).is_err());
}

#[test]
fn requantising_is_done_and_told() {
    let bench = Bench::new();
    let source = bench.source(&[
        info("output.weight", Q6_K, &[256, 4]),
        info("blk.0.attn_q.weight", Q4_K, &[256, 4]),
        info("blk.1.attn_q.weight", Q4_K, &[256, 4]),
        info("blk.2.attn_q.weight", Q4_0, &[256, 4]),
    ]);
    let (file, summary) = bench.convert(&source, TypeRule::To(Q4_0), false, "out.gguf");
    assert_eq!(summary.warnings, [Warning::Requantised { from: "Q4_K", to: Q4_0, tensors: 2 }]);
    assert_eq!(data(&file, "output.weight"), data(&source, "output.weight"), "Q6_K serves as head as it is");
    assert_eq!(data(&file, "blk.2.attn_q.weight"), data(&source, "blk.2.attn_q.weight"), "same type, same bytes");
    // Back to floats loses nothing and needs no warning.
    let (_, summary) = bench.convert(&source, TypeRule::To(F32), false, "out.gguf");
    assert_eq!(summary.warnings, []);
}

#[test]
fn a_weight_that_would_spoil_its_block_is_found() {
    let bench = Bench::new();
    let infos = [info("blk.0.attn_k.weight", F32, &[64, 8]), info("blk.0.attn_q.weight", F32, &[64, 3000])];
    for bad in [f32::NAN, f32::NEG_INFINITY, 1e6, 65519.0] {
        let mut values = weights(1, 64 * 3000);
        values[64 * 2500 + 9] = bad;
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let source =
            bench.source_of(&[(infos[0].clone(), bytes(&weights(0, 64 * 8))), (infos[1].clone(), bytes(&values))]);
        std::fs::write(bench.path("out.gguf"), "precious").unwrap();
        for ty in [F16, Q8_0, Q4_1] {
            if bad == 65519.0 {
                bench.convert(&source, TypeRule::To(ty), false, "fits.gguf");
                std::fs::remove_file(bench.path("fits.gguf")).unwrap();
                continue;
            }
            match bench.fail(&source, TypeRule::To(ty), &bench.path("out.gguf")) {
                ConvertError::WeightOutOfRange { tensor, row: 2500, col: 9, value, ty: t, .. } => {
                    assert_eq!((tensor.as_str(), t, value.to_bits()), ("blk.0.attn_q.weight", ty, bad.to_bits()));
                }
                error => panic!("{bad} to {ty}: {error}"),
            }
        }
        assert_eq!(std::fs::read(bench.path("out.gguf")).unwrap(), b"precious", "a failed run replaced the output");
        assert_eq!(bench.names(), ["out.gguf", "source.gguf"], "a failed run left something behind");
        // F32 holds everything.
        let (file, _) = bench.convert(&source, TypeRule::To(F32), false, "f32.gguf");
        assert_eq!(data(&file, "blk.0.attn_q.weight"), source.data(1));
        std::fs::remove_file(bench.path("f32.gguf")).unwrap();
    }
}

#[test]
fn a_file_of_keys_alone_is_a_file() {
    let bench = Bench::new();
    let source = bench.source(&[]);
    for packed in [false, true] {
        let (file, summary) = bench.convert(&source, TypeRule::Keep, packed, "out.gguf");
        assert_eq!((file.tensors(), summary.types), (&[][..], vec![]));
        assert_eq!(file.metadata().str_opt("general.architecture").unwrap(), Some("llama"));
    }
}

#[test]
fn progress_ends_at_the_whole_and_can_be_stopped() {
    let bench = Bench::new();
    let source = bench.source(&[info("a.weight", F32, &[512, 4096]), info("b.weight", F32, &[512, 4096])]);
    for packed in [false, true] {
        let options = ConvertOptions::new(TypeRule::To(Q4_0)).packed(packed);
        let seen = Mutex::new(Vec::new());
        let out = bench.path("out.gguf");
        write_gguf(&source, &options, &out, &AtomicBool::new(false), &|p| {
            seen.lock().unwrap().push((p.bytes, p.total_bytes));
        })
        .unwrap();
        let seen = seen.into_inner().unwrap();
        assert!(seen.is_sorted() && seen.len() > 4);
        assert_eq!(seen.last().map(|p| p.0), seen.last().map(|p| p.1));
        std::fs::remove_file(&out).unwrap();

        let cancel = AtomicBool::new(false);
        let result = write_gguf(&source, &options, &out, &cancel, &|_| cancel.store(true, Ordering::Relaxed));
        assert!(matches!(result, Err(ConvertError::Cancelled)));
        assert_eq!(bench.names(), ["source.gguf"], "the temporary file stayed");
    }
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let bench = Bench::new();
    let source = bench.source(&[info("a.weight", F32, &[512, 64])]);
    let before = std::fs::read(source.path()).unwrap();
    let fail = |out: &Path| match bench.fail(&source, TypeRule::To(Q8_0), out) {
        ConvertError::Write(WriteError::Output(error)) => error,
        error => panic!("{error:?}"),
    };
    assert!(matches!(fail(&bench.path("source.gguf")), OutputError::SameAsInput { .. }));
    assert!(matches!(fail(&bench.path("no/where.gguf")), OutputError::NoDirectory { .. }));
    assert!(matches!(fail(bench.dir.path()), OutputError::IsDirectory { .. }));
    #[cfg(target_os = "linux")]
    assert!(matches!(fail(Path::new("/dev/full")), OutputError::Write { .. }));
    assert!(std::fs::read(source.path()).unwrap() == before);
    assert_eq!(bench.names(), ["source.gguf"]);
}

/// A source that is a directory, as a Hugging Face checkpoint is.
struct Directory(PathBuf, GgufFile);

impl Source for Directory {
    fn path(&self) -> &Path {
        &self.0
    }
    fn metadata(&self) -> &Metadata {
        self.1.metadata()
    }
    fn tensors(&self) -> &[TensorInfo] {
        self.1.tensors()
    }
    fn rows(&self, index: usize, rows: std::ops::Range<usize>) -> std::borrow::Cow<'_, [u8]> {
        std::borrow::Cow::Owned(self.1.rows(index, rows).into_owned())
    }
    fn mapped(&self, _: usize) -> Option<&[u8]> {
        None
    }
}

#[test]
fn a_checkpoint_is_not_overwritten_by_its_own_conversion() {
    let bench = Bench::new();
    let file = bench.source(&[info("a.weight", F32, &[64, 64])]);
    let expected = file.data(0).to_vec();
    let source = Directory(bench.dir.path().into(), file);
    for name in ["model.safetensors", "config.json", "model.gguf"] {
        std::fs::write(bench.path(name), "precious").unwrap();
    }
    for name in ["model.safetensors", "config.json"] {
        let error = bench.fail(&source, TypeRule::Keep, &bench.path(name));
        assert!(matches!(error, ConvertError::Write(WriteError::Output(OutputError::SameAsInput { .. }))), "{error}");
        assert_eq!(std::fs::read(bench.path(name)).unwrap(), b"precious");
    }
    let (file, _) = bench.convert(&source, TypeRule::Keep, false, "model.gguf");
    assert!(file.data(0) == expected);
}

/// What a budget counts is what the file has, and what is measured is what is written.
#[test]
fn candidates_are_what_a_conversion_makes() {
    let bench = Bench::new();
    let source = bench.source(&[
        info("token_embd.weight", F32, &[256, 40]),
        info("output_norm.weight", F32, &[256]),
        info("blk.0.attn_q.weight", F32, &[256, 20]),
        info("blk.0.ffn_down.weight", F32, &[96, 256]),
        info("blk.0.ffn_up.weight", F32, &[77, 3]),
    ]);
    let mut imatrix = Imatrix::new(Vec::new(), 1, 40);
    imatrix.entry("blk.0.attn_q.weight", 256).add(&weights(7, 256 * 40), 40, 256);
    let rule = TensorRule { pattern: "token_embd".into(), ty: Q8_0 };
    let mut options = ConvertOptions::default().tensors(vec![rule]).imatrix(Some(Arc::new(imatrix)));
    for packed in [false, true] {
        options.packed = packed;
        let choices = TypeChoices::of(&source, &options).unwrap();
        let names: Vec<_> = choices.matrices.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["blk.0.attn_q.weight", "blk.0.ffn_down.weight", "blk.0.ffn_up.weight"]);
        let types: Vec<_> = choices.matrices.iter().map(|m| m.types.len()).collect();
        // All types but BF16; without those with blocks of 256; floats alone.
        assert_eq!(types, [14, 8, 2]);
        let errors = choices.errors(&source, &options).unwrap();
        for pick in 0..14 {
            let picked = |m: &MatrixTypes| m.types[pick.min(m.types.len() - 1)];
            let chosen: Vec<_> = choices.matrices.iter().map(|m| (m.index, picked(m))).collect();
            let rules = choices.matrices.iter().map(|m| TensorRule { pattern: m.name.clone(), ty: picked(m).ty });
            let mut options = options.clone();
            options.tensors.extend(rules);
            let (file, _) = bench.convert_with(&source, &options, "picked.gguf");
            let bytes = chosen.iter().map(|(_, c)| c.bytes).sum();
            let written: usize = file.tensors().iter().map(|t| t.byte_len().unwrap()).sum();
            assert_eq!(choices.bits_per_weight(bytes), 8.0 * written as f64 / choices.weights as f64);
            assert_eq!(choices.budget(choices.bits_per_weight(bytes)), bytes);

            let types: Vec<_> = chosen.iter().map(|&(index, c)| (index, c.ty)).collect();
            let rounded = Rounded::new(Arc::new(GgufFile::open(source.path()).unwrap()), &options, &types);
            for (&(index, sized), errors) in chosen.iter().zip(&errors) {
                let (name, rows) = (&rounded.tensors()[index].name, rounded.tensors()[index].rows());
                let found = values(F32, &rounded.rows(index, 0..rows));
                let (plain, _) = bench.convert_with(&source, &options.clone().packed(false), "p");
                assert!(found == values(sized.ty, data(&plain, name)), "{name} {}", sized.ty);
                assert_eq!(found == values(F32, data(&source, name)), errors[pick.min(errors.len() - 1)] == 0.0);
            }
        }
    }
}
