//! Lets attestors listen to products while the second snapshot hashes them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::attestor::{Heard, Listen, Listener};
use crate::digest::DigestSet;
use crate::snapshot::Tap;

/// Products that are listened to at the same time: a listener may keep threads and buffers.
const AT_ONCE: usize = 2;

/// One listening attestor: its name and its decision.
pub(super) type Ear = (&'static str, Listen);

/// The tap for a product: the first attestor that wants to listen to it. A listener that panics hears no more; its
/// attestor reads the product by itself then.
pub(super) fn tap(
    ears: &[Ear],
    heard: &Arc<Heard>,
    listening: &Arc<AtomicUsize>,
    path: &str,
    head: &[u8],
    length: u64,
) -> Option<Box<dyn Tap>> {
    let slot = Slot::take(listening)?;
    let (name, listener) = ears.iter().find_map(|&(name, listen)| {
        let listener = catch_unwind(|| listen(path, head, length)).ok().flatten()?;
        Some((name, listener))
    })?;
    Some(Box::new(Listening {
        listener: Some(listener),
        name,
        path: path.to_owned(),
        heard: Arc::clone(heard),
        _slot: slot,
    }))
}

/// One of [`AT_ONCE`] places.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(listening: &Arc<AtomicUsize>) -> Option<Self> {
        listening
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < AT_ONCE).then_some(count + 1))
            .ok()
            .map(|_| Self(Arc::clone(listening)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Listening {
    listener: Option<Box<dyn Listener>>,
    name: &'static str,
    path: String,
    heard: Arc<Heard>,
    _slot: Slot,
}

impl Tap for Listening {
    fn bytes(&mut self, chunk: &[u8]) {
        if let Some(listener) = &mut self.listener
            && catch_unwind(AssertUnwindSafe(|| listener.bytes(chunk))).is_err()
        {
            self.listener = None;
        }
    }

    fn done(self: Box<Self>, _: &DigestSet) {
        let Self { listener, name, path, heard, .. } = *self;
        let learnt: Option<Box<dyn Any + Send>> =
            listener.and_then(|listener| catch_unwind(AssertUnwindSafe(|| listener.done())).ok());
        if let Some(learnt) = learnt {
            heard.put(name, path, learnt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(u64);

    impl Listener for Count {
        fn bytes(&mut self, chunk: &[u8]) {
            assert!(chunk != b"bad", "on purpose");
            self.0 += chunk.len() as u64;
        }

        fn done(self: Box<Self>) -> Box<dyn Any + Send> {
            Box::new(self.0)
        }
    }

    fn ear() -> [Ear; 1] {
        [("count", |path, _, _| (path == "a").then(|| Box::new(Count(0)) as Box<dyn Listener>))]
    }

    #[test]
    fn what_was_heard_is_there_once() {
        let heard = Arc::new(Heard::default());
        assert!(tap(&ear(), &heard, &Arc::default(), "b", b"", 0).is_none());
        let mut listening = tap(&ear(), &heard, &Arc::default(), "a", b"", 0).expect("it listens");
        listening.bytes(b"12");
        listening.bytes(b"345");
        listening.done(&DigestSet::default());
        assert_eq!(heard.take::<u64>("count", "a"), Some(5));
        assert_eq!(heard.take::<u64>("count", "a"), None);
    }

    #[test]
    fn a_listener_that_panics_hears_no_more() {
        let heard = Arc::new(Heard::default());
        let mut listening = tap(&ear(), &heard, &Arc::default(), "a", b"", 0).expect("it listens");
        listening.bytes(b"bad");
        listening.bytes(b"12");
        listening.done(&DigestSet::default());
        assert_eq!(heard.take::<u64>("count", "a"), None);
    }
}
