//! Work on many things, a few at the same time, whose results come in the order of the things.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

/// Most threads of one work.
pub const MAX_THREADS: usize = 16;

/// What becomes of work that is under way when something else fails. Nothing more is begun in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderWay {
    /// It counts for nothing.
    Dropped,
    /// It is taken too, for it was done.
    Taken,
}

/// Does `work` for each of the jobs, so many at the same time (1 to [`MAX_THREADS`]), and gives what comes of each to `take`,
/// on this thread, in the order of the jobs.
///
/// # Errors
/// The first in the order of the jobs, of `work` or of `take`.
///
/// # Panics
/// Where `work` does.
pub fn in_order<J: Sync, T: Send, E: Send>(
    jobs: &[J],
    threads: usize,
    under_way: UnderWay,
    work: impl Fn(&J) -> Result<T, E> + Sync,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.clamp(1, MAX_THREADS).min(jobs.len());
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (send, done) = sync_channel(threads.max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let send = send.clone();
            scope.spawn(|| {
                let send = send;
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(at) else { return };
                    let result = work(job);
                    stop.fetch_or(result.is_err(), Ordering::Relaxed);
                    if send.send((at, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut wanted = 0;
        let mut first = None;
        for (at, result) in done {
            early.insert(at, result);
            while let Some(result) = early.remove(&wanted) {
                wanted += 1;
                if let Err(error) = result.and_then(&mut take) {
                    stop.store(true, Ordering::Relaxed);
                    if under_way == UnderWay::Dropped {
                        return Err(error);
                    }
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(()), Err)
    })
}

/// The same, with all results in a list.
pub fn all<J: Sync, T: Send, E: Send>(
    jobs: &[J],
    threads: usize,
    work: impl Fn(&J) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let mut results = Vec::with_capacity(jobs.len());
    in_order(jobs, threads, UnderWay::Dropped, work, |result| {
        results.push(result);
        Ok(())
    })?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_come_in_order_whatever_takes_longest() {
        let jobs: Vec<u64> = (0..40).collect();
        let work = |job: &u64| {
            std::thread::sleep(std::time::Duration::from_millis((40 - job) % 7));
            Ok::<_, ()>(job * 2)
        };
        for threads in [0, 1, 4, 1000] {
            let doubled: Vec<u64> = jobs.iter().map(|job| job * 2).collect();
            assert_eq!(all(&jobs, threads, work), Ok(doubled), "{threads}");
        }
        assert_eq!(all(&[] as &[u64], 4, work), Ok(Vec::new()));
    }

    #[test]
    fn so_many_are_at_work_and_no_more() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let together = Barrier::new(3);
        let work = |_: &u8| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            together.wait();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(())
        };
        // Each waits for two others: with fewer than three at the same time it would not end.
        all(&[0; 12], 3, work).expect("done");
        assert_eq!(most.into_inner(), 3);
    }

    #[test]
    fn the_first_failure_in_order_ends_it() {
        let begun = AtomicUsize::new(0);
        let both = Barrier::new(2);
        let work = |job: &usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            // The second fails first.
            match job {
                0 => {
                    both.wait();
                    std::thread::sleep(std::time::Duration::from_millis(30));
                    Err(0)
                }
                1 => {
                    both.wait();
                    Err(1)
                }
                job => Ok(*job),
            }
        };
        let jobs: Vec<usize> = (0..100).collect();
        assert_eq!(all(&jobs, 2, work), Err(0));
        assert_eq!(begun.into_inner(), 2, "nothing more is begun");
    }

    #[test]
    fn what_was_under_way_is_taken_or_not() {
        for (under_way, expected) in [(UnderWay::Dropped, vec![]), (UnderWay::Taken, vec![1, 2])] {
            let all_three = Barrier::new(3);
            let work = |job: &usize| {
                all_three.wait();
                if *job == 0 { Err("the first") } else { Ok(*job) }
            };
            let mut taken = Vec::new();
            let take = |job| {
                taken.push(job);
                Ok(())
            };
            assert_eq!(in_order(&[0, 1, 2], 3, under_way, work, take), Err("the first"));
            assert_eq!(taken, expected);
        }
        // What cannot be taken ends it as well.
        let mut taken = 0;
        let take = |()| {
            taken += 1;
            if taken == 2 { Err("taken") } else { Ok(()) }
        };
        assert_eq!(in_order(&[0; 50], 2, UnderWay::Dropped, |_| Ok(()), take), Err("taken"));
        assert_eq!(taken, 2);
    }
}
