//! The Hub: a repository has files at a commit, which its cache has under their digests, linked from snapshots.

use std::path::{Path, PathBuf};

use quipu_formats::stores::{StoreError, hub_directory, hub_name};
use serde::Deserialize;

use super::again::Watch;
use super::blob::Blob;
use super::choice::choose;
use super::client::{Ask, Client, address, host};
use super::error::PullError;
use super::event::Event;
use super::token::Token;
use crate::digest::Digest;

/// Bytes of the list of a repository's files at most; some have ten thousand files.
const LIST: u64 = 64 << 20;
const MIRROR: &str = "HF_ENDPOINT";

/// The Hub, or a mirror of it, and its cache.
pub(super) struct Hub<'a> {
    pub client: &'a Client,
    pub endpoint: &'a str,
    pub token: Option<&'a Token>,
    pub cache: &'a Path,
}

/// A repository at a commit.
#[derive(Deserialize)]
struct Revision {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

/// A file that is to be fetched.
struct Wanted<'f> {
    path: &'f str,
    digest: Digest,
    bytes: u64,
}

impl Hub<'_> {
    /// Fetches the model called `name`, of which `rest` is the Hub's part.
    pub fn pull(&self, name: &str, rest: &str, watch: &mut Watch<'_>) -> Result<(), PullError> {
        let expected = "hf:ORG/REPO, or hf:ORG/REPO:TYPE for one GGUF of several, such as hf:org/repo:Q4_K_M";
        let (repository, kind) = hub_name(rest).ok_or_else(|| StoreError::Name { name: name.into(), expected })?;
        let at = host(&address(self.endpoint)?);
        let status = |url: &str, status: u16| self.refused(name, &at, url, status);
        let url = format!("{}/api/models/{repository}/revision/main?blobs=true", self.endpoint);
        (watch.report)(Event::Asking);
        let (code, bytes) = self.client.read(self.ask(&url, "application/json"), LIST, watch)?;
        if code != 200 {
            return Err(status(&url, code));
        }
        let broken = |reason: String| PullError::Answer { url: url.clone(), expected: "the Hub", reason };
        let revision: Revision = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        let commit =
            Digest::of_name(&revision.sha).ok_or_else(|| broken(format!("{:?} is no commit", revision.sha)))?;
        let paths: Vec<&str> = revision.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let chosen = choose(name, kind, &paths)?;
        let files = revision.siblings.iter().filter(|file| chosen.contains(&file.rfilename.as_str()));
        let files = files.map(|file| wanted(file).map_err(broken)).collect::<Result<Vec<_>, _>>()?;
        let directory = self.cache.join(hub_directory(repository));
        for file in &files {
            let url = format!("{}/{repository}/resolve/{}/{}", self.endpoint, commit.digits(), escaped(file.path));
            let path = directory.join("blobs").join(file.digest.digits());
            let lock = self.cache.join(".locks").join(hub_directory(repository));
            let blob = Blob {
                name: file.path,
                ask: self.ask(&url, "*/*"),
                bytes: file.bytes,
                digest: file.digest.clone(),
                incomplete: path.with_file_name(format!("{}.incomplete", file.digest.digits())),
                path,
                lock: Some(lock.join(format!("{}.lock", file.digest.digits()))),
            };
            blob.fetch(self.client, &|code| status(&url, code), watch)?;
        }
        (watch.report)(Event::Naming);
        for file in &files {
            link(&directory, commit.digits(), file)?;
        }
        let refs = directory.join("refs");
        let main = refs.join("main");
        let written = std::fs::create_dir_all(refs).and_then(|()| std::fs::write(&main, commit.digits()));
        written.map_err(|source| PullError::Write { path: main, source })
    }

    fn ask<'u>(&'u self, url: &'u str, accept: &'u str) -> Ask<'u> {
        Ask { url, token: self.token, accept, from: 0, mirror: MIRROR }
    }

    fn refused(&self, name: &str, host: &str, url: &str, status: u16) -> PullError {
        let (name, host) = (name.to_string(), host.to_string());
        match status {
            401 => {
                let more = if self.token.is_some() { "; the token that there is may have ended" } else { "" };
                PullError::Unauthorized { name, host, more }
            }
            403 => PullError::Forbidden { name, host },
            404 => PullError::NotFound { name, host },
            status => PullError::Status { url: url.into(), status },
        }
    }
}

/// A file as the cache has it; why not, if its name leads elsewhere or it has no digest.
fn wanted(file: &Sibling) -> Result<Wanted<'_>, String> {
    let path = file.rfilename.as_str();
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() < 256
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    if !path.split('/').all(plain) {
        return Err(format!("{path:?} is no name of a file"));
    }
    let (digest, bytes) = match (&file.lfs, &file.blob_id) {
        (Some(large), _) => (large.sha256.as_str(), Some(large.size)),
        (None, id) => (id.as_deref().unwrap_or_default(), file.size),
    };
    match (Digest::of_name(digest), bytes) {
        (Some(digest), Some(bytes)) => Ok(Wanted { path, digest, bytes }),
        _ => Err(format!("{path:?} has no digest or no size (a mirror that does not tell them?)")),
    }
}

/// A path within an address.
fn escaped(path: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Gives a blob its name in a snapshot: by a link, or where the system has none, as a copy.
fn link(directory: &Path, commit: &str, file: &Wanted<'_>) -> Result<(), PullError> {
    let path = directory.join("snapshots").join(commit).join(file.path);
    let fail = |source| PullError::Write { path: path.clone(), source };
    let blob = PathBuf::from("blobs").join(file.digest.digits());
    std::fs::create_dir_all(path.parent().unwrap_or(directory)).map_err(fail)?;
    let up: PathBuf = std::iter::repeat_n("..", 2 + file.path.matches('/').count()).collect();
    if path.read_link().is_ok_and(|target| target == up.join(&blob)) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&path);
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(up.join(&blob), &path);
    #[cfg(not(unix))]
    let linked = std::fs::hard_link(directory.join(&blob), &path);
    linked.or_else(|_| std::fs::copy(directory.join(&blob), &path).map(drop)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else_and_files_have_digests() {
        let file = |name: &str, digest: &str| Sibling {
            rfilename: name.into(),
            size: Some(3),
            blob_id: Some(digest.into()),
            lfs: None,
        };
        let id = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad";
        assert!(wanted(&file("Q8/a b-Q8_0.gguf", id)).is_ok());
        for name in ["../x", "/x", "a/../x", "a//b", "a\\b", "C:x", "", "a\nb", &"a".repeat(300)] {
            assert!(wanted(&file(name, id)).is_err(), "{name}");
        }
        for digest in ["", "../../x", &id[1..], &id.to_uppercase()] {
            assert!(wanted(&file("x", digest)).is_err(), "{digest}");
        }
        assert_eq!(escaped("a b/ü#?.gguf"), "a%20b/%C3%BC%23%3F.gguf");
    }
}
