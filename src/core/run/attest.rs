//! Runs the attestors of one phase: in parallel, each with a time limit and a panic guard, results in list order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::plan::{Plan, Planned};
use crate::attestor::{After, Evidence, Found, Outcome, Prepared, Whole};
use crate::clock::Clock;

/// What one attestor came to.
pub(super) struct Attested {
    pub(super) name: &'static str,
    /// Whether the user named it: then "nothing to attest" is a gap.
    pub(super) named: bool,
    pub(super) result: Result<Pieces, String>,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

#[derive(Default)]
pub(super) struct Pieces {
    pub(super) evidence: Vec<Evidence>,
    pub(super) shortfalls: Vec<String>,
}

type Job = Box<dyn FnOnce() -> Outcome + Send>;

pub(super) fn attest_before(plan: &mut Plan, clock: &dyn Clock) -> Vec<Attested> {
    let world = Arc::clone(&plan.before);
    let limit = plan.time_limit;
    let jobs = plan.take_jobs(|prepared| match prepared {
        Prepared::Before(attest) => {
            let world = Arc::clone(&world);
            Ok(Box::new(move || attest(&world)) as Job)
        }
        other @ (Prepared::After(_) | Prepared::Whole(_)) => Err(other),
    });
    attest(jobs, limit, clock)
}

pub(super) fn attest_after(plan: &mut Plan, world: After, clock: &dyn Clock) -> Vec<Attested> {
    let world = Arc::new(world);
    let limit = plan.time_limit;
    let jobs = plan.take_jobs(|prepared| match prepared {
        Prepared::After(attest) => {
            let world = Arc::clone(&world);
            Ok(Box::new(move || attest(&world)) as Job)
        }
        other @ (Prepared::Before(_) | Prepared::Whole(_)) => Err(other),
    });
    attest(jobs, limit, clock)
}

/// Runs those that tell of the run as a whole, one after the other: they wait for nothing.
pub(super) fn attest_whole(plan: &mut Plan, world: &Whole<'_>, clock: &dyn Clock) -> Vec<Attested> {
    let mut attested = Vec::new();
    for Planned { about, named, prepared, .. } in &mut plan.attestors {
        let Some(Prepared::Whole(attest)) = prepared.take_if(|one| matches!(one, Prepared::Whole(_))) else { continue };
        let start = clock.now();
        // What it has half made is dropped with it.
        let result = match catch_unwind(AssertUnwindSafe(|| attest(world))) {
            Ok(outcome) => pieces(outcome, *named),
            Err(_) => Err(panicked()),
        };
        attested.push(Attested { name: about.name, named: *named, result, start, end: clock.now() });
    }
    attested
}

fn panicked() -> String {
    format!("panicked: this is a bug of affiant {}, please report it", env!("CARGO_PKG_VERSION"))
}

/// Runs the jobs on threads of their own. A thread that outlives its limit is left behind: it holds no lock of ours and
/// ends with the process.
fn attest(jobs: Vec<(&'static str, bool, Job)>, limit: Duration, clock: &dyn Clock) -> Vec<Attested> {
    let begun = Instant::now();
    let running: Vec<_> = jobs
        .into_iter()
        .map(|(name, named, job)| {
            let (sender, receiver) = channel();
            let start = clock.now();
            let job = Mutex::new(Some(job));
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                let job = job.lock().ok().and_then(|mut job| job.take());
                if let Some(job) = job {
                    // A send fails only when nobody waits any more.
                    let _ = sender.send(job());
                }
            });
            (name, named, start, receiver, spawned)
        })
        .collect();
    running
        .into_iter()
        .map(|(name, named, start, receiver, spawned)| {
            let left = limit.saturating_sub(begun.elapsed());
            let result = match spawned {
                Err(error) => Err(format!("no thread for it: {error}")),
                Ok(_) => match receiver.recv_timeout(left) {
                    Ok(outcome) => pieces(outcome, named),
                    Err(RecvTimeoutError::Timeout) => Err(format!("did not finish within {} s", limit.as_secs())),
                    Err(RecvTimeoutError::Disconnected) => Err(panicked()),
                },
            };
            Attested { name, named, result, start, end: clock.now() }
        })
        .collect()
}

fn pieces(outcome: Outcome, named: bool) -> Result<Pieces, String> {
    match outcome {
        Ok(Found::Evidence { pieces, shortfalls }) => Ok(Pieces { evidence: pieces, shortfalls }),
        // An attestor that runs by default and finds nothing is no gap; one that was named is.
        Ok(Found::Nothing(_)) if !named => Ok(Pieces::default()),
        Ok(Found::Nothing(reason)) => Err(format!("nothing to attest: {reason}")),
        Err(error) => Err(error.to_string()),
    }
}

impl Plan {
    /// Takes the jobs of one phase out of the plan; `phase` gives the other phase's functions back.
    fn take_jobs(&mut self, phase: impl Fn(Prepared) -> Result<Job, Prepared>) -> Vec<(&'static str, bool, Job)> {
        let mut jobs = Vec::new();
        for Planned { about, named, prepared, .. } in &mut self.attestors {
            if let Some(function) = prepared.take() {
                match phase(function) {
                    Ok(job) => jobs.push((about.name, *named, job)),
                    Err(other) => *prepared = Some(other),
                }
            }
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Fixed;

    fn run(job: Job, limit: Duration) -> Attested {
        attest(vec![("probe", true, job)], limit, &Fixed(Timestamp::UNIX_EPOCH)).remove(0)
    }

    #[test]
    fn a_panic_becomes_a_gap() {
        let attested = run(Box::new(|| panic!("on purpose")), Duration::from_secs(10));
        assert!(attested.result.err().is_some_and(|reason| reason.starts_with("panicked")));
    }

    #[test]
    fn an_attestor_that_hangs_becomes_a_gap() {
        let attested = run(
            Box::new(|| {
                std::thread::sleep(Duration::from_secs(60));
                Ok(Found::Nothing(String::new()))
            }),
            Duration::from_millis(50),
        );
        assert!(attested.result.err().is_some_and(|reason| reason.starts_with("did not finish")));
    }

    #[test]
    fn nothing_is_a_gap_only_when_the_attestor_was_named() {
        assert!(pieces(Ok(Found::Nothing("no repository".into())), false).is_ok());
        let reason = pieces(Ok(Found::Nothing("no repository".into())), true).err();
        assert_eq!(reason.as_deref(), Some("nothing to attest: no repository"));
    }
}
