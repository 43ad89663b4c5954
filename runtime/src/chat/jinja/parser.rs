//! Statements.

use std::sync::Arc;

use super::ast::{Args, Expr, ExprKind, For, Macro, Statement, Target};
use super::error::{Error, Result, fail};
use super::lexer::{Token, tokens};

/// How deep blocks and brackets may be nested.
const MAX_NESTING: usize = 100;
/// How high the tree of an expression may be: `a.b.c` has three levels. jinja2 ends at about as many.
const MAX_HEIGHT: usize = 250;

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Vec<Statement>> {
    let tokens = tokens(source)?;
    let mut parser = Parser { tokens, at: 0, nesting: 0, loops: 0, uses: Uses::default() };
    let body = parser.body(&[]).map_err(|error| error.at(parser.line()))?;
    match parser.peek() {
        Token::End => Ok(body),
        token => Err(unexpected(token).at(parser.line())),
    }
}

/// Names that a macro's body uses.
#[derive(Clone, Copy, Default)]
pub(super) struct Uses {
    pub(super) varargs: bool,
    pub(super) kwargs: bool,
    pub(super) caller: bool,
}

pub(super) struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    nesting: usize,
    /// Loops around this place, for `break`.
    loops: usize,
    pub(super) uses: Uses,
}

pub(super) fn unexpected(token: &Token) -> Error {
    let what = match token {
        Token::Text(_) => "text".into(),
        Token::PrintStart => "`{{`".into(),
        Token::PrintEnd => "`}}`".into(),
        Token::BlockStart => "`{%`".into(),
        Token::BlockEnd => "`%}`".into(),
        Token::Name(name) => format!("`{name}`"),
        Token::Str(_) => "a string".into(),
        Token::Int(_) | Token::Float(_) => "a number".into(),
        Token::Operator(operator) => format!("`{operator}`"),
        Token::End => "the end of the template".into(),
    };
    Error::new(format!("unexpected {what}"))
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    pub(super) fn peek_next(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(token, _)| token)
    }

    pub(super) fn line(&self) -> usize {
        self.tokens[self.at].1
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    pub(super) fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), Token::Operator(o) if *o == operator)
    }

    pub(super) fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn expect_operator(&mut self, operator: &str) -> Result<()> {
        if self.skip_operator(operator) {
            Ok(())
        } else {
            fail!("{}, expected `{operator}`", unexpected(self.peek()).message)
        }
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(n) if n == name)
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn expect_name(&mut self) -> Result<String> {
        match self.next() {
            Token::Name(name) => Ok(name),
            token => Err(unexpected(&token)),
        }
    }

    fn expect(&mut self, token: &Token) -> Result<()> {
        if self.peek() == token {
            self.next();
            return Ok(());
        }
        Err(unexpected(self.peek()))
    }

    /// An expression of parts that are `height` high.
    pub(super) fn node(&self, kind: ExprKind, height: usize) -> Result<Expr> {
        if height >= MAX_HEIGHT {
            return fail!("an expression is nested more than {MAX_HEIGHT} levels deep");
        }
        Ok(Expr { kind: Box::new(kind), line: self.line(), height: height + 1 })
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Parser) -> Result<T>) -> Result<T> {
        if self.nesting >= MAX_NESTING {
            return fail!("blocks or brackets are nested more than {MAX_NESTING} levels deep");
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    /// Statements up to a tag of one of these names, which is next then (after its `{%`), or to the end.
    fn body(&mut self, ends: &[&str]) -> Result<Vec<Statement>> {
        let mut body = Vec::new();
        loop {
            match self.next() {
                Token::Text(text) => body.push(Statement::Text(text)),
                Token::PrintStart => {
                    let value = self.tuple(true, &[])?;
                    self.expect(&Token::PrintEnd)?;
                    body.push(Statement::Print(value));
                }
                Token::BlockStart => {
                    if matches!(self.peek(), Token::Name(name) if ends.contains(&name.as_str())) {
                        return Ok(body);
                    }
                    let line = self.line();
                    let statement = self.nested(|parser| parser.statement()).map_err(|error| error.at(self.line()))?;
                    let _ = line;
                    body.extend(statement);
                }
                Token::End if ends.is_empty() => return Ok(body),
                Token::End => return fail!("`{}` is missing", ends.last().unwrap_or(&"")),
                token => return Err(unexpected(&token)),
            }
        }
    }

    /// A body, its end tag and the `%}` of it.
    fn block(&mut self, end: &str) -> Result<Vec<Statement>> {
        self.expect(&Token::BlockEnd)?;
        let body = self.body(&[end])?;
        self.next();
        Ok(body)
    }

    fn statement(&mut self) -> Result<Vec<Statement>> {
        let name = self.expect_name()?;
        let statement = match name.as_str() {
            "if" => self.if_statement()?,
            "for" => self.for_statement()?,
            "set" => self.set_statement()?,
            "macro" => {
                let name = self.expect_name()?;
                Statement::Macro(Arc::new(self.macro_rest(name, "endmacro", |_| Ok(()))?.0))
            }
            "call" => {
                let (caller, call) = self.macro_rest("caller".into(), "endcall", |parser| parser.expression())?;
                if !matches!(*call.kind, ExprKind::Call(..)) {
                    return fail!("`call` wants a call");
                }
                Statement::Call { caller: Arc::new(caller), call }
            }
            "filter" => {
                let filter = self.filters(None)?;
                Statement::FilterBlock { filter, body: self.block("endfilter")? }
            }
            "with" => {
                let mut values = Vec::new();
                while !matches!(self.peek(), Token::BlockEnd) {
                    if !values.is_empty() {
                        self.expect_operator(",")?;
                    }
                    let target = self.target(false)?;
                    self.expect_operator("=")?;
                    values.push((target, self.expression()?));
                }
                Statement::With { values, body: self.block("endwith")? }
            }
            // Hugging Face's mark for what the assistant said, for training: here only a scope of its own.
            "generation" => {
                Statement::With { values: Vec::new(), body: self.outside_loops(|p| p.block("endgeneration"))? }
            }
            // Nothing is escaped, whatever a template says.
            "autoescape" => {
                self.expression()?;
                Statement::With { values: Vec::new(), body: self.block("endautoescape")? }
            }
            "block" => {
                self.expect_name()?;
                while !matches!(self.peek(), Token::BlockEnd) {
                    self.expect_name()?;
                }
                let body = self.outside_loops(|p| p.block("endblock"))?;
                if let Token::Name(_) = self.peek() {
                    self.next();
                }
                Statement::With { values: Vec::new(), body }
            }
            "print" => {
                let value = self.tuple(true, &[])?;
                self.expect(&Token::BlockEnd)?;
                return Ok(vec![Statement::Print(value)]);
            }
            "break" | "continue" if self.loops == 0 => return fail!("`{name}` outside of a loop"),
            "break" => Statement::Break,
            "continue" => Statement::Continue,
            _ => return fail!("unknown tag `{name}`"),
        };
        self.expect(&Token::BlockEnd)?;
        Ok(vec![statement])
    }

    fn outside_loops<T>(&mut self, parse: impl FnOnce(&mut Parser) -> Result<T>) -> Result<T> {
        let loops = std::mem::take(&mut self.loops);
        let parsed = parse(self);
        self.loops = loops;
        parsed
    }

    fn if_statement(&mut self) -> Result<Statement> {
        let (mut branches, mut otherwise) = (Vec::new(), Vec::new());
        loop {
            let condition = self.tuple(false, &[])?;
            self.expect(&Token::BlockEnd)?;
            branches.push((condition, self.body(&["elif", "else", "endif"])?));
            match self.expect_name()?.as_str() {
                "elif" => {}
                "else" => {
                    otherwise = self.block("endif")?;
                    break;
                }
                _ => break,
            }
        }
        Ok(Statement::If { branches, otherwise })
    }

    fn for_statement(&mut self) -> Result<Statement> {
        let line = self.line();
        let target = self.target(false)?;
        if !self.skip_name("in") {
            return fail!("{}, expected `in`", unexpected(self.peek()).message);
        }
        let items = self.tuple(false, &["recursive"])?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.expect(&Token::BlockEnd)?;
        self.loops += 1;
        let body = self.body(&["else", "endfor"]);
        self.loops -= 1;
        let body = body?;
        let otherwise = if self.expect_name()? == "else" { self.block("endfor")? } else { Vec::new() };
        Ok(Statement::For(Arc::new(For { target, items, condition, body, otherwise, recursive, line })))
    }

    fn set_statement(&mut self) -> Result<Statement> {
        let target = self.target(true)?;
        if self.skip_operator("=") {
            return Ok(Statement::Set(target, self.tuple(true, &[])?));
        }
        let filter = if self.is_operator("|") { Some(self.filters(None)?) } else { None };
        Ok(Statement::SetBlock { target, filter, body: self.block("endset")? })
    }

    /// The parameters and the body of a macro; `after` parses what stands between them.
    fn macro_rest<T>(
        &mut self,
        name: String,
        end: &str,
        after: impl FnOnce(&mut Parser) -> Result<T>,
    ) -> Result<(Macro, T)> {
        let mut parameters: Vec<(String, Option<Expr>)> = Vec::new();
        if self.skip_operator("(") {
            while !self.skip_operator(")") {
                if !parameters.is_empty() {
                    self.expect_operator(",")?;
                }
                let parameter = self.expect_name()?;
                let default = if self.skip_operator("=") { Some(self.expression()?) } else { None };
                if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                    return fail!("parameter `{parameter}` without a default after one with a default");
                }
                parameters.push((parameter, default));
            }
        } else if end == "endmacro" {
            return fail!("{}, expected `(`", unexpected(self.peek()).message);
        }
        let after = after(self)?;
        let around = std::mem::take(&mut self.uses);
        let body = self.outside_loops(|parser| parser.block(end))?;
        let Uses { varargs, kwargs, caller } = std::mem::replace(&mut self.uses, around);
        let definition =
            Macro { name, parameters, body, takes_varargs: varargs, takes_kwargs: kwargs, takes_caller: caller };
        Ok((definition, after))
    }

    /// Names that are assigned to.
    fn target(&mut self, with_members: bool) -> Result<Target> {
        let first = self.target_part(with_members)?;
        if !self.is_operator(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_operator(",") {
            if self.is_operator("=") || self.is_name("in") {
                break;
            }
            targets.push(self.target_part(with_members)?);
        }
        Ok(Target::Tuple(targets))
    }

    fn target_part(&mut self, with_members: bool) -> Result<Target> {
        if self.skip_operator("(") {
            let target = self.nested(|parser| parser.target(with_members))?;
            self.expect_operator(")")?;
            return Ok(target);
        }
        let name = self.expect_name()?;
        if ["true", "false", "none", "True", "False", "None"].contains(&name.as_str()) {
            return fail!("can't assign to `{name}`");
        }
        if with_members && self.skip_operator(".") {
            return Ok(Target::Member(name, self.expect_name()?));
        }
        Ok(Target::Name(name))
    }

    /// Filters of a block, the bar before the first of them or not.
    pub(super) fn filters(&mut self, mut value: Option<Expr>) -> Result<Expr> {
        self.skip_operator("|");
        loop {
            let mut name = self.expect_name()?;
            while self.skip_operator(".") {
                name = format!("{name}.{}", self.expect_name()?);
            }
            let args = if self.is_operator("(") { self.args()? } else { Args::default() };
            let height = value.as_ref().map_or(0, |value| value.height).max(height_of(&args));
            let filter = self.node(ExprKind::Filter(value, name, args), height)?;
            if !self.skip_operator("|") {
                return Ok(filter);
            }
            value = Some(filter);
        }
    }
}

pub(super) fn height_of(args: &Args) -> usize {
    let named = args.named.iter().map(|(_, value)| value);
    let all = args.positional.iter().chain(named).chain(&args.more).chain(&args.more_named);
    all.map(|value| value.height).max().unwrap_or(0)
}
