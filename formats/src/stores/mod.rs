//! Models that other programs have fetched, by name and where they lie: nothing is fetched here, nothing is copied.
//!
//! - `ollama:llama3.2`, `ollama:llama3.2:1b`, `ollama:namespace/model:tag`: what ollama has pulled (`ollama`).
//! - `hf:org/repo`, `hf:org/repo:Q4_K_M`: what is in the Hub's cache (`hub`).
//!
//! Names come from users, manifests from anywhere: what is made a path of is looked at first, so that neither leads out
//! of the store.
//!
//! ```no_run
//! use quipu_formats::stores::Stores;
//!
//! if let Some(found) = Stores::here().find("ollama:llama3.2")? {
//!     println!("{}", found.path.display());
//! }
//! # Ok::<(), quipu_formats::stores::StoreError>(())
//! ```

mod error;
mod hub;
mod name;
mod ollama;
mod stored;

use std::path::PathBuf;

pub use error::{StoreError, StoreFault};
pub use hub::{has_type, hub_directory, hub_name, hub_repositories, part_of_gguf};
pub use ollama::{Layer, Manifest, ollama_name, ollama_names};
pub use stored::Stored;

/// Where the stores are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stores {
    /// ollama's, each with `manifests` and `blobs`; the first that has a model counts.
    pub ollama: Vec<PathBuf>,
    /// The Hub's cache, with a directory `models--ORG--REPO` for each repository.
    pub hub: Option<PathBuf>,
}

/// Whose store a name is of (`ollama` or `hf`), and what is to be found there; `None` for a name of no store.
pub fn scheme(name: &str) -> Option<(&'static str, &str)> {
    ["ollama", "hf"].into_iter().find_map(|scheme| Some((scheme, name.strip_prefix(scheme)?.strip_prefix(':')?)))
}

/// What a model is called within its store: the name without the store's; `None` for a name of no store.
pub fn name_in_store(name: &str) -> Option<&str> {
    scheme(name).map(|(_, rest)| rest)
}

impl Stores {
    /// Where the programs keep them by the variables that they know (`OLLAMA_MODELS`; `HF_HUB_CACHE`, `HF_HOME`), or
    /// else by default.
    pub fn here() -> Stores {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
        let ollama = match path("OLLAMA_MODELS") {
            Some(models) => vec![models],
            // As a user's program, and as the service of a Linux system.
            None => {
                let own = home.as_ref().map(|home| home.join(".ollama/models"));
                own.into_iter().chain([PathBuf::from("/usr/share/ollama/.ollama/models")]).collect()
            }
        };
        let cache = || path("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
        let hub = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(path("HF_HOME").or_else(|| Some(cache()?.join("huggingface")))?.join("hub")));
        Stores { ollama, hub }
    }

    /// The model called `name`; `None` if the name is of no store.
    ///
    /// # Errors
    /// [`StoreError`]: the name is none, the model is not there, or not whole.
    pub fn find(&self, name: &str) -> Result<Option<Stored>, StoreError> {
        match scheme(name) {
            Some(("ollama", rest)) => ollama::find(&self.ollama, name, rest).map(Some),
            Some((_, rest)) => hub::find(self.hub.as_deref(), name, rest).map(Some),
            None => Ok(None),
        }
    }
}
