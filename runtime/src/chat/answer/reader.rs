//! From the text of an answer, piece by piece, to what it is.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::arguments::Arguments;
use super::coerce::coerce;
use super::cursor::{Cursor, Scan, Stop};
use super::delta::{Delta, Piece};
use super::opening::{Opening, Place, Then, opening};
use super::tail::{after_separators, closed, rest_of_objects};
use super::thinking::{MARKS, Marks, begun, certain, opened_by};
use super::tool::Tool;

/// Bytes that are held back and looked at anew with every piece. Of more, an eighth has to come first, so that the time
/// that it takes is in proportion to the text.
const LOOKED_AT_ANEW: usize = 4096;

/// How an answer is read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The tools that may be called. What calls another one is content.
    pub tools: Arc<[Tool]>,
    /// Whether there may be several calls; otherwise what comes after the first is content.
    pub parallel: bool,
    /// Whether thoughts are told apart; otherwise they are content with their marks. No call is looked for in either.
    pub thinking: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { tools: Arc::new([]), parallel: true, thinking: true }
    }
}

/// Reads an answer. In which pieces its text comes makes no difference.
///
/// ```
/// use quipu_runtime::chat::answer::{AnswerReader, Delta, ReadOptions, Tool};
///
/// let tool = Tool { name: "time".into(), description: None, parameters: serde_json::Value::Null, strict: false };
/// let mut reader = AnswerReader::new(ReadOptions { tools: [tool].into(), ..ReadOptions::default() }, "");
/// assert_eq!(reader.push("Well.\n{\"name\": \"ti")[0].delta, Delta::Content("Well.\n".into()));
/// let call = reader.push("me\", \"parameters\": {\"zone\": \"UTC\"}}");
/// assert_eq!(call[0].delta, Delta::Begin { name: "time".into() });
/// assert_eq!(call.last().unwrap().delta, Delta::End { complete: true });
/// assert!(reader.finish(false).is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct AnswerReader {
    options: ReadOptions,
    /// Text that is being looked at; what stands before `start` is done with.
    buffer: String,
    start: usize,
    /// Bytes of the text that are not in the buffer any more.
    gone: usize,
    state: State,
    /// Whether what comes next begins a line.
    line: bool,
    /// Calls so far.
    calls: usize,
    /// Until so many bytes are held, nothing new can be found.
    patience: usize,
    out: Vec<Piece>,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It may begin with thoughts, or not.
    Beginning,
    /// Among thoughts.
    Thinking,
    /// After them, or without any.
    Answering,
}

#[derive(Clone, Debug)]
enum State {
    /// At the beginning.
    Start,
    /// Among thoughts, or right before them.
    Thinking { marks: Marks, begun: bool },
    /// After thoughts.
    Thought,
    /// In text.
    Content,
    /// In the arguments of a call.
    Arguments { arguments: Arguments, depth: usize, closers: Vec<&'static str> },
    /// In what should have been arguments.
    Broken,
    /// In a program.
    Code,
    /// In the objects around arguments.
    Tail { depth: usize, closers: Vec<&'static str> },
    /// After a call.
    Between { closers: Vec<&'static str> },
}

impl AnswerReader {
    /// For the answer to `prompt`, whose end may have begun it: some templates open the thoughts themselves. The last
    /// few tokens of it are enough.
    pub fn new(options: ReadOptions, prompt: &str) -> AnswerReader {
        let state = match opened_by(prompt) {
            Some(marks) => State::Thinking { marks, begun: false },
            None => State::Start,
        };
        AnswerReader {
            options,
            buffer: String::new(),
            start: 0,
            gone: 0,
            state,
            line: true,
            calls: 0,
            patience: 0,
            out: Vec::new(),
        }
    }

    /// How far the answer has come.
    pub fn stage(&self) -> Stage {
        match self.state {
            State::Start => Stage::Beginning,
            State::Thinking { .. } => Stage::Thinking,
            _ => Stage::Answering,
        }
    }

    /// Takes more of the text; gives out what it makes certain.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.buffer.push_str(text);
        if self.buffer.len() >= self.patience {
            self.run(false);
        }
        std::mem::take(&mut self.out)
    }

    /// Takes the end of the text; gives out what was held back. `cut` says that the model did not end it: then a call
    /// whose arguments lack nothing but a brace is not complete.
    pub fn finish(mut self, cut: bool) -> Vec<Piece> {
        self.run(true);
        match &self.state {
            State::Arguments { arguments, .. } if arguments.may_end() && !cut => {
                self.give(self.buffer.len() - self.start, Delta::Arguments("}".into()));
                self.give(0, Delta::End { complete: true });
            }
            State::Code if !cut => {
                self.give(0, Delta::Arguments("\"}".into()));
                self.give(0, Delta::End { complete: true });
            }
            State::Arguments { .. } | State::Broken | State::Code => self.give(0, Delta::End { complete: false }),
            _ => {}
        }
        self.out
    }

    fn run(&mut self, last: bool) {
        while self.start < self.buffer.len() && self.step(last).is_ok() {}
        self.buffer.drain(..self.start);
        self.gone += self.start;
        self.start = 0;
        let held = self.buffer.len();
        self.patience = if held > LOOKED_AT_ANEW { held + held / 8 } else { 0 };
    }

    /// Gives out `delta` for the next bytes.
    fn give(&mut self, bytes: usize, delta: Delta) {
        self.start += bytes;
        self.out.push(Piece { delta, end: self.gone + self.start });
    }

    fn content(&mut self, bytes: usize) {
        if bytes > 0 {
            let text = self.buffer[self.start..self.start + bytes].to_string();
            self.line = text.ends_with('\n');
            self.give(bytes, Delta::Content(text));
        }
    }

    /// Does one thing with the text that is there. [`Stop::More`] when it has to wait.
    fn step(&mut self, last: bool) -> Scan<()> {
        match &self.state {
            State::Start => self.start(last),
            State::Thinking { marks, begun } => {
                let (marks, begun) = (*marks, *begun);
                if self.options.thinking { self.think(marks, begun, last) } else { self.think_aloud(marks, last) }
            }
            State::Thought => {
                let white = spaces(self.text());
                if self.options.thinking {
                    self.start += white
                } else {
                    self.content(white)
                }
                if self.text().is_empty() { Ok(()) } else { self.begin(0, last) }
            }
            State::Content => self.find_call(last),
            State::Arguments { .. } => self.read_arguments(last),
            State::Broken => {
                let rest = self.text().to_string();
                self.give(rest.len(), Delta::Arguments(rest));
                Ok(())
            }
            State::Code => {
                let rest = Json::from(self.text()).to_string();
                self.give(self.buffer.len() - self.start, Delta::Arguments(rest[1..rest.len() - 1].to_string()));
                Ok(())
            }
            State::Tail { depth, .. } => {
                let used = match rest_of_objects(self.text(), last, *depth) {
                    Err(Stop::No) => 0,
                    used => used?,
                };
                self.start += used;
                let State::Tail { closers, .. } = std::mem::replace(&mut self.state, State::Content) else {
                    unreachable!("it was looked at")
                };
                self.state = State::Between { closers };
                Ok(())
            }
            State::Between { closers } => {
                let closers = closers.clone();
                self.go_on(closers, last)
            }
        }
    }

    fn text(&self) -> &str {
        &self.buffer[self.start..]
    }

    fn start(&mut self, last: bool) -> Scan<()> {
        let text = self.text();
        let white = spaces(text);
        if white == text.len() {
            return self.wait(last);
        }
        for marks in MARKS {
            let mut cursor = Cursor::new(&text[white..], last);
            match cursor.eat(marks.open) {
                Ok(()) => {
                    let used = white + cursor.at;
                    if self.options.thinking {
                        self.start += used
                    } else {
                        self.content(used)
                    }
                    self.state = State::Thinking { marks, begun: false };
                    return Ok(());
                }
                Err(Stop::More) => return Err(Stop::More),
                Err(Stop::No) => {}
            }
        }
        self.begin(white, last)
    }

    /// Waits for more; at the end, what is there is content.
    fn wait(&mut self, last: bool) -> Scan<()> {
        if !last {
            return Err(Stop::More);
        }
        self.content(self.buffer.len() - self.start);
        Ok(())
    }

    /// What the answer begins with, after so many bytes of white space.
    fn begin(&mut self, white: usize, last: bool) -> Scan<()> {
        match self.opening(white, last, Place::Line) {
            Ok(opening) => {
                self.start += white;
                self.enter(opening, Vec::new());
            }
            Err(Stop::More) => return Err(Stop::More),
            Err(Stop::No) => {
                self.line = true;
                self.state = State::Content;
            }
        }
        Ok(())
    }

    fn think(&mut self, marks: Marks, begun: bool, last: bool) -> Scan<()> {
        let text = self.text();
        if !begun {
            let white = spaces(text);
            if white == text.len() {
                self.start += white;
                return Ok(());
            }
            let mut cursor = Cursor::new(&text[white..], last);
            match cursor.eat(marks.open) {
                // A model may open what the template has opened already.
                Ok(()) => self.start += white + cursor.at,
                Err(Stop::More) => return Err(Stop::More),
                Err(Stop::No) => {
                    self.start += white;
                    self.state = State::Thinking { marks, begun: true };
                }
            }
            return Ok(());
        }
        let close = text.find(marks.close);
        let bytes = match close {
            Some(end) => text[..end].trim_end().len(),
            None if last => text.len(),
            None => certain(text, marks.close),
        };
        if bytes > 0 {
            let thought = text[..bytes].to_string();
            self.give(bytes, Delta::Reasoning(thought));
        }
        match close {
            Some(end) => {
                self.start += end - bytes + marks.close.len();
                self.state = State::Thought;
                Ok(())
            }
            None => Err(Stop::More),
        }
    }

    /// Thoughts that are content, up to the end of the mark that closes them.
    fn think_aloud(&mut self, marks: Marks, last: bool) -> Scan<()> {
        let text = self.text();
        match text.find(marks.close) {
            Some(end) => {
                self.content(end + marks.close.len());
                self.state = State::Thought;
                Ok(())
            }
            None => {
                let bytes = if last { text.len() } else { text.len() - begun(text, marks.close) };
                self.content(bytes);
                Err(Stop::More)
            }
        }
    }

    /// The opening at this many bytes from here, if calls are looked for.
    fn opening(&self, at: usize, last: bool, place: Place) -> Scan<Opening> {
        let tools = &self.options.tools;
        if tools.is_empty() || self.calls > 0 && !self.options.parallel {
            return Err(Stop::No);
        }
        match opening(&self.text()[at..], last, tools, place)? {
            Opening { then: Then::Calls(calls), .. } if calls.len() > 1 && !self.options.parallel => Err(Stop::No),
            opening => Ok(opening),
        }
    }

    /// Gives out text up to the next call.
    fn find_call(&mut self, last: bool) -> Scan<()> {
        let bytes = self.text().as_bytes();
        let length = bytes.len();
        for at in 0..length {
            let is_line = if at == 0 { self.line } else { bytes[at - 1] == b'\n' };
            let place = match bytes[at] {
                _ if is_line => Place::Line,
                b'<' | b'[' => Place::Within,
                _ => continue,
            };
            match self.opening(at, last, place) {
                Err(Stop::No) => {}
                Err(Stop::More) => {
                    self.content(at);
                    return Err(Stop::More);
                }
                Ok(opening) => {
                    self.content(at);
                    self.enter(opening, Vec::new());
                    return Ok(());
                }
            }
        }
        self.content(length);
        Ok(())
    }

    /// Begins what was found, or tells it if it is all there. `around` is open already.
    fn enter(&mut self, opening: Opening, mut around: Vec<&'static str>) {
        self.start += opening.used;
        around.extend(opening.closers);
        self.state = match opening.then {
            Then::Arguments { tool, depth } => {
                self.call(tool);
                State::Arguments { arguments: Arguments::new(tool), depth, closers: around }
            }
            Then::Code { tool } => {
                self.call(tool);
                let argument = self.options.tools[tool].argument(0).unwrap_or("code");
                let text = format!("{{{}:\"", Json::from(argument));
                self.give(0, Delta::Arguments(text));
                State::Code
            }
            Then::Calls(calls) => {
                for (tool, arguments) in calls {
                    self.call(tool);
                    self.give(0, Delta::Arguments(self.coerced(tool, arguments)));
                    self.give(0, Delta::End { complete: true });
                }
                State::Between { closers: around }
            }
        };
    }

    fn call(&mut self, tool: usize) {
        self.calls += 1;
        let name = self.options.tools[tool].name.clone();
        self.give(0, Delta::Begin { name });
    }

    fn coerced(&self, tool: usize, arguments: Map<String, Json>) -> String {
        let tool = &self.options.tools[tool];
        coerce(arguments.into(), &tool.parameters, !tool.strict).to_string()
    }

    fn read_arguments(&mut self, last: bool) -> Scan<()> {
        let State::Arguments { arguments, depth, closers } = &mut self.state else { return Ok(()) };
        let tool = &self.options.tools[arguments.tool];
        let text = &self.buffer[self.start..];
        let progress = match arguments.step(text, last, tool) {
            // White space is all that is left, and a brace may be all that is missing.
            Err(Stop::No) if arguments.may_end() && text.trim().is_empty() => return Err(Stop::More),
            Err(Stop::No) => {
                self.state = State::Broken;
                return Ok(());
            }
            progress => progress?,
        };
        if progress.done {
            self.state = State::Tail { depth: *depth, closers: std::mem::take(closers) };
        }
        if progress.text.is_empty() {
            self.start += progress.used;
        } else {
            self.give(progress.used, Delta::Arguments(progress.text));
        }
        if progress.done {
            self.give(0, Delta::End { complete: true });
        }
        Ok(())
    }

    /// After a call: another one, the end of what is around it, or text.
    fn go_on(&mut self, mut closers: Vec<&'static str>, last: bool) -> Scan<()> {
        let between = after_separators(self.text());
        let next = &self.text()[between..];
        if next.is_empty() {
            if !last {
                return Err(Stop::More);
            }
            self.start += between;
            return Ok(());
        }
        let close = closed(next, last, &closers);
        match self.opening(between, last, Place::Line) {
            _ if close.is_ok() => {
                let (place, bytes) = close?;
                closers.truncate(place);
                self.start += between + bytes;
                self.state = State::Between { closers };
            }
            Ok(opening) => {
                self.start += between;
                self.enter(opening, closers);
            }
            Err(Stop::No) if close.is_err_and(|stop| stop == Stop::No) => {
                // A line break after the call is none of the text, but anything else is.
                self.start += spaces(self.text());
                self.line = true;
                self.state = State::Content;
            }
            Err(_) => return Err(Stop::More),
        }
        Ok(())
    }
}

/// Bytes of white space at the beginning.
fn spaces(text: &str) -> usize {
    text.len() - text.trim_start().len()
}
