//! Every way in which a GGUF can lie, each answered with an error that names it; and none of them with a panic.

mod build;
mod cases;

use proptest::prelude::*;
use quipu_formats::gguf::{GgufError, GgufFault as Fault, GgufFile};
use quipu_formats::source::Source;

use build::*;
use cases::cases;

fn open(bytes: Vec<u8>) -> Result<GgufFile, GgufError> {
    GgufFile::from_bytes("lie.gguf", bytes)
}

fn fault(bytes: Vec<u8>) -> Fault {
    let error = open(bytes).expect_err("accepted");
    error.fault().expect("a fault of the file").clone()
}

#[test]
fn every_lie_has_a_name() {
    let mut failed = Vec::new();
    for (name, bytes, expected, is_right) in cases() {
        match open(bytes) {
            Ok(_) => failed.push(format!("{name}: accepted, expected {expected}")),
            Err(error) => {
                let message = error.to_string();
                if !message.starts_with("lie.gguf: ") || message.contains('\n') || message.len() > 500 {
                    failed.push(format!("{name}: not one line that starts with the file: {message:?}"));
                }
                if !error.fault().is_some_and(is_right) {
                    failed.push(format!("{name}: expected {expected}, found {message}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_honest_file_opens() {
    for version in [2u32, 3] {
        let mut bytes = valid();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        let file = open(bytes.clone()).unwrap();
        assert_eq!(file.version(), version);
        assert_eq!(file.metadata().str_opt("general.architecture").unwrap(), Some("llama"));
        assert_eq!(file.metadata().len(), 7);
        assert_eq!(file.find("w.weight"), Some(1));
        assert_eq!(file.range(1), bytes.len() - 36..bytes.len());
        assert_eq!(file.rows(1, 1..2).len(), 18);
    }
    // The deepest nesting that is allowed, and a packed tensor with its padding rows: a Q4_0 group of 16 rows × 32 is
    // 256 + 32 bytes.
    assert!(open(file(&[key("k", ARRAY, nest(8))], &[], 0)).is_ok());
    let t = tensor("t", &[32, 17], 0x5150_0002, 0);
    assert!(open(aligned_file(16384, &packed_keys("r16k4", 1), std::slice::from_ref(&t), 2 * 288)).is_ok());
    assert!(matches!(
        fault(aligned_file(16384, &packed_keys("r16k4", 1), &[t], 2 * 288 - 1)),
        Fault::TensorBeyondFile { missing: 1, .. }
    ));
}

#[test]
fn a_text_that_is_no_utf8_is_read_and_told() {
    let keys = [
        key("name", STRING, string(b"ab\xc3")),
        key("list", ARRAY, array(STRING, 2, [string(b"a"), string(b"\xed\xa0\x80")].concat())),
    ];
    let file = open(file(&keys, &[], 0)).unwrap();
    assert_eq!(file.metadata().str_opt("name").unwrap(), Some("ab\u{FFFD}"));
    assert_eq!(&file.metadata().strings_opt("list").unwrap().unwrap()[0], "a");
    let told: Vec<String> = file.oddities().iter().map(ToString::to_string).collect();
    assert!(told.len() == 2 && told[0].contains("\"name\"") && told[1].contains("\"list\""), "{told:?}");
}

#[test]
fn cut_anywhere_it_is_refused() {
    let whole = valid();
    assert!(open(whole.clone()).is_ok());
    for len in 0..whole.len() {
        let cut = whole[..len].to_vec();
        assert!(open(cut).is_err(), "accepted when cut to {len} of {} bytes", whole.len());
    }
}

#[test]
fn a_truncated_download_says_what_is_missing() {
    let whole = valid();
    let cut = whole[..whole.len() - 20].to_vec();
    let message = open(cut).unwrap_err().to_string();
    assert!(message.contains("\"w.weight\"") && message.contains("20 bytes past the end"), "{message}");
}

#[test]
fn names_from_the_file_cannot_write_to_the_terminal() {
    let message = open(file(&[], &[tensor("\x1b[2J\n", &[0], 0, 0)], 0)).unwrap_err().to_string();
    assert!(!message.contains('\x1b') && !message.contains('\n'), "{message:?}");
}

#[test]
fn unknown_types_are_named_when_someone_knows_them() {
    let message = fault(file(&[], &[tensor("t", &[32], 15, 0)], 128)).to_string();
    assert!(message.contains("15 (Q8_K") && message.contains("Q4_0, Q4_1"), "{message}");
}

/// Lengths backed by real bytes, but by more of them than any header has.
#[test]
fn a_header_of_gigabytes_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse.gguf");
    let mut head = [start(3, 0, 1), string("k"), ARRAY.to_le_bytes().to_vec()].concat();
    head.extend(array(0, 1 << 31, []));
    std::fs::write(&path, &head).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(3 << 30).unwrap();
    let error = GgufFile::open(&path).unwrap_err();
    assert!(matches!(error.fault(), Some(Fault::HeaderTooLarge { .. })), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    /// Whatever is changed, the answer is an error or a file whose every tensor can be read.
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..1000, any::<u8>()), 1..6), cut in 0usize..1000) {
        let mut bytes = valid();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        // Every second file is cut as well.
        if cut % 2 == 0 {
            bytes.truncate(bytes.len() - cut % 80);
        }
        if let Ok(file) = open(bytes) {
            for (i, info) in file.tensors().iter().enumerate() {
                prop_assert_eq!(file.data(i).len(), info.byte_len().unwrap());
            }
        }
    }

    /// Numbers near the borders of every field, at every place.
    #[test]
    fn planted_numbers_never_panic(at in 0usize..1000, number in prop::sample::select(vec![
        0u64, 1, 2, 3, 31, 33, 255, 1 << 16, 1 << 31, u32::MAX as u64, 1 << 32, 1 << 61, 1 << 62, i64::MAX as u64, 1 << 63,
        u64::MAX - 31, u64::MAX - 1, u64::MAX,
    ]), wide in any::<bool>()) {
        let mut bytes = valid();
        let number = number.to_le_bytes();
        let number = if wide { &number[..] } else { &number[..4] };
        let at = at % (bytes.len() - number.len());
        bytes[at..at + number.len()].copy_from_slice(number);
        if let Ok(file) = open(bytes) {
            for i in 0..file.tensors().len() {
                prop_assert!(file.data(i).len() < 1000);
            }
        }
    }
}
