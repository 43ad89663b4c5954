//! Windows' console: what it says to a program, and what it shows.

use std::sync::OnceLock;

use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, SetConsoleCtrlHandler};
use windows_sys::core::BOOL;

/// The signals whose numbers stand for what the console says.
const HANG_UP: i32 = 1;
const CTRL_C: i32 = 2;
const QUIT: i32 = 3;
const TERMINATE: i32 = 15;

static HEARD: OnceLock<fn(i32)> = OnceLock::new();

/// Calls `heard` after Ctrl-C, Ctrl-Break, a closed window, and when the session or the system ends, with the number of
/// the signal that comes of that elsewhere.
///
/// # Errors
/// What the system says.
pub fn hear(heard: fn(i32)) -> std::io::Result<()> {
    HEARD.get_or_init(|| heard);
    // SAFETY: `handle` is a function of the program, and stays.
    match unsafe { SetConsoleCtrlHandler(Some(handle), 1) } {
        0 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Called by the system, each time in a thread of its own.
extern "system" fn handle(event: u32) -> BOOL {
    let signal = match event {
        CTRL_C_EVENT => CTRL_C,
        CTRL_BREAK_EVENT => QUIT,
        CTRL_CLOSE_EVENT => HANG_UP,
        _ => TERMINATE,
    };
    let Some(heard) = HEARD.get() else { return 0 };
    heard(signal);
    // The system ends the process when this returns after these two. It gives it five seconds to end by itself.
    while matches!(signal, HANG_UP | TERMINATE) {
        std::thread::park();
    }
    1
}

/// Lets the console obey what moves its cursor, as others do by themselves. Whether it can does not matter: progress is
/// not so neat then.
pub fn obey_sequences() {
    if let Ok(mut console) = winapi_util::console::Console::stderr() {
        let _ = console.set_virtual_terminal_processing(true);
    }
}
