//! Opens a model by its name.

use std::path::Path;

use quipu_formats::gguf::{GgufError, GgufFile};
use quipu_formats::hf::{HfDirectory, HfError};
use quipu_formats::source::Source;

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
    /// The binary was built without the demo model.
    #[error("this build has no demo model; give the path of a GGUF file, a packed file or a Hugging Face directory")]
    NoDemo,
}

/// Opens the model called `name`: the path of a GGUF or packed file, of a Hugging Face directory, or the word `demo`.
///
/// # Errors
/// See [`OpenError`].
pub fn open(name: &str) -> Result<Box<dyn Source>, OpenError> {
    if name == "demo" && !Path::new(name).exists() {
        #[cfg(feature = "demo")]
        return Ok(Box::new(GgufFile::from_bytes("demo", quipu_demo::TALES)?));
        #[cfg(not(feature = "demo"))]
        return Err(OpenError::NoDemo);
    }
    if Path::new(name).is_dir() {
        return Ok(Box::new(HfDirectory::open(Path::new(name))?));
    }
    Ok(Box::new(GgufFile::open(name)?))
}
