//! Results, to stdout.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use quipu_formats::output::Inputs;
use serde::Serialize;

use crate::talk;
use crate::visible::visible;

/// Whoever read our stdout has closed it (`quipu … | head -1`). Not a failure: there is nobody left to work for.
#[derive(Debug)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl std::error::Error for Closed {}

/// Writes `text` and makes it visible at once.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    check(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Writes `text`, which may have names from files in it, and a line end.
pub fn line(text: impl fmt::Display) -> Result<()> {
    print(&(visible(&text.to_string()) + "\n"))
}

/// Writes `value` as one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string(value).context("cannot write the result as JSON")? + "\n"))
}

/// Refuses to work when stdout or stderr lead into what is read, as `quipu run m.gguf … >> m.gguf` would have it;
/// `name` is what the user calls that.
pub fn apart_from(inputs: &Inputs, name: &Path) -> Result<()> {
    match inputs.stream_into() {
        Some("stderr") => {
            // Not even this may be said there.
            talk::fall_silent();
            bail!("{}: is read, and stderr leads into it", name.display())
        }
        Some(stream) => bail!("{}: is read, and {stream} leads into it; choose another file", name.display()),
        None => Ok(()),
    }
}

/// Whether whoever has read what is written is gone.
fn is_closed(error: &io::Error) -> bool {
    // What Windows says of a pipe with a name, and wine of any.
    const NOT_CONNECTED: i32 = 233;
    error.kind() == io::ErrorKind::BrokenPipe || cfg!(windows) && error.raw_os_error() == Some(NOT_CONNECTED)
}

fn check(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if is_closed(&e) => Err(Closed.into()),
        other => other.context("cannot write to stdout"),
    }
}
