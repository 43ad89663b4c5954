//! What a conversion tells, and what it refuses to write.

use super::bench::*;

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
        let source =
            bench.source_of(&[(infos[0].clone(), bytes(&weights(0, 64 * 8))), (infos[1].clone(), bytes(&values))]);
        std::fs::write(bench.path("out.gguf"), "precious").unwrap();
        for ty in [F16, Q8_0, Q4_1, BF16, F32] {
            if bad == 65519.0 || (bad.is_finite() && matches!(ty, BF16 | F32)) {
                bench.convert(&source, TypeRule::To(ty), false, "fits.gguf");
                std::fs::remove_file(bench.path("fits.gguf")).unwrap();
                continue;
            }
            match bench.fail(&source, TypeRule::To(ty), &bench.path("out.gguf")) {
                ConvertError::WeightOutOfRange { tensor, row: 2500, col: 9, value, ty: t, .. } => {
                    assert_eq!((tensor.as_str(), t, value), ("blk.0.attn_q.weight", ty, 1e6));
                }
                ConvertError::NotFinite { tensor, row: 2500, col: 9, value, .. } => {
                    assert_eq!((tensor.as_str(), value.to_bits()), ("blk.0.attn_q.weight", bad.to_bits()));
                }
                error => panic!("{bad} to {ty}: {error}"),
            }
        }
        assert_eq!(std::fs::read(bench.path("out.gguf")).unwrap(), b"precious", "a failed run replaced the output");
        assert_eq!(bench.names(), ["out.gguf", "source.gguf"], "a failed run left something behind");
    }
}

/// Whatever a tensor is for and however it lies in its file: where its bytes go over as they are, they are looked at.
#[test]
fn what_is_no_number_is_not_copied() {
    let bench = Bench::new();
    let names = ["output_norm.weight", "rope_freqs.weight", "blk.0.attn_q.bias", "blk.0.ffn_norm.scale"];
    for (i, name) in names.into_iter().enumerate() {
        let mut values = weights(2, 32);
        values[20 + i] = [f32::NAN, f32::INFINITY][i % 2];
        let source = bench.source_of(&[
            (info("blk.0.attn_q.weight", F32, &[32, 32]), bytes(&weights(0, 32 * 32))),
            (info(name, F32, &[32]), bytes(&values)),
        ]);
        for (rule, packed) in [(TypeRule::Keep, false), (TypeRule::Keep, true), (TypeRule::To(Q8_0), false)] {
            let options = ConvertOptions::new(rule).packed(packed);
            match bench.fail_with(&source, &options, &bench.path("out.gguf")) {
                ConvertError::NotFinite { tensor, row: 0, col, .. } => {
                    assert_eq!((tensor.as_str(), col), (name, 20 + i))
                }
                error => panic!("{name}: {error}"),
            }
        }
    }
    // Every type with kernels: the last scale of the last row, or the last number of it.
    for ty in TensorType::ALL {
        let shape = [256, 40];
        let mut data = bytes_of(3, ty, shape.iter().product());
        let block = data.len() - ty.block_bytes();
        let nan = if ty == BF16 { 0x7fc0_u16 } else { 0x7e00 };
        match (ty, f16_scales(ty).last()) {
            (MXFP4, _) => data[block] = 255,
            (F32, _) => data[block..].copy_from_slice(&f32::NAN.to_le_bytes()),
            (_, at) => data[block + at.unwrap_or(&0)..][..2].copy_from_slice(&nan.to_le_bytes()),
        }
        let name = "blk.0.attn_q.weight";
        let source = bench.source_of(&[(info(name, ty, &shape), data)]);
        for packed in [false, true] {
            let options = ConvertOptions::new(TypeRule::Keep).packed(packed);
            let error = bench.fail_with(&source, &options, &bench.path("out.gguf"));
            assert!(
                matches!(&error, ConvertError::NotFinite { tensor, row: 39, .. } if tensor == name),
                "{ty}: {error}"
            );
        }
    }
    assert_eq!(bench.names(), ["source.gguf"], "a failed run left something behind");
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// What was written is opened before it gets its name, in one file or in parts; whoever finds fault with it keeps what
/// was there.
#[test]
fn what_cannot_be_used_is_not_kept() {
    let bench = Bench::new();
    let infos = [info("blk.0.attn_k.weight", F32, &[64, 80]), info("blk.0.attn_q.weight", F32, &[64, 300])];
    let source = bench.source(&infos);
    for part_bytes in [None, Some(1000)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let check = |fault: Option<&'static str>| {
            let seen = seen.clone();
            Some(Check(Arc::new(move |file: GgufFile| {
                let data = |name: &str| file.data(file.find(name).unwrap()).to_vec();
                let names = ["blk.0.attn_k.weight", "blk.0.attn_q.weight"];
                seen.lock().unwrap().push((file.metadata().clone(), file.tensors().len(), names.map(data)));
                fault.map_or(Ok(()), |fault| Err(fault.to_string()))
            })))
        };
        let options = ConvertOptions::new(TypeRule::To(F16)).part_bytes(part_bytes);
        let out = bench.path("out.gguf");
        std::fs::write(&out, "precious").unwrap();
        std::fs::write(bench.path("out-00001-of-00002.gguf"), "precious").unwrap();
        let error = bench.fail_with(&source, &options.clone().check(check(Some("it hums"))), &out).to_string();
        assert!(error.contains("out") && !error.contains(".out") && error.contains("it hums"), "{error}");
        for name in ["out.gguf", "out-00001-of-00002.gguf"] {
            assert_eq!(std::fs::read(bench.path(name)).unwrap(), b"precious");
        }
        assert_eq!(bench.names(), ["out-00001-of-00002.gguf", "out.gguf", "source.gguf"], "something was left behind");

        let options = options.check(check(None));
        let summary = write_gguf(&source, &options, &out, &AtomicBool::new(false), &|_| {}).unwrap();
        assert_eq!(summary.files.len(), part_bytes.map_or(1, |_| 2));
        let written = GgufFile::open(&summary.files[0]).unwrap();
        for (metadata, tensors, data) in std::mem::take(&mut *seen.lock().unwrap()) {
            assert_eq!((&metadata, tensors), (written.metadata(), 2));
            assert_eq!(data, [written.data(0), written.data(1)]);
        }
        summary.files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        let _ = std::fs::remove_file(&out);
        let _ = std::fs::remove_file(bench.path("out-00001-of-00002.gguf"));
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
