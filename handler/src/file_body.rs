//! Bytes of known length from a blocking reader, as an HTTP body: a file is sent as it is read, a few pieces ahead.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Bytes handed to the connection at a time, and how many such pieces may wait for it.
const PIECE: usize = 64 * 1024;
const PIECES_WAITING: usize = 4;

/// A body that is read while it is sent.
#[derive(Debug)]
pub(crate) struct FileBody {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: u64,
}

/// What went wrong with the reader. To the connection it is only a body that broke off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    /// Takes the error, if there was one.
    pub(crate) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl FileBody {
    /// A body of the `length` bytes that `reader` gives, read on a thread where blocking is allowed. Within a tokio runtime.
    pub(crate) fn new(mut reader: impl Read + Send + 'static, length: u64) -> (FileBody, Failure) {
        let failure = Failure::default();
        let kept = failure.clone();
        let (sender, pieces) = mpsc::channel(PIECES_WAITING);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let piece = match reader.read(&mut piece) {
                    Ok(0) => return,
                    Ok(read) => {
                        piece.truncate(read);
                        Ok(Bytes::from(piece))
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        let kind = error.kind();
                        *kept.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        Err(kind.into())
                    }
                };
                let last = piece.is_err();
                // Nobody takes it: the request has ended.
                if sender.blocking_send(piece).is_err() || last {
                    return;
                }
            }
        });
        (FileBody { pieces, rest: length }, failure)
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        Poll::Ready(piece.map(|piece| {
            piece.map(|bytes| {
                self.rest = self.rest.saturating_sub(bytes.len() as u64);
                Frame::data(bytes)
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest)
    }
}
