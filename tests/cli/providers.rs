//! Attestors of CI providers, against a provider on this machine.

use serde_json::{Value, json};

use super::harness::{Call, Place};
use super::issuer::{Issuer, Lies, PERMISSION, jwk, new_pair, response};

/// `affiant run` in a job of the provider.
fn job(place: &Place, issuer: &Issuer, provider: &str) -> Call {
    let call = place.capture(["-s", "build"]);
    issuer.variables(provider).iter().fold(call, |call, (name, value)| call.env(name, value))
}

/// No token and no permission stands in what was written or shown.
#[track_caller]
fn nothing_leaks(place: &Place, issuer: &Issuer, shown: &[String]) {
    let mut secrets = issuer.tokens();
    secrets.push(PERMISSION.to_owned());
    // A part of a token is one too: the signature makes it.
    secrets.extend(issuer.tokens().iter().filter_map(|token| Some(token.rsplit_once('.')?.1.to_owned())));
    for secret in &secrets {
        for text in shown {
            assert!(!text.contains(secret), "{text}");
        }
        for (path, bytes) in place.everything_written() {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds a secret", path.display());
        }
    }
}

fn subjects_of<'a>(statement: &'a Value, kind: &str) -> Vec<&'a str> {
    let list = statement["subject"].as_array().expect("a list").iter();
    list.filter_map(|subject| subject["name"].as_str()).filter(|name| name.contains(kind)).collect()
}

#[test]
fn a_github_job_is_proven_by_its_token() {
    let place = Place::new();
    let issuer = Issuer::start("github", Lies::default());
    let ended = job(&place, &issuer, "github").with(["--", "sh", "-c", "env >../child"]).run().code(0).stdout("");
    let shown = [ended.stderr_text()];
    let predicate = place.predicate("/github/v0.1");
    let server = issuer.url();
    assert_eq!(predicate["affiant"], json!({"verified": true}), "{}", shown[0]);
    assert_eq!(predicate["jwt"]["claims"]["repository"], "octo-org/octo-repo");
    assert_eq!(predicate["jwt"]["claims"]["aud"], "affiant");
    assert_eq!(predicate["jwt"]["verifiedBy"]["jwksUrl"], format!("{server}/_services/token/keys"));
    assert_eq!(predicate["jwt"]["verifiedBy"]["jwk"]["kid"], "key-1");
    assert_eq!(predicate["pipelineurl"], format!("{server}/octo-org/octo-repo/actions/runs/6789012345"));
    assert_eq!(predicate["projecturl"], format!("{server}/octo-org/octo-repo"));
    assert_eq!(predicate["cihost"], server.trim_start_matches("http://"));
    let pipeline = format!("pipelineurl:{server}/octo-org/octo-repo/actions/runs/6789012345");
    let statement = place.statement();
    assert_eq!(
        subjects_of(&statement, "pipelineurl:"),
        [format!("https://witness.dev/attestations/github/v0.1/{pipeline}")]
    );
    assert_eq!(subjects_of(&statement, "projecturl:").len(), 1);
    let backrefs = statement["predicate"]["backrefs"].as_object().expect("back-references");
    assert!(backrefs.keys().any(|name| name.ends_with(&pipeline)), "{backrefs:?}");
    // Our audience was asked for, once, and the keys of the issuer.
    let asked = issuer.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[0].ends_with("?api-version=2.0&audience=affiant"), "{asked:?}");
    // Security rule 2: the command cannot ask for a token.
    let child = std::fs::read_to_string(place.beside("child")).expect("the command ran");
    assert!(!child.contains("ACTIONS_ID_TOKEN_REQUEST") && !child.contains(PERMISSION), "{child}");
    assert!(child.contains("GITHUB_RUN_ID=6789012345"));
    std::fs::remove_file(place.beside("child")).expect("removes");
    nothing_leaks(&place, &issuer, &shown);
}

#[test]
fn a_gitlab_job_is_proven_by_its_token() {
    let place = Place::new();
    let issuer = Issuer::start("gitlab", Lies::default());
    let token = issuer.variables("gitlab")["AFFIANT_ID_TOKEN"].clone();
    let call = job(&place, &issuer, "gitlab").env("AFFIANT_ID_TOKEN", &token).env("COPY", &token);
    let ended = call.with(["--", "sh", "-c", "env >../child"]).run().code(0).stdout("");
    let predicate = place.predicate("/gitlab/v0.1");
    let server = issuer.url();
    assert_eq!(predicate["affiant"], json!({"verified": true}), "{}", ended.stderr_text());
    assert_eq!(predicate["jwt"]["claims"]["project_path"], "my-group/my-project");
    assert_eq!(predicate["jwt"]["verifiedBy"]["jwksUrl"], format!("{server}/keys"));
    assert_eq!(predicate["jobimage"], "docker:cli");
    let statement = place.statement();
    for kind in ["pipelineurl:", "joburl:", "projecturl:"] {
        assert_eq!(subjects_of(&statement, kind).len(), 1, "{kind}");
    }
    let backrefs = statement["predicate"]["backrefs"].as_object().expect("back-references");
    assert!(backrefs.keys().all(|name| name.contains("/gitlab/v0.1/pipelineurl:")), "{backrefs:?}");
    let child = std::fs::read_to_string(place.beside("child")).expect("the command ran");
    assert!(!child.contains(&token), "neither under its own name nor another");
    std::fs::remove_file(place.beside("child")).expect("removes");
    nothing_leaks(&place, &issuer, &[ended.stderr_text()]);
}

#[test]
fn without_a_token_the_variables_stand_alone_and_unverified() {
    let place = Place::new();
    for (provider, token, reason) in [
        ("github", "ACTIONS_ID_TOKEN_REQUEST_URL", "the job needs `permissions: id-token: write`"),
        ("github", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the job needs `permissions: id-token: write`"),
        ("gitlab", "AFFIANT_ID_TOKEN", "the job needs `id_tokens: { AFFIANT_ID_TOKEN: { aud: affiant } }`"),
        ("jenkins", "NOTHING", "Jenkins itself gives a build no identity token"),
    ] {
        let issuer = if provider == "jenkins" { None } else { Some(Issuer::start(provider, Lies::default())) };
        let call = match &issuer {
            Some(issuer) => job(&place, issuer, provider),
            None => super::issuer::fixture("jenkins/environment.json")
                .as_object()
                .expect("variables")
                .iter()
                .fold(place.capture(["-s", "build"]), |call, (name, value)| {
                    call.env(name, value.as_str().expect("text"))
                }),
        };
        let ended = call.env_remove(token).with(["-a", provider, "--", "true"]).run().code(0).stdout("");
        let stderr = ended.stderr_text();
        assert!(stderr.contains(&format!("affiant: note: {provider}: the variables")), "{stderr}");
        assert!(stderr.contains(reason) && !stderr.contains("gap"), "{stderr}");
        let predicate = place.predicate(&format!("/{provider}/v0.1"));
        assert_eq!(predicate["affiant"]["verified"], false);
        assert!(predicate["affiant"]["reason"].as_str().expect("a reason").contains(reason), "{predicate}");
        assert!(predicate.get("jwt").is_none());
        assert!(predicate["pipelineurl"].as_str().is_some_and(|url| url.contains("://")), "{predicate}");
        assert_eq!(place.statement()["predicate"]["gaps"], Value::Null);
        assert!(issuer.is_none_or(|issuer| issuer.asked().is_empty()));
    }
}

/// What comes of a job whose provider lies: unverified variables, a gap with this reason, and no secret anywhere.
#[track_caller]
fn unproven(provider: &str, lies: Lies, reason: &str) {
    let place = Place::new();
    let issuer = Issuer::start(provider, lies);
    let limit = ["--attestor-time-limit", "4s"];
    let ended =
        job(&place, &issuer, provider).with(limit).with(["-a", provider, "--", "true"]).run().code(125).stdout("");
    let stderr = ended.stderr_text();
    assert!(stderr.contains(&format!("affiant: gap: {provider}: ")) && stderr.contains(reason), "{reason}: {stderr}");
    let predicate = place.predicate(&format!("/{provider}/v0.1"));
    assert_eq!(predicate["affiant"]["verified"], false, "{reason}");
    assert!(predicate["affiant"]["reason"].as_str().is_some_and(|text| text.contains(reason)), "{predicate}");
    assert!(predicate.get("jwt").is_none());
    nothing_leaks(&place, &issuer, &[stderr]);
    // Nobody named it: then it is a note, and the run passes.
    let ended = job(&place, &issuer, provider).with(limit).with(["--", "true"]).run().code(0).stdout("");
    assert!(ended.stderr_text().contains(reason));
}

#[test]
fn tokens_that_do_not_hold_prove_nothing() {
    let claims = |claims: Value| Lies { claims, ..Lies::default() };
    for provider in ["github", "gitlab"] {
        unproven(provider, claims(json!({"exp": 1_700_000_000})), "the token expired at 2023-11-14");
        unproven(provider, claims(json!({"aud": "sigstore"})), "for the audience `sigstore`, and not for `affiant`");
        unproven(provider, claims(json!({"iss": "https://ci.example.com"})), "by the issuer `https://ci.example.com`");
        unproven(provider, claims(json!({"nbf": 9_000_000_000_i64})), "is this machine's clock right?");
        unproven(provider, Lies { algorithm: Some("none"), ..Lies::default() }, "is not signed");
        unproven(provider, Lies { algorithm: Some("HS256"), ..Lies::default() }, "a shared secret");
    }
}

#[test]
fn issuers_that_lie_prove_nothing() {
    let keys = |keys: Value| Lies { keys: Some(keys), ..Lies::default() };
    let stranger = jwk(&new_pair(), "key-1");
    unproven("github", keys(json!({"keys": [stranger]})), "the token's signature does not hold");
    unproven("gitlab", keys(json!({"keys": []})), "none of the issuer's keys is the token's");
    let many: Vec<_> = (0..10_000).map(|number| json!({"kty": "RSA", "kid": format!("{number}")})).collect();
    unproven("github", keys(json!({"keys": many})), "lists 10000 keys, more than 128");
    let answer = |part: &'static str, answer: Vec<u8>| Lies { answers: [(part, answer)].into(), ..Lies::default() };
    unproven("gitlab", answer("/keys", response("200 OK", &" ".repeat(600_000))), "more than 524288 bytes");
    unproven("github", answer("/openid-configuration", response("200 OK", "<html>")), "is no JSON object");
    let elsewhere = json!({"issuer": "https://ci.example.com", "jwks_uri": "https://ci.example.com/keys"});
    let elsewhere = response("200 OK", &elsewhere.to_string());
    unproven("gitlab", answer("/openid-configuration", elsewhere), "is that of the issuer `https://ci.example.com`");
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: https://ci.example.com/keys\r\ncontent-length: 0\r\n\r\n";
    unproven("github", answer("/keys", redirect.to_vec()), "redirects are not followed");
    unproven("github", answer("/keys", Vec::new()), "/_services/token/keys: does not answer in time");
}

#[test]
fn services_for_tokens_that_misbehave_give_none() {
    let answer = |answer: Vec<u8>| Lies { answers: [("/idtoken/", answer)].into(), ..Lies::default() };
    unproven("github", answer(response("401 Unauthorized", "")), "it does not permit the question");
    unproven("github", answer(response("200 OK", "{\"count\": 0}")), "gives no token");
    unproven("github", answer(response("200 OK", "{\"value\": \"hello\"}")), "no JSON Web Token");
    unproven("github", answer(response("200 OK", &"x".repeat(200_000))), "more than 131072 bytes");
    let redirect = b"HTTP/1.1 307 Moved\r\nlocation: https://ci.example.com/\r\ncontent-length: 0\r\n\r\n";
    unproven("github", answer(redirect.to_vec()), "redirects are not followed");
}

#[test]
fn variables_that_contradict_the_token_are_no_evidence() {
    for (provider, name, value) in [
        ("github", "GITHUB_RUN_ID", "1"),
        ("github", "GITHUB_REPOSITORY", "octo-org/other"),
        ("gitlab", "CI_JOB_ID", "1"),
        ("gitlab", "CI_PIPELINE_URL", "http://127.0.0.1:1/other/-/pipelines/1212"),
        ("gitlab", "CI_PROJECT_URL", "https://ci.example.com/my-group/my-project"),
    ] {
        let place = Place::new();
        let issuer = Issuer::start(provider, Lies::default());
        let call = job(&place, &issuer, provider).env(name, value);
        let ended = call.with(["-a", provider, "--", "true"]).run().code(125).stdout("");
        let ended = ended.stderr_has(&[&format!("{name} is `{value}`"), "the variables are not the job's"]);
        let attestations = place.statement()["predicate"]["attestations"].to_string();
        assert!(!attestations.contains(&format!("/{provider}/v0.1")), "{attestations}");
        nothing_leaks(&place, &issuer, &[ended.stderr_text()]);
    }
}

#[test]
fn variables_set_by_hand_are_unverified() {
    let place = Place::new();
    let call = place.capture(["-s", "build"]).env("GITHUB_ACTIONS", "true").env("GITLAB_CI", "true");
    let call = call.env("JENKINS_URL", "https://jenkins.example.com/").env("CI_PIPELINE_URL", "https://x.test/1");
    call.with(["--", "true"]).run().code(0).stdout("").stderr_has(&[
        "note: github: the variables",
        "note: gitlab:",
        "note: jenkins:",
    ]);
    for provider in ["github", "gitlab", "jenkins"] {
        let predicate = place.predicate(&format!("/{provider}/v0.1"));
        assert_eq!(predicate["affiant"]["verified"], false, "{provider}");
        assert!(predicate["projecturl"].as_str().unwrap_or_default().is_empty());
    }
    // What is empty is no subject, and two providers at once are two attestations.
    let statement = place.statement();
    assert_eq!(subjects_of(&statement, "projecturl:"), [""; 0]);
    assert_eq!(subjects_of(&statement, "pipelineurl:").len(), 1);
    // Outside of them nothing runs by default, and naming one finds nothing.
    place.capture(["-s", "build", "--", "true"]).run().code(0);
    assert!(!place.statement().to_string().contains("/github/v0.1"));
    for (provider, why) in
        [("github", "GITHUB_ACTIONS is not"), ("gitlab", "GITLAB_CI is not"), ("jenkins", "JENKINS_URL is not set")]
    {
        let ended = place.capture(["-s", "build", "-a", provider, "--", "true"]).run().code(125);
        ended.stderr_has(&[&format!("gap: {provider}: nothing to attest: {why}")]);
    }
}

#[test]
fn two_providers_at_once_are_proven_each_by_its_own() {
    let place = Place::new();
    let (github, gitlab) = (Issuer::start("github", Lies::default()), Issuer::start("gitlab", Lies::default()));
    let call = job(&place, &github, "github");
    let call = gitlab.variables("gitlab").iter().fold(call, |call, (name, value)| call.env(name, value));
    call.with(["--", "true"]).run().code(0).stdout("");
    for (provider, issuer) in [("github", &github), ("gitlab", &gitlab)] {
        let predicate = place.predicate(&format!("/{provider}/v0.1"));
        assert_eq!(predicate["affiant"]["verified"], true, "{provider}");
        assert!(predicate["jwt"]["verifiedBy"]["jwksUrl"].as_str().is_some_and(|url| url.starts_with(&issuer.url())));
    }
}

#[test]
fn offline_and_the_plan_ask_nobody() {
    let place = Place::new();
    let issuer = Issuer::start("github", Lies::default());
    job(&place, &issuer, "github").with(["--offline", "--", "true"]).run().code(0).stderr_has(&["--offline was given"]);
    assert_eq!(place.predicate("/github/v0.1")["affiant"]["verified"], false);
    let plan = job(&place, &issuer, "github").with(["--plan", "--", "true"]).run().code(0).stderr("").stdout_text();
    assert!(plan.contains("github       before  GITHUB_ACTIONS is `true`\n"), "{plan}");
    let call = job(&place, &issuer, "github").env_remove("ACTIONS_ID_TOKEN_REQUEST_URL");
    let plan = call.with(["--plan", "--", "true"]).run().code(0).stderr("").stdout_text();
    assert!(plan.contains("GITHUB_ACTIONS is `true`; the variables of the job will not be verified: "), "{plan}");
    assert_eq!(issuer.asked(), [""; 0]);
}

#[test]
fn what_permits_tokens_is_given_back_only_by_name() {
    let place = Place::new();
    let issuer = Issuer::start("github", Lies::default());
    let keep = ["--child-env-keep", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"];
    job(&place, &issuer, "github").with(keep).with(["--", "sh", "-c", "env >../child"]).run().code(0);
    let child = std::fs::read_to_string(place.beside("child")).expect("the command ran");
    assert!(child.contains(PERMISSION) && !child.contains("REQUEST_URL"), "{child}");
    // Where the attestor does not run, its variables are the command's.
    job(&place, &issuer, "github").with(["-a", "environment", "--", "sh", "-c", "env >../child"]).run().code(0);
    let child = std::fs::read_to_string(place.beside("child")).expect("the command ran");
    assert!(child.contains(PERMISSION) && child.contains("REQUEST_URL"), "{child}");
}

#[test]
fn the_issuer_of_an_enterprise_stands_below_the_common_one() {
    let place = Place::new();
    let claims = |issuer: &str| Lies { claims: json!({ "iss": issuer }), ..Lies::default() };
    let issuer = Issuer::start("github", claims("[SERVER]/_services/token/acme"));
    job(&place, &issuer, "github").with(["--", "true"]).run().code(0);
    let predicate = place.predicate("/github/v0.1");
    let keys = format!("{}/_services/token/acme/keys", issuer.url());
    assert_eq!(predicate["jwt"]["verifiedBy"]["jwksUrl"], keys, "{}", predicate["affiant"]);
    for other in
        ["[SERVER]/_services/token/acme/b", "[SERVER]/_services/token/", "[SERVER]/_services/tokens", "[SERVER]"]
    {
        let issuer = Issuer::start("github", claims(other));
        job(&place, &issuer, "github").with(["--", "true"]).run().code(0).stderr_has(&["the token is by the issuer"]);
        assert_eq!(place.predicate("/github/v0.1")["affiant"]["verified"], false, "{other}");
    }
}

/// The options of the attestor `jwt`.
fn jwt_options(issuer: &str) -> [String; 5] {
    [
        "-a=environment,jwt".to_owned(),
        "--attestor-jwt-token-variable=BUILD_PASSPORT".to_owned(),
        format!("--attestor-jwt-issuer={issuer}"),
        "--attestor-jwt-audience=gate".to_owned(),
        "--".to_owned(),
    ]
}

#[test]
fn any_token_is_proven_whose_issuer_is_named() {
    let place = Place::new();
    let issuer = Issuer::start("jwt", Lies::default());
    let server = issuer.url();
    let token = issuer.token("gate", &server);
    let run = |token: &str| place.capture(["-s", "build"]).env("BUILD_PASSPORT", token).with(jwt_options(&server));
    let ended = run(&token).with(["sh", "-c", "env; env >../child"]).run().code(0);
    let predicate = place.predicate("/jwt/v0.1");
    assert_eq!(predicate["claims"]["build_number"], 27);
    assert_eq!(predicate["verifiedBy"]["jwksUrl"], format!("{server}/keys"));
    // A secret whatever its name says: masked in the evidence, and not the command's.
    assert_eq!(place.predicate("/environment/v0.1")["variables"]["BUILD_PASSPORT"], "******");
    let child = std::fs::read_to_string(place.beside("child")).expect("the command ran");
    assert!(!child.contains("BUILD_PASSPORT"), "{child}");
    nothing_leaks(&place, &issuer, &[ended.stderr_text(), ended.stdout_text()]);

    let other = issuer.token("other", &server);
    run(&other).with(["true"]).run().code(125).stderr_has(&["gap: jwt: BUILD_PASSPORT: the token is for the audience"]);
    run("not a token").with(["true"]).run().code(125).stderr_has(&["gap: jwt: BUILD_PASSPORT: the token is no JSON"]);
    let call = place.capture(["-s", "build"]).with(jwt_options(&server)).with(["true"]);
    call.run().code(125).stderr_has(&["gap: jwt: nothing to attest: BUILD_PASSPORT is not set"]);
    // By a key set at another place, which is named too.
    let jwks = format!("--attestor-jwt-jwks-url={server}/elsewhere/keys");
    let mut options = jwt_options(&server).to_vec();
    options.insert(1, jwks);
    place.capture(["-s", "build"]).env("BUILD_PASSPORT", &token).with(options).with(["true"]).run().code(0);
    assert_eq!(place.predicate("/jwt/v0.1")["verifiedBy"]["jwksUrl"], format!("{server}/elsewhere/keys"));
    // What is missing is said before anything runs.
    let call = place.capture(["-s", "build", "-a", "jwt", "--", "sh", "-c", "touch ../ran"]);
    call.run().code(125).stderr_has(&["attestor jwt: missing field `token_variable`"]);
    assert!(!place.beside("ran").exists());
}

/// The evidence of a provider's attestor, what changes from run to run replaced.
fn normal(place: &Place, issuer: &Issuer, provider: &str) -> Value {
    let kind = format!("https://witness.dev/attestations/{provider}/v0.1");
    let statement = place.statement();
    let mut predicate = place.predicate(&kind);
    if let Some(claims) = predicate.pointer_mut("/jwt/claims").and_then(Value::as_object_mut) {
        for name in ["iat", "nbf", "exp"] {
            claims[name] = json!(0);
        }
        predicate["jwt"]["verifiedBy"]["jwk"]["n"] = json!("[KEY]");
    }
    let names = |list: Vec<&str>| -> Vec<String> {
        list.into_iter().filter_map(|name| Some(name.strip_prefix(&kind)?.trim_start_matches('/').to_owned())).collect()
    };
    let backrefs = statement["predicate"]["backrefs"].as_object().map(|map| map.keys().map(String::as_str).collect());
    let pieces = json!({
        "predicateType": kind,
        "predicate": predicate,
        "subjects": names(subjects_of(&statement, "")),
        "backReferences": names(backrefs.unwrap_or_default()),
    });
    let host = issuer.url().trim_start_matches("http://").to_owned();
    let text = json!({ "pieces": [pieces] }).to_string().replace(&issuer.url(), "[SERVER]").replace(&host, "[HOST]");
    serde_json::from_str(&text).expect("JSON")
}

/// `fixtures/<provider>/<case>/expected.json`, written anew with `AFFIANT_BLESS=1`.
#[test]
fn evidence_is_as_it_was() {
    for (provider, case, offline) in [
        ("github", "proven", false),
        ("github", "unverified", true),
        ("gitlab", "proven", false),
        ("gitlab", "unverified", true),
        ("jenkins", "unverified", true),
        ("jwt", "proven", false),
    ] {
        let place = Place::new();
        let issuer = Issuer::start(if provider == "jenkins" { "jwt" } else { provider }, Lies::default());
        let call = if provider == "jwt" {
            let token = issuer.token("gate", &issuer.url());
            place.capture(["-s", "build"]).env("BUILD_PASSPORT", token).with(jwt_options(&issuer.url()))
        } else {
            let offline: &[&str] = if offline { &["--offline"] } else { &[] };
            job(&place, &issuer, provider).with(offline).with(["-a", provider, "--"])
        };
        call.with(["true"]).run().code(0).stdout("");
        let found = normal(&place, &issuer, provider);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(provider).join(case);
        let path = folder.join("expected.json");
        if std::env::var_os("AFFIANT_BLESS").is_some() {
            std::fs::create_dir_all(&folder).expect("makes a folder");
            std::fs::write(&path, format!("{found:#}\n")).expect("writes");
        }
        let expected: Value = serde_json::from_slice(&std::fs::read(&path).expect("a fixture")).expect("JSON");
        assert_eq!(found, expected, "{provider}/{case}");
    }
}

/// The kept evidence of providers (`fixtures/samples`); `AFFIANT_SAMPLES=1` makes it anew.
#[test]
fn kept_evidence_of_providers_names_its_job() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for (provider, name) in [("github", "repository"), ("gitlab", "project_path")] {
        let folder = root.join("samples").join(provider);
        if std::env::var_os("AFFIANT_SAMPLES").is_some() {
            let place = Place::without_key();
            let issuer = Issuer::start(provider, Lies::default());
            let args = ["run", "-k", "../k.pem", "-s", "docker-build", "-o", "../evidence.json", "-a", provider, "--"];
            let line = ["sh", "-c", "echo hello >app.txt"];
            std::fs::copy(root.join("keys/functionary.pem"), place.beside("k.pem")).expect("copies");
            let call = place.affiant(args).with(line);
            let call = issuer.variables(provider).iter().fold(call, |call, (name, value)| call.env(name, value));
            call.run().code(0);
            std::fs::create_dir_all(&folder).expect("makes a folder");
            std::fs::copy(place.beside("evidence.json"), folder.join("evidence.json")).expect("copies");
            std::fs::copy(place.work().join("app.txt"), folder.join("app.txt")).expect("copies");
            std::fs::copy(root.join("keys/functionary.pub"), folder.join("functionary.pub")).expect("copies");
            let command = "affiant run -k functionary.pem -s docker-build -o evidence.json";
            let command = format!("{command} -a {provider} -- sh -c 'echo hello >app.txt'\n");
            std::fs::write(folder.join("command"), command).expect("writes");
        }
        let place = Place::without_key();
        let public = folder.join("functionary.pub");
        let evidence = folder.join("evidence.json");
        place.affiant(["inspect".as_ref(), "--key".as_ref(), public.as_os_str(), evidence.as_os_str()]).run().code(0);
        let statement = super::harness::statement_of(&evidence);
        let entries = statement["predicate"]["attestations"].as_array().expect("a list");
        let kind = format!("https://witness.dev/attestations/{provider}/v0.1");
        let entry = entries.iter().find(|entry| entry["type"] == kind.as_str()).expect("the provider's");
        let claims = super::issuer::fixture(&format!("{provider}/claims.json"));
        assert_eq!(entry["attestation"]["jwt"]["claims"][name], claims[name]);
        assert_eq!(entry["attestation"]["affiant"]["verified"], true);
    }
}
