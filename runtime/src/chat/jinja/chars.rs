//! What Python's `str` says of characters. Tables that Rust has under another definition are written out.

use std::sync::OnceLock;

use super::print::contains;

/// White space: Unicode's, and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Where `splitlines` cuts.
pub(super) fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) fn is_alpha(c: char) -> bool {
    static LETTERS: OnceLock<regex_syntax::hir::ClassUnicode> = OnceLock::new();
    contains(&LETTERS, r"\p{L}", c)
}

pub(super) fn is_decimal(c: char) -> bool {
    static DIGITS: OnceLock<regex_syntax::hir::ClassUnicode> = OnceLock::new();
    contains(&DIGITS, r"\p{Nd}", c)
}

/// Unicode's Numeric_Type=Digit, besides decimals: digits raised, lowered, or in circles.
pub(super) fn is_digit(c: char) -> bool {
    const OTHERS: [(char, char); 20] = [
        ('²', '³'),
        ('¹', '¹'),
        ('\u{1369}', '\u{1371}'),
        ('\u{19DA}', '\u{19DA}'),
        ('\u{2070}', '\u{2070}'),
        ('\u{2074}', '\u{2079}'),
        ('\u{2080}', '\u{2089}'),
        ('\u{2460}', '\u{2468}'),
        ('\u{2474}', '\u{247C}'),
        ('\u{2488}', '\u{2490}'),
        ('\u{24EA}', '\u{24EA}'),
        ('\u{24F5}', '\u{24FD}'),
        ('\u{24FF}', '\u{24FF}'),
        ('\u{2776}', '\u{277E}'),
        ('\u{2780}', '\u{2788}'),
        ('\u{278A}', '\u{2792}'),
        ('\u{10A40}', '\u{10A43}'),
        ('\u{10E60}', '\u{10E68}'),
        ('\u{11052}', '\u{1105A}'),
        ('\u{1F100}', '\u{1F10A}'),
    ];
    is_decimal(c) || OTHERS.iter().any(|(low, high)| (*low..=*high).contains(&c))
}

/// What has a numeric value: numbers by category, and Han digits.
pub(super) fn is_numeric(c: char) -> bool {
    const HAN: &str = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰\
                       阡陆陌陸零";
    c.is_numeric() || HAN.contains(c)
}

pub(super) fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || is_digit(c) || is_numeric(c)
}

/// Letters with another case: upper, lower or title.
pub(super) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_title(c)
}

/// Unicode's Lt: `ǅ` and its like.
pub(super) fn is_title(c: char) -> bool {
    matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | '\u{1F88}'..='\u{1F8F}' | '\u{1F98}'..='\u{1F9F}' | '\u{1FA8}'..='\u{1FAF}')
        || matches!(c, '\u{1FBC}' | '\u{1FCC}' | '\u{1FFC}')
}

/// A character as the first of a word in a title.
pub(super) fn to_title(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".into(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".into(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".into(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".into(),
        c if is_title(c) => c.into(),
        '\u{1F80}'..='\u{1FAF}' => char::from_u32(c as u32 | 8).unwrap_or(c).into(),
        '\u{1FB3}' | '\u{1FC3}' | '\u{1FF3}' => char::from_u32(c as u32 + 9).unwrap_or(c).into(),
        // Georgian has capitals, but no titles.
        '\u{10D0}'..='\u{10FF}' => c.into(),
        c => {
            let mut upper = c.to_uppercase();
            let first = upper.next().unwrap_or(c);
            // `ß` becomes `Ss`, `ﬁ` `Fi`; what follows the apostrophe of `ŉ` is the letter itself.
            match c {
                'ŉ' => upper.fold(first.to_string(), |text, c| text + &c.to_string()),
                _ => upper.flat_map(char::to_lowercase).fold(first.to_string(), |text, c| text + &c.to_string()),
            }
        }
    }
}

/// Python's `casefold`.
pub(super) fn to_folded(c: char) -> String {
    match c {
        // Cherokee folds to its capitals, and the dotless i to itself.
        'ı' | '\u{13A0}'..='\u{13F5}' => c.into(),
        '\u{AB70}'..='\u{ABBF}' | '\u{13F8}'..='\u{13FD}' => c.to_uppercase().collect(),
        c => c.to_uppercase().flat_map(char::to_lowercase).collect(),
    }
}
