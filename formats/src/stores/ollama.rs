//! ollama's store: `manifests/HOST/NAMESPACE/MODEL/TAG` names the layers of a model, `blobs/sha256-…` has them. The
//! layer that is the model is a GGUF.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{StoreError, StoreFault};
use super::name::is_plain;
use super::stored::Stored;
use crate::hf::FileError;
use crate::hf::json::read_json;
use crate::oddity::Oddity;

const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// Bytes of a manifest at most; real ones have one or two thousand.
const MANIFEST: u64 = 1 << 20;
/// Directories and files that are looked at to say what there is.
const LOOKS: usize = 10_000;

/// The beginning of a layer's media type; the kind follows.
const KIND: &str = "application/vnd.ollama.image.";
/// Layers that change how a model is used in ollama, and have no counterpart here.
const UNUSED: &[&str] = &["template", "params", "system", "messages", "projector"];

/// What a model is made of.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// What ollama says of the model.
    #[serde(default)]
    pub config: Option<Layer>,
    /// Its files.
    #[serde(default)]
    pub layers: Vec<Layer>,
}

/// One file of a model.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Layer {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    /// `sha256:` and 64 digits, if it is what it should be.
    #[serde(default)]
    pub digest: String,
    /// Its bytes.
    pub size: Option<u64>,
}

impl Manifest {
    /// Reads the manifest at `path`; `None` if there is none.
    ///
    /// # Errors
    /// When it can't be read, or is none.
    pub fn read(path: &Path) -> Result<Option<Manifest>, FileError> {
        read_json(path, MANIFEST)
    }

    /// Its layers and what ollama says of it: all files of the model.
    pub fn files(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().chain(&self.config)
    }
}

impl Layer {
    /// What it is of the model: `model`, `template`, `license` and so on.
    pub fn kind(&self) -> &str {
        self.media_type.strip_prefix(KIND).unwrap_or_default()
    }

    /// The name of the file that has its bytes.
    ///
    /// # Errors
    /// [`StoreFault::Digest`].
    pub fn blob(&self) -> Result<String, StoreFault> {
        blob(&self.digest)
    }
}

/// The model that is called `name`, of which `rest` is ollama's part.
pub(super) fn find(stores: &[PathBuf], name: &str, rest: &str) -> Result<Stored, StoreError> {
    let expected = "ollama:MODEL, ollama:MODEL:TAG or ollama:NAMESPACE/MODEL:TAG";
    let place = ollama_name(rest).ok_or_else(|| StoreError::Name { name: name.into(), expected })?;
    for store in stores {
        let path = place.iter().fold(store.join("manifests"), |path, part| path.join(part));
        let read = Manifest::read(&path);
        match read.map_err(|error| StoreError::File { name: name.into(), error })? {
            Some(manifest) => {
                return stored(store, &manifest).map_err(|fault| StoreError::Broken { name: name.into(), path, fault });
            }
            None => continue,
        }
    }
    let there = stores.iter().flat_map(|store| ollama_names(store)).map(|(name, _)| name).collect();
    Err(StoreError::NotThere { name: name.into(), looked: stores.to_vec(), there })
}

/// The parts of a name: host, namespace, model and tag, each of which can be a part of a path; `None` for a name that
/// can't be.
pub fn ollama_name(name: &str) -> Option<[String; 4]> {
    let (path, tag) = match name.rsplit_once(':') {
        // A colon before a slash is that of a host's port.
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, TAG),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let (host, namespace, model) = match parts[..] {
        [model] => (HOST, NAMESPACE, model),
        [namespace, model] => (HOST, namespace, model),
        [host, namespace, model] => (host, namespace, model),
        _ => return None,
    };
    let (host_name, port) = host.split_once(':').unwrap_or((host, "0"));
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let plain = [host_name, namespace, model, tag].into_iter().all(is_plain) && digits;
    plain.then(|| [host, namespace, model, tag].map(String::from))
}

fn stored(store: &Path, manifest: &Manifest) -> Result<Stored, StoreFault> {
    let has = |kind: &str| manifest.layers.iter().any(|layer| layer.kind() == kind);
    if has("adapter") {
        return Err(StoreFault::Adapter);
    }
    let model = manifest.layers.iter().find(|layer| layer.kind() == "model").ok_or(StoreFault::NoModel)?;
    let path = store.join("blobs").join(model.blob()?);
    let shown = || path.display().to_string();
    let found = std::fs::metadata(&path).map_err(|_| StoreFault::NoBlob(shown()))?.len();
    if let Some(expected) = model.size.filter(|size| *size != found) {
        return Err(StoreFault::Size { blob: shown(), expected, found });
    }
    let unused: Vec<&'static str> = UNUSED.iter().copied().filter(|kind| has(kind)).collect();
    let oddities = if unused.is_empty() { Vec::new() } else { vec![Oddity::OllamaLayers { unused }] };
    let licence = manifest.layers.iter().find(|layer| layer.kind() == "license");
    let licence = licence.and_then(|layer| Some(store.join("blobs").join(layer.blob().ok()?)));
    Ok(Stored { path, licence: licence.filter(|path| path.is_file()), oddities })
}

/// The name of the file that has the bytes with this digest.
fn blob(digest: &str) -> Result<String, StoreFault> {
    let hex = |hex: &&str| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex = digest.strip_prefix("sha256:").filter(hex).ok_or_else(|| StoreFault::Digest(digest.into()))?;
    Ok(format!("sha256-{hex}"))
}

/// The names of all models in a store, as ollama shows them, and their manifests.
pub fn ollama_names(store: &Path) -> Vec<(String, PathBuf)> {
    let mut left = LOOKS;
    let mut level = vec![(store.join("manifests"), Vec::new())];
    for _ in 0..4 {
        let mut next = Vec::new();
        for (directory, parts) in level {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten().take(left) {
                left -= 1;
                let Ok(part) = entry.file_name().into_string() else { continue };
                let parts: Vec<String> = parts.iter().cloned().chain([part]).collect();
                next.push((entry.path(), parts));
            }
        }
        level = next;
    }
    let files = level.into_iter().filter(|(path, _)| path.is_file());
    let mut names: Vec<(String, PathBuf)> = files.map(|(path, parts)| (shown(&parts), path)).collect();
    names.sort();
    names
}

fn shown(parts: &[String]) -> String {
    let [host, namespace, model, tag] = parts else { return String::new() };
    match (host.as_str(), namespace.as_str()) {
        (HOST, NAMESPACE) => format!("{model}:{tag}"),
        (HOST, namespace) => format!("{namespace}/{model}:{tag}"),
        (host, namespace) => format!("{host}/{namespace}/{model}:{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "74701a8c35f6c8d9a4b91f3f3497643001d63e0c7a84e085bed452548fa88d45";

    /// A store with one model of five bytes and this manifest.
    fn store(manifest: &str) -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        let place = store.path().join("manifests/registry.ollama.ai/library/llama3.2");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("latest"), manifest).unwrap();
        std::fs::create_dir_all(store.path().join("blobs")).unwrap();
        std::fs::write(store.path().join("blobs").join(format!("sha256-{DIGEST}")), "bytes").unwrap();
        store
    }

    fn layers(layers: &[(&str, &str, u64)]) -> String {
        let layer = |(kind, digest, size): &(&str, &str, u64)| serde_json::json!({"mediaType": format!("{KIND}{kind}"), "digest": digest, "size": size});
        let config = serde_json::json!({"mediaType": "application/vnd.docker.container.image.v1+json"});
        let layers: Vec<_> = layers.iter().map(layer).collect();
        serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string()
    }

    fn find_in(store: &tempfile::TempDir, rest: &str) -> Result<Stored, String> {
        find(&[PathBuf::from("/nowhere"), store.path().into()], "the name", rest).map_err(|error| error.to_string())
    }

    #[test]
    fn a_model_is_found_where_it_lies() {
        let digest = format!("sha256:{DIGEST}");
        let store =
            store(&layers(&[("license", "x", 1), ("template", "y", 1), ("model", &digest, 5), ("params", "z", 1)]));
        for name in ["llama3.2", "llama3.2:latest", "library/llama3.2", "registry.ollama.ai/library/llama3.2:latest"] {
            let found = find_in(&store, name).unwrap();
            assert_eq!(found.path, store.path().join("blobs").join(format!("sha256-{DIGEST}")));
            assert_eq!(found.oddities, [Oddity::OllamaLayers { unused: vec!["template", "params"] }]);
        }
        let missing = find_in(&store, "llama3.2:1b").unwrap_err();
        let (store, expected) = (store.path().display(), "there are llama3.2:latest");
        assert!(missing.contains(&format!("/nowhere or {store}")) && missing.contains(expected), "{missing}");
    }

    #[test]
    fn names_lead_nowhere_else() {
        let store = store(&layers(&[]));
        for name in
            ["", ":", "a:", "../a", "a/../b", "..:a", "a:..", "/etc/passwd", "a/b/c/d", "a\\b", ".a", "h:x/n/m", "a//b"]
        {
            let error = find_in(&store, name).unwrap_err();
            assert!(error.contains("no name of a model"), "{name}: {error}");
        }
        assert_eq!(ollama_name("localhost:5000/me/tiny:q4").unwrap(), ["localhost:5000", "me", "tiny", "q4"]);
    }

    /// Whatever a manifest says.
    #[test]
    fn hostile_manifests_lead_nowhere_else() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let good = format!("sha256:{DIGEST}");
        let other = format!("sha256:{}", "0".repeat(64));
        let up = format!("sha256:../../{}", outside.path().display());
        let model = |digest: &str| layers(&[("model", digest, 5)]);
        for (manifest, expected) in [
            ("".into(), "EOF"),
            ("[]".into(), "no GGUF"),
            ("5".into(), "invalid"),
            (r#"{"layers": 5}"#.into(), "invalid"),
            ("{}".into(), "no GGUF"),
            (layers(&[("template", &good, 5)]), "no GGUF"),
            (model(&up), "is none"),
            (model(outside.path().to_str().unwrap()), "is none"),
            (model("sha256:"), "is none"),
            (model(&good[..70]), "is none"),
            (model(&format!("{}/", &good[..70])), "is none"),
            (model(DIGEST), "is none"),
            (model(&other), "not there"),
            (layers(&[("model", &good, 6)]), "5 bytes instead of 6"),
            (layers(&[("model", &good, 5), ("adapter", &good, 5)]), "adapter"),
            ("x".repeat(2 << 20), "bytes"),
        ] {
            let store = store(&manifest);
            let error = find_in(&store, "llama3.2").unwrap_err();
            assert!(error.contains(expected) && error.contains("the name"), "{error}");
        }
    }
}
