//! Expressions, by jinja2's grammar: what binds closer stands further down.

use super::ast::{Args, Binary, Compare, Expr, ExprKind, Unary};
use super::error::{Result, fail};
use super::lexer::Token;
use super::parser::{Parser, height_of, unexpected};

impl Parser {
    /// An expression or several with commas between them, which are a tuple.
    pub(super) fn tuple(&mut self, with_conditional: bool, ends: &[&str]) -> Result<Expr> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let ended = match self.peek() {
                Token::PrintEnd | Token::BlockEnd | Token::Operator(")") | Token::Operator("=") => true,
                Token::Name(name) => ends.contains(&name.as_str()),
                _ => false,
            };
            if ended {
                break;
            }
            items.push(if with_conditional { self.expression()? } else { self.nested(Parser::or)? });
            if !self.skip_operator(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(item) if !is_tuple => Ok(item),
            Some(item) => {
                items.push(item);
                let height = highest(&items);
                self.node(ExprKind::Tuple(items), height)
            }
            None => Err(unexpected(self.peek())),
        }
    }

    /// One expression.
    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.nested(Parser::conditional)
    }

    fn conditional(&mut self) -> Result<Expr> {
        let mut value = self.or()?;
        while self.skip_name("if") {
            let condition = self.or()?;
            let other = if self.skip_name("else") { Some(self.expression()?) } else { None };
            let height = value.height.max(condition.height).max(other.as_ref().map_or(0, |other| other.height));
            value = self.node(ExprKind::Conditional { value, condition, other }, height)?;
        }
        Ok(value)
    }

    fn binary(&mut self, left: Expr, operator: Binary, right: Expr) -> Result<Expr> {
        let height = left.height.max(right.height);
        self.node(ExprKind::Binary(operator, left, right), height)
    }

    pub(super) fn or(&mut self) -> Result<Expr> {
        let mut left = self.and()?;
        while self.skip_name("or") {
            let right = self.and()?;
            left = self.binary(left, Binary::Or, right)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let mut left = self.not()?;
        while self.skip_name("and") {
            let right = self.not()?;
            left = self.binary(left, Binary::And, right)?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr> {
        if !self.is_name("not") || matches!(self.peek_next(), Token::Name(name) if name == "in") {
            return self.compare();
        }
        self.next();
        let value = self.nested(Parser::not)?;
        let height = value.height;
        self.node(ExprKind::Unary(Unary::Not, value), height)
    }

    fn compare(&mut self) -> Result<Expr> {
        let first = self.sum()?;
        let mut others = Vec::new();
        loop {
            let operator = match self.peek() {
                Token::Operator("==") => Compare::Eq,
                Token::Operator("!=") => Compare::Ne,
                Token::Operator("<") => Compare::Lt,
                Token::Operator("<=") => Compare::Le,
                Token::Operator(">") => Compare::Gt,
                Token::Operator(">=") => Compare::Ge,
                Token::Name(name) if name == "in" => Compare::In,
                Token::Name(name) if name == "not" && matches!(self.peek_next(), Token::Name(n) if n == "in") => {
                    self.next();
                    Compare::NotIn
                }
                _ => break,
            };
            self.next();
            others.push((operator, self.sum()?));
        }
        if others.is_empty() {
            return Ok(first);
        }
        let height = others.iter().map(|(_, value)| value.height).fold(first.height, usize::max);
        self.node(ExprKind::Compare(first, others), height)
    }

    fn sum(&mut self) -> Result<Expr> {
        let mut left = self.concat()?;
        loop {
            let operator = match self.peek() {
                Token::Operator("+") => Binary::Add,
                Token::Operator("-") => Binary::Sub,
                _ => return Ok(left),
            };
            self.next();
            let right = self.concat()?;
            left = self.binary(left, operator, right)?;
        }
    }

    fn concat(&mut self) -> Result<Expr> {
        let first = self.product()?;
        if !self.is_operator("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_operator("~") {
            parts.push(self.product()?);
        }
        // As many as of `+`, where each is a level of its own.
        let height = highest(&parts).max(parts.len());
        self.node(ExprKind::Concat(parts), height)
    }

    fn product(&mut self) -> Result<Expr> {
        let mut left = self.power()?;
        loop {
            let operator = match self.peek() {
                Token::Operator("*") => Binary::Mul,
                Token::Operator("/") => Binary::Div,
                Token::Operator("//") => Binary::FloorDiv,
                Token::Operator("%") => Binary::Mod,
                _ => return Ok(left),
            };
            self.next();
            let right = self.power()?;
            left = self.binary(left, operator, right)?;
        }
    }

    fn power(&mut self) -> Result<Expr> {
        let mut left = self.unary(true)?;
        while self.skip_operator("**") {
            let right = self.unary(true)?;
            left = self.binary(left, Binary::Pow, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr> {
        let sign = match self.peek() {
            Token::Operator("-") => Some(Unary::Minus),
            Token::Operator("+") => Some(Unary::Plus),
            _ => None,
        };
        let value = match sign {
            Some(sign) => {
                self.next();
                let value = self.nested(|parser| parser.unary(false))?;
                let height = value.height;
                self.node(ExprKind::Unary(sign, value), height)?
            }
            None => self.primary()?,
        };
        let value = self.postfix(value)?;
        if with_filters { self.filters_and_tests(value) } else { Ok(value) }
    }

    fn primary(&mut self) -> Result<Expr> {
        let kind = match self.next() {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => ExprKind::Bool(true),
                "false" | "False" => ExprKind::Bool(false),
                "none" | "None" => ExprKind::None,
                _ => {
                    match name.as_str() {
                        "varargs" => self.uses.varargs = true,
                        "kwargs" => self.uses.kwargs = true,
                        "caller" => self.uses.caller = true,
                        _ => {}
                    }
                    ExprKind::Name(name)
                }
            },
            Token::Str(mut text) => {
                while let Token::Str(more) = self.peek() {
                    text.push_str(more);
                    self.next();
                }
                ExprKind::Str(text)
            }
            Token::Int(i) => ExprKind::Int(i),
            Token::Float(f) => ExprKind::Float(f),
            Token::Operator("(") => {
                if self.skip_operator(")") {
                    return self.node(ExprKind::Tuple(Vec::new()), 0);
                }
                let value = self.tuple(true, &[])?;
                self.expect_operator(")")?;
                return Ok(value);
            }
            Token::Operator("[") => {
                let items = self.items("]")?;
                let height = highest(&items);
                return self.node(ExprKind::List(items), height);
            }
            Token::Operator("{") => {
                let mut pairs = Vec::new();
                while !self.skip_operator("}") {
                    if !pairs.is_empty() {
                        self.expect_operator(",")?;
                        if self.skip_operator("}") {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.expect_operator(":")?;
                    pairs.push((key, self.expression()?));
                }
                let height = pairs.iter().map(|(key, value)| key.height.max(value.height)).max().unwrap_or(0);
                return self.node(ExprKind::Dict(pairs), height);
            }
            token => return Err(unexpected(&token)),
        };
        self.node(kind, 0)
    }

    /// Expressions with commas between them, up to `end`.
    fn items(&mut self, end: &str) -> Result<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.skip_operator(end) {
            if !items.is_empty() {
                self.expect_operator(",")?;
                if self.skip_operator(end) {
                    break;
                }
            }
            items.push(self.expression()?);
        }
        Ok(items)
    }

    fn postfix(&mut self, mut value: Expr) -> Result<Expr> {
        loop {
            value = match self.peek() {
                Token::Operator(".") => {
                    self.next();
                    let height = value.height;
                    match self.next() {
                        Token::Name(name) => self.node(ExprKind::Attribute(value, name), height)?,
                        Token::Int(i) => {
                            let index = self.node(ExprKind::Int(i), 0)?;
                            self.node(ExprKind::Item(value, index), height)?
                        }
                        token => return Err(unexpected(&token)),
                    }
                }
                Token::Operator("[") => {
                    self.next();
                    self.subscript(value)?
                }
                Token::Operator("(") => self.call(value)?,
                _ => return Ok(value),
            };
        }
    }

    fn call(&mut self, value: Expr) -> Result<Expr> {
        let args = self.args()?;
        let height = value.height.max(height_of(&args));
        self.node(ExprKind::Call(value, args), height)
    }

    /// What stands in brackets after a value.
    fn subscript(&mut self, value: Expr) -> Result<Expr> {
        let mut parts = [None, None, None];
        let mut colons = 0;
        while !self.is_operator("]") {
            if self.skip_operator(":") {
                colons += 1;
                if colons > 2 {
                    return fail!("a slice with more than two colons");
                }
            } else if parts[colons].is_none() {
                parts[colons] = Some(self.expression()?);
            } else if colons == 0 && self.is_operator(",") {
                let mut items = Vec::from_iter(parts[0].take());
                while self.skip_operator(",") && !self.is_operator("]") {
                    items.push(self.expression()?);
                }
                let height = highest(&items);
                parts[0] = Some(self.node(ExprKind::Tuple(items), height)?);
            } else {
                return Err(unexpected(self.peek()));
            }
        }
        self.expect_operator("]")?;
        let height = parts.iter().flatten().map(|part| part.height).fold(value.height, usize::max);
        if colons > 0 {
            return self.node(ExprKind::Slice(value, parts), height);
        }
        let [Some(index), ..] = parts else { return fail!("an index is missing") };
        self.node(ExprKind::Item(value, index), height)
    }

    /// Arguments in parentheses.
    pub(super) fn args(&mut self) -> Result<Args> {
        self.expect_operator("(")?;
        let mut args = Args::default();
        let mut first = true;
        while !self.skip_operator(")") {
            if !first {
                self.expect_operator(",")?;
                if self.skip_operator(")") {
                    break;
                }
            }
            first = false;
            if self.skip_operator("**") {
                args.more_named = Some(self.expression()?);
            } else if self.skip_operator("*") {
                args.more = Some(self.expression()?);
            } else if let (Token::Name(name), Token::Operator("=")) = (self.peek(), self.peek_next()) {
                let name = name.clone();
                self.next();
                self.next();
                args.named.push((name, self.expression()?));
            } else if args.named.is_empty() && args.more_named.is_none() && args.more.is_none() {
                args.positional.push(self.expression()?);
            } else {
                return fail!("a positional argument after named ones");
            }
        }
        Ok(args)
    }

    /// `| filter`, `is test` and calls of what they give.
    fn filters_and_tests(&mut self, mut value: Expr) -> Result<Expr> {
        loop {
            value = match self.peek() {
                Token::Operator("|") => self.filters(Some(value))?,
                Token::Name(name) if name == "is" => self.test(value)?,
                Token::Operator("(") => self.call(value)?,
                _ => return Ok(value),
            };
        }
    }

    fn test(&mut self, value: Expr) -> Result<Expr> {
        self.next();
        let negated = self.skip_name("not");
        let mut name = self.expect_name()?;
        while self.skip_operator(".") {
            name = format!("{name}.{}", self.expect_name()?);
        }
        let mut args = Args::default();
        match self.peek() {
            Token::Operator("(") => args = self.args()?,
            Token::Name(name) if ["else", "or", "and"].contains(&name.as_str()) => {}
            Token::Name(name) if name == "is" => return fail!("tests cannot be chained with `is`"),
            // jinja2 takes any name for an argument; those are words that follow a test.
            Token::Name(name) if ["if", "in", "not", "recursive"].contains(&name.as_str()) => {}
            Token::Name(_) | Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Operator("[" | "{") => {
                let argument = self.primary()?;
                args.positional.push(self.postfix(argument)?);
            }
            _ => {}
        }
        let height = value.height.max(height_of(&args));
        self.node(ExprKind::Test { value, name, args, negated }, height)
    }
}

fn highest(items: &[Expr]) -> usize {
    items.iter().map(|item| item.height).max().unwrap_or(0)
}
