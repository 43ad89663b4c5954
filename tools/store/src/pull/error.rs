//! Why a model can't be fetched.

use std::io;
use std::path::PathBuf;

use quipu_formats::output::OutputError;
use quipu_formats::stores;

use crate::error::StoreError;

/// Why a model can't be fetched. What came of it stays, and the next try goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The name or the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was asked to stop.
    #[error("stopped; what is there is kept")]
    Stopped,
    /// A variable forbids it.
    #[error("{variable} is set, so nothing is fetched")]
    Offline {
        /// The variable.
        variable: &'static str,
    },
    /// An address that is none.
    #[error("{url:?}: this is no address; expected http:// or https:// and a host")]
    Address {
        /// The address.
        url: String,
    },
    /// Encryption is not to be had.
    #[error(
        "{url}: {why}; fetch it in another way, such as `curl -L -O`, and give the file, or name a mirror that you trust by http:// in {mirror}"
    )]
    NoTls {
        /// The address.
        url: String,
        /// Why not.
        why: &'static str,
        /// The variable for mirrors.
        mirror: &'static str,
    },
    /// The other side is not who it should be, or speaks no encryption that is known here.
    #[error("{url}: no encrypted line: {why}")]
    Tls {
        /// The address.
        url: String,
        /// Why not.
        why: String,
    },
    /// The certificates that a variable names can't be used.
    #[error("SSL_CERT_FILE, {}: {reason}", .path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A token that can't be sent.
    #[error("the token of {origin} has characters that no token has")]
    Token {
        /// Where it is from.
        origin: String,
    },
    /// An answer led from https to http.
    #[error("{url}: leads to an unencrypted address, {to}; nothing was asked for there")]
    Downgrade {
        /// What was asked for.
        url: String,
        /// Where it leads.
        to: String,
    },
    /// Too many redirections, or one to nowhere.
    #[error("{url}: leads from one address to the next and to no file")]
    Redirects {
        /// What was asked for.
        url: String,
    },
    /// Nobody answers, as often as it was tried.
    #[error("{url}: {why}; tried {tries} times. What is there is kept; the same command goes on from it")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The last reason.
        why: String,
        /// How often.
        tries: u32,
    },
    /// 401.
    #[error(
        "{name}: {host} does not let this be read by everybody (401), or there is no such model. For a gated or private one, set \
         HF_TOKEN, or log in with `hf auth login`{more}"
    )]
    Unauthorized {
        /// The model.
        name: String,
        /// Who says so.
        host: String,
        /// What else may be the reason.
        more: &'static str,
    },
    /// 403.
    #[error(
        "{name}: {host} does not let you read this (403); is there a licence to be accepted on its page, or a right that the token lacks?"
    )]
    Forbidden {
        /// The model.
        name: String,
        /// Who says so.
        host: String,
    },
    /// 404.
    #[error("{name}: there is no such model at {host} (404)")]
    NotFound {
        /// The model.
        name: String,
        /// Who says so.
        host: String,
    },
    /// Another status.
    #[error("{url}: answered with the status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// An answer that is not what such an answer is.
    #[error("{url}: this is no answer of {expected}: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// Whose answer it should be.
        expected: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// None of the repository's files is meant.
    #[error("{name}: no file of this repository is meant; there are {}", .there.join(", "))]
    NoFile {
        /// The model.
        name: String,
        /// What could be meant.
        there: Vec<String>,
    },
    /// Several could be meant.
    #[error("{name}: there are several; say which, as the end of the name: {}", .there.join(", "))]
    Several {
        /// The model.
        name: String,
        /// What could be meant.
        there: Vec<String>,
    },
    /// A repository without a model.
    #[error(
        "{name}: there is neither a GGUF nor a checkpoint (config.json with .safetensors or .bin files) in this repository"
    )]
    NoModel {
        /// The model.
        name: String,
    },
    /// What came is something else.
    #[error(
        "{url}: what came is not the file that was asked for (its digest is another one), also when all of it was fetched anew; it was not kept"
    )]
    Digest {
        /// What was asked for.
        url: String,
    },
    /// A file can't be written.
    #[error("{}: cannot write: {source}; what is there is kept, and the same command goes on from it", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The last file can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl From<stores::StoreError> for PullError {
    fn from(error: stores::StoreError) -> PullError {
        StoreError::from(error).into()
    }
}
