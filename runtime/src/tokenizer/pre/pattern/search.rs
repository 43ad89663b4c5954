//! Runs a program on a text.

use std::collections::HashMap;
use std::ops::Range;

use fancy_regex::Assertion;

use super::program::{Instruction, Program, Programs};

/// Steps that the pattern itself may take in one search before failures are remembered: words need fewer.
const SHORT_SEARCH: usize = 400;

/// What is still to do when the present way fails.
enum Frame {
    /// Another way.
    Try { at: usize, place: usize },
    /// All ways of a fork have failed once this comes up.
    Failed { number: usize, place: usize },
}

/// What is known of a program's forks.
#[derive(Default)]
struct Memory {
    /// A bit for each fork at each place in the text: it is being tried, or has failed.
    tried: Vec<u64>,
    /// Where the program ends that goes through a fork at a place. Kept for groups, which may come to a place again;
    /// the pattern itself never looks back to what it has matched.
    ends: HashMap<(usize, usize), usize>,
}

/// Searches in one text, whose beginnings do not go back.
pub(super) struct Search<'p, 't> {
    programs: &'p Programs,
    text: &'t str,
    /// One for each program.
    memories: Vec<Memory>,
    /// What the pattern has looked at while it remembered: short searches that begin before this place remember too.
    known_until: usize,
    /// Emptied after each run; groups stack theirs above it.
    stack: Vec<Frame>,
}

impl<'p, 't> Search<'p, 't> {
    pub(super) fn new(programs: &'p Programs, text: &'t str) -> Search<'p, 't> {
        let memories = programs.programs.iter().map(|_| Memory::default()).collect();
        Search { programs, text, memories, known_until: 0, stack: Vec::new() }
    }

    /// The first match that begins at `from` or later.
    pub(super) fn find(&mut self, from: usize) -> Option<Range<usize>> {
        let main = self.programs.programs.len() - 1;
        let mut steps = SHORT_SEARCH;
        let starts = self.text[from..].char_indices().map(|(i, _)| from + i).chain([self.text.len()]);
        for start in starts {
            let mut remembers = start < self.known_until || steps == 0;
            let end = loop {
                match self.run(main, start, if remembers { None } else { Some(&mut steps) }) {
                    Some(end) => break end,
                    None => remembers = true,
                }
            };
            if let Some(end) = end {
                return Some(start..end);
            }
        }
        None
    }

    /// Where the first match of a program that begins at `start` ends, if there is one; `None` when `steps` are used
    /// up. Without `steps` it remembers.
    fn run(&mut self, program: usize, start: usize, mut steps: Option<&mut usize>) -> Option<Option<usize>> {
        let programs = self.programs;
        let is_main = program + 1 == programs.programs.len();
        let code = &programs.programs[program];
        let bottom = self.stack.len();
        let remembers = steps.is_none() && code.forks > 0;
        if remembers && self.memories[program].tried.is_empty() {
            self.memories[program].tried = vec![0; (code.forks * (self.text.len() + 1)).div_ceil(64)];
        }
        let (mut at, mut place) = (0, start);
        loop {
            if let Some(steps) = steps.as_deref_mut() {
                if *steps == 0 {
                    self.stack.truncate(bottom);
                    return None;
                }
                *steps -= 1;
            } else if is_main {
                self.known_until = self.known_until.max(place);
            }
            let next = match &code.instructions[at] {
                Instruction::Match => {
                    self.keep(program, bottom, place, !is_main);
                    return Some(Some(place));
                }
                Instruction::Jump(to) => Some(*to),
                Instruction::Char(set) => {
                    let set = &programs.sets[*set];
                    self.step(code, &mut place, |c| set.contains(c)).then_some(at + 1)
                }
                Instruction::Any { newline, crlf } => {
                    let fits = |c| *newline || (c != '\n' && !(*crlf && c == '\r'));
                    self.step(code, &mut place, fits).then_some(at + 1)
                }
                Instruction::Assert(assertion) => holds(*assertion, self.text, place).then_some(at + 1),
                Instruction::Atomic(inner) => self.run(*inner, place, None).flatten().map(|end| {
                    place = end;
                    at + 1
                }),
                Instruction::Look { program, negative } => {
                    let found = self.run(*program, place, None).flatten().is_some();
                    (found != *negative).then_some(at + 1)
                }
                Instruction::Fork { first, second, number } => {
                    if !remembers {
                        self.stack.push(Frame::Try { at: *second, place });
                        Some(*first)
                    } else if let Some(end) = self.memories[program].ends.get(&(*number, place)).copied() {
                        self.keep(program, bottom, end, true);
                        return Some(Some(end));
                    } else if self.enter(program, *number, place) {
                        self.stack.push(Frame::Try { at: *second, place });
                        Some(*first)
                    } else {
                        None
                    }
                }
                Instruction::Loop { body, exit, greedy, number } => {
                    let (first, second) = if *greedy { (*body, *exit) } else { (*exit, *body) };
                    if !remembers {
                        self.stack.push(Frame::Try { at: second, place });
                        Some(first)
                    } else if let Some(end) = self.memories[program].ends.get(&(*number, place)).copied() {
                        self.keep(program, bottom, end, true);
                        return Some(Some(end));
                    } else if self.enter(program, *number, place) {
                        self.stack.push(Frame::Try { at: second, place });
                        Some(first)
                    } else {
                        // Here again: after a round over nothing, or after all of this has failed, and then so does
                        // the way out.
                        Some(*exit)
                    }
                }
            };
            match next {
                Some(next) => at = next,
                None => match self.back(bottom) {
                    Some((to, back_to)) => (at, place) = (to, back_to),
                    None => return Some(None),
                },
            }
        }
    }

    /// The way that is tried next.
    fn back(&mut self, bottom: usize) -> Option<(usize, usize)> {
        while self.stack.len() > bottom {
            if let Some(Frame::Try { at, place }) = self.stack.pop() {
                return Some((at, place));
            }
        }
        None
    }

    /// Notes that a fork is tried; false if it was before.
    fn enter(&mut self, program: usize, number: usize, place: usize) -> bool {
        let bit = place * self.programs.programs[program].forks + number;
        let word = &mut self.memories[program].tried[bit / 64];
        let new = *word >> (bit % 64) & 1 == 0;
        *word |= 1 << (bit % 64);
        if new {
            self.stack.push(Frame::Failed { number, place });
        }
        new
    }

    /// The program matches up to `end`: the forks on the way have not failed.
    fn keep(&mut self, program: usize, bottom: usize, end: usize, with_ends: bool) {
        let forks = self.programs.programs[program].forks;
        while self.stack.len() > bottom {
            if let Some(Frame::Failed { number, place }) = self.stack.pop() {
                let bit = place * forks + number;
                self.memories[program].tried[bit / 64] &= !(1 << (bit % 64));
                if with_ends {
                    self.memories[program].ends.insert((number, place), end);
                }
            }
        }
    }

    /// Moves over one character, forwards or backwards, if it fits.
    fn step(&self, program: &Program, place: &mut usize, fits: impl Fn(char) -> bool) -> bool {
        let c = if program.backwards {
            self.text[..*place].chars().next_back()
        } else {
            self.text[*place..].chars().next()
        };
        let Some(c) = c.filter(|c| fits(*c)) else { return false };
        *place = if program.backwards { *place - c.len_utf8() } else { *place + c.len_utf8() };
        true
    }
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(regex_syntax::is_word_character)
}

fn holds(assertion: Assertion, text: &str, place: usize) -> bool {
    let (before, after) = text.split_at(place);
    let (last, next) = (before.chars().next_back(), after.chars().next());
    let line_starts = |crlf: bool| match last {
        None | Some('\n') => true,
        Some('\r') => crlf && next != Some('\n'),
        _ => false,
    };
    match assertion {
        Assertion::StartText => before.is_empty(),
        Assertion::EndText => after.is_empty(),
        Assertion::EndTextIgnoreTrailingNewlines { crlf: false } => after.trim_start_matches('\n').is_empty(),
        Assertion::EndTextIgnoreTrailingNewlines { crlf: true } => after.trim_start_matches(['\r', '\n']).is_empty(),
        Assertion::StartLine { crlf } => line_starts(crlf),
        Assertion::StartLineOniguruma { crlf } => line_starts(crlf) && (before.is_empty() || !after.is_empty()),
        Assertion::EndLine { crlf } => match next {
            None => true,
            Some('\n') => !(crlf && last == Some('\r')),
            Some('\r') => crlf,
            _ => false,
        },
        Assertion::LeftWordBoundary => !is_word(last) && is_word(next),
        Assertion::RightWordBoundary => is_word(last) && !is_word(next),
        Assertion::LeftWordHalfBoundary => !is_word(last),
        Assertion::RightWordHalfBoundary => !is_word(next),
        Assertion::WordBoundary => is_word(last) != is_word(next),
        Assertion::NotWordBoundary => is_word(last) == is_word(next),
    }
}
