//! Pre-tokenisation: before pairs are merged, text is normalised and cut into words, and no merge crosses a cut.
//!
//! A [`Pretokenizer`] is a list of edits and a list of steps, each of which cuts the pieces that the one before left;
//! where edits follow cuts, that several times over.
//! It comes from the table of names in [`presets`], or from the description that [`hugging_face`] reads. Patterns in
//! daily use have splitters written by hand ([`words`]); the others run as regular expressions.

mod classes;
mod edit;
pub(super) mod hugging_face;
mod pattern;
pub(super) mod presets;
mod trusted;
mod words;

use std::borrow::Cow;
use std::ops::Range;

use super::error::TokenizerError;
pub(super) use edit::Edit;
use pattern::Pattern;
pub(super) use trusted::Trusted;
use words::WordRule;

/// What becomes of the text that a step's pattern matches, in the terms of Hugging Face's `tokenizers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(super) enum Behavior {
    /// It is dropped.
    Removed,
    /// Each match is a piece.
    Isolated,
    /// It belongs to the piece before it.
    MergedWithPrevious,
    /// It belongs to the piece after it.
    MergedWithNext,
    /// Neighbouring matches are one piece.
    Contiguous,
}

#[derive(Debug)]
enum Matcher {
    Words(WordRule),
    Regex(Pattern),
    Literal(String),
}

/// One cut through all pieces.
#[derive(Debug)]
pub(super) struct Step {
    matcher: Matcher,
    behavior: Behavior,
    /// Whether the text between the matches takes the place of the matches.
    invert: bool,
}

/// Edits of each piece of a text, and cuts through what they leave.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) edits: Vec<Edit>,
    pub(super) steps: Vec<Step>,
}

/// How a model's words are found.
#[derive(Debug, Default)]
pub(super) struct Pretokenizer {
    /// Edits of the text between added tokens, before those are looked for that stand in edited text.
    pub(super) normalizers: Vec<Edit>,
    /// One after the other; nearly all models have one at most.
    pub(super) stages: Vec<Stage>,
}

/// A pre-tokenizer and what its source says about the rest of the tokenizer.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) pretokenizer: Pretokenizer,
    /// A word that is in the vocabulary is one token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether texts begin with BOS when the file does not say.
    pub(super) add_bos: bool,
}

impl Step {
    /// A step that isolates the matches of `pattern`, by hand-written code when it is one of [`words`]' patterns.
    pub(super) fn isolate(pattern: &str) -> Result<Step, TokenizerError> {
        Step::regex(pattern, Behavior::Isolated, false)
    }

    fn regex(pattern: &str, behavior: Behavior, invert: bool) -> Result<Step, TokenizerError> {
        if let Some(rule) = WordRule::of_pattern(pattern) {
            // These patterns match everything, so that keeping nothing but the matches is to isolate them.
            let keeps_matches = behavior == Behavior::Removed && invert;
            let (behavior, invert) = if keeps_matches { (Behavior::Isolated, false) } else { (behavior, invert) };
            return Ok(Step { matcher: Matcher::Words(rule), behavior, invert });
        }
        Ok(Step { matcher: Matcher::Regex(Pattern::new(pattern)?), behavior, invert })
    }

    fn literal(text: String, behavior: Behavior, invert: bool) -> Step {
        Step { matcher: Matcher::Literal(text), behavior, invert }
    }

    fn split<'t>(&self, text: &'t str, emit: &mut dyn FnMut(&'t str)) {
        // The way of nearly all models.
        if let Matcher::Words(rule) = &self.matcher
            && self.behavior == Behavior::Isolated
        {
            let mut rest = text;
            while !rest.is_empty() {
                let (word, after) = rest.split_at(rule.first_word(rest));
                emit(word);
                rest = after;
            }
            return;
        }
        for range in self.pieces(text) {
            emit(&text[range]);
        }
    }

    /// The ranges of `text` that this step leaves, some of them possibly empty.
    fn pieces(&self, text: &str) -> Vec<Range<usize>> {
        let parts = self.parts(text).into_iter().map(|(range, matched)| (range, matched != self.invert));
        let mut pieces: Vec<Range<usize>> = Vec::new();
        let mut previous = None;
        for (range, matched) in parts {
            let join = match self.behavior {
                Behavior::Removed if matched => continue,
                Behavior::Removed | Behavior::Isolated => false,
                Behavior::Contiguous => previous == Some(matched),
                Behavior::MergedWithPrevious => matched && previous == Some(false),
                Behavior::MergedWithNext => !matched && previous == Some(true),
            };
            match pieces.last_mut() {
                Some(last) if join => last.end = range.end,
                _ => pieces.push(range),
            }
            previous = Some(matched);
        }
        pieces
    }

    /// `text` as a sequence of matches (`true`) and what lies between them.
    fn parts(&self, text: &str) -> Vec<(Range<usize>, bool)> {
        let mut parts = Vec::new();
        let mut at = 0;
        let mut add = |range: Range<usize>| {
            if at < range.start {
                parts.push((at..range.start, false));
            }
            at = range.end;
            // An empty match cuts the text and is no piece itself.
            if !range.is_empty() {
                parts.push((range, true));
            }
        };
        match &self.matcher {
            Matcher::Words(rule) => {
                let mut start = 0;
                while start < text.len() {
                    let end = start + rule.first_word(&text[start..]);
                    add(start..end);
                    start = end;
                }
            }
            Matcher::Regex(pattern) => pattern.find_iter(text).for_each(&mut add),
            Matcher::Literal(literal) if literal.is_empty() => {}
            Matcher::Literal(literal) => text.match_indices(literal).for_each(|(i, m)| add(i..i + m.len())),
        }
        if at < text.len() {
            parts.push((at..text.len(), false));
        }
        parts
    }
}

impl Pretokenizer {
    /// All edits.
    pub(super) fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.normalizers.iter().chain(self.stages.iter().flat_map(|stage| &stage.edits))
    }

    /// The text as normalizers leave it.
    pub(super) fn normalize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.normalize_beginning(text, false).0
    }

    /// The text as normalizers leave it, and how many bytes at its beginning come of the first character of everything;
    /// `first` says whether that is the first of `text`.
    pub(super) fn normalize_beginning<'t>(&self, text: &'t str, first: bool) -> (Cow<'t, str>, usize) {
        let begins = text.chars().next().filter(|_| first).map_or(0, char::len_utf8);
        apply(&self.normalizers, Cow::Borrowed(text), begins)
    }

    /// The same of a text of which parts are trusted.
    pub(super) fn normalize_trusted(&self, text: Trusted, first: bool) -> (Trusted, usize) {
        let begins = if first { self.normalize_beginning(&text.text, true).1 } else { 0 };
        let text = text.edited(&self.normalizers);
        // Its normal forms are of every stretch for itself, so that there may be other characters here.
        let begins = text.text.floor_char_boundary(begins);
        (text, begins)
    }

    /// The pieces of the normalised `text` that [`Pretokenizer::split`] cuts into words: what all but the last cuts
    /// leave. Its first `begins` bytes come of the first character of everything.
    pub(super) fn pieces<'t>(&self, text: &'t str, begins: usize) -> Vec<Cow<'t, str>> {
        // Each with as much: what was dropped before it counts.
        let mut pieces = vec![(Cow::Borrowed(text), begins)];
        let mut cuts: &[Step] = &[];
        for stage in &self.stages {
            if !cuts.is_empty() {
                let mut cut: Vec<(Cow<'t, str>, usize)> = Vec::new();
                for (piece, begins) in &pieces {
                    run(cuts, piece, &mut |part| {
                        let start = part.as_ptr() as usize - piece.as_ptr() as usize;
                        cut.push((Cow::Owned(part.to_string()), begins.saturating_sub(start).min(part.len())));
                    });
                }
                pieces = cut;
            }
            pieces = pieces.into_iter().map(|(piece, begins)| apply(&stage.edits, piece, begins)).collect();
            cuts = &stage.steps;
        }
        pieces.into_iter().map(|(piece, _)| piece).collect()
    }

    /// Calls `word` with each word of a piece, in order; none is empty.
    pub(super) fn split<'t>(&self, piece: &'t str, word: &mut dyn FnMut(&'t str)) {
        run(self.stages.last().map_or(&[], |stage| &stage.steps), piece, word);
    }
}

/// What `edits` make of a text, and of its first `begins` bytes, which come of the first character of everything.
fn apply<'t>(edits: &[Edit], text: Cow<'t, str>, begins: usize) -> (Cow<'t, str>, usize) {
    edits.iter().fold((text, begins), |(text, begins), edit| {
        let still = edit.beginning(&text, begins);
        (edit.apply(text, begins > 0), still)
    })
}

fn run<'t>(steps: &[Step], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    match steps.split_first() {
        _ if text.is_empty() => {}
        None => word(text),
        Some((step, rest)) => step.split(text, &mut |piece| run(rest, piece, word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(step: Step, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let stages = vec![Stage { edits: Vec::new(), steps: vec![step] }];
        let pretokenizer = Pretokenizer { normalizers: Vec::new(), stages };
        pretokenizer.split(text, &mut |word| words.push(word.to_string()));
        words
    }

    /// The examples of Hugging Face's documentation of `SplitDelimiterBehavior`.
    #[test]
    fn behaviors_as_documented() {
        for (behavior, expected) in [
            (Behavior::Removed, vec!["the", "final", "countdown"]),
            (Behavior::Isolated, vec!["the", "-", "final", "-", "-", "countdown"]),
            (Behavior::MergedWithPrevious, vec!["the-", "final-", "-", "countdown"]),
            (Behavior::MergedWithNext, vec!["the", "-final", "-", "-countdown"]),
            (Behavior::Contiguous, vec!["the", "-", "final", "--", "countdown"]),
        ] {
            let text = "the-final--countdown";
            assert_eq!(split(Step::literal("-".into(), behavior, false), text), expected, "{behavior:?}");
            assert_eq!(split(Step::regex("-", behavior, false).unwrap(), text), expected, "{behavior:?}");
            assert_eq!(split(Step::regex("[^-]+", behavior, true).unwrap(), text).concat(), expected.concat());
        }
        assert_eq!(split(Step::regex("[a-z]", Behavior::Removed, true).unwrap(), "a-bc--"), ["a", "b", "c"]);
    }

    #[test]
    fn empty_matches_cut() {
        // Digits in groups of three from the right.
        let step = Step::isolate(r"(?=(\d{3})+(?!\d))").unwrap();
        assert_eq!(split(step, "1234567"), ["1", "234", "567"]);
    }
}
