//! The distribution protocol, against a registry on this machine.

#[path = "../../../tests/cli/registry.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod registry;

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use affiant_core::image::manifest::{EMPTY, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST};
use affiant_core::image::{At, Descriptor, Digest, Manifest, Put, Repository, RepositoryError};
use affiant_remote::http::{Client, Settings};
use affiant_remote::registry::{Credential, Credentials, Registries};
use registry::{Asked, Door, PASSWORD, Registry, Said, USER};

fn hasty() -> Settings {
    Settings { keep: true, whole: Duration::from_secs(2), ..Settings::default() }
}

fn repository(registry: &Registry, name: &str, credentials: Credentials, chunk: Option<u64>) -> Box<dyn Repository> {
    let registries = Arc::new(Registries::new(Client::new(hasty()), credentials, Vec::new(), chunk));
    Box::new(registries.repository(&format!("{}/{name}", registry.host()).parse().expect("a name")))
}

fn open(registry: &Registry) -> Box<dyn Repository> {
    repository(registry, "team/app", Credentials::default(), None)
}

fn lying(lie: impl Fn(&Asked) -> Option<Said> + Send + Sync + 'static) -> Registry {
    Registry::with(Door::Open, true, Some(Box::new(lie)))
}

fn about(subject: &Descriptor, kind: &str) -> Vec<u8> {
    Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        artifact_type: Some(kind.to_owned()),
        config: Some(Descriptor::of(OCI_EMPTY, EMPTY)),
        layers: Some(vec![Descriptor::of(OCI_EMPTY, EMPTY)]),
        manifests: None,
        subject: Some(subject.clone()),
        annotations: None,
    }
    .to_json()
}

/// What can be done in an open registry can be done in one with a password and in one with tokens.
#[test]
fn everything_goes_through_each_door() {
    for door in [Door::Open, Door::Password, Door::Token, Door::Brief] {
        for chunk in [None, Some(7)] {
            let registry = Registry::with(door, true, None);
            let credentials = Credentials::given(
                &registry.host(),
                Credential::Password { user: USER.to_owned(), password: PASSWORD.to_owned() },
            );
            let repository = repository(&registry, "team/app", credentials, chunk);
            let blob = b"twenty bytes of blob";
            let digest = Digest::of(blob);
            assert!(!repository.has_blob(&digest).expect("asked"), "{door:?}");
            repository.put_blob(&digest, blob.len() as u64, &mut &blob[..]).expect("put");
            repository.put_blob(&Digest::of(b""), 0, &mut &b""[..]).expect("an empty one");
            assert!(repository.has_blob(&digest).expect("asked"));
            assert_eq!(repository.blob_bytes(&digest, 100).expect("got"), blob);
            repository.keep(OCI_EMPTY, EMPTY).expect("kept");

            let image = registry.put_image("team/app", "v1", "x");
            let found = repository.resolve(&At::Tag("v1".into())).expect("asked").expect("there");
            assert_eq!(found.digest, image);
            assert_eq!(repository.need(&At::Digest(image.clone())).expect("there").descriptor(), found);
            assert!(repository.resolve(&At::Tag("v2".into())).expect("asked").is_none());
            for number in 0..5 {
                let bytes = about(&found, &format!("kind/{number}"));
                let put = repository.put_manifest(&At::Digest(Digest::of(&bytes)), OCI_MANIFEST, &bytes);
                assert_eq!(put.expect("put"), Put::Known);
            }
            let referrers = repository.referrers(&image).expect("asked").expect("a list").entries;
            assert_eq!(referrers.len(), 5, "on three pages");
            repository.put_manifest(&At::Tag("v2".into()), OCI_MANIFEST, &about(&found, "kind/0")).expect("put");
            repository.put_manifest(&At::Tag("v3".into()), OCI_MANIFEST, &about(&found, "kind/0")).expect("put");
            assert_eq!(repository.tags().expect("asked"), ["v1", "v2", "v3"]);
            repository.delete(&At::Tag("v3".into())).expect("gone");
            assert_eq!(registry.tags("team/app"), ["v1", "v2"]);
        }
    }
}

#[test]
fn blobs_are_mounted_from_another_repository() {
    let registry = Registry::with(Door::Token, true, None);
    let digest = registry.put_blob("base", b"a layer");
    let credentials = Credentials::given(
        &registry.host(),
        Credential::Password { user: USER.to_owned(), password: PASSWORD.to_owned() },
    );
    let repository = repository(&registry, "app", credentials, None);
    assert!(repository.mount_blob(&digest, "base").expect("asked"));
    assert!(repository.has_blob(&digest).expect("asked"));
    assert!(!repository.mount_blob(&Digest::of(b"another"), "base").expect("asked"), "it is not there");
}

#[test]
fn an_old_registry_says_that_it_lists_nothing() {
    let registry = Registry::old();
    let image = registry.put_image("team/app", "v1", "x");
    registry.put_blob("team/app", EMPTY);
    let repository = open(&registry);
    assert!(repository.referrers(&image).expect("asked").is_none());
    let found = repository.resolve(&At::Digest(image)).expect("asked").expect("there");
    let bytes = about(&found, "a/b");
    let put = repository.put_manifest(&At::Digest(Digest::of(&bytes)), OCI_MANIFEST, &bytes).expect("put");
    assert_eq!(put, Put::Unlisted, "the list is the writer's work");
}

#[track_caller]
fn refused<T>(result: Result<T, RepositoryError>, says: &str) -> RepositoryError {
    let error = result.err().expect("refused");
    assert!(error.to_string().contains(says), "`{says}` is not in: {error}");
    error
}

#[test]
fn who_is_not_let_in_is_told_what_to_do() {
    for door in [Door::Password, Door::Token] {
        let registry = Registry::with(door, true, None);
        registry.put_image("team/app", "v1", "x");
        let nobody = repository(&registry, "team/app", Credentials::default(), None);
        let error = refused(nobody.resolve(&At::Tag("v1".into())), "docker login");
        assert!(matches!(error, RepositoryError::Refused { permission: true, .. }));
        let wrong = Credential::Password { user: USER.to_owned(), password: "hunter2-hunter2".to_owned() };
        let wrong = repository(&registry, "team/app", Credentials::given(&registry.host(), wrong), None);
        let error = refused(wrong.resolve(&At::Tag("v1".into())), "");
        assert!(matches!(error, RepositoryError::Refused { permission: true, .. }), "{error}");
        assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"));
        assert!(registry.asked().len() < 12, "no endless questions");
    }
}

#[test]
fn bytes_that_do_not_hash_are_not_given() {
    let registry = Registry::start();
    let image = registry.put_image("team/app", "v1", "x");
    let blob = registry.put_blob("team/app", b"a blob");
    registry.spoil("team/app", &blob);
    let repository = open(&registry);
    let error = repository.blob_bytes(&blob, 100).expect_err("spoiled");
    assert!(matches!(error, RepositoryError::Io { .. }), "{error}");
    // Another manifest than was asked for.
    let other = Digest::of(b"other");
    let bytes = registry.manifest("team/app", image.as_str()).expect("there").to_string();
    let lie = lying(move |asked| {
        asked
            .path()
            .contains("/manifests/")
            .then(|| Said::new(200).with("content-type", OCI_MANIFEST).body(bytes.clone()))
    });
    let error = open(&lie).manifest(&At::Digest(other.clone())).expect_err("another");
    assert!(matches!(error, RepositoryError::Digest { .. }), "{error}");
    assert!(matches!(open(&lie).resolve(&At::Digest(other)), Err(RepositoryError::Digest { .. })));
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let registry = Registry::start();
    let blob = registry.put_blob("team/app", &[7; 1000]);
    let repository = open(&registry);
    assert!(matches!(repository.blob(&blob, 999).err(), Some(RepositoryError::Large { found: 1000, .. })));
    assert_eq!(repository.blob_bytes(&blob, 1000).expect("whole").len(), 1000);
    // More than was promised, without a length.
    let entry = format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":1}}"#, Digest::of(b"x"));
    let page = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![entry; 9_000].join(","));
    let endless = lying(move |asked| {
        let next = format!("<{}?again>; rel=\"next\"", asked.path());
        asked
            .path()
            .contains("/referrers/")
            .then(|| Said::new(200).with("content-type", OCI_INDEX).with("link", next).body(page.clone()))
    });
    let error = open(&endless).referrers(&Digest::of(b"")).expect_err("without end");
    assert!(matches!(error, RepositoryError::Large { .. }), "{error}");
    assert_eq!(endless.asked().len(), 1 + 2, "the scheme, and two pages");
}

#[test]
fn a_list_does_not_lead_elsewhere() {
    let elsewhere = Registry::start();
    let link = format!("<http://{}/v2/team/app/referrers/x>; rel=\"next\"", elsewhere.host());
    let lie = lying(move |asked| {
        asked.path().contains("/referrers/").then(|| {
            let body = r#"{"schemaVersion":2,"manifests":[]}"#;
            Said::new(200).with("content-type", OCI_INDEX).with("link", link.clone()).body(body)
        })
    });
    refused(open(&lie).referrers(&Digest::of(b"")), "on another host");
    assert!(elsewhere.asked().is_empty());
}

/// Blobs may lie on another host; the proof of who asks stays at home.
#[test]
fn redirects_take_no_proof_with_them() {
    let store = Registry::start();
    let blob = store.put_blob("x", b"far away");
    let to = format!("http://{}/v2/x/blobs/{blob}", store.host());
    let registry = Registry::with(
        Door::Password,
        true,
        Some(Box::new(move |asked| {
            let is_proven = asked.headers.contains_key("authorization");
            (is_proven && asked.path().contains("/blobs/sha256")).then(|| Said::new(307).with("location", to.clone()))
        })),
    );
    let credentials = Credentials::given(
        &registry.host(),
        Credential::Password { user: USER.to_owned(), password: PASSWORD.to_owned() },
    );
    let repository = repository(&registry, "team/app", credentials, None);
    assert_eq!(repository.blob_bytes(&blob, 100).expect("followed"), b"far away");
    assert!(store.asked().iter().all(|asked| !asked.headers.contains_key("authorization")), "{:?}", store.asked());
    // Without end, and to something else than HTTP.
    for target in ["/v2/team/app/blobs/again", "file:///etc/passwd", "https://", ""] {
        let target = target.to_owned();
        let lie = lying(move |asked| {
            asked.path().contains("/blobs/").then(|| Said::new(302).with("location", target.clone()))
        });
        assert!(open(&lie).blob(&blob, 100).is_err());
        assert!(lie.asked().len() < 10);
    }
}

#[test]
fn errors_say_what_the_registry_says_in_one_line() {
    let lie = lying(|asked| {
        (asked.method == "PUT").then(|| {
            Said::new(409).body(r#"{"errors":[{"code":"TAG_IMMUTABLE","message":"the tag\nis immutable\u001b[31m"}]}"#)
        })
    });
    let error = refused(open(&lie).put_manifest(&At::Tag("v1".into()), OCI_INDEX, b"{}"), "cannot be written again");
    assert!(!error.to_string().contains(['\n', '\u{1b}']), "{error}");
    let lie = lying(|_| Some(Said::new(500).body("<html>")));
    refused(open(&lie).resolve(&At::Tag("v1".into())), "answers 500");
    let lie = lying(|asked| (asked.path() != "/v2/").then(|| Said::new(404).body("<html>no such page")));
    assert!(open(&lie).referrers(&Digest::of(b"")).expect("asked").is_none());
    assert!(open(&lie).manifest(&At::Tag("v1".into())).expect("asked").is_none());
    refused(open(&lie).blob(&Digest::of(b""), 1).map(|mut blob| blob.read(&mut [0])), "is not in");
}

/// Security: what is proven to a registry does not come back out of its mouth.
#[test]
fn what_a_registry_says_of_our_password_is_not_told() {
    for secret in ["Basic", "password"] {
        let lie = Registry::with(
            Door::Password,
            true,
            Some(Box::new(move |asked| {
                let proof = asked.headers.get("authorization")?;
                let echo = if secret == "Basic" { proof.clone() } else { format!("no {PASSWORD} here") };
                Some(Said::new(400).body(format!(r#"{{"errors":[{{"code":"X","message":"{echo}"}}]}}"#)))
            })),
        );
        let credentials = Credentials::given(
            &lie.host(),
            Credential::Password { user: USER.to_owned(), password: PASSWORD.to_owned() },
        );
        let error = repository(&lie, "team/app", credentials, None).manifest(&At::Tag("v1".into())).expect_err("400");
        let told = error.to_string();
        assert!(told.contains("answers 400") && !told.contains(PASSWORD) && !told.contains("Basic "), "{told}");
    }
}

#[test]
fn a_registry_that_keeps_something_else_is_found_out() {
    let lie = lying(|asked| {
        (asked.method == "PUT").then(|| Said::new(201).with("docker-content-digest", Digest::of(b"else").as_str()))
    });
    refused(open(&lie).put_manifest(&At::Tag("v1".into()), OCI_INDEX, b"{}"), "where sha256:");
}

#[test]
fn a_busy_registry_is_asked_again() {
    let times = std::sync::atomic::AtomicUsize::new(0);
    let lie = lying(move |asked| {
        let is_first = asked.method == "HEAD" && times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        is_first.then(|| Said::new(503).with("retry-after", "0"))
    });
    let image = lie.put_image("team/app", "v1", "x");
    assert_eq!(open(&lie).resolve(&At::Tag("v1".into())).expect("asked").expect("there").digest, image);
}

/// Another upload can be begun where one was not; what was begun is not sent twice.
#[test]
fn an_upload_that_does_not_begin_is_begun_again() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for (status, wait) in [(429, Some("0")), (502, None), (503, Some("0")), (504, None)] {
        let times = AtomicUsize::new(0);
        let lie = lying(move |asked| {
            let is_first = asked.method == "POST" && times.fetch_add(1, Ordering::SeqCst) == 0;
            let said = || wait.into_iter().fold(Said::new(status), |said, wait| said.with("retry-after", wait));
            is_first.then(said)
        });
        open(&lie).keep(OCI_EMPTY, EMPTY).expect("kept");
        assert!(open(&lie).has_blob(&Digest::of(EMPTY)).expect("asked"), "{status}");
        assert_eq!(lie.asked().iter().filter(|asked| asked.method == "POST").count(), 2, "{status}");
        // Taken over from elsewhere: that is begun in the same way.
        let times = AtomicUsize::new(0);
        let lie = lying(move |asked| {
            (asked.method == "POST" && times.fetch_add(1, Ordering::SeqCst) == 0).then(|| Said::new(status))
        });
        let layer = lie.put_blob("base", b"a layer");
        assert!(open(&lie).mount_blob(&layer, "base").expect("asked"), "{status}");
    }
    // Within the same limits as other questions, and not after what is an answer.
    let count = |lie: &Registry, method: &str| lie.asked().iter().filter(|asked| asked.method == method).count();
    let lie = lying(|asked| (asked.method == "POST").then(|| Said::new(503)));
    refused(open(&lie).keep(OCI_EMPTY, EMPTY), "answers 503");
    assert!((3..=18).contains(&count(&lie, "POST")), "{}", count(&lie, "POST"));
    let lie = lying(|asked| (asked.method == "POST").then(|| Said::new(429).with("retry-after", "3600")));
    refused(open(&lie).keep(OCI_EMPTY, EMPTY), "answers 429");
    assert_eq!(count(&lie, "POST"), 1, "longer than anybody waits");
    for status in [400, 403] {
        let lie = lying(move |asked| (asked.method == "POST").then(|| Said::new(status)));
        refused(open(&lie).keep(OCI_EMPTY, EMPTY), &format!("answers {status}"));
        assert_eq!(count(&lie, "POST"), 1, "{status}");
    }
    // What was begun is finished once, for its bytes may be gone: the whole is begun again, within limits.
    for method in ["PATCH", "PUT"] {
        let lie = lying(move |asked| (asked.method == method).then(|| Said::new(503)));
        refused(open(&lie).keep(OCI_EMPTY, EMPTY), "answers 503");
        assert_eq!((count(&lie, "POST"), count(&lie, method)), (6, 6), "{method}");
    }
}

/// A registry that gives another answer to the first questions of one method.
fn stumbling(method: &'static str, part: &'static str, times: usize, said: Said) -> Registry {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let asked_for = AtomicUsize::new(0);
    lying(move |asked| {
        let is_meant = asked.method == method && asked.path().contains(part);
        (is_meant && asked_for.fetch_add(1, Ordering::SeqCst) < times).then(|| said.clone())
    })
}

fn errors(status: u16, codes: &[&str]) -> Said {
    let errors: Vec<_> =
        codes.iter().map(|code| serde_json::json!({"code": code, "message": code.to_lowercase()})).collect();
    Said::new(status).body(serde_json::json!({"errors": errors}).to_string())
}

/// A registry that keeps links in files does not see, for a moment, a blob that another writes as well.
#[test]
fn what_a_registry_does_not_see_for_a_moment_is_put_again() {
    let manifest = about(&Descriptor::of(OCI_EMPTY, EMPTY), "a/b");
    let at = At::Digest(Digest::of(&manifest));
    for (status, codes) in [
        (400, &["DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"][..]),
        (404, &["BLOB_UNKNOWN"]),
        (500, &["UNKNOWN"]),
        (429, &["TOOMANYREQUESTS"]),
        // It hangs up.
        (0, &[]),
    ] {
        let lie = stumbling("PUT", "/manifests/", 2, errors(status, codes));
        let repository = open(&lie);
        repository.keep(OCI_EMPTY, EMPTY).expect("kept");
        assert_eq!(repository.put_patiently(&at, OCI_MANIFEST, &manifest).expect("put"), Put::Known, "{status}");
    }
    // What is not there at all is an error, with all that the registry says.
    let lie = stumbling("PUT", "/manifests/", 100, errors(400, &["DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"]));
    let error = open(&lie).put_patiently(&at, OCI_MANIFEST, &manifest).expect_err("refused").to_string();
    assert!(error.contains("(DIGEST_INVALID); manifest_blob_unknown (MANIFEST_BLOB_UNKNOWN)"), "{error}");
    // What is refused for good is asked for once.
    let lie = stumbling("PUT", "/manifests/", 100, errors(400, &["MANIFEST_INVALID"]));
    refused(open(&lie).put_patiently(&at, OCI_MANIFEST, &manifest), "MANIFEST_INVALID");
    assert_eq!(lie.asked().iter().filter(|asked| asked.method == "PUT").count(), 1);

    for (method, said) in [
        ("HEAD", Said::new(500)),
        ("PUT", errors(400, &["DIGEST_INVALID"])),
        ("PUT", errors(404, &["BLOB_UPLOAD_UNKNOWN"])),
        ("PATCH", Said::new(500)),
        ("PATCH", Said::new(0)),
        ("PUT", Said::new(0)),
        ("POST", Said::new(500)),
    ] {
        let lie = stumbling(method, "/blobs/", 1, said);
        open(&lie).keep(OCI_EMPTY, EMPTY).expect(method);
        assert!(open(&lie).has_blob(&Digest::of(EMPTY)).expect("asked"), "{method}");
    }
    let lie = stumbling("GET", "/manifests/", 1, Said::new(500));
    lie.put_image("team/app", "v1", "x");
    assert!(open(&lie).manifest(&At::Tag("v1".into())).expect("asked again").is_some());
}

/// Whatever a token service says of a token's life, it is used, and ends nothing.
#[test]
fn odd_answers_of_a_token_service_are_taken() {
    for answer in [
        r#"{"token": "t", "expires_in": 18446744073709551615}"#,
        r#"{"token": "t", "expires_in": 9223372036854775807}"#,
        r#"{"token": "t", "expires_in": 300.0}"#,
        r#"{"token": "", "access_token": "t"}"#,
        r#"{"token": null, "access_token": "t", "expires_in": null}"#,
    ] {
        let lie = Registry::with(
            Door::Token,
            true,
            Some(Box::new(move |asked: &Asked| {
                let is_proven = asked.headers.get("authorization").is_some_and(|proof| proof == "Bearer t");
                match (asked.path(), is_proven) {
                    ("/token", _) => Some(Said::new(200).body(answer)),
                    (_, true) => Some(Said::new(404)),
                    _ => None,
                }
            })),
        );
        assert!(open(&lie).resolve(&At::Tag("v1".into())).expect(answer).is_none());
    }
}

/// Many threads that need the same blob put it once.
#[test]
fn a_blob_that_many_need_is_put_once() {
    let registry = Registry::of_files();
    let repository = open(&registry);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let repository = &repository;
            scope.spawn(move || {
                repository.keep(OCI_EMPTY, EMPTY).expect("kept");
                let manifest = about(&Descriptor::of(OCI_EMPTY, EMPTY), &format!("kind/{number}"));
                repository.put_manifest(&At::Digest(Digest::of(&manifest)), OCI_MANIFEST, &manifest).expect("put");
            });
        }
    });
    assert_eq!(registry.asked().iter().filter(|asked| asked.method == "POST").count(), 1);
}

/// How long a registry wants to be left alone is waited for where that is not long, and said where it is.
#[test]
fn a_busy_registry_says_when() {
    let lie = stumbling("PUT", "/manifests/", 1, Said::new(429).with("retry-after", "1"));
    lie.put_blob("team/app", EMPTY);
    let manifest = about(&Descriptor::of(OCI_EMPTY, EMPTY), "a/b");
    let at = At::Digest(Digest::of(&manifest));
    let begun = std::time::Instant::now();
    open(&lie).put_patiently(&at, OCI_MANIFEST, &manifest).expect("put");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    for wait in ["100", "Tue, 31 Dec 2199 23:59:59 GMT", "18446744073709551615"] {
        let lie = stumbling("PUT", "/manifests/", 1, Said::new(429).with("retry-after", wait));
        lie.put_blob("team/app", EMPTY);
        let error = open(&lie).put_patiently(&at, OCI_MANIFEST, &manifest).expect_err("busy").to_string();
        assert!(error.contains("it is busy or down; it asks to be left alone for "), "{error}");
        assert!(wait != "100" || error.contains("for 100 s; try again then"), "{error}");
    }
}

#[test]
fn unknown_hosts_are_named() {
    let registries = Arc::new(Registries::new(Client::new(hasty()), Credentials::default(), Vec::new(), None));
    let repository = registries.repository(&"host.invalid/app:v1".parse().expect("a name"));
    let error = repository.resolve(&At::Tag("v1".into())).expect_err("no such host");
    assert!(error.to_string().contains("host.invalid"), "{error}");
    let error = registries
        .repository(&"127.0.0.1:1/app".parse().expect("a name"))
        .resolve(&At::Tag("v1".into()))
        .expect_err("nobody listens");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn podmans_names_of_files() {
    let files = affiant_remote::registry::credential_files(
        None,
        None,
        Some("/run/user/1".as_ref()),
        None,
        Some("/home/ann".as_ref()),
    );
    let names: Vec<PathBuf> =
        ["/home/ann/.docker/config.json", "/run/user/1/containers/auth.json", "/home/ann/.config/containers/auth.json"]
            .map(PathBuf::from)
            .to_vec();
    assert_eq!(files, names);
}
