//! Killed, full, taken away: the archive is never corrupt, and what was sealed is there or in the spool.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Call, Ended, Place, left_out};

/// Numbers that look random and are the same each time (Knuth's multiplier).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn archive(place: &Place) -> String {
    format!("dir:{}", place.beside("archive").display())
}

#[track_caller]
fn assert_sound(place: &Place) {
    let ended = place.affiant(["archive", "check", "--archive", &archive(place)]).run().code(0);
    assert!(ended.stdout_text().ends_with("sound\n"), "{}", ended.stdout_text());
}

/// The digest of the envelope in `file`, whose signature holds.
#[track_caller]
fn verified(place: &Place, file: &Path) -> String {
    let ended = place.affiant(["inspect", "-o", "json", "--key", "../k.pub"]).with([file]).run().code(0);
    let shown: Value = serde_json::from_str(&ended.stdout_text()).expect("JSON");
    assert_eq!(shown["signatures"][0]["state"], "valid");
    format!("sha256:{}", shown["sha256"].as_str().expect("a digest"))
}

/// 200 random moments of a run: before, during and after the command, and while the evidence is written.
#[test]
fn killed_at_any_moment() {
    let place = Place::new();
    let call = || {
        place
            .capture(["-s", "b", "-a", "environment", "--archive", &archive(&place), "--", "sh", "-c", "date > made"])
            .env_remove("SOURCE_DATE_EPOCH")
    };
    let begun = Instant::now();
    call().run().code(0);
    let mut whole = begun.elapsed().max(Duration::from_millis(20));
    let mut numbers = Numbers(3);
    let (mut killed, mut kept) = (0, 0);
    for _ in 0..400 {
        if killed == 200 {
            break;
        }
        let log = std::fs::File::create(place.beside("log")).expect("creates");
        let mut child = call().command().stdout(Stdio::null()).stderr(log).spawn().expect("affiant starts");
        // Half of them in the last third, where the evidence is written.
        let micros = u64::try_from(whole.as_micros()).expect("a short time");
        let from = if numbers.below(2) == 0 { 0 } else { micros * 2 / 3 };
        std::thread::sleep(Duration::from_micros(from + numbers.below(micros * 5 / 4 - from)));
        child.kill().expect("kills");
        let survived = child.wait().expect("ends").code().is_some();
        killed += usize::from(!survived);
        // How long a run takes changes with the machine's load: the moments follow it.
        whole = if survived { whole.mul_f64(0.95) } else { whole.mul_f64(1.03) }.max(Duration::from_millis(10));
        let digest = verified(&place, &place.beside("a.json"));
        // The archive comes first: what is in the outfile is in the archive.
        place.affiant(["archive", "get", &digest, "--archive", &archive(&place)]).run().code(0);
        let log = std::fs::read_to_string(place.beside("log")).expect("reads");
        if let Some(told) = log.split("the archive as sha256:").nth(1) {
            kept += 1;
            place.affiant(["archive", "get", &told[..12], "--archive", &archive(&place)]).run().code(0);
        }
        assert_sound(&place);
    }
    assert!(killed >= 100 && kept >= 5, "the moments were badly chosen: {killed} killed, {kept} kept");
    call().run().code(0);
    assert_sound(&place);
}

/// `resume` is killed, too: in the end everything is where it should be, once.
#[test]
fn a_killed_resume_loses_nothing() {
    let place = Place::new();
    let out = place.beside("out");
    for number in 0..3 {
        std::fs::create_dir(&out).expect("makes a folder");
        place
            .affiant(["run", "-k", "../k.pem", "-s", "b", "-a", "environment", "-o"])
            .with([out.join(format!("{number}.json"))])
            .with(["--archive", &archive(&place), "--", "sh", "-c", &format!("rm -r '{}'", out.display())])
            .run()
            .code(125)
            .stderr_has(&["the outfile was not written", "finish with `affiant resume`", "and the spool"]);
    }
    std::fs::create_dir(&out).expect("makes a folder");
    let mut numbers = Numbers(5);
    for _ in 0..30 {
        let mut child = place.affiant(["resume"]).command().stderr(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(Duration::from_micros(numbers.below(40_000)));
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
    place.affiant(["resume"]).run().code(0);
    for number in 0..3 {
        verified(&place, &out.join(format!("{number}.json")));
    }
    place.affiant(["resume"]).run().code(0).stderr("nothing waits\n");
    assert_sound(&place);
}

#[test]
fn eight_runs_at_once() {
    let place = Place::new();
    let running: Vec<_> = (0..8)
        .map(|number| {
            let log = std::fs::File::create(place.beside(&format!("log{number}"))).expect("creates");
            let out = place.beside(&format!("{number}.json"));
            place
                .affiant(["run", "-k", "../k.pem", "-s", &format!("s{number}"), "-a", "environment", "-o"])
                .with([out.as_os_str()])
                .with(["--archive", &archive(&place), "--", "sh", "-c"])
                .with([&format!("for i in 1 2 3 4 5 6 7 8 9; do echo $$ > p{number}-$i; rm -f p{number}-1; done")])
                .command()
                .stderr(log)
                .spawn()
                .expect("starts")
        })
        .collect();
    for (number, mut child) in running.into_iter().enumerate() {
        let code = child.wait().expect("ends").code();
        let log = std::fs::read_to_string(place.beside(&format!("log{number}"))).expect("reads");
        assert_eq!(code, Some(0), "{log}");
        let digest = verified(&place, &place.beside(&format!("{number}.json")));
        place.affiant(["archive", "get", &digest, "--archive", &archive(&place)]).run().code(0);
    }
    assert_sound(&place);
    let listed = place.affiant(["archive", "list", "--archive", &archive(&place)]).run().code(0).stdout_text();
    assert_eq!(listed.lines().count(), 8, "{listed}");
}

/// A file system of a few megabytes that goes away with the test. `None`, loudly, where that is not allowed.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(folder: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&folder).expect("makes a folder");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "affiant-test"])
            .arg(&folder)
            .stderr(Stdio::null())
            .status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        left_out("a full disk needs a mount, which is not allowed here");
        None
    }

    pub(crate) fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("fill")).expect("creates");
        std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("the disk is small");
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.0.join("fill")).expect("removes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Outfile, archive and spool on a full disk in every combination; full before the run, or filled by the command.
#[test]
fn a_full_disk_loses_nothing() {
    for (size, before) in [("24m", false), ("1m", false), ("1m", true)] {
        for on_disk in 1..8 {
            let place = Place::new();
            let Some(disk) = SmallDisk::mount(place.beside("disk"), size) else { return };
            let put = |bit: u8, name: &str| if on_disk & bit == 0 { place.beside(name) } else { disk.0.join(name) };
            let (out, archive, home) = (put(1, "out.json"), put(2, "archive"), put(4, "affiant-home"));
            std::fs::create_dir(place.beside("tmp")).expect("makes a folder");
            let call = |args: &[&str]| -> Call {
                place.affiant(args).env("AFFIANT_HOME", &home).env("TMPDIR", place.beside("tmp"))
            };
            if before {
                // The folders are there, as on a machine that has run before.
                call(&[
                    "run",
                    "-k",
                    "../k.pem",
                    "-s",
                    "first",
                    "--archive",
                    &format!("dir:{}", archive.display()),
                    "--",
                    "true",
                ])
                .run()
                .code(0);
                disk.fill();
            }
            let script = format!("touch ../ran; head -c 99000000 /dev/zero > '{}/fill'; true", disk.0.display());
            let ended = call(&["run", "-k", "../k.pem", "-s", "b", "-a", "environment"])
                .with([Path::new("-o"), &out, Path::new("--archive"), Path::new(&format!("dir:{}", archive.display()))])
                .with(["--", "sh", "-c", &script])
                .run();
            let what = format!("{size} {before} {on_disk}: {}", ended.stderr_text());
            let ran = place.beside("ran").exists();
            disk.free();
            if !ran {
                assert_eq!(ended.exit_code(), 125, "{what}");
                assert!(before && what.contains("error:"), "{what}");
                continue;
            }
            // What was named and not written fails the run; either way it is somewhere.
            let refused = what.contains("error: ");
            assert_eq!(ended.exit_code(), if refused { 125 } else { 0 }, "{what}");
            assert!(!what.contains("is lost"), "{what}");
            if refused {
                let spool =
                    what.split("`affiant resume --spool ").nth(1).map(|rest| rest.split('`').next().unwrap_or(""));
                let spool = spool.map(|spool| spool.replace("[DIR]", &place.beside("").display().to_string()));
                let resume = call(&["resume"]);
                match &spool {
                    Some(spool) => resume.with(["--spool", spool.as_str()]).run().code(0),
                    None => resume.run().code(0),
                };
            }
            let digest = verified(&place, &out);
            let named = format!("dir:{}", archive.display());
            call(&["archive", "get", &digest, "--archive", &named]).run().code(0);
            call(&["archive", "check", "--archive", &named]).run().code(0);
        }
    }
}

/// Where there is no home at all, evidence that nobody takes waits among the temporary files.
#[test]
fn spool_of_last_resort() {
    let place = Place::new();
    std::fs::create_dir(place.beside("tmp")).expect("makes a folder");
    let ended = place
        .affiant(["run", "-k", "../k.pem", "-s", "b", "-a", "environment", "-o", "/dev/full", "--", "true"])
        .env_remove("HOME")
        .env("TMPDIR", place.beside("tmp"))
        .run()
        .code(125)
        .stderr_has(&["the outfile was not written", "affiant resume --spool [DIR]/tmp/affiant-spool-"]);
    drop(ended);
    let spool = std::fs::read_dir(place.beside("tmp")).expect("a folder").flatten().next().expect("a spool").path();
    private(&spool);
    place.affiant(["resume", "-o", "../a.json", "--spool"]).with([&spool]).env_remove("HOME").run().code(0);
    verified(&place, &place.beside("a.json"));
}

#[track_caller]
fn private(folder: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").mode() & 0o777;
    assert_eq!(mode(folder), 0o700, "{}", folder.display());
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        assert_eq!(mode(&entry.path()) & !0o700, 0, "{}", entry.path().display());
    }
}

/// Spool and private files stay private whatever the umask is.
#[test]
fn spool_is_private_under_any_umask() {
    for umask in ["000", "022", "077"] {
        let place = Place::new();
        let program = env!("CARGO_BIN_EXE_affiant");
        let script = format!("umask {umask}; exec {program} run -k ../k.pem -s b -a environment -o /dev/full -- true");
        let mut command = Command::new("sh");
        let status = command
            .args(["-c", &script])
            .current_dir(place.work())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", place.beside("home"))
            .stderr(Stdio::null())
            .status()
            .expect("starts");
        assert_eq!(status.code(), Some(125));
        private(&place.beside("home/.local/state/affiant/spool"));
        private(&place.beside("home/.local/share/affiant/archive/index"));
    }
}

/// Security rule 6: what is not signed is signed only when it is named, only unchanged, and only as a statement.
#[test]
fn spool_signs_only_what_was_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let spool = place.beside("home/.local/state/affiant/spool");
    std::fs::create_dir_all(&spool).expect("makes folders");
    std::fs::set_permissions(&spool, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let plant = |payload: &[u8], kind: &str| {
        use base64::Engine as _;
        let name = place.beside("payload");
        std::fs::write(&name, payload).expect("writes");
        let out = Command::new("sha256sum").arg(&name).output().expect("sha256sum is there").stdout;
        let digest = String::from_utf8_lossy(&out[..64]).into_owned();
        std::fs::write(spool.join(format!("{digest}.payload.json")), payload).expect("writes");
        let want = format!(
            r#"{{"outfile":"{}","payloadType":"{kind}","reason":"{}","saved":"2026-01-01T00:00:00Z"}}"#,
            place.beside("a.json").display(),
            base64::engine::general_purpose::STANDARD.encode(digest.as_bytes())
        );
        std::fs::write(spool.join(format!("{digest}.00000000.want.json")), want).expect("writes");
        format!("sha256:{digest}")
    };
    let statement = br#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{}}"#;
    let planted = plant(statement, "application/vnd.in-toto+json");
    let resume = |more: &[&str]| -> Ended { place.affiant(["resume", "-k", "../k.pem"]).with(more).run() };
    resume(&[]).code(4).stdout("").stderr_has(&["is not signed, so it must be named"]);
    let other = format!("sha256:{}", "0".repeat(64));
    resume(&["--digest", &other]).code(3).stdout("").stderr_has(&["nothing waits under"]);
    assert!(!place.beside("a.json").exists(), "signed without being named");
    // Changed after its digest was printed.
    let path = spool.join(format!("{}.payload.json", &planted[7..]));
    std::fs::write(&path, b"{}").expect("writes");
    resume(&["--digest", &planted]).code(4).stdout("").stderr_has(&["the content has changed"]);
    assert!(!place.beside("a.json").exists(), "signed although it was changed");
    std::fs::write(&path, statement).expect("writes");
    resume(&["--digest", &planted]).code(0).stdout("");
    verified(&place, &place.beside("a.json"));
    // A document of another type beside a digest that was printed for a statement.
    std::fs::remove_file(place.beside("a.json")).expect("removes");
    let policy = plant(br#"{"expires":"2099-01-01T00:00:00Z"}"#, "https://witness.testifysec.com/policy/v0.1");
    resume(&["--digest", &policy]).code(4).stdout("").stderr_has(&["another type"]);
    assert!(!place.beside("a.json").exists(), "a policy was signed");
}
