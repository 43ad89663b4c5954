//! What may be written, and what is refused.

mod calls;
mod check;
mod gbnf;
mod property;
mod random_model;
mod schemas;
mod shapes;
mod suite;
mod walk;
