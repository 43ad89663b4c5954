//! Statements.

use std::rc::Rc;
use std::sync::Arc;

use super::args::Arguments;
use super::ast::{Expr, For, Macro, Statement, Target};
use super::error::{Result, fail};
use super::print::print;
use super::state::Run;
use super::text::{TEMPLATE, Text};
use super::value::{Callable, Dict, Loop, Scope, Seq, SeqKind, Value};

/// How a statement ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Scope {
    pub(super) fn inside(parent: &Rc<Scope>) -> Rc<Scope> {
        Rc::new(Scope { parent: Some(parent.clone()), ..Scope::default() })
    }

    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let mut scope = self;
        loop {
            if let Some((_, value)) = scope.variables.borrow().iter().find(|(n, _)| &**n == name) {
                return Some(value.clone());
            }
            scope = scope.parent.as_deref()?;
        }
    }

    pub(super) fn set(&self, name: &str, value: Value) {
        set(&mut self.variables.borrow_mut(), name, value);
    }
}

fn set(variables: &mut Vec<(Rc<str>, Value)>, name: &str, value: Value) {
    match variables.iter_mut().find(|(n, _)| &**n == name) {
        Some((_, old)) => *old = value,
        None => variables.push((name.into(), value)),
    }
}

impl Run {
    /// Renders a whole template.
    pub(super) fn template(&mut self, body: &[Statement], scope: &Rc<Scope>) -> Result<Text> {
        let mut out = Text::default();
        self.block(body, scope, &mut out).map(|_| out)
    }

    fn block(&mut self, body: &[Statement], scope: &Rc<Scope>, out: &mut Text) -> Result<Flow> {
        self.deeper(|run| {
            for statement in body {
                let flow = run.statement(statement, scope, out)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    /// What a body prints.
    pub(super) fn captured(&mut self, body: &[Statement], scope: &Rc<Scope>) -> Result<Text> {
        let mut out = Text::default();
        self.block(body, scope, &mut out).map(|_| out)
    }

    fn statement(&mut self, statement: &Statement, scope: &Rc<Scope>, out: &mut Text) -> Result<Flow> {
        match statement {
            Statement::Text(text) => out.push_str(text, TEMPLATE)?,
            Statement::Print(value) => {
                let line = value.line;
                let value = self.eval(value, scope)?;
                print(out, &value).map_err(|error| error.at(line))?;
            }
            Statement::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.eval(condition, scope)?.is_true() {
                        return self.block(body, scope, out);
                    }
                }
                return self.block(otherwise, scope, out);
            }
            Statement::For(the_loop) => {
                let line = the_loop.line;
                let items = self.eval(&the_loop.items, scope)?;
                self.for_loop(the_loop, items, scope, 0, out).map_err(|error| error.at(line))?;
            }
            Statement::Set(target, value) => {
                let line = value.line;
                let value = self.eval(value, scope)?;
                self.assign(target, value, scope, scope).map_err(|error| error.at(line))?;
            }
            Statement::SetBlock { target, filter, body } => {
                let text = self.captured(body, &Scope::inside(scope))?;
                let value = self.filtered(filter.as_ref(), text, scope)?;
                self.assign(target, value, scope, scope)?;
            }
            Statement::Macro(definition) => {
                let callable = self.macro_value(definition, scope);
                scope.set(&definition.name, callable);
            }
            Statement::Call { caller, call } => {
                let caller = self.macro_value(caller, scope);
                let value = self.call_expression(call, scope, Some(caller))?;
                print(out, &value)?;
            }
            Statement::FilterBlock { filter, body } => {
                let text = self.captured(body, &Scope::inside(scope))?;
                let value = self.filtered(Some(filter), text, scope)?;
                print(out, &value)?;
            }
            Statement::With { values, body } => {
                let inner = Scope::inside(scope);
                for (target, value) in values {
                    let value = self.eval(value, scope)?;
                    self.assign(target, value, &inner, scope)?;
                }
                return self.block(body, &inner, out);
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn macro_value(&mut self, definition: &Arc<Macro>, scope: &Rc<Scope>) -> Value {
        Callable::Macro { definition: definition.clone(), scope: Rc::downgrade(scope) }.into()
    }

    fn filtered(&mut self, filter: Option<&Expr>, text: Text, scope: &Rc<Scope>) -> Result<Value> {
        match filter {
            Some(filter) => self.filter_of(filter, Some(text.into()), scope),
            None => Ok(text.into()),
        }
    }

    /// Assigns in `scope`; namespaces are looked up `around`.
    fn assign(&mut self, target: &Target, value: Value, scope: &Rc<Scope>, around: &Rc<Scope>) -> Result<()> {
        match target {
            Target::Name(name) => scope.set(name, value),
            Target::Member(name, member) => match around.get(name) {
                Some(Value::Namespace(namespace)) => {
                    // What was there is dropped after the borrow has ended: it may be long.
                    set(&mut namespace.0.borrow_mut(), member, value);
                }
                _ => return fail!("cannot assign attribute on non-namespace object"),
            },
            Target::Tuple(targets) => {
                let items = value.iterate()?;
                if items.items().len() != targets.len() {
                    let (found, wanted) = (items.items().len(), targets.len());
                    return fail!("{found} values cannot be assigned to {wanted} names");
                }
                for (target, item) in targets.iter().zip(items.items()) {
                    self.assign(target, item.clone(), scope, around)?;
                }
            }
        }
        Ok(())
    }

    /// Runs a loop over `items`; `depth` counts the recursive loops around it.
    pub(super) fn for_loop(
        &mut self,
        the_loop: &Arc<For>,
        items: Value,
        scope: &Rc<Scope>,
        depth: usize,
        out: &mut Text,
    ) -> Result<()> {
        let mut items = items.iterate()?;
        if let Some(condition) = &the_loop.condition {
            let mut kept = Seq::new(SeqKind::List);
            for item in items.items() {
                let inner = Scope::inside(scope);
                self.assign(&the_loop.target, item.clone(), &inner, scope)?;
                if self.eval(condition, &inner)?.is_true() {
                    kept.push(item.clone())?;
                }
            }
            items = Rc::new(kept);
        }
        if items.items().is_empty() {
            return self.block(&the_loop.otherwise, scope, out).map(drop);
        }
        let recursive = the_loop.recursive.then(|| (the_loop.clone(), Rc::downgrade(scope)));
        let context = Rc::new(Loop {
            items: items.clone(),
            index: Default::default(),
            depth,
            last: Default::default(),
            recursive,
        });
        for (i, item) in items.items().iter().enumerate() {
            context.index.set(i);
            let inner = Scope::inside(scope);
            inner.set("loop", Value::Loop(context.clone()));
            self.assign(&the_loop.target, item.clone(), &inner, scope)?;
            if self.block(&the_loop.body, &inner, out)? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// What a macro prints for `args`.
    pub(super) fn call_macro(&mut self, definition: &Macro, scope: &Rc<Scope>, mut args: Arguments) -> Result<Value> {
        let name = &definition.name;
        let inner = Scope::inside(scope);
        let caller = args.take_named("caller");
        let mut positional = args.positional.into_iter();
        for (parameter, default) in &definition.parameters {
            let given = match positional.next() {
                Some(value) => Some(value),
                None => args.named.iter().position(|(n, _)| &**n == parameter).map(|at| args.named.remove(at).1),
            };
            let value = match (given, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(default, &inner)?,
                (None, None) => Value::undefined(parameter),
            };
            inner.set(parameter, value);
        }
        if definition.takes_varargs {
            inner.set("varargs", Value::seq(SeqKind::Tuple, positional)?);
        } else if positional.next().is_some() {
            return fail!("macro `{name}` takes not more than {} arguments", definition.parameters.len());
        }
        match caller {
            Some(_) if !definition.takes_caller => {
                return fail!("macro `{name}` was called with `call` and calls no caller");
            }
            Some(caller) => inner.set("caller", caller),
            None if definition.takes_caller => inner.set("caller", Value::undefined("caller")),
            None => {}
        }
        if definition.takes_kwargs {
            let mut dict = Dict::default();
            for (name, value) in args.named {
                dict.insert(Value::string(&name)?, value)?;
            }
            inner.set("kwargs", dict.into());
        } else if let Some((argument, _)) = args.named.first() {
            return fail!("macro `{name}` takes no keyword argument `{argument}`");
        }
        self.captured(&definition.body, &inner).map(Value::from)
    }
}
