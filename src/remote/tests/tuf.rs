//! Trust roots by TUF, against a mirror on this machine.

#[path = "../../../tests/cli/tuf.rs"]
mod mirror;

use std::path::Path;
use std::sync::Arc;

use affiant_remote::http::{Client, Settings};
use affiant_remote::tuf::{From, Instance, PUBLIC_ROOT, TRUSTED_ROOT, TufError};
use jiff::Timestamp;
use mirror::{LATE, Mirror};

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn today() -> Timestamp {
    time("2026-11-22T00:00:00Z")
}

fn instance(mirror: &Mirror, folder: &Path) -> Instance {
    Instance { mirror: mirror.base(), root: mirror.root().to_vec(), copy: folder.join("copy") }
}

fn online() -> From {
    let hasty = Settings { whole: std::time::Duration::from_secs(2), ..Settings::default() };
    From::Mirror(Arc::new(Client::new(hasty)))
}

fn said(result: Result<affiant_remote::tuf::Got, TufError>) -> String {
    match result {
        Ok(got) => panic!("accepted: root {}, {:?}", got.root_version, got.targets.keys()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_the_mirror_publishes_is_got_and_kept() {
    let mut mirror = Mirror::new();
    mirror.publish(3, LATE, &[(TRUSTED_ROOT, b"roots"), ("other.json", b"other")]);
    let folder = tempfile::tempdir().expect("a folder");
    let instance = instance(&mirror, folder.path());
    assert!(matches!(instance.get(From::Copy, &[TRUSTED_ROOT], today()), Err(TufError::NoCopy { .. })));
    let got = instance.get(online(), &[TRUSTED_ROOT, "absent.json"], today()).expect("holds");
    assert_eq!(got.targets.get(TRUSTED_ROOT).map(Vec::as_slice), Some(&b"roots"[..]));
    assert!(!got.targets.contains_key("absent.json"));
    assert_eq!((got.root_version, got.expires), (1, time(LATE)));
    mirror.asked();
    // The copy asks nobody, and gives the same.
    let copied = instance.get(From::Copy, &[TRUSTED_ROOT], today()).expect("holds");
    assert_eq!(copied.targets, got.targets);
    assert_eq!(mirror.asked(), Vec::<String>::new());
    // What did not change is not fetched again; a new root is.
    mirror.rotate(LATE);
    mirror.publish(4, LATE, &[(TRUSTED_ROOT, b"newer")]);
    let newer = instance.get(online(), &[TRUSTED_ROOT], today()).expect("holds");
    assert_eq!((newer.root_version, newer.targets[TRUSTED_ROOT].as_slice()), (2, &b"newer"[..]));
    let copied = instance.get(From::Copy, &[TRUSTED_ROOT], today()).expect("holds");
    assert_eq!((copied.root_version, copied.targets[TRUSTED_ROOT].as_slice()), (2, &b"newer"[..]));
}

#[test]
fn what_does_not_hold_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let fresh = |name: &str, mirror: &Mirror| instance(mirror, &folder.path().join(name));
    let published = || {
        let mirror = Mirror::new();
        mirror.publish(3, LATE, &[(TRUSTED_ROOT, b"roots")]);
        mirror
    };
    // A root that the last one does not vouch for.
    let mut mirror = published();
    mirror.usurp();
    assert!(said(fresh("usurped", &mirror).get(online(), &[TRUSTED_ROOT], today())).contains("threshold"));
    // A root of another instance.
    let (mirror, other) = (published(), published());
    let wrong = Instance { root: other.root().to_vec(), ..fresh("other", &mirror) };
    assert!(said(wrong.get(online(), &[TRUSTED_ROOT], today())).contains("threshold"));
    // One that is signed by nobody at all, or no metadata.
    let wrong = Instance { root: b"{}".to_vec(), ..fresh("none", &mirror) };
    assert!(said(wrong.get(online(), &[TRUSTED_ROOT], today())).contains("do not hold"));
    // Expired: the root, and the word of the mirror.
    let mut mirror = published();
    mirror.rotate("2020-01-01T00:00:00Z");
    assert!(said(fresh("root", &mirror).get(online(), &[TRUSTED_ROOT], today())).contains("expired"));
    let mirror = Mirror::new();
    mirror.publish(3, "2026-11-21T00:00:00Z", &[(TRUSTED_ROOT, b"roots")]);
    assert!(said(fresh("old", &mirror).get(online(), &[TRUSTED_ROOT], today())).contains("expired"));
    // A target that was altered, and metadata that were.
    let mirror = published();
    let digest = affiant_core::digest::sha256_hex(b"roots");
    mirror.put(&format!("targets/{digest}.{TRUSTED_ROOT}"), Some(b"Roots"));
    assert!(said(fresh("target", &mirror).get(online(), &[TRUSTED_ROOT], today())).contains("mismatch"));
    let mirror = published();
    let altered = String::from_utf8(mirror.file("3.targets.json")).expect("text").replace("2099", "2098");
    mirror.put("3.targets.json", Some(altered.as_bytes()));
    assert!(said(fresh("targets", &mirror).get(online(), &[TRUSTED_ROOT], today())).contains("do not hold"));
    // Nobody there, and a target without end.
    let mirror = published();
    mirror.put("timestamp.json", None);
    assert!(said(fresh("gone", &mirror).get(online(), &[TRUSTED_ROOT], today())).contains("timestamp.json"));
    let mirror = published();
    mirror.put("timestamp.json", Some(&vec![b' '; 100_000]));
    let error = fresh("long", &mirror).get(online(), &[TRUSTED_ROOT], today());
    assert!(said(error).contains("more than"), "a timestamp has a limit");
}

#[test]
fn an_older_word_of_the_mirror_is_refused() {
    let mirror = Mirror::new();
    mirror.publish(5, LATE, &[(TRUSTED_ROOT, b"roots")]);
    let folder = tempfile::tempdir().expect("a folder");
    let instance = instance(&mirror, folder.path());
    instance.get(online(), &[TRUSTED_ROOT], today()).expect("holds");
    mirror.publish(4, LATE, &[(TRUSTED_ROOT, b"old")]);
    assert!(said(instance.get(online(), &[TRUSTED_ROOT], today())).contains("rollback"));
    // A copy that somebody altered is no copy.
    let path = folder.path().join("copy/targets").join(TRUSTED_ROOT);
    std::fs::write(&path, b"Roots").expect("written");
    assert!(said(instance.get(From::Copy, &[TRUSTED_ROOT], today())).contains("mismatch"));
}

#[test]
fn a_copy_is_carried_to_where_there_is_no_network() {
    let mut mirror = Mirror::new();
    mirror.rotate(LATE);
    mirror.publish(3, "2026-11-23T00:00:00Z", &[(TRUSTED_ROOT, b"roots")]);
    let folder = tempfile::tempdir().expect("a folder");
    let here = instance(&mirror, folder.path());
    here.get(online(), &[TRUSTED_ROOT], today()).expect("holds");
    let files = here.files().expect("read");
    let there = instance(&mirror, &folder.path().join("there"));
    let took = there.take(&files, &[TRUSTED_ROOT]).expect("holds");
    assert_eq!(took.targets[TRUSTED_ROOT], b"roots");
    // A year later it still says the same, and when it expired.
    let later = there.get(From::Copy, &[TRUSTED_ROOT], time("2027-11-23T00:00:00Z")).expect("holds");
    assert_eq!((later.root_version, later.expires), (2, time("2026-11-23T00:00:00Z")));
    assert_eq!(later.targets[TRUSTED_ROOT], b"roots");
    // Altered on the way, of another instance, or with names that lead elsewhere.
    for name in files.keys() {
        let mut altered = files.clone();
        altered.insert(name.clone(), b"{}".to_vec());
        let other = instance(&mirror, &folder.path().join("altered").join(name));
        let taken = other.take(&altered, &[TRUSTED_ROOT]);
        // Not read: the chain of roots is in `root_history`, and begins with the one that is built in.
        assert!(name == "root.json" || name == "root_history/1.root.json" || taken.is_err(), "{name}");
    }
    let stranger = Mirror::new();
    assert!(instance(&stranger, &folder.path().join("s")).take(&files, &[TRUSTED_ROOT]).is_err());
    for bad in ["../x.json", "/x.json", "targets/../x.json", "x", ".x.json"] {
        let mut more = files.clone();
        more.insert(bad.to_owned(), Vec::new());
        assert!(matches!(there.take(&more, &[TRUSTED_ROOT]), Err(TufError::NotOne(_))), "{bad}");
    }
}

#[test]
fn the_root_of_the_public_instance_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let public = Instance::public(folder.path().join("none"));
    assert_eq!(public.root, PUBLIC_ROOT);
    let error = public.get(From::Copy, &[TRUSTED_ROOT], today()).expect_err("no copy");
    assert!(matches!(error, TufError::NoCopy { .. }), "{error}");
    // Its own signatures are checked first, before anybody is asked.
    let nobody = Instance { mirror: "http://127.0.0.1:9".to_owned(), ..public };
    let error = nobody.get(online(), &[TRUSTED_ROOT], today()).expect_err("nobody there");
    assert!(matches!(error, TufError::NoAnswer { .. }), "{error}");
}

/// What the public instance published in February 2026, with the root of then.
#[test]
fn recorded_metadata_of_the_public_instance_hold() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tuf/public");
    let from = Instance { copy: recorded.clone(), ..Instance::public(recorded.clone()) };
    let files = from.files().expect("read");
    assert_eq!(files.len(), 5, "{:?}", files.keys());
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy");
    let then = Instance { root: files["root_history/14.root.json"].clone(), copy: copy.clone(), ..from };
    let took = then.take(&files, &[TRUSTED_ROOT]).expect("holds");
    assert_eq!((took.root_version, took.expires), (14, time("2026-02-12T13:42:54Z")));
    assert_eq!(took.targets[TRUSTED_ROOT], files["targets/trusted_root.json"]);
    assert_eq!(then.get(From::Copy, &[TRUSTED_ROOT], today()).expect("holds").targets, took.targets);
    // The root that is built in is a newer one, and vouches for the same.
    let now = Instance::public(folder.path().join("now"));
    let took = now.take(&files, &[TRUSTED_ROOT]).expect("holds");
    assert_eq!((took.root_version, took.targets.len()), (16, 1));
}
