//! Names and texts from files as a terminal may show them: a file must not be able to move the cursor, to recolour the
//! screen, or to make a name read as another.

/// `text` with what a terminal would obey, or what changes the direction of writing, spelled out as `\u{1b}`; lines end
/// as they did.
pub fn visible(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let spell = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || turns(c);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if spell(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// What of a long message is shown at either end: a file may bring its own text of any length into one.
const SHOWN: usize = 600;

/// [`visible`] for a message: one that is too long to read loses its middle.
pub fn visible_message(text: &str) -> String {
    let count = text.chars().count();
    if count <= 2 * SHOWN {
        return visible(text);
    }
    let start: String = text.chars().take(SHOWN).collect();
    let end: String = text.chars().skip(count - SHOWN).collect();
    format!("{} […] {}", visible(&start), visible(&end))
}

#[cfg(test)]
mod tests {
    use super::{SHOWN, visible, visible_message};

    #[test]
    fn a_message_is_as_long_as_one_can_read() {
        let short = "é".repeat(2 * SHOWN);
        assert_eq!(visible_message(&short), short);
        let long = visible_message(&format!("begin {} end", "é".repeat(70_000)));
        assert!(long.starts_with("begin é") && long.contains("é […] é") && long.ends_with("é end"), "{long}");
        assert_eq!(long.chars().count(), 2 * SHOWN + 5);
    }

    #[test]
    fn only_what_a_terminal_obeys_is_spelled_out() {
        assert_eq!(visible("blk.0 é 🦙\tx\n"), "blk.0 é 🦙\tx\n");
        assert_eq!(visible("a\u{1b}[31mb\u{9b}c\u{7f}d\re\u{202e}f"), r"a\u{1b}[31mb\u{9b}c\u{7f}d\u{d}e\u{202e}f");
    }
}
