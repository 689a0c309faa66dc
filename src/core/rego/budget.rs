//! What an evaluation may use: time, memory and stack.
//!
//! The interpreter asks a clock every few steps and gives up when its time is over. That clock is ours: where the
//! memory of the process has grown too far, it tells a time after the end.

use std::cell::Cell;
use std::fs::File;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use regorus::utils::limits::{ExecutionTimerConfig, TimeSource, set_time_source};

use super::{Limits, RegoError};

/// Stack of the threads that read and evaluate Rego: address space, of which only what is used costs memory. Both
/// recurse over expressions, whose depth is limited when a module is read.
const STACK: usize = 256 * 1024 * 1024;
/// Steps of the interpreter between two looks at the clock.
const STEPS: NonZeroU32 = NonZeroU32::new(8).expect("eight is not zero");
/// Looks at the clock between two looks at the memory, which cost a system call.
const LOOKS: u32 = 16;

/// How long after its time an evaluation may still end by itself.
const GRACE: Duration = Duration::from_secs(1);
/// Time between two looks at an evaluation from outside.
const WAIT: Duration = Duration::from_millis(20);

/// Why an evaluation was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// [`Limits::time`].
    Time,
    /// [`Limits::memory`].
    Memory,
    /// The stack: rules and functions that use each other, or themselves, too deep.
    Stack,
}

#[derive(Clone, Copy)]
struct Budget {
    end: Instant,
    memory: u64,
    /// Address near the beginning of the stack.
    stack: usize,
    looks: u32,
    exceeded: Option<Exceeded>,
}

thread_local! {
    /// The budget of the evaluation that runs on this thread.
    static BUDGET: Cell<Option<Budget>> = const { Cell::new(None) };
}

struct Watch;

impl TimeSource for Watch {
    fn now(&self) -> Option<Duration> {
        // The interpreter takes the first answer as the beginning; without a budget nothing is over.
        let Some(mut budget) = BUDGET.get() else { return Some(Duration::ZERO) };
        budget.looks += 1;
        if budget.exceeded.is_none() {
            if budget.stack.abs_diff(here()) > STACK / 2 {
                budget.exceeded = Some(Exceeded::Stack);
            } else if Instant::now() >= budget.end {
                budget.exceeded = Some(Exceeded::Time);
            } else if budget.looks.is_multiple_of(LOOKS) && resident() > budget.memory {
                budget.exceeded = Some(Exceeded::Memory);
            }
        }
        BUDGET.set(Some(budget));
        Some(if budget.exceeded.is_some() { Duration::MAX } else { Duration::ZERO })
    }
}

static WATCH: Watch = Watch;

/// What an engine must be told for [`begin`] to hold.
pub(super) fn timer() -> ExecutionTimerConfig {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        // Nobody else in the process sets one; if so, the evaluation runs by that clock.
        let _ = set_time_source(&WATCH);
    });
    ExecutionTimerConfig { limit: Duration::from_secs(1), check_interval: STEPS }
}

/// Starts the budget of the evaluation on this thread.
pub(super) fn begin(limits: &Limits) {
    let now = Instant::now();
    BUDGET.set(Some(Budget {
        end: now.checked_add(limits.time).unwrap_or(now),
        memory: resident().saturating_add(limits.memory),
        stack: here(),
        looks: 0,
        exceeded: None,
    }));
}

/// Whether the evaluation on this thread was broken off, or should have been.
pub(super) fn exceeded() -> Option<Exceeded> {
    BUDGET.get().and_then(|budget| budget.exceeded)
}

/// Whether `bytes` more would be too much for the evaluation on this thread; remembers that it was.
pub(super) fn spends(bytes: u64) -> bool {
    let Some(mut budget) = BUDGET.get() else { return false };
    if budget.exceeded.is_none() && resident().saturating_add(bytes) > budget.memory {
        budget.exceeded = Some(Exceeded::Memory);
        BUDGET.set(Some(budget));
    }
    budget.exceeded.is_some()
}

/// An address on the stack, as it is now.
#[inline(never)]
fn here() -> usize {
    let place = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&place)).addr()
}

/// Bytes of memory that the process has in use. Without `/proc`, as in an empty root: the most that it ever had.
fn resident() -> u64 {
    static STATM: OnceLock<Option<File>> = OnceLock::new();
    let pages = STATM.get_or_init(|| File::open("/proc/self/statm").ok()).as_ref().and_then(|file| {
        let mut text = [0; 128];
        let length = file.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    });
    pages.map_or_else(peak, |pages| pages.saturating_mul(rustix::param::page_size() as u64))
}

fn peak() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.ok().and_then(|usage| u64::try_from(usage.max_rss()).ok()).unwrap_or(0).saturating_mul(1024)
}

/// An evaluation that gave no result.
pub(super) enum Left {
    /// It did not come to an end in time, or took too much memory.
    Exceeded(Exceeded),
    /// No thread could be started, or it panicked.
    Broken(String),
}

/// Runs `work`, which keeps to `limits` by itself, on a thread whose stack is known, and leaves it alone there when it
/// does not: a call within the interpreter cannot be broken off.
pub(super) fn watched<T: Send + 'static>(
    limits: &Limits,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Left> {
    let memory = resident().saturating_add(limits.memory.saturating_mul(2));
    let begin = Instant::now();
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let thread = move || {
        // Nobody may be listening any more.
        let _ = send.send(work());
    };
    std::thread::Builder::new()
        .name("rego".to_owned())
        .stack_size(STACK)
        .spawn(thread)
        .map_err(|error| Left::Broken(error.to_string()))?;
    loop {
        match receive.recv_timeout(WAIT) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(Left::Broken("the interpreter panicked".to_owned())),
            Err(RecvTimeoutError::Timeout) if begin.elapsed() > limits.time.saturating_add(GRACE) => {
                return Err(Left::Exceeded(Exceeded::Time));
            }
            Err(RecvTimeoutError::Timeout) if resident() > memory => return Err(Left::Exceeded(Exceeded::Memory)),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Runs `work` on a thread whose stack is known. `modules` is for the error.
pub(super) fn on_a_thread<T: Send>(
    modules: &str,
    work: impl FnOnce() -> Result<T, RegoError> + Send,
) -> Result<T, RegoError> {
    let broken = |problem: String| RegoError::Broken { modules: modules.to_owned(), problem };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("rego".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| broken(error.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(broken("the interpreter panicked".to_owned())))
    })
}
