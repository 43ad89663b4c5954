//! The character classes of pre-tokenizers, as a table.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// What a pre-tokenizer sees in a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CharClass {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
    /// None of these.
    Other,
}

/// The class of `c`, from the same Unicode tables that regular expressions use.
pub(super) fn class_of(c: char) -> CharClass {
    static TABLE: OnceLock<Vec<CharClass>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table = Vec::new();
        for (pattern, class) in
            [(r"\p{L}", CharClass::Letter), (r"\p{N}", CharClass::Number), (r"\s", CharClass::Space)]
        {
            let hir = regex_syntax::parse(pattern).expect("a constant pattern");
            let HirKind::Class(Class::Unicode(ranges)) = hir.into_kind() else { unreachable!("a Unicode class") };
            for range in ranges.iter() {
                let (start, end) = (range.start() as usize, range.end() as usize);
                if table.len() <= end {
                    table.resize(end + 1, CharClass::Other);
                }
                table[start..=end].fill(class);
            }
        }
        table
    });
    table.get(c as usize).copied().unwrap_or(CharClass::Other)
}
