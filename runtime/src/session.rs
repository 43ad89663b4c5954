//! Sessions: a text with its keys and values in a file, to go on with later without reading it again.
//!
//! ```
//! use quipu_formats::output::Inputs;
//! use quipu_runtime::generate::{GenerateOptions, Request, Scheduler, prompt_tokens};
//! use quipu_runtime::session::Session;
//! use quipu_runtime::{Engine, LoadOptions};
//!
//! # #[cfg(feature = "demo")] {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("tale.session");
//! let engine = Engine::load(quipu_runtime::open("demo")?, &LoadOptions::default(), &|_, _| {})?;
//! let tokens = prompt_tokens(engine.tokenizer(), "Once upon a time", true);
//! let mut scheduler = Scheduler::new(engine);
//! let options = GenerateOptions::default().max_tokens(8);
//! let (_, end) = scheduler.complete(Request::new(tokens, options.clone()))?;
//! let state = serde_json::to_value(&end.sampler)?;
//! Session { tokens: end.tokens, sequence: end.sequence, state }.save(scheduler.engine(), &path, &Inputs::new())?;
//!
//! // Later, perhaps in another process: the text that would have come without the pause.
//! let Session { tokens, sequence, state } = Session::open(scheduler.engine(), &path)?;
//! let options = options.resume(Some(serde_json::from_value(state)?));
//! let (more, end) = scheduler.complete(Request::new(tokens, options).sequence(sequence))?;
//! assert!(!more.is_empty() && end.cached_tokens + 1 == end.prompt_tokens);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quipu_formats::map::{MapError, MappedFile};
use quipu_formats::output::{Inputs, OutputError, OutputFile};
use serde_json::Value as Json;

use crate::adapters::Adapters;
use crate::engine::{Engine, EngineError};
use crate::host::memory::{self, Shortage};
use crate::kv::{Fault, Head, Sequence};

/// A text that a model has read, or written, for a file.
#[derive(Clone, Debug)]
pub struct Session {
    /// The tokens of the text.
    pub tokens: Vec<u32>,
    /// As many of them as have been read, with their keys and values. (A token that was written last has not.)
    pub sequence: Sequence,
    /// Whatever else whoever saves it wants to find again.
    pub state: Json,
}

/// Why a session could not be opened or saved. A file that is there stays as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The file can't be read.
    #[error(transparent)]
    Map(#[from] MapError),
    /// It is no session, or is no longer one.
    #[error("{}: is no session of Quipu that can be read: {what}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Its keys and values are others than this model would make of the text.
    #[error("{}: this session belongs to something else: it was made with {what}; choose another file, or delete this one", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What was another: the model, say.
        what: String,
    },
    /// There is no memory for it.
    #[error(transparent)]
    Memory(#[from] Shortage),
    /// The sequence is another engine's.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Session {
    /// Reads the session at `path`, whose keys and values have to be those that this engine would have.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn open(engine: &Engine, path: &Path) -> Result<Session, SessionError> {
        Session::open_with(engine, &Adapters::default(), path)
    }

    /// The same, for a text that is read with `adapters`.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn open_with(engine: &Engine, adapters: &Adapters, path: &Path) -> Result<Session, SessionError> {
        let invalid = |what: String| SessionError::Invalid { path: path.to_owned(), what };
        let file = match MappedFile::open(path) {
            Err(MapError::Empty { .. }) => return Err(invalid("the file is empty".into())),
            file => file?,
        };
        let (head, pages) = Head::parse(&file).map_err(|fault: Fault| invalid(fault.to_string()))?;
        if let Some(what) = difference(&head.identity, &adapters.identity(&engine.kv_identity())) {
            return Err(SessionError::Other { path: path.to_owned(), what });
        }
        let state = serde_json::from_slice(&head.state).map_err(|error| invalid(format!("its state: {error}")))?;
        engine.check_tokens(&head.text).map_err(|error| invalid(error.to_string()))?;
        let mut sequence = engine.new_sequence_with(adapters)?;
        memory::check(pages.len() as u64, || format!("the session of {} tokens", head.filled))?;
        sequence.restore(&head, pages, engine.threads()).map_err(|fault| invalid(fault.to_string()))?;
        Ok(Session { tokens: head.text, sequence, state })
    }

    /// Writes the session to `path`, which is none of `inputs`. It appears there when it is complete; until then, and
    /// if it fails, whatever is there stays.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn save(&self, engine: &Engine, path: &Path, inputs: &Inputs) -> Result<(), SessionError> {
        let Session { tokens, sequence, state } = self;
        engine.check_sequence(sequence)?;
        let mut sequence = sequence.clone();
        // What it has read beyond the text would be of no use.
        sequence.keep_prefix(tokens);
        let identity = sequence.adapters().identity(&engine.kv_identity());
        let head = sequence.head(tokens, identity, state.to_string().into_bytes());
        let mut file = OutputFile::create(path, inputs)?;
        let written = file.write_all(&head.to_bytes()).and_then(|()| sequence.each_page(|page| file.write_all(page)));
        written.map_err(|error| output_error(path, error))?;
        Ok(file.finish()?)
    }
}

/// The error of an [`OutputFile`], which its writer wraps.
fn output_error(path: &Path, error: io::Error) -> SessionError {
    let source = match error.downcast::<OutputError>() {
        Ok(error) => return error.into(),
        Err(source) => source,
    };
    OutputError::Write { path: path.to_owned(), source }.into()
}

/// What the identity of other keys and values says that differs from ours, in words.
fn difference(theirs: &str, ours: &str) -> Option<String> {
    if theirs == ours {
        return None;
    }
    let (theirs, ours): (Vec<_>, Vec<_>) = (theirs.split("; ").collect(), ours.split("; ").collect());
    let part = |i: usize| (theirs.get(i).copied().unwrap_or("none"), ours.get(i).copied().unwrap_or("none"));
    let differing =
        (0..theirs.len().max(ours.len())).map(|i| (i, part(i))).filter(|(_, (theirs, ours))| theirs != ours);
    let named = differing.map(|(i, (theirs, ours))| match i {
        0 => "another version of Quipu".into(),
        1 => "another model, or a file of it that has changed".into(),
        2 => "another shape or RoPE".into(),
        3 => format!("keys and values in {theirs}, not {ours}"),
        _ => "other adapters, or other scales of them".into(),
    });
    Some(named.collect::<Vec<String>>().join(", "))
}
