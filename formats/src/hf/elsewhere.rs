//! What a directory is that has no config.json.

use std::path::{Path, PathBuf};

/// Directories in `dir` whose names begin so.
fn below(dir: &Path, begin: &str) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let begins = move |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin));
    entries.filter(|path| path.is_dir()).filter(begins)
}

/// What `dir` is instead of a checkpoint, as advice with a separator behind it; nothing when it is nothing known.
pub(super) fn what_instead(dir: &Path) -> String {
    if dir.join("adapter_config.json").exists() {
        return "this is a LoRA adapter: open its base model and add it to that, or merge the two; ".into();
    }
    if dir.join("snapshots").is_dir() {
        // The Hub's cache: `refs/main` has the name of the snapshot that was fetched last.
        let main = std::fs::read_to_string(dir.join("refs/main")).unwrap_or_default();
        let main = Some(dir.join("snapshots").join(main.trim())).filter(|path| !main.is_empty() && path.is_dir());
        return match main.or_else(|| below(&dir.join("snapshots"), "").min()) {
            Some(snapshot) => {
                format!("this is a repository of the Hub's cache, and {} is the model; ", snapshot.display())
            }
            None => "this is a repository of the Hub's cache without a snapshot (an incomplete download?); ".into(),
        };
    }
    match below(dir, "models--").min() {
        Some(model) => format!(
            "this is the Hub's cache; give a directory below snapshots/ in one of its repositories, such as {}; ",
            model.display()
        ),
        None => String::new(),
    }
}
