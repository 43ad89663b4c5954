//! API keys.

use std::fmt;

/// Keys, any of which opens the server. They are never shown.
#[derive(Clone, Default)]
pub struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// The keys in a text, one a line; blank lines and lines that begin with `#` are none.
    pub fn of_lines(text: &str) -> Keys {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Keys(lines.map(|line| line.as_bytes().to_vec()).collect())
    }

    /// These keys and those.
    pub fn and(mut self, others: Keys) -> Keys {
        self.0.extend(others.0);
        self
    }

    /// Whether there is none, so that nobody is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `given` is one of them. The time that this takes does not depend on how much of a key was guessed.
    pub fn contain(&self, given: &[u8]) -> bool {
        self.0.iter().fold(false, |found, key| found | is_same(key, given))
    }
}

/// Compares without stopping at the first difference.
fn is_same(key: &[u8], given: &[u8]) -> bool {
    let mut difference = key.len() ^ given.len();
    for (i, byte) in given.iter().enumerate() {
        difference |= usize::from(std::hint::black_box(key[i % key.len()] ^ byte));
    }
    std::hint::black_box(difference) == 0
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn only_a_whole_key_opens() {
        let keys = Keys::of_lines("# ours\n\n secret-1 \nlonger-secret\n");
        assert!(keys.contain(b"secret-1") && keys.contain(b"longer-secret"));
        for wrong in ["", "secret-", "secret-11", "secret-1secret-1", "Secret-1", "# ours", "longer-secre"] {
            assert!(!keys.contain(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{keys:?}"), "2 keys");
        assert!(Keys::of_lines(" \n#x").is_empty());
    }
}
