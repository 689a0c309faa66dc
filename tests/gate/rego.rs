//! Security rule 14 at the gate: rules that say nothing deny.

use std::time::Instant;

use affiant_core::digest::sha256_hex;
use affiant_core::verdict::CheckKind;
use serde_json::{Value, json};

use super::kit::{
    APP, COMMAND, COMMIT, Case, OCI, PRODUCT, PROVENANCE, Run, builder, functionary, policy, statement, step, subject,
    tester, two_steps, with_rule,
};

/// The build with rules for its command-run.
fn ruled(modules: &[&str]) -> Value {
    let mut asked = policy(&[step("build", &[&builder()], &[COMMAND, PRODUCT])]);
    for module in modules {
        with_rule(&mut asked, "build", module);
    }
    asked
}

fn case(modules: &[&str]) -> Case {
    Case::of(&ruled(modules)).build(&Run::build())
}

const FINE: &str = "package fine\nimport rego.v1\ndeny contains \"failed\" if input.exitcode != 0";

#[test]
fn rule_14_each_package_says_no_by_itself() {
    case(&[FINE]).passes();
    case(&["package fine\ndeny[msg] { input.exitcode != 0; msg := \"failed\" }"]).passes();
    case(&[FINE, "package mute\nimport rego.v1\nx := 1"]).denied(CheckKind::Rules, "package mute has no rule deny");
    case(&["package mute", FINE]).denied(CheckKind::Rules, "package mute has no rule deny");
    case(&["package no\nimport rego.v1\ndeny contains \"never\" if true", FINE]).denied(CheckKind::Rules, "never");
    case(&[FINE, "package no\nimport rego.v1\ndeny contains \"never\" if true"]).denied(CheckKind::Rules, "never");
    for (value, why) in
        [("true", "boolean true"), ("false", "boolean false"), ("0", "number"), ("\"\"", "string"), ("null", "null")]
    {
        case(&[&format!("package odd\nimport rego.v1\ndeny := {value}")]).denied(CheckKind::Rules, why);
    }
    case(&["package odd\nimport rego.v1\ndeny := x if { x := input.nothing }"]).denied(CheckKind::Rules, "odd");
    case(&["package odd\nimport rego.v1\ndeny(x) := {x}"]).denied(CheckKind::Rules, "a function");
    // A library is one because somebody uses it.
    let library = "package lib\nimport rego.v1\nbad(x) if x != 0";
    let user = "package user\nimport rego.v1\nimport data.lib\ndeny contains \"failed\" if lib.bad(input.exitcode)";
    case(&[library, user]).passes();
    case(&[library]).denied(CheckKind::Rules, "package lib has no rule deny");
}

#[test]
fn rule_14_what_the_evidence_does_not_have_denies() {
    let rule = |body: &str| format!("package a\nimport rego.v1\ndeny contains \"no\" if {{ {body} }}");
    for body in ["input.exitcodee != 0", "input.exit.code > 0", "input.cmd[7] == \"x\""] {
        case(&[&rule(body)]).denied(CheckKind::Rules, "");
    }
    // Not where a rule looks for something that may be there.
    case(&[&rule("some x in input.processes; x.program == \"evil\"")]).passes();
    case(&[&rule("input.processes[_].program == \"evil\"")]).passes();
    // A missing exit code of the form that leaves it out is 0.
    let mut asked =
        policy(&[step("build", &[&builder()], &["https://aflock.ai/attestations/command-run/v0.2", PRODUCT])]);
    with_rule(&mut asked, "build", FINE);
    let run = Run::build().without(COMMAND);
    let run = run.with("https://aflock.ai/attestations/command-run/v0.2", json!({"cmd": ["make"]}));
    Case::of(&asked).build(&run).passes();
    // A rule `> 0` does not let a signal of the peers pass unseen where the policy says what it wants.
    let mut asked = ruled(&["package a\nimport rego.v1\ndeny contains \"no\" if input.exitcode > 0"]);
    asked["steps"]["build"]["exitcode"] = json!(0);
    Case::of(&asked).build(&Run::build().exit(&json!(-1))).denied(CheckKind::Command, "exit code -1");
}

#[test]
fn rule_14_errors_and_forbidden_functions_deny() {
    let rule = |body: &str| format!("package a\nimport rego.v1\ndeny contains \"no\" if {body}");
    case(&[&rule("1 / input.exitcode == 1")]).denied(CheckKind::Rules, "failed");
    case(&[&rule("to_number(\"x\") == 1")]).denied(CheckKind::Rules, "failed");
    for (body, why) in
        [("http.send({})", "no network"), ("opa.runtime()", "environment"), ("net.lookup_ip_addr(\"x\")", "no network")]
    {
        case(&[&rule(body)]).no_answer(why);
    }
    case(&["this is not rego"]).no_answer("neither Rego v1");
    case(&[""]).no_answer("neither Rego v1");
}

#[test]
fn rule_14_image_members_cannot_be_forged() {
    let tutorial = "package image\nimport rego.v1\ndeny contains \"mismatch\" if input.cosign_subject != sprintf(\"image@sha256:%s\", [input.image_digest])";
    let simple = "package image\nimport rego.v1\ndeny contains \"mismatch\" if input.image_digest != \"sha256:aa\"";
    for kind in [OCI, "https://aflock.ai/attestations/oci/v0.1", "https://witness.dev/attestations/oci/v0.2"] {
        let forged = json!({"image_digest": "sha256:aa", "cosign_subject": "image@sha256:sha256:aa"});
        for module in [tutorial, simple] {
            let mut asked = policy(&[step("build", &[&builder()], &[kind])]);
            with_rule(&mut asked, "build", module);
            Case::of(&asked).build(&Run::build().with(kind, forged.clone())).denied(CheckKind::Rules, "mismatch");
            Case::of(&asked).build(&Run::build().with(kind, json!({}))).denied(CheckKind::Rules, "mismatch");
        }
    }
}

#[test]
fn rule_14_every_attestation_of_a_type_is_asked_about() {
    let run = Run::build().with(COMMAND, json!({"cmd": ["x"], "exitcode": 1, "stdout": "", "stderr": ""}));
    Case::of(&ruled(&[FINE])).build(&run).denied(CheckKind::Rules, "failed");
    // Also in the words of the other tool.
    let run = Run::build().with("https://aflock.ai/attestations/command-run/v0.2", json!({"exitcode": 1}));
    Case::of(&ruled(&[FINE])).build(&run).denied(CheckKind::Rules, "failed");
}

#[test]
fn rules_see_the_steps_and_statements_of_their_own_chain() {
    let mut asked = two_steps();
    asked["steps"]["test"]["attestationsFrom"] = json!(["build"]);
    asked["steps"]["test"]["externalFrom"] = json!(["scan"]);
    asked["externalAttestations"] = json!({"scan":
        {"name": "scan", "predicateType": PROVENANCE, "functionaries": [functionary(&tester())], "required": false}});
    let product = format!("input.steps.build[\"{PRODUCT}\"]");
    with_rule(
        &mut asked,
        "test",
        &format!(
            "package t\nimport rego.v1\ndeny contains \"no app\" if not {product}.app\ndeny contains \"not scanned\" if not input.external.scan.clean\ndeny contains \"failed\" if input.attestation.exitcode != 0"
        ),
    );
    let scan = |clean: bool| {
        let subjects = json!([subject("app", &sha256_hex(APP.as_bytes()))]);
        statement(PROVENANCE, &subjects, &json!({"clean": clean}), &[&tester()])
    };
    let case = || Case::of(&asked).build(&Run::build()).test(&Run::test());
    case().with(scan(true)).passes();
    case().with(scan(false)).denied(CheckKind::Rules, "not scanned");
    case().denied(CheckKind::Rules, "not scanned");
    // A scan of something else is none of this chain.
    let other = statement(PROVENANCE, &json!([subject("x", &sha256_hex(b"x"))]), &json!({"clean": true}), &[&tester()]);
    case().with(other).seed(&sha256_hex(b"x")).denied(CheckKind::Rules, "not scanned");
}

#[test]
fn rules_that_loop_or_explode_end_soon() {
    let rule = |body: &str| format!("package a\nimport rego.v1\ndeny contains \"no\" if {{ {body} }}");
    for body in [
        "some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); some c in numbers.range(1, 3000); a + b + c == 0".to_owned(),
        "count(numbers.range(1, 1000000000)) == 0".to_owned(),
        "regex.match(\"(a{1000}){1000}\", \"a\")".to_owned(),
        "x := [[a, b, c, d] | some a in numbers.range(1, 900); some b in numbers.range(1, 900); some c in numbers.range(1, 900); some d in [1]]; count(x) == 0".to_owned(),
        "x := {sprintf(\"%d-%d\", [a, b]) | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000)}; count(x) == 0".to_owned(),
    ] {
        let begin = Instant::now();
        let verdict = case(&[&rule(&body)]).ask();
        let told = match &verdict {
            Ok(verdict) => super::kit::told(verdict),
            Err(error) => format!("{error:?}"),
        };
        assert!(!matches!(&verdict, Ok(verdict) if verdict.answer == affiant_core::verdict::Answer::Passed), "{body}: {told}");
        assert!(begin.elapsed().as_secs() < 30, "{body}: {told}");
    }
    // Many candidates do not make it last longer.
    let mut many = case(&[&rule(
        "some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); some c in numbers.range(1, 3000); a + b + c == 0",
    )]);
    for number in 0..10 {
        many = many.build(&Run::of("build", COMMIT, &[("n", &number.to_string())], &[("app", APP)]));
    }
    let begin = Instant::now();
    many.denied(CheckKind::Rules, "takes longer");
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
}
