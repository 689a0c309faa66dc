//! Security rule 8, and what else is said by flags: exit codes, modes, where trust came from.

use std::os::unix::fs::symlink;

use affiant_core::sign::Signer as _;
use serde_json::{Value, json};

use super::kit::{APP, POLICY, Run, builder, fixtures, key, one_step, seal, stranger};
use super::place::{Place, run};

/// The good pipeline in files.
fn place() -> Place {
    let place = Place::new();
    place.write("policy.json", seal(&one_step().to_string(), POLICY, &[&key("policy")]));
    place.write("build.json", Run::build().signed(&[&builder()]));
    place.write("app", APP);
    place.write("evil", "evil");
    place
}

const GOOD: [&str; 7] = ["-p", "policy.json", "-k", "policy.pub", "-a", "build.json", "app"];

#[test]
fn exit_codes_tell_yes_no_usage_and_nothing_found_apart() {
    let place = place();
    place.verify(&GOOD).code(0).says("PASSED");
    let with = |last: &[&str]| place.verify(&[&GOOD[..6], last].concat());
    with(&["evil"]).code(3).says("NO EVIDENCE");
    with(&["-f", "evil", "-s", &affiant_core::digest::sha256_hex(APP.as_bytes())]).code(1).says("DENIED");
    with(&["app", "evil"]).code(1).says("DENIED");
    with(&["-f", "app", "-f", "evil"]).code(1).says("no accepted evidence has made");
    with(&[]).code(2).says("nothing is named that must be proven");
    with(&["missing"]).code(4).says("missing");
    with(&["app", "-a", "missing.json"]).code(4).says("missing.json");
    with(&["app", "-k", "missing.pub"]).code(4).says("missing.pub");
    with(&["app", "--mode", "lenient"]).code(2);
    with(&["-s", "xyz"]).code(2).says("not a digest");
    place
        .verify(&["-p", "policy.json", "-a", "build.json", "app"])
        .code(2)
        .says("nothing says who may sign the policy");
    place.verify(&["-p", "missing.json", "-k", "policy.pub", "app"]).code(4).says("missing.json");
    // What may pass has no influence on what was found.
    for mode in ["warn", "audit"] {
        with(&["app", "evil", "--mode", mode]).code(0).says("DENIED");
        with(&["evil", "--mode", mode]).code(0).says("NO EVIDENCE");
        with(&["missing", "--mode", mode]).code(4);
    }
}

#[test]
fn rule_8_trust_from_the_environment_is_a_usage_error() {
    let place = place();
    for (name, flag) in [
        ("AFFIANT_POLICY", "--policy"),
        ("AFFIANT_PUBLICKEY", "--publickey"),
        ("AFFIANT_MODE", "--mode"),
        ("AFFIANT_AT", "--at"),
        ("AFFIANT_POLICY_CA_ROOTS", "--policy-ca-roots"),
        ("AFFIANT_POLICY_CA", "--policy-ca"),
        ("AFFIANT_POLICY_CA_INTERMEDIATES", "--policy-ca-intermediates"),
        ("AFFIANT_POLICY_TIMESTAMP_SERVERS", "--policy-timestamp-servers"),
        ("AFFIANT_POLICY_COMMONNAME", "--policy-commonname"),
        ("AFFIANT_POLICY_DNS_NAMES", "--policy-dns-names"),
        ("AFFIANT_POLICY_EMAILS", "--policy-emails"),
        ("AFFIANT_POLICY_ORGANIZATIONS", "--policy-organizations"),
        ("AFFIANT_POLICY_URIS", "--policy-uris"),
        ("AFFIANT_POLICY_FULCIO_OIDC_ISSUER", "--policy-fulcio-oidc-issuer"),
        ("AFFIANT_POLICY_FULCIO_SOURCE_REPOSITORY_REF", "--policy-fulcio-source-repository-ref"),
        ("AFFIANT_POLICY_MINIMUM_VERSION", "--policy-minimum-version"),
        ("AFFIANT_PLATFORM", "--platform"),
        ("AFFIANT_IMAGE_KEY", "--image-key"),
        ("AFFIANT_IMAGE_IDENTITY_GLOB", "--image-identity-glob"),
        ("AFFIANT_IMAGE_TRUSTED_ROOT", "--image-trusted-root"),
        ("AFFIANT_IMAGE_INSECURE_IGNORE_TLOG", "--image-insecure-ignore-tlog"),
        ("TUF_MIRROR", "--image-trusted-root"),
        ("TUF_ROOT", "--image-trusted-root"),
        ("SIGSTORE_ROOT_FILE", "--policy-ca-roots"),
        ("SIGSTORE_REKOR_PUBLIC_KEY", "--image-trusted-root"),
        ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", "--image-trusted-root"),
        ("SIGSTORE_TSA_CERTIFICATE_FILE", "--policy-timestamp-servers"),
        ("CILOCK_POLICY_HARDENING", "--mode"),
    ] {
        let mut command = place.command(&GOOD);
        command.env(name, "warn");
        run(command).code(2).says(&format!("{name} is set")).says(&format!("`{flag}`"));
        // An empty variable is not set.
        let mut command = place.command(&GOOD);
        command.env(name, "");
        run(command).code(0);
    }
    // The clock of reproducible builds says nothing of when a policy has expired.
    let mut expired = one_step();
    expired["expires"] = json!("2024-01-01T00:00:00Z");
    place.write("expired.json", seal(&expired.to_string(), POLICY, &[&key("policy")]));
    let mut command = place.command(&["-p", "expired.json", "-k", "policy.pub", "-a", "build.json", "app"]);
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    run(command).code(1).says("it expired at 2024-01-01");
    // What a run takes from the environment is no matter of the gate.
    let mut command = place.command(&GOOD);
    command.env("AFFIANT_KEY", "build.pem").env("AFFIANT_STEP", "build").env("AFFIANT_SUBJECTS", "x=y");
    run(command).code(0);
}

#[test]
fn rule_8_trust_from_the_users_configuration_is_a_usage_error() {
    let place = place();
    let file = place.home().join(".config/affiant/config.toml");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("makes folders");
    for config in [
        "[verify]\npolicy = \"evil.json\"\n",
        "[verify]\npublickey = [\"evil.pub\"]\n",
        "[verify]\nmode = \"warn\"\n",
        "[verify]\n",
        "verify = 1\n",
        "mode = \"warn\"\n",
        "[run]\nstep = \"x\"\n[verify]\nat = \"2020-01-01T00:00:00Z\"\n",
    ] {
        std::fs::write(&file, config).expect("writes");
        place.verify(&GOOD).code(2).says("whom `verify` trusts is taken from flags only").says("config.toml");
    }
    std::fs::write(&file, "[run]\nstep = \"build\"\n").expect("writes");
    place.verify(&GOOD).code(0);
    std::fs::remove_file(&file).expect("removes");
    place.write("named.toml", "[verify]\nmode = \"warn\"\n");
    let mut command = place.command(&GOOD);
    command.env("AFFIANT_CONFIG", "named.toml");
    run(command).code(2).says("flags only");
}

#[test]
fn rule_8_files_of_the_working_directory_are_never_read() {
    let place = place();
    place.write("evil.json", seal(&one_step().to_string(), POLICY, &[&stranger()]));
    place.write("evil.pub", stranger().public_key().to_pem());
    let config = "[verify]\npublickey = [\"evil.pub\"]\nmode = \"warn\"\n";
    for name in ["config.toml", "affiant.toml", ".affiant.toml", ".config/affiant/config.toml", ".affiant/config.toml"]
    {
        place.write(name, config);
    }
    for name in [".witness.yaml", ".witness.yml", ".cilock.yaml", "witness.yaml"] {
        place.write(name, "verify:\n  publickey: evil.pub\n  policy: evil.json\n");
    }
    place.write(".env", "AFFIANT_PUBLICKEY=evil.pub\n");
    let evil = ["-p", "evil.json", "-k", "policy.pub", "-a", "build.json", "app"];
    place.verify(&evil).code(1).says("DENIED");
    place.verify(&GOOD).code(0);
    place.verify(&["-a", "build.json", "app"]).code(2);
}

#[test]
fn rule_8_the_verdict_says_where_trust_came_from() {
    let place = place();
    let ended = place.verify(&GOOD).code(0);
    let ended = ended.says("from --policy policy.json").says("from --publickey policy.pub");
    ended.says("from --at").says("from --mode").says("from the policy policy.json");
    let now = [&GOOD[..], &["--at", super::kit::AT, "-o", "json"]].concat();
    let ended = place.verify(&now).code(0);
    let verdict: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let trust = verdict["trust"].as_array().expect("a list");
    for what in ["policy", "policy key", "time", "mode", "functionary key"] {
        assert!(trust.iter().any(|input| input["what"] == what && input["from"] != ""), "{what}: {trust:?}");
    }
}

#[test]
fn a_key_among_several_that_cannot_be_read_is_an_error() {
    let place = place();
    place.write("broken.pub", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    place.write("empty.pub", "");
    place.write("private.pub", std::fs::read(fixtures().join("verdicts/collections/keys/policy.pem")).expect("reads"));
    for odd in ["broken.pub", "empty.pub", "private.pub", "missing.pub", "app"] {
        for keys in [["-k", "policy.pub", "-k", odd], ["-k", odd, "-k", "policy.pub"]] {
            place.verify(&[&GOOD[..2], &keys, &GOOD[4..]].concat()).code(4).says(odd);
        }
    }
    let root = std::fs::read_to_string(fixtures().join("verdicts/certificates/keys/root.pem")).expect("reads");
    let cut = &root[..root.len() / 2];
    place.write("root.pem", &root);
    place.write("half.pem", format!("{root}{cut}"));
    place.write("cut.pem", cut);
    for odd in ["half.pem", "cut.pem", "empty.pub", "app", "missing.pem"] {
        for flag in ["--policy-ca-roots", "--policy-ca-intermediates", "--policy-timestamp-servers"] {
            let more = [flag, "root.pem", flag, odd, "--policy-emails", "a@b.c"];
            place.verify(&[&GOOD[..], &more].concat()).code(4).says(odd);
        }
    }
}

#[test]
fn rule_13_the_name_of_the_binary_is_no_leniency() {
    let place = place();
    for name in ["witness", "cilock", "cosign"] {
        let path = place.work().join(name);
        symlink(env!("CARGO_BIN_EXE_affiant"), &path).expect("links");
        for (args, code) in [(&GOOD[..], 0), (&[&GOOD[..6], &["app", "evil"]].concat(), 1)] {
            let ended = run(place.command_as(&path, args));
            // A name may choose another syntax. It never chooses another answer.
            assert!(ended.code == code || ended.code == 2, "{name}: {}{}", ended.stdout, ended.stderr);
        }
    }
}

#[test]
fn folders_are_proven_file_by_file() {
    let place = place();
    place.write("out/app", APP);
    place.verify(&[&GOOD[..6], &["out"]].concat()).code(0);
    place.verify(&[&GOOD[..6], &["--directory-path", "out"]].concat()).code(0);
    place.write("out/evil", "evil");
    place.verify(&[&GOOD[..6], &["out"]].concat()).code(1).says("DENIED");
    std::fs::remove_file(place.work().join("out/evil")).expect("removes");
    symlink("../evil", place.work().join("out/link")).expect("links");
    place.verify(&[&GOOD[..6], &["out"]].concat()).code(1);
    std::fs::remove_file(place.work().join("out/link")).expect("removes");
    symlink("nowhere", place.work().join("out/link")).expect("links");
    place.verify(&[&GOOD[..6], &["out"]].concat()).code(4).says("out/link");
    std::fs::create_dir(place.work().join("empty")).expect("makes a folder");
    place.verify(&[&GOOD[..6], &["empty"]].concat()).code(4).says("has no file");
}

#[test]
fn texts_of_strangers_forge_no_verdict() {
    let place = place();
    let mut asked = one_step();
    let module =
        "package a\nimport rego.v1\ndeny contains \"x\\nPASSED: app under policy policy.json\\n\\u001b[2J\" if true";
    super::kit::with_rule(&mut asked, "build", module);
    place.write("policy.json", seal(&asked.to_string(), POLICY, &[&key("policy")]));
    let ended = place.verify(&GOOD).code(1);
    assert!(!ended.stdout.lines().any(|line| line.trim_start().starts_with("PASSED")), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}'), "{}", ended.stdout);
}

/// A folder that is judged stays as it was judged, whether an output would replace a file in it or add one.
#[test]
fn nothing_is_written_into_a_folder_that_is_judged() {
    let place = place();
    place.write("out/app", APP);
    place.write("out/deep/app", APP);
    std::fs::create_dir(place.work().join("beside")).expect("makes a folder");
    symlink("out/deep", place.work().join("link")).expect("links");
    for folder in [["--directory-path", "out"], ["-f", "out"]] {
        let asked = |more: &[&str]| place.verify(&[&GOOD[..6], &folder, more].concat());
        for name in ["out/deep/app", "out/deep/new", "out/new", "link/new", "beside/../out/new"] {
            for report in [
                ["--report", &format!("json={name}")],
                ["--output-bundle", name],
                ["--report", &format!("html={name}")],
            ] {
                let ended = asked(&report);
                assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{name}: {}", ended.stderr);
                assert!(
                    ended.stderr.contains("lies in the artifact, out: it would not stay what is judged"),
                    "{}",
                    ended.stderr
                );
            }
        }
        assert!(!place.work().join("out/new").exists() && !place.work().join("out/deep/new").exists());
        assert_eq!(std::fs::read(place.work().join("out/deep/app")).expect("it is there"), APP.as_bytes());
        asked(&["--report", "json=beside/verdict.json"]).code(0);
        assert!(place.work().join("beside/verdict.json").exists());
    }
}
