//! How the threads share work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::walk::Item;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stack that the threads share.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
    wake: Condvar,
    /// Threads that wait; read without the lock, as a hint.
    idle: AtomicUsize,
}

#[derive(Default)]
struct State {
    stack: Vec<Item>,
    /// Threads that work on an item and may put new ones here.
    busy: usize,
}

/// Gives the place of a thread back, also when it panics: the others would wait for ever.
pub(super) struct Done<'a>(&'a Pool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.busy -= 1;
        if state.busy == 0 && state.stack.is_empty() {
            self.0.wake.notify_all();
        }
    }
}

impl Pool {
    /// Begins with these items.
    pub(super) fn start(&self, items: Vec<Item>) {
        lock(&self.state).stack = items;
    }

    /// To be held while an item is worked on.
    pub(super) fn working(&self) -> Done<'_> {
        Done(self)
    }

    /// Whether a thread waits for work; a hint.
    pub(super) fn someone_waits(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    pub(super) fn take(&self) -> Option<Item> {
        let mut state = lock(&self.state);
        loop {
            if let Some(item) = state.stack.pop() {
                // Of a list of folders one is taken, the rest stays for whoever comes.
                if let Item::Folders(listing, at, end) = &item
                    && at + 1 < *end
                {
                    let rest = Item::Folders(Arc::clone(listing), at + 1, *end);
                    state.stack.push(rest);
                }
                state.busy += 1;
                return Some(item);
            }
            if state.busy == 0 {
                return None;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            self.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn give(&self, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        state.stack.extend(items);
        // A thread counts itself before it gives the lock back to wait, so that none is missed.
        let wake = self.idle.load(Ordering::Relaxed) > 0;
        drop(state);
        if wake {
            self.wake.notify_all();
        }
    }
}

/// Splits `0..len` among the threads in pieces of `piece`; each gathers in its own `T`.
pub(super) fn spread<T: Send>(
    threads: usize,
    len: usize,
    piece: usize,
    make: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, std::ops::Range<usize>) + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let out = Mutex::new(Vec::new());
    let run = || {
        let mut own = make();
        loop {
            let from = next.fetch_add(piece, Ordering::Relaxed);
            if from >= len {
                break;
            }
            work(&mut own, from..len.min(from + piece));
        }
        lock(&out).push(own);
    };
    let threads = threads.clamp(1, super::MAX_THREADS).min(len.div_ceil(piece).max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let _ = std::thread::Builder::new().name("snapshot".to_owned()).spawn_scoped(scope, run);
        }
        run();
    });
    out.into_inner().unwrap_or_else(PoisonError::into_inner)
}
