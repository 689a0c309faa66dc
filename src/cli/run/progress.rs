//! The progress bar of the snapshots: on a terminal, after one second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use affiant_core::snapshot::Progress;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget};

use crate::cli::output::Output;

/// How long nothing is shown.
const QUIET: Duration = Duration::from_secs(1);
/// How often the figures are looked at.
const TICK: Duration = Duration::from_millis(100);

/// What the snapshot has read; a thread of its own draws it.
pub(super) struct Bar {
    progress: Arc<Progress>,
    over: Arc<AtomicBool>,
    drawer: Option<JoinHandle<()>>,
}

impl Bar {
    /// Starts counting. `what` names the snapshot for people.
    pub(super) fn start(what: &'static str) -> Self {
        let progress = Arc::new(Progress::default());
        let over = Arc::new(AtomicBool::new(false));
        let drawer = Output::on_terminal().then(|| {
            let (progress, over) = (Arc::clone(&progress), Arc::clone(&over));
            std::thread::spawn(move || draw(what, &progress, &over))
        });
        Self { progress, over, drawer }
    }

    /// The counters.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Takes the bar away.
    pub(super) fn finish(mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(drawer) = self.drawer.take() {
            drawer.thread().unpark();
            // A drawer that panicked has drawn nothing that matters.
            let _ = drawer.join();
        }
    }
}

fn draw(what: &'static str, progress: &Progress, over: &AtomicBool) {
    let begun = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(TICK);
        if begun.elapsed() < QUIET {
            continue;
        }
        let bar = bar.get_or_insert_with(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_prefix("affiant")
        });
        bar.set_message(format!("{what}: {} files, {}", HumanCount(progress.files()), HumanBytes(progress.bytes())));
        bar.tick();
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}
