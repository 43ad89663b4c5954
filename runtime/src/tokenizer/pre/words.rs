//! The two word patterns that nearly all Llama models use, written by hand: some twenty times as fast as the regular
//! expressions, and no stack to overflow on a megabyte of spaces. The tests hold them to the expressions.

use super::classes::{CharClass, class_of};

/// GPT-2's words (OpenAI's gpt-2/src/encoder.py).
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3's words (its tokenizer.json): numbers in threes.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's words (its tokenizer.json): the same with single digits.
pub(super) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A pattern that has code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordRule {
    Gpt2,
    /// Llama 3's, with numbers of at most so many digits.
    Llama3 {
        digits: usize,
    },
}

impl WordRule {
    /// The rule that is equal to `pattern`.
    pub(super) fn of_pattern(pattern: &str) -> Option<WordRule> {
        match pattern {
            GPT2 => Some(WordRule::Gpt2),
            LLAMA3 => Some(WordRule::Llama3 { digits: 3 }),
            QWEN2 => Some(WordRule::Llama3 { digits: 1 }),
            _ => None,
        }
    }

    /// The length in bytes of the word that `text` begins with. `text` is not empty.
    pub(super) fn first_word(self, text: &str) -> usize {
        match self {
            WordRule::Gpt2 => gpt2_word(text),
            WordRule::Llama3 { digits } => llama3_word(text, digits),
        }
    }
}

/// The class and the length of the character that `text` begins with; the end of the text has no class.
fn first(text: &str) -> (Option<CharClass>, usize) {
    match text.chars().next() {
        Some(c) => (Some(class_of(c)), c.len_utf8()),
        None => (None, 0),
    }
}

/// The length of the longest beginning of `text` whose characters are all of `class`, at most `limit` of them.
fn run(text: &str, class: CharClass, limit: usize) -> usize {
    let past = text.char_indices().enumerate().find(|&(count, (_, c))| count == limit || class_of(c) != class);
    past.map_or(text.len(), |(_, (at, _))| at)
}

/// The length of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d` at the beginning of `text`.
fn contraction(text: &str, fold_case: bool) -> Option<usize> {
    let fold = |c: char| match c {
        // The one other character that Unicode folds to an ASCII letter of these suffixes.
        'ſ' if fold_case => 's',
        c if fold_case => c.to_ascii_lowercase(),
        c => c,
    };
    let mut chars = text.strip_prefix('\'')?.chars();
    let one = chars.next()?;
    match (fold(one), chars.next().map(fold)) {
        ('s' | 't' | 'm' | 'd', _) => Some(1 + one.len_utf8()),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+`: all of a run of spaces, but its last character goes with the word that follows.
fn spaces(text: &str, length: usize) -> usize {
    let last = text[..length].chars().next_back().map_or(0, char::len_utf8);
    if length == text.len() || length == last { length } else { length - last }
}

fn gpt2_word(text: &str) -> usize {
    if let Some(length) = contraction(text, false) {
        return length;
    }
    // ` ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+`
    let body = text.strip_prefix(' ').unwrap_or(text);
    match first(body) {
        (Some(class), _) if class != CharClass::Space => text.len() - body.len() + run(body, class, usize::MAX),
        _ => spaces(text, run(text, CharClass::Space, usize::MAX)),
    }
}

fn llama3_word(text: &str, digits: usize) -> usize {
    if let Some(length) = contraction(text, true) {
        return length;
    }
    let (class, length) = first(text);
    // `[^\r\n\p{L}\p{N}]?\p{L}+`
    let newline = text.starts_with(['\r', '\n']);
    match class {
        Some(CharClass::Letter) => return run(text, CharClass::Letter, usize::MAX),
        Some(CharClass::Number) => return run(text, CharClass::Number, digits),
        _ if !newline && first(&text[length..]).0 == Some(CharClass::Letter) => {
            return length + run(&text[length..], CharClass::Letter, usize::MAX);
        }
        _ => {}
    }
    // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
    let body = text.strip_prefix(' ').unwrap_or(text);
    let others = run(body, CharClass::Other, usize::MAX);
    if others > 0 {
        let after = body[others..].trim_start_matches(['\r', '\n']);
        return text.len() - after.len();
    }
    // `\s*[\r\n]+|\s+(?!\S)|\s+`
    let length = run(text, CharClass::Space, usize::MAX);
    match text[..length].rfind(['\r', '\n']) {
        Some(last) => last + 1,
        None => spaces(text, length),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    const PATTERNS: [&str; 3] = [GPT2, LLAMA3, QWEN2];

    fn by_rule(pattern: &str, text: &str) -> Vec<String> {
        let rule = WordRule::of_pattern(pattern).unwrap();
        let mut rest = text;
        let mut words = Vec::new();
        while !rest.is_empty() {
            let (word, after) = rest.split_at(rule.first_word(rest));
            words.push(word.to_string());
            rest = after;
        }
        words
    }

    fn by_regex(pattern: &str, text: &str) -> Vec<String> {
        static REGEXES: LazyLock<[fancy_regex::Regex; 3]> =
            LazyLock::new(|| PATTERNS.map(|pattern| fancy_regex::Regex::new(pattern).unwrap()));
        let regex = &REGEXES[PATTERNS.iter().position(|p| *p == pattern).unwrap()];
        regex.find_iter(text).map(|m| m.unwrap().as_str().to_string()).collect()
    }

    /// Strings where the alternatives of the patterns meet, and any strings.
    fn texts() -> impl Strategy<Value = String> {
        let matching = |pattern| prop::string::string_regex(pattern).unwrap();
        prop_oneof![
            matching("[ \t\r\n'a-eA-Elmrstv019.,!ſéß\u{85}\u{a0}\u{3000}²Ⅷ中あ\u{301}🦙]{0,24}"),
            matching("('(s|S|ſ|re|Re|rE|VE|ll|lL|LL|l|d|D|m|T|x|ﬆ)|[ \n]| {2,5}|a|1){0,12}"),
            matching("\\PC{0,24}"),
            any::<String>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn the_code_equals_the_patterns(text in texts()) {
            for pattern in PATTERNS {
                prop_assert_eq!(by_rule(pattern, &text), by_regex(pattern, &text));
            }
        }
    }

    /// Each character alone, after a space and before a letter: all of Unicode meets the same alternative in both.
    #[test]
    fn all_characters_have_the_patterns_classes() {
        let text: String = ('\0'..=char::MAX).flat_map(|c| [c, ' ', c, 'x', c, '1']).collect();
        for pattern in [GPT2, LLAMA3] {
            assert!(by_rule(pattern, &text) == by_regex(pattern, &text), "{pattern}");
        }
    }
}
