//! Every way through a conversion gives the same bits.

use super::bench::*;

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
        // In turn: all types but BF16, MXFP4 and TQ2_0; all of these but those with blocks of 256; float types alone.
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
            let rounded = Rounded::new(Arc::new(GgufFile::open(source.path()).unwrap()), &options, &types).unwrap();
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
