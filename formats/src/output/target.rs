//! What an output's name leads to.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// As many links may lead from one to the next as Linux follows.
const MOST_LINKS: usize = 40;

/// What an output's name leads to, behind all links.
pub(super) enum Target {
    /// Nothing yet: a file will be made here. A link that leads nowhere is followed, too.
    New(PathBuf),
    /// A regular file, which is replaced; its metadata.
    File(PathBuf, Metadata),
    /// What is written to as it is.
    Stream(Stream),
    /// A directory.
    Directory,
}

/// What is written to as it is: a pipe, a device, or whatever a descriptor of a process has open.
pub(super) struct Stream {
    at: PathBuf,
    #[cfg_attr(not(unix), expect(dead_code, reason = "all is opened by its name"))]
    opening: Opening,
}

#[cfg_attr(not(unix), expect(dead_code, reason = "descriptors have no names"))]
enum Opening {
    /// The pipe or the device by its name.
    Named,
    /// What this descriptor has open, if it is one of this process.
    Descriptor { number: u32, own: bool },
}

impl Stream {
    /// What is behind the name, without opening it: to open a pipe waits for its reader.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        std::fs::metadata(&self.at)
    }

    /// Opens it. A file that a descriptor has open keeps what was written to it before.
    pub(super) fn open(&self) -> io::Result<File> {
        #[cfg(unix)]
        if let Opening::Descriptor { number, own } = self.opening {
            use std::os::fd::AsFd;
            // These share their place in the file with whoever else has them, a shell for example.
            return match number {
                1 if own => io::stdout().as_fd().try_clone_to_owned().map(File::from),
                2 if own => io::stderr().as_fd().try_clone_to_owned().map(File::from),
                _ => File::options().append(true).open(&self.at),
            };
        }
        File::options().write(true).open(&self.at)
    }

    pub(super) fn path(&self) -> &Path {
        &self.at
    }
}

impl Target {
    /// Follows `path`.
    pub(super) fn of(path: &Path) -> io::Result<Target> {
        // The last part of `a/` or `a/..` names no file.
        let names_directory = path.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
        if path.file_name().is_none() || names_directory {
            return Ok(Target::Directory);
        }
        let mut at = std::path::absolute(path)?;
        if names_device(&at) {
            return Ok(Target::Stream(Stream { at, opening: Opening::Named }));
        }
        for _ in 0..MOST_LINKS {
            if let Some(opening) = descriptor(&at) {
                return Ok(Target::Stream(Stream { at, opening }));
            }
            let meta = match std::fs::symlink_metadata(&at) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Target::New(at)),
                other => other?,
            };
            if meta.is_symlink() {
                let to = std::fs::read_link(&at)?;
                at = at.parent().unwrap_or(&at).join(to);
            } else if meta.is_dir() {
                return Ok(Target::Directory);
            } else if meta.is_file() {
                return Ok(Target::File(at, meta));
            } else {
                return Ok(Target::Stream(Stream { at, opening: Opening::Named }));
            }
        }
        Err(io::Error::other("too many links lead from one to the next"))
    }
}

/// Whether an absolute path is a device or a pipe of Windows: `\\.\NUL`, which `NUL` is short for, `\\.\pipe\x`.
fn names_device(path: &Path) -> bool {
    use std::path::{Component, Prefix};
    matches!(path.components().next(), Some(Component::Prefix(prefix)) if matches!(prefix.kind(), Prefix::DeviceNS(_)))
}

/// Whether `path` is the name of a descriptor: `/dev/fd/3`, `/proc/self/fd/3`, where `/dev/stdout` leads. Such names
/// are links that must not be followed by their text: what they lead to may have no name any more, and a file that is
/// open already would lose what was written to it before.
fn descriptor(path: &Path) -> Option<Opening> {
    if !cfg!(unix) {
        return None;
    }
    let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
    let dir = path.parent()?.canonicalize().ok()?;
    let is = |own: &str| Path::new(own).canonicalize().is_ok_and(|own| own == dir);
    let own = ["/proc/self/fd", "/proc/thread-self/fd", "/dev/fd"].into_iter().any(is);
    let anyones = dir.starts_with("/proc") && dir.ends_with("fd");
    (own || anyones).then_some(Opening::Descriptor { number, own })
}
