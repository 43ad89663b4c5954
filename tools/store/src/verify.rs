//! Whether the files of a model are what they were when they were fetched.

use std::fs::File;
use std::path::{Path, PathBuf};

use quipu_formats::stores::{Manifest, Stores, ollama_name, scheme};

use crate::digest::Digest;
use crate::error::StoreError;
use crate::list::files;

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// What it is.
    pub state: State,
}

/// What a file is, held against its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// What it was.
    Whole,
    /// Something else.
    Damaged,
    /// Nobody knows: its name is no digest.
    Unknown,
}

/// Reads all files of the model called `name`; `progress` hears of each how many bytes were read, and of how many.
///
/// # Errors
/// [`StoreError`]: no such model, or a file that can't be read. A damaged file is none.
pub fn verify(
    stores: &Stores,
    name: &str,
    progress: &mut dyn FnMut(&Path, u64, u64),
) -> Result<Vec<Checked>, StoreError> {
    let no_store = || StoreError::NoStore { name: name.into() };
    let found = stores.find(name)?.ok_or_else(no_store)?;
    let paths = match scheme(name) {
        Some(("ollama", rest)) => blobs(stores, rest).unwrap_or_else(|| vec![found.path]),
        _ => files(&found.path),
    };
    paths.into_iter().map(|path| check(path, progress)).collect()
}

/// The files of a model of ollama's.
fn blobs(stores: &Stores, rest: &str) -> Option<Vec<PathBuf>> {
    let place = ollama_name(rest)?;
    let manifest = |store: &PathBuf| place.iter().fold(store.join("manifests"), |path, part| path.join(part));
    let store = stores.ollama.iter().find(|store| manifest(store).is_file())?;
    let manifest = Manifest::read(&manifest(store)).ok()??;
    let blob = |name| store.join("blobs").join(name);
    Some(manifest.files().filter_map(|layer| Some(blob(layer.blob().ok()?))).filter(|path| path.is_file()).collect())
}

fn check(path: PathBuf, progress: &mut dyn FnMut(&Path, u64, u64)) -> Result<Checked, StoreError> {
    let fail = |source| StoreError::Io { path: path.clone(), source };
    let blob = path.canonicalize().map_err(fail)?;
    let file = File::open(&blob).map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    let digest = blob.file_name().and_then(|name| Digest::of_name(name.to_str()?));
    let state = match digest {
        None => State::Unknown,
        Some(digest) => {
            let mut hasher = digest.hasher(bytes);
            hasher.read(file, &mut |done| progress(&path, done, bytes)).map_err(fail)?;
            if hasher.is(&digest) { State::Whole } else { State::Damaged }
        }
    };
    Ok(Checked { path, bytes, state })
}
