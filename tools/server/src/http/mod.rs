//! HTTP itself: sockets, what comes in, what goes out. Nothing here knows what a request is about.

pub mod body;
pub mod guard;
pub mod io;
pub mod reply;
