//! The progress bar of the snapshots: on a terminal, after one second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use affiant_core::snapshot::Progress;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::Output;

/// How long nothing is shown.
const QUIET: Duration = Duration::from_secs(1);
/// How often the figures are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Counts what the snapshot has read; a thread of its own draws it.
pub(super) struct Bar {
    counters: Arc<Counters>,
    drawer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counters {
    files: AtomicU64,
    bytes: AtomicU64,
    over: AtomicBool,
}

impl Bar {
    /// Starts counting. `what` names the snapshot for people.
    pub(super) fn start(what: &'static str) -> Box<Self> {
        let counters = Arc::new(Counters::default());
        let drawer = Output::on_terminal().then(|| {
            let counters = Arc::clone(&counters);
            std::thread::spawn(move || draw(what, &counters))
        });
        Box::new(Self { counters, drawer })
    }

    /// Takes the bar away.
    pub(super) fn finish(mut self: Box<Self>) {
        self.counters.over.store(true, Ordering::Relaxed);
        if let Some(drawer) = self.drawer.take() {
            drawer.thread().unpark();
            // A drawer that panicked has drawn nothing that matters.
            let _ = drawer.join();
        }
    }
}

fn draw(what: &'static str, counters: &Counters) {
    let begun = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    while !counters.over.load(Ordering::Relaxed) {
        std::thread::park_timeout(TICK);
        if begun.elapsed() < QUIET {
            continue;
        }
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{spinner} affiant: {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        bar.set_message(format!(
            "{what}: {} files, {}",
            HumanCount(counters.files.load(Ordering::Relaxed)),
            HumanBytes(counters.bytes.load(Ordering::Relaxed))
        ));
        bar.tick();
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn file(&self) {
        self.counters.files.fetch_add(1, Ordering::Relaxed);
    }

    fn bytes(&self, count: u64) {
        self.counters.bytes.fetch_add(count, Ordering::Relaxed);
    }
}
