//! The gate on evidence whose certificates were made for the test.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::dsse::Envelope;
use crate::sign::Signer as _;
use crate::trust::tests::logs::{FakeLog, logged};
use crate::trust::tests::make::{World, key, noon, stamped};

const PRODUCT: &str = "https://witness.dev/attestations/product/v0.1";
const GIT: &str = "https://witness.dev/attestations/git/v0.1";
const GITHUB: &str = "https://witness.dev/attestations/github/v0.1";
const GITLAB: &str = "https://witness.dev/attestations/gitlab/v0.1";
const REPOSITORY: &str = "1.3.6.1.4.1.57264.1.12";
const DIGEST: &str = "1.3.6.1.4.1.57264.1.13";
const RUN: &str = "1.3.6.1.4.1.57264.1.21";
const APP: &[u8] = b"the application";

fn commit() -> String {
    "b1".repeat(20)
}

/// A certificate for a job of GitLab.
fn job() -> Vec<(&'static str, String)> {
    vec![
        (REPOSITORY, "https://gitlab.example.test/group/project".to_owned()),
        (DIGEST, commit()),
        (RUN, "https://gitlab.example.test/group/project/-/jobs/302".to_owned()),
    ]
}

fn git() -> Value {
    json!({"commithash": commit(), "remotes": ["git@gitlab.example.test:group/project.git"]})
}

fn gitlab() -> Value {
    json!({"joburl": "https://gitlab.example.test/group/project/-/jobs/302",
        "projecturl": "https://gitlab.example.test/group/project", "pipelineurl": "https://gitlab.example.test/group/project/-/pipelines/1"})
}

fn payload(attestations: &[(&str, Value)]) -> Vec<u8> {
    let digest = sha256_hex(APP);
    let mut list = vec![
        json!({"type": "https://witness.dev/attestations/command-run/v0.1", "attestation": {"cmd": ["make"], "exitcode": 0}}),
        json!({"type": PRODUCT, "attestation": {"app": {"mime_type": "x", "digest": {"sha256": digest}}}}),
    ];
    list.extend(attestations.iter().map(|(kind, value)| json!({"type": kind, "attestation": value})));
    json!({"_type": "https://in-toto.io/Statement/v0.1",
        "subject": [{"name": format!("{PRODUCT}/file:app"), "digest": {"sha256": digest}}],
        "predicateType": "https://witness.testifysec.com/attestation-collection/v0.1",
        "predicate": {"name": "build", "attestations": list}})
    .to_string()
    .into_bytes()
}

fn sealed(world: &World, claims: &[(&'static str, String)], attestations: &[(&str, Value)]) -> Envelope {
    let claims: Vec<(&'static str, &str)> = claims.iter().map(|(id, value)| (*id, value.as_str())).collect();
    world.clone().saying(&claims).sealed(&payload(attestations))
}

fn policy(world: &World, demands: &Value) -> Value {
    let [root, authority] = world.roots().map(|pem| json!({"certificate": STANDARD.encode(pem)}));
    let any = json!({"commonname": "*", "dnsnames": ["*"], "emails": ["*"], "organizations": ["*"], "uris": ["*"], "roots": ["*"]});
    let functionary = key(6).public_key();
    let mut step = json!({"name": "build", "attestations": [{"type": PRODUCT}],
        "functionaries": [{"certConstraint": any}, {"publickeyid": functionary.key_id()}]});
    for (name, value) in demands.as_object().expect("members") {
        step[name] = value.clone();
    }
    json!({"expires": "2036-01-01T00:00:00Z", "roots": {"r": root}, "timestampauthorities": {"t": authority},
        "publickeys": {functionary.key_id(): {"keyid": functionary.key_id(), "key": STANDARD.encode(functionary.to_pem())}},
        "steps": {"build": step}})
}

fn ask(policy: &Value, evidence: &Envelope) -> Verdict {
    ask_of(policy, &[evidence])
}

/// The collection, and evidence in envelopes of its own.
fn ask_of(policy: &Value, evidence: &[&Envelope]) -> Verdict {
    let signed = Envelope::seal(policy.to_string().into_bytes(), crate::policy::PAYLOAD_TYPE, &[key(7)]);
    let trust = Trust { keys: vec![key(7).public_key().clone()], ..Trust::default() };
    ask_under(&signed.expect("signs").to_json(), PolicyTrust { trust, ..PolicyTrust::default() }, evidence)
}

/// The same with a policy that somebody signed.
fn ask_under(policy: &[u8], policy_trust: PolicyTrust, evidence: &[&Envelope]) -> Verdict {
    let mut files = Files::default();
    for (number, one) in evidence.iter().enumerate() {
        files.add(&format!("build-{number}.json"), one.to_json());
    }
    verify(&Question {
        policy: PolicyFile { label: "policy.json", bytes: policy },
        policy_trust,
        artifacts: vec![Artifact::of("app", crate::digest::DigestSet::sha256_hex(sha256_hex(APP)))],
        images: Vec::new(),
        image_trust: ImageTrust::default(),
        seeds: Vec::new(),
        sources: vec![&files],
        at: noon(),
        origins: Vec::new(),
    })
    .expect("an answer")
}

fn denial(verdict: &Verdict) -> (CheckKind, String) {
    assert_ne!(verdict.answer, Answer::Passed);
    let reasons = verdict.reasons();
    let (_, check) = reasons.first().expect("a reason");
    (check.kind, format!("{}; {}", check.expected, check.found))
}

#[test]
fn a_certificate_must_be_of_the_very_run() {
    let world = World::new();
    let all = policy(&world, &json!({"certificateMatches": ["repository", "commit", "run"]}));
    let good = sealed(&world, &job(), &[(GIT, git()), (GITLAB, gitlab())]);
    let verdict = ask(&all, &good);
    assert_eq!(verdict.answer, Answer::Passed, "{:?}", verdict.reasons());
    let git_with = |name: &str, value: Value| {
        let mut git = git();
        git[name] = value;
        git
    };
    let gitlab_with = |name: &str, value: &str| {
        let mut gitlab = gitlab();
        gitlab[name] = json!(value);
        gitlab
    };
    for (attestations, texts) in [
        (
            vec![(GIT, git_with("commithash", json!("c2".repeat(20)))), (GITLAB, gitlab())],
            vec![commit(), "c2".repeat(20), "git.commithash".to_owned()],
        ),
        (
            vec![
                (GIT, git_with("remotes", json!(["https://gitlab.example.test/group/other.git"]))),
                (GITLAB, gitlab()),
            ],
            vec!["gitlab.example.test/group/project".to_owned(), "group/other.git".to_owned()],
        ),
        // Each attestation that says something must agree, not only one.
        (
            vec![(GIT, git()), (GITLAB, gitlab_with("projecturl", "https://gitlab.example.test/group/other"))],
            vec!["gitlab.projecturl".to_owned(), "group/other".to_owned()],
        ),
        (
            vec![(GIT, git()), (GITLAB, gitlab_with("joburl", "https://gitlab.example.test/group/project/-/jobs/303"))],
            vec!["jobs/302".to_owned(), "jobs/303".to_owned()],
        ),
        // Missing in the evidence.
        (vec![(GIT, git())], vec!["no attestation of the collection says of which run it is".to_owned()]),
        (vec![(GITLAB, gitlab())], vec!["says of which commit".to_owned()]),
        (
            vec![(GIT, git_with("remotes", json!([]))), (GITLAB, gitlab_with("projecturl", ""))],
            vec!["says of which repository".to_owned()],
        ),
    ] {
        let (kind, text) = denial(&ask(&all, &sealed(&world, &job(), &attestations)));
        assert_eq!(kind, CheckKind::Certificate, "{text}");
        for part in texts {
            assert!(text.contains(&part), "{part}: {text}");
        }
    }
    // Missing in the certificate.
    for place in 0..3 {
        let mut claims = job();
        let (id, _) = claims.remove(place);
        let (kind, text) = denial(&ask(&all, &sealed(&world, &claims, &[(GIT, git()), (GITLAB, gitlab())])));
        assert_eq!(kind, CheckKind::Certificate, "{id}: {text}");
        assert!(text.contains("a certificate that names the"), "{text}");
    }
    // A key has none; where nothing is demanded, it is a functionary like another.
    let keyed = Envelope::seal(payload(&[(GIT, git()), (GITLAB, gitlab())]), "application/vnd.in-toto+json", &[key(6)])
        .expect("signs");
    let (kind, text) = denial(&ask(&all, &keyed));
    assert!(kind == CheckKind::Certificate && text.contains("which has no certificate"), "{text}");
    assert_eq!(ask(&policy(&world, &json!({})), &keyed).answer, Answer::Passed);
    // Only what is demanded is looked at.
    let only = policy(&world, &json!({"certificateMatches": ["commit"]}));
    assert_eq!(ask(&only, &sealed(&world, &job()[1..2], &[(GIT, git())])).answer, Answer::Passed);
}

/// The key's signature counts for nothing where a certificate is demanded: its timestamp is no proof of the other's time.
#[test]
fn demands_are_met_by_the_same_signature() {
    let world = World::new();
    let demands =
        json!({"certificateMatches": ["commit"], "timestampConstraint": {"notAfter": "2026-06-01T11:30:00Z"}});
    let early = policy(&world, &demands);
    let mut both = sealed(&world, &job(), &[(GIT, git())]);
    assert_eq!(denial(&ask(&early, &both)).0, CheckKind::Time);
    let mut keyed = Envelope::seal(both.payload.clone(), &both.payload_type, &[key(6)]).expect("signs");
    let mut stamp = world.stamp(&keyed.signatures[0].sig);
    stamp.time = "20260601110000Z";
    keyed.signatures[0].timestamps = vec![stamped(stamp.token())];
    both.signatures.append(&mut keyed.signatures);
    // It does prove a time, where either may sign.
    let either = policy(&world, &json!({"timestampConstraint": demands["timestampConstraint"].clone()}));
    let verdict = ask(&either, &both);
    assert_eq!(verdict.answer, Answer::Passed, "{:?}", verdict.reasons());
    assert_eq!(denial(&ask(&early, &both)).0, CheckKind::Time);
}

/// Evidence in an envelope of its own is of the run only where its certificate is.
#[test]
fn a_certificate_is_demanded_of_own_envelopes_too() {
    const OWN: &str = "https://scanner.example/report/v1";
    let world = World::new();
    let with = |demands: Value| {
        let mut policy = policy(&world, &demands);
        policy["steps"]["build"]["attestations"].as_array_mut().expect("a list").push(json!({"type": OWN}));
        policy
    };
    let demanding = with(json!({"certificateMatches": ["commit"]}));
    let run = sealed(&world, &job(), &[(GIT, git())]);
    let own = json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": OWN, "predicate": {"clean": true},
        "subject": [{"name": crate::run::RUN_SUBJECT, "digest": {"sha256": sha256_hex(&run.payload)}}]})
    .to_string()
    .into_bytes();
    let saying = |commit: &str| world.clone().saying(&[(DIGEST, commit)]).sealed(&own);
    let verdict = ask_of(&demanding, &[&run, &saying(&commit())]);
    assert_eq!(verdict.answer, Answer::Passed, "{:?}", verdict.reasons());
    let keyed = Envelope::seal(own.clone(), &run.payload_type, &[key(6)]).expect("signs");
    assert_eq!(ask_of(&with(json!({})), &[&run, &keyed]).answer, Answer::Passed, "a functionary signed it");
    for (other, part) in [(saying(&"c2".repeat(20)), commit()), (keyed, "which has no certificate".to_owned())] {
        let (kind, text) = denial(&ask_of(&demanding, &[&run, &other]));
        assert!(kind == CheckKind::Attestations && text.contains(&part), "{text}");
    }
}

#[test]
fn a_run_of_github_matches_in_each_attempt() {
    let world = World::new();
    let all = policy(&world, &json!({"certificateMatches": ["repository", "commit", "run"]}));
    let claims = vec![
        (REPOSITORY, "https://github.com/o/r".to_owned()),
        (DIGEST, commit()),
        (RUN, "https://github.com/o/r/actions/runs/17/attempts/2".to_owned()),
    ];
    let github = |run: &str, sha: &str| {
        json!({"projecturl": "https://github.com/o/r", "pipelineurl": format!("https://github.com/o/r/actions/runs/{run}"),
            "jwt": {"claims": {"sha": sha}}})
    };
    assert_eq!(ask(&all, &sealed(&world, &claims, &[(GITHUB, github("17", &commit()))])).answer, Answer::Passed);
    for (run, sha) in [("170", commit()), ("17", "c2".repeat(20))] {
        let (kind, text) = denial(&ask(&all, &sealed(&world, &claims, &[(GITHUB, github(run, &sha))])));
        assert_eq!(kind, CheckKind::Certificate, "{text}");
    }
    // Where the token says which attempt it was, that is compared too.
    let attempt = |attempt: Value| {
        let mut github = github("17", &commit());
        github["jwt"]["claims"]["run_attempt"] = attempt;
        ask(&all, &sealed(&world, &claims, &[(GITHUB, github)]))
    };
    for same in [json!("2"), json!(2)] {
        assert_eq!(attempt(same).answer, Answer::Passed);
    }
    for other in [json!("1"), json!(3), json!("x"), json!("")] {
        let (kind, text) = denial(&attempt(other.clone()));
        assert!(kind == CheckKind::Certificate && text.contains("github.pipelineurl"), "{other}: {text}");
    }
}

/// A policy whose signer has a certificate: the promise of a log that is trusted for policies proves its time as well as a
/// timestamp does, and nothing else does.
#[test]
fn a_policy_that_was_signed_without_a_key_is_proven_by_a_log() {
    let world = World::new();
    let log = FakeLog { key: 9 };
    let evidence = sealed(&world, &[], &[]);
    let text = policy(&world, &json!({})).to_string().into_bytes();
    let mut signed = world.sealed_as(&text, crate::policy::PAYLOAD_TYPE);
    signed.signatures[0].timestamps.clear();
    let pem = String::from_utf8(signed.signatures[0].certificate.clone().expect("a certificate")).expect("text");
    let entry = |time: &str| logged(&log.entry(&signed, &pem, time.parse().expect("a time")));
    let mut with = signed.clone();
    with.signatures[0].timestamps.push(entry("2026-06-01T12:00:00Z"));
    let constraint = |mail: &str| {
        let value = json!({"commonname": "*", "dnsnames": ["*"], "emails": [mail], "organizations": ["*"],
            "uris": ["*"], "roots": ["*"]});
        Some(Constraint::read(&value).expect("a constraint").0)
    };
    let no_stamps = Trust { authorities: Vec::new(), ..world.trust() };
    let logs = Trust { logs: vec![log.log()], ..no_stamps.clone() };
    let ask = |policy: &Envelope, trust: &Trust, mail: &str, sct: bool| {
        let trust = PolicyTrust { trust: trust.clone(), constraint: constraint(mail), sct, minimum_version: None };
        ask_under(&policy.to_json(), trust, &[&evidence])
    };
    let mail = "builder@example.org";
    let verdict = ask(&with, &logs, mail, false);
    assert_eq!(verdict.answer, Answer::Passed, "{:?}", verdict.reasons());
    assert!(verdict.policy.signers[0].contains("entry 17 of the log"), "{:?}", verdict.policy.signers);
    // Nobody else, no log that is not trusted, none about something else, and none without a log that is logged.
    let (kind, _) = denial(&ask(&with, &logs, "other@example.org", false));
    assert_eq!(kind, CheckKind::Functionary);
    let (kind, text) = denial(&ask(&with, &logs, mail, true));
    assert!(kind == CheckKind::Functionary && text.contains("in a log of the trusted root"), "{text}");
    let mut late = signed.clone();
    late.signatures[0].timestamps.push(entry("2026-06-03T12:00:00Z"));
    let mut foreign = signed.clone();
    foreign.signatures[0].timestamps.push(logged(&log.entry(&evidence, &pem, noon())));
    for (policy, trust) in [(&with, &no_stamps), (&signed, &logs), (&foreign, &logs), (&late, &logs)] {
        let verdict = ask(policy, trust, mail, false);
        assert_eq!(denial(&verdict).0, CheckKind::Signature);
        assert!(verdict.reasons()[0].1.fix.contains("--policy-trusted-root"), "{}", verdict.reasons()[0].1.fix);
    }
    // The same in a bundle.
    let below = String::from_utf8(signed.signatures[0].intermediates[0].clone()).expect("text");
    let chain = crate::trust::Certificate::read_all(format!("{pem}{below}").as_bytes()).expect("certificates");
    let chain: Vec<Value> = chain.iter().map(|one| json!({"rawBytes": STANDARD.encode(one.der())})).collect();
    let bundle = json!({"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": {"x509CertificateChain": {"certificates": chain},
            "tlogEntries": [log.entry(&signed, &pem, noon()).to_json()]},
        "dsseEnvelope": {"payload": STANDARD.encode(&signed.payload), "payloadType": signed.payload_type,
            "signatures": [{"sig": STANDARD.encode(&signed.signatures[0].sig)}]}});
    let trust = PolicyTrust { trust: logs, constraint: constraint(mail), sct: false, minimum_version: None };
    let verdict = ask_under(bundle.to_string().as_bytes(), trust, &[&evidence]);
    assert_eq!(verdict.answer, Answer::Passed, "{:?}", verdict.reasons());
}

#[test]
fn a_log_is_demanded_of_each_signature_that_counts() {
    let world = World::new();
    let log = FakeLog { key: 9 };
    let mut demanding = policy(&world, &json!({"log": "required"}));
    demanding["transparencyLogs"] =
        json!({"l": {"key": STANDARD.encode(log.log().key.to_pem()), "url": log.log().base_url}});
    let bare = sealed(&world, &[], &[]);
    let (kind, text) = denial(&ask(&demanding, &bare));
    assert!(kind == CheckKind::Log && text.contains("it has no log entry"), "{text}");
    let pem = String::from_utf8(bare.signatures[0].certificate.clone().expect("a certificate")).expect("text");
    let mut with = bare.clone();
    with.signatures[0].timestamps.push(logged(&log.entry(&bare, &pem, noon())));
    let verdict = ask(&demanding, &with);
    assert_eq!(verdict.answer, Answer::Passed, "{:?}", verdict.reasons());
    // Its own, not that of another signature; and of two functionaries each one's.
    let other = sealed(&world, &[], &[(GIT, git())]);
    let mut foreign = bare.clone();
    foreign.signatures[0].timestamps.push(logged(&log.entry(&other, &pem, noon())));
    let (kind, text) = denial(&ask(&demanding, &foreign));
    assert!(kind == CheckKind::Log && text.contains("about another"), "{text}");
    let mut two = demanding.clone();
    two["steps"]["build"]["threshold"] = json!(2);
    let mut both = with.clone();
    let keyed = Envelope::seal(both.payload.clone(), &both.payload_type, &[key(6)]).expect("signs");
    both.signatures.extend(keyed.signatures.clone());
    let (kind, text) = denial(&ask(&two, &both));
    assert!(kind == CheckKind::Log && text.contains(key(6).public_key().key_id()), "{text}");
    let entry = log.entry(&keyed, &key(6).public_key().to_pem(), noon());
    both.signatures[1].timestamps.push(logged(&entry));
    let verdict = ask(&two, &both);
    assert_eq!(verdict.answer, Answer::Passed, "{:?}", verdict.reasons());
    // What a policy does not trust is no log.
    demanding["transparencyLogs"]["l"]["end"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(denial(&ask(&demanding, &with)).0, CheckKind::Log);
}

#[test]
fn a_timestamp_is_demanded_of_each_signature_that_counts() {
    let world = World::new();
    let log = FakeLog { key: 9 };
    let mut demanding = policy(&world, &json!({"timestamp": "required"}));
    demanding["transparencyLogs"] =
        json!({"l": {"key": STANDARD.encode(log.log().key.to_pem()), "url": log.log().base_url}});
    let stamped = sealed(&world, &[], &[]);
    let verdict = ask(&demanding, &stamped);
    assert_eq!(verdict.answer, Answer::Passed, "{:?}", verdict.reasons());
    // The promise of a log proves the time, and is no timestamp.
    let pem = String::from_utf8(stamped.signatures[0].certificate.clone().expect("a certificate")).expect("text");
    let mut promised = stamped.clone();
    promised.signatures[0].timestamps = vec![logged(&log.entry(&stamped, &pem, noon()))];
    let mut lax = demanding.clone();
    lax["steps"]["build"].as_object_mut().expect("members").remove("timestamp");
    assert_eq!(ask(&lax, &promised).answer, Answer::Passed);
    let (kind, text) = denial(&ask(&demanding, &promised));
    assert!(kind == CheckKind::Time && text.contains("it has no timestamp"), "{text}");
    // Nor is one of the key beside it, which somebody else's stamp does not help.
    let mut two = demanding.clone();
    two["steps"]["build"]["threshold"] = json!(2);
    let mut both = stamped.clone();
    let keyed = Envelope::seal(both.payload.clone(), &both.payload_type, &[key(6)]).expect("signs");
    both.signatures.extend(keyed.signatures);
    let (kind, text) = denial(&ask(&two, &both));
    assert!(kind == CheckKind::Time && text.contains(key(6).public_key().key_id()), "{text}");
    both.signatures[1].timestamps = both.signatures[0].timestamps.clone();
    let (kind, text) = denial(&ask(&two, &both));
    assert!(kind == CheckKind::Time && text.contains("timestamp 0: "), "{text}");
    two["steps"]["build"]["threshold"] = json!(1);
    assert_eq!(ask(&two, &both).answer, Answer::Passed);
}

#[test]
fn whoever_signs_the_policy_by_identity_has_a_named_issuer() {
    let issuer = ("1.3.6.1.4.1.57264.1.8", "https://issuer.example");
    let ask = |world: &World, flags: &Value| {
        let [root, authority] = world.roots().map(|pem| {
            let certificate = crate::trust::Certificate::read(pem.as_bytes()).expect("reads");
            crate::trust::Anchor { id: "r".to_owned(), certificate, intermediates: Vec::new() }
        });
        let mut constraint = json!({"commonname": "*", "dnsnames": ["*"], "organizations": ["*"],
            "uris": ["*"], "emails": ["builder@example.org"], "roots": ["*"]});
        constraint["extensions"] = flags.clone();
        let signed = world.sealed(b"{}").to_json();
        let files = Files::default();
        let trust = Trust { roots: vec![root], authorities: vec![authority], ..Trust::default() };
        let constraint = Some(crate::trust::Constraint::read(&constraint).expect("a constraint").0);
        let verdict = verify(&Question {
            policy: PolicyFile { label: "policy.json", bytes: &signed },
            policy_trust: PolicyTrust { trust, constraint, sct: false, minimum_version: None },
            artifacts: vec![Artifact::of("app", crate::digest::DigestSet::sha256_hex(sha256_hex(APP)))],
            images: Vec::new(),
            image_trust: ImageTrust::default(),
            seeds: Vec::new(),
            sources: vec![&files],
            at: noon(),
            origins: Vec::new(),
        });
        denial(&verdict.expect("an answer"))
    };
    let identified = World::new().saying(&[issuer]);
    let (kind, text) = ask(&identified, &json!({}));
    assert!(kind == CheckKind::Functionary && text.contains("nothing says which issuer"), "{text}");
    let (kind, text) = ask(&identified, &json!({"Issuer": "https://other.example"}));
    assert!(kind == CheckKind::Functionary && text.contains("https://issuer.example"), "{text}");
    // Named, or anybody on purpose, or of an authority of another sort: what is signed here is no policy then.
    for (world, flags) in
        [(&identified, json!({"Issuer": issuer.1})), (&identified, json!({"Issuer": "*"})), (&World::new(), json!({}))]
    {
        assert_eq!(ask(world, &flags).0, CheckKind::Payload, "{flags}");
    }
}
