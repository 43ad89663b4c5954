//! PyTorch checkpoints: what is read, and what is refused by which name.

mod build;

use std::path::{Path, PathBuf};

use build::{archive, checkpoint, text, view};
use proptest::prelude::*;
use quipu_formats::safetensors::Dtype;
use quipu_formats::torch::{Numbers, TorchError, TorchFault, TorchFile};

use TorchFault::*;

/// What `tests/refs/make_torch_files.py` has written.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/torch")
}

fn open(bytes: &[u8]) -> Result<TorchFile, TorchError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pytorch_model.bin");
    std::fs::write(&path, bytes).unwrap();
    TorchFile::open(path)
}

fn fault(opened: Result<TorchFile, TorchError>) -> TorchFault {
    match opened {
        Err(TorchError::Invalid { fault, .. }) => *fault,
        other => panic!("expected a broken rule, got {other:?}"),
    }
}

fn dtype(torch: &str) -> Dtype {
    match torch.strip_prefix("torch.").unwrap() {
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float64" => Dtype::F64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "bool" => Dtype::BOOL,
        whole => Dtype::from_name(&whole.replace("uint", "U").replace("int", "I")).unwrap(),
    }
}

#[test]
fn torch_reads_the_same_numbers() {
    for name in ["dtypes", "views", "state_dict", "protocol4", "protocol5"] {
        let file = TorchFile::open(data().join(format!("{name}.pt"))).unwrap();
        let listed = std::fs::read_to_string(data().join(format!("{name}.json"))).unwrap();
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        assert_eq!(file.tensors().len(), listed.len());
        for (index, (tensor, expected)) in file.tensors().iter().zip(&listed).enumerate() {
            assert_eq!(tensor.name, expected["name"]);
            assert_eq!(serde_json::json!(tensor.shape), expected["shape"], "{}", tensor.name);
            assert_eq!(dtype(expected["dtype"].as_str().unwrap()), tensor.dtype);
            let bytes: String = file.data(index).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(bytes, expected["bytes"], "{name} {}", tensor.name);
        }
    }
}

#[test]
fn what_lies_row_after_row_is_mapped() {
    let file = TorchFile::open(data().join("views.pt")).unwrap();
    let mapped = |t: &&quipu_formats::torch::TorchTensor| matches!(t.numbers, Numbers::Contiguous(_));
    let names: Vec<_> = file.tensors().iter().filter(mapped).map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["whole", "tied", "rows", "parameter"]);
    assert_eq!(file.tensors()[0].numbers, file.tensors()[1].numbers, "tied tensors share their bytes");
}

#[test]
fn nothing_but_tensors_is_read() {
    let refused = |name: &str| fault(TorchFile::open(data().join(format!("refused_{name}.pt"))));
    for (name, asked_for) in [
        ("command", "posix.system"),
        ("eval", "builtins.eval"),
        ("module", "torch.nn.modules.container.Sequential"),
        ("namespace", "argparse.Namespace"),
        ("sparse", "torch._utils._rebuild_sparse_tensor"),
    ] {
        match refused(name) {
            Global { name: found, .. } => assert_eq!(found, asked_for),
            other => panic!("{name}: {other}"),
        }
    }
    assert_eq!(refused("legacy"), Legacy);
    assert_eq!(refused("script"), Script);
    assert_eq!(refused("nested"), NotATensor { key: "model".into(), found: "a dictionary" });
    assert_eq!(refused("list"), NotADict { found: "a list" });
    assert_eq!(refused("byteorder"), ByteOrder { found: "big".into() });
    assert!(matches!(refused("compressed"), Entry { what, .. } if what.contains("compressed")));
}

/// Files of one folder `x` with this program and `x/data/0` of 16 bytes.
fn with_program(program: &[u8]) -> Vec<u8> {
    archive(&[("x/data.pkl", program.to_vec()), ("x/data/0", (0..16).collect())], false)
}

/// A dictionary of one tensor `t`.
fn with_view(view: &[u8]) -> Vec<u8> {
    let mut program = b"\x80\x02}".to_vec();
    text(&mut program, "t");
    program.extend_from_slice(view);
    program.extend(b"s.");
    with_program(&program)
}

#[test]
fn large_archives_have_zip64() {
    let mut program = b"\x80\x02}".to_vec();
    text(&mut program, "t");
    program.extend(view("FloatStorage", "0", 4, 1, &[1, 3], &[3, 1]));
    program.extend(b"s.");
    let file = open(&archive(&[("x/data.pkl", program), ("x/data/0", (0..16).collect())], true)).unwrap();
    assert_eq!(*file.data(0), (4..16).collect::<Vec<u8>>());
}

#[test]
fn views_stay_within_their_storage() {
    let good = |offset, shape: &[usize], strides: &[usize]| {
        open(&with_view(&view("FloatStorage", "0", 4, offset, shape, strides)))
    };
    assert_eq!(*good(0, &[2, 2], &[2, 1]).unwrap().data(0), (0..16).collect::<Vec<u8>>());
    assert_eq!(*good(3, &[1], &[usize::MAX >> 1]).unwrap().data(0), [12, 13, 14, 15], "a stride that is never taken");
    for (offset, shape, strides) in [
        (1, &[4][..], &[1][..]),
        (0, &[5], &[0]),
        (0, &[1 << 40, 1 << 40], &[0, 0]),
        (0, &[2], &[4]),
        (4, &[], &[]),
        (usize::MAX >> 1, &[1], &[1]),
        (0, &[2], &[usize::MAX >> 1]),
        (0, &[2, 2], &[1]),
        (1, &[2, 2], &[1, 1 << 62]),
    ] {
        assert!(matches!(fault(good(offset, shape, strides)), OutsideStorage { .. }), "{offset} {shape:?} {strides:?}");
    }
    let longer = fault(open(&with_view(&view("FloatStorage", "0", 5, 0, &[1], &[1]))));
    assert_eq!(longer, ShortStorage { tensor: "t".into(), entry: "data/0".into(), expected: 20, found: 16 });
    let missing = fault(open(&with_view(&view("FloatStorage", "../0", 4, 0, &[1], &[1]))));
    assert_eq!(missing, NoStorage { tensor: "t".into(), entry: "data/../0".into() });
}

#[test]
fn wrong_programs_have_names() {
    let refused = |program: &[u8]| fault(open(&with_program(program)));
    let says = |program: &[u8], what: &str| {
        let found = refused(program).to_string();
        assert!(found.contains(what), "{found}");
    };
    says(b"", "ends early");
    says(b"}", "ends early");
    says(b".", "stack is empty");
    says(b"N.", "data.pkl holds None");
    says(b"X\xff\xff\xff\xffabc", "ends early");
    says(b"h\x07.", "never kept");
    says(b"t.", "no mark");
    says(b"(.", "stack is empty");
    says(b"N(0.", "stack is empty");
    says(b"N(N\x86.", "stack is empty");
    says(b"b.", "stack is empty");
    says(b"NNb.", "attributes of what is no dictionary");
    says(b"NNR.", "call of what is no type");
    says(b"ccollections\nOrderedDict\nNR.", "no tuple");
    says(b"ccollections\nOrderedDict\nN\x85R.", "wrong arguments");
    says(b"NQ.", "storage with wrong arguments");
    says(b"cos\nsystem\n.", "os.system");
    says(b"cos", "without an end");
    // INST, OBJ, NEWOBJ, EXT1, PERSID, BINUNICODE of protocol 0
    for code in [b'i', b'o', 0x81, 0x82, b'P', b'V', 0xff] {
        assert_eq!(refused(&[code, b'.']), Instruction { at: 0, code });
    }
    // A list in itself, which Python allows, has no end to walk to here.
    says(b"]q\x00h\x00a.", "data.pkl holds a list");
    let mut twice = b"}(".to_vec();
    for _ in 0..2 {
        text(&mut twice, "t");
        twice.extend(view("FloatStorage", "0", 4, 0, &[4], &[1]));
    }
    twice.extend(b"u.");
    assert_eq!(refused(&twice), Twice { tensor: "t".into() });
}

#[test]
fn wrong_archives_have_names() {
    let good = with_view(&view("FloatStorage", "0", 4, 0, &[4], &[1]));
    for cut in 0..good.len() {
        assert!(matches!(fault_or_map(open(&good[..cut])), None | Some(NoZip { .. })), "{cut}");
    }
    let at = |pattern: &[u8]| good.windows(pattern.len()).rposition(|w| w == pattern).unwrap();
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        fault(open(&file))
    };
    // The last entry of the directory.
    let central = at(b"PK\x01\x02");
    assert!(matches!(changed(central + 8, &[1]), Entry { what: "is encrypted", .. }));
    assert!(matches!(changed(central + 10, &[8]), Entry { what, .. } if what.contains("compressed")));
    assert!(matches!(changed(central + 24, &[17]), Entry { what: "has two sizes", .. }));
    assert!(matches!(changed(central + 42, &[1]), Entry { what: "lies outside of the file", .. }));
    assert!(matches!(changed(central + 42, &[255; 4]), Entry { what: "has no zip64 sizes", .. }));
    // Both of its sizes reach into the directory.
    assert!(matches!(changed(central + 20, &[99, 0, 0, 0, 99]), Entry { what: "lies outside of the file", .. }));
    assert!(matches!(changed(central + 42, &[0; 4]), Overlap { .. }));
    let end = at(b"PK\x05\x06");
    assert!(matches!(changed(end + 16, &[0xff; 3]), NoZip { .. }));
    assert!(matches!(changed(end + 10, &[9, 9]), NoZip { .. }));
    // A byte of data.pkl.
    let program = good.windows(4).position(|w| w == b"\x80\x02}X").unwrap();
    assert!(matches!(changed(program + 1, &[4]), Entry { what, .. } if what.contains("checksum")));
    let none = archive(&[("x/other", vec![1])], false);
    assert_eq!(fault(open(&none)), NoPickle);
    let twice = archive(&[("x/data.pkl", b"}.".to_vec()), ("x/data.pkl", b"}.".to_vec())], false);
    assert!(matches!(fault(open(&twice)), Entry { what: "is there twice", .. }));
    assert!(matches!(fault(open(b"version https://git-lfs.github.com/spec/v1\n")), NotWeights { .. }));
}

/// The rule that is broken, or `None` where not even a mapping was made.
fn fault_or_map(opened: Result<TorchFile, TorchError>) -> Option<TorchFault> {
    match opened {
        Err(TorchError::Map(_)) => None,
        other => Some(fault(other)),
    }
}

/// Each program runs in a time and a memory that follow its length.
#[test]
fn small_programs_cannot_make_large_values() {
    // A tuple of all that was made so far, again and again: 2^60 leaves if it were copied.
    let mut program = b"N".to_vec();
    for _ in 0..60 {
        program.extend(b"q\x00h\x00\x86");
    }
    program.push(b'.');
    assert_eq!(fault(open(&with_program(&program))), NotADict { found: "a list" });
    // A million lists within lists.
    let mut deep = vec![b']'; 1_000_000];
    deep.extend(vec![b'a'; 999_999]);
    deep.push(b'.');
    assert_eq!(fault(open(&with_program(&deep))), NotADict { found: "a list" });
    let padded = [b"}.".to_vec(), vec![0; 17 << 20]].concat();
    assert!(matches!(fault(open(&with_program(&padded))), Entry { what, .. } if what.contains("larger")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Files with wrong bytes: an error, or tensors whose numbers can be read.
    #[test]
    fn wrong_bytes_never_panic(
        file in prop::sample::select(&["dtypes", "views", "state_dict", "protocol4", "refused_module"][..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_directory: bool,
    ) {
        let mut bytes = std::fs::read(data().join(format!("{file}.pt"))).unwrap();
        let from = if in_directory { bytes.len() * 2 / 3 } else { 0 };
        for (at, value) in changes {
            let at = from + at.index(bytes.len() - from);
            bytes[at] = value;
        }
        read_all(&bytes)?;
    }

    /// The same for programs, whose checksum is right.
    #[test]
    fn wrong_programs_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut program = b"\x80\x02}(".to_vec();
        for name in ["a", "b"] {
            text(&mut program, name);
            program.extend(view("HalfStorage", "0", 8, 1, &[2, 2], &[3, 1]));
        }
        program.extend(b"u.");
        for (at, value) in changes {
            let at = at.index(program.len());
            program[at] = value;
        }
        if let Some(cut) = cut {
            program.truncate(cut.index(program.len()));
        }
        read_all(&with_program(&program))?;
    }
}

fn read_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    match open(bytes) {
        Err(error) => prop_assert!(!error.to_string().is_empty()),
        Ok(file) => {
            for (index, tensor) in file.tensors().iter().enumerate() {
                let numbers: usize = tensor.shape.iter().product();
                prop_assert_eq!(file.data(index).len() as u64, numbers as u64 * tensor.dtype.bits() / 8);
            }
        }
    }
    Ok(())
}

#[test]
fn the_writer_of_these_tests_writes_what_is_read() {
    let tensors = [("a".to_string(), "FloatStorage", 4, vec![2, 3], (0..24).collect())];
    let file = open(&checkpoint(&tensors)).unwrap();
    assert_eq!((file.tensors()[0].dtype, file.tensors()[0].shape.as_slice()), (Dtype::F32, [2, 3].as_slice()));
    assert_eq!(*file.data(0), (0..24).collect::<Vec<u8>>());
}
