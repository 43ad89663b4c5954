//! A file that appears under its name only when it is complete.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::error::OutputError;
use super::inputs::Inputs;
use super::leftover;
use super::target::{Stream, Target};
use super::unfinished::{self, Known};

/// The bytes to be written are mapped from a file, and the system could not read them: EFAULT, on every Unix.
const BAD_ADDRESS: i32 = 14;

/// Another program has a file open, on Windows.
const ACCESS_DENIED: i32 = 5;
const SHARING_VIOLATION: i32 = 32;

/// An output file under construction: a temporary file in the target's directory, renamed over the target by
/// [`OutputFile::finish`]. Dropped before that, it leaves no trace, and whatever had the target's name still has it.
///
/// A target that is no regular file (a device, a pipe, a descriptor such as `/dev/stdout`) is written to as it is.
/// Links are followed and stay links; a file that is replaced hands on its permissions, and one that may not be written
/// to is not replaced.
#[derive(Debug)]
pub struct OutputFile {
    /// As it was given, for messages.
    path: PathBuf,
    to: To,
}

#[derive(Debug)]
enum To {
    Temporary {
        file: NamedTempFile<File>,
        /// The target, behind any links.
        target: PathBuf,
        known: Known,
    },
    Stream(File),
}

/// Whether an output called `path` could be made now; what [`OutputFile::create`] says, before the work.
///
/// # Errors
/// See [`OutputError`].
pub fn check(path: &Path, inputs: &Inputs) -> Result<(), OutputError> {
    match place(path, inputs)? {
        // To open a pipe and to close it again would be its end.
        Place::Stream(_) => Ok(()),
        Place::File(target, replaced) => temporary(path, &target, replaced.as_ref()).map(drop),
    }
}

/// Whether `path` names a pipe, a device or a descriptor, which is written to as it is.
pub fn is_stream(path: &Path) -> bool {
    matches!(Target::of(path), Ok(Target::Stream(_)))
}

/// Where an output goes.
enum Place {
    Stream(Stream),
    /// A file, and the metadata of the one that it replaces.
    File(PathBuf, Option<Metadata>),
}

/// Where the output `path` goes: the one place where it is decided that an output is no input.
fn place(path: &Path, inputs: &Inputs) -> Result<Place, OutputError> {
    let fail = |source| OutputError::Create { path: path.to_owned(), source };
    let same = || OutputError::SameAsInput { path: path.to_owned() };
    match Target::of(path).map_err(fail)? {
        Target::Directory => Err(OutputError::IsDirectory { path: path.to_owned() }),
        Target::Stream(stream) => match stream.metadata() {
            Ok(meta) if inputs.contain(stream.path(), &meta) => Err(same()),
            _ => Ok(Place::Stream(stream)),
        },
        Target::File(at, meta) if inputs.contain(&at, &meta) => Err(same()),
        Target::File(at, meta) => {
            // What may not be written to is not replaced either, though the system would let us.
            File::options().append(true).open(&at).map_err(fail)?;
            Ok(Place::File(at, Some(meta)))
        }
        Target::New(at) => Ok(Place::File(at, None)),
    }
}

impl OutputFile {
    /// Starts an output that will be called `path`, which must be none of `inputs`.
    ///
    /// # Errors
    /// See [`OutputError`].
    pub fn create(path: &Path, inputs: &Inputs) -> Result<OutputFile, OutputError> {
        let to = match place(path, inputs)? {
            Place::Stream(stream) => {
                let file = stream.open();
                To::Stream(file.map_err(|source| OutputError::Create { path: path.to_owned(), source })?)
            }
            Place::File(target, replaced) => {
                let (file, known) = temporary(path, &target, replaced.as_ref())?;
                To::Temporary { file, target, known }
            }
        };
        Ok(OutputFile { path: path.to_owned(), to })
    }

    /// Where the bytes are until the file gets its name; `None` if they are gone into a pipe or a device.
    pub fn unplaced(&self) -> Option<&Path> {
        match &self.to {
            To::Temporary { file, .. } => Some(file.path()),
            To::Stream(_) => None,
        }
    }

    /// Lets whoever may read the file start it as a program, too, where the system asks.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_executable(&self) -> Result<(), OutputError> {
        #[cfg(unix)]
        if let To::Temporary { file, .. } = &self.to {
            use std::os::unix::fs::PermissionsExt;
            let file = file.as_file();
            let readable = file.metadata().map(|meta| meta.permissions().mode() & 0o444);
            let mode = |readable| PermissionsExt::from_mode(0o200 | readable | readable >> 2);
            let done = readable.and_then(|readable| file.set_permissions(mode(readable)));
            return done.map_err(|source| OutputError::Write { path: self.path.clone(), source });
        }
        Ok(())
    }

    /// Waits until the bytes are on the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> Result<(), OutputError> {
        let To::Temporary { file, .. } = &self.to else { return Ok(()) };
        file.as_file().sync_all().map_err(|source| OutputError::Write { path: self.path.clone(), source })
    }

    /// Waits until the bytes are on the disk, then gives the file its name.
    pub fn finish(self) -> Result<(), OutputError> {
        self.sync()?;
        let OutputFile { path, to } = self;
        let To::Temporary { file, target, known } = to else { return Ok(()) };
        replace(file, &target).map_err(|source| OutputError::Place { path, source })?;
        drop(known);
        // The new name itself is on the disk once the directory is. Not every system can do this; the file is complete
        // either way.
        if let Ok(dir) = File::open(directory(&target)) {
            let _ = dir.sync_all();
        }
        Ok(())
    }
}

/// An error of this writer carries an [`OutputError::Write`], which names the file.
impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.to {
            To::Temporary { file, .. } => file.as_file_mut().write(bytes),
            To::Stream(file) => file.write(bytes),
        };
        written.map_err(|source| {
            let path = self.path.clone();
            match (source.kind(), source.raw_os_error()) {
                // `write_all` has to see it as it is, to try again.
                (io::ErrorKind::Interrupted, _) => source,
                (kind, Some(BAD_ADDRESS)) if cfg!(unix) => io::Error::new(kind, OutputError::InputLost { path }),
                (kind, _) => io::Error::new(kind, OutputError::Write { path, source }),
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A temporary file beside `target`, which `path` leads to, with the permissions of the file that it replaces.
fn temporary(
    path: &Path,
    target: &Path,
    replaced: Option<&Metadata>,
) -> Result<(NamedTempFile<File>, Known), OutputError> {
    let dir = directory(target);
    if !dir.is_dir() {
        return Err(OutputError::NoDirectory { path: path.to_owned(), dir: shown_directory(path, &dir) });
    }
    temporary_in(&dir, target, replaced).map_err(|source| OutputError::Create { path: path.to_owned(), source })
}

fn temporary_in(dir: &Path, target: &Path, replaced: Option<&Metadata>) -> io::Result<(NamedTempFile<File>, Known)> {
    let prefix = leftover::prefix(target);
    leftover::remove(dir, &prefix);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(leftover::SUFFIX);
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    {
        // Readable by whom the umask allows, like any file that a program writes; what replaces another is its owner's
        // alone until it has the other's permissions.
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(if replaced.is_some() { 0o600 } else { 0o666 });
    }
    let mut known = None;
    let making = unfinished::making();
    let file = builder.make_in(dir, |path| {
        known = None;
        known = Some(unfinished::know(path));
        options.open(path)
    });
    drop(making);
    let (file, Some(known)) = (file?, known) else { return Err(io::Error::other("no name for a temporary file")) };
    leftover::hold(file.as_file());
    if let Some(replaced) = replaced {
        take_permissions(file.as_file(), replaced)?;
    }
    Ok((file, known))
}

/// Gives the temporary file the name `target`, in place of what has it; or removes it.
///
/// By the standard library, whose way of it takes long paths on Windows and replaces there what others have open for
/// reading. Not all of them let it be replaced: one that only looks at new files, as virus scanners do, is waited for.
fn replace(file: NamedTempFile<File>, target: &Path) -> io::Result<()> {
    const TRIES: u32 = if cfg!(windows) { 8 } else { 1 };
    // Open as long as it is renamed, so that its lock holds.
    let (_file, mut temporary) = file.into_parts();
    let mut tries = 1..=TRIES;
    loop {
        let tried = tries.next();
        match (std::fs::rename(&temporary, target), tried) {
            (Ok(()), _) => break,
            (Err(error), Some(tried))
                if tried < TRIES && matches!(error.raw_os_error(), Some(ACCESS_DENIED | SHARING_VIOLATION)) =>
            {
                std::thread::sleep(std::time::Duration::from_millis(1 << (tried + 1)));
            }
            (Err(error), _) => return Err(error),
        }
    }
    temporary.disable_cleanup(true);
    Ok(())
}

/// Gives `file` the owner, where this process may, and the permissions of another.
#[cfg(unix)]
fn take_permissions(file: &File, other: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (other.uid(), other.gid()) {
        let _ = fchown(file, Some(other.uid()), Some(other.gid()));
    }
    file.set_permissions(std::fs::Permissions::from_mode(other.mode() & 0o777))
}

#[cfg(not(unix))]
fn take_permissions(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// The directory of an output as its user wrote it, unless a link led elsewhere.
fn shown_directory(path: &Path, dir: &Path) -> PathBuf {
    let given = directory(path);
    if std::path::absolute(&given).is_ok_and(|absolute| absolute == dir) { given } else { dir.to_owned() }
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}
