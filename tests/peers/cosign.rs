//! Provenance that affiant signed, judged by cosign.

use crate::harness::{Place, need, peers};

const OWN: &str = "../a.json-slsa.json";

/// `cosign verify-blob-attestation` of a file: whether it passed, and what it said.
fn judge(place: &Place, cosign: &str, [key, kind, envelope, file]: [&str; 4]) -> (bool, String) {
    let mut command = place.command(cosign);
    command.args(["verify-blob-attestation", "--key", key, "--type", kind, "--signature", envelope]);
    // A key's signature is in no log.
    let output = command.args(["--insecure-ignore-tlog", file]).output().expect("cosign starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

#[test]
fn cosign_takes_provenance_of_the_file_that_was_made() {
    need!("git");
    for kind in ["p256", "ed25519"] {
        let place = Place::on_the_real_clock();
        place.affiant(&format!("key generate --kind {kind} --no-password -o ../k.pem")).code(0);
        place.affiant("key generate --no-password -o ../stranger.pem").code(0);
        let line = "run -k ../k.pem -o ../a.json -s build --offline -a environment,git,slsa -- cp hello.txt made";
        place.affiant(line).code(0);
        place.sh("echo more >> hello.txt");
        for cosign in ["cosign2", "cosign3"] {
            if !peers("cosign_takes_provenance_of_the_file_that_was_made", &[cosign]) {
                continue;
            }
            for slsa in ["slsaprovenance1", "https://slsa.dev/provenance/v1"] {
                let (passed, said) = judge(&place, cosign, ["../k.pub", slsa, OWN, "made"]);
                assert!(passed && said.contains("Verified OK"), "{cosign}: {said}");
            }
            for what in [
                ["../k.pub", "slsaprovenance1", OWN, "hello.txt"],
                ["../stranger.pub", "slsaprovenance1", OWN, "made"],
                ["../k.pub", "https://slsa.dev/provenance/v1.0", OWN, "made"],
                ["../k.pub", "slsaprovenance1", "../a.json", "made"],
            ] {
                let (passed, said) = judge(&place, cosign, what);
                assert!(!passed, "{cosign} {what:?}: {said}");
            }
        }
    }
}
