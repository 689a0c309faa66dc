//! The installer of a release: what it installs, and what it does not.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Place;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A release in `<place>/release`: this very binary, recorded by itself, with a policy and evidence.
struct Release {
    place: Place,
}

impl Release {
    fn new() -> Self {
        let place = Place::new();
        let folder = place.beside("release");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::create_dir(place.beside("tmp")).expect("a folder");
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let binary = folder.join(format!("affiant-linux-{machine}"));
        let build =
            format!("cp '{}' '{}' && cp '{}' .", env!("CARGO_BIN_EXE_affiant"), binary.display(), binary.display());
        place.capture(["-s", "build", "--", "sh", "-c", &build]).run().code(0);
        let release = Self { place };
        release.affiant("policy init --from ../a.json --key ../k.pub --outfile ../policy.yaml");
        release.affiant("policy sign ../policy.yaml --key ../k.pem --outfile ../release/release-policy.signed.json");
        release.affiant("bundle create --outfile ../release/evidence.jsonl --attestations ../a.json");
        std::fs::copy(release.place.beside("k.pub"), folder.join("release-policy.pub")).expect("copied");
        release.sh("mkdir -p share/man/man1 && echo page >share/man/man1/affiant.1 && tar -czf ../release/affiant-share.tar.gz share/man/man1/affiant.1");
        release.seal();
        release
    }

    fn affiant(&self, words: &str) {
        let _ = self.place.affiant(words.split(' ')).env_remove("SOURCE_DATE_EPOCH").run().code(0);
    }

    fn sh(&self, script: &str) {
        let status = Command::new("sh").args(["-euc", script]).current_dir(self.place.work()).status().expect("sh");
        assert!(status.success(), "{script}");
    }

    fn seal(&self) {
        let output = Command::new(root().join(".ci/release"))
            .args(["seal", "v1.2.3"])
            .arg(self.place.beside("release"))
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("RELEASE_URL", self.place.beside("release"))
            .output()
            .expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `install.sh --prefix <place>/usr` and these arguments.
    fn install(&self, script: &Path, arguments: &[&str]) -> (i32, String) {
        let output = Command::new("sh")
            .arg(script)
            .arg("--prefix")
            .arg(self.prefix())
            .args(arguments)
            .env("TMPDIR", self.place.beside("tmp"))
            .current_dir(self.place.work())
            .output()
            .expect("sh");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(
            std::fs::read_dir(self.place.beside("tmp")).expect("a folder").count(),
            0,
            "rubbish is left: {said}"
        );
        (output.status.code().expect("not ended by a signal"), said)
    }

    fn script(&self) -> PathBuf {
        self.place.beside("release/install.sh")
    }

    fn prefix(&self) -> PathBuf {
        self.place.beside("usr")
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], says: &str) {
        let (code, said) = self.install(&self.script(), arguments);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(says), "`{says}` is not in: {said}");
        assert!(!self.prefix().exists(), "something was installed: {said}");
    }
}

#[test]
fn installs_what_the_release_made() {
    let release = Release::new();
    let (code, said) = release.install(&release.script(), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("installed as") && said.contains("next: affiant doctor"), "{said}");
    let installed = release.prefix().join("bin/affiant");
    assert_eq!(
        std::fs::read(&installed).expect("installed"),
        std::fs::read(env!("CARGO_BIN_EXE_affiant")).expect("the binary")
    );
    assert!(release.prefix().join("share/man/man1/affiant.1").exists());
    let listed: Vec<_> = std::fs::read_dir(release.prefix().join("bin")).expect("a folder").flatten().collect();
    assert_eq!(listed.len(), 1, "{listed:?}");

    // Once more, over what is there.
    let (code, said) = release.install(&release.script(), &[]);
    assert_eq!(code, 0, "{said}");
    let output = Command::new(installed).arg("version").output().expect("starts");
    assert!(output.status.success());

    let text = std::fs::read_to_string(release.place.beside("release/release.txt")).expect("written");
    assert!(text.starts_with("version v1.2.3\nlinux-"), "{text}");
    release.sh("cd ../release && sha256sum --check --quiet SHA256SUMS");
}

#[test]
fn installs_nothing_that_was_changed() {
    let release = Release::new();
    for file in ["evidence.jsonl", "release-policy.signed.json", "release-policy.pub", "affiant-share.tar.gz"] {
        let path = release.place.beside("release").join(file);
        let whole = std::fs::read(&path).expect("part of the release");
        std::fs::write(&path, [&whole[..], b"\n"].concat()).expect("written");
        release.refuses(&[], &format!("{file} from"));
        std::fs::remove_file(&path).expect("removed");
        release.refuses(&[], &format!("{file} cannot be had from"));
        std::fs::write(&path, &whole).expect("written");
    }
    release.sh("for binary in ../release/affiant-linux-*; do printf x >>$binary; done");
    release.refuses(&[], "Nothing was installed");
}

/// Digests alone would not do: whoever can write them can write any.
#[test]
fn installs_nothing_that_the_gate_denies() {
    let release = Release::new();
    release.affiant("key generate --no-password -o ../other.pem");
    release.affiant("run -k ../other.pem -s build -o ../other.json -- true");
    std::fs::remove_file(release.place.beside("release/evidence.jsonl")).expect("removed");
    release.affiant("bundle create --outfile ../release/evidence.jsonl --attestations ../other.json");
    release.seal();
    release.refuses(&[], "the gate denies affiant-linux-");
}

#[test]
fn refuses_what_it_cannot_know() {
    let release = Release::new();
    let (code, said) = release.install(&root().join(".ci/install.sh"), &["--from", "release"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("belongs to no release"), "{said}");
    release.refuses(&["--from", "http://files.example/affiant"], "is not fetched");
    release.refuses(&["--from", "ftp://files.example/affiant"], "is not fetched");
    release.refuses(&["--from", ""], "--from needs a value");
    release.refuses(&["--form", "x"], "--form is not known");
}

/// A release without what the installer asks the gate with is none.
#[test]
fn a_release_without_policy_is_not_sealed() {
    let place = Place::without_key();
    for (version, says) in [("1.2.3", "is no version"), ("v1.2.3", "lacks release-policy.signed.json")] {
        let output = Command::new(root().join(".ci/release"))
            .args(["seal", version])
            .arg(place.work())
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{said}");
    }
}
