//! Threads, where there is room for them.
//!
//! A thread takes more than the system looks at when it makes one. Rust's library gives it a second stack, for signals,
//! once it runs; without room for that it panics where nobody can catch it, and since that takes memory, too, the
//! process ends or hangs. So there has to be some room besides.

use std::io;
use std::thread::Builder;

use super::{memory, system};

/// What Rust gives a thread by itself, if no variable of the environment says otherwise.
const STACK: usize = 2 << 20;

/// Begins a thread called `name`.
///
/// # Errors
/// When there are no addresses left for it.
pub fn builder(name: &str) -> io::Result<Builder> {
    has_room(name, STACK)?;
    Ok(Builder::new().name(name.into()))
}

/// Begins a thread called `name` with `stack` bytes of stack.
///
/// # Errors
/// When there are no addresses left for it.
pub fn builder_with_stack(name: &str, stack: usize) -> io::Result<Builder> {
    has_room(name, stack)?;
    Ok(Builder::new().name(name.into()).stack_size(stack))
}

/// Asks the system to run the calling thread on these CPUs, or, where there are none to choose from, on fast ones as it
/// sees fit. When it refuses, nothing changes.
pub fn prefer(cpus: Option<&[usize]>) {
    system::prefer(cpus);
}

fn has_room(name: &str, stack: usize) -> io::Result<()> {
    let room = memory::check_addresses(stack as u64, || format!("the thread {name}"));
    room.map_err(|shortage| io::Error::new(io::ErrorKind::OutOfMemory, shortage))
}
