//! A place in a text that may go on.

/// Why nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More of the text has to be seen.
    More,
    /// It is something else.
    No,
}

pub(super) type Scan<T> = Result<T, Stop>;

/// A place in a text of which more may come.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    /// Whether nothing more comes.
    last: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, last: bool) -> Cursor<'a> {
        Cursor { text, at: 0, last }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// What the end of the text means to who looks for something there.
    pub(super) fn end(&self) -> Stop {
        if self.last { Stop::No } else { Stop::More }
    }

    /// The next character.
    pub(super) fn peek(&self) -> Scan<char> {
        self.rest().chars().next().ok_or(self.end())
    }

    /// Goes past white space, and says what comes then.
    pub(super) fn after_space(&mut self) -> Scan<char> {
        self.skip(char::is_whitespace);
        self.peek()
    }

    /// Goes past such characters.
    pub(super) fn skip(&mut self, is: impl Fn(char) -> bool) {
        self.at = self.text.len() - self.rest().trim_start_matches(is).len();
    }

    /// Goes past `word`, which must be here.
    pub(super) fn eat(&mut self, word: &str) -> Scan<()> {
        let rest = self.rest();
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(if word.starts_with(rest) { self.end() } else { Stop::No })
    }

    /// Such characters, up to one that is not.
    pub(super) fn word(&mut self, is: impl Fn(char) -> bool) -> Scan<&'a str> {
        let rest = self.rest();
        let end = rest.find(|c| !is(c));
        if end.is_none() && !self.last {
            return Err(Stop::More);
        }
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        Ok(word)
    }
}
