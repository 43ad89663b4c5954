//! One file: what came of it before is kept, and nobody else fetches it meanwhile.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::again::{Failed, Tries, Watch};
use super::client::{Answer, Ask, Client, NoAnswer};
use super::error::PullError;
use super::event::Event;
use crate::digest::{Digest, Hasher};

/// A file to be fetched.
pub(super) struct Blob<'a> {
    /// What it is called when somebody is told of it.
    pub name: &'a str,
    pub ask: Ask<'a>,
    pub bytes: u64,
    pub digest: Digest,
    /// What it is called at the end.
    pub path: PathBuf,
    /// What it is called until then.
    pub incomplete: PathBuf,
    /// What is locked meanwhile, as the programs that share the store do; without one, the incomplete file.
    pub lock: Option<PathBuf>,
}

/// The file as far as it is there.
struct Part {
    file: File,
    hasher: Hasher,
    done: u64,
}

impl Blob<'_> {
    /// Fetches it, if it is not there. What is there under its name is believed if it has the size.
    ///
    /// # Errors
    /// Those of the line, the disk and the server; what came is kept unless it is something else.
    pub fn fetch(
        &self,
        client: &Client,
        status: &dyn Fn(u16) -> PullError,
        watch: &mut Watch<'_>,
    ) -> Result<(), PullError> {
        let Some((_lock, file)) = self.lock(watch)? else { return Ok(()) };
        let mut part = self.part(file, watch)?;
        let resumed = part.done > 0;
        let filled = self.fill(&mut part, client, status, watch);
        if filled.is_err() && part.done == 0 {
            let _ = std::fs::remove_file(&self.incomplete);
        }
        filled?;
        if !part.hasher.clone().is(&self.digest) {
            // What was there before may be to blame: once more, all of it.
            self.empty(&mut part)?;
            if resumed {
                self.fill(&mut part, client, status, watch)?;
            }
            if !part.hasher.clone().is(&self.digest) {
                let _ = std::fs::remove_file(&self.incomplete);
                return Err(PullError::Digest { url: self.ask.url.into() });
            }
        }
        part.file.sync_all().map_err(self.cannot_write())?;
        std::fs::rename(&self.incomplete, &self.path).map_err(self.cannot_write())
    }

    fn cannot_write(&self) -> impl Fn(std::io::Error) -> PullError + '_ {
        |source| PullError::Write { path: self.incomplete.clone(), source }
    }

    fn is_there(&self) -> bool {
        self.path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == self.bytes)
    }

    /// Waits until nobody else fetches it. Returns the lock, which holds as long as it lives, and the incomplete file;
    /// `None` if the file is there.
    fn lock(&self, watch: &mut Watch<'_>) -> Result<Option<(Option<File>, File)>, PullError> {
        let mut told = false;
        loop {
            if self.is_there() {
                return Ok(None);
            }
            let open = |path: &Path| {
                let file = path
                    .parent()
                    .map_or(Ok(()), std::fs::create_dir_all)
                    .and_then(|()| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path));
                file.map_err(|source| PullError::Write { path: path.to_owned(), source })
            };
            let lock = self.lock.as_deref().map(open).transpose()?;
            let file = open(&self.incomplete)?;
            match lock.as_ref().unwrap_or(&file).try_lock() {
                // Whoever had it may have finished, and given the file its name.
                Ok(()) if self.is_there() => {
                    let _ = std::fs::remove_file(&self.incomplete);
                    return Ok(None);
                }
                Ok(()) if is_at(&file, &self.incomplete) => return Ok(Some((lock, file))),
                // A file system without locks.
                Err(TryLockError::Error(_)) => return Ok(Some((lock, file))),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        (watch.report)(Event::Waiting { file: self.name });
                    }
                    watch.check()?;
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        }
    }

    /// What came before.
    fn part(&self, file: File, watch: &mut Watch<'_>) -> Result<Part, PullError> {
        let mut part = Part { file, hasher: self.digest.hasher(self.bytes), done: 0 };
        let there = part.file.metadata().map_err(self.cannot_write())?.len();
        if there > self.bytes {
            self.empty(&mut part)?;
        } else if there > 0 {
            let mut report = |_| (watch.report)(self.progress(there));
            part.done = part.hasher.read(&part.file, &mut report).map_err(self.cannot_write())?;
        }
        Ok(part)
    }

    fn progress(&self, done: u64) -> Event<'_> {
        Event::Bytes { file: self.name, digest: self.digest.digits(), done, total: self.bytes }
    }

    fn empty(&self, part: &mut Part) -> Result<(), PullError> {
        let emptied = part.file.set_len(0).and_then(|()| part.file.seek(SeekFrom::Start(0)));
        emptied.map_err(self.cannot_write())?;
        part.hasher = self.digest.hasher(self.bytes);
        part.done = 0;
        Ok(())
    }

    /// Fetches what is missing.
    fn fill(
        &self,
        part: &mut Part,
        client: &Client,
        status: &dyn Fn(u16) -> PullError,
        watch: &mut Watch<'_>,
    ) -> Result<(), PullError> {
        let mut tries = Tries::default();
        (watch.report)(self.progress(part.done));
        while part.done < self.bytes {
            watch.check()?;
            let before = part.done;
            let failed = match client.get(Ask { from: part.done, ..self.ask }) {
                Ok(answer) => self.take(answer, part, status, watch)?,
                Err(NoAnswer::Never(error)) => return Err(error),
                Err(NoAnswer::Now(failed)) => failed,
            };
            if part.done > before {
                tries.reset();
            }
            if part.done < self.bytes {
                tries.again(self.ask.url, failed, watch)?;
            }
        }
        Ok(())
    }

    /// Takes what comes with an answer; why that is not all, if it is not.
    fn take(
        &self,
        answer: Answer,
        part: &mut Part,
        status: &dyn Fn(u16) -> PullError,
        watch: &mut Watch<'_>,
    ) -> Result<Failed, PullError> {
        match answer.status {
            // A server that knows no ranges begins anew.
            200 if part.done > 0 => self.empty(part)?,
            200 => {}
            206 if starts_at(&answer, part.done) => {}
            206 | 416 => {
                self.empty(part)?;
                return Ok(Failed { why: "the answer was about another part of the file".into(), after: None });
            }
            other => return Err(status(other)),
        }
        let (mut body, mut buffer) = (answer.body, vec![0; 256 << 10]);
        loop {
            watch.check()?;
            match body.read(&mut buffer) {
                Ok(0) => return Ok(Failed { why: "the line was cut".into(), after: None }),
                Ok(n) if part.done + n as u64 > self.bytes => {
                    self.empty(part)?;
                    return Err(PullError::Digest { url: self.ask.url.into() });
                }
                Ok(n) => {
                    part.file.write_all(&buffer[..n]).map_err(self.cannot_write())?;
                    part.hasher.update(&buffer[..n]);
                    part.done += n as u64;
                    (watch.report)(self.progress(part.done));
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Failed { why: format!("the line was cut: {error}"), after: None }),
            }
        }
    }
}

/// Whether the bytes of an answer begin where they should: `Content-Range: bytes 5-9/10`.
fn starts_at(answer: &Answer, start: u64) -> bool {
    let range = answer.headers.get("content-range").and_then(|value| value.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    first == Some(start)
}

/// Whether an open file is still what is at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let of = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        file.metadata().ok().map(of) == path.metadata().ok().map(of)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}
