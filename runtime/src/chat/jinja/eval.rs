//! Expressions.

use std::rc::Rc;

use super::args::Arguments;
use super::ast::{Args, Binary, Expr, ExprKind, Unary};
use super::error::{Result, fail};
use super::state::Run;
use super::text::Text;
use super::value::{Dict, Scope, SeqKind, Value};
use super::{access, operators, print, tests};

impl Run {
    pub(super) fn eval(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Result<Value> {
        self.deeper(|run| run.eval_kind(expr, scope)).map_err(|error| error.at(expr.line))
    }

    fn eval_all(&mut self, exprs: &[Expr], scope: &Rc<Scope>) -> Result<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr, scope)).collect()
    }

    fn eval_kind(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Result<Value> {
        match &*expr.kind {
            ExprKind::None => Ok(Value::None),
            ExprKind::Bool(b) => Ok(Value::Bool(*b)),
            ExprKind::Int(i) => Ok(Value::Int(*i)),
            ExprKind::Float(f) => Ok(Value::Float(*f)),
            ExprKind::Str(text) => Value::string(text),
            ExprKind::Name(name) => Ok(scope.get(name).unwrap_or_else(|| Value::undefined(name))),
            ExprKind::List(items) => Value::seq(SeqKind::List, self.eval_all(items, scope)?),
            ExprKind::Tuple(items) => Value::seq(SeqKind::Tuple, self.eval_all(items, scope)?),
            ExprKind::Dict(pairs) => self.dict(pairs, scope),
            ExprKind::Attribute(value, name) => access::attribute(&self.eval(value, scope)?, name),
            ExprKind::Item(value, key) => {
                let value = self.eval(value, scope)?;
                access::item(&value, &self.eval(key, scope)?)
            }
            ExprKind::Slice(value, parts) => self.slice(value, parts, scope),
            ExprKind::Call(..) => self.call_expression(expr, scope, None),
            ExprKind::Filter(..) => self.filter_of(expr, None, scope),
            ExprKind::Test { value, name, args, negated } => {
                let value = self.eval(value, scope)?;
                let args = self.args(args, scope)?;
                Ok(Value::Bool(tests::test(name, &value, args)? != *negated))
            }
            ExprKind::Unary(Unary::Not, value) => Ok(Value::Bool(!self.eval(value, scope)?.is_true())),
            ExprKind::Unary(Unary::Minus, value) => operators::negate(&self.eval(value, scope)?),
            ExprKind::Unary(Unary::Plus, value) => operators::plus(&self.eval(value, scope)?),
            ExprKind::Binary(Binary::And, left, right) => {
                let left = self.eval(left, scope)?;
                if left.is_true() { self.eval(right, scope) } else { Ok(left) }
            }
            ExprKind::Binary(Binary::Or, left, right) => {
                let left = self.eval(left, scope)?;
                if left.is_true() { Ok(left) } else { self.eval(right, scope) }
            }
            ExprKind::Binary(operator, left, right) => {
                let left = self.eval(left, scope)?;
                operators::binary(*operator, &left, &self.eval(right, scope)?)
            }
            ExprKind::Concat(parts) => {
                let mut text = Text::default();
                for part in parts {
                    print::print(&mut text, &self.eval(part, scope)?)?;
                }
                Ok(text.into())
            }
            ExprKind::Compare(first, others) => {
                let mut left = self.eval(first, scope)?;
                for (operator, right) in others {
                    let right = self.eval(right, scope)?;
                    if !operators::compare(*operator, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            ExprKind::Conditional { value, condition, other } => {
                if self.eval(condition, scope)?.is_true() {
                    return self.eval(value, scope);
                }
                match other {
                    Some(other) => self.eval(other, scope),
                    None => Ok(Value::Undefined("the inline if-expression evaluated to false and has no else".into())),
                }
            }
        }
    }

    fn dict(&mut self, pairs: &[(Expr, Expr)], scope: &Rc<Scope>) -> Result<Value> {
        let mut dict = Dict::default();
        for (key, value) in pairs {
            dict.insert(self.eval(key, scope)?, self.eval(value, scope)?)?;
        }
        Ok(dict.into())
    }

    fn slice(&mut self, value: &Expr, parts: &[Option<Expr>; 3], scope: &Rc<Scope>) -> Result<Value> {
        let value = self.eval(value, scope)?;
        let mut bounds = [None; 3];
        for (bound, part) in bounds.iter_mut().zip(parts) {
            *bound = match part {
                None => None,
                Some(part) => match self.eval(part, scope)? {
                    Value::None => None,
                    index => match index.as_int() {
                        Some(index) => Some(index),
                        None => return fail!("slice indices must be integers or None"),
                    },
                },
            };
        }
        access::slice(&value, bounds)
    }

    pub(super) fn args(&mut self, args: &Args, scope: &Rc<Scope>) -> Result<Arguments> {
        let mut values = Arguments { positional: self.eval_all(&args.positional, scope)?, named: Vec::new() };
        for (name, value) in &args.named {
            values.named.push((name.as_str().into(), self.eval(value, scope)?));
        }
        if let Some(more) = &args.more {
            values.positional.extend(self.eval(more, scope)?.iterate()?.items().iter().cloned());
        }
        if let Some(more) = &args.more_named {
            let Value::Dict(dict) = self.eval(more, scope)? else { return fail!("what stands after ** is no dict") };
            for (name, value) in dict.pairs() {
                values.named.push((print::to_text(name)?.as_str().into(), value.clone()));
            }
        }
        Ok(values)
    }

    /// The value of a call, of a macro with a `caller` perhaps.
    pub(super) fn call_expression(&mut self, call: &Expr, scope: &Rc<Scope>, caller: Option<Value>) -> Result<Value> {
        let ExprKind::Call(callee, args) = &*call.kind else { return fail!("not a call") };
        let callee = self.eval(callee, scope)?;
        let mut args = self.args(args, scope)?;
        args.named.extend(caller.map(|caller| ("caller".into(), caller)));
        self.deeper(|run| run.call(&callee, args)).map_err(|error| error.at(call.line))
    }

    /// The value of filters, the innermost of which gets `block` if nothing stands before it.
    pub(super) fn filter_of(&mut self, expr: &Expr, block: Option<Value>, scope: &Rc<Scope>) -> Result<Value> {
        let ExprKind::Filter(value, name, args) = &*expr.kind else { return fail!("not a filter") };
        let value = match (value, block) {
            (Some(value), Some(block)) => self.deeper(|run| run.filter_of(value, Some(block), scope))?,
            (Some(value), None) => self.eval(value, scope)?,
            (None, Some(block)) => block,
            (None, None) => return fail!("nothing stands before the filter"),
        };
        let args = self.args(args, scope)?;
        self.deeper(|run| run.filter(name, value, args)).map_err(|error| error.at(expr.line))
    }
}
