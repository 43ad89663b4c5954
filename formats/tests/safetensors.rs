//! safetensors: what is read, and what is refused by which name.

use proptest::prelude::*;
use quipu_formats::safetensors::{Dtype, MAX_HEADER_BYTES, SafetensorsError, SafetensorsFault, SafetensorsFile};

use SafetensorsFault::*;

/// A file with the header `json` and `data` bytes 0, 1, 2… after it.
fn file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

fn open(bytes: &[u8]) -> Result<SafetensorsFile, SafetensorsError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    SafetensorsFile::open(path)
}

fn fault(bytes: &[u8]) -> SafetensorsFault {
    match open(bytes) {
        Err(SafetensorsError::Invalid { path, fault }) => {
            assert!(path.ends_with("model.safetensors"));
            *fault
        }
        other => panic!("expected a broken rule, got {other:?}"),
    }
}

/// Two tensors, a scalar, an empty one and metadata; listed in another order than they lie.
const GOOD: &str = r#"{"__metadata__":{"format":"pt"},
    "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},
    "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
    "none":{"dtype":"F32","shape":[0,4],"data_offsets":[20,20]},
    "one":{"dtype":"F16","shape":[],"data_offsets":[20,22]}}   "#;

#[test]
fn what_is_written_is_read() {
    let f = open(&file(GOOD, 22)).unwrap();
    assert_eq!(f.metadata(), [("format".to_string(), "pt".to_string())]);
    let names: Vec<_> = f.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "none", "one"]);
    let b = f.find("b").unwrap();
    assert_eq!((f.tensors()[b].dtype, f.tensors()[b].shape.as_slice()), (Dtype::BF16, [2, 3].as_slice()));
    assert_eq!(f.data(b), (8..20).collect::<Vec<u8>>());
    assert_eq!(f.data(f.find("one").unwrap()), [20, 21]);
    assert!(f.data(f.find("none").unwrap()).is_empty());
    assert!(f.find("c").is_none());
}

#[test]
fn every_lie_has_its_name() {
    let a = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let tensor = || "a".to_string();
    let cases: Vec<(&str, Vec<u8>, SafetensorsFault)> = vec![
        ("three bytes", b"abc".to_vec(), TooShort { len: 3 }),
        ("a header near 2^64", u64::MAX.to_le_bytes().to_vec(), HeaderTooLarge { header: u64::MAX }),
        (
            "a header just over the limit",
            (MAX_HEADER_BYTES + 1).to_le_bytes().to_vec(),
            HeaderTooLarge { header: MAX_HEADER_BYTES + 1 },
        ),
        (
            "a header longer than the file",
            [100u64.to_le_bytes().as_slice(), b"{}"].concat(),
            TruncatedHeader { header: 100, missing: 98 },
        ),
        ("an empty header", 0u64.to_le_bytes().to_vec(), NotAnObject),
        ("an array", file("[]", 0), NotAnObject),
        ("no UTF-8", [2u64.to_le_bytes().as_slice(), b"{\xff"].concat(), InvalidUtf8 { at: 9 }),
        (
            "a tensor twice",
            file(
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                1,
            ),
            DuplicateKey { key: tensor() },
        ),
        (
            "metadata twice",
            file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0),
            DuplicateKey { key: "__metadata__".into() },
        ),
        ("a metadata key twice", file(r#"{"__metadata__":{"k":"1","k":"2"}}"#, 0), DuplicateKey { key: "k".into() }),
        ("an unknown dtype", file(&a("Q4", "[1]", "[0,1]"), 1), UnknownDtype { tensor: tensor(), dtype: "Q4".into() }),
        (
            "a shape that overflows",
            file(&a("F32", "[4294967296,4294967296]", "[0,0]"), 0),
            ShapeOverflow { tensor: tensor(), shape: vec![1 << 32, 1 << 32] },
        ),
        (
            "a shape that overflows in bits only",
            file(&a("F32", "[576460752303423488]", "[0,0]"), 0),
            ShapeOverflow { tensor: tensor(), shape: vec![1 << 59] },
        ),
        ("half a byte", file(&a("F4", "[3]", "[0,1]"), 1), PartialByte { tensor: tensor(), bits: 12 }),
        ("reversed offsets", file(&a("U8", "[1]", "[2,1]"), 2), OffsetsReversed { tensor: tensor(), begin: 2, end: 1 }),
        (
            "too few bytes for the shape",
            file(&a("F32", "[2]", "[0,4]"), 4),
            SizeMismatch { tensor: tensor(), dtype: Dtype::F32, shape: vec![2], expected: 8, found: 4 },
        ),
        (
            "an overlap",
            file(
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#,
                7,
            ),
            Overlap { tensor: "b".into(), begin: 3, before: tensor(), end: 4 },
        ),
        ("a hole at the start", file(&a("U8", "[1]", "[1,2]"), 2), Hole { tensor: tensor(), begin: 1, bytes: 1 }),
        (
            "a hole between",
            file(
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[6,7]}}"#,
                7,
            ),
            Hole { tensor: "b".into(), begin: 6, bytes: 2 },
        ),
        ("missing data", file(&a("U8", "[9]", "[0,9]"), 5), TruncatedData { tensor: tensor(), missing: 4 }),
        (
            "offsets near 2^64",
            file(&a("U8", "[18446744073709551615]", "[0,18446744073709551615]"), 5),
            ShapeOverflow { tensor: tensor(), shape: vec![u64::MAX] },
        ),
        (
            "more than any file",
            file(&a("U8", "[1152921504606846976]", "[0,1152921504606846976]"), 5),
            TruncatedData { tensor: tensor(), missing: (1 << 60) - 5 },
        ),
        ("trailing bytes", file(&a("U8", "[9]", "[0,9]"), 12), TrailingBytes { bytes: 3 }),
        ("bytes and no tensors", file("{}", 12), TrailingBytes { bytes: 12 }),
        (
            "a Git LFS pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n".to_vec(),
            NotWeights { what: "a Git LFS pointer (git lfs pull fetches what it points to)" },
        ),
        ("a web page", b"<!DOCTYPE html><html>".to_vec(), NotWeights { what: "an HTML page" }),
    ];
    for (lie, bytes, expected) in cases {
        assert_eq!(fault(&bytes), expected, "{lie}");
    }
}

#[test]
fn json_of_the_wrong_shape_names_the_entry() {
    let cases = [
        (r#"{"a":5}"#, Some("a")),
        (r#"{"a":{"dtype":"F32","shape":[1]}}"#, Some("a")),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, Some("a")),
        (r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#, Some("a")),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, Some("a")),
        (r#"{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}"#, Some("a")),
        (r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, Some("a")),
        (r#"{"__metadata__":{"k":1}}"#, Some("__metadata__")),
        (r#"{"__metadata__":"x"}"#, Some("__metadata__")),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, None),
        (r#"{} {}"#, None),
        ("{\"a\":{\"dtype\":[[[[", Some("a")),
    ];
    for (json, entry) in cases {
        match fault(&file(json, 4)) {
            Json { key, .. } if entry.is_none() || key.as_deref() == entry => {}
            other => panic!("{json}: {other:?}"),
        }
    }
    // Nesting must not overflow the stack.
    let deep = format!(r#"{{"a":{}"#, "[".repeat(1 << 20));
    assert!(matches!(fault(&file(&deep, 0)), Json { .. }));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = file(GOOD, 22);
    for len in 1..whole.len() {
        let header = u64::from_le_bytes(whole[..8].try_into().unwrap());
        match fault(&whole[..len]) {
            TooShort { len: found } => assert!(found == len && len < 8),
            TruncatedHeader { missing, .. } => assert_eq!(missing, 8 + header - len as u64),
            TruncatedData { missing, .. } => assert_eq!(missing, (whole.len() - len) as u64),
            other => panic!("cut to {len} bytes: {other:?}"),
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = SafetensorsFile::open("/no/such/file.safetensors").unwrap_err();
    assert!(matches!(error, SafetensorsError::Map(_)));
    assert!(error.to_string().contains("file.safetensors"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever single bytes are changed: an error or a file whose tensors can all be read, never a panic.
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..400, any::<u8>()), 1..6)) {
        let mut bytes = file(GOOD, 22);
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(f) = open(&bytes) {
            let total: usize = (0..f.tensors().len()).map(|i| f.data(i).len()).sum();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            prop_assert_eq!(total, bytes.len() - 8 - header);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 1..200), header in 0u64..200) {
        let _ = open(&bytes);
        let mut with_header = header.to_le_bytes().to_vec();
        with_header.push(b'{');
        with_header.extend_from_slice(&bytes);
        let _ = open(&with_header);
    }
}
