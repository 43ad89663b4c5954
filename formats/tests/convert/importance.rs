//! Importance matrices: written, read, used, refused.

use quipu_formats::convert::rounded::Rounded;

use super::bench::*;

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
    imatrix.write(&path, &Inputs::new()).unwrap();
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
    let error = Rounded::new(std::sync::Arc::new(other), &with, &[(0, Q4_K)]).err().unwrap();
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
