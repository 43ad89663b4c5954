//! Where models are fetched from and where they go.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use quipu_formats::stores::{Stores, scheme};

use super::again::Watch;
use super::client::Client;
use super::error::PullError;
use super::event::Event;
use super::token::Token;
use super::{hub, ollama};
use crate::error::StoreError;

const HUB: &str = "https://huggingface.co";
const REGISTRY: &str = "https://registry.ollama.ai";

/// Fetches models by name.
///
/// ```no_run
/// use std::sync::atomic::AtomicBool;
///
/// use quipu_store::pull::Puller;
///
/// let path = Puller::here()?.pull("hf:org/repo:Q4_K_M", &mut |_| {}, &AtomicBool::new(false))?;
/// println!("{}", path.display());
/// # Ok::<(), quipu_store::pull::PullError>(())
/// ```
#[derive(Debug)]
pub struct Puller {
    stores: Stores,
    hub: String,
    registry: String,
    token: Option<Token>,
    client: Client,
}

impl Puller {
    /// By the variables that the Hub's and ollama's programs know: the stores by those of [`Stores::here`], the Hub by
    /// `HF_ENDPOINT`, a token by `HF_TOKEN` or the file in which `hf auth login` leaves it. `OLLAMA_REGISTRY` names
    /// another registry for models without a host. `HF_HUB_OFFLINE` forbids it.
    ///
    /// # Errors
    /// A token or certificates that can't be used.
    pub fn here() -> Result<Puller, PullError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let base = |name: &str, default: &str| {
            variable(name).unwrap_or_else(|| default.into()).trim_end_matches('/').to_string()
        };
        if variable("HF_HUB_OFFLINE")
            .is_some_and(|value| !["0", "false", "no", "off"].contains(&&*value.to_lowercase()))
        {
            return Err(PullError::Offline { variable: "HF_HUB_OFFLINE" });
        }
        Ok(Puller {
            stores: Stores::here(),
            hub: base("HF_ENDPOINT", HUB),
            registry: base("OLLAMA_REGISTRY", REGISTRY),
            token: Token::here()?,
            client: Client::new()?,
        })
    }

    /// Fetches what is missing of the model called `name`, and returns where it can be opened. Files that are there are
    /// not fetched again, and what came of others before is not, either. `report` hears what happens; when `stop`
    /// becomes true it ends within a moment.
    ///
    /// # Errors
    /// [`PullError`].
    pub fn pull(&self, name: &str, report: &mut dyn FnMut(Event<'_>), stop: &AtomicBool) -> Result<PathBuf, PullError> {
        let mut watch = Watch { report, stop };
        match scheme(name) {
            Some(("ollama", rest)) => {
                let store = self.stores.ollama.first();
                let store = store.ok_or_else(|| no_directory(name, "OLLAMA_MODELS"))?;
                ollama::pull(&self.client, &self.registry, store, name, rest, &mut watch)?;
            }
            Some((_, rest)) => {
                let cache = self.stores.hub.as_deref().ok_or_else(|| no_directory(name, "HF_HUB_CACHE"))?;
                hub::Hub { client: &self.client, endpoint: &self.hub, token: self.token.as_ref(), cache }
                    .pull(name, rest, &mut watch)?;
            }
            None => return Err(StoreError::NoStore { name: name.into() }.into()),
        }
        let found = self.stores.find(name)?;
        found.map(|found| found.path).ok_or_else(|| StoreError::NoStore { name: name.into() }.into())
    }
}

fn no_directory(name: &str, variable: &'static str) -> StoreError {
    StoreError::NoDirectory { name: name.into(), variable }
}
