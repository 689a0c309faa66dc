//! A person logs in at an issuer that a real Fulcio trusts: affiant as cosign does it, with a browser and with a code.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use crate::harness::Place;
use crate::hosts::{call, place};
use crate::stack::{Stack, line, need_sigstore};

const AFFIANT: &str = env!("CARGO_BIN_EXE_affiant");
/// Whom the issuer lets in.
const ANN: &str = "ann@example.com";

/// A line of a shell on a terminal; the browser is curl. Whether it ended well, and what was shown.
fn on_terminal(place: &Place, line: &str) -> (bool, String) {
    let mut command = place.command("script");
    command.args(["-qefc", line, "/dev/null"]).env("COSIGN_YES", "true");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script is needed");
    let mut screen = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut shown = String::new();
    while out.read_line(&mut shown).is_ok_and(|length| length > 0) {
        if shown.starts_with("http://") {
            let browser = Command::new("curl").args(["-sSL", shown.trim()]).output().expect("curl is needed");
            assert!(browser.status.success(), "{}", String::from_utf8_lossy(&browser.stderr));
        }
        screen.push_str(&std::mem::take(&mut shown));
    }
    let _ = out.read_to_string(&mut screen);
    (child.wait().expect("ends").success(), screen)
}

#[test]
fn a_person_logs_in_and_fulcio_takes_the_token() {
    need_sigstore!("curl");
    let (place, stack) = (place(), Stack::new());
    let (config, root, issuer) = (stack.config("tsa"), stack.root(), stack.service("mail"));
    // The issuer is that of the signing configuration.
    let affiant = format!("{AFFIANT} image sign-blob --signing-config {config} --trusted-root {root}");
    let cosign = format!("cosign3 sign-blob --signing-config {config}");
    for (who, words) in [
        ("affiant, browser", affiant.clone()),
        ("affiant, code", format!("{affiant} --fulcio-auth-flow device")),
        ("cosign, code", format!("{cosign} --fulcio-auth-flow device")),
    ] {
        let (passed, screen) = on_terminal(&place, &format!("{words} --bundle ../b.json hello.txt"));
        assert!(passed, "{who}: {screen}");
        let check = ["--bundle", "../b.json", "--insecure-ignore-tlog", "--use-signed-timestamps"];
        for program in [&[AFFIANT, "image", "verify-blob"][..], &["cosign3", "verify-blob"]] {
            for (identity, takes) in [(ANN, true), ("jane@example.com", false)] {
                let flags = stack.flags(identity, &issuer);
                let taken = call(&place, program[0], &line(&[&program[1..], &check], &flags, &["hello.txt"]));
                assert_eq!(taken.passed(), takes, "{who}: {program:?}: {}", taken.stderr);
            }
        }
    }
}
