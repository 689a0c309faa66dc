//! Security rules 1, 9, 10, 12, 13, 15 and 17 at the gate; 8 is in `command_line`, 14 in `rego`.

use affiant_core::digest::sha256_hex;
use affiant_core::sign::{PrivateKey, Signer};
use affiant_core::store::SubjectDigest;
use affiant_core::verdict::{Answer, CheckKind};
use affiant_core::verify::{Files, Handle, Source, SourceError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::kit::{
    APP, CHILD, COLLECTION, COMMAND, COMMIT, Case, GIT, IN_TOTO, OCI, PARENT, POLICY, PRODUCT, PROVENANCE, Run, SBOM,
    STATEMENT, builder, commit, functionary, is_denied, key, one_step, policy, seal, statement, step, stranger,
    subject, tester, two_steps,
};

#[test]
fn the_good_pipeline_passes() {
    Case::of(&one_step()).build(&Run::build()).passes();
    Case::of(&two_steps()).build(&Run::build()).test(&Run::test()).passes();
}

// Rule 1

#[test]
fn rule_1_evidence_of_a_failed_build_is_denied() {
    let case = |run: &Run| Case::of(&one_step()).build(run);
    let failed = Run::build().named("build#failed").exit(&json!(2));
    case(&failed).denied(CheckKind::Command, "it failed: exit code 2");
    // Also where its command claims to have ended well.
    case(&Run::build().named("build#failed")).denied(CheckKind::Command, "it failed");
    // A good run of another product does not help it out.
    let other = Run::of("build", COMMIT, &[], &[("other", "other\n")]);
    case(&failed).build(&other).denied(CheckKind::Product, "no accepted evidence has made");
}

#[test]
fn rule_1_a_failed_build_that_was_renamed_is_denied() {
    let envelope = Run::build().named("build#failed").exit(&json!(2)).signed(&[&builder()]);
    let mut envelope: Value = serde_json::from_slice(&envelope).expect("JSON");
    let payload = STANDARD.decode(envelope["payload"].as_str().expect("text")).expect("base64");
    let renamed = String::from_utf8(payload).expect("text").replace("build#failed", "build");
    envelope["payload"] = STANDARD.encode(renamed).into();
    Case::of(&one_step()).with(envelope.to_string().into_bytes()).denied(CheckKind::Signature, "something was altered");
    // Nor may a policy ask for failed builds.
    Case::of(&policy(&[step("build#failed", &[&builder()], &[PRODUCT])]))
        .build(&Run::build().named("build#failed"))
        .no_answer("`#` marks the evidence of failed builds");
}

#[test]
fn rule_1_a_collection_without_a_command_is_denied() {
    let run = Run::build().without(COMMAND);
    Case::of(&one_step()).build(&run).denied(CheckKind::Command, "no command-run");
    let mut optional = one_step();
    optional["steps"]["build"]["commandRun"] = json!("optional");
    Case::of(&optional).build(&run).passes();
    // Optional is not: whatever it ended with.
    Case::of(&optional).build(&Run::build().named("build#failed")).denied(CheckKind::Command, "it failed");
}

#[test]
fn rule_1_exit_codes_of_signals_and_missing_ones_are_denied() {
    let mut asked = one_step();
    asked["steps"]["build"]["exitcode"] = json!(0);
    let case = |code: Value| Case::of(&asked).build(&Run::build().exit(&code));
    case(json!(0)).passes();
    for code in [-1, 1, 124, 137, 143, i64::MIN] {
        case(json!(code)).denied(CheckKind::Command, &format!("exit code {code}"));
    }
    for code in [json!(null), json!("0"), json!(0.5), json!([0]), json!(u64::MAX)] {
        case(code).denied(CheckKind::Command, "has no exit code");
    }
    let mut run = Run::build();
    run.entry(COMMAND).as_object_mut().expect("an object").remove("exitcode");
    Case::of(&asked).build(&run).denied(CheckKind::Command, "`exitcode` is missing");
    // One command that ended well does not cover for another.
    let twice = Run::build().with(COMMAND, json!({"cmd": ["x"], "exitcode": 3}));
    Case::of(&asked).build(&twice).denied(CheckKind::Command, "exit code 0, 3");
}

// Rule 9

#[test]
fn rule_9_each_artifact_is_proven_by_itself() {
    let case = || Case::of(&one_step()).build(&Run::build());
    case().about(&[("app", APP), ("evil", "evil")]).denied(CheckKind::Product, "no accepted evidence has made");
    case()
        .about(&[("evil", "evil")])
        .seed(&sha256_hex(APP.as_bytes()))
        .denied(CheckKind::Product, "no accepted evidence");
    case().about(&[("evil", "evil")]).seed(COMMIT).denied(CheckKind::Product, "no accepted evidence has made");
    case().about(&[("app", APP), ("copy", APP)]).passes();
}

#[test]
fn rule_9_texts_commits_and_materials_prove_nothing() {
    let evil = "registry.example/app:1";
    let hash = sha256_hex(evil.as_bytes());
    let denied = |run: &Run| {
        Case::of(&one_step()).build(run).about(&[("evil", evil)]).denied(CheckKind::Product, "no accepted evidence");
    };
    for name in [
        format!("{OCI}/imagetag:{evil}"),
        format!("{GIT}/authoremail:{evil}"),
        format!("{GIT}/commithash:{hash}"),
        format!("{GIT}/parenthash:{hash}"),
        "https://witness.dev/attestations/docker/v0.1/imagereference:x".to_owned(),
        "https://witness.dev/attestations/docker/v0.1/materialdigest:x".to_owned(),
        "https://witness.dev/attestations/material/v0.3/tree:materials".to_owned(),
        "https://other.example/product/v0.1/file:evil".to_owned(),
        "given=by the user".to_owned(),
        format!("file:{evil}"),
        evil.to_owned(),
    ] {
        let mut run = Run::build();
        run.subjects.push(subject(&name, &hash));
        denied(&run);
    }
    let mut run = Run::of("build", COMMIT, &[("evil", evil)], &[("app", APP)]);
    run.subjects.push(subject("https://witness.dev/attestations/oci/v0.1/layerdiffid00:x", &hash));
    denied(&run);
}

#[test]
fn rule_9_the_root_of_a_tree_is_no_file() {
    // 65 bytes with two nodes of the tree have its root as their SHA-256; of no files at all, the empty file.
    let nodes = format!("\u{1}{}", "n".repeat(64));
    for content in ["", nodes.as_str()] {
        let mut run = Run::build();
        let name = "https://aflock.ai/attestations/product/v0.3/tree:products";
        run.subjects.push(subject(name, &sha256_hex(content.as_bytes())));
        let case = Case::of(&one_step()).build(&run);
        case.about(&[("evil", content)]).denied(CheckKind::Product, "no accepted evidence has made");
    }
}

#[test]
fn rule_9_external_evidence_about_the_artifact_needs_the_steps_as_well() {
    let scan = |content: &str| {
        let subjects = json!([subject("what was scanned", &sha256_hex(content.as_bytes()))]);
        statement(PROVENANCE, &subjects, &json!({"fine": true}), &[&tester()])
    };
    for required in [false, true] {
        let mut asked = one_step();
        asked["externalAttestations"] = json!({"scan":
            {"name": "scan", "predicateType": PROVENANCE, "functionaries": [functionary(&tester())], "required": required}});
        let case = || Case::of(&asked).build(&Run::build()).with(scan(APP));
        case().passes();
        // Evil was scanned as well, and evidence of something else is found by what the caller adds.
        let evil = case().with(scan("evil")).about(&[("evil", "evil")]);
        evil.clone().denied(CheckKind::Subject, "evidence of step `build`");
        let found = evil.seed(&sha256_hex(APP.as_bytes()));
        assert_ne!(found.ask().expect("an answer").answer, Answer::Passed);
    }
}

// Rule 10

#[test]
fn rule_10_tests_of_one_commit_say_nothing_of_another() {
    let mut asked = two_steps();
    asked["steps"]["test"].as_object_mut().expect("an object").remove("artifactsFrom");
    let tests = |commit: &str| Run::of("test", commit, &[("other", "x")], &[("report.xml", "<ok/>\n")]);
    let case = |run: &Run| Case::of(&asked).build(&Run::build()).test(run);
    case(&tests(COMMIT)).passes();
    for other in [PARENT, CHILD] {
        let case = case(&tests(other));
        case.clone().denied(CheckKind::Subject, "evidence of step `test` about what was asked");
        // Asking about both joins nothing.
        case.clone().seed(&format!("sha1:{other}")).denied(CheckKind::Subject, "nothing links it");
        let mut without = case.seed(COMMIT).seed(other);
        without.artifacts.clear();
        without.denied(CheckKind::Subject, "nothing links it");
    }
}

#[test]
fn rule_10_parents_are_never_followed() {
    let mut asked = two_steps();
    asked["steps"]["test"].as_object_mut().expect("an object").remove("artifactsFrom");
    // The tests of the child name the commit as parent, in every form that there is.
    let mut child = Run::of("test", CHILD, &[], &[("report.xml", "<ok/>\n")]);
    child.subjects.push(commit("parenthash", COMMIT));
    let backrefs = json!({format!("{GIT}/commithash:{CHILD}"): {"sha1": CHILD}, format!("{GIT}/parenthash:{COMMIT}"): {"sha1": COMMIT}});
    for run in [child.clone(), child.backrefs(backrefs)] {
        let case = Case::of(&asked).build(&Run::build()).test(&run);
        case.clone().denied(CheckKind::Subject, "nothing links it");
        case.seed(CHILD).denied(CheckKind::Subject, "nothing links it");
    }
    // And the build of the child names its parent, whose tests were good.
    let backrefs = json!({format!("{GIT}/commithash:{COMMIT}"): {"sha1": COMMIT}, format!("{GIT}/parenthash:{PARENT}"): {"sha1": PARENT}});
    let mut build = Run::build().backrefs(backrefs);
    build.subjects.push(commit("parenthash", PARENT));
    let parent = Run::of("test", PARENT, &[], &[("report.xml", "<ok/>\n")]);
    let case = Case::of(&asked).build(&build).test(&parent);
    case.clone().denied(CheckKind::Subject, "evidence of step `test` about what was asked");
    case.seed(PARENT).denied(CheckKind::Subject, "nothing links it");
}

#[test]
fn rule_10_what_many_runs_have_in_common_joins_nothing() {
    let mut asked = two_steps();
    asked["steps"]["test"].as_object_mut().expect("an object").remove("artifactsFrom");
    let empty = sha256_hex(b"");
    let text = |text: &str| sha256_hex(text.as_bytes());
    for (name, digest) in [
        (format!("{OCI}/imagetag:app:latest"), text("app:latest")),
        (format!("{GIT}/refnameshort:main"), text("main")),
        ("https://aflock.ai/attestations/trivy/v0.1/imagereference:app:latest".to_owned(), text("app:latest")),
        ("https://aflock.ai/attestations/trivy/v0.1/trivy:artifact:app".to_owned(), text("app")),
        ("https://aflock.ai/attestations/aws-codebuild/v0.1/codebuild-project:app".to_owned(), text("app")),
        ("https://cyclonedx.org/bom/name:app".to_owned(), text("app")),
        ("https://aflock.ai/attestations/unheard-of/v1/team:shop".to_owned(), text("shop")),
        ("https://aflock.ai/attestations/material/v0.3/tree:materials".to_owned(), empty.clone()),
        ("https://aflock.ai/attestations/product/v0.3/tree:products".to_owned(), empty.clone()),
    ] {
        let shared = subject(&name, &digest);
        let of_both = |mut run: Run| {
            run.subjects.push(shared.clone());
            run.backrefs(json!({name.as_str(): {"sha256": digest}}))
        };
        let tests = of_both(Run::of("test", PARENT, &[], &[("report.xml", "<ok/>\n")]));
        let case = Case::of(&asked).build(&of_both(Run::build())).test(&tests);
        let verdict = case.clone().ask().expect("an answer");
        assert_ne!(verdict.answer, Answer::Passed, "{name}");
        case.seed(&format!("sha256:{digest}")).denied(CheckKind::Subject, "");
    }
}

#[test]
fn rule_10_without_an_artifact_all_hangs_together_too() {
    let mut case = Case::of(&two_steps()).build(&Run::build()).test(&Run::test());
    case.artifacts.clear();
    case.clone().seed(COMMIT).passes();
    case.clone().seed(&sha256_hex(APP.as_bytes())).passes();
    let digest =
        |name: &str| SubjectDigest { algorithm: Some("sha256".to_owned()), value: sha256_hex(name.as_bytes()) };
    case.seeds = vec![digest("unheard of")];
    assert_eq!(case.ask().expect("an answer").answer, Answer::NoEvidence);
}

#[test]
fn files_between_steps_are_the_same() {
    let case = |test: &Run| Case::of(&two_steps()).build(&Run::build()).test(test);
    case(&Run::of("test", COMMIT, &[("app", "edited\n")], &[])).denied(CheckKind::Artifacts, "app was sha256:");
    case(&Run::of("test", COMMIT, &[("other", APP)], &[])).denied(CheckKind::Artifacts, "no file of the one");
    case(&Run::of("test", COMMIT, &[], &[])).denied(CheckKind::Artifacts, "no file of the one");
    // Among many runs, the one that fits is taken.
    let other = Run::of("build", COMMIT, &[("main.c", "x")], &[("app", "edited\n")]);
    case(&Run::test()).build(&other).passes();
    case(&Run::of("test", COMMIT, &[("app", "edited\n")], &[])).build(&other).denied(CheckKind::Artifacts, "app was");
    // A weaker digest says nothing where there is a stronger one.
    let mut weak = Run::test();
    *weak.entry(super::kit::MATERIAL) = json!({"app": {"sha1": "a".repeat(40)}});
    case(&weak).denied(CheckKind::Artifacts, "1 of 1 shared files differ");
}

// Rule 12

fn with_sbom() -> Value {
    policy(&[step("build", &[&builder()], &[PRODUCT, SBOM])])
}

fn bill(name: &str) -> Value {
    json!({"bomFormat": "CycloneDX", "metadata": {"component": {"name": name}}})
}

#[test]
fn rule_12_an_sbom_in_its_own_envelope_names_its_run_or_is_its_product() {
    let build = Run::build();
    let own = |subjects: Value, by: &PrivateKey| statement(SBOM, &subjects, &bill("app"), &[by]);
    let case = |envelope: Vec<u8>| Case::of(&with_sbom()).build(&build).with(envelope);
    case(own(json!([build.run_subject()]), &builder())).passes();
    Case::of(&with_sbom()).build(&build).denied(CheckKind::Attestations, "missing https://cyclonedx.org/bom");
    // Of another run of the same commit, by the same functionary.
    let other = Run::of("build", COMMIT, &[("main.c", "other")], &[("app", APP)]);
    let both = [commit("commithash", COMMIT), subject("app", &sha256_hex(APP.as_bytes())), other.run_subject()];
    case(own(json!(both), &builder())).denied(CheckKind::Attestations, "it names another run");
    let of_other = case(own(json!(both), &builder())).build(&other);
    let verdict = of_other.ask().expect("an answer");
    assert_eq!(verdict.answer, Answer::Passed, "the other run has an SBOM, and has made the same app");
    // By somebody else who is in the policy.
    case(own(json!([build.run_subject()]), &tester())).denied(CheckKind::Attestations, "not signed by a functionary");
    // About the artifact, the commit, or a text that looks like a run.
    for subjects in [
        json!([subject("app", &sha256_hex(APP.as_bytes()))]),
        json!([subject("app", &sha256_hex(APP.as_bytes())), commit("commithash", COMMIT)]),
        json!([subject("app", &sha256_hex(APP.as_bytes())), {"name": "affiant:run", "digest": {"sha512": "00"}}]),
        json!([subject("affiant:run ", &sha256_hex(build.payload().as_bytes()))]),
    ] {
        case(own(subjects, &builder())).denied(CheckKind::Attestations, "missing");
    }
    // The document itself, as the build has written it.
    let text = bill("app").to_string();
    let build = Run::of("build", COMMIT, &[], &[("app", APP), ("bom.json", &text)]);
    let about_app = json!([subject("app", &sha256_hex(APP.as_bytes()))]);
    let case = |name: &str| {
        let own = statement(SBOM, &about_app, &bill(name), &[&builder()]);
        Case::of(&with_sbom()).build(&build).with(own)
    };
    case("app").passes();
    case("another").denied(CheckKind::Attestations, "no product of this one");
}

/// A source that says of an envelope what it is not, as the index of an archive can that somebody has written to.
struct Liar<'a>(&'a Files, &'a str, Option<&'a str>, Option<&'a str>);

impl Liar<'_> {
    fn lie(&self, mut handles: Vec<Handle>) -> Vec<Handle> {
        for handle in handles.iter_mut().filter(|handle| handle.label == self.1) {
            handle.step = self.2.map(str::to_owned);
            handle.predicate_type = self.3.map(str::to_owned);
        }
        handles
    }
}

impl Source for Liar<'_> {
    fn name(&self) -> String {
        "liar".to_owned()
    }

    fn count(&self) -> Option<usize> {
        None
    }

    fn about(&self, digests: &[SubjectDigest]) -> Result<Vec<Handle>, SourceError> {
        self.0.about(digests).map(|handles| self.lie(handles))
    }

    fn of_step(&self, step: &str, limit: usize) -> Result<Vec<Handle>, SourceError> {
        self.0.of_step(step, limit).map(|handles| self.lie(handles))
    }

    fn policies(&self) -> Vec<Handle> {
        self.0.policies()
    }

    fn read(&self, handle: &Handle) -> Result<Vec<u8>, SourceError> {
        self.0.read(handle)
    }
}

#[test]
fn rule_12_what_the_index_of_an_archive_says_is_not_believed() {
    let build = Run::build();
    let ask = |own: Vec<u8>, step: Option<&str>, kind: Option<&str>| {
        let mut files = Files::default();
        files.add("build", build.signed(&[&builder()]));
        files.add("own", own);
        let case = Case::of(&with_sbom());
        case.ask_of(&Liar(&files, "own", step, kind)).expect("an answer")
    };
    let own = |kind: &str| statement(kind, &json!([build.run_subject()]), &bill("app"), &[&builder()]);
    assert_eq!(ask(own(SBOM), None, Some(SBOM)).answer, Answer::Passed);
    is_denied(
        &ask(own("https://example/note"), None, Some(SBOM)),
        CheckKind::Attestations,
        "of type `https://example/note`",
    );
    is_denied(&ask(own(SBOM), None, None), CheckKind::Attestations, "missing");
    // Evidence of another step, said to be of this one.
    let mut files = Files::default();
    files.add("own", Run::build().named("test").signed(&[&builder()]));
    let verdict = Case::of(&one_step()).ask_of(&Liar(&files, "own", Some("build"), Some(COLLECTION)));
    is_denied(&verdict.expect("an answer"), CheckKind::Step, "`test`");
}

#[test]
fn rule_12_external_evidence_is_about_bytes_that_the_steps_have_made() {
    let mut asked = one_step();
    asked["externalAttestations"] = json!({"provenance":
        {"name": "provenance", "predicateType": PROVENANCE, "functionaries": [functionary(&tester())]}});
    let mut build = Run::build();
    build.subjects.push(subject(&format!("{OCI}/imagetag:app:1"), &sha256_hex(b"app:1")));
    let case = |subjects: Value, by: &PrivateKey| {
        let own = statement(PROVENANCE, &subjects, &json!({"buildDefinition": {}}), &[by]);
        Case::of(&asked).build(&build).with(own)
    };
    let app = || subject("app", &sha256_hex(APP.as_bytes()));
    case(json!([app()]), &tester()).passes();
    case(json!([subject("x", &sha256_hex(b"x")), app()]), &tester()).passes();
    case(json!([app()]), &builder()).denied(CheckKind::Functionary, "one of");
    case(json!([app()]), &stranger()).denied(CheckKind::Functionary, "one of");
    Case::of(&asked).build(&build).denied(CheckKind::Found, PROVENANCE);
    // Found by a tag, a commit or a material, or about an artifact under a name that says nothing.
    let tag = |name: &str| json!([subject(name, &sha256_hex(b"app:1"))]);
    for subjects in [
        tag("imagetag:app:1"),
        tag(&format!("{OCI}/imagetag:app:1")),
        tag("app:1"),
        json!([commit("commithash", COMMIT)]),
        json!([{"name": "commit", "digest": {"sha1": COMMIT}}]),
        json!([{"name": "commit", "digest": {"gitCommit": COMMIT}}]),
        json!([subject("main.c", &sha256_hex(b"int main;\n"))]),
    ] {
        let found = case(subjects, &tester()).seed(&sha256_hex(b"app:1")).seed(COMMIT);
        let verdict = found.seed(&sha256_hex(b"int main;\n")).ask().expect("an answer");
        assert_ne!(verdict.answer, Answer::Passed);
    }
    // Digests that prove nothing although both sides have them.
    for digest in [json!({"sha1": "c".repeat(40)}), json!({"crc32": "00000000"}), json!({"sha256": ""})] {
        let mut build = build.clone();
        build.subjects.push(json!({"name": format!("{PRODUCT}/file:app"), "digest": digest}));
        let own = json!([{"name": "thing", "digest": digest}, subject("imagetag:app:1", &sha256_hex(b"app:1"))]);
        let own = statement(PROVENANCE, &own, &json!({}), &[&tester()]);
        let case = Case::of(&asked).build(&build).with(own).seed(&sha256_hex(b"app:1"));
        case.denied(CheckKind::Subject, "about something that an accepted step has made");
    }
}

// Rule 13

/// A Sigstore bundle around an envelope.
fn bundle(envelope: &[u8]) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(envelope).expect("JSON");
    json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": []}, "dsseEnvelope": envelope})
    .to_string()
    .into_bytes()
}

/// `cosign attest --predicate FILE`, as an object or as text, by anybody.
fn nested(envelope: &[u8], predicate_type: &str, as_text: bool) -> Vec<u8> {
    let inner: Value = serde_json::from_slice(envelope).expect("JSON");
    let predicate = if as_text { json!({"Data": inner.to_string(), "Timestamp": ""}) } else { inner };
    statement(predicate_type, &json!([subject("app", &sha256_hex(APP.as_bytes()))]), &predicate, &[&stranger()])
}

/// Puts an envelope into another container.
type Pack = fn(&[u8]) -> Vec<u8>;

#[test]
fn rule_13_repacking_never_improves_a_verdict() {
    let altered = || {
        let text = String::from_utf8(Run::build().signed(&[&builder()])).expect("text");
        let mut envelope: Value = serde_json::from_str(&text).expect("JSON");
        let other = Run::build().payload().replace("make", "evil");
        envelope["payload"] = STANDARD.encode(other).into();
        envelope.to_string().into_bytes()
    };
    let good = Run::build().signed(&[&builder()]);
    let bad = [
        Run::build().signed(&[&stranger()]),
        Run::build().signed(&[]),
        Run::build().named("build#failed").signed(&[&builder()]),
        Run::build().without(COMMAND).signed(&[&builder()]),
        Run::of("build", COMMIT, &[], &[("other", "x")]).signed(&[&builder()]),
        seal(&Run::build().payload(), "application/json", &[&builder()]),
        altered(),
    ];
    let forms: [Pack; 6] = [
        <[u8]>::to_vec,
        bundle,
        |envelope| nested(envelope, "https://cosign.sigstore.dev/attestation/v1", true),
        |envelope| nested(envelope, "https://example/anything", false),
        |envelope| bundle(&nested(envelope, "https://example/anything", false)),
        |envelope| nested(&bundle(envelope), COLLECTION, false),
    ];
    for (number, form) in forms.into_iter().enumerate() {
        let case = Case::of(&one_step()).with(form(&good));
        if number < 5 {
            case.passes();
        } else {
            assert_ne!(case.ask().expect("an answer").answer, Answer::Passed);
        }
        for (which, envelope) in bad.iter().enumerate() {
            let verdict = Case::of(&one_step()).with(form(envelope)).ask().expect("an answer");
            assert_ne!(verdict.answer, Answer::Passed, "form {number} of {which}");
        }
    }
    // The signer of the outer envelope is no signer of the inner one, and the other way round.
    let outer =
        statement("https://example/x", &json!([]), &serde_json::from_slice(&bad[0]).expect("JSON"), &[&builder()]);
    assert_ne!(Case::of(&one_step()).with(outer).ask().expect("an answer").answer, Answer::Passed);
}

#[test]
fn rule_13_odd_containers_are_no_evidence_and_never_panic() {
    let good: Value = serde_json::from_slice(&Run::build().signed(&[&builder()])).expect("JSON");
    let text = good.to_string();
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let material = |material: Value| json!({"mediaType": kind, "verificationMaterial": material, "dsseEnvelope": good});
    for odd in [
        json!({"dsseEnvelope": {"dsseEnvelope": good}}),
        json!({"dsseEnvelope": null}),
        json!({"dsseEnvelope": [good]}),
        json!({"dsseEnvelope": text}),
        json!({"payload": "e30=", "dsseEnvelope": good}),
        material(json!({"certificate": {"rawBytes": "%%%"}})),
        material(json!({"certificate": []})),
        material(json!({"x509CertificateChain": {"certificates": [{"rawBytes": "not base64"}]}})),
        material(json!({"timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "-_-_"}]}})),
        json!([good]),
        json!(null),
        json!({}),
    ] {
        for text in [odd.to_string(), format!("{odd}\n{odd}"), format!("{odd}{odd}"), odd.to_string().repeat(2)] {
            let verdict = Case::of(&one_step()).with(text.into_bytes()).ask().expect("an answer");
            assert_ne!(verdict.answer, Answer::Passed, "{odd}");
        }
    }
    // Material that cannot be read takes nothing away from a signature by a key, and adds nothing.
    let garbage = material(json!({"certificate": {"rawBytes": "AAAA"},
        "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]}}));
    Case::of(&one_step()).with(garbage.to_string().into_bytes()).passes();
}

// Rule 15

#[test]
fn rule_15_a_document_that_says_it_is_a_collection_is_judged_as_one() {
    let app = json!([subject("app", &sha256_hex(APP.as_bytes()))]);
    let vsa = json!({"verifier": {"id": "affiant"}, "verificationResult": "PASSED", "policy": {"uri": "x"}});
    let named = json!({"name": "build", "verificationResult": "PASSED"});
    let sbom = json!({"name": "build", "bomFormat": "CycloneDX", "attestations": null});
    for predicate in [vsa, named, sbom, json!({"name": "build", "attestations": []}), json!("build"), json!(null)] {
        let verdict = Case::of(&one_step())
            .with(statement(COLLECTION, &app, &predicate, &[&builder()]))
            .ask()
            .expect("an answer");
        assert_ne!(verdict.answer, Answer::Passed, "{predicate}");
    }
    // A summary of a verification is no evidence of a step.
    let summary = "https://slsa.dev/verification_summary/v1";
    let of_the_step = json!({"name": "build", "attestations": [{"type": PRODUCT, "attestation": {}}]});
    let verdict =
        Case::of(&one_step()).with(statement(summary, &app, &of_the_step, &[&builder()])).ask().expect("an answer");
    assert_ne!(verdict.answer, Answer::Passed);
}

// Rule 17

#[test]
fn rule_17_members_that_stand_twice_are_refused_everywhere() {
    let good = Run::build().payload();
    assert!(good.contains(r#""exitcode":0"#) && good.contains(r#""name":"build""#));
    for (from, to) in [
        (r#""exitcode":0"#, r#""exitcode":0,"exitcode":1"#),
        (r#""exitcode":0"#, r#""exitcode":1,"exitcode":0"#),
        (r#""name":"build""#, r#""name":"build","name":"other""#),
        (r#""name":"build""#, r#""name":"other","name":"build""#),
        (r#""name":"build""#, r#""name":"build","Name":"other""#),
        (r#""predicateType":"#, r#""predicatetype":"x","predicateType":"#),
        (r#""predicate":"#, r#""predicate":{},"predicate":"#),
        (r#""_type":"#, r#""_type":"x","_type":"#),
        (r#""commithash":"#, r#""commithash":"x","commithash":"#),
    ] {
        let payload = good.replacen(from, to, 1);
        assert_ne!(payload, good);
        let verdict = Case::of(&one_step()).with(seal(&payload, IN_TOTO, &[&builder()])).ask().expect("an answer");
        assert_ne!(verdict.answer, Answer::Passed, "{to}");
    }
    for tail in ["{}", "x", "\0", "}"] {
        let payload = format!("{good}{tail}");
        let verdict = Case::of(&one_step()).with(seal(&payload, IN_TOTO, &[&builder()])).ask().expect("an answer");
        assert_ne!(verdict.answer, Answer::Passed, "{tail:?} at the end");
    }
    let envelope = String::from_utf8(Run::build().signed(&[&builder()])).expect("text");
    for (from, to) in [
        (r#""payload":"#, r#""payload":"e30=","payload":"#),
        (r#""payload":"#, r#""Payload":"e30=","payload":"#),
        (r#""payloadType":"#, r#""payloadType":"x","payloadType":"#),
        (r#""signatures":"#, r#""signatures":[],"signatures":"#),
        (r#""sig":"#, r#""sig":"","sig":"#),
        (r#""keyid":"#, r#""keyid":"","keyid":"#),
    ] {
        let text = envelope.replacen(from, to, 1);
        assert_ne!(text, envelope);
        let verdict = Case::of(&one_step()).with(text.into_bytes()).ask().expect("an answer");
        assert_ne!(verdict.answer, Answer::Passed, "{to}");
    }
}

#[test]
fn rule_17_a_policy_has_one_reading() {
    let mut ours = one_step();
    ours["steps"]["build"]["threshold"] = json!(1);
    let good = ours.to_string();
    let with = |text: &str| Case::signed(seal(text, POLICY, &[&key("policy")])).build(&Run::build());
    with(&good).passes();
    for (from, to, why) in [
        (r#""expires":"#, r#""expires":"2020-01-01T00:00:00Z","expires":"#, "stands there twice"),
        (r#""expires":"#, r#""Expires":"2020-01-01T00:00:00Z","expires":"#, "in different letter case"),
        (r#""steps":"#, "\"\u{17f}teps\":{},\"steps\":", "in different letter case"),
        (r#""threshold":1"#, r#""threshold":1,"threshold":2"#, "stands there twice"),
        (r#""threshold":1"#, r#""threshold":1,"treshold":2"#, "did you mean `threshold`?"),
        // A slip in our own words would take away a demand that nobody else makes.
        (r#""threshold":1"#, r#""treshold":2"#, "did you mean `threshold`?"),
        (r#""threshold":1"#, r#""exitcodes":[0]"#, "did you mean `exitcode`?"),
        (r#""threshold":1"#, r#""threshold":0"#, "1 or more"),
        (r#""threshold":1"#, r#""threshold":-1"#, "not a whole number"),
        (r#""threshold":1"#, r#""threshold":1.5"#, "not a whole number"),
        (r#""threshold":1"#, r#""exitcode":[]"#, "not an exit code"),
        (r#""threshold":1"#, r#""commandRun":"no""#, "`required` or `optional`"),
        (r#""regopolicies":[]"#, r#""maxAge":"""#, "is empty"),
        (r#""regopolicies":[]"#, r#""maxAge":"-1h""#, "no positive duration"),
        (r#""name":"build""#, r#""name":"other""#, "stands under `build`"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{to}");
        with(&text).no_answer(why);
    }
    with(&format!("{good}{{}}")).no_answer("trailing");
    // Words of the peers that they would pass over are passed over and told.
    let verdict =
        with(&good.replacen(r#""expires":"#, r#""x-owner":"shop","expires":"#, 1).replace(r#","threshold":1"#, ""));
    let verdict = verdict.ask().expect("an answer");
    assert_eq!(verdict.answer, Answer::Passed);
    assert!(verdict.notes.iter().any(|note| note.contains("`x-owner` is not known")), "{:?}", verdict.notes);
}

#[test]
fn rule_17_documents_of_one_key_are_not_taken_for_each_other() {
    // A policy signed as evidence, as text, or with a type that begins alike.
    let text = one_step().to_string();
    for kind in [IN_TOTO, "text/plain", "", &format!("{POLICY}/"), "https://witness.testifysec.com/policy/v0.2"] {
        let case = Case::signed(seal(&text, kind, &[&key("policy")])).build(&Run::build());
        case.denied(CheckKind::Payload, &format!("`{kind}`"));
    }
    Case::signed(seal(&text, "https://aflock.ai/policy/v0.1", &[&key("policy")])).build(&Run::build()).passes();
    // Evidence signed as a policy or anything else.
    for kind in [POLICY, "https://aflock.ai/policy/v0.1", "application/json", "", "application/vnd.in-toto+json "] {
        let case = Case::of(&one_step()).with(seal(&Run::build().payload(), kind, &[&builder()]));
        assert_ne!(case.ask().expect("an answer").answer, Answer::Passed, "{kind}");
    }
    // Both at once: the policy's own envelope as evidence, evidence as the policy.
    let both = Case::of(&one_step());
    assert_ne!(both.clone().with(both.policy.clone()).ask().expect("an answer").answer, Answer::Passed);
    let mut by_builder = Case::signed(Run::build().signed(&[&builder()])).build(&Run::build());
    by_builder.keys = vec![Signer::public_key(&builder()).clone()];
    by_builder.denied(CheckKind::Payload, "the payload type");
    // The type of the statement counts as well.
    for kind in ["", "https://in-toto.io/Statement/v2", "https://example/Statement/v1"] {
        let payload = Run::build().payload().replacen(STATEMENT, kind, 1);
        let case = Case::of(&one_step()).with(seal(&payload, IN_TOTO, &[&builder()]));
        assert_ne!(case.ask().expect("an answer").answer, Answer::Passed, "{kind}");
    }
    let v1 = Run::build().payload().replacen(STATEMENT, "https://in-toto.io/Statement/v1", 1);
    Case::of(&one_step()).with(seal(&v1, IN_TOTO, &[&builder()])).passes();
}

// Who signed

#[test]
fn thresholds_count_signers_and_not_signatures() {
    let mut asked = policy(&[step("build", &[&builder(), &tester()], &[PRODUCT])]);
    asked["steps"]["build"]["threshold"] = json!(2);
    let by = |keys: &[&PrivateKey]| Case::of(&asked).with(Run::build().signed(keys));
    by(&[&builder(), &tester()]).passes();
    by(&[&builder()]).denied(CheckKind::Functionary, "only 1");
    by(&[&builder(), &builder()]).denied(CheckKind::Functionary, "only 1");
    by(&[&builder(), &stranger()]).denied(CheckKind::Functionary, "only 1");
    by(&[&builder(), &builder(), &stranger(), &stranger()]).denied(CheckKind::Functionary, "only 1");
    // Two files, each with one signature, are not one with two.
    let apart = Case::of(&asked).build(&Run::build()).test(&Run::build());
    apart.denied(CheckKind::Functionary, "only 1");
    // A signature under somebody else's name.
    let mut forged: Value = serde_json::from_slice(&Run::build().signed(&[&builder(), &builder()])).expect("JSON");
    forged["signatures"][1]["keyid"] = asked["steps"]["build"]["functionaries"][1]["publickeyid"].clone();
    Case::of(&asked).with(forged.to_string().into_bytes()).denied(CheckKind::Functionary, "only 1");
    // One key under two names.
    let mut twice = policy(&[step("build", &[&builder()], &[PRODUCT])]);
    let id = twice["steps"]["build"]["functionaries"][0]["publickeyid"].as_str().expect("text").to_owned();
    twice["publickeys"]["again"] = json!({"keyid": "awskms:///again", "key": twice["publickeys"][&id]["key"]});
    let named = json!([{"publickeyid": id}, {"publickeyid": "awskms:///again"}]);
    twice["steps"]["build"]["functionaries"] = named;
    twice["steps"]["build"]["threshold"] = json!(2);
    Case::of(&twice).with(Run::build().signed(&[&builder(), &builder()])).denied(CheckKind::Functionary, "only 1");
    twice["steps"]["build"]["threshold"] = json!(1);
    twice["steps"]["build"]["functionaries"] = json!([{"publickeyid": "awskms:///again"}]);
    Case::of(&twice).build(&Run::build()).passes();
}

#[test]
fn who_is_in_the_policy_is_no_functionary_of_every_step() {
    Case::of(&one_step()).with(Run::build().signed(&[&tester()])).denied(CheckKind::Functionary, "one of: key");
    Case::of(&one_step()).with(Run::build().signed(&[&stranger(), &tester()])).denied(CheckKind::Functionary, "one of");
    Case::of(&one_step()).with(Run::build().signed(&[&stranger(), &builder()])).passes();
    for functionaries in [json!([]), json!([{}]), json!([{"type": "publickey", "publickeyid": ""}]), json!(null)] {
        let mut asked = one_step();
        asked["steps"]["build"]["functionaries"] = functionaries;
        Case::of(&asked).build(&Run::build()).denied(CheckKind::Functionary, "");
    }
    // A key that the policy names and does not have.
    let mut asked = one_step();
    let id = asked["steps"]["build"]["functionaries"][0]["publickeyid"].as_str().expect("text").to_owned();
    asked["publickeys"].as_object_mut().expect("an object").remove(&id);
    Case::of(&asked).build(&Run::build()).denied(CheckKind::Signature, "none of the trusted keys");
}

#[test]
fn a_key_of_the_policy_that_cannot_be_read_is_an_error_and_not_one_key_less() {
    for (key, why) in [("!", "base64"), ("", "no public key"), ("AAAA", "no public key")] {
        let mut asked = one_step();
        asked["publickeys"]["odd"] = json!({"keyid": "awskms:///odd", "key": key});
        Case::of(&asked).build(&Run::build()).no_answer(why);
    }
    let mut asked = one_step();
    asked["publickeys"]["odd"] = json!({"keyid": "0".repeat(64), "key": asked["publickeys"].as_object().expect("an object").values().next().expect("one")["key"]});
    Case::of(&asked).build(&Run::build()).no_answer("but the key's id is");
}

#[test]
fn names_of_steps_are_compared_as_bytes() {
    for name in [
        "Build",
        "build ",
        " build",
        "build\u{200b}",
        "bui\u{fb02}d",
        "b\u{fc}ild",
        "build\0",
        "build/",
        "buil\u{217c}d",
        "",
    ] {
        let verdict = Case::of(&one_step()).build(&Run::build().named(name)).ask().expect("an answer");
        assert_ne!(verdict.answer, Answer::Passed, "{name:?}");
    }
    // Two spellings of one letter are two names.
    let composed = policy(&[step("b\u{fc}", &[&builder()], &[PRODUCT])]);
    Case::of(&composed).build(&Run::build().named("b\u{fc}")).passes();
    assert_ne!(
        Case::of(&composed).build(&Run::build().named("bu\u{308}")).ask().expect("an answer").answer,
        Answer::Passed
    );
    // A policy with both of two steps that look alike needs both.
    let twins = policy(&[step("a", &[&builder()], &[PRODUCT]), step("a ", &[&builder()], &[PRODUCT])]);
    let case = Case::of(&twins).build(&Run::build().named("a"));
    case.clone().denied(CheckKind::Found, "evidence of step `a `");
    case.build(&Run::build().named("a ")).passes();
}

#[test]
fn types_that_are_asked_for_are_there() {
    let asked = policy(&[step("build", &[&builder()], &[PRODUCT, OCI])]);
    Case::of(&asked).build(&Run::build()).denied(CheckKind::Attestations, OCI);
    Case::of(&asked).build(&Run::build().with(OCI, json!({}))).passes();
    Case::of(&asked)
        .build(&Run::build().with("https://witness.dev/attestations/oci/v0.2", json!({})))
        .denied(CheckKind::Attestations, "missing");
    // A policy that asks for nothing is fulfilled by nothing, and one without steps is none.
    let nothing = policy(&[step("build", &[&builder()], &[])]);
    Case::of(&nothing).build(&Run::build()).denied(CheckKind::Attestations, "the policy asks for none");
    Case::of(&policy(&[])).build(&Run::build()).no_answer("no steps");
}

#[test]
fn ages_and_times_need_a_proven_time() {
    let mut aged = one_step();
    aged["steps"]["build"]["attestations"][0]["maxAge"] = json!("876000h");
    Case::of(&aged).build(&Run::build()).denied(CheckKind::Age, "no proven time");
    for (member, value) in
        [("maxAge", "876000h"), ("notBefore", "2000-01-01T00:00:00Z"), ("notAfter", "2099-01-01T00:00:00Z")]
    {
        let mut timed = one_step();
        timed["steps"]["build"]["timestampConstraint"] = json!({member: value});
        Case::of(&timed).build(&Run::build()).denied(CheckKind::Time, "no proven time");
    }
}

#[test]
fn what_cannot_be_judged_yet_is_no_answer() {
    let mut asked = one_step();
    asked["images"] = json!({"names": ["registry.example/*"]});
    Case::of(&asked).build(&Run::build()).no_answer("`images` cannot be judged");
    let mut asked = one_step();
    asked["steps"]["build"]["perPlatform"] = json!(true);
    Case::of(&asked).build(&Run::build()).no_answer("`steps.build.perPlatform` cannot be judged");
    let mut asked = one_step();
    asked["steps"]["build"]["attestations"][0]["aipolicies"] = json!([{"name": "x", "prompt": "is it fine?"}]);
    Case::of(&asked).build(&Run::build()).no_answer("aipolicies");
}

#[test]
fn files_that_a_step_may_not_take_are_told() {
    let mut asked = two_steps();
    asked["steps"]["test"]["allowedUntracked"] = json!(["*.md"]);
    let case = |more: &str| {
        Case::of(&asked).build(&Run::build()).test(&Run::of("test", COMMIT, &[("app", APP), (more, "x")], &[]))
    };
    case("README.md").passes();
    case("backdoor.so").denied(CheckKind::Artifacts, "backdoor.so");
}

#[test]
fn policies_are_in_force_or_not() {
    let ask = |expires: Value, at: &str| {
        let mut asked = one_step();
        asked["expires"] = expires;
        let mut case = Case::of(&asked).build(&Run::build());
        case.at = at.to_owned();
        case
    };
    ask(json!("2026-11-21T18:00:00Z"), "2026-11-21T18:00:00Z").passes();
    ask(json!("2026-11-21T18:00:00Z"), "2026-11-21T18:00:00.000000001Z").denied(CheckKind::Validity, "it expired at");
    for missing in [json!(null), json!("")] {
        ask(missing, super::kit::AT).denied(CheckKind::Validity, "which counts as expired");
    }
    ask(json!("soon"), super::kit::AT).no_answer("not an RFC 3339 time");
    ask(json!("0001-01-01T00:00:00Z"), super::kit::AT).denied(CheckKind::Validity, "it expired");
    let mut early = one_step();
    early["notBefore"] = json!("2026-11-21T18:00:01Z");
    Case::of(&early).build(&Run::build()).denied(CheckKind::Validity, "not in force before");
    early["notBefore"] = json!("2026-11-21T18:00:00Z");
    Case::of(&early).build(&Run::build()).passes();
    // A withdrawn version.
    for (version, minimum, passes) in
        [(json!(2), Some(2), true), (json!(1), Some(2), false), (json!(null), Some(1), false)]
    {
        let mut versioned = one_step();
        versioned["version"] = version;
        let mut case = Case::of(&versioned).build(&Run::build());
        case.minimum_version = minimum;
        if passes { case.passes() } else { case.denied(CheckKind::Version, "version") }
    }
    let mut own = one_step();
    (own["version"], own["minimumVersion"]) = (json!(3), json!(4));
    Case::of(&own).build(&Run::build()).denied(CheckKind::Version, "version 3");
}

#[test]
fn dangling_and_circular_references_are_no_answer() {
    for (member, why) in
        [("artifactsFrom", "does not have"), ("attestationsFrom", "does not have"), ("externalFrom", "does not have")]
    {
        let mut asked = two_steps();
        asked["steps"]["test"][member] = json!(["nobody"]);
        Case::of(&asked).build(&Run::build()).test(&Run::test()).no_answer(why);
    }
    let mut asked = two_steps();
    asked["steps"]["test"]["attestationsFrom"] = json!(["build"]);
    asked["steps"]["build"]["attestationsFrom"] = json!(["test"]);
    Case::of(&asked).build(&Run::build()).test(&Run::test()).no_answer("in a circle");
}

#[test]
fn the_archive_that_knows_too_much_is_no_reason_to_stop() {
    // Many runs of one commit that fit apart and not together: an answer, soon.
    let mut asked = two_steps();
    asked["steps"]["lint"] = step("lint", &[&tester()], &[COMMAND]);
    let mut case = Case::of(&asked);
    for number in 0..40 {
        let content = format!("{number}\n");
        case = case
            .build(&Run::of("build", COMMIT, &[("n", &content)], &[("app", APP)]))
            .test(&Run::of("test", COMMIT, &[("app", &content)], &[]))
            .test(&Run::of("lint", PARENT, &[("n", &content)], &[("app", APP)]));
    }
    let begin = std::time::Instant::now();
    assert_eq!(case.ask().expect("an answer").answer, Answer::Denied);
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
    // Every artifact's type is a key: `sha256` of a text in another algorithm finds nothing.
    let other = Case::of(&one_step()).build(&Run::build());
    let mut seeds = other.clone();
    seeds.artifacts.clear();
    seeds.seeds = vec![SubjectDigest { algorithm: Some("sha512".to_owned()), value: sha256_hex(APP.as_bytes()) }];
    assert_eq!(seeds.ask().expect("an answer").answer, Answer::NoEvidence);
}
