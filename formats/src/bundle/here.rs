//! What this program carries.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::error::BundleError;
use super::notes::Notes;
use super::place::Place;
use crate::gguf::GgufFile;

/// Bytes of notes at most; licences have some thousands.
const NOTES: u64 = 16 << 20;

/// This program, if it carries a model.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The program's file.
    pub path: PathBuf,
    /// What it says of itself.
    pub notes: Notes,
    model: u64,
}

impl Bundle {
    /// What the running program carries; without a model nothing is read.
    ///
    /// # Errors
    /// [`BundleError`]: its file is not to be found, or not whole.
    pub fn here() -> Result<Option<Bundle>, BundleError> {
        let Some(place) = Place::here() else { return Ok(None) };
        let path = std::env::current_exe().map_err(|source| BundleError::Lost { source })?;
        let read = |source| BundleError::Read { path: path.clone(), source };
        let broken = |reason: String| BundleError::Notes { path: path.clone(), reason };
        let mut file = File::open(&path).map_err(read)?;
        let found = file.metadata().map_err(read)?.len();
        if found <= place.model {
            return Err(BundleError::Cut { path, expected: place.model, found });
        }
        if place.notes_bytes > NOTES {
            return Err(broken(format!("there are {} bytes of them", place.notes_bytes)));
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(place.notes)).map_err(read)?;
        file.take(place.notes_bytes).read_to_end(&mut bytes).map_err(read)?;
        let notes = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        Ok(Some(Bundle { path, notes, model: place.model }))
    }

    /// Opens the model, where it lies.
    ///
    /// # Errors
    /// [`BundleError::Gguf`].
    pub fn open(&self) -> Result<GgufFile, BundleError> {
        Ok(GgufFile::open_from(&self.path, self.model)?)
    }
}
