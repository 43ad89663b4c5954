//! Tools that the server runs itself, within a request: those of MCP servers that its operator has named.
//!
//! What they are is [`hosted`]; which of them a request may have run, and whether its client is asked first,
//! [`granted`]; the way from a call to its result and on to the rest of the answer, [`rounds`].

pub mod granted;
pub mod hosted;
pub mod rounds;
