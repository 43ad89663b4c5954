//! tokio's sockets and clock in the form that hyper asks for, with an end for clients that stop reading.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{self, ReadBufCursor};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes that are read at once.
const READ: usize = 8 << 10;

/// A socket. When it takes nothing for too long, writing to it fails.
pub struct Socket<S> {
    socket: S,
    patience: Duration,
    blocked: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    /// Waits for so long until the other side takes something.
    pub fn new(socket: S, patience: Duration) -> Socket<S> {
        Socket { socket, patience, blocked: None }
    }

    /// What writing has brought; if nothing, the time runs.
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let patience = self.patience;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(patience)));
        match blocked.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> rt::Read for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ];
        let room = into.remaining().min(READ);
        let mut buffer = ReadBuf::new(&mut bytes[..room]);
        let read = Pin::new(&mut self.get_mut().socket).poll_read(context, &mut buffer);
        read.map_ok(|()| into.put_slice(buffer.filled()))
    }
}

impl<S: AsyncWrite + Unpin> rt::Write for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(context, bytes);
        this.watch(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.socket).poll_flush(context);
        this.watch(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(context, slices);
        this.watch(context, written)
    }
}

/// tokio's clock.
#[derive(Clone, Debug)]
pub struct Clock;

/// A moment to wait for.
struct Moment(Pin<Box<Sleep>>);

impl Future for Moment {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.get_mut().0.as_mut().poll(context)
    }
}

impl rt::Sleep for Moment {}

impl rt::Timer for Clock {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Moment(Box::pin(sleep(time))))
    }

    fn sleep_until(&self, moment: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Moment(Box::pin(tokio::time::sleep_until(moment.into()))))
    }
}
