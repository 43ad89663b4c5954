//! How a server is to behave, and what it takes at most.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quipu_runtime::generate::GenerateOptions;

use crate::engine::{Room, Tell};
use crate::keys::Keys;
use crate::mcp::hosted::Toolbox;
use crate::models::fetch::Pull;
use crate::moderation::gate::GateOptions;

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port; 0 for one that is free.
    Tcp(IpAddr, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// How a server is to behave.
#[derive(Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Who has none of these keys is refused; without any, nobody is.
    pub keys: Keys,
    /// Whether it may listen where others reach it, and ask for no key.
    pub insecure: bool,
    /// Further names by which it may be called (`Host`).
    pub hosts: Vec<String>,
    /// Web pages of these origins may call it.
    pub origins: Vec<String>,
    /// How texts are written where a request does not say.
    pub defaults: Defaults,
    /// How many texts a model writes and lets wait.
    pub room: Room,
    /// What it takes at most.
    pub limits: Limits,
    /// How long texts may go on when it is asked to end.
    pub drain: Duration,
    /// Who is told what happens.
    pub tell: Tell,
    /// A model that judges what the others are told and what they answer, and answers `/v1/moderations`.
    pub guard: Option<GateOptions>,
    /// What fetches models that requests name (`/api/pull`); without it none is fetched.
    pub pull: Option<Pull>,
    /// Tools that the server runs itself, for requests that ask for them.
    pub toolbox: Toolbox,
}

impl ServerOptions {
    /// On this address; everything else as by default.
    pub fn new(address: Address) -> ServerOptions {
        ServerOptions::at(vec![address])
    }

    /// On these addresses; everything else as by default.
    pub fn at(addresses: Vec<Address>) -> ServerOptions {
        ServerOptions {
            addresses,
            keys: Keys::default(),
            insecure: false,
            hosts: Vec::new(),
            origins: Vec::new(),
            defaults: Defaults::default(),
            room: Room { running: 32, waiting: 64 },
            limits: Limits::default(),
            drain: Duration::from_secs(30),
            tell: Arc::new(|_| {}),
            guard: None,
            pull: None,
            toolbox: Toolbox::default(),
        }
    }
}

/// How texts are written where a request does not say.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Everything but the seed.
    pub options: GenerateOptions,
    /// The seed; none for a new one for each request.
    pub seed: Option<u64>,
}

/// What a server takes at most. All of it is looked at before any work is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Fields of a request's header.
    pub header_fields: usize,
    /// Until a header is there.
    pub header_time: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Until the next part of a body is there. Besides, a body must keep up [`Limits::body_rate`].
    pub body_time: Duration,
    /// Bytes of a body in a second, on average.
    pub body_rate: usize,
    /// Until a client has taken something of an answer.
    pub write_time: Duration,
    /// Messages of a conversation.
    pub messages: usize,
    /// Tools that a request declares.
    pub tools: usize,
    /// Calls of tools that the server runs in one answer.
    pub calls: usize,
    /// Texts to be continued in one request, and texts to be turned into vectors.
    pub prompts: usize,
    /// Answers to one prompt.
    pub choices: usize,
    /// Stop strings.
    pub stops: usize,
    /// Bytes of a stop string.
    pub stop_bytes: usize,
    /// Biases of logits.
    pub biases: usize,
    /// Likeliest tokens that are told for each place.
    pub top_logprobs: usize,
    /// Between two signs of life of a stream that has nothing else to say.
    pub ping: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            header_bytes: 64 << 10,
            header_fields: 100,
            header_time: Duration::from_secs(10),
            body_bytes: 16 << 20,
            body_time: Duration::from_secs(10),
            body_rate: 16 << 10,
            write_time: Duration::from_secs(30),
            messages: 4096,
            tools: 256,
            calls: 32,
            prompts: 256,
            choices: 16,
            stops: 16,
            stop_bytes: 256,
            biases: 1024,
            top_logprobs: 20,
            ping: Duration::from_secs(15),
        }
    }
}
