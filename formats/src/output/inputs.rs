//! What is read while an output is written.

use std::collections::HashSet;
#[cfg(any(unix, windows))]
use std::fs::File;
use std::fs::Metadata;
#[cfg(unix)]
use std::io;
use std::path::Path;

/// Directories below a model's that are looked into, and the most files that are looked at.
const DEPTH: usize = 2;
const MOST: usize = 100_000;

/// The files that something is made from. They are known by what they are, not by their names, so that no link leads
/// around that. Only regular files count: to read from a terminal or a device and to write to it is no contradiction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    files: HashSet<Identity>,
}

/// What a file is, whatever its name: device and inode.
#[cfg(unix)]
type Identity = (u64, u64);
/// What a file is, whatever its name: serial number of the volume and index of the file.
#[cfg(windows)]
type Identity = (u64, u64);
/// The path behind all links; hard links are not told apart.
#[cfg(not(any(unix, windows)))]
type Identity = std::path::PathBuf;

impl Inputs {
    /// Nothing yet.
    pub fn new() -> Inputs {
        Inputs::default()
    }

    /// These files and directories; see [`Inputs::add`].
    pub fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Inputs {
        let mut inputs = Inputs::new();
        paths.into_iter().for_each(|path| inputs.add(path.as_ref()));
        inputs
    }

    /// One more file that is read; of a directory all files in it, but for `*.gguf` and `*.quipu`, which lie beside a
    /// checkpoint when it was converted before. What is not there can't be read, so that it is ignored.
    pub fn add(&mut self, path: &Path) {
        if path.is_dir() {
            self.add_directory(path, DEPTH, &mut MOST.clone());
        } else if let Ok(meta) = std::fs::metadata(path) {
            self.files.extend(identity(path, &meta));
        }
    }

    /// What stdin is, if that is a file.
    pub fn add_stdin(&mut self) {
        #[cfg(unix)]
        {
            use std::os::fd::AsFd;
            if let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() {
                self.files.extend(File::from(stdin).metadata().ok().and_then(|meta| identity(Path::new(""), &meta)));
            }
        }
        #[cfg(windows)]
        self.files.extend(identity_of(&winapi_util::HandleRef::stdin()));
    }

    /// Everything that `other` has.
    pub fn extend(&mut self, other: &Inputs) {
        self.files.extend(other.files.iter().cloned());
    }

    fn add_directory(&mut self, dir: &Path, depth: usize, left: &mut usize) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Some(less) = left.checked_sub(1) else { return };
            *left = less;
            let path = entry.path();
            // What the links lead to.
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_dir() && depth > 0 => self.add_directory(&path, depth - 1, left),
                Ok(meta) if !path.extension().is_some_and(|e| e == "gguf" || e == "quipu") => {
                    self.files.extend(identity(&path, &meta));
                }
                _ => {}
            }
        }
    }

    /// Whether the file at `path`, whose metadata behind all links are `meta`, is one of these.
    pub(super) fn contain(&self, path: &Path, meta: &Metadata) -> bool {
        identity(path, meta).is_some_and(|identity| self.files.contains(&identity))
    }

    /// Whether stdout or stderr leads into one of these files (`quipu … >> FILE`); then its name.
    pub fn stream_into(&self) -> Option<&'static str> {
        #[cfg(unix)]
        {
            use std::os::fd::AsFd;
            let (stdout, stderr) = (io::stdout(), io::stderr());
            let streams = [("stdout", stdout.as_fd()), ("stderr", stderr.as_fd())];
            let leads_here = |stream: std::os::fd::BorrowedFd<'_>| {
                let meta = stream.try_clone_to_owned().and_then(|file| File::from(file).metadata());
                meta.is_ok_and(|meta| self.contain(Path::new(""), &meta))
            };
            streams.into_iter().find(|(_, stream)| leads_here(*stream)).map(|(name, _)| name)
        }
        #[cfg(windows)]
        {
            use winapi_util::HandleRef;
            let streams = [("stdout", HandleRef::stdout()), ("stderr", HandleRef::stderr())];
            let leads_here = |stream: &HandleRef| identity_of(stream).is_some_and(|file| self.files.contains(&file));
            streams.into_iter().find(|(_, stream)| leads_here(stream)).map(|(name, _)| name)
        }
        #[cfg(not(any(unix, windows)))]
        None
    }
}

#[cfg(unix)]
fn identity(_: &Path, meta: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    meta.is_file().then(|| (meta.dev(), meta.ino()))
}

#[cfg(windows)]
fn identity(path: &Path, meta: &Metadata) -> Option<Identity> {
    if meta.is_file() { identity_of(&winapi_util::HandleRef::from_file(&File::open(path).ok()?)) } else { None }
}

/// What is open there, if it is a file.
#[cfg(windows)]
fn identity_of(open: &winapi_util::HandleRef) -> Option<Identity> {
    use winapi_util::{HandleRef, file};
    let again = || HandleRef::from_file(open.as_file());
    if !file::typ(again()).is_ok_and(|ty| ty.is_disk()) {
        return None;
    }
    file::information(again()).ok().map(|file| (file.volume_serial_number(), file.file_index()))
}

#[cfg(not(any(unix, windows)))]
fn identity(path: &Path, meta: &Metadata) -> Option<Identity> {
    if meta.is_file() { path.canonicalize().ok() } else { None }
}
