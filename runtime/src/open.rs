//! Opens a model by its name.

use std::path::Path;

use quipu_formats::bundle::{Bundle, BundleError};
use quipu_formats::gguf::{GgufError, GgufFile, join_experts};
use quipu_formats::hf::{HfDirectory, HfError};
use quipu_formats::oddity::Oddity;
use quipu_formats::source::Source;
use quipu_formats::stores::{StoreError, Stores};

/// Why a model can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A GGUF or packed file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A Hugging Face directory.
    #[error(transparent)]
    Hf(#[from] HfError),
    /// A model of ollama's or of the Hub's cache.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model that this program carries.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The binary was built without the demo model.
    #[error("this build has no demo model; give the path of a GGUF file, a packed file or a Hugging Face directory")]
    NoDemo,
}

/// Opens the model called `name`: the path of a GGUF or packed file, of a Hugging Face directory, the word `demo`, or
/// what another program has fetched ([`quipu_formats::stores`]): `ollama:MODEL[:TAG]`, `hf:ORG/REPO[:TYPE]`. In a
/// program that carries a model ([`quipu_formats::bundle`]) the word `bundled` is that model.
///
/// # Errors
/// See [`OpenError`].
pub fn open(name: &str) -> Result<Box<dyn Source>, OpenError> {
    let path = Path::new(name);
    if !path.exists() {
        if name == "demo" {
            #[cfg(feature = "demo")]
            return Ok(Box::new(GgufFile::from_bytes("demo", quipu_demo::TALES)?));
            #[cfg(not(feature = "demo"))]
            return Err(OpenError::NoDemo);
        }
        if name == "bundled"
            && let Some(bundle) = Bundle::here()?
        {
            return Ok(Box::new(bundle.open()?));
        }
        if let Some(stored) = Stores::here().find(name)? {
            return open_path(&stored.path, stored.oddities);
        }
    }
    open_path(path, Vec::new())
}

fn open_path(path: &Path, oddities: Vec<Oddity>) -> Result<Box<dyn Source>, OpenError> {
    if path.is_dir() {
        return Ok(Box::new(HfDirectory::open(path)?));
    }
    Ok(join_experts(GgufFile::open(path)?.with_oddities(oddities))?)
}
