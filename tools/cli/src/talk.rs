//! What a person wants to know besides the result, to stderr.
//!
//! Notes and progress are for someone who watches: they are silent when stderr is not a terminal, unless `--verbose`.
//! Warnings are silent only with `--quiet`, errors never. A failure to write to stderr is nobody's concern.
//!
//! Only a terminal is sent what moves its cursor. In a file or a pipe all is lines.

use std::io::{IsTerminal, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::visible::{visible, visible_message};

static NOTES: AtomicBool = AtomicBool::new(false);
static SILENT: AtomicBool = AtomicBool::new(false);
static VERBOSE: AtomicBool = AtomicBool::new(false);
static WARNINGS: AtomicBool = AtomicBool::new(true);
static TERMINAL: AtomicBool = AtomicBool::new(false);

/// Goes back to the beginning of the line and empties it.
const CLEAR: &str = "\r\x1b[K";

/// Decides once who may talk.
pub fn set_up(quiet: bool, verbose: bool) {
    let terminal = std::io::stderr().is_terminal();
    NOTES.store(verbose || (terminal && !quiet), Ordering::Relaxed);
    VERBOSE.store(verbose, Ordering::Relaxed);
    WARNINGS.store(!quiet, Ordering::Relaxed);
    TERMINAL.store(terminal, Ordering::Relaxed);
    #[cfg(windows)]
    crate::console::obey_sequences();
}

/// From now on nothing is said, not even errors: what is said would be written into a file that must not change.
pub fn fall_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

fn notes() -> bool {
    NOTES.load(Ordering::Relaxed)
}

fn is_terminal() -> bool {
    TERMINAL.load(Ordering::Relaxed)
}

fn say(text: &str) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    // In one piece: stderr has no buffer, and what ends the process (`fatal`) waits for no line to be whole.
    write(&format!("{text}\n"));
}

/// Where other programs' own messages go: to the person who asked for more of them.
pub fn stderr_of_others() -> Stdio {
    if VERBOSE.load(Ordering::Relaxed) { Stdio::inherit() } else { Stdio::null() }
}

/// A line for a person.
pub fn note(text: &str) {
    if notes() {
        say(&visible(text));
    }
}

/// How far work is: on a terminal in place of what the last call showed, elsewhere as a line of its own.
pub fn progress(text: &str) {
    if notes() {
        let (before, after) = if is_terminal() { (CLEAR, "") } else { ("", "\n") };
        write(&format!("{before}{}{after}", visible(text)));
    }
}

/// Takes away what [`progress`] shows on a terminal.
pub fn clear_progress() {
    if notes() && is_terminal() {
        write(CLEAR);
    }
}

/// Leaves what [`progress`] shows on a terminal, and goes to the next line.
pub fn keep_progress() {
    if notes() && is_terminal() {
        write("\n");
    }
}

fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Something that may not be as the user thinks.
pub fn warning(text: &str) {
    if WARNINGS.load(Ordering::Relaxed) {
        say(&format!("warning: {}", visible_message(text)));
    }
}

/// Why the program ends.
pub fn error(text: &str) {
    say(&format!("error: {text}"));
}

/// A bar over bytes for work that takes longer than a moment; hidden when nobody watches.
pub struct Bar {
    bar: ProgressBar,
    visible: bool,
    started: Instant,
}

impl Bar {
    /// A bar called `what`.
    pub fn new(what: &str) -> Bar {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {eta} {msg:24!}") {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_string());
        Bar { bar, visible: notes() && is_terminal(), started: Instant::now() }
    }

    /// `done` of `total` bytes; `now` is what is being done.
    pub fn update(&self, done: u64, total: u64, now: &str) {
        if !self.visible {
            return;
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(visible(now));
        if self.bar.is_hidden() && self.started.elapsed() > Duration::from_millis(400) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
