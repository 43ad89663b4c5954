//! Which type each tensor takes.

use super::bench::*;

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
    for ty in [Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, TQ2_0, MXFP4] {
        let plain = ConvertOptions::new(TypeRule::To(ty)).rounding(Rounding::Plain);
        let source = bench.source(&[info("blk.0.attn_q.weight", F16, &[256, 8])]);
        let error = bench.fail_with(&source, &plain, &bench.path("k.gguf"));
        assert!(matches!(error, ConvertError::NoPlainRule { ty: t, .. } if t == ty));
    }
}

/// llama.cpp has no number for a file of nothing but Q4_K: that of the source would be wrong.
#[test]
fn the_file_type_is_not_that_of_the_source() {
    let bench = Bench::new();
    let source = bench.source(&[info("blk.0.attn_q.weight", F32, &[256, 8])]);
    let (f16, _) = bench.convert(&source, TypeRule::To(F16), false, "f16.gguf");
    for (types, number) in [(TypeRule::To(Q4_K), None), (TypeRule::To(Q8_0), Some(7)), (TypeRule::Keep, Some(1))] {
        let (file, _) = bench.convert(&f16, types, false, "out.gguf");
        assert_eq!(file.metadata().u32_opt("general.file_type").unwrap(), number);
    }
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
