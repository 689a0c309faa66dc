//! What a policy demands of who has signed an image, besides who it is: a timestamp, a time, and that the certificate is of
//! the very job that built it.

use serde_json::{Value, json};

use crate::gate_images::{Built, build_with, denied, index, verify};
use crate::gate_images_keyless::{IDENTITY, ISSUER, World, keyless, with, without};
use crate::harness::Ended;
use crate::issuer::{Issuer, Lies};
use crate::sigstore_services::Sigstore;

/// What the first failed check of the image looked at.
fn kind(ended: Ended) -> String {
    let verdict: Value = serde_json::from_str(&ended.code(1).stdout_text()).expect("JSON");
    let checks = verdict["images"][0]["checks"].as_array().expect("a list").clone();
    let failed = checks.iter().find(|check| check["outcome"] == "failed").expect("one failed");
    failed["kind"].as_str().expect("a kind").to_owned()
}

#[test]
fn a_timestamp_is_demanded_whatever_else_proves_the_time() {
    let world = World::new();
    let demand = || with(without(keyless(), "log"), "timestamp", json!("required"));
    for (number, (generation, stamped, form, passes)) in [
        (1, false, "tag", false),
        (1, false, "bundle", false),
        (1, true, "tag", true),
        (0, true, "tag", true),
        (2, true, "bundle", true),
    ]
    .into_iter()
    .enumerate()
    {
        let image = world.push(&format!("form-{number}"));
        let log: &[&str] = if (generation, form) == (1, "bundle") { &["--log", "rekor1"] } else { &[] };
        world.sign(&image, generation, stamped, &[&["--format", form], log].concat(), &json!({}));
        world.policy(&without(keyless(), "log"), &json!({}));
        world.ask(&image).code(0);
        world.policy(&demand(), &json!({}));
        if passes {
            let text = verify(&world.place, &image, ["-o", "json"]).code(0).stdout_text();
            let verdict: Value = serde_json::from_str(&text).expect("JSON");
            let checks = verdict["images"][0]["checks"].as_array().expect("a list");
            let time = checks.iter().find(|check| check["kind"] == "time").expect("a time");
            assert!(time["found"].as_str().expect("text").starts_with("signed at 20"), "{time}");
        } else {
            assert_eq!(kind(verify(&world.place, &image, ["-o", "json"])), "time");
            denied(world.ask(&image), &["with a timestamp by a trusted authority", "no timestamp that holds"]);
        }
    }
    // By an authority that the policy does not believe, it is none.
    let image = world.push("strange");
    world.sign(&image, 1, true, &["--format", "tag"], &json!({}));
    let mut root: Value = serde_json::from_str(&world.sigstore.trusted_root()).expect("JSON");
    let other: Value = serde_json::from_str(&Sigstore::start().trusted_root()).expect("JSON");
    root["timestampAuthorities"] = other["timestampAuthorities"].clone();
    std::fs::write(world.place.beside("root.json"), root.to_string()).expect("written");
    world.policy(&without(keyless(), "log"), &json!({}));
    world.ask(&image).code(0);
    world.policy(&demand(), &json!({}));
    denied(world.ask(&image), &["no timestamp that holds"]);
}

#[test]
fn a_key_s_signature_needs_its_timestamp_as_well() {
    let world = World::new();
    let demand = |member: &str, value: Value| with(json!({"functionaries": [{"key": "image"}]}), member, value);
    let (bare, stamped) = (world.push("bare"), world.push("stamped"));
    let (sign, tsa) = (["image", "sign", "--key", "c.key", "--log", "none"], world.sigstore.tsa());
    world.place.affiant(sign).with([&bare]).run().code(0);
    world.place.affiant(sign).with(["--timestamp-servers", &tsa, &stamped]).run().code(0);
    world.policy(&demand("timestamp", json!("required")), &json!({}));
    denied(world.ask(&bare), &["with a timestamp by a trusted authority", "it has no timestamp"]);
    world.ask(&stamped).code(0);
    world.policy(&demand("timestampConstraint", json!({"maxAge": "1d"})), &json!({}));
    denied(world.ask(&bare), &["signed at most 24", "nothing proves when"]);
    world.ask(&stamped).code(0);
}

#[test]
fn an_image_must_have_been_signed_at_a_time_that_the_policy_allows() {
    let world = World::new();
    let image = world.push("v1");
    world.sign(&image, 1, true, &["--format", "tag"], &json!({}));
    for (window, expected) in [
        (json!({"notBefore": "2026-01-01T00:00:00Z", "maxAge": "2h"}), None),
        (json!({"notAfter": "2099-01-01T00:00:00Z"}), None),
        (json!({"notBefore": "2099-01-01T00:00:00Z"}), Some("signed not before 2099-01-01T00:00:00Z")),
        (json!({"notAfter": "2020-01-01T00:00:00Z"}), Some("signed not after 2020-01-01T00:00:00Z")),
    ] {
        world.policy(&with(keyless(), "timestampConstraint", window), &json!({}));
        match expected {
            None => assert!(world.ask(&image).code(0).stdout_text().starts_with("PASSED")),
            Some(expected) => {
                assert_eq!(kind(verify(&world.place, &image, ["-o", "json"])), "time");
                // What was found says when, and by whose word.
                denied(world.ask(&image), &[expected, "(images.functionaries)", "signed by ", " at 20"]);
            }
        }
    }
    // As judged at another time it is too old.
    world.policy(&with(keyless(), "timestampConstraint", json!({"maxAge": "2h"})), &json!({}));
    world.ask(&image).code(0);
    denied(verify(&world.place, &image, ["--at", "2099-01-01T00:00:00Z"]), &["at most 2"]);
}

#[test]
fn an_image_is_signed_by_the_very_job_that_built_it() {
    let mut world = World::new();
    world.built = Built::of("of a job", "amd64");
    let issuer = Issuer::start("gitlab", Lies::default());
    let variables = issuer.variables("gitlab");
    build_with(&world.place, &world.built, "oci,gitlab", "../a.json", |call| {
        variables.iter().fold(call, |call, (name, value)| call.env(name, value))
    });
    let (project, job) = (variables["CI_PROJECT_URL"].as_str(), variables["CI_JOB_URL"].as_str());
    let commit = variables["CI_COMMIT_SHA"].as_str();
    let ask = |image: &str| verify(&world.place, image, ["-a", "../a.json"]);
    let claims = |repository: &str, commit: &str, job: &str| json!({"source_repository": repository, "source_commit": commit, "job_url": job});
    let other = "b".repeat(40);
    let elsewhere = format!("{project}-of-another");
    for (number, (claims, parts)) in [
        (claims(project, commit, job), None),
        (claims(&elsewhere, commit, job), Some(["repository", elsewhere.as_str(), project])),
        (claims(project, &other, job), Some(["commit", other.as_str(), commit])),
        (claims(project, commit, &format!("{job}9")), Some(["run", "9`", job])),
        (json!({}), Some(["a certificate that names the repository", "SourceRepositoryURI", "has no"])),
    ]
    .into_iter()
    .enumerate()
    {
        let image = world.push(&format!("v{number}"));
        world.sign(&image, 1, true, &["--format", "tag"], &claims);
        world.policy(&keyless(), &json!({}));
        ask(&image).code(0);
        let all = json!(["repository", "commit", "run"]);
        world.policy(&with(keyless(), "certificateMatches", all), &json!({}));
        match parts {
            None => assert!(ask(&image).code(0).stdout_text().starts_with("PASSED")),
            Some(parts) => denied(ask(&image), &[&parts[..], &["(images.certificateMatches)"]].concat()),
        }
    }
    // One signature of the right job is enough, whatever lies beside it.
    let image = world.push("both");
    world.sign(&image, 1, true, &["--format", "tag"], &claims(project, &other, job));
    denied(ask(&image), &[&other, "(images.certificateMatches)"]);
    world.sign(&image, 1, true, &["--format", "tag"], &claims(project, commit, job));
    ask(&image).code(0);
    // A key has no certificate that could say it.
    world.policy(&json!({"functionaries": [{"key": "image"}], "certificateMatches": ["commit"]}), &json!({}));
    world.place.affiant(["image", "sign", "--key", "c.key", &image]).run().code(0);
    denied(ask(&image), &["signed by the key", "which has no certificate"]);
    // Of an index, each image is asked for.
    let digest = world.built.push(&world.registry, None, None, 6);
    index(&world.registry, "many", &[(&digest, "linux/amd64")]);
    let many = format!("{}/team/app:many", world.registry.host());
    world.policy(&with(keyless(), "certificateMatches", json!(["commit"])), &json!({}));
    world.sign(&many, 1, true, &["--format", "tag"], &claims(project, &other, job));
    denied(ask(&many), &[&other, commit, "(images.certificateMatches)"]);
    world.sign(&many, 1, true, &["--format", "tag"], &claims(project, commit, job));
    ask(&many).code(0);
}

#[test]
fn policy_init_says_who_signs_images() {
    let world = World::new();
    let init = |more: &[&str]| {
        let args = ["policy", "init", "--from", "../a.json", "--key", "../k.pub", "-o", "../policy.yaml"];
        world.place.affiant(args).with(["--expires", "2100-01-01"]).with(more).run()
    };
    let sign_policy = || {
        let args = ["policy", "sign", "../policy.yaml", "-o", "../policy.signed.json", "-k", "../policy.pem"];
        world.place.affiant(["policy", "check", "../policy.yaml"]).run().code(0);
        world.place.affiant(args).run().code(0);
    };
    let place = format!("{}/team/*", world.registry.host());
    init(&["--image-key", "c.pub", "--image-name", &place]).code(0);
    sign_policy();
    let image = world.push("by-key");
    denied(world.ask(&image), &["a signature of the image by key", "(images.functionaries)"]);
    world.place.affiant(["image", "sign", "--key", "other.key", &image]).run().code(0);
    denied(world.ask(&image), &["a signature of the image by key", "(images.functionaries)"]);
    world.place.affiant(["image", "sign", "--key", "c.key", &image]).run().code(0);
    world.ask(&image).code(0);
    init(&["--image-key", "c.pub", "--image-name", "elsewhere.example/*"]).code(0);
    sign_policy();
    denied(world.ask(&image), &["elsewhere.example/*", "(images.names)"]);

    // By an identity: all that it takes is asked for.
    init(&["--image-identity", IDENTITY]).code(2);
    let who = ["--image-identity", IDENTITY, "--image-issuer", ISSUER];
    init(&who).code(2).stderr_has(&["whose certificates and times", "--trusted-root FILE"]);
    let root = ["--trusted-root", "../root.json"];
    init(&[&["--image-identity", "gitlab", "--image-issuer", ISSUER], &root[..]].concat())
        .code(2)
        .stderr_has(&["neither a URI nor an e-mail"]);
    init(&[&who[..], &root].concat()).code(0);
    sign_policy();
    let image = world.push("by-identity");
    let other = json!({"ci_config_ref_uri": "gitlab.example/evil/app//.gitlab-ci.yml@refs/heads/main"});
    world.sign(&image, 1, true, &["--format", "tag"], &other);
    denied(world.ask(&image), &[IDENTITY, "gitlab.example/evil/app"]);
    world.sign(&image, 1, true, &["--format", "tag"], &json!({}));
    world.ask(&image).code(0);
    // The key of the build is named once, by whichever name.
    init(&["--image-key", "../k.pub"]).code(0);
    let source = std::fs::read_to_string(world.place.beside("policy.yaml")).expect("written");
    assert_eq!(source.matches("# key id ").count(), 1, "{source}");
}
