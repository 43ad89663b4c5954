//! Pages on disk, so that a restart need not read again what was read before: `docs/file-format.md` has the bytes.
//!
//! One file holds one page, with the whole text that its keys and values depend on and the name of everything else that
//! they do; nothing is believed that is not exactly what is looked for, or whose checksum is wrong. A file appears
//! complete or not at all. What can't be read or written costs reading tokens again, and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::file::{Head, checksum, page_checksum};
use super::page::Page;
use super::saved::fill;
use super::sequence::PageSet;
use super::types::PAGE;
use crate::adapters::Adapters;
use crate::host::threads;

const EXTENSION: &str = "quipu-kv";
/// How long writing may go on when the store is closed.
const CLOSING: Duration = Duration::from_secs(5);
/// From this age on a temporary file is left over from a process that was killed.
const LEFT_OVER: Duration = Duration::from_secs(600);

/// Why pages can't be kept in a directory.
#[derive(Debug, thiserror::Error)]
#[error("{}: pages of the KV cache cannot be kept here: {error}", .directory.display())]
pub struct CacheDirError {
    /// The directory.
    pub directory: PathBuf,
    /// What the system says.
    #[source]
    pub error: io::Error,
}

/// The files, by the number in their names.
#[derive(Debug, Default)]
struct Index {
    files: HashMap<u64, (u64, u64)>,
    /// The numbers by when they were last used.
    order: BTreeMap<u64, u64>,
    bytes: u64,
    clock: u64,
}

impl Index {
    fn add(&mut self, name: u64, bytes: u64) {
        self.remove(name);
        self.clock += 1;
        self.files.insert(name, (bytes, self.clock));
        self.order.insert(self.clock, name);
        self.bytes += bytes;
    }

    fn remove(&mut self, name: u64) {
        if let Some((bytes, used)) = self.files.remove(&name) {
            self.order.remove(&used);
            self.bytes -= bytes;
        }
    }

    /// The one that was least recently used, if all together are too many.
    fn too_many(&self, limit: u64) -> Option<u64> {
        self.order.values().next().copied().filter(|_| self.bytes > limit)
    }
}

/// A page to be written, the last one of the first `len` tokens of `text`; unless it was given up meanwhile.
struct Job {
    name: u64,
    adapters: Adapters,
    text: Arc<[u32]>,
    len: usize,
    pages: Vec<Weak<Page>>,
}

/// What the writer and the reader share.
#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// What keys and values depend on besides the text and its adapters.
    identity: String,
    limit: u64,
    index: Mutex<Index>,
    /// Held by the writer while it holds a page, which can't be given up meanwhile.
    writing: Mutex<()>,
    /// When the store was closed.
    closed: OnceLock<Instant>,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: u64) -> PathBuf {
        self.directory.join(format!("{name:016x}.{EXTENSION}"))
    }

    /// What stands before the page at the end of `text`, which has this checksum.
    fn head(&self, adapters: &Adapters, text: &[u32], groups: usize, page_bytes: usize, sum: u64) -> Head {
        Head {
            identity: adapters.identity(&self.identity),
            state: Vec::new(),
            text: text.to_vec(),
            filled: text.len(),
            first: text.len() / PAGE - 1,
            groups,
            page_bytes,
            sums: vec![sum],
        }
    }

    fn write(&self, job: &Job, pages: PageSet) -> io::Result<()> {
        let parts: Vec<&[u8]> = pages.iter().map(|page| page.bytes()).collect();
        let (groups, data, sum) = (parts.len(), parts.concat(), page_checksum(parts));
        drop(pages);
        let head = self.head(&job.adapters, &job.text[..job.len], groups, data.len(), sum).to_bytes();
        let bytes = (head.len() + data.len()) as u64;
        if bytes > self.limit {
            return Ok(());
        }
        // It need not be on the disk: what a loss of power leaves has another checksum.
        let (path, temporary) = (self.path(job.name), self.temporary(job.name));
        File::create_new(&temporary)
            .and_then(|mut out| out.write_all(&head).and_then(|()| out.write_all(&data)))
            .and_then(|()| fs::rename(&temporary, &path))
            .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        let mut index = self.index();
        index.add(job.name, bytes);
        while let Some(name) = index.too_many(self.limit) {
            index.remove(name);
            let _ = fs::remove_file(self.path(name));
        }
        Ok(())
    }

    fn temporary(&self, name: u64) -> PathBuf {
        self.directory.join(format!(".{name:016x}.{}.{EXTENSION}-tmp", std::process::id()))
    }
}

fn work(shared: &Shared, jobs: &Receiver<Job>) {
    for job in jobs {
        if shared.closed.get().is_some_and(|closed| closed.elapsed() > CLOSING) {
            continue;
        }
        let _writing = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pages) = job.pages.iter().map(Weak::upgrade).collect::<Option<PageSet>>() {
            let _ = shared.write(&job, pages);
        }
    }
}

/// Pages in a directory.
pub(crate) struct Store {
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

/// The number in the name of a file of ours.
fn number(path: &Path) -> Option<u64> {
    let (stem, extension) = (path.file_stem()?.to_str()?, path.extension()?.to_str()?);
    let is_ours = extension == EXTENSION && stem.len() == 16 && !stem.starts_with('+');
    u64::from_str_radix(stem, 16).ok().filter(|_| is_ours)
}

/// Whether it is a temporary file of ours that nobody writes any more.
fn is_left_over(path: &Path, changed: SystemTime) -> bool {
    let is_ours = path.extension().is_some_and(|e| e.to_str() == Some(&format!("{EXTENSION}-tmp")));
    is_ours && changed.elapsed().is_ok_and(|age| age > LEFT_OVER)
}

impl Store {
    /// Keeps up to `limit` bytes of files in `directory`, which is made. `identity` names everything that keys and
    /// values depend on besides the text and its adapters.
    pub(crate) fn open(directory: &Path, identity: String, limit: u64) -> Result<Store, CacheDirError> {
        let failed = |error| CacheDirError { directory: directory.to_path_buf(), error };
        fs::create_dir_all(directory).map_err(failed)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let Ok((path, data)) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) else { continue };
            let changed = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if !data.is_file() {
                continue;
            }
            if let Some(name) = number(&path) {
                found.push((changed, name, data.len()));
            } else if is_left_over(&path, changed) {
                let _ = fs::remove_file(&path);
            }
        }
        found.sort_unstable();
        let mut index = Index::default();
        found.into_iter().for_each(|(_, name, bytes)| index.add(name, bytes));
        let shared = Shared {
            directory: directory.to_path_buf(),
            identity,
            limit,
            index: Mutex::new(index),
            writing: Mutex::new(()),
            closed: OnceLock::new(),
        };
        // A directory that nothing can be written to should be known now.
        let probe = shared.temporary(0);
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(failed)?;
        let shared = Arc::new(shared);
        let (jobs, inbox) = channel();
        let theirs = shared.clone();
        let writer = threads::builder("quipu-cache").and_then(|builder| builder.spawn(move || work(&theirs, &inbox)));
        Ok(Store { shared, jobs: Some(jobs), writer: Some(writer.map_err(failed)?) })
    }

    /// The number of the file for the last page of `text`.
    fn name(&self, adapters: &Adapters, text: &[u32]) -> u64 {
        let start = checksum(0, adapters.identity(&self.shared.identity).as_bytes());
        let mix = |h: u64, &token: &u32| {
            (h ^ u64::from(token)).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(27).wrapping_add(1)
        };
        text.iter().fold(start, mix)
    }

    /// Whether there is a file for the last page of `text`.
    pub(crate) fn has(&self, adapters: &Adapters, text: &[u32]) -> bool {
        self.shared.index().files.contains_key(&self.name(adapters, text))
    }

    /// Fills `pages`, new ones, with the last page of `text`. `false` when it can't be had.
    pub(crate) fn read(&self, adapters: &Adapters, text: &[u32], pages: &mut [Page]) -> bool {
        let name = self.name(adapters, text);
        let read = self.read_file(name, adapters, text, pages);
        if read.is_none() {
            // Whatever it is, it is of no use. Files of other makers and models stay where they are.
            self.shared.index().remove(name);
        }
        read.is_some()
    }

    fn read_file(&self, name: u64, adapters: &Adapters, text: &[u32], pages: &mut [Page]) -> Option<()> {
        let page_bytes = pages.iter().map(|page| page.bytes().len()).sum();
        let mut expected = self.shared.head(adapters, text, pages.len(), page_bytes, 0);
        let len = (expected.len() + page_bytes) as u64;
        let file = File::open(self.shared.path(name)).ok()?;
        let status = file.metadata().ok()?;
        if !status.is_file() || status.len() != len {
            return None;
        }
        let mut bytes = Vec::with_capacity(len as usize);
        (&file).take(len).read_to_end(&mut bytes).ok()?;
        let (head, data) = Head::parse(&bytes).ok()?;
        expected.sums.clone_from(&head.sums);
        if head != expected || !fill(pages, data, head.sums[0]) {
            return None;
        }
        let mut index = self.shared.index();
        if let Some(&(bytes, _)) = index.files.get(&name) {
            index.add(name, bytes);
        }
        drop(index);
        // So that a later process knows which ones are used.
        let _ =
            File::options().write(true).open(self.shared.path(name)).and_then(|f| f.set_modified(SystemTime::now()));
        Some(())
    }

    /// Writes the last page of the first `len` tokens of `text`, from a thread of its own.
    pub(crate) fn write(&self, adapters: &Adapters, text: &Arc<[u32]>, len: usize, pages: &PageSet) {
        let name = self.name(adapters, &text[..len]);
        let is_there = self.shared.index().files.contains_key(&name);
        if let Some(jobs) = self.jobs.as_ref().filter(|_| !is_there) {
            let pages = pages.iter().map(Arc::downgrade).collect();
            let _ = jobs.send(Job { name, adapters: adapters.clone(), text: text.clone(), len, pages });
        }
    }

    /// Waits until the writer does not hold the page that it holds now. Returns whether it held one.
    pub(crate) fn wait(&self) -> bool {
        match self.shared.writing.try_lock() {
            Err(TryLockError::WouldBlock) => {
                drop(self.shared.writing.lock());
                true
            }
            _ => false,
        }
    }
}

/// Writes what is left, for some seconds at most.
impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.shared.closed.set(Instant::now());
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
