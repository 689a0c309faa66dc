//! The event loop: everything that happens while the child runs comes together here.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd;
use sha2::{Digest, Sha256};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until};

use crate::child::{self, Child, News, Place, REPORT, Status, Subreaper};
use crate::signals::{Event, Signals, stop_here, watch};
use crate::tee::{self, Route, Shared, Tee};
use crate::terminal::{Layout, Output, Pty, Session};
use crate::{DEFAULT_KILL_AFTER, Ending, Error, LINGER, Ran, Request, Stream, Usage};

/// Signal handlers and `wait` belong to the process, so there is one supervisor at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How often it is looked whether anything is left after a timeout.
const LOOK: Duration = Duration::from_millis(20);
/// Never, for a clock that has to add.
const FAR_AWAY: Duration = Duration::from_hours(24 * 365);
/// How many times what is left gets `KILL`: a process that forks faster than it can be found has as many chances.
const KILLS: usize = 100;

/// Blocks until the child has ended.
pub(crate) fn run(request: &Request) -> Result<Ran, Error> {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|source| Error::Spawn { what: "starting the event loop", source })?;
    runtime.block_on(async {
        let (mut supervisor, outputs) = Supervisor::start(request)?;
        supervisor.finish(outputs).await.map_err(|source| Error::Lost { source })
    })
}

struct Supervisor {
    signals: Signals,
    child: Child,
    reports: Option<AsyncFd<OwnedFd>>,
    /// What the leader has reported, up to the last whole report.
    report: Vec<u8>,
    ptys: Vec<Pty>,
    session: Option<Session>,
    limit: Limit,
    /// The end of a pipe whose hangup tells the tees that the child has ended.
    running: Option<OwnedFd>,
    shared: Arc<Shared>,
    interrupted: Option<Signal>,
    /// `TSTP` was passed on: when the child stops, we do too.
    asked_to_stop: bool,
    _subreaper: Subreaper,
}

/// The child's two output streams.
struct Outputs {
    stdout: Option<Tee>,
    stderr: Option<Tee>,
    terminal: bool,
}

/// Where the timeout stands.
enum Limit {
    None,
    /// `TERM` is due.
    Term {
        at: Instant,
        kill_after: Duration,
    },
    /// `TERM` was sent, `KILL` is due.
    Kill {
        at: Instant,
    },
    Killed,
}

impl Limit {
    fn new(request: &Request) -> Self {
        let kill_after = request.kill_after.unwrap_or(DEFAULT_KILL_AFTER);
        // A time so far away that it cannot be counted is no limit.
        match request.timeout.and_then(|timeout| Instant::now().checked_add(timeout)) {
            Some(at) => Self::Term { at, kill_after },
            None => Self::None,
        }
    }

    fn due(&self) -> Option<Instant> {
        match self {
            Self::Term { at, .. } | Self::Kill { at } => Some(*at),
            Self::None | Self::Killed => None,
        }
    }

    fn has_passed(&self) -> bool {
        matches!(self, Self::Kill { .. } | Self::Killed)
    }

    /// Time in which we were stopped does not count.
    fn postpone(&mut self, by: Duration) {
        if let Self::Term { at, .. } | Self::Kill { at } = self {
            *at += by;
        }
    }
}

impl Supervisor {
    fn start(request: &Request) -> Result<(Self, Outputs), Error> {
        let failed = |what| move |source| Error::Spawn { what, source };
        let subreaper = Subreaper::become_one();
        let signals = Signals::catch().map_err(failed("catching signals"))?;
        let Layout { place, stdio, outputs, ptys, mut session, given } =
            Layout::arrange().map_err(failed("connecting its streams"))?;
        let (ended, running) = tee::pipe().map_err(failed("making a pipe"))?;
        let shared = Arc::new(Shared::default());
        let mut terminal = false;
        let mut start = |output| match output {
            Output::Closed => Ok(None),
            Output::WithStdout => {
                terminal = true;
                Ok(None)
            }
            Output::Copied { source, sink, terminal } => {
                let route = Route { source, sink, ended: ended.try_clone()?, terminal, shared: Arc::clone(&shared) };
                Tee::start(route, request.head, request.tail).map(Some)
            }
        };
        let [stdout, stderr] = outputs;
        let stdout = start(stdout).map_err(failed("copying its output"))?;
        let stderr = start(stderr).map_err(failed("copying its output"))?;
        if let Some(session) = &mut session {
            session.enter().map_err(failed("setting the terminal"))?;
        }
        // The limit counts from before the child runs, so that a clock outside never sees us late.
        let limit = Limit::new(request);
        let mut child = child::spawn(request, stdio, place, &signals)?;
        drop(given);
        let reports = child.leader.as_mut().and_then(|leader| leader.reports.take());
        let reports = reports.map(|reports| watch(reports, Interest::READABLE));
        let supervisor = Self {
            signals,
            child,
            reports: reports.transpose().map_err(|source| Error::Lost { source })?,
            report: Vec::new(),
            ptys,
            session,
            limit,
            running: Some(running),
            shared,
            interrupted: None,
            asked_to_stop: false,
            _subreaper: subreaper,
        };
        Ok((supervisor, Outputs { stdout, stderr, terminal }))
    }

    async fn finish(&mut self, mut outputs: Outputs) -> io::Result<Ran> {
        let (status, usage) = self.until_ended().await?;
        for pty in &mut self.ptys {
            pty.close_slave();
        }
        if self.limit.has_passed() {
            self.clear_away().await?;
        }
        self.running = None;
        self.drain(&mut outputs).await?;
        if let Some(session) = &mut self.session {
            if status == Status::Exited(0) {
                session.leave_as_the_child_did();
            } else {
                session.leave();
            }
        }
        if let Some(leader) = self.child.leader.take() {
            drop(leader.release);
            // Gone already where it was hung up and `reap` has met it.
            let _ = crate::signals::retry(|| nix::sys::wait::waitpid(leader.pid, None));
        }
        self.child.reap();
        let (stdout, behind_stdout) = stream(outputs.stdout);
        let (stderr, behind_stderr) = stream(outputs.stderr);
        Ok(Ran {
            ending: self.ending(status),
            stdout,
            stderr,
            terminal: outputs.terminal,
            interrupted: self.interrupted.map(|signal| signal as i32),
            left_behind: behind_stdout || behind_stderr,
            usage,
        })
    }

    fn ending(&self, status: Status) -> Ending {
        match status {
            _ if self.limit.has_passed() => {
                let (code, signal) = match status {
                    Status::Exited(code) => (Some(code), None),
                    Status::Signalled { signal, .. } => (None, Some(signal)),
                };
                Ending::TimedOut { code, signal, killed: matches!(self.limit, Limit::Killed) }
            }
            Status::Exited(code) => Ending::Exited(code),
            Status::Signalled { signal, core } => Ending::Signalled { signal, core },
        }
    }

    async fn until_ended(&mut self) -> io::Result<(Status, Usage)> {
        loop {
            let heard = tokio::select! {
                event = self.signals.next() => self.signal(event?),
                heard = next_report(&mut self.reports, &mut self.report) => self.reported(heard?),
                () = due(self.limit.due()) => {
                    self.limit_reached();
                    Vec::new()
                }
                () = pass_keys(&mut self.session) => Vec::new(),
            };
            for news in heard {
                match news {
                    News::Ended { status, usage } => return Ok((status, usage)),
                    News::Stopped { signal } => self.stop(signal).await?,
                }
            }
        }
    }

    /// What a leader's report says; at the end of its reports it has gone, and the child is ours to wait for.
    fn reported(&mut self, bytes: Option<[u8; REPORT]>) -> Vec<News> {
        if let Some(bytes) = bytes {
            return child::parse_report(&bytes).and_then(|news| self.child.accept(news)).into_iter().collect();
        }
        self.reports = None;
        self.child.reap()
    }

    fn signal(&mut self, Event { signal, by_terminal }: Event) -> Vec<News> {
        // In our own process group the child has it already.
        let has_it = by_terminal && self.child.place == Place::OurGroup;
        match signal {
            Signal::SIGCHLD => return self.child.reap(),
            Signal::SIGWINCH => {
                let told = self.resize();
                if !told || self.child.place == Place::OurGroup {
                    // Told again in our group: it may have looked before the pty had the new size.
                    self.child.send(signal);
                }
                return Vec::new();
            }
            Signal::SIGCONT => {
                if let Some(session) = &mut self.session {
                    // Not ours after `bg`; `pass_keys` then looks out for it.
                    let _ = session.enter();
                }
                self.resize();
            }
            Signal::SIGTSTP => self.asked_to_stop = true,
            Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT => self.interrupted = Some(signal),
            _ => {}
        }
        if !has_it {
            self.child.send(signal);
        }
        Vec::new()
    }

    fn resize(&self) -> bool {
        // Every one of them is looked at.
        self.ptys.iter().filter(|pty| pty.resize()).count() > 0
    }

    /// The child has stopped: so do we, that our shell sees it.
    async fn stop(&mut self, by: i32) -> io::Result<()> {
        let asked = std::mem::take(&mut self.asked_to_stop);
        match self.child.place {
            // Without a terminal nobody would continue us; only who stopped us will.
            Place::OwnGroup if !asked => return Ok(()),
            Place::OurGroup => {
                // It may have been continued together with us, just now.
                sleep(LOOK).await;
                let runs = match child::process(self.child.pid.as_raw()) {
                    Some(process) => !process.stopped,
                    // Gone, unless there is no `/proc` to ask.
                    None => child::process(unistd::getpid().as_raw()).is_some(),
                };
                if runs {
                    return Ok(());
                }
            }
            _ => {}
        }
        if let Some(session) = &mut self.session {
            session.leave();
        }
        let signal = match Signal::try_from(by) {
            Ok(signal @ (Signal::SIGTTIN | Signal::SIGTTOU)) if self.session.is_none() => signal,
            _ => Signal::SIGTSTP,
        };
        let since = Instant::now();
        // With a pty of its own the child alone has got the ^Z that was meant for our whole process group: the script that
        // runs us has to stop as well.
        stop_here(signal, self.session.is_some())?;
        self.limit.postpone(since.elapsed());
        if self.child.place != Place::OurGroup && !self.signals.has_arrived(Signal::SIGCONT) {
            // The kernel discards stops where nobody could continue us (an orphaned process group). Without us the
            // child would not have been stopped either.
            if let Some(session) = &mut self.session {
                session.enter()?;
            }
            self.child.send(Signal::SIGCONT);
        }
        Ok(())
    }

    fn limit_reached(&mut self) {
        match self.limit {
            Limit::Term { at, kill_after } => {
                let kill = at.checked_add(kill_after).unwrap_or(at + FAR_AWAY);
                self.limit = Limit::Kill { at: kill };
                self.child.send_to_all(&[Signal::SIGTERM, Signal::SIGCONT]);
            }
            Limit::Kill { .. } => {
                self.limit = Limit::Killed;
                self.child.send_to_all(&[Signal::SIGKILL]);
            }
            Limit::None | Limit::Killed => {}
        }
    }

    /// After a timeout: waits until no descendant is left, and when `KILL` is due sends it until none is.
    async fn clear_away(&mut self) -> io::Result<()> {
        let mut kills = 0;
        while kills < KILLS && !self.child.descendants().is_empty() {
            if self.limit.due().is_none_or(|at| at <= Instant::now()) {
                self.limit = Limit::Killed;
                self.child.send_to_all(&[Signal::SIGKILL]);
                kills += 1;
            }
            tokio::select! {
                event = self.signals.next() => drop(self.signal(event?)),
                () = sleep(LOOK) => {}
            }
        }
        Ok(())
    }

    /// Waits until the output was passed on. A reader that blocks us can be left by a signal, which without us would have
    /// ended the child while it wrote.
    async fn drain(&mut self, outputs: &mut Outputs) -> io::Result<()> {
        let mut leave_at = None;
        loop {
            tokio::select! {
                () = finished(outputs) => return Ok(()),
                event = self.signals.next() => {
                    let event = event?;
                    self.signal(event);
                    if matches!(event.signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT) {
                        // Not at once: it may be the very signal that has ended the child.
                        leave_at.get_or_insert(Instant::now() + LINGER);
                    }
                }
                () = due(leave_at) => {
                    self.shared.given_up.store(true, Ordering::Relaxed);
                    return Ok(());
                }
            }
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn pass_keys(session: &mut Option<Session>) {
    match session {
        Some(session) => session.pass_keys().await,
        None => std::future::pending().await,
    }
}

async fn finished(outputs: &mut Outputs) {
    for tee in [&mut outputs.stdout, &mut outputs.stderr].into_iter().flatten() {
        tee.finished().await;
    }
}

/// The next report of a session leader; `None` when it has gone. Cancel-safe.
async fn next_report(reports: &mut Option<AsyncFd<OwnedFd>>, report: &mut Vec<u8>) -> io::Result<Option<[u8; REPORT]>> {
    let Some(reports) = reports else { return std::future::pending().await };
    loop {
        if let Some((first, _)) = report.split_first_chunk() {
            let first: [u8; REPORT] = *first;
            report.drain(..REPORT);
            return Ok(Some(first));
        }
        let mut ready = reports.readable().await?;
        let mut bytes = [0; REPORT];
        match ready.try_io(|reports| Ok(unistd::read(reports, &mut bytes)?)) {
            Ok(Ok(0)) => return Ok(None),
            Ok(Ok(length)) => report.extend_from_slice(&bytes[..length]),
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
}

fn stream(tee: Option<Tee>) -> (Stream, bool) {
    match tee {
        Some(tee) => tee.stream(),
        None => (
            Stream {
                sha256: Sha256::digest(b"").into(),
                length: 0,
                head: Vec::new(),
                tail: Vec::new(),
                connected: false,
                terminal: false,
                cut: None,
            },
            false,
        ),
    }
}
