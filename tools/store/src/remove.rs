//! Taking models out of a store.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use quipu_formats::stores::{Manifest, Stores, hub_directory, hub_name, ollama_name, ollama_names, scheme};

use crate::error::StoreError;
use crate::list::files;

/// Removes the model called `name`, and of its files those that no other model has. Of the Hub's a name without a type
/// is the whole repository. Returns the bytes that are free now.
///
/// # Errors
/// [`StoreError`]: no such model, or a file that the system does not remove.
pub fn remove(stores: &Stores, name: &str) -> Result<u64, StoreError> {
    match scheme(name) {
        Some(("ollama", rest)) => of_ollama(stores, name, rest),
        Some((_, rest)) => of_hub(stores, name, rest),
        None => Err(StoreError::NoStore { name: name.into() }),
    }
}

fn of_ollama(stores: &Stores, name: &str, rest: &str) -> Result<u64, StoreError> {
    let place = ollama_name(rest);
    for store in place.iter().flat_map(|_| &stores.ollama) {
        let path = place.iter().flatten().fold(store.join("manifests"), |path, part| path.join(part));
        if !path.is_file() {
            continue;
        }
        // A manifest that can't be read is removed alone.
        let own = Manifest::read(&path).ok().flatten();
        delete(&path)?;
        path.ancestors().skip(1).take(3).for_each(|directory| drop(std::fs::remove_dir(directory)));
        let others = ollama_names(store).into_iter().filter_map(|(_, path)| Manifest::read(&path).ok()?);
        let blobs = |manifest: &Manifest| manifest.files().filter_map(|layer| layer.blob().ok()).collect::<Vec<_>>();
        let used: HashSet<String> = others.flat_map(|manifest| blobs(&manifest)).collect();
        let own: HashSet<String> = own.iter().flat_map(blobs).collect();
        let unused = own.difference(&used).map(|blob| store.join("blobs").join(blob)).filter(|path| path.is_file());
        return unused.map(|blob| delete(&blob)).sum();
    }
    // Which says what is wrong with the name, or what there is.
    stores.find(name)?;
    Err(StoreError::NoStore { name: name.into() })
}

fn of_hub(stores: &Stores, name: &str, rest: &str) -> Result<u64, StoreError> {
    let (Some((repository, kind)), Some(hub)) = (hub_name(rest), &stores.hub) else {
        stores.find(name)?;
        return Err(StoreError::NoStore { name: name.into() });
    };
    let directory = hub.join(hub_directory(repository));
    if kind.is_none() && directory.is_dir() {
        let bytes = everything(&directory).into_iter().filter_map(|path| path.symlink_metadata().ok());
        let bytes = bytes.filter(|meta| meta.is_file()).map(|meta| meta.len()).sum();
        let fail = |source| StoreError::Io { path: directory.clone(), source };
        std::fs::remove_dir_all(&directory).map_err(fail)?;
        let _ = std::fs::remove_dir_all(hub.join(".locks").join(hub_directory(repository)));
        return Ok(bytes);
    }
    let found = stores.find(name)?.ok_or_else(|| StoreError::NoStore { name: name.into() })?;
    let mut freed = 0;
    for link in files(&found.path) {
        let blob = link.canonicalize().ok().filter(|blob| blob.starts_with(&directory) && *blob != link);
        freed += delete(&link)?;
        let leads_there = |other: &PathBuf| other.canonicalize().ok() == blob && Some(other) != blob.as_ref();
        if let Some(blob) = blob.as_ref().filter(|_| !everything(&directory.join("snapshots")).iter().any(leads_there))
        {
            freed += delete(blob)?;
        }
    }
    Ok(freed)
}

/// All files below a directory; links are not followed.
fn everything(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let is_directory = entry.file_type().is_ok_and(|ty| ty.is_dir());
            if is_directory { &mut left } else { &mut found }.push(entry.path());
        }
    }
    found
}

/// Removes a file; returns its bytes, none for a link.
fn delete(path: &Path) -> Result<u64, StoreError> {
    let fail = |source| StoreError::Io { path: path.to_owned(), source };
    let meta = path.symlink_metadata().map_err(fail)?;
    std::fs::remove_file(path).map_err(fail)?;
    Ok(if meta.is_file() { meta.len() } else { 0 })
}
