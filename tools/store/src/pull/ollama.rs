//! ollama's registry: a manifest names the files of a model by their digests.

use std::io::Write;
use std::path::Path;

use quipu_formats::output::{Inputs, OutputFile};
use quipu_formats::stores::{Manifest, StoreError, ollama_name};

use super::again::Watch;
use super::blob::Blob;
use super::client::{Ask, Client, address, host, is_here};
use super::error::PullError;
use super::event::Event;
use crate::digest::Digest;

/// Bytes of a manifest at most.
const MANIFEST: u64 = 1 << 20;
const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OWN_HOST: &str = "registry.ollama.ai";
const MIRROR: &str = "OLLAMA_REGISTRY";

/// Fetches the model called `name`, of which `rest` is ollama's part, into `store`.
pub(super) fn pull(
    client: &Client,
    registry: &str,
    store: &Path,
    name: &str,
    rest: &str,
    watch: &mut Watch<'_>,
) -> Result<(), PullError> {
    let expected = "ollama:MODEL, ollama:MODEL:TAG or ollama:NAMESPACE/MODEL:TAG";
    let place = ollama_name(rest).ok_or_else(|| StoreError::Name { name: name.into(), expected })?;
    let [own, namespace, model, tag] = &place;
    let base = if own == OWN_HOST { registry.to_string() } else { base(own) };
    let at = host(&address(&base)?);
    let url = format!("{base}/v2/{namespace}/{model}/manifests/{tag}");
    let status = |status: u16| refused(name, &at, &url, status);
    (watch.report)(Event::Asking);
    let ask = Ask { url: &url, token: None, accept: ACCEPT, from: 0, mirror: MIRROR };
    let (code, bytes) = client.read(ask, MANIFEST, watch)?;
    if code != 200 {
        return Err(status(code));
    }
    let broken = |reason: String| PullError::Answer { url: url.clone(), expected: "ollama's registry", reason };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if manifest.layers.iter().all(|layer| layer.kind() != "model") {
        return Err(broken("it names no GGUF (a model that runs elsewhere?)".into()));
    }
    for layer in manifest.files() {
        let blob = layer.blob().map_err(|fault| broken(fault.to_string()))?;
        let digest = Digest::of_name(&blob).ok_or_else(|| broken(format!("{blob} is no digest")))?;
        let bytes = layer.size.ok_or_else(|| broken(format!("{blob} has no size")))?;
        let url = format!("{base}/v2/{namespace}/{model}/blobs/sha256:{}", digest.digits());
        let path = store.join("blobs").join(&blob);
        let what = if layer.kind().is_empty() { "config" } else { layer.kind() };
        let ask = Ask { url: &url, token: None, accept: "*/*", from: 0, mirror: MIRROR };
        let incomplete = path.with_file_name(format!("{blob}.incomplete"));
        Blob { name: what, ask, bytes, digest, path, incomplete, lock: None }.fetch(client, &status, watch)?;
    }
    (watch.report)(Event::Naming);
    let path = place.iter().fold(store.join("manifests"), |path, part| path.join(part));
    let directory = path.parent().unwrap_or(store);
    std::fs::create_dir_all(directory).map_err(|source| PullError::Write { path: directory.into(), source })?;
    let mut file = OutputFile::create(&path, &Inputs::new())?;
    file.write_all(&bytes).map_err(|source| PullError::Write { path, source })?;
    Ok(file.finish()?)
}

/// A registry by its host's name: encrypted, but for one on this machine.
fn base(host: &str) -> String {
    let plain = format!("http://{host}");
    if address(&plain).is_ok_and(|url| is_here(&url)) { plain } else { format!("https://{host}") }
}

fn refused(name: &str, host: &str, url: &str, status: u16) -> PullError {
    let (name, host) = (name.to_string(), host.to_string());
    match status {
        401 => {
            PullError::Unauthorized { name, host, more: " (for the Hub); ollama's private models need `ollama pull`" }
        }
        403 => PullError::Forbidden { name, host },
        404 => PullError::NotFound { name, host },
        status => PullError::Status { url: url.into(), status },
    }
}
