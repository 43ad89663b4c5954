//! The promise: same file and tokens, same logits to the bit, whatever the threads, the chunks of the prompt, the other
//! sequences of the batch, the instruction set, and whether the file is packed.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, Mix, TypeRule, write_gguf};
use quipu_formats::gguf::{GgufWriter, Value};
use quipu_quant::TensorType;
use quipu_runtime::host::cores::Cores;
use quipu_runtime::{BatchToken, Engine, Isa, KvType, LoadOptions, Residence, Sequence};
use quipu_test_random::Random;
use quipu_tests::{Reference, assert_same_bits, data, forward, load, logits, open, options, refs, skipped};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales")
}

fn convert(from: &Path, directory: &Path, types: TypeRule, packed: bool) -> PathBuf {
    let path = directory.join(if packed { "packed.quipu" } else { "plain.gguf" });
    let interrupt = AtomicBool::new(false);
    write_gguf(open(from).as_ref(), &ConvertOptions::new(types).packed(packed), &path, &interrupt, &|_| {})
        .unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    path
}

/// Tokens without meaning, but all in the vocabulary.
fn tokens(engine: &Engine, count: usize, seed: u64) -> Vec<u32> {
    Random::new(seed).tokens(count, engine.vocabulary())
}

/// Two other sequences read pieces of their own in the same passes, of lengths that fit no tile.
fn logits_in_company(engine: &mut Engine, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut sequences: Vec<Sequence> = (0..3).map(|_| engine.new_sequence()).collect();
    let others: Vec<Vec<u32>> = [3, 5].iter().map(|&seed| self::tokens(engine, tokens.len(), seed)).collect();
    let mut rows = Vec::new();
    let [mut first, mut second] = [0, 0];
    for part in tokens.chunks(13) {
        let mut batch = Vec::new();
        let company = [(0, 7, &mut first), (2, 1, &mut second)];
        for (sequence, count, at) in company {
            let from = &others[sequence / 2][*at..(*at + count).min(tokens.len())];
            batch.extend(from.iter().map(|&token| BatchToken { token, sequence, logits: token % 2 == 0 }));
            *at += from.len();
            // The sequence under test stands between the two.
            if sequence == 0 {
                batch.extend(part.iter().map(|&token| BatchToken { token, sequence: 1, logits: true }));
            }
        }
        let mut borrowed: Vec<&mut Sequence> = sequences.iter_mut().collect();
        forward(engine, &batch, &mut borrowed, |i, row| {
            if batch[i].sequence == 1 {
                rows.push(row.to_vec());
            }
        });
    }
    rows
}

fn check(path: &Path, packed: &Path, count: usize, options: &LoadOptions) {
    let kv_type = options.kv_type;
    let what = |how: &str| format!("{}, {kv_type:?} cache: {how}", path.display());
    let mut engine = load(path, options);
    let tokens = tokens(&engine, count, 1);
    let whole = logits(&mut engine, &tokens, count);
    assert!(whole.iter().flatten().all(|x| x.is_finite()), "{}", what("not finite"));
    for chunk in [1, 7, 64] {
        assert_same_bits(&whole, &logits(&mut engine, &tokens, chunk), &what(&format!("chunks of {chunk}")));
    }
    assert_same_bits(&whole, &logits_in_company(&mut engine, &tokens), &what("in a batch with two others"));
    for isa in Isa::available() {
        // The portable kernels are slow, and a beginning of the prompt shows as much.
        let few = if isa == Isa::best() { count } else { count.min(90) };
        for (path, chunk) in [(path, 64), (packed, 7)] {
            let mut other = load(path, &options.clone().isa(Some(isa)));
            let how = format!("on {isa}, {}", path.display());
            assert_same_bits(&whole[..few], &logits(&mut other, &tokens[..few], chunk), &what(&how));
        }
    }
    if Cores::here().allowed_threads() < 2 {
        skipped("two threads: this machine runs only one at a time");
        return;
    }
    for path in [path, packed] {
        let residence = Residence { mmap: false, mlock: false };
        let mut two = load(path, &options.clone().threads(Some(2)).residence(residence));
        for chunk in [1, count] {
            let how = format!("two threads, chunks of {chunk}, {}", path.display());
            assert_same_bits(&whole, &logits(&mut two, &tokens, chunk), &what(&how));
        }
        assert_same_bits(&whole, &logits_in_company(&mut two, &tokens), &what("two threads, with two others"));
    }
}

fn check_converted(from: &Path, types: TypeRule, count: usize, kv_type: KvType) {
    check_converted_with(from, types, count, &options().kv_type(kv_type));
}

fn check_converted_with(from: &Path, types: TypeRule, count: usize, options: &LoadOptions) {
    let scratch = tempfile::tempdir().expect("scratch directory");
    let plain = convert(from, scratch.path(), types, false);
    let packed = convert(from, scratch.path(), types, true);
    check(&plain, &packed, count, options);
}

#[test]
fn stories260k() {
    let path = data("stories260K/stories260K-f32.gguf");
    check_converted(&path, TypeRule::Keep, 300, KvType::F32);
}

/// One layer of stories260K with so many hidden units that a product takes its input in several panels.
#[test]
fn many_hidden_units() {
    const UNITS: usize = 16384;
    let source = open(&data("stories260K/stories260K-f32.gguf"));
    let mut metadata = source.metadata().clone();
    metadata.set("llama.block_count", Value::U32(1));
    metadata.set("llama.feed_forward_length", Value::U32(UNITS as u32));
    let (mut tensors, mut contents) = (Vec::new(), Vec::new());
    for (i, tensor) in source.tensors().iter().enumerate() {
        let mut tensor = tensor.clone();
        let mut content = source.rows(i, 0..tensor.rows()).into_owned();
        if tensor.name.starts_with("blk.") && !tensor.name.starts_with("blk.0.") {
            continue;
        }
        let is = |part: &str| tensor.name.ends_with(&format!("{part}.weight"));
        if is("ffn_gate") || is("ffn_up") || is("ffn_down") {
            let hidden = usize::from(!is("ffn_down"));
            tensor.shape[hidden] = UNITS;
            // The weights that there are, again and again.
            content = content.into_iter().cycle().take(tensor.byte_len().unwrap()).collect();
        }
        tensors.push(tensor);
        contents.push(content);
    }
    let scratch = tempfile::tempdir().expect("scratch directory");
    let path = scratch.path().join("wide.gguf");
    let mut writer = GgufWriter::create(&path, None, &metadata, &tensors).unwrap();
    contents.iter().for_each(|content| writer.write_tensor_part(content).unwrap());
    writer.finish().unwrap();
    for rule in [TypeRule::Keep, TypeRule::To(TensorType::Q4_0)] {
        check_converted(&path, rule, 330, KvType::F32);
    }
}

#[test]
fn odd_shapes_and_biases() {
    check_converted(&data("tiny-llama2-f16"), TypeRule::Keep, 150, KvType::F16);
    check_converted(&data("tiny-llama3-bf16"), TypeRule::Keep, 150, KvType::F32);
}

/// Small checkpoints of every family and every way of stretching RoPE, as they are and with blocks of 32 and of 256 (or
/// what stands for them).
#[test]
fn odd_shapes_of_every_family() {
    for reference in Reference::fixtures() {
        let rules = [TypeRule::Keep, TypeRule::To(TensorType::Q4_0), TypeRule::Mix(Mix::Q4_K_M)];
        // Where no block fits, F16 stands for the types of both.
        let source = open(&reference.directory);
        let fits = source.tensors().iter().any(|tensor| tensor.shape.len() == 2 && tensor.cols().is_multiple_of(32));
        let rules = &rules[..if fits { 3 } else { 2 }];
        let options = reference.options().kv_type(KvType::F16);
        rules.iter().for_each(|&rule| check_converted_with(&reference.directory, rule, 140, &options));
    }
}

/// More positions than two segments of attention, in every type that a file can be converted to.
#[test]
fn demo_in_every_type() {
    use TensorType::{BF16, F16, MXFP4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, TQ2_0};
    let types = [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F16, BF16, TQ2_0, MXFP4].map(TypeRule::To);
    // These have all the types with blocks of 256 in them.
    let mixes = [Mix::Q2_K, Mix::Q3_K_M, Mix::Q4_K_M, Mix::IQ4_NL, Mix::IQ4_XS].map(TypeRule::Mix);
    for rule in types.into_iter().chain(mixes) {
        check_converted(&demo(), rule, 140, KvType::F16);
    }
}

#[test]
fn demo_beyond_several_segments() {
    check_converted(&demo(), TypeRule::To(TensorType::Q8_0), 700, KvType::F16);
}

/// Keys and values in few bits, in heads of every size, within a segment and beyond.
#[test]
fn caches_in_few_bits() {
    for kv_type in [KvType::Q8, KvType::Q8Q4, KvType::Q4] {
        for reference in Reference::fixtures() {
            let options = reference.options().kv_type(kv_type);
            check_converted_with(&reference.directory, TypeRule::Keep, 140, &options);
        }
        check_converted(&demo(), TypeRule::To(TensorType::Q8_0), 400, kv_type);
    }
}

#[test]
fn smollm2() {
    let Some(path) = refs("smollm2.gguf") else { return };
    check_converted(&path, TypeRule::Keep, 40, KvType::F16);
}

/// Fewer kv heads than threads, so segments of attention are shared out: stories260K with one of its kv heads, for one
/// token after many, several of them, and such beside other sequences.
#[test]
fn one_kv_head() {
    const HEAD: usize = 8;
    let source = open(&data("stories260K/stories260K-f32.gguf"));
    let mut metadata = source.metadata().clone();
    metadata.set("llama.attention.head_count_kv", Value::U32(1));
    metadata.set("llama.context_length", Value::U32(2048));
    let scratch = tempfile::tempdir().expect("scratch directory");
    let path = scratch.path().join("one.gguf");
    let mut tensors = source.tensors().to_vec();
    let contents: Vec<Vec<u8>> = (0..tensors.len())
        .map(|i| {
            let is = |part: &str| tensors[i].name.ends_with(&format!("{part}.weight"));
            if is("attn_k") || is("attn_v") {
                tensors[i].shape[1] = HEAD;
            }
            source.rows(i, 0..tensors[i].rows()).into_owned()
        })
        .collect();
    let mut writer = GgufWriter::create(&path, None, &metadata, &tensors).unwrap();
    contents.iter().for_each(|content| writer.write_tensor_part(content).unwrap());
    writer.finish().unwrap();
    for kv_type in [KvType::F32, KvType::Q8] {
        let mut one = load(&path, &options().context(1500).kv_type(kv_type));
        let tokens = tokens(&one, 1400, 1);
        let whole = logits(&mut one, &tokens, 1400);
        for threads in 2..=Cores::here().allowed_threads() {
            let mut engine = load(&path, &options().context(1500).kv_type(kv_type).threads(Some(threads)));
            for chunk in [1, 5, 100] {
                let how = format!("{threads} threads, chunks of {chunk}, {kv_type:?} cache");
                assert_same_bits(&whole, &logits(&mut engine, &tokens, chunk), &how);
            }
            assert_same_bits(
                &whole,
                &logits_in_company(&mut engine, &tokens),
                &format!("{threads} threads, in company"),
            );
        }
    }
}
