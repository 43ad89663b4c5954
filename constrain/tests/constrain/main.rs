//! What may be written, and what is refused.

mod calls;
mod check;
mod gbnf;
mod property;
mod schemas;
mod shapes;
mod suite;
mod walk;
