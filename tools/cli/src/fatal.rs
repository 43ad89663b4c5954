//! What ends the process without asking, on a Unix: a mapped file that became shorter (SIGBUS), memory that is not
//! there (an abort, or a panic before it). Each becomes a sentence and exit code 1, and no temporary file stays.
//!
//! A handler may interrupt anything, so that it does next to nothing: it reads what lies in fixed places, unlinks,
//! writes a sentence, exits. It is the program's and no library's: a process belongs to whoever wrote its `main`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use quipu_formats::{mapped, output::unfinished};

/// The system's allocator, which remembers that it gave nothing: then an abort is the end of a failed allocation.
struct Remembering;

static REFUSED: AtomicBool = AtomicBool::new(false);

impl Remembering {
    fn remember(memory: *mut u8) -> *mut u8 {
        if memory.is_null() {
            REFUSED.store(true, Ordering::Relaxed);
        }
        memory
    }
}

// SAFETY: all is done by the system's allocator, with the arguments that it was called with.
unsafe impl GlobalAlloc for Remembering {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        Self::remember(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        Self::remember(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`.
        Self::remember(unsafe { System.realloc(memory, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Remembering = Remembering;

/// Whether whoever started this process had it ignore `signal`.
pub fn ignored(signal: c_int) -> bool {
    // SAFETY: all zeros is a `sigaction`, and the system only writes to it.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}

/// What SIGBUS did before: Rust's runtime has a handler that notices the end of a stack.
static BEFORE: std::sync::OnceLock<libc::sigaction> = std::sync::OnceLock::new();

/// Installs the handlers.
pub fn set_up() {
    if let Some(before) = install(libc::SIGBUS, lost) {
        let _ = BEFORE.set(before);
    }
    install(libc::SIGABRT, aborted);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A thread that gets no stack for its signals panics where no panic may pass. What Rust prints of that is a
        // backtrace, which takes memory; and the message that there is none waits for the lock of the backtrace: the
        // same thread's, so for ever.
        if memory_is_short() || is_of_a_signal_stack(panic) {
            fail(NO_MEMORY);
        }
        usual(panic);
    }));
}

/// Installs a handler; returns what was there.
fn install(signal: c_int, handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) -> Option<libc::sigaction> {
    // SAFETY: all zeros is a `sigaction`. The handlers below do only what a handler may.
    unsafe {
        let (mut new, mut old): (libc::sigaction, libc::sigaction) = (std::mem::zeroed(), std::mem::zeroed());
        new.sa_sigaction = handler as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        (libc::sigaction(signal, &new, &mut old) == 0).then_some(old)
    }
}

/// SIGBUS: something touched what is not there.
extern "C" fn lost(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the system hands in what is known of the signal.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(name) = mapped::file_at(address) {
        fail(&[
            &b"error: "[..].into(),
            &Part::Shared(name.as_c_string()),
            &b": became shorter while it was read, or its disk fails; the work could not be done\n"[..].into(),
        ]);
    }
    // Not ours: as before, and if that returns, what was touched is touched again.
    // SAFETY: as in `install`.
    unsafe {
        match BEFORE.get() {
            Some(before) => libc::sigaction(signal, before, null_mut()),
            None => 0,
        };
    }
}

/// SIGABRT: if it is for want of memory, it is an error as any other.
extern "C" fn aborted(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    if REFUSED.load(Ordering::Relaxed) || memory_is_short() {
        fail(NO_MEMORY);
    }
    // `abort` ends the process when this returns.
    remove_unfinished();
}

/// Whether this is the panic of a thread that got no stack for its signals. By now another thread may have given back
/// the memory that was short.
fn is_of_a_signal_stack(panic: &std::panic::PanicHookInfo<'_>) -> bool {
    panic.payload_as_str().is_some_and(|message| message.contains("alternative stack"))
}

/// Whether the system refuses a stack for a thread, and therefore Rust's runtime aborts.
fn memory_is_short() -> bool {
    const STACK: usize = 64 << 10;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: new memory, which nobody uses and which the end of the process gives back.
    unsafe { libc::mmap(null_mut(), STACK, access, kind, -1, 0) == libc::MAP_FAILED }
}

const NO_MEMORY: &[&Part<'_>] =
    &[&Part::Fixed(b"error: the system gives this process no more memory; the work could not be done\n")];

/// A piece of a sentence.
enum Part<'a> {
    Fixed(&'a [u8]),
    /// Up to the first zero; what a terminal would obey is left out.
    Shared(&'a [AtomicU8]),
}

impl<'a> From<&'a [u8]> for Part<'a> {
    fn from(text: &'a [u8]) -> Part<'a> {
        Part::Fixed(text)
    }
}

/// Says why, leaves no temporary file, and ends the process. Of several threads that fail at once the first one does.
fn fail(sentence: &[&Part<'_>]) -> ! {
    static FAILING: AtomicBool = AtomicBool::new(false);
    if FAILING.swap(true, Ordering::Relaxed) {
        loop {
            // SAFETY: waits, at most for the end of the process.
            unsafe { libc::pause() };
        }
    }
    remove_unfinished();
    let say = |bytes: &[u8]| {
        // SAFETY: the system only reads the bytes. If nobody can be told, there is nothing else to do.
        let _ = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    };
    for part in sentence {
        match part {
            Part::Fixed(text) => say(text),
            Part::Shared(text) => {
                let bytes = text.iter().map(|byte| byte.load(Ordering::Relaxed)).take_while(|byte| *byte != 0);
                bytes.filter(|byte| !byte.is_ascii_control()).for_each(|byte| say(&[byte]));
            }
        }
    }
    // SAFETY: ends the process here, without the destructors that an exit would run.
    unsafe { libc::_exit(1) }
}

fn remove_unfinished() {
    for path in unfinished::names() {
        // SAFETY: the bytes have a zero at their end, and an `AtomicU8` is a byte.
        unsafe { libc::unlink(path.as_c_string().as_ptr().cast()) };
    }
}
