//! What a grammar is made of.

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The line on which it begins.
    pub line: usize,
    /// What it may be.
    pub body: Vec<Sequence>,
}

/// One thing after the other; nothing at all if it is empty.
pub type Sequence = Vec<Item>;

/// A part of a rule.
#[derive(Clone, Debug)]
pub enum Item {
    /// This text.
    Text(String),
    /// One character of a class: a regular expression of it.
    Class(String),
    /// What another rule says, by its number.
    Rule(usize),
    /// One of these.
    Group(Vec<Sequence>),
    /// So often at least, and at most if there is a limit.
    Repeat(Box<Item>, u32, Option<u32>),
}
