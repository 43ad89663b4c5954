//! A parsed template.

use std::sync::Arc;

/// An expression, the line where it stands, and how deep its tree is: what walks it needs as much stack.
#[derive(Debug)]
pub(in crate::chat) struct Expr {
    pub(super) kind: Box<ExprKind>,
    pub(super) line: usize,
    pub(super) height: usize,
}

#[derive(Debug)]
pub(in crate::chat) enum ExprKind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Name(String),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Expr, String),
    Item(Expr, Expr),
    Slice(Expr, [Option<Expr>; 3]),
    Call(Expr, Args),
    /// Of the value before the bar; in `{% filter %}`, of the block.
    Filter(Option<Expr>, String, Args),
    Test {
        value: Expr,
        name: String,
        args: Args,
        negated: bool,
    },
    Unary(Unary, Expr),
    Binary(Binary, Expr, Expr),
    /// All parts of `a ~ b ~ c`.
    Concat(Vec<Expr>),
    /// `a < b < c`.
    Compare(Expr, Vec<(Compare, Expr)>),
    /// `value if condition else other`.
    Conditional {
        value: Expr,
        condition: Expr,
        other: Option<Expr>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::chat) enum Unary {
    Not,
    Minus,
    Plus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::chat) enum Binary {
    Or,
    And,
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::chat) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// The arguments of a call.
#[derive(Debug, Default)]
pub(in crate::chat) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
    /// `*args` and `**kwargs`.
    pub(super) more: Option<Expr>,
    pub(super) more_named: Option<Expr>,
}

/// What is assigned to.
#[derive(Debug)]
pub(in crate::chat) enum Target {
    Name(String),
    /// `ns.x`.
    Member(String, String),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(in crate::chat) enum Statement {
    Text(String),
    Print(Expr),
    If {
        branches: Vec<(Expr, Vec<Statement>)>,
        otherwise: Vec<Statement>,
    },
    For(Arc<For>),
    Set(Target, Expr),
    /// `{% set x | filter %}…{% endset %}`
    SetBlock {
        target: Target,
        filter: Option<Expr>,
        body: Vec<Statement>,
    },
    Macro(Arc<Macro>),
    /// `{% call(args) f() %}…{% endcall %}`: the body becomes the macro `caller`.
    Call {
        caller: Arc<Macro>,
        call: Expr,
    },
    FilterBlock {
        filter: Expr,
        body: Vec<Statement>,
    },
    /// `{% with %}`, and what else has variables of its own.
    With {
        values: Vec<(Target, Expr)>,
        body: Vec<Statement>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(in crate::chat) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) body: Vec<Statement>,
    pub(super) otherwise: Vec<Statement>,
    pub(super) recursive: bool,
    pub(super) line: usize,
}

#[derive(Debug)]
pub(in crate::chat) struct Macro {
    pub(super) name: String,
    pub(super) parameters: Vec<(String, Option<Expr>)>,
    pub(super) body: Vec<Statement>,
    /// Whether the body names `varargs`, `kwargs` or `caller`: only then may it be called with any.
    pub(super) takes_varargs: bool,
    pub(super) takes_kwargs: bool,
    pub(super) takes_caller: bool,
}
