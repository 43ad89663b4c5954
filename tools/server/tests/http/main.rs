//! A real server on a free port with the demo model, spoken to over plain sockets.

mod client;
mod limits;
mod openai;
mod queue;
mod security;
mod server;
