//! What holds a chain of evidence together, and what does not: each case alone turns yes into no.

use affiant_core::digest::sha256_hex;
use affiant_core::verdict::{Answer, CheckKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kit::*;

const TREE: &str = "https://aflock.ai/attestations/product/v0.3/tree:products";

/// Build, test and scan; only the test takes files of another step.
fn three_steps() -> Value {
    let mut test = step("test", &[&tester()], &[COMMAND]);
    test["artifactsFrom"] = json!(["build"]);
    policy(&[step("build", &[&builder()], &[PRODUCT]), test, step("scan", &[&tester()], &[COMMAND])])
}

#[test]
fn taking_files_of_one_step_links_to_no_other() {
    let scan = |commit: &str| Run::of("scan", commit, &[], &[("scan.txt", "clean\n")]);
    let case = |commit: &str| {
        let case = Case::of(&three_steps()).build(&Run::build()).test(&Run::test()).test(&scan(commit));
        case.seed(&sha256_hex(b"clean\n"))
    };
    case(COMMIT).passes();
    case(CHILD).denied(CheckKind::Subject, "");
}

#[test]
fn taken_files_link_two_steps_without_a_common_commit() {
    let test = Run::of("test", CHILD, &[("app", APP)], &[("report.xml", "<ok/>\n")]);
    let case = |asked: &Value| Case::of(asked).build(&Run::build()).test(&test).seed(&sha256_hex(b"<ok/>\n"));
    case(&two_steps()).passes();
    let mut asked = two_steps();
    asked["steps"]["test"].as_object_mut().expect("an object").remove("artifactsFrom");
    case(&asked).denied(CheckKind::Subject, "");
}

#[test]
fn external_evidence_about_a_tree_is_about_that_tree() {
    let mut asked = one_step();
    asked["externalAttestations"] = json!({"provenance":
        {"name": "provenance", "predicateType": PROVENANCE, "functionaries": [functionary(&tester())]}});
    let root = sha256_hex(b"the root of a tree");
    let mut build = Run::build();
    build.subjects.push(subject(TREE, &root));
    let case = |about: &str| {
        let own = json!([subject("thing", about)]);
        let own = statement(PROVENANCE, &own, &json!({"buildDefinition": {}}), &[&tester()]);
        Case::of(&asked).build(&build).with(own).seed(about)
    };
    case(&root).passes();
    case(&sha256_hex(b"another tree")).denied(CheckKind::Subject, "about something that an accepted step has made");
}

#[test]
fn an_image_is_proven_by_the_subject_of_its_run() {
    let image = sha256_hex(b"the manifest");
    let mut build = Run::build();
    build.subjects.push(subject(&format!("{OCI}/imagedigest:{image}"), &image));
    let case = |content: &str| Case::of(&one_step()).build(&build).about(&[("image", content)]);
    case("the manifest").passes();
    assert_ne!(case("another manifest").ask().expect("an answer").answer, Answer::Passed);
}

#[test]
fn files_are_compared_whichever_step_comes_first() {
    // `a` takes what `z` left, and is looked at before it.
    let mut taker = step("a", &[&tester()], &[PRODUCT]);
    taker["artifactsFrom"] = json!(["z"]);
    let asked = policy(&[taker, step("z", &[&builder()], &[PRODUCT])]);
    let case = |left: &str| {
        let maker = Run::of("z", COMMIT, &[], &[("lib.o", left), ("other.o", "same\n")]);
        let taker = Run::of("a", COMMIT, &[("lib.o", "lib\n"), ("other.o", "same\n")], &[("app", APP)]);
        Case::of(&asked).build(&maker).test(&taker)
    };
    case("lib\n").passes();
    case("another lib\n").denied(CheckKind::Artifacts, "lib.o was");
}

#[test]
fn rules_that_see_other_steps_judge_evidence_in_its_own_envelope_too() {
    let mut asked = two_steps();
    asked["steps"]["test"]["attestationsFrom"] = json!(["build"]);
    let rule = "package t\nimport rego.v1\ndeny contains \"bad part\" if input.attestation.bad";
    let rules = json!([{"name": "t.rego", "module": STANDARD.encode(rule)}]);
    asked["steps"]["test"]["attestations"] = json!([{"type": SBOM, "regopolicies": rules}]);
    let test = Run::test();
    let case = |bad: bool| {
        let own = statement(SBOM, &json!([test.run_subject()]), &json!({"bad": bad}), &[&tester()]);
        Case::of(&asked).build(&Run::build()).test(&test).with(own).seed(&sha256_hex(test.payload().as_bytes()))
    };
    case(false).passes();
    case(true).denied(CheckKind::Rules, "bad part");
}

#[test]
fn rules_of_external_evidence_are_asked() {
    let mut asked = one_step();
    let rule = "package t\nimport rego.v1\ndeny contains \"bad part\" if input.bad";
    let rules = json!([{"name": "t.rego", "module": STANDARD.encode(rule)}]);
    asked["externalAttestations"] = json!({"provenance": {"name": "provenance", "predicateType": PROVENANCE,
        "functionaries": [functionary(&tester())], "regopolicies": rules}});
    let case = |bad: bool| {
        let own = json!([subject("app", &sha256_hex(APP.as_bytes()))]);
        let own = statement(PROVENANCE, &own, &json!({"bad": bad}), &[&tester()]);
        Case::of(&asked).build(&Run::build()).with(own)
    };
    case(false).passes();
    case(true).denied(CheckKind::Rules, "bad part");
}

#[test]
fn a_withdrawn_policy_is_refused_beside_any_of_its_successors() {
    let with = |version: u64, minimum: Option<u64>| {
        let mut asked = one_step();
        asked["version"] = json!(version);
        asked["minimumVersion"] = json!(minimum);
        asked.to_string()
    };
    let signed = |text: &str, by: &str| seal(text, POLICY, &[&key(by)]);
    let case = || Case::signed(signed(&with(2, None), "policy")).build(&Run::build());
    let newer = |minimum: u64, by: &str| signed(&with(9, Some(minimum)), by);
    case().passes();
    case().with(newer(2, "policy")).passes();
    case().with(newer(3, "policy")).denied(CheckKind::Version, "version 3 or later");
    for (one, other) in [(1, 3), (3, 1)] {
        let both = case().with(newer(one, "policy")).with(newer(other, "policy"));
        both.denied(CheckKind::Version, "version 3 or later, as the policy");
    }
    // Somebody else's policy withdraws nothing, and nor does a document of another type.
    case().with(newer(3, "stranger")).passes();
    case().with(seal(&with(9, Some(3)), IN_TOTO, &[&key("policy")])).passes();
}
