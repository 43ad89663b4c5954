//! How calls begin: every form that models write, up to where the arguments are.

use serde_json::{Map, Value as Json};

use super::cursor::{Cursor, Scan, Stop};
use super::literal::{items, string, value};
use super::tool::Tool;

/// What Llama 3.1 calls a tool that takes Python as it is, and what others call it.
const INTERPRETERS: [&str; 3] = ["code_interpreter", "python", "ipython"];

/// The beginning of a call, or whole calls.
#[derive(Debug)]
pub(super) struct Opening {
    /// Its bytes.
    pub(super) used: usize,
    /// What has been opened around it, the outermost first, by what closes it.
    pub(super) closers: Vec<&'static str>,
    pub(super) then: Then,
}

/// What was found. Tools are told by their places among those declared.
#[derive(Debug)]
pub(super) enum Then {
    /// A call whose arguments, an object, come next; so many objects around them are open.
    Arguments { tool: usize, depth: usize },
    /// Calls with all their arguments.
    Calls(Vec<(usize, Map<String, Json>)>),
    /// A call of an interpreter, whose program is the rest of the text.
    Code { tool: usize },
}

/// Where in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the beginning, at the beginning of a line, or after another call.
    Line,
    /// Amid other text: only marks that nobody writes by chance begin a call there.
    Within,
}

/// What begins here.
pub(super) fn opening(text: &str, last: bool, tools: &[Tool], place: Place) -> Scan<Opening> {
    let cursor = Cursor::new(text, last);
    let forms = Forms { tools };
    let line = place == Place::Line;
    match cursor.peek()? {
        '<' => first_of([forms.python_tag(cursor.clone()), forms.tool_call(cursor.clone()), forms.function(cursor)]),
        '[' if line => first_of([forms.mistral(cursor.clone()), forms.list(cursor, false)]),
        '[' => forms.mistral(cursor),
        '{' if line => forms.object(cursor, false),
        '`' if line => forms.fence(cursor),
        _ if line => forms.built_in(&cursor),
        _ => Err(Stop::No),
    }
}

/// The first form that fits. Of none it is certain while one of them may.
fn first_of(forms: impl IntoIterator<Item = Scan<Opening>>) -> Scan<Opening> {
    let mut stop = Stop::No;
    for form in forms {
        match form {
            Err(Stop::No) => {}
            Err(Stop::More) => stop = Stop::More,
            found => return found,
        }
    }
    Err(stop)
}

fn found(cursor: &Cursor<'_>, then: Then) -> Opening {
    Opening { used: cursor.at, closers: Vec::new(), then }
}

/// The same, and `closer` closes what is around all of it.
fn within(closer: &'static str, mut opening: Opening) -> Opening {
    opening.closers.insert(0, closer);
    opening
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[derive(Clone, Copy)]
struct Forms<'t> {
    tools: &'t [Tool],
}

impl Forms<'_> {
    fn tool(self, name: &str) -> Scan<usize> {
        self.tools.iter().position(|tool| tool.name == name).ok_or(Stop::No)
    }

    /// `<|python_tag|>` and any form, or a program.
    fn python_tag(self, mut cursor: Cursor<'_>) -> Scan<Opening> {
        cursor.eat("<|python_tag|>")?;
        let form = match self.marked(&mut cursor) {
            Err(Stop::No) => self.expression(cursor.clone()),
            form => form,
        };
        let interpreter = || INTERPRETERS.iter().find_map(|name| self.tool(name).ok());
        match (form, interpreter()) {
            (Err(Stop::No), Some(tool)) => Ok(found(&cursor, Then::Code { tool })),
            (form, _) => form,
        }
    }

    /// `<tool_call>` and an object or a list.
    fn tool_call(self, mut cursor: Cursor<'_>) -> Scan<Opening> {
        cursor.eat("<tool_call>")?;
        Ok(within("</tool_call>", self.marked(&mut cursor)?))
    }

    /// What may stand after a mark that says that there is a call. The cursor is left where that begins.
    fn marked(self, cursor: &mut Cursor<'_>) -> Scan<Opening> {
        match cursor.after_space()? {
            '{' => self.object(cursor.clone(), true),
            '[' => self.list(cursor.clone(), true),
            '`' => self.fence(cursor.clone()),
            '<' => self.function(cursor.clone()),
            _ => Err(Stop::No),
        }
    }

    /// `<function=name>{…}</function>`.
    fn function(self, mut cursor: Cursor<'_>) -> Scan<Opening> {
        const END: &str = "</function>";
        cursor.eat("<function=")?;
        let tool = self.tool(cursor.word(|c| c != '>' && !c.is_whitespace())?.trim_matches('"'))?;
        cursor.eat(">")?;
        match cursor.after_space()? {
            '{' => Ok(within(END, found(&cursor, Then::Arguments { tool, depth: 0 }))),
            _ => {
                cursor.eat(END)?;
                Ok(found(&cursor, Then::Calls(vec![(tool, Map::new())])))
            }
        }
    }

    /// `[TOOL_CALLS]` and a list, or a name and its arguments.
    fn mistral(self, mut cursor: Cursor<'_>) -> Scan<Opening> {
        cursor.eat("[TOOL_CALLS]")?;
        match cursor.after_space()? {
            '{' => return self.object(cursor, true),
            '[' => return self.list(cursor, true),
            _ => {}
        }
        let tool = self.tool(cursor.word(is_name)?)?;
        if cursor.after_space()? == '[' {
            let mut id = cursor.clone();
            match id.eat("[CALL_ID]") {
                Ok(()) => {
                    id.word(char::is_alphanumeric)?;
                    cursor = id;
                }
                Err(Stop::More) => return Err(Stop::More),
                Err(Stop::No) => {}
            }
            cursor.eat("[ARGS]")?;
        }
        match cursor.after_space()? {
            '{' => Ok(found(&cursor, Then::Arguments { tool, depth: 0 })),
            _ => Err(Stop::No),
        }
    }

    /// An object or a list in a block of code.
    fn fence(self, mut cursor: Cursor<'_>) -> Scan<Opening> {
        const FENCE: &str = "```";
        cursor.eat(FENCE)?;
        cursor.word(is_name)?;
        cursor.skip(|c| c == ' ' || c == '\r');
        cursor.eat("\n")?;
        match cursor.after_space()? {
            '{' => Ok(within(FENCE, self.object(cursor, false)?)),
            '[' => Ok(within(FENCE, self.list(cursor, false)?)),
            _ => Err(Stop::No),
        }
    }

    /// `[`, and objects or calls as Python has them.
    fn list(self, mut cursor: Cursor<'_>, marked: bool) -> Scan<Opening> {
        let mut inner = cursor.clone();
        inner.at += 1;
        if inner.after_space()? == '{' {
            return Ok(within("]", self.object(inner, marked)?));
        }
        let mut calls = Vec::new();
        items(&mut cursor, ']', |cursor| {
            calls.push(self.call(cursor)?);
            Ok(())
        })?;
        if calls.is_empty() { Err(Stop::No) } else { Ok(found(&cursor, Then::Calls(calls))) }
    }

    /// A call as Python has it, without brackets around it.
    fn expression(self, mut cursor: Cursor<'_>) -> Scan<Opening> {
        let call = self.call(&mut cursor)?;
        Ok(found(&cursor, Then::Calls(vec![call])))
    }

    /// `name.call(…)`, which needs no mark.
    fn built_in(self, cursor: &Cursor<'_>) -> Scan<Opening> {
        first_of(self.tools.iter().map(|tool| {
            cursor.clone().eat(&format!("{}.call(", tool.name))?;
            self.expression(cursor.clone())
        }))
    }

    /// `name(key=value, …)`. Values without a key are the arguments in the order of the schema.
    fn call(self, cursor: &mut Cursor<'_>) -> Scan<(usize, Map<String, Json>)> {
        cursor.after_space()?;
        let name = cursor.word(is_name)?;
        let tool = self.tool(name).or_else(|_| self.tool(name.strip_suffix(".call").unwrap_or(name)))?;
        if cursor.after_space()? != '(' {
            return Err(Stop::No);
        }
        let mut arguments = Map::new();
        items(cursor, ')', |cursor| {
            let mut keyword = cursor.clone();
            let key = keyword.word(|c| c.is_alphanumeric() || c == '_')?;
            let key = if !key.is_empty() && keyword.after_space()? == '=' {
                keyword.at += 1;
                *cursor = keyword;
                key
            } else {
                self.tools[tool].argument(arguments.len()).ok_or(Stop::No)?
            };
            arguments.insert(key.to_string(), value(cursor)?);
            Ok(())
        })?;
        Ok((tool, arguments))
    }

    /// `{"name": …, "parameters": {…}}`. Where a call is `marked` as one, it may have no arguments.
    fn object(self, mut cursor: Cursor<'_>, marked: bool) -> Scan<Opening> {
        let (mut tool, mut arguments) = (None, None);
        let mut depth = 1;
        cursor.at += 1;
        while depth > 0 {
            match cursor.after_space()? {
                '}' => {
                    depth -= 1;
                    cursor.at += 1;
                    continue;
                }
                ',' => {
                    cursor.at += 1;
                    continue;
                }
                _ => {}
            }
            let key = string(&mut cursor)?;
            cursor.after_space()?;
            cursor.eat(":")?;
            let next = cursor.after_space()?;
            match (key.as_str(), tool) {
                ("function", None) if next == '{' => {
                    depth += 1;
                    cursor.at += 1;
                }
                ("name" | "function", None) => tool = Some(self.tool(&string(&mut cursor)?)?),
                ("parameters" | "arguments", Some(tool)) if next == '{' && arguments.is_none() => {
                    return Ok(found(&cursor, Then::Arguments { tool, depth }));
                }
                ("parameters" | "arguments", _) if arguments.is_none() => {
                    arguments = Some(object_of(value(&mut cursor)?)?);
                }
                ("type", _) => cursor.eat("\"function\"")?,
                ("id", _) => drop(string(&mut cursor)?),
                _ => return Err(Stop::No),
            }
        }
        let arguments = if marked { Some(arguments.unwrap_or_default()) } else { arguments };
        let call = (tool.ok_or(Stop::No)?, arguments.ok_or(Stop::No)?);
        Ok(found(&cursor, Then::Calls(vec![call])))
    }
}

/// Arguments: an object, or its text, or nothing.
fn object_of(arguments: Json) -> Scan<Map<String, Json>> {
    match arguments {
        Json::Object(map) => Ok(map),
        Json::Null => Ok(Map::new()),
        Json::String(text) if text.trim().is_empty() => Ok(Map::new()),
        Json::String(text) => serde_json::from_str(&text).map_err(|_| Stop::No),
        _ => Err(Stop::No),
    }
}
