//! What comes after the arguments of a call.

use super::cursor::{Cursor, Scan, Stop};
use super::literal::{string, value};

/// The rest of so many objects around the arguments; its bytes.
pub(super) fn rest_of_objects(text: &str, last: bool, mut depth: usize) -> Scan<usize> {
    let mut cursor = Cursor::new(text, last);
    while depth > 0 {
        match cursor.after_space()? {
            '}' => {
                depth -= 1;
                cursor.at += 1;
            }
            ',' => cursor.at += 1,
            '"' => {
                string(&mut cursor)?;
                cursor.after_space()?;
                cursor.eat(":")?;
                value(&mut cursor)?;
            }
            _ => return Err(Stop::No),
        }
    }
    Ok(cursor.at)
}

/// Where something begins after a call: past white space and what may stand between calls.
pub(super) fn after_separators(text: &str) -> usize {
    text.len() - text.trim_start_matches(|c: char| c.is_whitespace() || c == ';' || c == ',').len()
}

/// What `text` closes: the place of the outermost of `closers` that is closed, and the bytes of what closes it.
pub(super) fn closed(text: &str, last: bool, closers: &[&str]) -> Scan<(usize, usize)> {
    let mut stop = Stop::No;
    // What is within and was not closed by itself is closed, too.
    for (place, closer) in closers.iter().enumerate().rev() {
        let mut cursor = Cursor::new(text, last);
        match cursor.eat(closer) {
            Ok(()) => return Ok((place, cursor.at)),
            Err(Stop::More) => stop = Stop::More,
            Err(Stop::No) => {}
        }
    }
    Err(stop)
}
