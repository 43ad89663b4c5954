//! What a person wants to know besides the result, to stderr.
//!
//! Notes and progress are for someone who watches: they are silent when stderr is not a terminal, unless `--verbose`. Warnings are silent
//! only with `--quiet`, errors never. A failure to write to stderr is nobody's concern.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

static NOTES: AtomicBool = AtomicBool::new(false);
static WARNINGS: AtomicBool = AtomicBool::new(true);

/// Decides once who may talk.
pub fn set_up(quiet: bool, verbose: bool) {
    let terminal = std::io::stderr().is_terminal();
    NOTES.store(verbose || (terminal && !quiet), Ordering::Relaxed);
    WARNINGS.store(!quiet, Ordering::Relaxed);
}

fn notes() -> bool {
    NOTES.load(Ordering::Relaxed)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A line for a person.
pub fn note(text: &str) {
    if notes() {
        say(text);
    }
}

/// Text for a person, without a line end.
pub fn note_part(text: &str) {
    if notes() {
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

/// Something that may not be as the user thinks.
pub fn warning(text: &str) {
    if WARNINGS.load(Ordering::Relaxed) {
        say(&format!("warning: {text}"));
    }
}

/// Why the program ends.
pub fn error(text: &str) {
    say(&format!("error: {text}"));
}

/// A bar over `total` bytes, hidden when nobody watches.
pub fn byte_bar(what: &str, total: u64) -> ProgressBar {
    let visible = notes() && std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {eta} {msg:24!}") {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_string());
    bar
}
