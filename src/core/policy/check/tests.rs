use super::*;
use crate::policy::source::{Folder, compile};

fn at() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().expect("a time")
}

fn found_in(source: &str) -> Vec<Finding> {
    let folder = Folder::of(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/policy.yaml"));
    let document = Document::parse(source.as_bytes()).expect("reads");
    let compiled = compile(&document, &folder, at()).expect("compiles");
    let members = |kind: &str| kind.contains("/git/").then(|| vec!["commithash".to_owned(), "branch".to_owned()]);
    let around = Surroundings { document: Some(&document), now: at(), members: &members, signers: &[] };
    check(&compiled.policy, &compiled.value, &around)
}

const SOUND: &str = "\
expires: 90d
publickeys:
  ci: keys/functionary.pub
steps:
  build:
    functionaries: [ci]
    attestations:
      - type: git
        rego: |
          package a
          import rego.v1
          deny contains \"x\" if input.branch != \"main\"
    exitcode: 0
  test:
    functionaries: [ci]
    attestations: [product]
    artifactsFrom: [build]
    exitcode: 0
";

fn shown(finding: &Finding) -> String {
    let line = finding.line.unwrap_or(0);
    format!("{} {line} {}: {}", finding.severity.word(), finding.at, finding.message)
}

#[test]
fn a_sound_policy_has_notes_only() {
    let found = found_in(SOUND);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].severity, Severity::Note);
    assert!(found[0].message.contains("`steps.build.exitcode`, `steps.test.exitcode`"), "{found:?}");
}

#[test]
fn each_weakness_is_found() {
    let cert = "certConstraint: {commonname: x, roots: [r]}";
    let roots = "roots:\n  r: certificates/keys/root.pem\n";
    let tsa = "timestampauthorities:\n  t: certificates/keys/tsa-root.pem\n";
    let constrained = |constraint: &str, more: &str| {
        format!("{more}{}", SOUND.replacen("functionaries: [ci]", &format!("functionaries: [ci, {{{constraint}}}]"), 1))
    };
    let both = format!("{roots}{tsa}");
    let mut missed = Vec::new();
    for (source, expected) in [
        (SOUND.replace("90d", "2020-01-01"), "error 1 expires: the policy expired at 2020-01-01T00:00:00Z"),
        (SOUND.replace("expires: 90d", ""), "error 0 expires: missing"),
        (SOUND.replace("90d", "3d"), "warning 1 expires: the policy expires at 2026-06-04T12:00:00Z, in 3 days"),
        (SOUND.replace("expires: 90d", "expires: 90d\nnotBefore: 100d"), "error 2 notBefore: the policy ends before"),
        (
            SOUND.replace("expires: 90d", "expires: 90d\nminimumVersion: 2\nversion: 1"),
            "error 2 minimumVersion: the policy's own",
        ),
        (SOUND.replacen("    exitcode: 0\n", "", 1), "warning 5 steps.build: no exit code is demanded"),
        (
            SOUND.replace("exitcode: 0", "exitcode: [0, 3]"),
            "note 13 steps.build.exitcode: a command may end with 0 or 3",
        ),
        (SOUND.replacen("[ci]", "[]", 1), "error 6 steps.build.functionaries: nobody may sign"),
        (
            SOUND.replacen("[ci]", "[{publickeyid: abc}]", 1),
            "error 6 steps.build.functionaries[0].publickeyid: no key of `publickeys` has the id `abc`",
        ),
        (SOUND.replacen("[ci]", "[{type: publickey}]", 1), "error 6 steps.build.functionaries[0]: names neither"),
        (SOUND.replacen("[ci]", "[ci, ci]", 1), "warning 6 steps.build.functionaries[1]: the same key"),
        (
            SOUND.replacen("exitcode: 0", "exitcode: 0\n    threshold: 2", 1),
            "error 14 steps.build.threshold: 2 functionaries must sign, and there are 1",
        ),
        (
            SOUND.replace("attestations: [product]", "attestations: []"),
            "error 16 steps.test.attestations: the step asks for no",
        ),
        (
            SOUND.replace("[product]", "[product, 'https://aflock.ai/attestations/product/v0.3']"),
            "warning 16 steps.test.attestations[1]: `product` is asked for twice",
        ),
        (
            SOUND.replace("[product]", "['https://witness.dev/attestations/prodct/v0.1']"),
            "warning 16 steps.test.attestations[0].type: nothing that is known makes",
        ),
        (SOUND.replace("    artifactsFrom: [build]\n", ""), "warning 14 steps.test: nothing but a shared commit"),
        (SOUND.replace("[build]", "[build, test]"), "warning 17 steps.test.artifactsFrom: the step names itself"),
        (
            SOUND.replace("artifactsFrom: [build]", "allowedUntracked: [a]"),
            "warning 17 steps.test.allowedUntracked: without",
        ),
        (
            SOUND.replace("input.branch", "input.brnch"),
            "warning 8 steps.build.attestations[0].regopolicies: steps.build.attestations[0].rego:3: no git evidence that is known has `brnch`; `branch` may be meant",
        ),
        (
            SOUND.replacen("deny contains", "deni contains", 1),
            "error 8 steps.build.attestations[0].regopolicies: everything is denied: package a has no rule deny",
        ),
        (
            SOUND.replacen("        rego: |", "        maxAge: 7d\n        rego: |", 1),
            "error 9 steps.build.attestations[0].maxAge: asks for a proven time",
        ),
        (
            constrained(cert, roots),
            "error 8 steps.build.functionaries[1].certConstraint: a certificate counts only at a proven time",
        ),
        (
            constrained("certConstraint: {commonname: x, roots: [q]}", &both),
            "error 10 steps.build.functionaries[1].certConstraint.roots: the policy has no root `q`",
        ),
        (
            constrained("certConstraint: {roots: [r]}", &both),
            "error 10 steps.build.functionaries[1].certConstraint: the constraint names nobody",
        ),
        (
            constrained("certConstraint: {commonname: x}", &both),
            "error 10 steps.build.functionaries[1].certConstraint.roots: no root is named",
        ),
        (
            constrained(
                "certConstraint: {commonname: '*', dnsnames: ['*'], emails: ['*'], organizations: ['*'], uris: ['*'], roots: ['*']}",
                &both,
            ),
            "warning 10 steps.build.functionaries[1].certConstraint: everything is `*`",
        ),
        (
            constrained("certConstraint: {commonname: x, roots: [r], emai: [x]}", &both),
            "error 10 steps.build.functionaries[1].certConstraint.emai: the member is not known: the gate refuses the policy",
        ),
        (
            constrained("certConstraint: {commonname: x, roots: [r], extensions: {Isuer: x}}", &both),
            "error 10 steps.build.functionaries[1].certConstraint.extensions.Isuer: the member is not known",
        ),
        (
            constrained("certConstraint: {commonname: x, roots: [r], extensions: {Issuer: ''}}", &both),
            "error 10 steps.build.functionaries[1].certConstraint: `extensions.Issuer` is empty, and would demand nothing",
        ),
        (format!("{both}{SOUND}"), "note 2 roots.r: no functionary names this root"),
        (format!("{}{tsa}{SOUND}", roots.replace("root.pem", "leaf.pem")), "warning 2 roots.r: `"),
    ] {
        let list: Vec<String> = found_in(&source).iter().map(shown).collect();
        if !list.iter().any(|line| line.starts_with(expected)) {
            missed.push(format!("{expected}\n{list:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn what_peers_read_more_weakly_is_told() {
    let source = SOUND
        .replace("expires: 90d", "expires: 90d\nversion: 3")
        .replacen("    exitcode: 0", "    attestationsFrom: [test]", 1)
        .replace("input.branch", "input.attestation.branch");
    let found = found_in(&source);
    let notes: Vec<&str> = found.iter().map(|one| one.message.as_str()).collect();
    assert!(
        notes.iter().any(|note| note.starts_with("witness and cilock pass over `version`, `steps.test.exitcode`")),
        "{notes:#?}"
    );
    assert!(
        notes.iter().any(|note| note.starts_with("witness passes over `steps.build.attestationsFrom`")),
        "{notes:#?}"
    );
    // The rule sees the evidence one level deeper.
    let found = found_in(&source.replace("input.attestation.branch", "input.branch"));
    assert!(found.iter().any(|one| one.message.contains("has the evidence in `input.attestation`")), "{found:#?}");
}

#[test]
fn unknown_members_of_peers_policies_are_errors_when_a_known_one_is_near() {
    let value: Value = serde_json::from_str(
        r#"{"expires":"2036-01-01T00:00:00Z","steps":{"a":{"name":"a","artifactFrom":["b"],"x-remark":"y"}}}"#,
    )
    .expect("JSON");
    let policy = Policy::from_value(&value).expect("reads");
    let around = Surroundings { document: None, now: at(), members: &|_| None, signers: &["k".to_owned()] };
    let found: Vec<String> = check(&policy, &value, &around).iter().map(shown).collect();
    assert!(found.iter().any(|one| one.starts_with("error 0 steps.a.artifactFrom")), "{found:#?}");
    assert!(found.iter().any(|one| one.starts_with("warning 0 steps.a.x-remark")), "{found:#?}");
}

#[test]
fn a_policy_key_that_builds_have_is_told() {
    let document = Document::parse(SOUND.as_bytes()).expect("reads");
    let folder = Folder::of(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/policy.yaml"));
    let compiled = compile(&document, &folder, at()).expect("compiles");
    let signers = [compiled.policy.keys[0].id.clone()];
    let around = Surroundings { document: None, now: at(), members: &|_| None, signers: &signers };
    let found = check(&compiled.policy, &compiled.value, &around);
    assert!(found.iter().any(|one| one.message.contains("signs the policy and is a functionary")), "{found:#?}");
}

#[test]
fn what_keyless_evidence_needs_is_asked_for() {
    let logs = "transparencyLogs:\n  l: cosign/trust/rekor1.pub\n";
    let with = |functionary: &str, member: &str, top: &str| {
        let step = format!("functionaries: [ci, {{{functionary}}}]\n    {member}");
        format!("roots:\n  r: cosign/trust/fulcio-root.pem\n{top}{}", SOUND.replacen("functionaries: [ci]", &step, 1))
    };
    let named = "certConstraint: {uris: [x], roots: [r], extensions: {Issuer: 'https://i.example'}}";
    let nameless = "certConstraint: {uris: [x], roots: [r]}";
    let keys = |member: &str, top: &str| {
        format!("{top}{}", SOUND.replacen("functionaries: [ci]", &format!("functionaries: [ci]\n    {member}"), 1))
    };
    let images = |member: &str| format!("images:\n  functionaries: [ci]\n  {member}\n{SOUND}");
    let ended = "transparencyLogs:\n  l: {key: cosign/trust/rekor1.pub, end: 2020-01-01}\n";
    let old_root = "r: {certificate: cosign/trust/fulcio-root.pem, end: 2026-01-01}";
    let mut missed = Vec::new();
    for (source, expected) in [
        (keys("log: required", ""), "error 7 steps.build.log: a log entry is demanded, and the policy has no"),
        (keys("sct: required", ""), "error 7 steps.build.sct: a logged certificate is demanded, and the policy has no"),
        (keys("sct: required", ""), "error 7 steps.build.sct: a logged certificate is demanded, and all functionaries"),
        (keys("certificateMatches: [run]", ""), "error 7 steps.build.certificateMatches: asks for what a certificate"),
        (
            keys("timestamp: required", logs),
            "error 9 steps.build.timestamp: a timestamp is demanded, and the policy has",
        ),
        (images("timestamp: required"), "error 3 images.timestamp: a timestamp is demanded, and the policy has"),
        (images("timestampConstraint: {maxAge: 1d}"), "error 3 images.timestampConstraint: "),
        (images("certificateMatches: [run]"), "error 3 images.certificateMatches: asks for what a certificate"),
        (keys("threshold: 1", logs), "note 1 transparencyLogs: no step demands a log entry"),
        (
            with(nameless, "log: required", logs),
            "warning 10 steps.build.functionaries[1].certConstraint.extensions: no issuer is named",
        ),
        (with(named, "log: required", ended), "note 4 transparencyLogs.l.end: trusted until 2020-01-01T00:00:00Z only"),
        (
            with(named, "log: required", "").replace("r: cosign/trust/fulcio-root.pem", old_root),
            "note 2 roots.r.end: trusted until 2026-01-01T00:00:00Z only",
        ),
    ] {
        let list: Vec<String> = found_in(&source).iter().map(shown).collect();
        if !list.iter().any(|line| line.starts_with(expected)) {
            missed.push(format!("{expected}\n{list:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    // A log that promises times is enough to prove one, and with an issuer there is nothing to complain of.
    let found = found_in(&with(named, "log: required", logs));
    assert!(found.iter().all(|one| one.severity == Severity::Note), "{found:#?}");
    assert!(found.iter().any(|one| one.message.contains("`transparencyLogs`, ")), "{found:#?}");
}
