//! Starting the child, hearing of its end, and finding its descendants.
//!
//! Everything that needs memory is prepared before the fork. Between fork and exec only async-signal-safe calls are made:
//! the new process has one thread, and a lock that another thread of ours held at the fork is held there for ever.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;
use std::{fs, mem, ptr};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{self, c_char, c_int};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::Pid;

use crate::signals::{Blocked, Inherited, Signals};
use crate::{Error, Request, Usage, tee};

/// Searched when the child's environment has no `PATH`, as the C library does.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// What the child gets as one of its standard streams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stdio {
    /// Ours, or nothing where ours is closed.
    Inherit,
    /// This descriptor, numbered above 2.
    Use(RawFd),
}

/// The process group and session of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A process group of its own: there is no terminal.
    OwnGroup,
    /// Our process group, so that the terminal treats it as it treats us.
    OurGroup,
    /// A session of its own on this pty, under a process that leads the session and waits (see [`lead_session`]).
    Session(RawFd),
}

/// A wait status, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Exited(i32),
    Signalled { signal: i32, core: bool },
}

/// What was heard of the child.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    Ended { status: Status, usage: Usage },
    Stopped { signal: i32 },
}

/// The running child.
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) place: Place,
    /// With [`Place::Session`]: the leader, the end where it reports, and the end whose closing lets it go.
    pub(crate) leader: Option<Leader>,
    ended: bool,
}

pub(crate) struct Leader {
    pub(crate) pid: Pid,
    pub(crate) reports: Option<OwnedFd>,
    pub(crate) release: Option<OwnedFd>,
}

/// Everything that the new process needs, in the form in which the kernel takes it.
struct Prepared {
    /// The files to try, in order.
    candidates: Vec<CString>,
    argv: Pointers,
    /// For a file without a format: `/bin/sh`, a place for the file, the arguments.
    script: Pointers,
    env: Pointers,
    dir: Option<CString>,
    stdio: [Stdio; 3],
    place: Place,
    dispositions: Vec<Inherited>,
    mask: SigSet,
}

/// A null-terminated list of C strings, and the strings.
struct Pointers {
    _strings: Vec<CString>,
    list: Vec<*const c_char>,
}

impl Pointers {
    fn new(strings: Vec<CString>) -> Self {
        let list = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { _strings: strings, list }
    }
}

/// The step at which the new process failed, told to us through a pipe before it gives up.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Step {
    Fork = 1,
    Session,
    Stdio,
    Dir,
    Exec,
}

/// Size of one report of a session leader, in bytes: process id, wait status, peak memory, user and system time.
pub(crate) const REPORT: usize = 8 * 5;

/// Starts the child, with the mask and the dispositions that were in force before `signals` changed them.
pub(crate) fn spawn(request: &Request, stdio: [Stdio; 3], place: Place, signals: &Signals) -> Result<Child, Error> {
    let system = |what| move |source| Error::Spawn { what, source };
    let (failed_read, failed_write) = tee::pipe().map_err(system("making a pipe"))?;
    let session = match place {
        Place::Session(_) => {
            let reports = tee::pipe().map_err(system("making a pipe"))?;
            let release = tee::pipe().map_err(system("making a pipe"))?;
            Some((reports, release))
        }
        _ => None,
    };
    let blocked = Blocked::all().map_err(system("blocking signals"))?;
    let prepared = Prepared {
        candidates: candidates(request)?,
        argv: Pointers::new(argv(request, &[&request.program])?),
        script: Pointers::new(argv(request, &[OsStr::new("/bin/sh"), OsStr::new("")])?),
        env: Pointers::new(environment(request)?),
        dir: request.dir.as_ref().map(|dir| c_string(dir.as_os_str())).transpose()?,
        stdio,
        place,
        dispositions: signals.inherited(),
        mask: *signals.mask(),
    };
    // SAFETY: the new process calls `in_child` alone, which makes only async-signal-safe calls and never returns.
    let forked = match unsafe { libc::fork() } {
        -1 => return Err(system("forking")(io::Error::last_os_error())),
        0 => {
            let report = session.as_ref().map(|(reports, release)| (reports.1.as_raw_fd(), release.0.as_raw_fd()));
            // SAFETY: we are the new process, and everything passed was made before the fork.
            unsafe { in_child(&prepared, failed_write.as_raw_fd(), report) }
        }
        pid => Pid::from_raw(pid),
    };
    drop(blocked);
    drop(failed_write);
    let leader = session.map(|((reports, _), (_, release))| Leader {
        pid: forked,
        reports: Some(reports),
        release: Some(release),
    });
    let mut failure = [0; 8];
    let mut failed = fs::File::from(failed_read);
    if failed.read_exact(&mut failure).is_ok() {
        drop(leader);
        // The process has nothing more to do than to end.
        let _ = crate::signals::retry(|| nix::sys::wait::waitpid(forked, None));
        return Err(explain(request, int(&failure, 0), int(&failure, 4)));
    }
    let mut child = Child { pid: forked, place, leader, ended: false };
    if let Some(leader) = &mut child.leader {
        // The leader tells the child's number before anything else.
        let mut first = [0; REPORT];
        let reports = leader.reports.take().map(fs::File::from);
        if let Some(mut reports) = reports
            && reports.read_exact(&mut first).is_ok()
        {
            child.pid = Pid::from_raw(c_int::try_from(long(&first, 0)).unwrap_or(0));
            // Ours alone, so it can be made non-blocking for the event loop.
            let _ = fcntl(&reports, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            leader.reports = Some(reports.into());
        }
    }
    Ok(child)
}

/// The files that `execvp` would try: the name itself when it has a slash, else one for each folder of the child's `PATH`.
fn candidates(request: &Request) -> Result<Vec<CString>, Error> {
    let name = request.program.as_bytes();
    if name.is_empty() {
        return Err(Error::NotFound { program: request.program.clone() });
    }
    if name.contains(&b'/') {
        return Ok(vec![c_string(&request.program)?]);
    }
    let path = request.env.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, path)| path.as_bytes());
    path.split(|&byte| byte == b':')
        .map(|folder| {
            let mut file = folder.to_vec();
            // An empty entry is the working directory.
            if !folder.is_empty() {
                file.push(b'/');
            }
            file.extend_from_slice(name);
            c_string(&OsString::from_vec(file))
        })
        .collect()
}

fn argv(request: &Request, first: &[&OsStr]) -> Result<Vec<CString>, Error> {
    let rest = request.args.iter().map(OsString::as_os_str);
    first.iter().copied().chain(rest).map(c_string).collect()
}

fn environment(request: &Request) -> Result<Vec<CString>, Error> {
    let line = |(name, value): &(OsString, OsString)| {
        let mut line = name.clone();
        line.push("=");
        line.push(value);
        c_string(&line)
    };
    request.env.iter().map(line).collect()
}

fn c_string(text: &OsStr) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| Error::Nul { text: text.to_owned() })
}

fn explain(request: &Request, step: i32, errno: i32) -> Error {
    let source = io::Error::from_raw_os_error(errno);
    let program = request.program.clone();
    match step {
        step if step == Step::Exec as i32 && errno == libc::ENOENT => Error::NotFound { program },
        step if step == Step::Exec as i32 => Error::NotExecutable { program, source },
        step if step == Step::Dir as i32 => Error::WorkingDir { dir: request.dir.clone().unwrap_or_default(), source },
        step if step == Step::Session as i32 => Error::Spawn { what: "giving it a terminal", source },
        step if step == Step::Stdio as i32 => Error::Spawn { what: "connecting its streams", source },
        _ => Error::Spawn { what: "forking", source },
    }
}

/// The new process, from the fork to the exec.
///
/// # Safety
/// Only in a process that has just been forked, with every signal blocked.
unsafe fn in_child(prepared: &Prepared, failed: RawFd, leader: Option<(RawFd, RawFd)>) -> ! {
    // SAFETY: the calls below are async-signal-safe and get descriptors, pointers and structs that live in `prepared`.
    unsafe {
        if let (Place::Session(slave), Some((reports, release))) = (prepared.place, leader) {
            if libc::setsid() == -1 || libc::ioctl(slave, libc::TIOCSCTTY, 0) == -1 {
                give_up(failed, Step::Session);
            }
            match libc::fork() {
                -1 => give_up(failed, Step::Fork),
                0 => {}
                child => lead_session(child, reports, release),
            }
        }
        if prepared.place != Place::OurGroup {
            libc::setpgid(0, 0);
        }
        if let Place::Session(slave) = prepared.place {
            // SIGTTOU is blocked, so this works from the background group that we still are.
            libc::tcsetpgrp(slave, libc::getpid());
        }
        for (number, stdio) in (0..).zip(prepared.stdio) {
            if let Stdio::Use(descriptor) = stdio
                && libc::dup2(descriptor, number) == -1
            {
                give_up(failed, Step::Stdio);
            }
        }
        if let Some(dir) = &prepared.dir
            && libc::chdir(dir.as_ptr()) == -1
        {
            give_up(failed, Step::Dir);
        }
        for Inherited { signal, ignored } in &prepared.dispositions {
            libc::signal(*signal as c_int, if *ignored { libc::SIG_IGN } else { libc::SIG_DFL });
        }
        libc::sigprocmask(libc::SIG_SETMASK, prepared.mask.as_ref(), ptr::null_mut());
        exec(prepared);
        give_up(failed, Step::Exec)
    }
}

/// Tries the candidates as `execvp` does; returns with `errno` set when none could be started.
///
/// # Safety
/// As [`in_child`].
unsafe fn exec(prepared: &Prepared) {
    let mut denied = false;
    for file in &prepared.candidates {
        // SAFETY: null-terminated lists of null-terminated strings, which live in `prepared`.
        unsafe { libc::execve(file.as_ptr(), prepared.argv.list.as_ptr(), prepared.env.list.as_ptr()) };
        match Errno::last() {
            Errno::ENOEXEC => {
                // A script without `#!` is the shell's. The list is changed in place: this process has one thread, and
                // it never returns to code that could look at the list again.
                let script = prepared.script.list.as_ptr().cast_mut();
                // SAFETY: the list has at least the two places that `argv` was given; see above for who may look at it.
                unsafe {
                    *script.add(1) = file.as_ptr();
                    libc::execve(*script, script.cast_const(), prepared.env.list.as_ptr());
                }
                return;
            }
            Errno::EACCES => denied = true,
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
            _ => return,
        }
    }
    // A folder of PATH that is no folder means "not found", and a file that may not be run counts more than one that is
    // not there.
    let single = prepared.candidates.len() == 1 && prepared.candidates[0].as_bytes().contains(&b'/');
    if denied {
        Errno::set_raw(libc::EACCES);
    } else if !single || Errno::last() != Errno::ENOTDIR {
        Errno::set_raw(libc::ENOENT);
    }
}

/// Tells our parent what went wrong.
///
/// # Safety
/// As [`in_child`].
unsafe fn give_up(failed: RawFd, step: Step) -> ! {
    let mut report = [0; 8];
    report[..4].copy_from_slice(&(step as i32).to_ne_bytes());
    report[4..].copy_from_slice(&Errno::last_raw().to_ne_bytes());
    // SAFETY: async-signal-safe calls; `report` lives through the write.
    unsafe {
        libc::write(failed, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

/// The leader of the session on the pty: it stands between us and the child, reports how the child fares, and keeps the
/// session until we have read the last byte.
///
/// It is needed for two reasons. The kernel discards the stop of ^Z in a process group whose members all have their parents
/// outside the session (an orphaned group), as the child's would be if we were its parent. And when a session leader
/// ends, its terminal is hung up and what nobody has read yet is lost.
///
/// # Safety
/// As [`in_child`].
unsafe fn lead_session(child: c_int, reports: RawFd, release: RawFd) -> ! {
    // SAFETY: async-signal-safe calls on our own descriptors and local structs.
    unsafe {
        // Also done by the child itself: whoever comes first.
        libc::setpgid(child, child);
        // Nothing of our parent may stay open here, least of all the ends that tell it of an end.
        libc::dup2(reports, 0);
        libc::dup2(release, 1);
        if libc::syscall(libc::SYS_close_range, 2, libc::c_uint::MAX, 0) == -1 {
            // A kernel before 5.9.
            for descriptor in 2..1024 {
                libc::close(descriptor);
            }
        }
        // Only a hangup of the terminal ends us, and the kernel then passes it on to the child.
        libc::signal(libc::SIGHUP, libc::SIG_DFL);
        let mut mask: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigaddset(&raw mut mask, libc::SIGHUP);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const mask, ptr::null_mut());
        let mut usage: libc::rusage = mem::zeroed();
        report(child, -1, &usage);
        loop {
            let mut status = 0;
            let waited = libc::wait4(child, &raw mut status, libc::WUNTRACED, &raw mut usage);
            if waited == -1 && Errno::last() == Errno::EINTR {
                continue;
            }
            if waited == child {
                report(child, status, &usage);
            }
            if waited != child || !libc::WIFSTOPPED(status) {
                break;
            }
        }
        libc::close(0);
        let mut byte = 0_u8;
        while libc::read(1, (&raw mut byte).cast(), 1) == -1 && Errno::last() == Errno::EINTR {}
        libc::_exit(0)
    }
}

/// Writes one report of [`lead_session`].
///
/// # Safety
/// As [`in_child`].
unsafe fn report(child: c_int, status: c_int, usage: &libc::rusage) {
    let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    let fields = [i64::from(child), i64::from(status), usage.ru_maxrss, micros(usage.ru_utime), micros(usage.ru_stime)];
    let mut bytes = [0; REPORT];
    for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_ne_bytes());
    }
    // SAFETY: async-signal-safe; the report is shorter than PIPE_BUF, so it is written whole.
    unsafe { libc::write(0, bytes.as_ptr().cast(), bytes.len()) };
}

/// Reads a report of [`lead_session`].
pub(crate) fn parse_report(bytes: &[u8; REPORT]) -> Option<News> {
    let micros = |at| Duration::from_micros(u64::try_from(long(bytes, at)).unwrap_or(0));
    let usage =
        Usage { peak_memory: u64::try_from(long(bytes, 16)).unwrap_or(0) * 1024, user: micros(24), system: micros(32) };
    news(c_int::try_from(long(bytes, 8)).ok()?, usage)
}

fn news(status: c_int, usage: Usage) -> Option<News> {
    if libc::WIFSTOPPED(status) {
        Some(News::Stopped { signal: libc::WSTOPSIG(status) })
    } else if libc::WIFSIGNALED(status) {
        let status = Status::Signalled { signal: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) };
        Some(News::Ended { status, usage })
    } else if libc::WIFEXITED(status) {
        Some(News::Ended { status: Status::Exited(libc::WEXITSTATUS(status)), usage })
    } else {
        None
    }
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> i64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    i64::from_ne_bytes(field)
}

impl Child {
    /// Takes everything that `wait` has to tell: of the child, and of orphans that were given to us, which are buried.
    pub(crate) fn reap(&mut self) -> Vec<News> {
        let mut heard = Vec::new();
        loop {
            let mut status = 0;
            // SAFETY: an all-zero rusage is a valid value of this plain C struct.
            let mut usage: libc::rusage = unsafe { mem::zeroed() };
            let options = libc::WNOHANG | libc::WUNTRACED;
            // SAFETY: both pointers are to locals that live through the call.
            let pid = unsafe { libc::wait4(-1, &raw mut status, options, &raw mut usage) };
            if pid == -1 && Errno::last() == Errno::EINTR {
                continue;
            }
            if pid <= 0 {
                return heard;
            }
            if pid == self.pid.as_raw()
                && let Some(news) = news(status, usage_of(&usage))
            {
                heard.extend(self.accept(news));
            }
        }
    }

    /// Notes news of the child; nothing comes after its end.
    pub(crate) fn accept(&mut self, news: News) -> Option<News> {
        if self.ended {
            return None;
        }
        self.ended = matches!(news, News::Ended { .. });
        Some(news)
    }

    /// Passes a signal on: to the child's process group, or where that is ours to the child alone, as the one who sent it
    /// to us alone would have done without us.
    pub(crate) fn send(&self, signal: Signal) {
        if self.ended {
            return;
        }
        // It may have ended by now; nothing is to be done then.
        let _ = match self.place {
            Place::OurGroup => kill(self.pid, signal),
            Place::OwnGroup | Place::Session(_) => killpg(self.pid, signal),
        };
    }

    /// Sends signals to the child's process group and to every descendant of ours outside it.
    pub(crate) fn send_to_all(&self, signals: &[Signal]) {
        if self.place != Place::OurGroup {
            // The group at once, so that nobody escapes by forking meanwhile.
            for signal in signals {
                let _ = killpg(self.pid, *signal);
            }
        }
        let descendants = self.descendants();
        let mut targets: Vec<i32> = descendants.iter().map(|process| process.pid).collect();
        if self.place == Place::OurGroup {
            // Whatever `/proc` says, or does not where there is none.
            if !self.ended && !targets.contains(&self.pid.as_raw()) {
                targets.push(self.pid.as_raw());
            }
        } else {
            targets = descendants.iter().filter(|it| it.group != self.pid.as_raw()).map(|it| it.pid).collect();
        }
        for pid in targets {
            for signal in signals {
                let _ = kill(Pid::from_raw(pid), *signal);
            }
        }
    }

    /// The living descendants of this process, without a session leader of ours.
    pub(crate) fn descendants(&self) -> Vec<Process> {
        let leader = self.leader.as_ref().map(|leader| leader.pid.as_raw());
        let mut found = descendants_of(nix::unistd::getpid().as_raw());
        found.retain(|process| Some(process.pid) != leader && !process.dead);
        found
    }
}

fn usage_of(usage: &libc::rusage) -> Usage {
    let time = |time: libc::timeval| {
        let micros = time.tv_sec * 1_000_000 + time.tv_usec;
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Usage {
        peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
    }
}

/// A process as `/proc` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) dead: bool,
    pub(crate) stopped: bool,
}

/// The processes below `root`; none where `/proc` cannot be read.
pub(crate) fn descendants_of(root: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(process) = pid.and_then(process) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        // Taken out, so that a number that was used again while we read cannot make a circle.
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.pid);
            found.push(process);
        }
    }
    found
}

/// One process; `None` when it has gone.
pub(crate) fn process(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, so what follows is found from the end.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let text = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Process {
        pid,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        dead: matches!(state, "Z" | "X"),
        stopped: state == "T",
    })
}

/// Makes this process the one that gets its descendants' orphans, until dropped.
///
/// Where the kernel knows nothing of it (qemu's emulation of a user's process, in which images for other machines are
/// built), orphans go to the first process; all that is lost is to end those of them that a timeout finds elsewhere
/// than in the command's process group.
pub(crate) struct Subreaper(Option<c_int>);

impl Subreaper {
    pub(crate) fn become_one() -> Self {
        let mut before: c_int = 0;
        // SAFETY: PR_GET_CHILD_SUBREAPER writes one int, and `before` lives through the call.
        let known = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut before) } == 0;
        // SAFETY: takes a number only.
        let is_one = known && unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } == 0;
        Self(is_one.then_some(before))
    }
}

impl Drop for Subreaper {
    fn drop(&mut self) {
        let Some(before) = self.0 else { return };
        // SAFETY: takes a number only.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, before) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(program: &str, path: Option<&str>) -> Vec<String> {
        let mut request = Request { program: program.into(), ..Request::default() };
        request.env.extend(path.map(|path| ("PATH".into(), path.into())));
        let files = candidates(&request).expect("no NUL");
        files.into_iter().map(|file| file.into_string().expect("text")).collect()
    }

    #[test]
    fn files_that_are_tried() {
        assert_eq!(tried("cc", Some("/a:/b/")), ["/a/cc", "/b//cc"]);
        assert_eq!(tried("cc", Some("")), ["cc"]);
        assert_eq!(tried("cc", Some("/a::/b:")), ["/a/cc", "cc", "/b/cc", "cc"]);
        assert_eq!(tried("cc", None), ["/bin/cc", "/usr/bin/cc"]);
        assert_eq!(tried("./cc", Some("/a")), ["./cc"]);
    }

    #[test]
    fn nul_is_refused() {
        let request = Request { program: "a\0b".into(), ..Request::default() };
        assert!(matches!(candidates(&request), Err(Error::Nul { .. })));
    }

    #[test]
    fn processes_are_found() {
        let own = process(nix::unistd::getpid().as_raw()).expect("we are there");
        assert_eq!(own.parent, nix::unistd::getppid().as_raw());
        assert_eq!(own.group, nix::unistd::getpgrp().as_raw());
        assert!(descendants_of(own.parent).contains(&own) || descendants_of(1).iter().any(|it| it.pid == own.pid));
        assert_eq!(process(i32::MAX), None);
    }
}
