//! Logits as Hugging Face's transformers computes them in float64, from the checkpoint's directory and from what Quipu
//! converts it to.
//!
//! The bound for floats is a few times the error that transformers itself makes in float32: any mistake in RoPE, in the
//! order of heads, in a mask or in a bias moves logits (which spread over three units) by far more. Quantised files
//! lose what the same rounding of weights and activations costs there, and no more.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, Rounding, TensorRule, TypeRule, write_gguf};
use quipu_quant::TensorType;
use quipu_runtime::KvType;
use quipu_tests::{Reference, kl_divergence, load, logits, max_difference, open};

/// How many times transformers' own float32 error may be reached, and an absolute part for its luck.
fn float_bound(reference: &Reference) -> f32 {
    4.0 * reference.float32_error + 2e-5
}

fn convert(from: &Path, directory: &Path, types: TypeRule, packed: bool) -> PathBuf {
    let path = directory.join(format!("{types:?}-{packed}.gguf").replace(['(', ')'], "-"));
    let interrupt = AtomicBool::new(false);
    let source = open(from);
    let mut rules = Vec::new();
    // The references round by ggml's plain rule, and have a head of Q8_0 where the rest has fewer bits.
    if let TypeRule::To(ty) = types
        && !ty.is_float()
    {
        let head = ["output.weight", "token_embd.weight"].into_iter().find(|name| source.find(name).is_some());
        rules.extend(head.map(|name| TensorRule { pattern: name.into(), ty: TensorType::Q8_0 }));
    }
    write_gguf(
        source.as_ref(),
        &ConvertOptions::new(types).packed(packed).tensors(rules).rounding(Rounding::Plain),
        &path,
        &interrupt,
        &|_| {},
    )
    .unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    path
}

/// Figures of every checkpoint, and whether each is within its bound; so one failure does not hide the others.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    fn check(&mut self, what: String, value: f64, bound: f64) {
        println!("{what}: {value:.2e} (bound {bound:.2e})");
        if value.is_nan() || value > bound {
            self.0.push(format!("{what}: {value:.3e}, bound {bound:.3e}"));
        }
    }
}

fn check_all(references: &[Reference], check: fn(&Reference, &mut Report)) {
    let mut report = Report::default();
    references.iter().for_each(|reference| check(reference, &mut report));
    assert!(report.0.is_empty(), "{}", report.0.join("\n"));
}

fn check_floats(reference: &Reference, report: &mut Report) {
    let name = reference.name();
    let scratch = tempfile::tempdir().expect("scratch directory");
    let converted = |types, packed| convert(&reference.directory, scratch.path(), types, packed);
    let bound = float_bound(reference);
    for (how, path) in [
        ("the directory", reference.directory.clone()),
        ("a GGUF", converted(TypeRule::Keep, false)),
        ("a packed file", converted(TypeRule::Keep, true)),
        ("a GGUF of F32", converted(TypeRule::To(TensorType::F32), false)),
    ] {
        let mut engine = load(&path, &reference.options());
        let got = reference.pick(&logits(&mut engine, &reference.tokens, 64));
        report.check(format!("{name} from {how}"), max_difference(&got, &reference.logits) as f64, bound as f64);
        let (text, tokens) = &reference.text;
        // transformers takes control tokens for such wherever they stand.
        assert_eq!(&engine.tokenizer().encode(text, true, true), tokens, "{name} from {how}");
    }
    // F16 keys and values cost about 2⁻¹¹ of each.
    let rounded = reference.options().kv_type(KvType::F16);
    let got = reference.pick(&logits(&mut load(&reference.directory, &rounded), &reference.tokens, 64));
    let error = max_difference(&got, &reference.logits);
    report.check(format!("{name} with an f16 KV cache"), error as f64, 0.05);
}

fn check_quantised(reference: &Reference, report: &mut Report) {
    let scratch = tempfile::tempdir().expect("scratch directory");
    for (name, expected) in &reference.quantised_kl {
        let ty = TensorType::from_name(name).expect("a type");
        let path = convert(&reference.directory, scratch.path(), TypeRule::To(ty), false);
        let got = reference.pick(&logits(&mut load(&path, &reference.options()), &reference.tokens, 64));
        let sum: f64 = reference.logits.iter().zip(&got).map(|(p, q)| kl_divergence(p, q)).sum();
        // Rounding falls differently after the last bit of a float has, so the same loss comes out only nearly.
        let (kl, bound) = (sum / got.len() as f64, 1.3 * expected + 1e-5);
        report.check(format!("{} in {name}: mean KL divergence", reference.name()), kl, bound);
        report.check(format!("{} in Q8_0 is close", reference.name()), if name == "Q8_0" { kl } else { 0.0 }, 0.03);
    }
}

#[test]
fn fixtures_float_for_float() {
    check_all(&Reference::fixtures(), check_floats);
}

#[test]
fn fixtures_quantised() {
    check_all(&Reference::fixtures(), check_quantised);
}

#[test]
fn checkpoints_float_for_float() {
    check_all(&Reference::all(), check_floats);
}

#[test]
fn checkpoints_quantised() {
    check_all(&Reference::all(), check_quantised);
}

/// The references are worth something: they tell each token's row from its neighbours'.
#[test]
fn references_are_not_degenerate() {
    for reference in Reference::fixtures().iter().chain(&Reference::all()) {
        let pairs = reference.logits.windows(2);
        let mean = pairs.clone().map(|pair| kl_divergence(&pair[0], &pair[1])).sum::<f64>() / pairs.len() as f64;
        assert!(mean > 1.0, "{}: neighbouring positions are alike: {mean}", reference.name());
    }
}

/// What transformers chooses by the length of a text is chosen by the context limit: with another limit than the
/// reference's the same tokens have other logits, though they are as many.
#[test]
fn the_context_limit_chooses_rope_s_factors() {
    let chosen = Reference::fixtures().into_iter().filter(|reference| reference.context.is_some());
    let mut count = 0;
    for reference in chosen {
        let other = reference.options().context(Some(reference.context.unwrap_or(0) + 1));
        let got = reference.pick(&logits(&mut load(&reference.directory, &other), &reference.tokens, 64));
        let moved = max_difference(&got, &reference.logits);
        assert!(moved > 4.0 * float_bound(&reference), "{}: logits moved by {moved}", reference.name());
        count += 1;
    }
    assert_eq!(count, 2, "LongRoPE within its original context, dynamic scaling beyond the model's");
}
