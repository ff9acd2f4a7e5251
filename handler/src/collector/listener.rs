//! Connections: only so many at a time, and each ends, whatever its peer does.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::limits::Limits;

/// Wait after an `accept` that failed for want of something (file descriptors, memory) rather than for its peer's sake.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections up to a number.
pub(super) struct Capped {
    inner: TcpListener,
    slots: Arc<Semaphore>,
    limits: Limits,
}

impl Capped {
    pub(super) fn new(inner: TcpListener, limits: Limits) -> Capped {
        Capped { inner, slots: Arc::new(Semaphore::new(limits.connections)), limits }
    }
}

impl axum::serve::Listener for Capped {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { continue };
            match self.inner.accept().await {
                Ok((stream, peer)) => return (Connection::new(stream, slot, &self.limits), peer),
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    tracing::warn!("can't accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

/// A connection that ends with an error when nothing moved on it for a while, and after its whole time anyway.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Duration,
    /// Whichever comes first: so long after the last byte, or the end of the connection's time.
    timer: Pin<Box<Sleep>>,
    end: Instant,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, slot: OwnedSemaphorePermit, limits: &Limits) -> Connection {
        // A body in progress has its own, equal limit with its own answer; the connection must outlast that answer.
        let idle = limits.idle * 2;
        let now = Instant::now();
        Connection {
            stream,
            idle,
            timer: Box::pin(tokio::time::sleep_until(now + idle)),
            end: now + limits.connection,
            _slot: slot,
        }
    }

    /// Passes on what a read or write came to, and keeps the time.
    fn timed<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            let next = (Instant::now() + self.idle).min(self.end);
            self.timer.as_mut().reset(next);
            return result;
        }
        match self.timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if Instant::now() >= self.end {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.timed(context, result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.timed(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
