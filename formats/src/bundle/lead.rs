//! What stands before the model.

use std::path::Path;

use super::error::BundleError;
use super::notes::Notes;
use super::place::{BYTES, MARK, PAGE, Place, mark};

/// The largest program that Windows starts.
const WINDOWS: u64 = 4 << 30;

/// What stands in a bundle before the model: the program, the notes, zeros.
#[derive(Clone, Debug)]
pub struct Lead {
    bytes: Vec<u8>,
    windows: bool,
}

/// For which system a program is.
enum Kind {
    Elf,
    Windows,
    MachO,
    Unknown,
}

impl Lead {
    /// Reads the program at `path`, which is to carry a model that `notes` are about.
    ///
    /// # Errors
    /// [`BundleError`]: it is no program that can.
    pub fn new(path: &Path, notes: &Notes) -> Result<Lead, BundleError> {
        let path = || path.to_owned();
        let mut bytes = std::fs::read(path()).map_err(|source| BundleError::Read { path: path(), source })?;
        let windows = match kind(&bytes) {
            Kind::Elf => false,
            Kind::Windows => true,
            Kind::MachO => return Err(BundleError::MachO { path: path() }),
            Kind::Unknown => return Err(BundleError::NotProgram { path: path() }),
        };
        let at = place(&bytes).ok_or_else(|| BundleError::NoPlace { path: path() })?;
        if bytes[at + MARK..at + BYTES].iter().any(|&byte| byte != 0) {
            return Err(BundleError::Bundle { path: path() });
        }
        let notes =
            serde_json::to_vec(notes).map_err(|e| BundleError::Notes { path: path(), reason: e.to_string() })?;
        let start = bytes.len();
        let model = (start + notes.len()).next_multiple_of(PAGE);
        let place = Place { notes: start as u64, notes_bytes: notes.len() as u64, model: model as u64 };
        bytes[at + MARK..at + BYTES].copy_from_slice(&place.numbers());
        bytes.extend(notes);
        bytes.resize(model, 0);
        Ok(Lead { bytes, windows })
    }

    /// The bytes: a multiple of 64 KiB.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the system of the program at `path` starts it with a model of so many bytes.
    ///
    /// # Errors
    /// [`BundleError::TooLarge`].
    pub fn check_size(&self, path: &Path, model: u64) -> Result<(), BundleError> {
        let bytes = model.saturating_add(self.bytes.len() as u64);
        if self.windows && bytes >= WINDOWS {
            return Err(BundleError::TooLarge { path: path.to_owned(), bytes });
        }
        Ok(())
    }
}

/// By the first bytes. Of a PE they are those of a program for DOS, which says where the rest is.
fn kind(bytes: &[u8]) -> Kind {
    let pe = || {
        let at = usize::try_from(u32::from_le_bytes(bytes.get(0x3c..0x40)?.try_into().ok()?)).ok()?;
        bytes.get(at..at.checked_add(4)?).filter(|magic| magic == b"PE\0\0")
    };
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => Kind::Elf,
        [b'M', b'Z', ..] if pe().is_some() => Kind::Windows,
        // 64 and 32 bits, and several processors in one file.
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => Kind::MachO,
        _ => Kind::Unknown,
    }
}

/// Where the place of a program is: there must be one and no second.
fn place(program: &[u8]) -> Option<usize> {
    let mark = mark();
    let last = program.len().checked_sub(BYTES)?;
    let is_mark = |&at: &usize| program[at..at + MARK] == mark;
    // The place is aligned to its words, in memory and so in the file.
    let mut found = (0..=last).step_by(8).filter(is_mark);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(bytes: &[u8]) -> Result<Lead, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, bytes).unwrap();
        let notes = Notes { name: "x".into(), ..Notes::default() };
        Lead::new(&path, &notes).map_err(|error| error.to_string())
    }

    fn elf(places: usize) -> Vec<u8> {
        let mut bytes = b"\x7fELF....".to_vec();
        for _ in 0..places {
            bytes.extend(mark());
            bytes.extend([0; BYTES - MARK]);
        }
        bytes
    }

    #[test]
    fn the_place_says_where_notes_and_model_are() {
        let program = elf(1);
        let lead = lead(&program).unwrap();
        let bytes = lead.bytes();
        assert_eq!((bytes.len(), &bytes[..40]), (PAGE, &program[..40]));
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let (notes, notes_bytes, model) = (number(40), number(48), number(56));
        assert_eq!((notes, model), (program.len(), PAGE));
        let notes: Notes = serde_json::from_slice(&bytes[notes..notes + notes_bytes]).unwrap();
        assert_eq!(notes.name, "x");
        assert!(lead.check_size("x".as_ref(), 8 << 30).is_ok());
        assert!(super::Lead { windows: true, ..lead }.check_size("x".as_ref(), 4 << 30).is_err());
    }

    #[test]
    fn what_can_carry_no_model_is_told() {
        let mut carries = elf(1);
        carries[8 + MARK] = 1;
        let mut pe = [&b"MZ"[..], &[0; 0x3a], &[0x40, 0, 0, 0], b"PE\0\0"].concat();
        assert!(lead(&pe).unwrap_err().contains("can carry no model"));
        pe.extend([&[0; 4][..], &elf(1)[8..]].concat());
        assert!(lead(&pe).unwrap().windows);
        for (bytes, expected) in [
            (&b""[..], "no program"),
            (b"GGUF", "no program"),
            (b"MZ", "no program"),
            (&[0xcf, 0xfa, 0xed, 0xfe, 7], "signed as a whole"),
            (&elf(0), "can carry no model"),
            (&elf(2), "can carry no model"),
            (&carries, "is a bundle already"),
        ] {
            let error = lead(bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
