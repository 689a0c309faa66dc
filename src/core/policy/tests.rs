use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse(text.as_bytes()).map_err(|error| {
        use std::error::Error as _;
        error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
    })
}

/// A policy with one step, its members and those of the policy as given.
fn with(step: &str, top: &str) -> Result<Policy, String> {
    parse(&format!(r#"{{"expires":"2036-01-01T00:00:00Z","steps":{{"a":{{"name":"a"{step}}}}}{top}}}"#))
}

#[test]
fn members_are_read_in_any_letter_case_and_null_is_absent() {
    let policy =
        with(r#","ArtifactsFrom":["a"],"functionaries":null,"Attestations":[{"TYPE":"t"}]"#, r#","PublicKeys":null"#)
            .expect("reads");
    assert_eq!(policy.steps["a"].artifacts_from, ["a"]);
    assert_eq!(policy.steps["a"].attestations[0].kind, "t");
    assert!(policy.unknown.is_empty());
}

#[test]
fn what_readers_would_see_differently_is_refused() {
    for (text, expected) in [
        (
            r#"{"steps":{},"steps":{}}"#,
            "not JSON that every reader understands alike: the member \"steps\" stands there twice at line 1 column 19",
        ),
        (r#"{"steps":{},"Steps":{}}"#, "`steps` stands there twice, in different letter case"),
        (r#"{"steps":{}} x"#, "not JSON that every reader understands alike: trailing characters at line 1 column 14"),
        (r#"{"steps":{}}"#, "the policy has no steps: it would pass anything"),
        ("[]", "`the policy` is not an object"),
        (r#"{"steps":[]}"#, "`steps` is not an object"),
    ] {
        assert_eq!(parse(text).err().as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn each_mistake_names_its_member() {
    for (step, top, expected) in [
        (r#","artifactsFrom":["b"]"#, "", "`steps.a.artifactsFrom` names `b`, which the policy does not have"),
        (r#","attestationsFrom":["a"]"#, "", "the steps a need each other's attestations in a circle"),
        (r#","externalFrom":["x"]"#, "", "`steps.a.externalFrom` names `x`, which the policy does not have"),
        (r#","attestations":[{}]"#, "", "`steps.a.attestations[0].type` is missing"),
        (
            r#","attestations":[{"type":"t","regopolicies":[{"module":"a_b-"}]}]"#,
            "",
            "`steps.a.attestations[0].regopolicies[0].module`: not padded standard base64: Invalid symbol 95, offset 1.",
        ),
        (
            r#","attestations":[{"type":"t","aipolicies":[{}]}]"#,
            "",
            "`steps.a.attestations[0].aipolicies`: such rules cannot be judged here; write them in Rego",
        ),
        (r#","threshold":0"#, "", "`steps.a.threshold`: a threshold is 1 or more"),
        (r#","exitcode":"x""#, "", "`steps.a.exitcode` is not an exit code or a list of them"),
        (r#","commandRun":"maybe""#, "", "`steps.a.commandRun` is not `required` or `optional`"),
        (
            r#","timestampConstraint":{"maxAge":"-1h"}"#,
            "",
            "`steps.a.timestampConstraint.maxAge`: `-1h` is no positive duration such as `24h`, `1h30m` or `7d`",
        ),
        (r#","threshhold":1"#, r#","version":1"#, "`steps.a.threshhold` is not known, did you mean `threshold`?"),
        ("", r#","publickeys":{"k":{"keyid":"k","key":"AA=="}}"#, "`publickeys.k.key` is no public key: "),
        ("", r#","roots":{"r":{}}"#, "`roots.r.certificate` is missing"),
        (r#","log":"maybe""#, "", "`steps.a.log` is not `required`"),
        (r#","sct":true"#, "", "`steps.a.sct` is not a text"),
        (r#","certificateMatches":["branch"]"#, "", "`steps.a.certificateMatches[0]` is not `repository`, `commit` or"),
        (r#","certificateMatches":["run","run"]"#, "", "`steps.a.certificateMatches[1]` stands there twice"),
        (r#","certificateMatches":[]"#, "", "`steps.a.certificateMatches`: an empty list"),
        (r#","certificateMatch":["run"]"#, "", "`steps.a.certificateMatch` is not known, did you mean `certificateM"),
        ("", r#","transparencyLogs":{"l":{}}"#, "`transparencyLogs.l.key` is missing"),
        ("", r#","transparencyLogs":{"l":{"key":"AA=="}}"#, "`transparencyLogs.l.key` is no public key"),
        ("", r#","roots":{"r":{"certificate":"AA==","start":""}}"#, "`roots.r.start`: is empty"),
        (
            "",
            r#","roots":{"r":{"certificate":"AA==","start":"2026-01-02T00:00:00Z","end":"2026-01-01T00:00:00Z"}}"#,
            "`roots.r.end`: it ends before it begins",
        ),
        (r#","timestamp":"yes""#, "", "`steps.a.timestamp` is not `required`"),
        ("", r#","images":{"names":["a"],"timestamp":"required"}"#, "`images.timestamp`: asks something of signatures"),
        (
            "",
            r#","images":{"names":["a"],"timestampConstraint":{"maxAge":"1h"}}"#,
            "`images.timestampConstraint`: asks something of signatures",
        ),
        ("", r#","images":{"names":["a"],"timestampConstraint":{}}"#, "`images.timestampConstraint`: asks for nothing"),
        (
            "",
            r#","images":{"functionaries":[{"publickeyid":"a"}],"timestampConstraint":{"maxAge":"1h","until":1}}"#,
            "`images.timestampConstraint.until` is not known",
        ),
        (
            "",
            r#","images":{"functionaries":[{"publickeyid":"a"}],"timestampConstraint":{"notBefore":"2026-01-01T00:00:00Z","maxAge":""}}"#,
            "`images.timestampConstraint.maxAge`: empty",
        ),
        (
            "",
            r#","images":{"names":["a"],"certificateMatches":["run"]}"#,
            "`images.certificateMatches`: asks something of signatures",
        ),
        ("", r#","images":{"names":["a"],"certificateMatches":["ref"]}"#, "`images.certificateMatches[0]` is not"),
        ("", r#","images":{"names":["a"],"signedAfter":"x"}"#, "`images.signedAfter` is not known"),
        (r#","timestamp":"required","remark":1"#, "", "`steps.a.remark` is not known"),
        ("", r#","images":{"names":["a"],"log":"required"}"#, "`images.log`: asks something of signatures"),
    ] {
        let error = with(step, top).expect_err(step);
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
    assert!(with("", "").expect("reads").notes[0].contains("asks for no attestation"));
}

#[test]
fn unknown_members_are_told_where_peers_pass_them_over() {
    let policy = with(r#","artifactFrom":["b"],"remark":1"#, "").expect("reads");
    let unknown: Vec<_> = policy.unknown.iter().map(|one| (one.at.as_str(), one.nearest.as_deref())).collect();
    assert_eq!(unknown, [("steps.a.artifactFrom", Some("artifactsFrom")), ("steps.a.remark", None)]);
}

#[test]
fn unknown_members_beside_members_of_ours_are_refused() {
    for own in [r#","version":1"#, r#","minimumVersion":1"#, r#","notBefore":"2020-01-01T00:00:00Z""#] {
        let error = with(r#","remark":1"#, own).expect_err(own);
        assert_eq!(error, "`steps.a.remark` is not known");
    }
    assert!(with(r#","remark":1,"threshold":2"#, "").is_err());
    // Go writes `null` for what was not given.
    assert!(with(r#","remark":1,"threshold":null"#, "").is_ok());
}

#[test]
fn an_empty_demand_of_ours_is_no_way_to_make_none() {
    let error = with(r#","attestations":[{"type":"t","maxAge":""}]"#, "").expect_err("refused");
    assert_eq!(error, "`steps.a.attestations[0].maxAge`: is empty");
    assert!(with(r#","exitcode":[]"#, "").is_err());
}

#[test]
fn an_empty_constraint_beside_a_key_is_none() {
    let functionary = |constraint: &str| {
        let step = format!(r#","functionaries":[{{"publickeyid":"k","certConstraint":{constraint}}}]"#);
        with(&step, "").expect("reads").steps["a"].functionaries[0].constraint.is_some()
    };
    assert!(!functionary("{}"));
    assert!(!functionary(r#"{"commonname":"","dnsnames":null,"emails":[],"extensions":{"issuer":""}}"#));
    assert!(functionary(r#"{"commonname":"x"}"#) && functionary(r#"{"emails":[""]}"#));
}

#[test]
fn lists_and_maps_have_a_limit() {
    let names = |count: usize| vec![r#""a""#; count].join(",");
    assert!(with(&format!(r#","artifactsFrom":[{}]"#, names(MAX_ENTRIES)), "").is_ok());
    let error = with(&format!(r#","artifactsFrom":[{}]"#, names(MAX_ENTRIES + 1)), "").expect_err("too many");
    assert_eq!(error, format!("`steps.a.artifactsFrom`: {} entries, the limit is {MAX_ENTRIES}", MAX_ENTRIES + 1));
    assert!(
        matches!(Policy::parse(&vec![b' '; MAX_POLICY + 1]), Err(PolicyError::TooLarge { size }) if size == MAX_POLICY + 1)
    );
    assert!(matches!(Policy::parse(&vec![b' '; MAX_POLICY]), Err(PolicyError::Json { .. })));
}

#[test]
fn a_step_cannot_take_the_name_of_failed_builds() {
    let error = parse(r#"{"steps":{"a#failed":{}}}"#).expect_err("refused");
    assert!(error.starts_with("the step `a#failed`"), "{error}");
    let error = parse(r#"{"steps":{"a":{"name":"b"}}}"#).expect_err("refused");
    assert_eq!(error, "`steps.a.name` is `b`, but the step stands under `a`");
}

#[test]
fn key_ids_are_computed() {
    let pem = include_bytes!("../../../fixtures/keys/functionary.pub");
    let key = PublicKey::from_file_bytes(pem).expect("a key");
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let good = format!(r#","publickeys":{{"x":{{"keyid":"{}","key":"{text}"}}}}"#, key.key_id());
    let policy = with("", &good).expect("reads");
    assert_eq!(policy.ids_of(key.key_id()).collect::<Vec<_>>(), [key.key_id()]);
    let wrong = format!(r#","publickeys":{{"x":{{"keyid":"ab","key":"{text}"}}}}"#);
    assert!(with("", &wrong).expect_err("refused").contains("says ab, but the key's id is"));
    let service = format!(r#","publickeys":{{"x":{{"keyid":"awskms:///alias/x","key":"{text}"}}}}"#);
    let policy = with("", &service).expect("reads");
    assert_eq!(policy.ids_of(key.key_id()).collect::<Vec<_>>(), ["awskms:///alias/x"]);
}

#[test]
fn durations_are_those_of_go_and_days_and_weeks() {
    use super::members::duration;
    for (text, seconds) in [("24h", 86_400), ("1h30m", 5400), ("1.5h", 5400), ("7d", 604_800), ("2w", 1_209_600)] {
        assert_eq!(duration(text), Some(SignedDuration::from_secs(seconds)), "{text}");
    }
    for text in ["0s", "h", "1", "1x", "-1h", "1e9h", "9999999999999999999999w"] {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn a_log_has_the_id_that_is_written_or_that_its_key_has() {
    let pem = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cosign").join(name);
        STANDARD.encode(std::fs::read(path).expect("a key"))
    };
    let logs = |member: &str| {
        let text = format!(r#"{{"steps":{{"a":{{}}}},"transparencyLogs":{{"l":{{{member}}}}}}}"#);
        Policy::parse(text.as_bytes()).map(|mut policy| policy.logs.remove(0).logs).map_err(|error| error.to_string())
    };
    let ecdsa = format!(r#""key":"{}","url":"https://log.example""#, pem("trust/rekor1.pub"));
    let one = logs(&ecdsa).expect("a log");
    assert_eq!((one.len(), one[0].id.len(), one[0].base_url.as_str()), (1, 32, "https://log.example"));
    // A key of a log of tiles may as well be that of one of the older sort: its entries decide.
    let ed25519 = format!(r#""key":"{}","url":"http://localhost:3003""#, pem("trust/rekor2.pub"));
    let two = logs(&ed25519).expect("a log");
    assert_eq!(two.len(), 2);
    assert_ne!(two[0].id, two[1].id);
    let written = hex::encode(&two[1].id);
    let named = logs(&format!(r#"{ed25519},"logID":"{written}""#)).expect("a log");
    assert_eq!((named.len(), &named[0].id), (1, &two[1].id));
    for wrong in ["", "0", "zz", &"ab".repeat(65)] {
        let error = logs(&format!(r#"{ecdsa},"logID":"{wrong}""#)).expect_err(wrong);
        assert!(error.contains("`transparencyLogs.l.logID` is not an id in hex digits"), "{error}");
    }
    let error = logs(&format!(r#"{ecdsa},"ur":"x""#)).expect_err("a slip");
    assert!(error.contains("did you mean `url`"), "{error}");
}
