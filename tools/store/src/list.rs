//! What there is.

use std::path::{Path, PathBuf};

use quipu_formats::stores::{self, Manifest, Stores, has_type, hub_repositories, ollama_names};

/// A model in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name that every command takes.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// The file or directory that is opened.
    pub path: PathBuf,
}

/// The models in these stores that can be opened, by name.
pub fn list(stores: &Stores) -> Vec<Listed> {
    let hub = stores.hub.iter().flat_map(|hub| hub_repositories(hub));
    let mut models: Vec<Listed> = hub.flat_map(|repository| in_repository(stores, &repository)).collect();
    for store in &stores.ollama {
        for (name, manifest) in ollama_names(store) {
            let name = format!("ollama:{name}");
            let (Ok(Some(found)), Ok(Some(manifest))) = (stores.find(&name), Manifest::read(&manifest)) else {
                continue;
            };
            // Of two stores the first one counts.
            if found.path.starts_with(store) {
                let bytes = manifest.files().filter_map(|layer| layer.size).sum();
                models.push(Listed { name, bytes, path: found.path });
            }
        }
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

/// The models of a repository of the Hub: the checkpoint, or its GGUFs.
fn in_repository(stores: &Stores, repository: &str) -> Vec<Listed> {
    let name = format!("hf:{repository}");
    match stores.find(&name) {
        Ok(Some(found)) => {
            let bytes = bytes(&found.path);
            vec![Listed { name, bytes, path: found.path }]
        }
        Err(stores::StoreError::Several { there, .. }) => {
            let named = |stem: &String| {
                let name = format!("{name}:{}", short(stem, &there));
                let path = stores.find(&name).ok()??.path;
                Some(Listed { name, bytes: bytes(&path), path })
            };
            there.iter().filter_map(named).collect()
        }
        _ => Vec::new(),
    }
}

/// The last word of a file's name, where that tells it from all others: `Q4_K_M`.
fn short<'a>(stem: &'a str, all: &[String]) -> &'a str {
    let whole = without_part(stem);
    let word = whole.rsplit(['-', '.']).next().unwrap_or(whole);
    let others = all.iter().filter(|other| has_type(other, word)).count();
    if others == 1 && !word.is_empty() { word } else { stem }
}

/// `x` of `x-00001-of-00003`.
pub(crate) fn without_part(stem: &str) -> &str {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = stem.rsplit_once("-of-").filter(|(_, count)| digits(count)).map(|(rest, _)| rest);
    part.and_then(|rest| rest.rsplit_once('-')).filter(|(_, number)| digits(number)).map_or(stem, |(whole, _)| whole)
}

/// The files of a model: those of a directory, or all parts of a GGUF.
pub(crate) fn files(path: &Path) -> Vec<PathBuf> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (directory, whole) = if path.is_dir() {
        (path, None)
    } else {
        let stem = stem(path);
        if without_part(&stem) == stem {
            return vec![path.to_owned()];
        }
        (path.parent().unwrap_or(path), Some(without_part(&stem).to_string()))
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries
        .filter(|file| file.is_file() && whole.as_deref().is_none_or(|whole| without_part(&stem(file)) == whole))
        .collect();
    files.sort();
    files
}

fn bytes(path: &Path) -> u64 {
    files(path).iter().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_by_the_word_that_tells_it_from_others() {
        let all = ["a-Q4_K_M", "a-Q8_0-00001-of-00002", "b-Q8_0", "a.F16"].map(String::from);
        let short: Vec<&str> = all.iter().map(|stem| short(stem, &all)).collect();
        assert_eq!(short, ["Q4_K_M", "a-Q8_0-00001-of-00002", "b-Q8_0", "F16"]);
        assert_eq!(without_part("a-00001-of-00002"), "a");
        assert_eq!(without_part("a-1-of-2"), "a-1-of-2");
    }
}
