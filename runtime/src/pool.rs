//! The worker pool of the forward pass.
//!
//! A token is hundreds of small parallel steps. Workers wait for the next one spinning, so that a step costs well under
//! a microsecond; after some tens of microseconds without work they park. The caller is worker 0. Work is cut into
//! numbered chunks; each worker has a contiguous share of them, the same for every token, and helps the others when it
//! is done. A step ends when all chunks are done, not when all workers have come: one that the system does not let run
//! holds nobody up.
//!
//! Only the order of execution depends on threads: every chunk computes its own part of the output.
//!
//! On a machine with fast and slow cores the workers keep to the fast ones ([`Cores::home`]). They share them as a set,
//! so that the system still spreads the work; a later, smaller set that the system or the user imposes on the process
//! takes precedence, and a system that refuses leaves the workers where they are. The caller's thread is not ours to
//! bind: kept busy, it is moved to a fast core by the scheduler, and until then the others do its share.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use quipu_kernels::{Isa, MatMut};

use crate::host::cores::Cores;
use crate::host::threads;

/// In [`Shared::state`]: the step may be joined.
const OPEN: u64 = 1 << 31;
/// In [`Shared::state`]: how many workers are in the step.
const WORKERS: u64 = OPEN - 1;

/// A step: what every worker calls with its number.
type Step<'a> = dyn Fn(usize) + Sync + 'a;

/// One cache line each, so that workers do not slow each other down.
#[repr(align(128))]
#[derive(Default)]
struct Line<T>(T);

struct Worker {
    parked: Line<AtomicBool>,
    thread: std::sync::OnceLock<Thread>,
}

struct Shared {
    /// The number of the step (upper half), whether it may still be joined ([`OPEN`]), and how many workers are in it.
    state: Line<AtomicU64>,
    /// Where the caller keeps its reference to the step; valid for workers that have joined.
    step: AtomicPtr<&'static Step<'static>>,
    /// Microseconds that a worker spins for the next step before it parks.
    spin: AtomicU64,
    quit: AtomicBool,
    panicked: AtomicBool,
    workers: Vec<Worker>,
}

/// A fixed set of threads that work in lock-step.
pub struct Pool {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// For each worker the next chunk of its share.
    cursors: Vec<Line<AtomicUsize>>,
}

impl Pool {
    /// A pool of `threads` workers, the caller among them, on the fast ones of `cores` if those are enough for them.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn new(threads: usize, cores: &Cores) -> std::io::Result<Pool> {
        Pool::on(threads, cores.home(threads))
    }

    /// A pool whose workers, but for the caller, keep to these CPUs.
    fn on(threads: usize, cpus: Option<Vec<usize>>) -> std::io::Result<Pool> {
        let others = threads.max(1) - 1;
        let worker = || Worker { parked: Line::default(), thread: std::sync::OnceLock::new() };
        let shared = Arc::new(Shared {
            state: Line::default(),
            step: AtomicPtr::new(std::ptr::null_mut()),
            spin: AtomicU64::new(Isa::best().tuning().spin_us.into()),
            quit: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            workers: (0..others).map(|_| worker()).collect(),
        });
        let mut pool = Pool { shared, handles: Vec::new(), cursors: (0..=others).map(|_| Line::default()).collect() };
        for index in 1..=others {
            let (shared, cpus) = (pool.shared.clone(), cpus.clone());
            let run = move || {
                threads::prefer(cpus.as_deref());
                work(&shared, index);
            };
            pool.handles.push(threads::builder(&format!("quipu-{index}"))?.spawn(run)?);
        }
        Ok(pool)
    }

    /// The number of workers.
    pub fn threads(&self) -> usize {
        self.cursors.len()
    }

    /// Sets how long a worker spins for the next step before it parks.
    pub fn set_spin(&self, spin: Duration) {
        self.shared.spin.store(spin.as_micros().try_into().unwrap_or(u64::MAX), Relaxed);
    }

    /// Calls `step` here and in every worker that comes in time; returns when all that came are done.
    fn run(&self, step: &Step<'_>) {
        let shared = &*self.shared;
        if shared.workers.is_empty() {
            return step(0);
        }
        let mut step_ref: &Step<'_> = step;
        // Only the lifetime changes. A worker uses the pointer between joining and leaving, and this function does not
        // return before the step is closed and all have left, not even when the step panics here.
        shared.step.store((&raw mut step_ref).cast(), Relaxed);
        let number = (shared.state.0.load(Relaxed) >> 32) + 1;
        // SeqCst with the worker's `parked`: either it sees the new step, or we see that it parked.
        shared.state.0.store(number << 32 | OPEN, SeqCst);
        for worker in &shared.workers {
            if worker.parked.0.load(SeqCst)
                && let Some(thread) = worker.thread.get()
            {
                thread.unpark();
            }
        }
        let mine = catch_unwind(AssertUnwindSafe(|| step(0)));
        shared.state.0.fetch_and(!OPEN, AcqRel);
        let mut since = None;
        while shared.state.0.load(Acquire) & WORKERS > 0 {
            shared.spin(&mut since, std::thread::yield_now);
        }
        // Before this thread's own panic goes on, or the next step would be blamed for a worker's.
        let others_panicked = shared.panicked.swap(false, Relaxed);
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        assert!(!others_panicked, "a worker of the pool panicked");
    }

    /// Calls `f(local, chunk)` for every chunk in `0..chunks`, each once; `local` is the calling worker's own.
    ///
    /// # Panics
    /// When `locals` are not one per thread, or `f` panics.
    pub fn for_each<L: Send>(&mut self, locals: &mut [L], chunks: usize, f: impl Fn(&mut L, usize) + Sync) {
        let threads = self.threads();
        assert_eq!(locals.len(), threads, "one local per thread");
        let share = |worker: usize| worker * chunks / threads..(worker + 1) * chunks / threads;
        for (worker, cursor) in self.cursors.iter().enumerate() {
            cursor.0.store(share(worker).start, Relaxed);
        }
        let locals = Shares::new(locals);
        self.run(&|worker| {
            // SAFETY: each worker takes its own local and no other.
            let local = unsafe { locals.get(worker) };
            for victim in (worker..threads).chain(0..worker) {
                let end = share(victim).end;
                // Look before adding, so that a cursor can't be counted far past its end.
                while self.cursors[victim].0.load(Relaxed) < end {
                    let chunk = self.cursors[victim].0.fetch_add(1, Relaxed);
                    if chunk < end {
                        f(local, chunk);
                    }
                }
            }
        });
    }

    /// Calls `f(local, index, item)` for every item.
    pub fn for_items<L: Send, T: Send>(
        &mut self,
        locals: &mut [L],
        items: &mut [T],
        f: impl Fn(&mut L, usize, &mut T) + Sync,
    ) {
        let n = items.len();
        let items = Shares::new(items);
        self.for_each(locals, n, |local, i| {
            // SAFETY: every chunk number is given out once.
            f(local, i, unsafe { items.get(i) });
        });
    }

    /// Cuts `out` at the rows `bounds` and every `width` columns and calls `f(local, rows, columns, tile)` for every
    /// tile.
    ///
    /// # Panics
    /// When `bounds` do not rise from row to row inside `out`.
    pub fn for_tiles<L: Send>(
        &mut self,
        locals: &mut [L],
        out: &mut MatMut<'_>,
        bounds: &[usize],
        width: usize,
        f: impl Fn(&mut L, Range<usize>, Range<usize>, &mut MatMut<'_>) + Sync,
    ) {
        assert!(bounds.is_sorted() && width > 0);
        let across = out.cols().div_ceil(width);
        let down = bounds.len().saturating_sub(1);
        let out = &*out;
        self.for_each(locals, across * down, |local, chunk| {
            // Neighbouring chunks have the same columns: the same weights, while they are in the cache.
            let rows = bounds[chunk % down]..bounds[chunk % down + 1];
            let start = chunk / down * width;
            let cols = start..(start + width).min(out.cols());
            // SAFETY: every chunk number is given out once, and different chunks are different tiles.
            let mut tile = unsafe { out.tile(rows.clone(), cols.clone()) };
            f(local, rows, cols, &mut tile);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, SeqCst);
        for handle in &self.handles {
            handle.thread().unpark();
        }
        for handle in self.handles.drain(..) {
            // A worker's panic was reported by `run`.
            let _ = handle.join();
        }
    }
}

/// A slice whose elements are given out by number, each to one worker at a time.
struct Shares<T> {
    at: *mut T,
    len: usize,
}
// SAFETY: the elements may move between threads (`T: Send`), and `get` asks the caller to keep them apart.
unsafe impl<T: Send> Sync for Shares<T> {}

impl<T> Shares<T> {
    fn new(slice: &mut [T]) -> Shares<T> {
        Shares { at: slice.as_mut_ptr(), len: slice.len() }
    }

    /// # Safety
    /// No two uses of the same element may overlap, and the slice must still be borrowed.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, i: usize) -> &mut T {
        assert!(i < self.len);
        // SAFETY: in bounds, as just asserted; exclusive by this function's contract.
        unsafe { &mut *self.at.add(i) }
    }
}

impl Shared {
    /// Waits a moment; calls `tired` once the time to spin is over.
    fn spin(&self, since: &mut Option<Instant>, tired: impl FnOnce()) {
        for _ in 0..64 {
            std::hint::spin_loop();
        }
        if since.get_or_insert_with(Instant::now).elapsed().as_micros() > self.spin.load(Relaxed).into() {
            tired();
        }
    }
}

/// A worker's life.
fn work(shared: &Shared, index: usize) {
    let me = &shared.workers[index - 1];
    let _ = me.thread.set(std::thread::current());
    let mut seen = 0;
    while !shared.quit.load(SeqCst) {
        let mut since = None;
        while shared.state.0.load(Acquire) >> 32 == seen && !shared.quit.load(Relaxed) {
            shared.spin(&mut since, || {
                me.parked.0.store(true, SeqCst);
                if shared.state.0.load(SeqCst) >> 32 == seen && !shared.quit.load(SeqCst) {
                    std::thread::park();
                }
                me.parked.0.store(false, SeqCst);
            });
        }
        let state = shared.state.0.load(Acquire);
        if state & OPEN == 0 {
            seen = state >> 32;
            continue;
        }
        // Fails when another worker joined or left meanwhile, or the step closed: look again.
        if shared.state.0.compare_exchange_weak(state, state + 1, AcqRel, Relaxed).is_err() {
            continue;
        }
        seen = state >> 32;
        // SAFETY: the step was published before its number, and as long as this worker counts among those that have
        // joined, `Pool::run` keeps alive what the pointer points to.
        let step: &Step<'_> = unsafe { *shared.step.load(Relaxed) };
        if catch_unwind(AssertUnwindSafe(|| step(index))).is_err() {
            shared.panicked.store(true, Relaxed);
        }
        shared.state.0.fetch_sub(1, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_done_once() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads, &Cores::here()).unwrap();
            for chunks in [0, 1, 2, 7, 1000] {
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                let mut locals = vec![0usize; threads];
                pool.for_each(&mut locals, chunks, |local, i| {
                    *local += 1;
                    counts[i].fetch_add(1, Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Relaxed) == 1));
                assert_eq!(locals.iter().sum::<usize>(), chunks);
            }
        }
    }

    #[test]
    fn tiles_cover_the_matrix() {
        let mut pool = Pool::new(3, &Cores::here()).unwrap();
        let mut data = vec![0.0; 7 * 50];
        let mut out = MatMut::new(&mut data, 7, 50, 50);
        pool.for_tiles(&mut [(); 3], &mut out, &[0, 2, 2, 7], 16, |(), rows, cols, tile| {
            assert_eq!((tile.rows(), tile.cols()), (rows.len(), cols.len()));
            for r in 0..tile.rows() {
                for (i, x) in tile.row(r).iter_mut().enumerate() {
                    *x += ((rows.start + r) * 50 + cols.start + i) as f32;
                }
            }
        });
        assert!(data.iter().enumerate().all(|(i, &x)| x == i as f32));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2, &Cores::here()).unwrap();
        for panicking in 0..2 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.for_each(&mut [0, 1], 2, |&mut local, _| assert!(local != panicking, "on purpose"));
                // Both chunks may have gone to the other worker; then there was nothing to panic about.
            }));
            let _ = result;
            let mut locals = [0; 2];
            pool.for_each(&mut locals, 10, |local, _| *local += 1);
            assert_eq!(locals.iter().sum::<i32>(), 10);
        }
    }

    #[test]
    fn a_step_in_which_everyone_panics_leaves_nothing_behind() {
        let mut pool = Pool::new(2, &Cores::here()).unwrap();
        let both = std::sync::Barrier::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| {
            // Neither goes on before the other has a chunk, too.
            pool.for_each(&mut [(); 2], 2, |(), _| {
                both.wait();
                panic!("on purpose");
            });
        }));
        assert!(result.is_err());
        let mut locals = [0; 2];
        pool.for_each(&mut locals, 10, |local, _| *local += 1);
        assert_eq!(locals.iter().sum::<i32>(), 10);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn workers_keep_to_their_cpus_and_the_caller_stays_free() {
        let allowed = || Cores::here().allowed;
        let before = allowed();
        let Some(&last) = before.last().filter(|_| before.len() > 1) else {
            return eprintln!("SKIPPED: one CPU only, nothing to keep to");
        };
        let mut pool = Pool::on(3, Some(vec![last])).unwrap();
        let caller = std::thread::current().id();
        let seen = std::sync::Mutex::new(Vec::new());
        // Until a worker has come, which shares its CPU with whoever else is there.
        while !seen.lock().unwrap().iter().any(|&(thread, _)| thread != caller) {
            pool.for_each(&mut [(); 3], 3, |(), _| seen.lock().unwrap().push((std::thread::current().id(), allowed())));
        }
        for (thread, cpus) in seen.into_inner().unwrap() {
            assert_eq!(cpus, if thread == caller { before.clone() } else { vec![last] });
        }
    }

    #[test]
    fn parked_workers_wake_up() {
        let mut pool = Pool::new(2, &Cores::here()).unwrap();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(5));
            let mut locals = [0; 2];
            pool.for_each(&mut locals, 100, |local, _| *local += 1);
            assert_eq!(locals.iter().sum::<i32>(), 100);
        }
    }
}
