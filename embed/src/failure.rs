//! From errors and panics to a status and a sentence, and texts across the border.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::types::Status;

/// A status and its sentence.
pub struct Failure(pub Status, pub String);

impl Failure {
    pub fn new(status: Status, error: impl Display) -> Failure {
        Failure(status, error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs `f`, remembers its error's sentence, and lets no panic through.
pub fn guarded(f: impl FnOnce() -> Result<(), Failure>) -> Status {
    // Whatever a panic leaves half-done is thrown away: `State` is reset by the next call, everything else was local.
    let result = catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().copied();
        let what = what.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
        Err(Failure(Status::Internal, format!("a fault of the library: {what}")))
    });
    let Err(Failure(status, sentence)) = result else { return Status::Ok };
    let sentence = c_string(sentence);
    // Fails while the thread ends; then there is nobody to ask.
    let _ = LAST_ERROR.try_with(|last| last.replace(sentence));
    status
}

/// A text for outside.
pub fn c_string(text: String) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// A text from outside.
///
/// # Safety
/// `text` is null or a C string that lives as long as the result.
pub unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::new(Status::Argument, format_args!("{name} is NULL")));
    }
    // SAFETY: not null, and otherwise by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| {
        let at = error.valid_up_to();
        Failure::new(Status::Argument, format_args!("{name} is no UTF-8 text: the first bad byte is number {at}"))
    })
}

impl Failure {
    /// A struct of a size that is no good.
    pub fn argument(sentence: String) -> Failure {
        Failure(Status::Argument, sentence)
    }
}

/// The sentence of the last failure on this thread; it lives until the next one.
pub fn last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
