//! Analyses a tar archive while it is hashed as a product, so that its bytes are read once.

use std::any::Any;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use affiant_core::attestor::Listener;

use super::{Analysis, ArchiveError, Limits, analyse, tarball};

/// Archives smaller than this are read again: that is cheaper than threads for each.
const WORTH_IT: u64 = 4 << 20;
/// Pieces that wait for the analysis, so that hashing does not wait for each.
const WAITING: usize = 4;

/// What was learnt of an archive.
pub(super) type Learnt = Result<Analysis, ArchiveError>;

/// Listens to a tar archive that is worth it.
pub(super) fn listen(path: &str, head: &[u8], length: u64) -> Option<Box<dyn Listener>> {
    if length < WORTH_IT || affiant_core::mime::detect(head) != "application/x-tar" {
        return None;
    }
    tarball::header_name(head.get(..512)?)?;
    let (sender, receiver) = sync_channel(WAITING);
    let analysis = std::thread::Builder::new()
        .name(format!("oci {}", path.rsplit('/').next().unwrap_or_default()).replace('\0', ""))
        .spawn(move || analyse(Incoming { receiver, piece: Vec::new(), at: 0 }, &Limits::DEFAULT))
        .ok()?;
    Some(Box::new(Hearing { sender: Some(sender), analysis: Some(analysis) }))
}

struct Hearing {
    sender: Option<SyncSender<Vec<u8>>>,
    analysis: Option<JoinHandle<Learnt>>,
}

impl Listener for Hearing {
    fn bytes(&mut self, chunk: &[u8]) {
        if let Some(sender) = &self.sender
            && sender.send(chunk.to_vec()).is_err()
        {
            // The analysis has seen enough: what follows the end of an archive is not its business.
            self.sender = None;
        }
    }

    fn done(mut self: Box<Self>) -> Box<dyn Any + Send> {
        self.sender = None;
        let learnt: Option<Learnt> = self.analysis.take().and_then(|analysis| analysis.join().ok());
        Box::new(learnt)
    }
}

/// The pieces as a reader. Ends when the sender is gone.
struct Incoming {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.piece.len() - self.at);
        buffer[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
