//! Regular expressions of pre-tokenizers, in time that grows with the text and not with its square.
//!
//! Files bring their own patterns, so a pattern may be made to hang, and in the field innocent ones take the square of
//! a long run of letters or spaces. The syntax is `fancy-regex`'s reading of Oniguruma; it is run by backtracking
//! (`search.rs`) that remembers, once a search is long, which instruction has failed at which place: nothing after an
//! instruction depends on how it was reached, so no pair of the two is tried twice. Back-references break that, and
//! with them conditions and subroutines; a pattern that has any is refused when the model is opened.

mod program;
mod search;

use std::ops::Range;

use super::super::error::TokenizerError;
use program::Programs;
use search::Search;

/// A compiled pattern.
#[derive(Debug)]
pub(in crate::tokenizer) struct Pattern(Programs);

impl Pattern {
    /// # Errors
    /// [`TokenizerError::Pattern`] for what is no pattern, or none that takes linear time.
    pub(super) fn new(pattern: &str) -> Result<Pattern, TokenizerError> {
        Programs::compile(pattern)
            .map(Pattern)
            .map_err(|reason| TokenizerError::Pattern { pattern: pattern.into(), reason })
    }

    /// The matches in `text`, from left to right; an empty one right after another match does not count.
    pub(super) fn find_iter(&self, text: &str) -> impl Iterator<Item = Range<usize>> {
        let mut search = Search::new(&self.0, text);
        let mut from = Some(0);
        let mut last_end = None;
        std::iter::from_fn(move || {
            loop {
                let found = search.find(from?)?;
                if !found.is_empty() {
                    from = Some(found.end);
                } else {
                    from = text[found.end..].chars().next().map(|c| found.end + c.len_utf8());
                    if last_end == Some(found.end) {
                        continue;
                    }
                }
                last_end = Some(found.end);
                return Some(found);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn found(pattern: &str, text: &str) -> Vec<Range<usize>> {
        Pattern::new(pattern).unwrap().find_iter(text).collect()
    }

    /// None where that engine refuses the pattern, or gives up.
    fn by_fancy_regex(pattern: &str, text: &str) -> Option<Vec<Range<usize>>> {
        let regex = fancy_regex::RegexBuilder::new(pattern).oniguruma_mode(true).multi_line(true).build().ok()?;
        regex.find_iter(text).map(|m| m.ok().map(|m| m.range())).collect()
    }

    fn check(pattern: &str, text: &str) -> Result<(), TestCaseError> {
        if let Some(expected) = by_fancy_regex(pattern, text) {
            prop_assert_eq!(found(pattern, text), expected);
        }
        Ok(())
    }

    /// Pieces that patterns are put together from, so that all constructs meet each other.
    fn patterns() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            prop::sample::select(vec![
                "a",
                "b",
                "ab",
                "x",
                r"\s",
                r"\S",
                r"\w",
                r"\d",
                ".",
                "[ab]",
                "[^a]",
                r"\p{L}",
                r"\p{Lu}",
                "(?i:as)",
                r"\b",
                r"\B",
                "$",
                r"\A",
                r"\z",
                r"\Z",
                "é",
                r"\R",
                r"[\r\n]",
                " ",
                "(?i:é)",
                r"[a-c&&[^b]]",
                r"\h",
            ])
            .prop_map(String::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner.clone(), prop::sample::select(vec!["?", "??", "{0,2}", "{2}", "{1,3}?"]))
                    .prop_map(|(part, times)| format!("(?:{part}){times}")),
                // What repeats without end begins with a character: engines differ in loops over nothing.
                (inner.clone(), prop::sample::select(vec!["*", "+", "*?", "+?", "*+", "++", "{2,}"]))
                    .prop_map(|(part, times)| format!("(?:[a-é]{part}){times}")),
                inner.clone().prop_map(|part| format!("(?={part})")),
                inner.clone().prop_map(|part| format!("(?!{part})")),
                inner.clone().prop_map(|part| format!("(?>{part})")),
                inner.prop_map(|part| format!("({part})")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn matches_are_those_of_fancy_regex(pattern in patterns(), text in "[abxXé1 \r\nſS]{0,16}") {
            check(&pattern, &text)?;
        }

        #[test]
        fn what_is_remembered_changes_nothing(pattern in patterns(), text in "[ab ]{0,6}", times in 1usize..60) {
            // Repeated, so that searches are long enough to remember something.
            check(&pattern, &text.repeat(times))?;
        }
    }

    #[test]
    fn look_behind_and_loops_over_nothing() {
        for (pattern, text) in [
            (r"(?<=a)b|(?<!a)c", "abcacbbc"),
            (r"(?<=ab|c)x", "abxcxbx"),
            (r"(?<!\w)\d+", "a12 34"),
            (r"(?<=\d{3})x", "123x 12x"),
            (r"(?:a*)*b", "aaab"),
            (r"(?:a?)+", "aaab"),
            (r"(?:a|b?)*", "abba c"),
            (r"(?:(?=a)|b)*a", "bba"),
            (r"(?=(\d{3})+(?!\d))", "1234567"),
            (r"^a|b$|^", "ab\nab\n"),
            (r"([!?.])\1*", "a!!?...! ?!?"),
            (r"[()]|([!-~])\1{1,2}|x", "((!!!!!xaaabb))"),
        ] {
            assert_eq!(Some(found(pattern, text)), by_fancy_regex(pattern, text), "{pattern}");
        }
    }

    #[test]
    fn time_is_linear() {
        let start = Instant::now();
        let letters = "a".repeat(150_000);
        for pattern in [
            "(?>a+)b",
            "a+b",
            "(?:a+)+b",
            "a+b|a",
            "(?:a|a|aa)+(?=x)",
            r"(\w+\s*)+(?!x):|\s",
            "(?=a*b)a",
            "(?!a*b)a",
            "a++b|a",
            "(?:a*)*b",
            "(?<=^a*)b|a{1,3}",
            "a*?b",
            ".*x|.*y",
        ] {
            let matches = found(pattern, &letters).len();
            assert!([0, 50_000, 150_000].contains(&matches), "{pattern}: {matches}");
        }
        let spaces = format!("{}x", " ".repeat(150_000));
        assert_eq!(found(r"\s+$|\s+(?!\S)|\s+", &spaces).len(), 2);
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }

    #[test]
    fn what_cannot_be_linear_is_refused_by_name() {
        for (pattern, reason) in [
            (r"(a+)\1", "back-reference"),
            (r"(a)([bc])\1*", "back-reference"),
            (r"([^a])\1*", "back-reference"),
            ("(a", "parenthes"),
            ("(?:(?:a{1000}){1000}){1000}", "instructions"),
            (r"(?<x>a\g<x>?b)", "subroutine"),
        ] {
            let message = Pattern::new(pattern).unwrap_err().to_string();
            assert!(message.contains(pattern) && message.contains(reason), "{message}");
        }
    }
}
