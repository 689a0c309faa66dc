//! Tests of both looks on real trees.
#![allow(clippy::print_stderr)] // what is skipped is said

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::{Mode as Bits, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::*;
use crate::digest::sha256_hex;
use crate::product::Change;

fn now() -> Timestamp {
    let now = jiff::Timestamp::now();
    Timestamp { seconds: now.as_second(), nanos: u32::try_from(now.subsec_nanosecond()).expect("after 1970") }
}

/// A clock by which every file of a test is old, so that keys alone decide.
fn later() -> Timestamp {
    let now = now();
    Timestamp { seconds: now.seconds + 10, nanos: now.nanos }
}

fn tree() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

fn write(dir: &TempDir, path: &str, content: impl AsRef<[u8]>) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().expect("below the folder")).expect("makes folders");
    fs::write(path, content).expect("writes");
}

fn options(dir: &TempDir) -> Options {
    Options { threads: 2, ..Options::new(dir.path()) }
}

fn look(options: Options) -> Snapshot {
    first(options, &later, &Progress::default()).expect("the tree is there")
}

fn again(snapshot: &Snapshot) -> Changes {
    snapshot.second(&later, &Progress::default(), None)
}

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.iter().map(|entry| entry.path).collect()
}

fn reasons(omissions: &[Omission]) -> Vec<(&str, String)> {
    omissions.iter().map(|omission| (omission.path.as_str(), omission.reason.to_string())).collect()
}

fn products(changes: &Changes) -> Vec<(&str, Change)> {
    changes.products.iter().map(|product| (product.path.as_str(), product.change)).collect()
}

fn sha256(entry: &EntryRef<'_>) -> String {
    entry.digest_set().sha256().expect("sha256 is asked for").to_owned()
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if root {
        eprintln!("SKIPPED in part: root reads everything, so that nothing is unreadable");
    }
    root
}

/// Sets the modification time back to what it was.
fn restore_mtime(path: &Path, before: &fs::Metadata) {
    use std::os::unix::fs::MetadataExt as _;
    let time = TimeSpec::new(before.mtime(), before.mtime_nsec());
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::FollowSymlink).expect("sets times");
}

#[test]
fn files_are_recorded_with_all_digests_in_the_order_of_bytes() {
    let dir = tree();
    for (path, content) in
        [("b", "built\n"), ("a/x", "1"), ("a.txt", ""), ("a-b", "2"), (".hidden/.x", "3"), ("a/b/c", "4")]
    {
        write(&dir, path, content);
    }
    let snapshot = look(Options { hashes: Algorithm::FILE.to_vec(), ..options(&dir) });
    assert_eq!(paths(&snapshot), [".hidden/.x", "a-b", "a.txt", "a/b/c", "a/x", "b"]);
    assert_eq!(snapshot.len(), 6);
    let entry = snapshot.get("b").expect("recorded");
    assert_eq!(entry.length, 6);
    let set = entry.digest_set();
    assert_eq!(set.sha256(), Some("56f6e6304d02d413bb7d5d463ac5cdc58551266dc7269b467fc385815f39b913"));
    assert_eq!(set.0["gitoid:sha1"], "gitoid:blob:sha1:e0c2b391a5e2a8ea8847c5eaaaa44bb14c5963f3");
    assert_eq!(set.0.len(), 4);
    assert!(snapshot.get("a").is_none() && snapshot.get("a/").is_none() && snapshot.get("z").is_none());
    assert!(snapshot.omissions().is_empty() && snapshot.left_out().is_empty());
    let json = serde_json::to_string(&snapshot.material_map()).expect("serializes");
    assert!(snapshot.map_size() >= json.len(), "{} for {}", snapshot.map_size(), json.len());
    let parsed: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&json).expect("is a map");
    assert_eq!(parsed["b"], set.0);
    let without = |path: &str| path.contains("hidden") || path == "b";
    let fewer = serde_json::to_value(snapshot.material_map_without(&without)).expect("serializes");
    assert_eq!(fewer.as_object().map(serde_json::Map::len), Some(4), "rule 4: {fewer}");
    assert!(json.starts_with(r#"{".hidden/.x":{"gitoid:sha1":"#), "sorted in both levels: {json}");
}

#[test]
fn a_tree_that_is_not_there_is_an_error() {
    let dir = tree();
    let missing = Options::new(dir.path().join("missing"));
    assert!(matches!(first(missing, &later, &Progress::default()), Err(SnapshotError::Root { .. })));
    assert!(matches!(first(Options::new("."), &later, &Progress::default()), Err(SnapshotError::NotAbsolute { .. })));
    let none = Options { hashes: vec![Algorithm::DirHash], ..options(&dir) };
    assert!(matches!(first(none, &later, &Progress::default()), Err(SnapshotError::NoAlgorithm)));
    let file = dir.path().join("file");
    fs::write(&file, "").expect("writes");
    assert!(matches!(first(Options::new(file), &later, &Progress::default()), Err(SnapshotError::Root { .. })));
}

#[test]
fn what_cannot_be_recorded_is_an_omission_with_its_reason() {
    let dir = tree();
    let at = |name: &str| dir.path().join(name);
    write(&dir, "good", "x");
    mkfifo(&at("fifo"), Bits::S_IRWXU).expect("makes a fifo");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("makes a socket");
    fs::write(dir.path().join(OsStr::from_bytes(b"caf\xe9")), "x").expect("writes");
    fs::create_dir(dir.path().join(OsStr::from_bytes(b"dir\xff"))).expect("makes a folder");
    fs::write(dir.path().join(OsStr::from_bytes(b"dir\xff/inside")), "x").expect("writes");
    let mut want = vec![
        ("caf\\xe9", "its name is not UTF-8"),
        ("dir\\xff", "its name is not UTF-8"),
        ("fifo", "named pipe"),
        ("socket", "socket"),
    ];
    if is_root() {
        // The number of /dev/null; containers may refuse to make devices.
        let device = mknod(&at("device"), nix::sys::stat::SFlag::S_IFCHR, Bits::S_IRWXU, nix::sys::stat::makedev(1, 3));
        if device.is_ok() {
            want.push(("device", "device"));
        }
    } else {
        write(&dir, "secret", "x");
        write(&dir, "closed/x", "x");
        fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o0)).expect("changes the mode");
        fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o0)).expect("changes the mode");
        want.push(("closed/", "cannot be read: permission denied"));
        want.push(("secret", "cannot be read: permission denied"));
    }
    want.sort_unstable();
    let snapshot = look(options(&dir));
    let found = reasons(snapshot.omissions());
    let found: Vec<_> = found.iter().map(|(path, reason)| (*path, reason.as_str())).collect();
    assert_eq!(found, want);
    assert_eq!(snapshot.omitted(), want.len() as u64);
    assert_eq!(paths(&snapshot), ["good"]);

    // They are no products and not deleted, and are told again.
    let changes = again(&snapshot);
    assert_eq!((products(&changes), changes.deleted.len()), (vec![], 0));
    assert_eq!(changes.omissions, snapshot.omissions());

    // Once they can be read they are products.
    fs::remove_file(at("fifo")).expect("removes");
    fs::write(at("fifo"), "now a file").expect("writes");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(products(&again(&snapshot)), [("fifo", Change::New)]);
    } else {
        fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).expect("changes the mode");
        fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o700)).expect("changes the mode");
        let changes = again(&snapshot);
        let want = [("closed/x", Change::New), ("fifo", Change::New), ("secret", Change::New)];
        assert_eq!(products(&changes), want);
    }
}

#[test]
fn a_material_that_becomes_something_else_is_an_omission_not_a_deletion() {
    let dir = tree();
    for name in ["fifo", "folder", "link", "outside"] {
        write(&dir, name, name);
    }
    let snapshot = look(options(&dir));
    for name in ["fifo", "folder", "link", "outside"] {
        fs::remove_file(dir.path().join(name)).expect("removes");
    }
    mkfifo(&dir.path().join("fifo"), Bits::S_IRWXU).expect("makes a fifo");
    write(&dir, "folder/x", "x");
    symlink("folder/x", dir.path().join("link")).expect("links");
    symlink("/etc/passwd", dir.path().join("outside")).expect("links");
    let changes = again(&snapshot);
    assert_eq!(products(&changes), [("folder/x", Change::New), ("link", Change::Changed)]);
    assert_eq!(changes.deleted, ["folder"]);
    let want = [("fifo", "named pipe".to_owned()), ("outside", "link out of the folder".to_owned())];
    assert_eq!(reasons(&changes.omissions), want);
}

#[test]
fn links_to_files_are_recorded_and_all_others_told_with_their_text() {
    let dir = tree();
    let outside = tree();
    write(&outside, "file", "outside");
    write(&dir, "real", "content");
    write(&dir, "folder/deep/file", "deep");
    let link = |text: &str, name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("makes folders");
        symlink(text, path).expect("links");
    };
    let root = dir.path().canonicalize().expect("is there");
    let name = root.file_name().expect("has a name").to_str().expect("is text").to_owned();
    link("real", "l-file");
    link("l-file", "l-chain");
    link("folder/deep/../deep/file", "l-dots");
    link("../real", "folder/l-up");
    link("../../real", "folder/deep/l-up2");
    link(&format!("{}/real", root.display()), "l-absolute");
    link(&format!("../{name}/real"), "l-out-and-in");
    link("l-folder/deep/file", "l-through-folder-link");
    link("folder", "l-folder");
    link(".", "l-self-folder");
    link("..", "folder/l-parent");
    link("missing", "l-dangling");
    link("real/x", "l-below-a-file");
    link("l-loop", "l-loop");
    link("l-loop-b", "l-loop-a");
    link("l-loop-a", "l-loop-b");
    link(&format!("{}/file", outside.path().display()), "l-outside");
    link("../../../../../../../../etc/passwd", "l-climbs");
    link("/", "l-slash");
    mkfifo(&dir.path().join("fifo"), Bits::S_IRWXU).expect("makes a fifo");
    link("fifo", "l-fifo");

    let want_recorded = [
        "folder/deep/file",
        "folder/deep/l-up2",
        "folder/l-up",
        "l-absolute",
        "l-chain",
        "l-dots",
        "l-file",
        "l-out-and-in",
        "l-through-folder-link",
        "real",
    ];
    let want_omitted = [
        ("fifo", "named pipe", None),
        ("folder/l-parent", "link to a folder", Some("..")),
        ("l-below-a-file", "link to nothing", Some("real/x")),
        ("l-climbs", "link out of the folder", Some("../../../../../../../../etc/passwd")),
        ("l-dangling", "link to nothing", Some("missing")),
        ("l-fifo", "link to something that is not recorded: named pipe", Some("fifo")),
        ("l-folder", "link to a folder", Some("folder")),
        ("l-loop", "link in a loop", Some("l-loop")),
        ("l-loop-a", "link in a loop", Some("l-loop-b")),
        ("l-loop-b", "link in a loop", Some("l-loop-a")),
        ("l-self-folder", "link to a folder", Some(".")),
        ("l-slash", "link out of the folder", Some("/")),
    ];
    for beneath in [true, false] {
        let mut opened = Root::open(dir.path()).expect("opens");
        if !beneath {
            opened = opened.without_openat2();
        }
        let snapshot = first_of(opened, root.clone(), options(&dir), &later, &Progress::default()).expect("reads");
        assert_eq!(paths(&snapshot), want_recorded);
        for entry in snapshot.iter() {
            let want = if entry.path.ends_with("file") && entry.path != "l-file"
                || ["l-dots", "l-through-folder-link"].contains(&entry.path)
            {
                "deep"
            } else {
                "content"
            };
            assert_eq!(sha256(&entry), sha256_hex(want.as_bytes()), "{}", entry.path);
            assert_eq!(entry.is_link(), entry.path.contains("l-"), "{}", entry.path);
        }
        let omissions: Vec<_> = snapshot
            .omissions()
            .iter()
            .filter(|omission| omission.path != "l-outside")
            .map(|omission| (omission.path.as_str(), omission.reason.to_string(), omission.reason.link_text()))
            .collect();
        let want: Vec<_> =
            want_omitted.iter().map(|(path, reason, text)| (*path, (*reason).to_owned(), *text)).collect();
        assert_eq!(omissions, want);
        assert_eq!(snapshot.omissions().len(), want.len() + 1);
        assert!(snapshot.links().any(|link| link == ("l-dangling", "missing")));

        // Nothing happened.
        let changes = again(&snapshot);
        assert_eq!((products(&changes), changes.deleted.len(), changes.reread), (vec![], 0, 0));
        assert_eq!(changes.omissions, snapshot.omissions());
    }
}

#[test]
fn links_change_with_their_targets_and_with_their_texts() {
    let dir = tree();
    for (path, content) in [("a", "one"), ("b", "two"), ("same", "one"), ("later/x", "")] {
        write(&dir, path, content);
    }
    let link = |text: &str, name: &str| symlink(text, dir.path().join(name)).expect("links");
    for (text, name) in [
        ("a", "to-changed"),
        ("b", "retargeted"),
        ("b", "made-again"),
        ("new", "was-dangling"),
        ("b", "removed"),
        ("b", "will-dangle"),
        ("b", "untouched"),
        ("b", "becomes-file"),
        ("a", "to-equal"),
    ] {
        link(text, name);
    }
    let snapshot = look(options(&dir));
    assert!(again(&snapshot).products.is_empty());
    let remake = |text: &str, name: &str| {
        fs::remove_file(dir.path().join(name)).expect("removes");
        link(text, name);
    };
    write(&dir, "a", "changed");
    write(&dir, "new", "new");
    remake("same", "retargeted");
    remake("b", "made-again");
    remake("nothing", "will-dangle");
    remake("same", "to-equal");
    fs::remove_file(dir.path().join("removed")).expect("removes");
    fs::remove_file(dir.path().join("becomes-file")).expect("removes");
    write(&dir, "becomes-file", "two");
    let changes = again(&snapshot);
    let want = [
        ("a", Change::Changed),
        ("becomes-file", Change::Rewritten),
        ("made-again", Change::Rewritten),
        ("new", Change::New),
        ("retargeted", Change::Changed),
        ("to-changed", Change::Changed),
        ("to-equal", Change::Rewritten),
        ("was-dangling", Change::New),
    ];
    assert_eq!(products(&changes), want);
    assert_eq!(changes.deleted, ["removed"]);
    assert_eq!(reasons(&changes.omissions), [("will-dangle", "link to nothing".to_owned())]);
    let product = changes.products.iter().find(|product| product.path == "retargeted").expect("a product");
    assert_eq!(product.digests.sha256(), Some(sha256_hex(b"one").as_str()));
    assert_eq!((product.mime.as_str(), product.length), ("text/plain; charset=utf-8", 3));
    assert!(changes.links.contains(&("was-dangling".to_owned(), "new".to_owned())));
    assert!(!changes.links.iter().any(|(path, _)| path == "untouched" || path == "becomes-file"));
}

#[test]
fn products_are_what_changed() {
    let dir = tree();
    for name in
        ["changed", "deleted", "kept", "touched", "replaced", "sub/moved", "sub/kept", "mode", "gone/x", "gone/y/z"]
    {
        write(&dir, name, name);
    }
    let snapshot = look(Options { hashes: vec![Algorithm::Sha256, Algorithm::Sha1], ..options(&dir) });
    assert!(again(&snapshot).products.is_empty());
    let at = |name: &str| dir.path().join(name);
    write(&dir, "changed", "changed now");
    fs::remove_file(at("deleted")).expect("removes");
    utimensat(
        nix::fcntl::AT_FDCWD,
        &at("touched"),
        &TimeSpec::new(7, 0),
        &TimeSpec::new(7, 0),
        UtimensatFlags::FollowSymlink,
    )
    .expect("touches");
    write(&dir, "new-one", "replaced");
    fs::rename(at("new-one"), at("replaced")).expect("renames");
    fs::rename(at("sub/moved"), at("sub/moved-to")).expect("renames");
    fs::remove_dir_all(at("gone")).expect("removes");
    write(&dir, "new/folder/file", "{}");
    write(&dir, "empty", "");
    let changes = again(&snapshot);
    let want = [
        ("changed", Change::Changed),
        ("empty", Change::New),
        ("new/folder/file", Change::New),
        ("replaced", Change::Rewritten),
        ("sub/moved-to", Change::New),
        ("touched", Change::Rewritten),
    ];
    assert_eq!(products(&changes), want);
    assert_eq!(changes.deleted, ["deleted", "gone/x", "gone/y/z", "sub/moved"]);
    assert_eq!(changes.mode.name(), "keys");
    let json = &changes.products[2];
    assert_eq!((json.mime.as_str(), json.length), ("application/json", 2));
    assert_eq!(json.digests.0.keys().collect::<Vec<_>>(), ["sha1", "sha256"]);
    assert_eq!(changes.products[1].mime, "text/plain");

    // A second look does not change what the next one sees.
    assert_eq!(products(&again(&snapshot)), want);
}

#[test]
fn rule_3_a_rewrite_with_restored_time_is_seen() {
    let dir = tree();
    write(&dir, "a", "before");
    let snapshot = look(options(&dir));
    let before = fs::metadata(dir.path().join("a")).expect("is there");
    write(&dir, "a", "after!");
    restore_mtime(&dir.path().join("a"), &before);
    assert_eq!(products(&again(&snapshot)), [("a", Change::Changed)]);
}

#[test]
fn rule_3_young_files_are_read_again() {
    let dir = tree();
    write(&dir, "a", "a");
    let young = first(options(&dir), &now, &Progress::default()).expect("reads");
    let changes = young.second(&now, &Progress::default(), None);
    assert_eq!((changes.reread, changes.products.len()), (1, 0));
    let old = look(options(&dir));
    assert_eq!(again(&old).reread, 0);
    // A clock that runs behind makes everything young.
    let behind = || Timestamp { seconds: 1000, nanos: 0 };
    let behind = first(options(&dir), &behind, &Progress::default()).expect("reads");
    assert_eq!(again(&behind).reread, 1);
}

/// Writes to a mapped page that is dirty already: the file system gives no new time.
const MMAP: &str = "
import mmap, sys
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 0)
m[0:1] = b'1'
print('ready', flush=True)
sys.stdin.readline()
m[0:1] = b'2'
print('done', flush=True)
sys.stdin.readline()
";

#[test]
fn rule_3_full_mode_sees_a_rewrite_through_mmap() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};
    let dir = tree();
    write(&dir, "a", "0 and more");
    let child = Command::new("python3")
        .args(["-c", MMAP])
        .arg(dir.path().join("a"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: no python3 to write through a mapping");
        return;
    };
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("answers");
    assert_eq!(line, "ready\n");
    let full = look(Options { mode: Mode::Full, ..options(&dir) });
    let keys = look(options(&dir));
    input.write_all(b"\n").expect("asks");
    output.read_line(&mut line).expect("answers");
    let escaped = again(&keys).products.is_empty();
    if !escaped {
        eprintln!("this file system gives a new time for each write through a mapping");
    }
    let changes = again(&full);
    assert_eq!(products(&changes), [("a", Change::Changed)]);
    assert_eq!(changes.mode.name(), "full");
    drop(input);
    child.wait().expect("ends");
}

#[test]
fn full_mode_reads_everything_again() {
    let dir = tree();
    write(&dir, "a", "a");
    write(&dir, "b/c", "c");
    let snapshot = look(Options { mode: Mode::Full, ..options(&dir) });
    let changes = again(&snapshot);
    assert_eq!((changes.reread, changes.products.len(), changes.deleted.len()), (2, 0, 0));
}

#[test]
fn a_folder_swapped_for_a_link_leads_nowhere() {
    let dir = tree();
    let outside = tree();
    write(&dir, "sub/a", "a");
    write(&dir, "sub/deep/b", "b");
    let snapshot = look(options(&dir));
    // Moved away with the same inodes and times, and linked from its old place.
    fs::rename(dir.path().join("sub"), outside.path().join("sub")).expect("renames");
    symlink(outside.path().join("sub"), dir.path().join("sub")).expect("links");
    let changes = again(&snapshot);
    assert_eq!(changes.deleted, ["sub/a", "sub/deep/b"]);
    assert!(changes.products.is_empty());
    assert_eq!(reasons(&changes.omissions), [("sub", "link out of the folder".to_owned())]);
}

#[test]
fn a_root_that_was_replaced_is_told() {
    let parent = tree();
    write(&parent, "root/a", "a");
    let root = parent.path().join("root");
    let snapshot = look(Options::new(&root));
    fs::rename(&root, parent.path().join("old")).expect("renames");
    write(&parent, "root/b", "b");
    let changes = again(&snapshot);
    assert_eq!(reasons(&changes.omissions), [(".", "another folder than before the command".to_owned())]);
}

#[test]
fn git_and_own_outputs_are_left_out_and_said_so() {
    let dir = tree();
    for path in [
        ".git/HEAD",
        ".git/index",
        ".git/objects/aa/bb",
        ".git/objects/cc",
        ".git/logs/HEAD",
        ".git/FETCH_HEAD",
        ".git/refs/heads/logs",
        ".git/modules/logs/HEAD",
        ".git/modules/logs/config",
        ".git/modules/logs/index",
        ".git/modules/logs/objects/x",
        ".git/worktrees/w/HEAD",
        ".git/worktrees/w/index",
        ".git/worktrees/w/logs/HEAD",
        "sub/.git/index",
        "sub/.git/HEAD",
        "index",
        "objects/x",
        "out.json",
        "out.json-slsa.json",
        "out.json.bak",
        "out/report.json",
        "archive/x/y",
        "archived",
    ] {
        write(&dir, path, path);
    }
    let at = |name: &str| dir.path().join(name);
    let snapshot = look(Options {
        own_outputs: vec![
            at("out.json"),
            at("out/report.json"),
            at("archive"),
            dir.path().to_owned(),
            "/".into(),
            at("not/there/yet"),
            at("archive/../index"),
        ],
        own_exports_of: Some(at("out.json")),
        ..options(&dir)
    });
    assert_eq!(
        paths(&snapshot),
        [
            ".git/HEAD",
            ".git/modules/logs/HEAD",
            ".git/modules/logs/config",
            ".git/refs/heads/logs",
            ".git/worktrees/w/HEAD",
            "archived",
            "objects/x",
            "out.json.bak",
            "sub/.git/HEAD",
        ]
    );
    let left_out: Vec<_> = snapshot.left_out().iter().map(|left| (left.rule.as_str(), left.count)).collect();
    assert_eq!(
        left_out,
        [
            (".git/FETCH_HEAD", 1),
            (".git/index", 4),
            (".git/logs", 2),
            (".git/objects", 2),
            ("own output out.json", 1),
            ("own output out/report.json", 1),
            ("own output archive", 1),
            ("own output index", 1),
            ("own output out.json-*.json", 1),
        ]
    );
    for path in [
        ".git/index",
        ".git/objects/dd",
        "out.json",
        "out.json-link.json",
        "archive/new",
        "not/there/yet",
        ".git/modules/logs/index",
    ] {
        write(&dir, path, "changed");
    }
    symlink("out.json", at("latest")).expect("links");
    write(&dir, ".git/HEAD", "other");
    let changes = again(&snapshot);
    assert_eq!(products(&changes), [(".git/HEAD", Change::Changed)]);
    assert!(changes.left_out.iter().any(|left| left.rule == "own output out.json" && left.count == 2));
}

#[test]
fn globs_choose_materials_and_products() {
    let dir = tree();
    for path in ["a.c", "a.o", "a.txt", "tmp/x.c"] {
        write(&dir, path, path);
    }
    let none: [&str; 0] = [];
    let snapshot = look(Options {
        materials: Selection::new(&["*.c"], &["tmp/*"]).expect("compiles"),
        products: Selection::new(&["*.o", "*.c"], &none).expect("compiles"),
        ..options(&dir)
    });
    assert_eq!(paths(&snapshot), ["a.c"]);
    assert!(snapshot.get("a.o").is_none());
    assert_eq!(snapshot.known().1, 3, "a.txt is not read");
    assert_eq!(snapshot.left_out()[0].count, 1);
    for path in ["a.o", "b.o", "a.txt", "tmp/x.c"] {
        write(&dir, path, "changed");
    }
    let want = [("a.o", Change::Changed), ("b.o", Change::New), ("tmp/x.c", Change::Changed)];
    assert_eq!(products(&again(&snapshot)), want);
}

#[test]
fn whole_folders_have_the_digest_of_witness() {
    let dir = tree();
    write(&dir, "d/a", "1\n");
    write(&dir, "d/z/b", "2\n");
    write(&dir, "other", "x");
    let globs = |pattern: &str| vec![Glob::new(pattern).expect("compiles")];
    for hashes in [vec![Algorithm::Sha256], vec![Algorithm::Sha1]] {
        let snapshot = look(Options { dirhash: globs("d"), hashes, ..options(&dir) });
        assert_eq!(paths(&snapshot), ["d/", "other"]);
        let entry = snapshot.get("d/").expect("recorded");
        assert_eq!(entry.length, 4);
        let want = "932ba2daac5a9038b988a24b1516690c7e99829d259bd17140718b0999103ffd";
        assert_eq!(entry.digest_set().0, BTreeMap::from([("dirHash".to_owned(), want.to_owned())]));
        assert!(snapshot.get("d/a").is_none());
        assert!(again(&snapshot).products.is_empty());
    }
    // Links to files count with their content, links to folders not at all.
    symlink("a", dir.path().join("d/to-a")).expect("links");
    symlink("z", dir.path().join("d/to-z")).expect("links");
    let snapshot = look(Options { dirhash: globs("d"), ..options(&dir) });
    let lines = [("a", "1\n"), ("to-a", "1\n"), ("z/b", "2\n")]
        .map(|(path, content)| format!("{}  {path}\n", sha256_hex(content.as_bytes())));
    let want = sha256_hex(lines.concat().as_bytes());
    assert_eq!(snapshot.get("d/").expect("recorded").digest_set().0["dirHash"], want);
}

#[test]
fn whole_folders_are_products_when_something_in_them_is() {
    let dir = tree();
    for path in ["changed/a", "kept/a", "touched/a", "gone/a", "lost/a", "lost/b", "fifo/a", "ever/a"] {
        write(&dir, path, path);
    }
    mkfifo(&dir.path().join("ever/fifo"), Bits::S_IRWXU).expect("makes a fifo");
    write(&dir, "bad/new\nline", "x");
    let dirhash = vec![Glob::new("{changed,kept,touched,gone,lost,fifo,new,ever,bad}").expect("compiles")];
    let snapshot = look(Options { dirhash: dirhash.clone(), ..options(&dir) });
    assert_eq!(paths(&snapshot), ["changed/", "fifo/", "gone/", "kept/", "lost/", "touched/"]);
    let want = [
        ("bad/", "no digest of the whole folder, because of bad/new\nline".to_owned()),
        ("ever/", "no digest of the whole folder, because of ever/fifo".to_owned()),
        ("ever/fifo", "named pipe".to_owned()),
    ];
    assert_eq!(reasons(snapshot.omissions()), want);
    write(&dir, "changed/sub/b", "b");
    write(&dir, "changed/a", "b");
    write(&dir, "touched/a", "touched/a");
    write(&dir, "new/x", "x");
    fs::remove_dir_all(dir.path().join("gone")).expect("removes");
    fs::remove_file(dir.path().join("lost/b")).expect("removes");
    mkfifo(&dir.path().join("fifo/fifo"), Bits::S_IRWXU).expect("makes a fifo");
    let changes = again(&snapshot);
    let want = [
        ("changed/", Change::Changed),
        ("lost/", Change::Changed),
        ("new/", Change::New),
        ("touched/", Change::Rewritten),
    ];
    assert_eq!(products(&changes), want);
    assert_eq!(changes.deleted, ["gone/"]);
    assert!(changes.omissions.iter().any(|omission| omission.path == "fifo/"));
    // The digests are those of a first look at the same tree.
    let fresh = look(Options { dirhash, ..options(&dir) });
    for product in &changes.products {
        assert_eq!(product.digests, fresh.get(&product.path).expect("recorded").digest_set(), "{}", product.path);
        assert_eq!(
            (product.mime.as_str(), product.length),
            ("unknown", fresh.get(&product.path).expect("recorded").length)
        );
    }
}

#[test]
fn strange_names_survive() {
    let dir = tree();
    let long = "n".repeat(255);
    let names = [
        "new\nline",
        "quo\"te",
        "back\\slash",
        " space ",
        "tab\t",
        "-rf",
        "*",
        "ünï",
        "日本",
        "\u{1f600}",
        "a:b",
        "%2e",
        "\u{7f}",
        long.as_str(),
    ];
    for name in names {
        write(&dir, name, name);
        if name.len() < 250 {
            write(&dir, &format!("{name}.d/{name}"), name);
        }
    }
    let snapshot = look(options(&dir));
    assert_eq!(snapshot.len(), names.len() * 2 - 1);
    for name in names {
        assert_eq!(sha256(&snapshot.get(name).expect(name)), sha256_hex(name.as_bytes()));
    }
    let json = serde_json::to_string(&snapshot.material_map()).expect("serializes");
    let parsed: BTreeMap<String, serde_json::Value> = serde_json::from_str(&json).expect("is a map");
    assert!(names.iter().all(|name| parsed.contains_key(*name)));
    assert!(again(&snapshot).products.is_empty());
}

/// Makes `depth` nested folders with a file in each, by descriptors: the paths are too long for one call.
fn make_deep(dir: &TempDir, depth: usize, name: &str) {
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::mkdirat;
    let mut here = open(dir.path(), OFlag::O_DIRECTORY, Bits::empty()).expect("opens");
    for _ in 0..depth {
        mkdirat(&here, name, Bits::S_IRWXU).expect("makes a folder");
        here = openat(&here, name, OFlag::O_DIRECTORY, Bits::empty()).expect("opens");
        drop(openat(&here, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Bits::S_IRWXU).expect("makes a file"));
    }
}

/// Removes nested folders from the inside, which the standard library cannot where paths are too long.
fn remove_deep(dir: &TempDir, depth: usize, name: &str) {
    use nix::fcntl::{OFlag, open, openat};
    use nix::unistd::{UnlinkatFlags, unlinkat};
    let mut way = vec![open(dir.path(), OFlag::O_DIRECTORY, Bits::empty()).expect("opens")];
    for _ in 0..depth.min(500) {
        let next = openat(way.last().expect("not empty"), name, OFlag::O_DIRECTORY, Bits::empty()).expect("opens");
        way.push(next);
    }
    // What lies below is moved up, so that few descriptors do for any depth.
    while let Some(folder) = way.pop() {
        let _ = unlinkat(&folder, "f", UnlinkatFlags::NoRemoveDir);
        if let Some(parent) = way.last()
            && unlinkat(parent, name, UnlinkatFlags::RemoveDir).is_err()
        {
            let root = open(dir.path(), OFlag::O_DIRECTORY, Bits::empty()).expect("opens");
            nix::fcntl::renameat(&folder, name, &root, "rest").expect("moves");
            unlinkat(parent, name, UnlinkatFlags::RemoveDir).expect("removes");
        }
    }
    if dir.path().join("rest").exists() {
        fs::rename(dir.path().join("rest"), dir.path().join(name)).expect("moves");
        remove_deep(dir, depth - depth.min(500) - usize::from(depth > 500), name);
    }
}

#[test]
fn deep_trees_need_neither_stack_nor_descriptors() {
    const DEPTH: usize = 5000;
    for beneath in [true, false] {
        // Without `openat2` each component is opened by itself: a shallower tree shows it.
        let depth = if beneath { DEPTH } else { 300 };
        let dir = tree();
        make_deep(&dir, depth, "d");
        let mut root = Root::open(dir.path()).expect("opens");
        if !beneath {
            root = root.without_openat2();
        }
        let canonical = dir.path().canonicalize().expect("is there");
        let snapshot = first_of(root, canonical, options(&dir), &later, &Progress::default()).expect("reads");
        assert_eq!((snapshot.len(), snapshot.omitted()), (depth, 0));
        let deepest = format!("{}f", "d/".repeat(depth));
        assert!(snapshot.get(&deepest).is_some());
        let changes = again(&snapshot);
        assert_eq!((changes.products.len(), changes.deleted.len(), changes.reread), (0, 0, 0));
        remove_deep(&dir, depth, "d");
    }
}

#[test]
fn paths_beyond_the_limit_are_omitted() {
    let dir = tree();
    let name = "n".repeat(255);
    // 256 folders of 256 bytes are 64 KiB.
    make_deep(&dir, 258, &name);
    let snapshot = look(options(&dir));
    assert_eq!(snapshot.len(), 255);
    assert_eq!(snapshot.omitted(), 2);
    assert!(snapshot.omissions().iter().all(|omission| omission.reason == Reason::PathTooLong));
    assert_eq!(again(&snapshot).omitted, 2);
    remove_deep(&dir, 258, &name);
}

#[test]
fn wide_trees_need_few_descriptors() {
    let dir = tree();
    // More folders with folders than descriptors may wait.
    for a in 0..400 {
        for b in 0..3 {
            write(&dir, &format!("{a}/{b}/{a}/f"), format!("{a}{b}"));
        }
    }
    let snapshot = look(options(&dir));
    assert_eq!((snapshot.len(), snapshot.omitted()), (1200, 0));
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let dir = tree();
    for number in 0..10_000 {
        // Folders with many files, with few, and nested ones; names whose order differs from that of their folders.
        let path = match number % 4 {
            0 => format!("flat/{number}"),
            1 => format!("a{}/b-{}/{number}", number % 7, number % 11),
            2 => format!("a{}/b/{}/{number}.x", number % 7, number % 301),
            _ => format!("a{}/b.{number}", number % 7),
        };
        write(&dir, &path, number.to_string());
    }
    for number in 0..100 {
        symlink(format!("flat/{}", number * 4), dir.path().join(format!("link{number}"))).expect("links");
        mkfifo(&dir.path().join(format!("fifo{number}")), Bits::S_IRWXU).expect("makes a fifo");
    }
    let json = |snapshot: &Snapshot| serde_json::to_string(&snapshot.material_map()).expect("serializes");
    let one = look(Options { threads: 1, ..options(&dir) });
    assert_eq!((one.len(), one.omitted()), (10_100, 100));
    assert!(one.iter().map(|entry| entry.path).is_sorted());
    let mut snapshots = Vec::new();
    for threads in [2, 3, 8, 32] {
        let many = look(Options { threads, ..options(&dir) });
        assert_eq!(json(&many), json(&one), "{threads} threads");
        assert_eq!(many.omissions(), one.omissions());
        snapshots.push(many);
    }
    for number in (0..10_000).step_by(40) {
        write(&dir, &format!("flat/{number}"), "changed");
        write(&dir, &format!("new{}/{number}", number % 3), "new");
    }
    let want = again(&one);
    assert_eq!(want.products.len(), 250 + 250 + 10);
    for many in &snapshots {
        let changes = again(many);
        assert_eq!(products(&changes), products(&want));
        assert_eq!(changes.omissions, want.omissions);
    }
}

#[test]
fn a_file_that_grows_is_an_omission_and_no_hang() {
    let dir = tree();
    write(&dir, "log", vec![b'x'; 4 << 20]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write as _;
            let mut log = fs::File::options().append(true).open(dir.path().join("log")).expect("opens");
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"more\n").expect("writes");
            }
        });
        let snapshot = look(options(&dir));
        stop.store(true, Ordering::Relaxed);
        // A machine that gives the writer no time during three reads of 4 MB is let pass.
        if snapshot.is_empty() {
            assert_eq!(reasons(snapshot.omissions()), [("log", "changed while it was read".to_owned())]);
        }
    });
}

#[test]
fn a_tree_that_changes_all_the_time_is_no_error() {
    let dir = tree();
    let outside = tree();
    write(&outside, "secret", "outside");
    for number in 0..200 {
        write(&dir, &format!("kept/{}/{number}", number % 10), number.to_string());
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (dir, outside, stop) = (&dir, &outside, &stop);
            scope.spawn(move || {
                let at = dir.path().join(format!("busy{thread}"));
                while !stop.load(Ordering::Relaxed) {
                    let _ = fs::create_dir_all(at.join("a/b"));
                    let _ = fs::write(at.join("a/b/file"), "x");
                    let _ = fs::write(at.join("a/secret"), "x");
                    let _ = fs::rename(at.join("a/b/file"), at.join("a/other"));
                    // A folder that becomes a link to the outside under the walk's feet.
                    let _ = fs::rename(at.join("a"), at.join("moved"));
                    let _ = symlink(outside.path(), at.join("a"));
                    let _ = fs::remove_file(at.join("a"));
                    let _ = mkfifo(&at.join("a"), Bits::S_IRWXU);
                    let _ = fs::remove_file(at.join("a"));
                    let _ = fs::remove_dir_all(at.join("moved"));
                }
            });
        }
        let forbidden = sha256_hex(b"outside");
        for _ in 0..30 {
            let snapshot = look(Options { threads: 4, ..options(&dir) });
            let kept = snapshot.iter().filter(|entry| entry.path.starts_with("kept/")).count();
            let changes = again(&snapshot);
            assert_eq!(kept, 200);
            assert!(!changes.products.iter().any(|product| product.path.starts_with("kept/")));
            assert!(!changes.deleted.iter().any(|path| path.starts_with("kept/")));
            assert!(snapshot.iter().all(|entry| sha256(&entry) != forbidden), "left the root");
            assert!(changes.products.iter().all(|product| product.digests.sha256() != Some(forbidden.as_str())));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// What a tap heard of one file.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    path: String,
    head: usize,
    length: u64,
    bytes: Vec<u8>,
    digests: DigestSet,
}

struct Listener<'a>(Heard, &'a Mutex<Vec<Heard>>);

impl Tap for Listener<'static> {
    fn bytes(&mut self, chunk: &[u8]) {
        self.0.bytes.extend_from_slice(chunk);
    }

    fn done(mut self: Box<Self>, digests: &DigestSet) {
        self.0.digests = digests.clone();
        self.1.lock().expect("not poisoned").push(std::mem::take(&mut self.0));
    }
}

#[test]
fn taps_hear_each_product_once_and_nothing_else() {
    let dir = tree();
    let big: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    write(&dir, "image.tar", "before");
    write(&dir, "young", "not changed");
    write(&dir, "unchosen.o", "before");
    // All are young, so that all are read again.
    let none: [&str; 0] = [];
    let products = Selection::new(&none, &["*.o"]).expect("compiles");
    let snapshot = first(Options { products, ..options(&dir) }, &now, &Progress::default()).expect("reads");
    write(&dir, "image.tar", &big);
    write(&dir, "new", "new");
    write(&dir, "unchosen.o", "after");
    let heard: &'static Mutex<Vec<Heard>> = Box::leak(Box::default());
    let asked = Mutex::new(Vec::new());
    let make = |path: &str, head: &[u8], length: u64| -> Option<Box<dyn Tap>> {
        asked.lock().expect("not poisoned").push(path.to_owned());
        let first = Heard { path: path.to_owned(), head: head.len(), length, ..Heard::default() };
        (path != "new").then(|| Box::new(Listener(first, heard)) as Box<dyn Tap>)
    };
    let changes = snapshot.second(&now, &Progress::default(), Some(&make));
    assert_eq!(super::tests::products(&changes), [("image.tar", Change::Changed), ("new", Change::New)]);
    let mut asked = asked.into_inner().expect("not poisoned");
    asked.sort();
    assert_eq!(asked, ["image.tar", "new", "young"]);
    let heard = heard.lock().expect("not poisoned");
    let want = Heard {
        path: "image.tar".to_owned(),
        head: crate::mime::HEAD,
        length: 1_000_000,
        digests: DigestSet::sha256_hex(sha256_hex(&big)),
        bytes: big,
    };
    assert!(*heard == [want], "young did not change and is not told");
}

#[test]
fn progress_counts_files_and_bytes() {
    let dir = tree();
    write(&dir, "a", "12345");
    write(&dir, "b/c", vec![0; 300_000]);
    let progress = Progress::default();
    let snapshot = first(options(&dir), &later, &progress).expect("reads");
    assert_eq!((progress.files(), progress.bytes()), (2, 300_005));
    assert_eq!(snapshot.known(), (2, 2));
}
