//! A file that appears under its name only when it is complete.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Why an output file could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The directory of the output is not there.
    #[error("{}: the directory {} does not exist", .path.display(), .dir.display())]
    NoDirectory {
        /// The output.
        path: PathBuf,
        /// Its directory.
        dir: PathBuf,
    },
    /// The output is a directory.
    #[error("{}: is a directory, expected the name of a file to write", .path.display())]
    IsDirectory {
        /// The output.
        path: PathBuf,
    },
    /// The output is the input.
    #[error("{}: output and input are the same file; choose another name", .path.display())]
    SameAsInput {
        /// The output.
        path: PathBuf,
    },
    /// The output could not be created.
    #[error("{}: cannot create: {source}", .path.display())]
    Create {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing stopped, on a full disk for example.
    #[error("{}: cannot write: {source}", .path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everything was written, but could not be put in its place.
    #[error("{}: cannot put the finished file in place: {source}", .path.display())]
    Place {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An output file under construction: a temporary file in the target's directory, renamed over the target by
/// [`OutputFile::finish`]. Dropped before that, it leaves no trace, and whatever had the target's name still has it.
///
/// A target that exists and is no regular file (a device, a pipe) is written to as it is.
#[derive(Debug)]
pub struct OutputFile {
    /// As it was given, for messages.
    path: PathBuf,
    to: To,
}

#[derive(Debug)]
enum To {
    Temporary {
        file: NamedTempFile,
        /// The target, behind any links.
        target: PathBuf,
    },
    Special(File),
}

impl OutputFile {
    /// Starts an output that will be called `path`.
    pub fn create(path: &Path) -> Result<OutputFile, OutputError> {
        let path = path.to_owned();
        let existing = std::fs::metadata(&path).ok();
        match &existing {
            Some(meta) if meta.is_dir() => return Err(OutputError::IsDirectory { path }),
            Some(meta) if !meta.is_file() => {
                return match File::options().write(true).open(&path) {
                    Ok(file) => Ok(OutputFile { path, to: To::Special(file) }),
                    Err(source) => Err(OutputError::Create { path, source }),
                };
            }
            _ => {}
        }
        // Through a link to an existing file: that file is replaced, not the link.
        let target = match existing {
            Some(_) => std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone()),
            None => path.clone(),
        };
        let Some(name) = target.file_name() else { return Err(OutputError::IsDirectory { path }) };
        let dir = directory(&target);
        if !dir.is_dir() {
            return Err(OutputError::NoDirectory { path, dir });
        }
        let prefix = format!(".{}.", name.to_string_lossy());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        {
            // Readable by whom the umask allows, like any file that a program writes; temporary files are the owner's
            // alone.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        match builder.tempfile_in(&dir) {
            Ok(file) => Ok(OutputFile { path, to: To::Temporary { file, target } }),
            Err(source) => Err(OutputError::Create { path, source }),
        }
    }

    /// [`OutputFile::create`], unless that would replace `input`, which is still being read.
    pub fn create_apart_from(path: &Path, input: &Path) -> Result<OutputFile, OutputError> {
        if same_file(path, input) {
            return Err(OutputError::SameAsInput { path: path.to_owned() });
        }
        Self::create(path)
    }

    /// Waits until the bytes are on the disk, then gives the file its name.
    pub fn finish(self) -> Result<(), OutputError> {
        let OutputFile { path, to } = self;
        let To::Temporary { file, target } = to else { return Ok(()) };
        if let Err(source) = file.as_file().sync_all() {
            return Err(OutputError::Write { path, source });
        }
        if let Err(e) = file.persist(&target) {
            return Err(OutputError::Place { path, source: e.error });
        }
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
            To::Special(file) => file.write(bytes),
        };
        written.map_err(|source| match source.kind() {
            // `write_all` has to see it as it is, to try again.
            io::ErrorKind::Interrupted => source,
            kind => io::Error::new(kind, OutputError::Write { path: self.path.clone(), source }),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// True when both paths lead to one existing regular file.
fn same_file(a: &Path, b: &Path) -> bool {
    let (Ok(meta_a), Ok(meta_b)) = (std::fs::metadata(a), std::fs::metadata(b)) else { return false };
    #[cfg(unix)]
    {
        // By inode, which sees through links of both kinds.
        use std::os::unix::fs::MetadataExt;
        meta_a.is_file() && (meta_a.dev(), meta_a.ino()) == (meta_b.dev(), meta_b.ino())
    }
    #[cfg(not(unix))]
    {
        meta_a.is_file() && meta_b.is_file() && std::fs::canonicalize(a).ok() == std::fs::canonicalize(b).ok()
    }
}
