//! What an answer says, what was thought before it, and what it calls, put together as it is read.

use quipu_runtime::chat::answer::{AnswerReader, Delta};
use quipu_runtime::generate::StopReason;

use crate::mcp::hosted::Outcome;
use crate::random;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What it says.
    Text(String),
    /// What was thought.
    Thought(String),
    /// The call of a tool.
    Call(Call),
}

/// The call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// By which its result is told apart.
    pub id: String,
    /// What is called.
    pub name: String,
    /// The text of a JSON object, if the call is complete.
    pub arguments: String,
    /// Whether it is: not as long as it is being written, nor if the text broke off.
    pub complete: bool,
    /// What came of it, if the server has run it.
    pub outcome: Option<Outcome>,
    /// The id of the request by which the client has agreed to it, if it was asked.
    pub approval: Option<String>,
}

impl Call {
    /// A call of this tool, without arguments so far.
    pub fn new(name: impl Into<String>) -> Call {
        let (id, name, arguments) = (random::id("call_"), name.into(), String::new());
        Call { id, name, arguments, complete: false, outcome: None, approval: None }
    }
}

/// What is new, and to which part it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The part's number.
    pub part: usize,
    /// What is new.
    pub delta: Delta,
}

/// An answer as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Nothing reads texts that are no answers.
    reader: Option<AnswerReader>,
    /// Its parts, in order.
    pub parts: Vec<Part>,
    /// Whether what comes next is a part of its own, whatever came before.
    apart: bool,
}

impl Said {
    /// Nothing so far.
    pub fn new(reader: AnswerReader) -> Said {
        Said { reader: Some(reader), ..Said::default() }
    }

    /// More text has come.
    pub fn hear(&mut self, text: &str) -> Vec<Change> {
        let Some(reader) = &mut self.reader else { return Vec::new() };
        let pieces = reader.push(text);
        pieces.into_iter().map(|piece| self.add(piece.delta)).collect()
    }

    /// Nothing more comes.
    pub fn end(&mut self, stop: StopReason) -> Vec<Change> {
        let Some(reader) = self.reader.take() else { return Vec::new() };
        // A stop string cuts a text like a limit: the model would have gone on.
        let pieces = reader.finish(stop != StopReason::End);
        pieces.into_iter().map(|piece| self.add(piece.delta)).collect()
    }

    /// Another text begins, which goes on with the answer.
    pub fn go_on(&mut self, reader: AnswerReader) {
        (self.reader, self.apart) = (Some(reader), true);
    }

    /// Begins with a call that was made before.
    pub fn call_of_before(&mut self, call: Call) -> Vec<Change> {
        let part = self.parts.len();
        let (name, arguments) = (call.name.clone(), call.arguments.clone());
        self.parts.push(Part::Call(call));
        let deltas = [Delta::Begin { name }, Delta::Arguments(arguments), Delta::End { complete: true }];
        deltas.map(|delta| Change { part, delta }).into()
    }

    /// Part number `part`, a call, was run.
    pub fn called(&mut self, part: usize, outcome: Outcome) {
        if let Some(Part::Call(call)) = self.parts.get_mut(part) {
            call.outcome = Some(outcome);
        }
    }

    fn add(&mut self, delta: Delta) -> Change {
        let apart = std::mem::take(&mut self.apart);
        match (&delta, self.parts.last_mut().filter(|_| !apart)) {
            (Delta::Content(more), Some(Part::Text(text))) | (Delta::Reasoning(more), Some(Part::Thought(text))) => {
                text.push_str(more);
            }
            (Delta::Content(text), _) => self.parts.push(Part::Text(text.clone())),
            (Delta::Reasoning(text), _) => self.parts.push(Part::Thought(text.clone())),
            (Delta::Begin { name }, _) => {
                self.parts.push(Part::Call(Call::new(name)));
            }
            (Delta::Arguments(more), Some(Part::Call(call))) => call.arguments.push_str(more),
            (Delta::End { complete }, Some(Part::Call(call))) => call.complete = *complete,
            (Delta::Arguments(_) | Delta::End { .. }, _) => unreachable!("they come after the beginning of a call"),
        }
        Change { part: self.parts.len() - 1, delta }
    }

    /// All that it says.
    pub fn text(&self) -> String {
        self.parts
            .iter()
            .filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
            .collect()
    }

    /// All that was thought.
    pub fn thought(&self) -> String {
        let thought = |part: &'_ Part| if let Part::Thought(text) = part { Some(text.clone()) } else { None };
        self.parts.iter().filter_map(thought).collect()
    }

    /// Whether it breaks off within a call.
    pub fn is_cut_in_a_call(&self) -> bool {
        matches!(self.parts.last(), Some(Part::Call(call)) if !call.complete)
    }

    /// All that it calls.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.parts.iter().filter_map(|part| if let Part::Call(call) = part { Some(call) } else { None })
    }

    /// The call that part number `part` is, and how many come before it.
    pub fn call(&self, part: usize) -> Option<(usize, &Call)> {
        match &self.parts[part] {
            Part::Call(call) => {
                Some((self.parts[..part].iter().filter(|part| matches!(part, Part::Call(_))).count(), call))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use quipu_runtime::chat::answer::{ReadOptions, Tool};

    use super::*;

    #[test]
    fn parts_follow_each_other() {
        let tool = Tool { name: "f".into(), description: None, parameters: serde_json::Value::Null, strict: false };
        let options = ReadOptions { tools: [tool].into(), ..ReadOptions::default() };
        let mut said = Said::new(AnswerReader::new(options, ""));
        let call = "{\"name\": \"f\", \"parameters\": {\"x\": 1}}";
        let text = format!("<think>Hm.</think>One\n{call}\nTwo\n{call}");
        let mut changes: Vec<Change> = text.split_inclusive(' ').flat_map(|piece| said.hear(piece)).collect();
        changes.extend(said.end(StopReason::End));
        assert_eq!((said.thought(), said.text()), ("Hm.".into(), "One\nTwo\n".into()));
        let calls: Vec<&Call> = said.calls().collect();
        assert!(calls.len() == 2 && calls.iter().all(|call| call.complete && call.arguments == "{\"x\":1}"));
        assert_ne!(calls[0].id, calls[1].id);
        assert_eq!(said.call(4), Some((1, calls[1])));
        assert!(changes.is_sorted_by_key(|change| change.part) && changes.last().unwrap().part == 4);
    }
}
