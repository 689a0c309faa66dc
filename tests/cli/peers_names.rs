//! The command lines that the documentation of witness and cilock shows, word for word, with affiant under that name.
//!
//! Tools are small scripts. `docs/reference/peers.md` is written from [`LINES`] and from what is printed:
//! `AFFIANT_BLESS=1 cargo test --test cli peers_names`.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Place, left_out, statement_of};

/// A line, its exit code, and what it does.
struct Line {
    text: &'static str,
    code: i32,
    does: &'static str,
}

const fn line(text: &'static str, code: i32, does: &'static str) -> Line {
    Line { text, code, does }
}

const NO_KEY: &str = "names no key: refused before anything runs, with the flag to add";

/// The lines in the order in which they run here: what one writes another reads.
const LINES: &[Line] = &[
    line(
        r#"cilock run --step build --signer-file-key-path testkey.pem --outfile build.attestation.json --platform-url "" -- go build -o myapp ./"#,
        0,
        "evidence in cilock's form, in the file and in the archive",
    ),
    line(
        "cilock run --step build --signer-file-key-path cilock-key.pem --outfile cilock-attestation.json --attestations environment,material,product -- go build -o hello hello.go",
        0,
        "the same, with a note that materials and products are always recorded",
    ),
    line(
        "cilock run --step build --signer-file-key-path key.pem --attestor-product-include-glob='*.tar.gz' -- make release",
        0,
        "the evidence is in the archive, for stdout belongs to the command; the glob chooses the subjects, the tree has all products",
    ),
    line(
        r#"cilock run --step image --attestations command-run,material,product,docker -- echo "image built""#,
        125,
        NO_KEY,
    ),
    line(
        "cilock run --step syft-scan --signer-file-key-path ../_validation/key.pem --outfile attestation.json --attestations sbom,environment,git --enable-archivista=false -- syft dir:. -o cyclonedx-json=syft.cdx.json",
        0,
        "evidence with the SBOM that the command wrote",
    ),
    line(
        "cilock policy from-bundles -k signer.pub build.bundle.json scan.bundle.json -o policy.json",
        0,
        "a policy for the steps that these files show",
    ),
    line("cilock sign -f policy.json -o policy-signed.json -k signing.key", 0, "the policy in an envelope"),
    line(
        r#"cilock sign -k cosign.key -f policy.json -o policy.signed.json --platform-url """#,
        0,
        "the same with an encrypted key of cosign, whose password is in COSIGN_PASSWORD",
    ),
    line(
        r#"cilock verify --policy ./policy-signed.json --publickey ./policy-pubkey.pem --attestations build.attestation.json,sbom.attestation.json --subjects "sha1:$RELEASE_COMMIT_SHA""#,
        0,
        "a verdict; the commit finds evidence and proves nothing",
    ),
    line(
        r#"cilock verify --policy ./policy-signed.json --publickey ./policy-pubkey.pem --attestations "$(paste -sd, list)" --subjects sha256:…"#,
        0,
        "the same",
    ),
    line(
        r#"cilock run --step promote-verify --attestations "environment git github" -o promote-verify.attestation.json -- cilock verify --policy policy-signed.json --publickey policy-pubkey.pem --attestations "$ATTESTATIONS" --subjects "sha1:$RELEASE_COMMIT_SHA""#,
        125,
        "names no key: refused before anything runs, with the flag to add; with a key and outside GitHub, 125 for the attestor `github` that was named and finds nothing",
    ),
    line(
        "cilock verify -p policy-signed.json -k signing.pub -a build.attestation.json -f myapp --enable-archivista=false",
        0,
        "a verdict about the file",
    ),
    line(
        "cilock verify --policy release-policy.json --publickey cilock-policy.pub --bundle evidence-bundle.tar.gz --artifactfile ./cilock --enable-archivista=false",
        0,
        "a verdict by the evidence in a bundle",
    ),
    line(
        r#"cilock verify ./app -p policy.signed.json -k pub.pem --bundle evidence.tar.gz --platform-url """#,
        0,
        "the same",
    ),
    line("cilock bundle inspect evidence.tar.gz", 0, "what is in the bundle"),
    line("cilock attestors list", 0, "affiant's attestors"),
    line("cilock attestors schema git", 0, "the JSON schema of the predicate"),
    line(
        "cilock plan --format json -- docker build -t app .",
        0,
        "what `run --plan` says, as the member `plan` of a [report](run-report.schema.json); nothing is run",
    ),
    line(
        r#"witness run -s build -a environment -k buildkey.pem -o build-attestation.json -- bash -c "echo 'hello' > hello.txt""#,
        0,
        "evidence in the portable form",
    ),
    line(
        "witness run --step build -a docker -o test-att.json -- docker build --metadata-file metadata.json -t example-tag .",
        125,
        NO_KEY,
    ),
    line(
        "witness run --step build -o test-att.json -a slsa --attestor-slsa-export -- go build -o=testapp .",
        125,
        NO_KEY,
    ),
    line("witness sign -k policykey.pem -f policy.json -o policy.signed.json", 0, "the policy in an envelope"),
    line(
        "witness verify -k policypublic.pem -p policy.signed.json -a build-attestation.json -f hello.txt",
        0,
        "a verdict about the file",
    ),
    line("witness -c witness.yaml run -- make", 0, "the file's settings of `run`; a flag wins over them"),
    line(
        r#"cilock run --step build --platform-url "$PLATFORM" --enable-archivista -- go build -o myapp ./"#,
        125,
        "needs services behind one URL: refused before anything runs",
    ),
    line(
        r#"cilock run --step build --enable-archivista --archivista-server "$ARCHIVISTA_URL" --archivista-headers "Authorization: $ARCHIVISTA_API_KEY" --signer-file-key-path ./signing.key --outfile attestation.json -- go build ./cmd/myapp"#,
        125,
        "the evidence goes to the server; where that gives no answer, it waits for `affiant resume`",
    ),
    line(
        r#"cilock sign -f policy.json -o policy.signed.json --signer-kms-ref awskms:///alias/my-key --platform-url """#,
        2,
        "needs keys in key management services: refused",
    ),
    line(
        r#"witness run -s test -o test.json --signer-fulcio-url https://fulcio.example --signer-fulcio-oidc-client-id sigstore --signer-fulcio-oidc-issuer https://oauth2.example/auth --timestamp-servers https://tsa.example/tsr -- echo "hello""#,
        125,
        "needs keyless signing: refused before anything runs",
    ),
];

/// A place with the peers' names, tools, keys and a repository.
struct Peers(Place);

/// What a line did.
struct Did {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Peers {
    fn new() -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            left_out("git is not here, so the lines of the peers were not run");
            return None;
        }
        let peers = Self(Place::without_key());
        let place = &peers.0;
        for folder in ["bin", "_validation"] {
            std::fs::create_dir(place.beside(folder)).expect("makes a folder");
        }
        for name in ["witness", "cilock"] {
            symlink(env!("CARGO_BIN_EXE_affiant"), place.beside("bin").join(name)).expect("links");
        }
        let sbom = r#"{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"metadata":{"component":{"type":"application","name":"app","version":"1"}}}"#;
        for (tool, script) in [
            (
                "go",
                r#"for word; do case $word in -o=*) out=${word#-o=};; -o) next=1;; *) [ -z "$next" ] || out=$word; next=;; esac; done; echo built > "${out:-default}"; echo "$out" >> "${out:-default}""#,
            ),
            ("make", "echo release > app.tar.gz; echo other > made"),
            (
                "syft",
                &format!("for word; do case $word in cyclonedx-json=*) echo '{sbom}' > \"${{word#*=}}\";; esac; done"),
            ),
            ("docker", "exit 9"),
        ] {
            let path = place.beside("bin").join(tool);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        }
        place.write("hello.go", "package main\n");
        place.write(".gitignore", "*\n");
        place.affiant(["key", "generate", "--no-password", "-o", "key.pem"]).run().code(0);
        peers.sh("for name in testkey.pem cilock-key.pem signing.key buildkey.pem policykey.pem ../_validation/key.pem; do cp key.pem $name; done");
        peers.sh("for name in signer.pub signing.pub pub.pem policy-pubkey.pem cilock-policy.pub policypublic.pem; do cp key.pub $name; done");
        let done = place.affiant(["key", "convert", "--form", "cosign", "-o", "cosign.key", "key.pem"]);
        done.env("COSIGN_PASSWORD", "a password").run().code(0);
        peers.sh("git init -q -b main . && git add -f hello.go && git -c user.name=Ada -c user.email=ada@example.org commit -qm first");
        Some(peers)
    }

    fn shell(&self, text: &str) -> Did {
        let place = &self.0;
        let commit = std::fs::read_to_string(place.work().join(".git/refs/heads/main")).unwrap_or_default();
        let output = Command::new("sh")
            .args(["-c", text])
            .current_dir(place.work())
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", place.beside("bin").display()))
            .env("HOME", place.beside("home"))
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
            .env("COSIGN_PASSWORD", "a password")
            .env("RELEASE_COMMIT_SHA", commit.trim())
            .env("ATTESTATIONS", "build.attestation.json,sbom.attestation.json")
            .env("PLATFORM", "https://platform.example")
            .env("ARCHIVISTA_URL", "http://127.0.0.1:1")
            .env("ARCHIVISTA_API_KEY", "Bearer example-0123456789")
            .stdin(Stdio::null())
            .output()
            .expect("sh is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Did {
            code: output.status.code().expect("not ended by a signal"),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Prepares; it must succeed.
    #[track_caller]
    fn sh(&self, text: &str) -> Did {
        let did = self.shell(text);
        assert_eq!(did.code, 0, "{text}\n{}{}", did.stdout, did.stderr);
        did
    }

    fn there(&self, name: &str) -> bool {
        self.0.work().join(name).exists()
    }

    fn statement(&self, name: &str) -> Value {
        statement_of(&self.0.work().join(name))
    }

    /// What must be there before a line.
    fn prepare(&self, text: &str) -> String {
        let sign = "cilock sign -f policy.json -o policy.signed.json -k key.pem";
        match text {
            text if text.contains("from-bundles") => {
                self.sh("cp build.attestation.json build.bundle.json; cp attestation.json scan.bundle.json; cp attestation.json sbom.attestation.json");
            }
            text if text.contains("$(paste") => {
                self.sh("printf 'build.attestation.json\nsbom.attestation.json\n' > list");
                let sum = self.sh("sha256sum myapp").stdout;
                return text.replace('…', sum.split(' ').next().expect("a digest"));
            }
            text if text.contains("-f myapp") => {
                self.sh(&format!("cilock policy from-bundles -k key.pub build.attestation.json -o policy.json && {sign} && cp policy.signed.json policy-signed.json"));
            }
            text if text.contains("release-policy.json") => {
                self.sh(&format!("cilock run -s release -k key.pem -o release.json -- go build -o cilock ./ && cilock policy from-bundles -k key.pub release.json -o policy.json && {sign} && cp policy.signed.json release-policy.json && cilock bundle create -a release.json --output evidence-bundle.tar.gz"));
            }
            text if text.starts_with("cilock verify ./app") => {
                self.sh(&format!("cilock run -s build -k key.pem -o app.json -- go build -o app ./ && cilock policy from-bundles -k key.pub app.json -o policy.json && {sign} && cilock bundle create -a app.json -o evidence.tar.gz"));
            }
            text if text.starts_with("witness sign") => {
                self.sh("witness policy from-bundles -k key.pub build-attestation.json -o policy.json");
            }
            text if text.starts_with("witness -c") => {
                self.0.write(
                    "witness.yaml",
                    "run: {signer-file-key-path: testkey.pem, step: from-file, trace: false, attestations: [environment, git], outfile: from-file.json}\nsign: {signer-file-key-path: other.pem}\n",
                );
            }
            _ => {}
        }
        text.to_owned()
    }

    /// What holds after a line, beside its exit code.
    fn look(&self, text: &str, did: &Did) {
        let has = |part: &str| assert!(did.stderr.contains(part), "`{part}` after {text}:\n{}", did.stderr);
        let type_of = |name: &str| self.statement(name)["predicateType"].as_str().expect("a type").to_owned();
        let types = |name: &str| -> Vec<String> {
            let statement = self.statement(name);
            let entries = statement["predicate"]["attestations"].as_array().expect("a list").iter();
            entries.map(|entry| entry["type"].as_str().expect("a type").to_owned()).collect()
        };
        let cilock = "https://aflock.ai/attestation-collection/v0.1";
        let nothing_ran = |name: &str| assert!(!self.there(name), "{text} has run its command");
        match text {
            text if text.contains("testkey.pem --outfile") => assert_eq!(type_of("build.attestation.json"), cilock),
            text if text.contains("environment,material,product --") => {
                has("note: `material` always runs");
                let only = ["environment/v0.1", "material/v0.3", "command-run/v0.2", "product/v0.3"];
                assert_eq!(
                    types("cilock-attestation.json"),
                    only.map(|name| format!("https://aflock.ai/attestations/{name}"))
                );
            }
            text if text.contains("make release") => {
                has("the archive as sha256:");
                assert_eq!(did.stdout, "");
            }
            text if text.contains("image built") => {
                assert_eq!(did.stdout, "");
                has("--signer-file-key-path");
            }
            text if text.contains("../_validation/key.pem") => {
                assert!(types("attestation.json").contains(&"https://cyclonedx.org/bom".to_owned()));
            }
            text if text.contains("from-bundles") => assert!(self.there("policy.json")),
            text if text.contains(" verify ") && text.starts_with("cilock verify") => {
                assert!(did.stdout.starts_with("PASSED"), "{}", did.stdout);
            }
            text if text.contains("promote-verify") => {
                nothing_ran("promote-verify.attestation.json");
                has("--signer-file-key-path");
                self.with_key(text);
            }
            "cilock bundle inspect evidence.tar.gz" => assert!(did.stdout.contains("envelopes (1)"), "{}", did.stdout),
            "cilock attestors list" => assert!(did.stdout.contains("environment"), "{}", did.stdout),
            "cilock attestors schema git" => {
                let schema: Value = serde_json::from_str(&did.stdout).expect("JSON");
                assert!(schema["properties"]["commithash"].is_object());
            }
            text if text.starts_with("cilock plan") => {
                let plan: Value = serde_json::from_str(&did.stdout).expect("JSON");
                let names = plan["attestors"].as_array().expect("a list").iter().map(|one| one["name"].as_str());
                assert!(names.flatten().any(|name| name == "docker"), "{plan}");
                assert_eq!(plan["form"], "cilock");
            }
            text if text.starts_with("witness run -s build") => {
                assert_eq!(
                    type_of("build-attestation.json"),
                    "https://witness.testifysec.com/attestation-collection/v0.1"
                );
            }
            text if text.contains("metadata.json") => has("--signer-file-key-path"),
            text if text.contains("slsa") => {
                nothing_ran("testapp");
                has("--signer-file-key-path");
                // With a key it does what it says.
                self.sh("witness run --step build -o test-att.json -a slsa --attestor-slsa-export -k key.pem -- go build -o=testapp .");
                assert_eq!(
                    self.statement("test-att.json-slsa.json")["predicateType"],
                    "https://slsa.dev/provenance/v1"
                );
            }
            text if text.starts_with("witness verify") => {
                assert!(did.stdout.starts_with("PASSED: hello.txt"), "{}", did.stdout);
            }
            text if text.starts_with("witness -c") => {
                assert_eq!(self.statement("from-file.json")["predicate"]["name"], "from-file");
                // A flag wins, and what the file says of another command does not count.
                self.sh("witness -c witness.yaml run -s from-flag -- make");
                assert_eq!(self.statement("from-file.json")["predicate"]["name"], "from-flag");
                self.sh("witness sign -f policy.json -k key.pem -o again.json --config witness.yaml");
            }
            text if text.contains("$PLATFORM") => has("--platform-url needs services behind one URL"),
            text if text.contains("--archivista-server") => {
                // Nobody listens there.
                has("error: not stored in archivista: http://127.0.0.1:1/upload");
                has("hint: finish with `affiant resume --archivista-server http://127.0.0.1:1 --archivista-headers");
                assert!(!did.stderr.contains("example-0123456789"), "{}", did.stderr);
                assert!(self.there("attestation.json"));
            }
            text if text.contains("awskms") => has("--signer-kms-ref needs keys in key management services"),
            text if text.contains("fulcio") => {
                nothing_ran("test.json");
                has("there is no identity token");
            }
            text if text.contains(" sign ") => {
                assert!(self.there("policy.signed.json") || self.there("policy-signed.json"));
            }
            other => panic!("nothing is said about {other}"),
        }
    }

    /// The same with a key: the command runs, and the attestor that finds nothing is a gap.
    fn with_key(&self, text: &str) {
        let did = self.shell(&text.replacen("--step", "-k key.pem --step", 1));
        assert_eq!(did.code, 125, "{}", did.stderr);
        if self.sh("cilock attestors list").stdout.lines().any(|line| line.starts_with("github ")) {
            assert!(did.stderr.contains("gap: github"), "{}", did.stderr);
            assert!(self.there("promote-verify.attestation.json"), "the evidence is kept");
        } else {
            assert!(did.stderr.contains("the attestor `github` needs attestors of CI providers"), "{}", did.stderr);
        }
        let without = text.replacen("--step", "-k key.pem --step", 1).replace(" github", "");
        let did = self.sh(&without);
        assert!(did.stdout.starts_with("PASSED"), "{}", did.stdout);
        assert!(self.there("promote-verify.attestation.json"));
    }
}

#[test]
fn every_line_of_the_peers_does_what_the_table_says() {
    let Some(peers) = Peers::new() else { return };
    for line in LINES {
        let text = peers.prepare(line.text);
        let did = peers.shell(&text);
        assert_eq!(did.code, line.code, "{text}\n{}{}", did.stdout, did.stderr);
        peers.look(line.text, &did);
    }
}

/// Under the name cosign its commands are shown as they are called there.
#[test]
fn cosign_shows_its_own_commands() {
    let place = Place::without_key();
    let cosign = |args: &[&str]| place.called("cosign", args).run();
    for args in [&[][..], &["--help"], &["help"]] {
        let shown = cosign(args).code(0).stdout_text();
        assert!(shown.contains("Usage: cosign COMMAND") && shown.contains("verify-attestation"), "{args:?}: {shown}");
        assert!(!shown.contains("promoted"), "the gate has no such name: {shown}");
    }
    for args in [["help", "sign"], ["sign", "--help"]] {
        let shown = cosign(&args).code(0).stdout_text();
        assert!(shown.contains("Usage: cosign sign [OPTIONS] <IMAGE>..."), "{shown}");
    }
    cosign(&["copy"]).code(2).stderr_has(&["usage: cosign copy [OPTIONS] <SRC> <DST>"]);
    cosign(&["sign", "--certificate", "c.pem", "app:1"]).code(2).stderr_has(&["--certificate is refused"]);
    cosign(&["completion", "bash"]).code(2).stderr_has(&["affiant completions"]);
}

#[test]
fn the_table_in_the_reference_is_this_one() {
    let mut page = String::from(PREFACE);
    page.push_str("| line | code | what it does |\n|---|---|---|\n");
    for Line { text, code, does } in LINES {
        let _ = writeln!(page, "| `{}` | {code} | {does} |", text.replace('|', "\\|"));
    }
    page.push_str(BETWEEN);
    let place = Place::without_key();
    page.push_str(&place.affiant(["docs", "peers"]).run().code(0).stdout_text());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/peers.md");
    if std::env::var_os("AFFIANT_BLESS").is_some() {
        std::fs::write(&file, &page).expect("can be written");
    }
    let written = std::fs::read_to_string(&file).expect("docs/reference/peers.md");
    assert_eq!(written, page, "out of date: AFFIANT_BLESS=1 cargo test --test cli peers_names");
}

#[test]
fn flags_of_the_peers_are_written_as_they_are_there() {
    let Some(peers) = Peers::new() else { return };
    for (text, code, part) in [
        // Truths have values, and of a flag that is repeated the last counts.
        (
            "cilock run -s a -s b --trace=false --ignore-command-exit-code=true -k key.pem -o e.json -- sh -c 'exit 3'",
            0,
            "affiant: b:",
        ),
        ("witness run -s b -k key.pem --ignore-command-exit-code=false -- sh -c 'exit 3'", 3, "b#failed"),
        ("witness run -s b -r -k key.pem -- make", 125, "--trace needs tracing"),
        ("witness run -s b -t http://tsa.example -k key.pem -- make", 125, "only https is spoken"),
        ("witness run -s b --signer-vault-url https://vault.example -- make", 125, "needs certificates from Vault"),
        ("witness -l debug run -s b -k key.pem -- make", 0, "affiant: b:"),
        ("witness run --log-level=debug -s b -k key.pem -- make", 0, "affiant: b:"),
        ("cilock run -s b --capture-mode walk --hardening standard -k key.pem -- make", 0, "affiant: b:"),
        ("cilock run -s b --capture-mode trace:ebpf -k key.pem -- make", 125, "--capture-mode needs tracing"),
        ("cilock run -s b --json -k key.pem -- make", 125, "--report FILE"),
        ("cilock run -s b --workload manual -k key.pem -o e.json -- make", 0, "affiant: b:"),
        ("cilock run -s b --offline -a environment -a git -k key.pem -- make", 0, "affiant: b:"),
        ("witness run -s b --enable-archivist=false -a 'environment git' -k key.pem -- make", 0, "affiant: b:"),
        ("witness run -s b --enable-archivist -k key.pem -- make", 125, "name it with `--archivista-server URL`"),
        (
            "witness run -s b --enable-archivist --archivist-server http://archivista.example -k key.pem -- make",
            125,
            "only https is spoken to other machines",
        ),
        ("cilock run -s b --archivista-oidc -k key.pem -- make", 125, "--archivista-oidc needs services behind"),
        ("cilock run -s b --platform-url= -a environment,git -k key.pem -- make", 0, "affiant: b:"),
        ("witness run -s b -a docker -k key.pem -o gap.json -- true", 125, "gap: docker: nothing to attest"),
        ("cilock run -s b --workload both -k key.pem -- make", 125, "neither `auto` nor `manual`"),
        ("cilock run -s b -a environment,platform -k key.pem -- make", 0, "`platform` is left out"),
        ("cilock run -s b -a omnitrail -k key.pem -- make", 125, "the attestor `omnitrail` needs further attestors"),
        (
            "cilock run -s b --signer-file-key-passphrase x -k key.pem -- make",
            125,
            "everybody on this machine can read",
        ),
        ("cilock run -s b --no-default-attestor product -k key.pem -- make", 125, "--no-default-attestor is refused"),
        (
            "cilock attest -a git,environment -k key.pem -o source.json -s source --ignore-command-exit-code",
            0,
            "affiant: source:",
        ),
        ("cilock attest -a git -k key.pem -s source --signer-kms-ref awskms:///x", 2, "needs keys in key management"),
        ("cilock login", 2, "affiant has no `cilock login`"),
        ("cilock policy push -f policy.json", 2, "affiant has no `cilock policy push`"),
        ("cilock verify --policy-hardening warn -p p -k key.pub x", 2, "never leniency"),
        ("cilock verify --trust-discovery -p p -k key.pub x", 2, "taken from flags only"),
        ("witness run --platform-url '' -s b -k key.pem -- make", 125, "unexpected argument '--platform-url'"),
        // They are not affiant's own.
        ("witness -c none.yaml run -- make", 125, "none.yaml cannot be read"),
    ] {
        let did = peers.shell(text);
        assert_eq!(did.code, code, "{text}\n{}{}", did.stdout, did.stderr);
        assert!(did.stderr.contains(part), "`{part}` after {text}:\n{}", did.stderr);
    }
    assert!(peers.there("gap.json"), "evidence with a gap is kept");
    let own = peers.0.affiant(["run", "--platform-url", "", "-k", "key.pem", "--", "true"]).run().code(125);
    assert!(own.stderr_text().contains("unexpected argument '--platform-url'"), "{}", own.stderr_text());
    assert_eq!(
        peers.sh("cilock run --validate-only -k key.pem -- make").stdout.lines().next(),
        Some("step         make")
    );
    let both = peers.sh("cilock plan --workload auto -a git -- docker build .").stdout;
    assert!(both.contains("git          before  named with -a") && both.contains("docker  "), "{both}");
    assert!(peers.sh("cilock --version").stdout.ends_with(" (affiant)\n"));
    assert!(peers.sh("cilock run --help").stdout.contains("Usage: cilock run [OPTIONS]"));
    // `.witness.yaml` is not read by itself.
    peers.0.write(".witness.yaml", "run: {step: hidden}\n");
    let did = peers.sh("witness run -k key.pem -- make");
    assert!(
        did.stderr.contains("note: .witness.yaml is not read") && did.stderr.contains("affiant: make:"),
        "{}",
        did.stderr
    );
}

#[test]
fn cilock_verify_prints_cilocks_json() {
    let Some(peers) = Peers::new() else { return };
    peers.sh("cilock run -s b -k key.pem -o b.json -- make && cilock policy from-bundles -k key.pub b.json -o policy.json && cilock sign -k key.pem -f policy.json -o policy.signed.json");
    let digest = peers.sh("sha256sum made").stdout;
    let digest = format!("sha256:{}", digest.split(' ').next().expect("a digest"));
    let line = "cilock verify -p policy.signed.json -k key.pub -a b.json --format json";
    let did = peers.sh(&format!("{line} made"));
    let said: Value = serde_json::from_str(&did.stdout).expect("JSON");
    let expected =
        serde_json::json!({"passed": true, "step": "b", "matchedSubject": digest, "observedSubjectName": "made"});
    assert_eq!(said, expected);
    let did = peers.shell(&format!("{line} hello.go -s {digest}"));
    let said: Value = serde_json::from_str(&did.stdout).expect("JSON");
    assert_eq!((did.code, &said["passed"]), (1, &Value::Bool(false)), "{said}");
    assert!(said["matchedSubject"].is_null() && did.stderr.contains("DENIED"), "{said} {}", did.stderr);
}

#[test]
fn a_configuration_of_witness_counts_as_flags_also_for_the_gate() {
    let Some(peers) = Peers::new() else { return };
    peers.sh("witness run -s b -k key.pem -o b.json -- make && witness policy from-bundles -k key.pub b.json -o policy.json && witness sign -k key.pem -f policy.json -o policy.signed.json");
    peers.0.write("w.yaml", "verify: {attestations: [b.json], policy: policy.signed.json, publickey: key.pub}\n");
    let did = peers.sh("witness -c w.yaml verify -f made");
    assert!(did.stdout.starts_with("PASSED: made"), "{}", did.stdout);
    for (yaml, part) in [
        ("verify: {policies: x}", "unknown setting `verify.policies`"),
        ("verify: [x]", "`verify` is not a map"),
        ("verify: {policy: {a: b}}", "neither text, number"),
        ("verify: {verifier-kms-ref: x}", "needs keys in key management services"),
        ("verify: {policy: a, policy: b}", "w.yaml cannot be read"),
        ("- x", "w.yaml cannot be read"),
    ] {
        peers.0.write("w.yaml", yaml);
        let did = peers.shell("witness -c w.yaml verify -f made");
        assert_eq!(did.code, 2, "{yaml}: {}{}", did.stdout, did.stderr);
        assert!(did.stderr.contains(part), "{yaml}: {}", did.stderr);
    }
}

const PREFACE: &str = "\
# The names witness and cilock

<!-- Written by `AFFIANT_BLESS=1 cargo test --test cli peers_names`. -->

A link to the binary under the name `witness` or `cilock` takes that tool's command lines, for `run`, `sign`, `verify`, `attest`, `attestors`, `policy`,
`bundle` and `plan`:

```sh
ln -s \"$(command -v affiant)\" /usr/local/bin/cilock
```

The name chooses the syntax, and under `cilock` the [form](evidence.md#cilocks-form); it makes nothing more lenient. Exit codes are [affiant's](exit-codes.md): a
command's own code is passed on. All flags of affiant can be used as well, and so can its other commands.

- Truth values may be written `--flag=false`, and of a flag that is repeated the last counts.
- Attestors are separated by commas or spaces, or the flag is repeated. Without `-a` those run that the step calls for; `environment` and `git` are among them.
- Without `-o` the evidence goes to the archive: stdout belongs to the command.
- `witness -c FILE` takes the settings of the command from the YAML file, as if they were flags. `.witness.yaml` is never read by itself.
- `cilock plan` is `run --plan`. Without a command `cilock attest` records no command, where cilock itself would run `true`.
- `cilock verify --format json` prints cilock's object (`passed`, `step`, `matchedSubject`, `observedSubjectName`) on stdout, and the verdict as text on stderr.
- What needs a part that affiant does not have is refused before anything runs, and the message names the part.

## Lines of their documentation

Each is run by a test, with the binary under that name; those that read a file run after those that write it.

";

const BETWEEN: &str = "
## Flags

What affiant does not have itself.

";
