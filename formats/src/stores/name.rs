//! Parts of names that may become parts of paths.

/// Whether `part` is one name of a directory or file, and nothing else on any system: letters, digits, `.`, `_` and
/// `-`, not hidden, and no way up.
pub(super) fn is_plain(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !part.is_empty() && part.len() <= 128 && part.bytes().all(allowed) && !part.starts_with('.') && !part.contains("..")
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn nothing_leads_elsewhere() {
        for part in ["llama3.2", "1b-instruct-q4_K_M", "Llama-3.2-1B", "a"] {
            assert!(is_plain(part), "{part}");
        }
        for part in ["", ".", "..", "...", ".hidden", "a/b", "a\\b", "a..b", "C:", "a:b", "a b", "ä", "a\0b", "\n"] {
            assert!(!is_plain(part), "{part:?}");
        }
        assert!(!is_plain(&"a".repeat(129)));
    }
}
