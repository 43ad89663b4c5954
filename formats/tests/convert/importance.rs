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
    // Once more, though q, k and v have entries of their own now.
    let again = bench.path("again");
    read.write(&again, &Inputs::new()).unwrap();
    let (again, mut read) = (Imatrix::read(&again).unwrap(), read);
    read.path = again.path.clone();
    assert_eq!(again, read);
    let of = |name: &str| read.find(&format!("blk.0.{name}.weight"));
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
        // Passed over as one that no input reached, it would be missing in silence.
        let other: (&str, &[usize], &[f32]) = ("b.weight.in_sum2", &[2, 1], &[1.0, 2.0]);
        let counts: (&str, &[usize], &[f32]) = ("a.weight.counts", &[1, 1], &[5.0]);
        let error = read(&[sums, counts, other, ("b.weight.counts", &[1, 1], &[bad])]).unwrap_err().to_string();
        assert!(error.contains("b.weight.in_sum2") && error.contains("no number of inputs"), "{error}");
    }
    let mut huge = Imatrix::new(Vec::new(), 1, 1);
    huge.entry("a.weight", 2).add(&[1.0, 1e19], 1, 2);
    assert_eq!(huge.overflow(), None);
    huge.entry("a.weight", 2).add(&[1.0, 2e19], 1, 2);
    assert_eq!(huge.overflow(), Some("a.weight"));
    let products = ("a.weight.in_products", &[256, 1][..], &[0.0; 256][..]);
    assert!(read(&[sums, ("a.weight.counts", &[1, 1], &[5.0]), products]).is_err(), "products of one column, not two");
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        let mut numbers = [0.0; 512];
        numbers[300] = bad;
        let products = ("a.weight.in_products", &[256, 2][..], &numbers[..]);
        let error = read(&[sums, ("a.weight.counts", &[1, 1], &[5.0]), products]).unwrap_err().to_string();
        assert!(error.contains("a.weight.in_products") && error.contains("no sums of products"), "{error}");
    }
    std::fs::write(bench.path("text"), "no GGUF").unwrap();
    assert!(Imatrix::read(&bench.path("text")).is_err());
}

/// Each expert is rounded by its own inputs; one that no token took by those of all.
#[test]
fn experts_have_importance_matrices_of_their_own() {
    let bench = Bench::new();
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let squares: Vec<f32> = (0..3 * 256).map(|i| if i < 512 { (i * i % 97) as f32 } else { 0.0 }).collect();
    let of = |name: &str, squares: &[f32], counts: &[f32]| {
        let shape = |cols| [cols, counts.len()];
        let tensors = [
            (info(&format!("{name}.in_sum2"), F32, &shape(256)), bytes(squares)),
            (info(&format!("{name}.counts"), F32, &shape(1)), bytes(counts)),
        ];
        Imatrix::read(bench.source_of(&tensors).path())
    };
    let (bank, one) = ("blk.0.ffn_up_exps.weight", "blk.0.ffn_up.weight");
    // Under the name of the gates, which have the same input.
    let imatrix = of("blk.0.ffn_gate_exps.weight", &squares, &[3.0, 4.0, 0.0]).unwrap();
    imatrix.write(&bench.path("again"), &Inputs::default()).unwrap();
    let again = Imatrix::read(&bench.path("again")).unwrap();
    for expert in 0..3 {
        assert_eq!(again.find_expert(bank, expert), imatrix.find_expert(bank, expert));
    }
    let weights = bytes_of(7, F16, 3 * 20 * 256);
    let rounded = |types, name: &str, shape: &[usize], weights: &[u8], imatrix: Option<Imatrix>| {
        let source = bench.source_of(&[(info(name, F16, shape), weights.to_vec())]);
        let options = ConvertOptions::new(types).imatrix(imatrix.map(Arc::new));
        let (file, summary) = bench.convert_with(&source, &options, "out.gguf");
        assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
        data(&file, name).to_vec()
    };
    let types = TypeRule::To(Q4_K);
    let together = rounded(types, bank, &[256, 20, 3], &weights, Some(imatrix));
    let all: Vec<f32> = (0..256).map(|k| squares[k] + squares[256 + k]).collect();
    let inputs = [(&squares[..256], 3.0), (&squares[256..512], 4.0), (&all[..], 7.0)];
    for (expert, (squares, count)) in inputs.into_iter().enumerate() {
        let (len, rows) = (together.len() / 3, weights.len() / 3);
        let (own, weights) = (&together[expert * len..][..len], &weights[expert * rows..][..rows]);
        let imatrix = of(one, squares, &[count]).unwrap();
        assert!(own == rounded(types, one, &[256, 20], weights, Some(imatrix)), "expert {expert}");
        assert!(own != rounded(types, one, &[256, 20], weights, None), "expert {expert}");
    }
    for counts in [&[3.0, -1.0, 0.0][..], &[1.0, f32::NAN, 1.0]] {
        let error = of(bank, &squares, counts).unwrap_err().to_string();
        assert!(error.contains("ffn_up_exps.weight.in_sum2") && error.contains("no numbers of inputs"), "{error}");
    }
}

/// An `imatrix.dat` as llama.cpp wrote it before GGUF: mean squares times calls.
fn legacy(entries: &[(&str, i32, &[f32])], end: Option<(i32, &str)>) -> Vec<u8> {
    let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as i32).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    for (name, calls, sums) in entries {
        text(&mut bytes, name);
        bytes.extend(calls.to_le_bytes());
        bytes.extend((sums.len() as i32).to_le_bytes());
        bytes.extend(sums.iter().flat_map(|v| v.to_le_bytes()));
    }
    if let Some((chunks, dataset)) = end {
        bytes.extend(chunks.to_le_bytes());
        text(&mut bytes, dataset);
    }
    bytes
}

/// An `imatrix.dat` does not say how many experts there are, so that only the model divides its columns among them; and
/// when experts were tensors of their own they had names of their own there.
#[test]
fn the_older_importance_matrices_know_experts() {
    let bench = Bench::new();
    let read = |entries: &[(&str, i32, &[f32])]| {
        std::fs::write(bench.path("imatrix.dat"), legacy(entries, None)).unwrap();
        Imatrix::read(&bench.path("imatrix.dat")).unwrap()
    };
    // The third was taken by no token.
    let squares: Vec<f32> = (0..3 * 256).map(|i| if i < 512 { (i * i % 97) as f32 } else { 0.0 }).collect();
    let (gate, up) = ("blk.0.ffn_gate_exps.weight", info("blk.0.ffn_up_exps.weight", F16, &[256, 20, 3]));
    let together = read(&[(gate, 5, &squares)]);
    let all: Vec<f32> = (0..256).map(|k| squares[k] + squares[256 + k]).collect();
    for (expert, expected) in [&squares[..256], &squares[256..512], &all[..]].into_iter().enumerate() {
        for row in [20 * expert, 20 * expert + 19] {
            let found = together.find_row(&up, row).unwrap();
            assert_eq!((found.count, &found.squares[..]), (5.0, expected), "row {row}");
        }
    }
    let apart =
        read(&[("blk.0.ffn_up.0.weight", 5, &squares[..256]), ("blk.0.ffn_up.1.weight", 4, &squares[256..512])]);
    for (expert, calls) in [5.0, 4.0].into_iter().enumerate() {
        let found = apart.find_row(&up, 20 * expert).unwrap();
        assert_eq!((found.count, &found.squares[..]), (calls, &squares[256 * expert..][..256]));
    }
    assert_eq!(apart.find_row(&up, 40), None);

    // It rounds, or is of another model.
    let source = bench.source(std::slice::from_ref(&up));
    let options = |imatrix| ConvertOptions::new(TypeRule::To(Q4_K)).imatrix(Some(Arc::new(imatrix)));
    bench.convert_with(&source, &options(together), "out.gguf");
    let of_two = options(read(&[(gate, 5, &squares[..512])]));
    let error = bench.fail_with(&source, &of_two, &bench.path("other.gguf")).to_string();
    assert!(error.contains("ffn_up_exps.weight") && error.contains("made with another one"), "{error}");
}

#[test]
fn the_older_importance_matrices_are_read() {
    let bench = Bench::new();
    let path = bench.path("imatrix.dat");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Imatrix::read(&path)
    };
    let sums: Vec<f32> = (0..256).map(|i| (i + 1) as f32).collect();
    let entries = [("blk.0.ffn_down.weight", 4, &sums[..]), ("blk.1.ffn_down.weight", 0, &sums[..])];
    for end in [None, Some((7, "wiki.train.raw"))] {
        let imatrix = read(&legacy(&entries, end)).unwrap();
        let statistics = imatrix.find("blk.0.ffn_down.weight").unwrap();
        assert_eq!((statistics.count, &statistics.squares, statistics.products.len()), (4.0, &sums, 0));
        assert!(imatrix.find("blk.1.ffn_down.weight").is_none(), "no input reached it");
        let dataset: Vec<&str> = end.iter().map(|end| end.1).collect();
        assert_eq!(
            (imatrix.chunks, imatrix.datasets),
            (end.map_or(0, |end| end.0 as u32), dataset.iter().map(|d| d.to_string()).collect())
        );
    }

    // It rounds as the same means in a GGUF do.
    let gguf = bench.source_of(&[
        (info("blk.0.ffn_down.weight.in_sum2", F32, &[256, 1]), sums.iter().flat_map(|v| v.to_le_bytes()).collect()),
        (info("blk.0.ffn_down.weight.counts", F32, &[1, 1]), 4.0f32.to_le_bytes().to_vec()),
    ]);
    let newer = Imatrix::read(gguf.path()).unwrap();
    let source = bench.source(&[info("blk.0.ffn_down.weight", F16, &[256, 20])]);
    let data = |imatrix: Imatrix, name: &str| {
        let options = ConvertOptions::new(TypeRule::To(Q4_K)).imatrix(Some(imatrix.into()));
        bench.convert_with(&source, &options, name).0.data(0).to_vec()
    };
    let older = data(read(&legacy(&entries, None)).unwrap(), "older.gguf");
    assert_eq!(older, data(newer, "newer.gguf"));
    assert!(older != bench.convert(&source, TypeRule::To(Q4_K), false, "without.gguf").0.data(0));

    // Whatever is cut off or changed: an error, and one that says which entry.
    let whole = legacy(&entries[..1], None);
    for len in 0..whole.len() {
        assert!(read(&whole[..len]).is_err(), "{len} bytes");
    }
    let error = read(&whole[..200]).unwrap_err().to_string();
    assert!(error.contains("entry 1 of 1, at byte 4: its values go beyond the end"), "{error}");
    for bad in [f32::NAN, -1.0] {
        let error = read(&legacy(&[("blk.0.ffn_down.weight", 1, &[bad])], None)).unwrap_err().to_string();
        assert!(error.contains("blk.0.ffn_down.weight") && error.contains("no sums of squares"), "{error}");
    }
    for huge in [i32::MAX, -1] {
        for at in [0, 4, 33] {
            let mut lie = whole.clone();
            lie[at..at + 4].copy_from_slice(&huge.to_le_bytes());
            assert!(read(&lie).is_err(), "{huge} at {at}");
        }
    }
    assert!(matches!(read(&legacy(&entries[1..], None)).unwrap_err(), ImatrixError::None { .. }));
    let error = read(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap_err().to_string();
    assert!(error.contains("Git LFS"), "{error}");
}
