//! The timeout, and what is left of a tree of processes.

use std::time::{Duration, Instant};

use crate::world::{Folder, lives, number_in, output, script, text};

crate::tests![in_time, ends_by_term, nobody_is_left, survivors_are_killed, stopped_child, never_starts_late];

fn in_time() {
    let folder = Folder::new();
    assert_eq!(output(&mut script(&folder, &["--timeout", "1000000000"], "exit 2")).status.code(), Some(2));
    assert_eq!(folder.report()["ending"], "Exited(2)");
}

fn ends_by_term() {
    let folder = Folder::new();
    let command = "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.05; done";
    let output = output(&mut script(&folder, &["--timeout", "1"], command));
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(124), "hello\nbye\n"));
    assert_eq!(folder.report()["ending"], "TimedOut { code: Some(3), signal: None, killed: false }");
}

fn nobody_is_left() {
    // TERM is ignored by all, one has left the process group and one the session, and they hold the output.
    let folder = Folder::new();
    let command = format!(
        "trap '' TERM; cd {}; echo kept; sleep 300 & echo $! >a; setsid sh -c 'echo $$ >b; sleep 300; :' & \
         (setsid sh -c 'echo $$ >c; (sleep 300; :) & echo $! >d; sleep 300; :' &) ; sleep 300; :",
        folder.path("").display()
    );
    let output = output(&mut script(&folder, &["--timeout", "1", "--kill-after", "0.5"], &command));
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(124), "kept\n"));
    assert_eq!(folder.report()["ending"], "TimedOut { code: None, signal: Some(9), killed: true }");
    for name in ["a", "b", "c", "d"] {
        assert!(!lives(number_in(&folder.path(name))), "{name} lives");
    }
    assert_eq!(folder.report()["children"], "");
}

fn survivors_are_killed() {
    // The child obeys, its own child does not.
    let folder = Folder::new();
    let command =
        format!("(trap '' TERM; while :; do sleep 1; done) & echo $! >{}; exec sleep 300", folder.path("a").display());
    assert_eq!(
        output(&mut script(&folder, &["--timeout", "1", "--kill-after", "1"], &command)).status.code(),
        Some(124)
    );
    assert_eq!(folder.report()["ending"], "TimedOut { code: None, signal: Some(15), killed: true }");
    assert!(!lives(number_in(&folder.path("a"))));
}

fn stopped_child() {
    // TERM waits for ever in a stopped process, hence CONT; no KILL is needed.
    let folder = Folder::new();
    let start = Instant::now();
    let output = output(&mut script(&folder, &["--timeout", "1", "--kill-after", "50"], "kill -STOP $$; sleep 300"));
    assert_eq!(output.status.code(), Some(124));
    assert_eq!(folder.report()["ending"], "TimedOut { code: None, signal: Some(15), killed: false }");
    assert!(start.elapsed() < Duration::from_secs(40));
}

fn never_starts_late() {
    let folder = Folder::new();
    assert_eq!(output(&mut script(&folder, &["--timeout", "0"], "sleep 300")).status.code(), Some(124));
}
