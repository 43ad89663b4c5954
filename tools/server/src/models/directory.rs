//! The models in a directory.
//!
//! Requests name models, and a name is looked for among those that were found here; it never becomes a path.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::keep_alive::KeepAlive;
use super::offer::Offer;

/// A directory with models: GGUFs, packed files, checkpoints in directories of their own.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// How long its models stay when nobody uses them.
    pub keep_alive: KeepAlive,
    /// Other names for its models, each with the name that it stands for.
    pub aliases: Vec<(String, String)>,
}

/// Entries that are looked at.
const MOST: usize = 10_000;

impl Directory {
    /// What there is now, by name. A model is called as its file is, without the ending; where two would be called the
    /// same, both keep their endings.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn scan(&self) -> io::Result<Vec<Offer>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)?.take(MOST) {
            let path = entry?.path();
            // A name that is no text could not be asked for.
            let (Some(stem), Some(_)) = (stem(&path), path.to_str()) else { continue };
            found.push((stem, path));
        }
        let mut count = HashMap::new();
        found.iter().for_each(|(stem, _)| *count.entry(stem.clone()).or_insert(0) += 1);
        let mut offers: Vec<Offer> =
            found.into_iter().filter_map(|(stem, path)| self.offer(&count, stem, &path)).collect();
        offers.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(offers)
    }

    fn offer(&self, count: &HashMap<String, usize>, stem: String, path: &Path) -> Option<Offer> {
        let name = if count[&stem] > 1 { path.file_name()?.to_str()?.to_string() } else { stem };
        let meta = path.metadata().ok()?;
        let version = meta.modified().ok().map(|modified| (modified, meta.len()));
        let aliases = self.aliases.iter().filter(|(_, own)| *own == name).map(|(alias, _)| alias.clone());
        let mut names: Vec<String> = aliases.collect();
        if names.is_empty() {
            names.push(name);
        }
        let model = path.to_str()?.to_string();
        Some(Offer { names, adapters: Vec::new(), model, keep_alive: self.keep_alive, version })
    }
}

/// What the model at `path` is called; `None` if it looks like none.
fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with('.') {
        return None;
    }
    if path.is_dir() {
        let checkpoint = ["config.json", "params.json"].iter().any(|file| path.join(file).is_file());
        return checkpoint.then(|| name.to_string());
    }
    let (stem, ending) = name.rsplit_once('.')?;
    let model = path.is_file() && ["gguf", "quipu"].iter().any(|known| ending.eq_ignore_ascii_case(known));
    if !model || stem.is_empty() || stem.starts_with("mmproj") {
        return None;
    }
    // Of a model in parts the first one stands for all.
    let part = stem.rsplit_once("-of-").filter(|(_, count)| count.parse::<usize>().is_ok());
    match part.and_then(|(rest, _)| rest.rsplit_once('-')) {
        Some((stem, number)) => number.parse::<usize>().is_ok_and(|number| number == 1).then(|| stem.to_string()),
        None => Some(stem.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_as_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for file in [
            "llama-3.2-1b.Q4_0.gguf",
            "twice.gguf",
            "twice.quipu",
            "large-00001-of-00002.gguf",
            "large-00002-of-00002.gguf",
            "mmproj-f16.gguf",
            "notes.txt",
            ".hidden.gguf",
            ".gguf",
            "one-of-many.GGUF",
        ] {
            std::fs::write(at(file), "").unwrap();
        }
        for (checkpoint, file) in [("checkpoint", "config.json"), ("native", "params.json"), ("other", "x.gguf")] {
            std::fs::create_dir(at(checkpoint)).unwrap();
            std::fs::write(at(checkpoint).join(file), "").unwrap();
        }
        let of = |path: PathBuf, aliases| Directory { path, keep_alive: KeepAlive::Forever, aliases };
        let scan = of(directory.path().into(), vec![]).scan().unwrap();
        let names: Vec<&str> = scan.iter().map(|offer| offer.names[0].as_str()).collect();
        let expected =
            ["checkpoint", "large", "llama-3.2-1b.Q4_0", "native", "one-of-many", "twice.gguf", "twice.quipu"];
        assert_eq!(names, expected);
        assert_eq!(scan[1].model, at("large-00001-of-00002.gguf").to_str().unwrap());
        let scan = of(directory.path().into(), vec![("a".into(), "large".into())]).scan().unwrap();
        assert_eq!(scan[0].names, ["a"]);
        assert!(of(at("nothing"), vec![]).scan().is_err());
    }
}
