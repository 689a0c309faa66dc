//! No terminal: bytes, digests, exit codes, descriptors.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sha2::{Digest, Sha256};

use crate::world::{Folder, output, script, shell, supervise, text, until, until_exists, with_and_without};

crate::tests![
    exit_codes,
    stdin_is_ours,
    closed_streams,
    bytes_are_unchanged,
    head_and_tail,
    streams_are_apart,
    finding_the_program,
    script_without_interpreter,
    no_descriptor_leaks,
    inherited_descriptors_stay,
    reader_that_goes_away,
    slow_reader,
    stays_blocking,
    blocked_reader_is_left_by_a_signal,
    memory_is_flat,
    no_zombies,
    grandchild_holds_the_pipe,
    grandchild_writes_a_little_later,
    grandchild_never_stops_writing,
    same_identity,
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn exit_codes() {
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        let output = output(&mut supervise(&[], &["sh", "-c", script]));
        assert_eq!(output.status.code(), Some(code), "{script}");
        assert_eq!((output.stdout.len(), text(&output.stderr)), (0, String::new()), "{script}");
    }
    let folder = Folder::new();
    output(&mut script(&folder, &[], "kill -USR1 $$"));
    assert_eq!(folder.report()["ending"], "Signalled { signal: 10, core: false }");
}

fn stdin_is_ours() {
    let mut command = supervise(&[], &["cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a\0b\xff").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"a\0b\xff");
    // What the child does not read is left for the next one.
    let rest = output(shell("printf 'one\\ntwo\\n' | { $S -- head -c 4; cat; }").stdin(Stdio::null()));
    assert_eq!(text(&rest.stdout), "one\ntwo\n");
    assert_eq!(output(&mut supervise(&[], &["cat"])).status.code(), Some(0));
}

fn closed_streams() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let folder = Folder::new();
        let list = folder.path("list");
        let command =
            format!("exec $S -- sh -c 'ls /proc/self/fd >{}; echo; echo >&2; exit 3' {closed}", list.display());
        assert_eq!(output(&mut shell(&command)).status.code(), Some(3), "{closed}");
        let list = fs::read_to_string(list).unwrap();
        let numbers: Vec<u32> = list.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.iter().all(|&number| number < 4 || inherited(number)), "{closed}: {numbers:?}");
    }
}

/// Descriptors that we have been given ourselves without close-on-exec, by whoever runs the tests; the shell uses 10.
fn inherited(number: u32) -> bool {
    number == 10 || fs::metadata(format!("/proc/self/fd/{number}")).is_ok()
}

fn bytes_are_unchanged() {
    let folder = Folder::new();
    let output = output(script(&folder, &[], "head -c 9000000 /dev/urandom | tee \"$0\"; :").arg(folder.path("copy")));
    let copy = fs::read(folder.path("copy")).unwrap();
    assert!(output.stdout == copy, "9 MB differ");
    let report = folder.report();
    assert_eq!(report["stdout.length"], "9000000");
    assert_eq!(report["stdout.sha256"], hex(&Sha256::digest(&copy)));
    assert_eq!(report["stdout.head"], copy[..4096].escape_ascii().to_string());
    assert_eq!(report["stdout.tail"], copy[copy.len() - 4096..].escape_ascii().to_string());
    assert_eq!(report["left_behind"], "false");
}

fn head_and_tail() {
    for (bytes, head, tail) in
        [(0, 0, 0), (1, 1, 0), (4096, 4096, 0), (4097, 4096, 1), (8192, 4096, 4096), (100_000, 4096, 4096)]
    {
        let folder = Folder::new();
        // In many small writes.
        output(&mut script(&folder, &[], &format!("head -c {bytes} /dev/zero | tr '\\0' x | dd bs=1000 2>/dev/null")));
        let report = folder.report();
        assert_eq!(report["stdout.length"], bytes.to_string());
        assert_eq!((report["stdout.head"].len(), report["stdout.tail"].len()), (head, tail), "{bytes}");
    }
    let folder = Folder::new();
    output(&mut script(&folder, &[], "seq 1 20000"));
    assert!(folder.report()["stdout.tail"].ends_with("19999\\n20000\\n"));
}

fn streams_are_apart() {
    let folder = Folder::new();
    let output = output(&mut script(&folder, &[], "echo out; echo err >&2; echo out2"));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\nout2\n".into(), "err\n".into()));
    let report = folder.report();
    assert_eq!(report["stderr.sha256"], hex(&Sha256::digest(b"err\n")));
    assert_eq!((report["terminal"].as_str(), report["stderr.connected"].as_str()), ("false", "true"));
}

fn finding_the_program() {
    let folder = Folder::new();
    let say = folder.path("say");
    fs::write(&say, "#!/bin/sh\necho here $PWD\n").unwrap();
    fs::write(folder.path("data"), "no program").unwrap();
    fs::set_permissions(&say, fs::Permissions::from_mode(0o755)).unwrap();
    let dir = folder.path("");
    let dir = dir.to_str().unwrap();
    let code = |options: &[&str], command: &[&str]| output(&mut supervise(options, command)).status.code();
    assert_eq!(code(&[], &["/no/such/thing"]), Some(127));
    assert_eq!(code(&[], &["no-such-thing"]), Some(127));
    assert_eq!(code(&[], &["/etc/passwd/thing"]), Some(126));
    assert_eq!(code(&[], &[""]), Some(127));
    assert_eq!(code(&[], &[dir]), Some(126));
    assert_eq!(code(&[], &[folder.path("data").to_str().unwrap()]), Some(126));
    assert_eq!(code(&["--dir", "/no/such/folder"], &["true"]), Some(125));
    assert_eq!(code(&["--dir", "/etc/passwd"], &["true"]), Some(125));
    // The child's PATH counts, and a slash is relative to its folder.
    assert_eq!(code(&[], &["say"]), Some(127));
    assert_eq!(code(&["--path", &format!("/no:{dir}:/bin")], &["say"]), Some(0));
    assert_eq!(code(&["--path", dir], &["data"]), Some(126));
    assert_eq!(code(&["--path", "", "--dir", dir], &["say"]), Some(0));
    let said = output(&mut supervise(&["--dir", dir], &["./say"]));
    assert_eq!(text(&said.stdout), format!("here {}\n", fs::canonicalize(dir).unwrap().display()));
}

fn script_without_interpreter() {
    let folder = Folder::new();
    let file = folder.path("plain");
    fs::write(&file, "echo \"$0: $1 $2\"\nexit 4\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let output = output(&mut supervise(&[], &[file.to_str().unwrap(), "a b", "c"]));
    assert_eq!(text(&output.stdout), format!("{}: a b c\n", file.display()));
    assert_eq!(output.status.code(), Some(4));
}

fn no_descriptor_leaks() {
    // `ls` itself opens 3.
    let output = output(&mut supervise(&[], &["ls", "/proc/self/fd"]));
    let numbers: Vec<u32> = text(&output.stdout).lines().map(|line| line.parse().unwrap()).collect();
    let ours: Vec<u32> = numbers.into_iter().filter(|&number| number < 4 || !inherited(number)).collect();
    assert_eq!(ours, [0, 1, 2, 3]);
}

fn inherited_descriptors_stay() {
    // As the job server of make hands its pipe down.
    let output = output(&mut shell("exec 7</etc/passwd; exec $S -- sh -c 'head -c 5 <&7'"));
    assert_eq!(text(&output.stdout), "root:");
}

fn reader_that_goes_away() {
    let folder = Folder::new();
    let mut child = script(&folder, &[], "exec yes").stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(141));
    let report = folder.report();
    assert_eq!(report["ending"], "Signalled { signal: 13, core: false }");
    assert_eq!(report["stdout.cut"], "Some(BrokenPipe)");
}

fn slow_reader() {
    let folder = Folder::new();
    let mut command = script(&folder, &[], "head -c 8000000 /dev/zero; : >\"$0\"");
    let mut child = command.arg(folder.path("done")).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 1];
    out.read_exact(&mut first).unwrap();
    thread::sleep(Duration::from_secs(1));
    assert!(!folder.path("done").exists(), "8 MB went where nobody reads");
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.len()), (Some(0), 7_999_999));
    assert_eq!(folder.report()["stdout.length"], "8000000");
}

fn stays_blocking() {
    let folder = Folder::new();
    let (mut read, write) = std::io::pipe().unwrap();
    let (stdin, feed) = std::io::pipe().unwrap();
    let mut command = script(&folder, &[], "echo ready; head -c 1000000 /dev/zero; cat");
    command.stdin(stdin.try_clone().unwrap()).stdout(write.try_clone().unwrap()).stderr(write.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut ready = [0; 6];
    read.read_exact(&mut ready).unwrap();
    let flags = |fd: BorrowedFd<'_>| OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
    assert!(!flags(stdin.as_fd()).contains(OFlag::O_NONBLOCK));
    assert!(!flags(write.as_fd()).contains(OFlag::O_NONBLOCK));
    drop((feed, write));
    read.read_to_end(&mut Vec::new()).unwrap();
    child.wait().unwrap();
}

fn blocked_reader_is_left_by_a_signal() {
    let folder = Folder::new();
    // More than the pipe behind us holds and less than the one before us, so the child ends.
    let mut command = script(&folder, &[], "head -c 500000 /dev/zero; : >\"$0\"; exit 5");
    let mut child = command.arg(folder.path("done")).stdout(Stdio::piped()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    until_exists(&folder.path("done"));
    thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none());
    crate::world::send(&child, nix::sys::signal::Signal::SIGTERM);
    until("it ends", || child.try_wait().unwrap().is_some());
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let report = folder.report();
    assert_eq!(report["stdout.cut"], "Some(Interrupted)");
    assert_eq!(report["interrupted"], "Some(15)");
}

fn memory_is_flat() {
    let folder = Folder::new();
    let mut command = script(&folder, &[], "head -c 60000000 /dev/zero; head -c 60000000 /dev/zero >&2");
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let report = folder.report();
    assert_eq!((report["stdout.length"].as_str(), report["stderr.length"].as_str()), ("60000000", "60000000"));
    let peak: u64 = report["peak"].parse().unwrap();
    assert!(peak < 40_000, "{peak} kB");
}

fn no_zombies() {
    let folder = Folder::new();
    // Each is left to us by a shell that ends before it.
    let script_text = "i=0; while [ $i -lt 10000 ]; do (: &); i=$((i+1)); done; sleep 1; \
                       grep -c '^State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -c ':1$'; ps -o stat= --ppid $PPID | grep -c Z";
    let output = output(&mut script(&folder, &[], script_text));
    assert_eq!(text(&output.stdout).lines().nth(1), Some("0"));
    assert_eq!(folder.report()["children"], "");
}

fn grandchild_holds_the_pipe() {
    let folder = Folder::new();
    let command = format!("sleep 300 & echo $! >{}; echo hi", folder.path("pid").display());
    let output = output(&mut script(&folder, &[], &command));
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("hi\n", Some(0)));
    assert_eq!(folder.report()["left_behind"], "true");
    // It was not ours to end.
    let pid = crate::world::number_in(&folder.path("pid"));
    assert!(crate::world::lives(pid));
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

fn grandchild_writes_a_little_later() {
    let folder = Folder::new();
    // It starts before the child's end and has bytes at once, then ends: nothing of that may be lost.
    let output = output(&mut script(&folder, &[], "(head -c 3000000 /dev/zero; echo last) & exit 0"));
    assert_eq!((output.stdout.len(), output.stdout.ends_with(b"last\n")), (3_000_005, true));
    assert_eq!(folder.report()["left_behind"], "false");
}

fn grandchild_never_stops_writing() {
    let folder = Folder::new();
    let mut child = script(&folder, &[], "yes & exit 0").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    until("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    reader.join().unwrap().unwrap();
    assert_eq!(folder.report()["left_behind"], "true");
}

fn same_identity() {
    // What a program can ask about itself. Not the signals 32 and 33, which are the C library's own.
    let ask = "grep -E '^(Sig(Blk|Ign|Cgt)|NoNew|Seccomp|Cap|Umask|Groups)' /proc/self/status | \
               sed 's/^\\(Sig.*\\)[0-9a-f]\\(........\\)$/\\1-\\2/; s/^\\(Sig.*-\\)[08]/\\10/'; \
               ulimit -a; pwd; env | sort; ps -o sess=,tty= -p $$; nice";
    let [mut with, mut without] = with_and_without(&["sh", "-c", ask]);
    assert_eq!(text(&output(&mut with).stdout), text(&output(&mut without).stdout));
}
