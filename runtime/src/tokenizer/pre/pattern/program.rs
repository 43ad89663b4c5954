//! A pattern as a list of instructions, compiled from the tree that `fancy-regex` parses.

use fancy_regex::internal::{FLAG_MULTI, FLAG_ONIGURUMA_MODE, FLAG_UNICODE};
use fancy_regex::{Assertion, Expr, LookAround};
use regex_syntax::hir::{Class, HirKind};

/// Instructions that a pattern may have. Real ones have some hundreds.
const MAX_INSTRUCTIONS: usize = 20_000;

/// A set of characters.
#[derive(Debug, PartialEq)]
pub(super) struct Set {
    ascii: u128,
    /// Sorted, from U+0080 on.
    ranges: Vec<(char, char)>,
}

impl Set {
    fn new(ranges: impl Iterator<Item = (char, char)>) -> Set {
        let mut set = Set { ascii: 0, ranges: Vec::new() };
        for (low, high) in ranges {
            for c in low as u32..=(high as u32).min(127) {
                set.ascii |= 1 << c;
            }
            if high as u32 > 127 {
                set.ranges.push((low.max('\u{80}'), high));
            }
        }
        set
    }

    pub(super) fn contains(&self, c: char) -> bool {
        if c.is_ascii() {
            return self.ascii >> (c as u32) & 1 == 1;
        }
        let at = self.ranges.partition_point(|(_, high)| *high < c);
        self.ranges.get(at).is_some_and(|(low, _)| *low <= c)
    }
}

#[derive(Debug)]
pub(super) enum Instruction {
    /// One character of a set.
    Char(usize),
    /// Any character; `false`: but a line feed; with `crlf`, no carriage return either.
    Any {
        newline: bool,
        crlf: bool,
    },
    Assert(Assertion),
    Jump(usize),
    /// The first way, and if it fails the second. `number` counts the forks of a program.
    Fork {
        first: usize,
        second: usize,
        number: usize,
    },
    /// As `Fork`, at the head of a loop whose body may match nothing: the body is not entered twice at one place, the
    /// loop ends there.
    Loop {
        body: usize,
        exit: usize,
        greedy: bool,
        number: usize,
    },
    /// Goes on where the first match of a program ends.
    Atomic(usize),
    /// Whether a program matches here.
    Look {
        program: usize,
        negative: bool,
    },
    Match,
}

/// What is run from one place on: the pattern itself, or an atomic group or look-around in it.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) instructions: Vec<Instruction>,
    pub(super) forks: usize,
    /// Whether it reads the text backwards, as a look-behind does.
    pub(super) backwards: bool,
}

#[derive(Debug, Default)]
pub(super) struct Programs {
    /// The last one is the pattern; each uses only those before it.
    pub(super) programs: Vec<Program>,
    pub(super) sets: Vec<Set>,
    instructions: usize,
}

impl Programs {
    /// The error says why not.
    pub(super) fn compile(pattern: &str) -> Result<Programs, String> {
        // As Hugging Face runs them: Oniguruma, in whose syntax `^` and `$` belong to lines.
        let flags = FLAG_UNICODE | FLAG_MULTI | FLAG_ONIGURUMA_MODE;
        let mut tree = Expr::parse_tree_with_flags(pattern, flags).map_err(|error| error.to_string())?;
        if groups(&tree.expr) == 1 {
            spell_out_runs(&mut tree.expr);
        }
        let mut programs = Programs::default();
        programs.program(&tree.expr, false)?;
        Ok(programs)
    }

    fn program(&mut self, expr: &Expr, backwards: bool) -> Result<usize, String> {
        let mut program = Program { backwards, ..Program::default() };
        self.add(&mut program, expr)?;
        self.push(&mut program, Instruction::Match)?;
        self.programs.push(program);
        Ok(self.programs.len() - 1)
    }

    fn push(&mut self, program: &mut Program, instruction: Instruction) -> Result<usize, String> {
        self.instructions += 1;
        if self.instructions > MAX_INSTRUCTIONS {
            return Err(format!("it has more than {MAX_INSTRUCTIONS} instructions"));
        }
        program.instructions.push(instruction);
        Ok(program.instructions.len() - 1)
    }

    fn set(&mut self, program: &mut Program, set: Set) -> Result<(), String> {
        let known = self.sets.iter().position(|s| *s == set);
        let number = known.unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        self.push(program, Instruction::Char(number)).map(drop)
    }

    /// Appends what matches `expr` and goes on after itself.
    fn add(&mut self, program: &mut Program, expr: &Expr) -> Result<(), String> {
        match expr {
            Expr::Empty => Ok(()),
            Expr::Any { newline, crlf } => {
                self.push(program, Instruction::Any { newline: *newline, crlf: *crlf }).map(drop)
            }
            Expr::Assertion(assertion) => self.push(program, Instruction::Assert(*assertion)).map(drop),
            Expr::Literal { val, casei } => {
                let mut chars: Vec<char> = val.chars().collect();
                if program.backwards {
                    chars.reverse();
                }
                chars
                    .into_iter()
                    .try_for_each(|c| self.set(program, class(&regex_syntax::escape(&c.to_string()), *casei)?))
            }
            Expr::Delegate { inner, casei } => self.set(program, class(inner, *casei)?),
            Expr::Concat(parts) if program.backwards => parts.iter().rev().try_for_each(|part| self.add(program, part)),
            Expr::Concat(parts) => parts.iter().try_for_each(|part| self.add(program, part)),
            Expr::Alt(ways) => self.alternatives(program, ways),
            Expr::Group(inner) => self.add(program, inner),
            Expr::Repeat { child, lo, hi, greedy } => self.repeat(program, child, (*lo, *hi), *greedy),
            Expr::AtomicGroup(inner) => {
                let inner = self.program(inner, program.backwards)?;
                self.push(program, Instruction::Atomic(inner)).map(drop)
            }
            Expr::LookAround(inner, kind) => {
                let backwards = matches!(kind, LookAround::LookBehind | LookAround::LookBehindNeg);
                let negative = matches!(kind, LookAround::LookAheadNeg | LookAround::LookBehindNeg);
                let inner = self.program(inner, backwards)?;
                self.push(program, Instruction::Look { program: inner, negative }).map(drop)
            }
            Expr::GeneralNewline { .. } if !program.backwards => {
                let tree =
                    Expr::parse_tree(r"(?>\r\n|[\n\x0B\f\r\u{85}\u{2028}\u{2029}])").map_err(|e| e.to_string())?;
                self.add(program, &tree.expr)
            }
            Expr::Backref { .. } | Expr::BackrefWithRelativeRecursionLevel { .. } => Err(linear("a back-reference")),
            Expr::Conditional { .. } | Expr::BackrefExistsCondition { .. } => Err(linear("a condition")),
            Expr::SubroutineCall(_) | Expr::DefineGroup { .. } => Err(linear("a subroutine")),
            _ => Err("it uses a rare feature of Oniguruma".into()),
        }
    }

    fn alternatives(&mut self, program: &mut Program, ways: &[Expr]) -> Result<(), String> {
        let mut ends = Vec::new();
        for (i, way) in ways.iter().enumerate() {
            let fork = if i + 1 < ways.len() { Some(self.fork(program)?) } else { None };
            self.add(program, way)?;
            if let Some(fork) = fork {
                ends.push(self.push(program, Instruction::Jump(0))?);
                let next = program.instructions.len();
                self.aim(program, fork, (fork + 1, next));
            }
        }
        for end in ends {
            program.instructions[end] = Instruction::Jump(program.instructions.len());
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        program: &mut Program,
        child: &Expr,
        (lo, hi): (usize, usize),
        greedy: bool,
    ) -> Result<(), String> {
        for _ in 0..lo {
            self.add(program, child)?;
        }
        if hi == usize::MAX {
            let number = program.forks;
            program.forks += 1;
            let head = self.push(program, Instruction::Match)?;
            self.add(program, child)?;
            self.push(program, Instruction::Jump(head))?;
            let exit = program.instructions.len();
            program.instructions[head] = Instruction::Loop { body: head + 1, exit, greedy, number };
            return Ok(());
        }
        let mut forks = Vec::new();
        for _ in lo..hi {
            forks.push(self.fork(program)?);
            self.add(program, child)?;
        }
        let end = program.instructions.len();
        for fork in forks {
            self.aim(program, fork, if greedy { (fork + 1, end) } else { (end, fork + 1) });
        }
        Ok(())
    }

    fn fork(&mut self, program: &mut Program) -> Result<usize, String> {
        let number = program.forks;
        program.forks += 1;
        self.push(program, Instruction::Fork { first: 0, second: 0, number })
    }

    fn aim(&self, program: &mut Program, fork: usize, (to_first, to_second): (usize, usize)) {
        if let Instruction::Fork { first, second, .. } = &mut program.instructions[fork] {
            (*first, *second) = (to_first, to_second);
        }
    }
}

/// The capturing groups of an expression.
fn groups(expr: &Expr) -> usize {
    usize::from(matches!(expr, Expr::Group(_))) + expr.children_iter().map(groups).sum::<usize>()
}

/// Makes of `([!?.])\1*`, which Galactica's tokenizer has, what a linear algorithm finds: `!+|\?+|\.+`. `expr` has one
/// group, so a back-reference behind it is to it.
fn spell_out_runs(expr: &mut Expr) {
    if let Expr::Concat(parts) = expr
        && let Some((at, runs)) =
            parts.windows(2).enumerate().find_map(|(at, pair)| Some((at, runs(&pair[0], &pair[1])?)))
    {
        parts.splice(at..at + 2, [runs]);
    }
    expr.children_iter_mut().for_each(spell_out_runs);
}

/// `(s)\1{lo,hi}` as `c{lo+1,hi+1}` for each character `c` of the set `s`, of which ASCII has all.
fn runs(group: &Expr, repeated: &Expr) -> Option<Expr> {
    let (Expr::Group(inner), Expr::Repeat { child, lo, hi, greedy }) = (group, repeated) else { return None };
    let (Expr::Delegate { inner, casei: false }, Expr::Backref { group: 1, casei: false }) = (&**inner, &**child)
    else {
        return None;
    };
    let set = class(inner, false).ok().filter(|set| set.ranges.is_empty())?;
    let run = |c: char| Expr::Repeat {
        child: Box::new(Expr::Literal { val: c.into(), casei: false }),
        lo: lo.saturating_add(1),
        hi: hi.saturating_add(1),
        greedy: *greedy,
    };
    Some(Expr::Alt(('\0'..='\x7f').filter(|&c| set.contains(c)).map(run).collect()))
}

fn linear(what: &str) -> String {
    format!("it uses {what}, which no linear algorithm finds")
}

/// The characters that `pattern`, a class or an escaped character, stands for.
fn class(pattern: &str, casei: bool) -> Result<Set, String> {
    let parsed = regex_syntax::ParserBuilder::new().case_insensitive(casei).build().parse(pattern);
    match parsed.map_err(|error| error.to_string())?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Ok(Set::new(class.iter().map(|range| (range.start(), range.end())))),
        HirKind::Class(Class::Bytes(class)) => {
            Ok(Set::new(class.iter().map(|range| (range.start() as char, range.end() as char))))
        }
        HirKind::Literal(literal) => match str::from_utf8(&literal.0).map(|text| text.chars().collect::<Vec<_>>()) {
            Ok(chars) if chars.len() == 1 => Ok(Set::new([(chars[0], chars[0])].into_iter())),
            _ => Err(format!("`{pattern}` is not one character")),
        },
        // A class of no characters.
        HirKind::Empty => Ok(Set::new(std::iter::empty())),
        _ => Err(format!("`{pattern}` is not one character")),
    }
}
