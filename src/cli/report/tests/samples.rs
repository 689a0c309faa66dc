//! Verdicts as the gate gives them, for the tests of the forms.

use affiant_core::verdict::{
    Answer, ArtifactPart, Candidate, Check, CheckKind, ImagePart, Link, MAX_CANDIDATES, Outcome, Part, PolicyPart,
    SourcePart, TrustInput, Verdict, Walk,
};
use jiff::Timestamp;

const BUILD_KEY: &str = "key 9f86d081884c7d65 (ECDSA P-256) of functionary `build`";
const SCAN: &str = "CN=scanner, O=Example Works, issued by Example Build CA";

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A digest that differs for each `seed`.
fn digest(seed: &str) -> String {
    affiant_core::digest::sha256_hex(seed.as_bytes())
}

fn trust(what: &str, value: &str, from: &str) -> TrustInput {
    TrustInput { what: what.to_owned(), value: value.to_owned(), from: from.to_owned() }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn not_reached(kind: CheckKind) -> Check {
    let mut check = Check::passed(kind, "");
    check.outcome = Outcome::NotReached;
    check
}

fn good_policy() -> PolicyPart {
    PolicyPart {
        source: "policy.signed.json".to_owned(),
        sha256: digest("policy"),
        signers: strings(&["key 35e2ee0b7b37b7aa (ECDSA P-256)"]),
        version: Some(4),
        expires: Some(time("2027-06-30T00:00:00Z")),
        checks: vec![
            Check::passed(CheckKind::Signature, "signed by key 35e2ee0b7b37b7aa of policy.pub"),
            Check::passed(CheckKind::Payload, "https://witness.testifysec.com/policy/v0.1"),
            Check::passed(CheckKind::Validity, "in force until 2027-06-30T00:00:00Z"),
            Check::passed(CheckKind::Version, "version 4; 3 or newer is asked for"),
        ],
    }
}

fn base(answer: Answer) -> Verdict {
    Verdict {
        answer,
        at: time("2026-11-21T14:03:27Z"),
        policy: good_policy(),
        trust: vec![
            trust("policy key", &format!("sha256:{}", digest("policy key")), "--publickey policy.pub"),
            trust("functionary", &format!("{BUILD_KEY}, sha256:{}", digest("build key")), "the policy"),
            trust("time", "2026-11-21T14:03:27Z", "the clock"),
            trust("mode", "enforce", "the default"),
        ],
        artifacts: Vec::new(),
        images: Vec::new(),
        steps: Vec::new(),
        external: Vec::new(),
        sources: vec![
            SourcePart { name: "files".to_owned(), envelopes: 2, related: 2 },
            SourcePart { name: "archive dir:/var/lib/ci/evidence".to_owned(), envelopes: 418, related: 3 },
        ],
        walk: Walk { rounds: 2, limit: 8 },
        notes: Vec::new(),
    }
}

/// Candidates pass these, in this order.
const USUAL: &[(CheckKind, &str)] = &[
    (CheckKind::Envelope, "an envelope with one signature"),
    (CheckKind::Signature, "key 9f86d081884c7d65 signed it"),
    (CheckKind::Payload, "in-toto statement v0.1 with a collection"),
    (CheckKind::Step, ""),
    (CheckKind::Functionary, BUILD_KEY),
    (CheckKind::Command, "ended with 0"),
    (CheckKind::Attestations, "material, command-run, product, docker, git"),
    (CheckKind::Rules, "3 rules, none denies"),
    (CheckKind::Artifacts, "every material is a product of the step it comes from"),
];

/// A candidate of `step` that passes all checks.
fn good(step: &str, source: &str) -> Candidate {
    let check = |(kind, found): &(CheckKind, &str)| match kind {
        CheckKind::Step => Check::passed(*kind, step),
        kind => Check::passed(*kind, *found),
    };
    Candidate {
        source: source.to_owned(),
        sha256: digest(source),
        accepted: true,
        signers: strings(&[BUILD_KEY]),
        checks: USUAL.iter().map(check).collect(),
    }
}

/// A candidate of `step` that fails with `failed`.
fn bad(step: &str, source: &str, failed: &Check) -> Candidate {
    let mut candidate = good(step, source);
    candidate.accepted = false;
    if failed.kind <= CheckKind::Signature {
        candidate.signers.clear();
    }
    if failed.kind == CheckKind::Envelope {
        candidate.sha256.clear();
    }
    for check in &mut candidate.checks {
        if check.kind > failed.kind {
            *check = not_reached(check.kind);
        } else if check.kind == failed.kind {
            *check = failed.clone();
        }
    }
    candidate
}

fn part(name: &str, from: &[&str], candidates: Vec<Candidate>) -> Part {
    let outcome = if candidates.iter().any(|candidate| candidate.accepted) { Outcome::Passed } else { Outcome::Failed };
    let found = match outcome {
        Outcome::Passed => Check::passed(CheckKind::Found, "1 candidate"),
        _ if candidates.is_empty() => Check::failed(
            CheckKind::Found,
            format!("evidence of step `{name}`"),
            "no envelope with this step about what was asked",
        )
        .at(format!("steps.{name}"))
        .fix(format!("run the step with `affiant run --step {name}`, or name its evidence with --attestations FILE")),
        _ => Check::passed(
            CheckKind::Found,
            match candidates.len() {
                1 => "1 candidate".to_owned(),
                count => format!("{count} candidates"),
            },
        ),
    };
    let requires = strings(&["signed by functionary `build`", "a command that ended with 0"]);
    Part {
        name: name.to_owned(),
        outcome,
        artifacts_from: strings(from),
        requires,
        checks: vec![found],
        candidates,
        left_out: 0,
    }
}

fn made(name: &str, steps: &[(&str, &str)]) -> ArtifactPart {
    ArtifactPart {
        name: name.to_owned(),
        digest: format!("sha256:{}", digest(name)),
        check: Check::passed(CheckKind::Product, format!("a product of step {}", steps.last().expect("a step").0)),
        chain: steps
            .iter()
            .map(|(step, source)| Link {
                step: (*step).to_owned(),
                source: (*source).to_owned(),
                sha256: digest(source),
            })
            .collect(),
    }
}

/// Two steps, all is well.
pub(super) fn passed() -> Verdict {
    let mut verdict = base(Answer::Passed);
    verdict.steps = vec![
        part("docker-build", &[], vec![good("docker-build", "docker-build.att.json")]),
        part("docker-sbom", &["docker-build"], vec![good("docker-sbom", "docker-sbom.att.json")]),
    ];
    verdict.artifacts = vec![
        made("image.tar", &[("docker-build", "docker-build.att.json")]),
        made(
            "image-bom.cdx.json",
            &[("docker-build", "docker-build.att.json"), ("docker-sbom", "docker-sbom.att.json")],
        ),
    ];
    verdict
}

/// Two steps, one without evidence.
pub(super) fn missing() -> Verdict {
    let mut verdict = passed();
    verdict.answer = Answer::Denied;
    verdict.steps[1] = part("docker-sbom", &["docker-build"], Vec::new());
    verdict.artifacts.truncate(1);
    verdict.trust[3] = trust("mode", "warn", "--mode warn");
    verdict
}

/// Nothing is known about what was asked.
pub(super) fn no_evidence() -> Verdict {
    let mut verdict = base(Answer::NoEvidence);
    verdict.steps = vec![part("docker-build", &[], Vec::new()), part("docker-sbom", &["docker-build"], Vec::new())];
    let failed = Check::failed(CheckKind::Found, "evidence about this file", "none in 420 envelopes")
        .at("image.tar")
        .fix("name its evidence with --attestations FILE, or the archive that holds it with --archive; if the file was changed since it was built, no evidence is about it");
    let mut artifact = made("image.tar", &[("docker-build", "")]);
    artifact.chain.clear();
    artifact.check = failed;
    verdict.artifacts = vec![artifact];
    for source in &mut verdict.sources {
        source.related = 0;
    }
    verdict.walk.rounds = 0;
    verdict
}

/// Eight steps with branches and external attestations; three parts fail for different reasons.
pub(super) fn denied() -> Verdict {
    let mut verdict = base(Answer::Denied);
    let resolved = format!("sha256:{}", digest("the index"));
    let unsigned = Check::failed(
        CheckKind::Signature,
        "a signature of the image by key 9f86d081884c7d65, with env=prod (images.functionaries)",
        format!("{}.sig, layer 0: missing or incorrect annotation: env=prod is wanted", resolved.replace(':', "-")),
    );
    verdict.images = vec![ImagePart {
        name: "registry.example/team/web:1.4".to_owned(),
        reference: format!("registry.example/team/web@{resolved}"),
        platforms: vec!["linux/amd64".to_owned(), "linux/arm64".to_owned()],
        resolved,
        signed: None,
        signers: Vec::new(),
        checks: vec![unsigned.at("registry.example/team/web:1.4").fix("have it signed: `affiant image sign`")],
    }];
    let rule = |component: &str| {
        Check::failed(
            CheckKind::Rules,
            "no rule of package `sbom.banned` denies",
            format!("deny: \"{component} is on the list of banned components\""),
        )
        .fix("replace the component, then run `docker-sbom` again on the new image")
    };
    let mut sbom: Vec<_> = (0..14)
        .map(|number| {
            let source = format!("archive dir:/var/lib/ci/evidence, object {}", &digest(&number.to_string())[..16]);
            bad("docker-sbom", &source, &rule("log4j-core 2.14.1").at(format!("object {number}, attestations[4]")))
        })
        .collect();
    sbom[0].source = "docker-sbom.att.json".to_owned();
    let first = rule("log4j-core 2.14.1");
    sbom[0].checks[7] =
        first.at("docker-sbom.att.json, attestations[4] (https://cyclonedx.org/bom), rule deny at banned.rego:12");
    for number in 0..4 {
        let failed = Check::failed(
            CheckKind::Functionary,
            "key 9f86d081884c7d65 or 5feceb66ffc86f38 (functionaries of `docker-sbom`)",
            "key d4735e3a265e16ee",
        )
        .at(format!("sbom-of-team-b-{number}.att.json, signatures[0]"))
        .fix("have it signed by a functionary of the policy");
        let mut candidate = bad("docker-sbom", &format!("sbom-of-team-b-{number}.att.json"), &failed);
        candidate.signers = strings(&["key d4735e3a265e16ee (Ed25519)"]);
        sbom.push(candidate);
    }
    for number in 0..2 {
        let failed =
            Check::failed(CheckKind::Envelope, "a DSSE envelope", "broken JSON: expected `,` at line 1 column 912")
                .at(format!("upload-{number}.part"))
                .fix("hand over the file as it was written: this one was cut");
        sbom.push(bad("docker-sbom", &format!("upload-{number}.part"), &failed));
    }
    assert_eq!(sbom.len(), MAX_CANDIDATES, "as many as are told of");
    let tests = Check::failed(
        CheckKind::Artifacts,
        format!("src/server/main.go as step `checkout` made it: sha256:{}", digest("main.go")),
        format!("sha256:{}", digest("changed")),
    )
    .at("integration-test.att.json, materials, src/server/main.go")
    .fix("run `integration-test` on the files of `checkout`, with nothing changed between them");
    verdict.steps = vec![
        part("checkout", &[], vec![good("checkout", "checkout.att.json")]),
        part("compile-server", &["checkout"], vec![good("compile-server", "compile-server.att.json")]),
        part(
            "compile-web-frontend-with-localised-assets",
            &["checkout"],
            vec![good("compile-web-frontend-with-localised-assets", "compile-web.att.json")],
        ),
        part("unit-test", &["compile-server"], vec![good("unit-test", "unit-test.att.json")]),
        part(
            "docker-build",
            &["compile-server", "compile-web-frontend-with-localised-assets"],
            vec![good("docker-build", "docker-build.att.json")],
        ),
        part("docker-sbom", &["docker-build"], sbom),
        part("integration-test", &["checkout"], vec![bad("integration-test", "integration-test.att.json", &tests)]),
        part("sign-off", &["docker-build", "docker-sbom", "integration-test"], Vec::new()),
    ];
    verdict.steps[5].left_out = 37;
    verdict.steps.sort_by(|a, b| a.name.cmp(&b.name));
    let mut scan = good("vulnerability-scan", "scan.intoto.json");
    scan.signers = strings(&[SCAN]);
    scan.checks.retain(|check| !matches!(check.kind, CheckKind::Step | CheckKind::Command | CheckKind::Artifacts));
    verdict.external = vec![part("vulnerability-scan", &[], vec![scan])];
    verdict.external[0].requires = strings(&["signed by a certificate with CN=scanner under Example Build CA"]);
    verdict.artifacts = vec![
        made(
            "dist/image.tar",
            &[
                ("checkout", "checkout.att.json"),
                ("compile-server", "compile-server.att.json"),
                ("docker-build", "docker-build.att.json"),
            ],
        ),
        made("dist/image-bom.cdx.json", &[("docker-sbom", "docker-sbom.att.json")]),
    ];
    verdict.artifacts[1].chain.clear();
    verdict.artifacts[1].check = Check::failed(
        CheckKind::Product,
        "a product of an accepted step",
        "only a product of step `docker-sbom`, of which no evidence was accepted",
    )
    .at("dist/image-bom.cdx.json")
    .fix("see step docker-sbom: once its evidence is accepted, this file is proven");
    verdict.trust.push(trust(
        "policy root",
        &format!("CN=Example Build CA, sha256:{}", digest("root")),
        "the policy, roots.example",
    ));
    verdict.notes = strings(&[
        "policy member `steps.docker-build.timeout` is not known and was ignored",
        "upload-0.part and upload-1.part could not be read as evidence",
    ]);
    verdict
}

/// `text` wherever a stranger's text can stand.
pub(super) fn hostile(text: &str) -> Verdict {
    let mut verdict = denied();
    let all = |check: &mut Check| {
        for field in [&mut check.expected, &mut check.found, &mut check.place, &mut check.fix] {
            text.clone_into(field);
        }
    };
    let policy = &mut verdict.policy;
    for field in [&mut policy.source, &mut policy.sha256, &mut policy.signers[0]] {
        text.clone_into(field);
    }
    policy.checks.iter_mut().for_each(all);
    for input in &mut verdict.trust {
        for field in [&mut input.what, &mut input.value, &mut input.from] {
            text.clone_into(field);
        }
    }
    for artifact in &mut verdict.artifacts {
        text.clone_into(&mut artifact.name);
        text.clone_into(&mut artifact.digest);
        all(&mut artifact.check);
        for link in &mut artifact.chain {
            for field in [&mut link.step, &mut link.source, &mut link.sha256] {
                text.clone_into(field);
            }
        }
    }
    for part in verdict.steps.iter_mut().chain(&mut verdict.external) {
        text.clone_into(&mut part.name);
        for field in part.artifacts_from.iter_mut().chain(&mut part.requires) {
            text.clone_into(field);
        }
        part.checks.iter_mut().for_each(all);
        for candidate in &mut part.candidates {
            text.clone_into(&mut candidate.source);
            text.clone_into(&mut candidate.sha256);
            candidate.signers.iter_mut().for_each(|signer| text.clone_into(signer));
            candidate.checks.iter_mut().for_each(all);
        }
    }
    for source in &mut verdict.sources {
        text.clone_into(&mut source.name);
    }
    verdict.notes.iter_mut().for_each(|note| text.clone_into(note));
    verdict
}
