//! Real terminals: the child must not be able to tell.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::world::{Folder, Terminal, number_in, script, send, state, supervise, until, with_and_without};

crate::tests![
    streams_are_terminals,
    looks_the_same,
    only_output_is_a_terminal,
    only_stderr_is_a_terminal,
    only_stdin_is_a_terminal,
    output_to_a_file,
    keystrokes,
    control_characters,
    window_size,
    restored_after_everything,
    restored_after_a_panic,
    changes_of_the_child_stay,
    last_bytes_are_not_lost,
    stop_by_key_and_fg,
    stop_that_nobody_could_end,
    stop_in_a_pipeline,
    stop_of_a_script_around_us,
    background,
    background_reader,
    background_then_foreground,
    hangup,
    pipeline_shares_the_terminal,
    grandchild_holds_the_terminal,
    timeout_on_a_terminal,
];

/// The program on a shell script, on a terminal.
fn on_terminal(folder: &Folder, text: &str) -> Terminal {
    Terminal::run(&mut script(folder, &[], text), Vec::new())
}

fn streams_are_terminals() {
    let folder = Folder::new();
    let mut terminal = on_terminal(&folder, "test -t 0 && test -t 1 && test -t 2 && tty >/dev/tty && exit 7");
    assert_eq!(terminal.wait().code(), Some(7), "{}", terminal.screen());
    let report = folder.report();
    assert_eq!((report["terminal"].as_str(), report["stderr.connected"].as_str()), ("true", "false"));
    assert_eq!(report["stdout.head"], terminal.screen().escape_default().to_string());
}

fn looks_the_same() {
    // Modes, size, foreground group, order of the streams, and every byte on the screen.
    let ask = "stty -a; stty size; echo out; echo err >&2; printf 'a\\tb\\r\\nc\\033[1mx\\n'; \
               ps -o pgid=,tpgid= -p $$ | { read a b; test $a = $b && echo foreground; }; \
               grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
    let screens = with_and_without(&["sh", "-c", ask]).map(|mut command| {
        let mut terminal = Terminal::run(&mut command, Vec::new());
        assert_eq!(terminal.wait().code(), Some(0));
        terminal.screen()
    });
    assert_eq!(screens[0], screens[1]);
    assert!(screens[0].contains("foreground"), "{}", screens[0]);
    assert!(screens[0].contains("33 99"), "{}", screens[0]);
}

fn only_output_is_a_terminal() {
    let folder = Folder::new();
    let (stdin, feed) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut &feed, b"from a pipe\n").unwrap();
    drop(feed);
    let text = "cat; test -t 1 && test -t 2 && ! test -t 0 && stty size <&1; ps -o pgid=,tpgid= -p $$ | { read a b; test $a = $b; }";
    let mut terminal = Terminal::run(&mut script(&folder, &[], text), vec![(0, stdin.into())]);
    assert_eq!(terminal.wait().code(), Some(0));
    assert_eq!(terminal.screen(), "from a pipe\r\n33 99\r\n");
    let report = folder.report();
    // Our terminal does the `\r`.
    assert_eq!((report["stdout.head"].as_str(), report["terminal"].as_str()), ("from a pipe\\n33 99\\n", "true"));
}

fn only_stderr_is_a_terminal() {
    let folder = Folder::new();
    let (mut out, stdout) = std::io::pipe().unwrap();
    let mut command = script(&folder, &[], "test -t 0 && ! test -t 1 && test -t 2 && echo out && echo err >&2");
    let mut terminal = Terminal::run(&mut command, vec![(1, stdout.into())]);
    drop(command);
    assert_eq!(terminal.wait().code(), Some(0));
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), terminal.screen().as_str()), ("out\n", "err\r\n"));
    let report = folder.report();
    assert_eq!((report["stdout.terminal"].as_str(), report["stderr.terminal"].as_str()), ("false", "true"));
    assert_eq!((report["terminal"].as_str(), report["stderr.length"].as_str()), ("false", "4"));
}

fn only_stdin_is_a_terminal() {
    // The child may read: it is in the foreground group. ^C reaches it.
    let folder = Folder::new();
    let text = "test -t 0 && ps -o pgid=,tpgid= -p $$ >&2; read line; echo \"got $line\" >&2; exec sleep 300";
    let (mut err, stderr) = std::io::pipe().unwrap();
    let mut command = script(&folder, &[], text);
    let mut terminal = Terminal::run(&mut command, vec![(1, Stdio::null()), (2, stderr.into())]);
    drop(command);
    let mut seen = String::new();
    let mut read_until = |wanted: &str| {
        while !seen.contains(wanted) {
            let mut byte = [0];
            err.read_exact(&mut byte).unwrap();
            seen.push(byte[0] as char);
        }
    };
    read_until("\n");
    terminal.keys("typed\n");
    read_until("got typed\n");
    let groups: Vec<&str> = seen.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(groups[0], groups[1]);
    terminal.keys("\x03");
    assert_eq!(terminal.wait().code(), Some(130));
    assert!(terminal.is_cooked());
}

fn output_to_a_file() {
    let folder = Folder::new();
    let file = fs::File::create(folder.path("log")).unwrap();
    let text = "! test -t 1 && test -t 0 && test -t 2 && echo logged && read line && echo \"$line\" && echo shown >&2";
    let mut terminal = Terminal::run(&mut script(&folder, &[], text), vec![(1, file.into())]);
    terminal.keys("abc\n");
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.screen());
    assert_eq!(fs::read_to_string(folder.path("log")).unwrap(), "logged\nabc\n");
    assert!(terminal.screen().ends_with("shown\r\n"), "{:?}", terminal.screen());
}

fn keystrokes() {
    let folder = Folder::new();
    let mut terminal = on_terminal(&folder, "echo ready; while read line; do echo \"<$line>\"; done; echo end");
    terminal.expect("ready");
    terminal.keys("first\n");
    terminal.expect("<first>");
    // Edited by the line discipline of the child's terminal.
    terminal.keys("wrnog\x7f\x7f\x7fong\n");
    terminal.expect("<wrong>");
    terminal.keys("\x04");
    terminal.expect("end");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(terminal.is_cooked());
}

fn control_characters() {
    for (key, code) in [("\x03", 130), ("\x1c", 131)] {
        let folder = Folder::new();
        let mut terminal = on_terminal(&folder, "ulimit -c 0; echo ready; exec sleep 300");
        terminal.expect("ready");
        terminal.keys(key);
        assert_eq!(terminal.wait().code(), Some(code));
        assert!(terminal.is_cooked());
    }
    // Once, and only once.
    let folder = Folder::new();
    let mut terminal =
        on_terminal(&folder, "trap 'echo caught' INT; echo ready; while read line; do echo $line; done; read last");
    terminal.expect("ready");
    terminal.keys("\x03");
    terminal.expect("caught");
    terminal.keys("\x04");
    terminal.keys("\x04");
    terminal.wait();
    assert!(!terminal.screen().contains("caught"), "{:?}", terminal.screen());
}

fn window_size() {
    for stdin_is_terminal in [true, false] {
        let folder = Folder::new();
        let text = "trap 'stty size <&1; exit 5' WINCH; echo ready; while :; do sleep 0.05; done";
        let elsewhere = if stdin_is_terminal { Vec::new() } else { vec![(0, Stdio::null())] };
        let mut terminal = Terminal::run(&mut script(&folder, &[], text), elsewhere);
        terminal.expect("ready");
        terminal.resize(50, 123);
        if stdin_is_terminal {
            terminal.expect("50 123");
        } else {
            terminal.expect("123");
        }
        assert_eq!(terminal.wait().code(), Some(5));
    }
}

fn restored_after_everything() {
    // The child is killed, we are told to end, and we die of what we do not catch.
    for (text, signal, code) in [
        ("echo ready; stty raw -echo; kill -KILL $$", None, Some(137)),
        ("echo ready; exec sleep 300", Some(Signal::SIGTERM), Some(143)),
        ("echo ready; exec sleep 300", Some(Signal::SIGALRM), None),
        ("echo ready; exit 3", None, Some(3)),
    ] {
        let folder = Folder::new();
        let mut terminal = on_terminal(&folder, text);
        terminal.expect("ready");
        if let Some(signal) = signal {
            assert!(!terminal.is_cooked());
            send(&terminal.child, signal);
        }
        assert_eq!(terminal.wait().code(), code, "{text}");
        assert!(terminal.is_cooked(), "{text} {signal:?}");
    }
}

fn restored_after_a_panic() {
    let mut command = supervise(&[], &["sleep", "300"]);
    let terminal = Terminal::run(command.env("SUPERVISE_ROLE", "panics"), Vec::new());
    until("raw", || !terminal.is_cooked());
    terminal.expect("a panic in another thread");
    assert!(terminal.is_cooked());
}

fn changes_of_the_child_stay() {
    // `stty` would be useless otherwise.
    let mut terminal = Terminal::run(&mut supervise(&[], &["stty", "-echo"]), Vec::new());
    assert_eq!(terminal.wait().code(), Some(0));
    let flags = tcgetattr(&terminal.slave).unwrap().local_flags;
    assert!(!flags.contains(LocalFlags::ECHO) && flags.contains(LocalFlags::ICANON));
}

fn last_bytes_are_not_lost() {
    for _ in 0..20 {
        let mut terminal = Terminal::run(&mut supervise(&[], &["seq", "1", "3000"]), Vec::new());
        assert_eq!(terminal.wait().code(), Some(0));
        until("all is on the screen", || terminal.screen().ends_with("2999\r\n3000\r\n"));
        assert_eq!(terminal.screen().len(), 9 * 3 + 90 * 4 + 900 * 5 + 2001 * 6);
    }
}

fn stop_by_key_and_fg() {
    let terminal = Terminal::shell();
    terminal.keys("$S -- sh -c 'echo up; read x; echo \"[$x]\"; exit 4'; echo code=$?\n");
    terminal.expect("up\r\n");
    for _ in 0..2 {
        until("raw", || !terminal.is_cooked());
        terminal.keys("\x1a");
        terminal.expect("Stopped");
        terminal.expect("> ");
        terminal.keys("stty -a | grep -o ' echo '; fg; echo code=$?\n");
        terminal.expect(" echo ");
        terminal.expect("sh -c");
    }
    until("raw", || !terminal.is_cooked());
    terminal.keys("line\n");
    terminal.expect("[line]");
    terminal.expect("code=4");
    until("cooked", || terminal.is_cooked());
}

fn stop_that_nobody_could_end() {
    // No shell with job control above us: the kernel would have discarded the ^Z.
    let folder = Folder::new();
    let mut terminal = on_terminal(&folder, "echo ready; read x; echo \"[$x]\"");
    terminal.expect("ready");
    terminal.keys("\x1a");
    thread::sleep(Duration::from_millis(500));
    assert!(!terminal.is_cooked());
    terminal.keys("abc\n");
    terminal.expect("[abc]");
    assert_eq!(terminal.wait().code(), Some(0));
}

fn stop_in_a_pipeline() {
    // It is up when its own child is: a shell that is about to start one cannot be stopped, without us either.
    let terminal = Terminal::shell();
    terminal.keys("$S -- sh -c 'sh -c \"echo up; exec sleep 2\"; echo down' | cat\n");
    terminal.expect("up\r\n");
    terminal.keys("\x1a");
    terminal.expect("Stopped");
    terminal.expect("> ");
    terminal.keys("fg\n");
    terminal.expect("down\r\n");
    terminal.expect("> ");
}

fn stop_of_a_script_around_us() {
    // The script is in our process group and waits for us; the shell sees the stop only if it stops too.
    let terminal = Terminal::shell();
    terminal.keys("sh -c '$S -- sh -c \"echo up; read x; echo [\\$x]\"; echo after'\n");
    terminal.expect("up\r\n");
    until("raw", || !terminal.is_cooked());
    terminal.keys("\x1a");
    terminal.expect("Stopped");
    terminal.expect("> ");
    terminal.keys("fg\n");
    terminal.expect("sh -c");
    until("raw", || !terminal.is_cooked());
    terminal.keys("y\n");
    terminal.expect("[y]");
    terminal.expect("after");
}

fn background() {
    let terminal = Terminal::shell();
    terminal.keys("$S -- sh -c 'sleep 0.3; echo out; exit 6' & wait $!; echo code=$?\n");
    terminal.expect("out\r\n");
    terminal.expect("code=6");
}

fn background_reader() {
    // It stops at the read as it would without us, and goes on in the foreground.
    let terminal = Terminal::shell();
    terminal.keys("$S -- sh -c 'read x; echo \"[$x]\"' &\n");
    terminal.expect("> ");
    thread::sleep(Duration::from_millis(500));
    terminal.keys("\n");
    terminal.expect("Stopped");
    terminal.expect("> ");
    terminal.keys("fg\n");
    terminal.expect("sh -c");
    terminal.keys("typed\n");
    terminal.expect("[typed]");
}

fn background_then_foreground() {
    let terminal = Terminal::shell();
    terminal.keys("$S -- sh -c 'echo up; read x; echo \"[$x]\"; sleep 1; read y; echo \"[$y]\"'\n");
    terminal.expect("up\r\n");
    until("raw", || !terminal.is_cooked());
    terminal.keys("\x1a");
    terminal.expect("Stopped");
    terminal.expect("> ");
    // Runs on, without taking the terminal from the shell.
    terminal.keys("bg\n");
    terminal.expect("> ");
    thread::sleep(Duration::from_millis(500));
    assert!(terminal.is_cooked());
    terminal.keys("echo still here\n");
    terminal.expect("still here\r\n");
    terminal.keys("fg\n");
    terminal.expect("sh -c");
    until("raw", || !terminal.is_cooked());
    terminal.keys("one\n");
    terminal.expect("[one]");
    terminal.keys("two\n");
    terminal.expect("[two]");
}

fn hangup() {
    let folder = Folder::new();
    let text = format!(
        "trap 'echo $$ >{}; exit' HUP; echo $$ >{}; while :; do sleep 0.05; done",
        folder.path("hup").display(),
        folder.path("pid").display()
    );
    let mut terminal = on_terminal(&folder, &text);
    let pid = number_in(&folder.path("pid"));
    // The terminal is closed.
    send(&terminal.child, Signal::SIGHUP);
    assert_eq!(number_in(&folder.path("hup")), pid);
    terminal.wait();
    // We are killed: the terminal of the child hangs up.
    let folder = Folder::new();
    let text = format!(
        "trap 'echo $$ >{}; exit' HUP; echo $$ >{}; while :; do sleep 0.05; done",
        folder.path("hup").display(),
        folder.path("pid").display()
    );
    let mut terminal = on_terminal(&folder, &text);
    let pid = number_in(&folder.path("pid"));
    send(&terminal.child, Signal::SIGKILL);
    assert_eq!(number_in(&folder.path("hup")), pid);
    until("it ends", || state(pid).is_none_or(|state| state == 'Z'));
    terminal.wait();
}

fn pipeline_shares_the_terminal() {
    // The pager behind us reads the keys; we must not.
    let terminal = Terminal::shell();
    terminal.keys("$S -- sh -c 'echo text; test -t 2 && echo tty >&2; sleep 1' | { read x; echo \"<$x>\"; read key </dev/tty; echo \"key=$key\"; }\n");
    terminal.expect("<text>");
    thread::sleep(Duration::from_millis(300));
    assert!(terminal.is_cooked());
    terminal.keys("q\n");
    terminal.expect("key=q\r\n");
}

fn grandchild_holds_the_terminal() {
    let folder = Folder::new();
    let text = format!("trap '' HUP; sleep 300 & echo $! >{}; echo done", folder.path("pid").display());
    let mut terminal = on_terminal(&folder, &text);
    assert_eq!(terminal.wait().code(), Some(0));
    assert_eq!(folder.report()["left_behind"], "true");
    let pid = number_in(&folder.path("pid"));
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
}

fn timeout_on_a_terminal() {
    for elsewhere in [Vec::new(), vec![(0, Stdio::null())]] {
        let folder = Folder::new();
        let text = format!(
            "trap '' TERM HUP; cd {}; sleep 300 & echo $! >a; setsid sleep 300 & echo $! >b; sleep 300; :",
            folder.path("").display()
        );
        let options = ["--timeout", "1", "--kill-after", "0.5"];
        let mut terminal = Terminal::run(&mut script(&folder, &options, &text), elsewhere);
        assert_eq!(terminal.wait().code(), Some(124));
        for name in ["a", "b"] {
            assert!(!crate::world::lives(number_in(&folder.path(name))), "{name} lives");
        }
        assert!(terminal.is_cooked());
        assert_eq!(folder.report()["children"], "");
    }
}
