//! The cache of Hugging Face's Hub: `models--ORG--REPO/refs/main` names the snapshot that was fetched last,
//! `snapshots/COMMIT` has its files, as links to blobs.

use std::path::{Path, PathBuf};

use super::error::{StoreError, StoreFault};
use super::name::is_plain;
use super::stored::Stored;
use crate::hf::json::read_text;

/// Files of a snapshot that are looked at, and directories below it.
const LOOKS: usize = 10_000;
const DEPTH: usize = 2;
/// Bytes of a reference and of the name of a commit at most.
const REFERENCE: u64 = 4096;
const COMMIT: usize = 64;

/// The model that is called `name`, of which `rest` is the Hub's part.
pub(super) fn find(cache: Option<&Path>, name: &str, rest: &str) -> Result<Stored, StoreError> {
    let expected = "hf:ORG/REPO, or hf:ORG/REPO:TYPE for one GGUF of several, such as hf:org/repo:Q4_K_M";
    let (repository, kind) = hub_name(rest).ok_or_else(|| StoreError::Name { name: name.into(), expected })?;
    let cache = cache.unwrap_or(Path::new(""));
    let directory = cache.join(hub_directory(repository));
    if !directory.is_dir() {
        let looked = Some(cache.to_owned()).filter(|cache| !cache.as_os_str().is_empty()).into_iter().collect();
        return Err(StoreError::NotThere { name: name.into(), looked, there: hub_repositories(cache) });
    }
    let snapshot = snapshot(&directory, name)?;
    let path = model(&snapshot, kind, name)?;
    Ok(Stored { path, licence: None, oddities: Vec::new() })
}

/// The parts of a name: the repository, and which of its GGUFs; `None` for a name that can't be.
pub fn hub_name(name: &str) -> Option<(&str, Option<&str>)> {
    let (repository, kind) = name.split_once(':').map_or((name, None), |(repository, kind)| (repository, Some(kind)));
    let mut parts = repository.split('/');
    let plain = parts.clone().count() <= 2 && parts.all(|part| is_plain(part) && !part.contains("--"));
    (plain && kind != Some("")).then_some((repository, kind))
}

/// What a repository's directory in the cache is called.
pub fn hub_directory(repository: &str) -> String {
    format!("models--{}", repository.replace('/', "--"))
}

/// The snapshot that `refs/main` names, or the only one.
fn snapshot(directory: &Path, name: &str) -> Result<PathBuf, StoreError> {
    let (main, snapshots) = (directory.join("refs/main"), directory.join("snapshots"));
    let broken = |path: PathBuf, fault| StoreError::Broken { name: name.into(), path, fault };
    match read_text(&main, REFERENCE).map_err(|error| StoreError::File { name: name.into(), error })? {
        Some(commit) => {
            let commit = commit.trim();
            if commit.len() > COMMIT || !is_plain(commit) {
                let shown = commit.chars().take(COMMIT).collect();
                return Err(broken(main, StoreFault::Snapshot(shown)));
            }
            let snapshot = snapshots.join(commit);
            if snapshot.is_dir() { Ok(snapshot) } else { Err(broken(snapshot, StoreFault::EmptySnapshot)) }
        }
        // Whoever asks the Hub for a certain commit gets no reference.
        None => {
            let entries = std::fs::read_dir(&snapshots).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir()).take(2).collect();
            match (found.pop(), found.pop()) {
                (Some(only), None) => Ok(only),
                (Some(_), Some(_)) => Err(broken(snapshots, StoreFault::Snapshots)),
                _ => Err(broken(snapshots, StoreFault::EmptySnapshot)),
            }
        }
    }
}

/// The GGUF of type `kind`, or without one the checkpoint, or the only GGUF.
fn model(snapshot: &Path, kind: Option<&str>, name: &str) -> Result<PathBuf, StoreError> {
    if kind.is_none() && snapshot.join("config.json").is_file() && has_weights(snapshot) {
        return Ok(snapshot.to_owned());
    }
    let mut files = Vec::new();
    collect(snapshot, DEPTH, &mut LOOKS.clone(), &mut files);
    files.sort();
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (meant, others): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| kind.is_none_or(|kind| has_type(&stem(path), kind)));
    let list = |files: Vec<PathBuf>| files.iter().map(|path| stem(path)).collect();
    match (&meant[..], others.is_empty()) {
        ([only], _) => Ok(only.clone()),
        ([], true) => {
            Err(StoreError::Broken { name: name.into(), path: snapshot.to_owned(), fault: StoreFault::EmptySnapshot })
        }
        ([], false) => {
            Err(StoreError::NotThere { name: name.into(), looked: vec![snapshot.to_owned()], there: list(others) })
        }
        _ => Err(StoreError::Several { name: name.into(), there: list(meant) }),
    }
}

fn has_weights(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(LOOKS);
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|e| e == "safetensors" || e == "bin"))
}

/// All GGUFs that can be opened by their names: of one in several files, the first; no part for pictures.
fn collect(directory: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Some(less) = left.checked_sub(1) else { return };
        *left = less;
        let path = entry.path();
        if path.is_dir() {
            if depth > 0 {
                collect(&path, depth - 1, left, found);
            }
        } else if path.is_file() && part_of_gguf(&path) == Some(1) {
            found.push(path);
        }
    }
}

/// Which part of a GGUF it is by its name, counted from 1 as names count: 1 for a GGUF in one file, `None` for what is
/// none, or one for pictures.
pub fn part_of_gguf(path: &Path) -> Option<usize> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let stem = name.strip_suffix(".gguf").filter(|stem| !stem.starts_with("mmproj"))?;
    match stem.rsplit_once("-of-").and_then(|(rest, _)| rest.rsplit_once('-')) {
        Some((_, number)) => number.parse().ok(),
        None => Some(1),
    }
}

/// Whether the name of a file, without its ending, names a type, as a word of its own: `Q4_K` is not in `x-Q4_K_M`.
pub fn has_type(stem: &str, kind: &str) -> bool {
    let (stem, kind) = (stem.to_lowercase(), kind.to_lowercase());
    stem.match_indices(&kind).any(|(at, _)| {
        let before = stem[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        let after = stem[at + kind.len()..].chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        before && after
    })
}

/// The repositories that there are.
pub fn hub_repositories(cache: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten().take(LOOKS);
    let name =
        |entry: std::fs::DirEntry| Some(entry.file_name().to_str()?.strip_prefix("models--")?.replacen("--", "/", 1));
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with one repository, `org/repo`, which has these files in the snapshot `abc`.
    fn cache(files: &[&str]) -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--org--repo");
        for directory in ["refs", "blobs", "snapshots/abc"] {
            std::fs::create_dir_all(repository.join(directory)).unwrap();
        }
        std::fs::write(repository.join("refs/main"), "abc").unwrap();
        for (i, file) in files.iter().enumerate() {
            let (blob, link) = (repository.join(format!("blobs/{i}")), repository.join("snapshots/abc").join(file));
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::fs::write(&blob, "bytes").unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(&blob, &link).unwrap();
            #[cfg(not(unix))]
            std::fs::copy(&blob, &link).unwrap();
        }
        cache
    }

    fn find_in(cache: &tempfile::TempDir, rest: &str) -> Result<String, String> {
        let found = find(Some(cache.path()), "the name", rest).map_err(|error| error.to_string())?;
        let snapshot = cache.path().join("models--org--repo/snapshots/abc");
        Ok(found.path.strip_prefix(snapshot).unwrap().to_str().unwrap().replace('\\', "/"))
    }

    #[test]
    fn a_type_is_a_word_of_a_files_name() {
        for (stem, kind, found) in [
            ("llama-Q4_K_M", "q4_k_m", true),
            ("llama-Q4_K_M", "Q4_K", false),
            ("llama-Q4_K_M-00001-of-00002", "Q4_K_M", true),
            ("llama-IQ4_XS", "Q4_XS", false),
            ("llama.f16", "F16", true),
            ("llama-bf16", "F16", false),
            ("llama", "llama", true),
            ("llamaä", "llama", false),
        ] {
            assert_eq!(has_type(stem, kind), found, "{kind} in {stem}");
        }
    }

    #[test]
    fn the_one_that_is_meant_is_found() {
        let ggufs = cache(&[
            "x-Q4_K_M.gguf",
            "Q8/x-Q8_0-00001-of-00002.gguf",
            "Q8/x-Q8_0-00002-of-00002.gguf",
            "mmproj-f16.gguf",
        ]);
        assert_eq!(find_in(&ggufs, "org/repo:q4_k_m").unwrap(), "x-Q4_K_M.gguf");
        assert_eq!(find_in(&ggufs, "org/repo:Q8_0").unwrap(), "Q8/x-Q8_0-00001-of-00002.gguf");
        let several = find_in(&ggufs, "org/repo").unwrap_err();
        assert!(several.contains("several") && several.contains("x-Q4_K_M"), "{several}");
        let missing = find_in(&ggufs, "org/repo:F16").unwrap_err();
        assert!(missing.contains("snapshots") && missing.contains("x-Q4_K_M"), "{missing}");
        assert_eq!(find_in(&cache(&["only.gguf"]), "org/repo").unwrap(), "only.gguf");
        // A checkpoint is the directory itself; one GGUF beside it is told by its type.
        let both = cache(&["config.json", "model.safetensors", "x-f16.gguf"]);
        assert_eq!(find_in(&both, "org/repo").unwrap(), "");
        assert_eq!(find_in(&both, "org/repo:f16").unwrap(), "x-f16.gguf");
        // Repositories of GGUFs may have the checkpoint's config.json.
        assert_eq!(find_in(&cache(&["config.json", "x-f16.gguf"]), "org/repo").unwrap(), "x-f16.gguf");
    }

    #[test]
    fn names_lead_nowhere_else() {
        let cache = cache(&["only.gguf"]);
        for name in
            ["", "/", "org/", "/repo", "../repo", "org/..", "a/b/c", "org/repo:", "org--repo", "o g/r", "org\\repo"]
        {
            let error = find_in(&cache, name).unwrap_err();
            assert!(error.contains("no name of a model"), "{name}: {error}");
        }
        let missing = find_in(&cache, "org/other").unwrap_err();
        assert!(
            missing.contains(cache.path().to_str().unwrap()) && missing.contains("there are org/repo"),
            "{missing}"
        );
    }

    #[test]
    fn what_is_broken_is_told() {
        let main = |text: &str| {
            let cache = cache(&["only.gguf"]);
            std::fs::write(cache.path().join("models--org--repo/refs/main"), text).unwrap();
            find_in(&cache, "org/repo").unwrap_err()
        };
        for text in ["../../..", "/etc", "", &"a".repeat(65), "a b"] {
            assert!(main(text).contains("no snapshot's name"), "{text}: {}", main(text));
        }
        assert!(main("def").contains("incomplete download"));
        assert!(find_in(&cache(&["README.md"]), "org/repo").unwrap_err().contains("neither a GGUF"));
        // Without a reference the only snapshot is meant.
        let cache = cache(&["only.gguf"]);
        std::fs::remove_file(cache.path().join("models--org--repo/refs/main")).unwrap();
        assert_eq!(find_in(&cache, "org/repo").unwrap(), "only.gguf");
        std::fs::create_dir(cache.path().join("models--org--repo/snapshots/def")).unwrap();
        assert!(find_in(&cache, "org/repo").unwrap_err().contains("several snapshots"));
    }
}
