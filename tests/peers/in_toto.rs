//! Links and provenance, read by in-toto's own programs: `in-toto-verify` with a layout that in-toto's Python made, and
//! the official protocol buffers of attestations.

use std::path::{Path, PathBuf};

use crate::harness::{Place, need};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const LINK: &str = "https://in-toto.io/attestation/link/v0.3";

fn tool(name: &str) -> String {
    let tools: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/peers/tools/in-toto", name].iter().collect();
    tools.display().to_string()
}

/// Two wrapped steps of a key of this kind, their links in `links`, and a layout for them.
fn two_steps(kind: &str) -> Place {
    let place = Place::on_the_real_clock();
    place.sh("find . -mindepth 1 -delete; mkdir ../links");
    place.affiant(&format!("key generate --kind {kind} --no-password -o ../k.pem")).code(0);
    place.sh("cd .. && openssl genpkey -algorithm ed25519 -out owner.pem 2>/dev/null && openssl pkey -in owner.pem -pubout -out owner.pub");
    place.sh(&format!("in-toto-python '{}' ../root.layout ../k.pub ../owner.pem", tool("layout.py")));
    step(&place, "source", "echo hi > in.txt", 0);
    step(&place, "build", "tr a-z A-Z < in.txt > out.txt", 0);
    place.sh("mkdir ../shipped && cp out.txt ../shipped/");
    place
}

fn step(place: &Place, name: &str, script: &str, code: i32) {
    let file = format!("../{name}.json");
    let line = ["run", "-k", "../k.pem", "--offline", "-o", &file, "-s", name, "-a", "environment,slsa,link"];
    let rest = ["--attestor-link-classic=../links", "--", "sh", "-c", script];
    place.affiant_with(&[&line[..], &rest[..]].concat(), &[]).code(code);
}

/// `in-toto-verify` in the folder of what is shipped: whether it passed, and what it said.
fn verify(place: &Place) -> (bool, String) {
    let mut command = place.command("in-toto-verify");
    command.current_dir(place.beside("shipped"));
    let line = ["--layout", "../root.layout", "--verification-keys", "../owner.pub", "--link-dir", "../links"];
    let output = command.args(line).output().expect("in-toto-verify starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

#[track_caller]
fn passes(place: &Place) {
    let (passed, said) = verify(place);
    assert!(passed, "{said}");
}

#[track_caller]
fn fails(place: &Place, reason: &str) {
    let (passed, said) = verify(place);
    assert!(!passed && said.contains(reason), "{said}");
}

/// The link file of a step.
fn link_of(place: &Place, step: &str) -> PathBuf {
    let folder = place.beside("links");
    let mut names = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let is_it = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(step));
    names.find(|path| is_it(path)).unwrap_or_else(|| panic!("no link of {step}"))
}

#[test]
fn in_toto_verify_takes_the_links_of_every_kind_of_key() {
    need!("in-toto-verify", "in-toto-python", "openssl");
    for kind in ["ed25519", "p256", "rsa2048"] {
        let place = two_steps(kind);
        passes(&place);

        // An edited product.
        std::fs::write(place.beside("shipped/out.txt"), "HI!\n").expect("writes");
        fails(&place, "out.txt");
        place.sh("cp out.txt ../shipped/");
        passes(&place);

        // An edited link.
        let link = link_of(&place, "build");
        let text = std::fs::read_to_string(&link).expect("a link");
        std::fs::write(&link, text.replace("tr a-z A-Z", "tr a-z B-Z")).expect("writes");
        fails(&place, "build");
        std::fs::write(&link, &text).expect("writes");
        passes(&place);

        // A link that is not there, and one of another key.
        std::fs::remove_file(&link).expect("removes");
        fails(&place, "requires '1' link metadata file(s), found '0'");
        place.affiant("key generate --kind ed25519 --no-password -o ../stranger.pem").code(0);
        place.sh("mv ../k.pem ../k.old && cp ../stranger.pem ../k.pem && rm out.txt");
        step(&place, "build", "tr a-z A-Z < in.txt > out.txt", 0);
        std::fs::rename(link_of(&place, "build"), &link).expect("renames");
        fails(&place, "build");
    }
}

#[test]
fn a_file_that_changed_between_the_steps_is_seen() {
    need!("in-toto-verify", "in-toto-python", "openssl");
    let place = two_steps("p256");
    std::fs::remove_file(place.work().join("out.txt")).expect("removes");
    std::fs::write(place.work().join("in.txt"), "evil\n").expect("writes");
    step(&place, "build", "tr a-z A-Z < in.txt > out.txt", 0);
    place.sh("cp out.txt ../shipped/");
    fails(&place, "in.txt");
}

/// in-toto-verify looks neither at a link's name nor at the command's end, so a failed command leaves none.
#[test]
fn a_failed_command_passes_nothing() {
    need!("in-toto-verify", "in-toto-python", "openssl");
    let place = two_steps("p256");
    std::fs::remove_file(link_of(&place, "build")).expect("removes");
    std::fs::remove_file(place.work().join("out.txt")).expect("removes");
    step(&place, "build", "tr a-z A-Z < in.txt > out.txt; exit 3", 3);
    fails(&place, "requires '1' link metadata file(s), found '0'");
}

/// Names, texts and output with everything that canonical JSON and escapes may trip over.
#[test]
fn signatures_hold_over_any_text() {
    need!("in-toto-python");
    let place = Place::on_the_real_clock();
    place.affiant("key generate --no-password -o ../k.pem").code(0);
    place.sh("mkdir ../links");
    let script = r#"printf 'a\tb\n\033[0m\001ü😀"\\\177'; echo x > 'na"me\n ü'"#;
    step(&place, "build", script, 0);
    let check = "import sys
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from in_toto.models.metadata import Metadata
from securesystemslib.signer import SSlibKey
key = SSlibKey.from_crypto(load_pem_public_key(open(sys.argv[2], 'rb').read()))
link = Metadata.load(sys.argv[1])
link.verify_signature(key.to_dict() | {'keyid': key.keyid})
print(link.signed.byproducts['stdout'])";
    let mut command = place.command("in-toto-python");
    let output = command.args(["-c", check]).arg(link_of(&place, "build")).arg("../k.pub").output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\tb\n\u{1b}[0m\u{1}ü😀\"\\\u{7f}\n");
}

#[test]
fn the_official_protocol_buffers_read_provenance_and_link() {
    need!("in-toto-python", "git");
    let place = Place::new();
    place.sh("git remote add origin https://git.example/a.git");
    let made = place.affiant_with(
        &[
            "run",
            "-k",
            "../k.pem",
            "-o",
            "../a.json",
            "-s",
            "build",
            "--offline",
            "-a",
            "environment,git,slsa,link",
            "--",
            "sh",
            "-c",
            "echo it > made; echo said",
        ],
        &[("JENKINS_URL", "https://jenkins.example.com/")],
    );
    made.code(0);
    for (name, kind) in [("slsa", PROVENANCE), ("link", LINK)] {
        let read = |file: &str| {
            let mut command = place.command("in-toto-python");
            command.arg(tool("statement.py")).arg(file).arg(kind).output().expect("starts")
        };
        let file = format!("../a.json-{name}.json");
        let output = read(&file);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "2 subjects\n");
        // What they do not know is refused: the check can fail.
        let other = if kind == LINK { "../a.json-slsa.json" } else { "../a.json-link.json" };
        assert!(!read(other).status.success());
    }
}
