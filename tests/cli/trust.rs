//! `affiant trust`: roots shown, fetched, carried and put together.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Place;
use crate::tuf::{LATE, Mirror};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// What the public instance published in February 2026, packed as `trust export` packs it.
fn public_copy(place: &Place) {
    let folder = fixture("tuf/public");
    let names =
        ["root_history/14.root.json", "snapshot.json", "targets.json", "targets/trusted_root.json", "timestamp.json"];
    let files: Vec<_> =
        names.iter().map(|name| (*name, std::fs::read(folder.join(name)).expect("a fixture"))).collect();
    let packed = affiant_core::packed::pack(files.iter().map(|(name, bytes)| (*name, bytes.as_slice())));
    place.write("trust.tar", packed.expect("packed"));
}

#[test]
fn the_public_roots_are_carried_to_a_machine_without_a_network() {
    let place = Place::without_key();
    place
        .affiant(["trust", "show", "public"])
        .run()
        .code(4)
        .stderr_has(&["there is no copy of the roots of"])
        .stderr_has(&["affiant trust update public"]);
    public_copy(&place);
    place.affiant(["trust", "import", "trust.tar"]).run().code(0).stderr_has(&["root metadata version 16"]);
    let shown = place.affiant(["trust", "show", "public"]).run().code(0).stdout_text();
    for part in ["newest known until: 2026-02-12T13:42:54Z", "rekor.sigstore.dev", "fulcio.sigstore.dev", "over"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let json: Value =
        serde_json::from_str(&place.affiant(["trust", "show", "public", "-o", "json"]).run().code(0).stdout_text())
            .expect("JSON");
    assert_eq!(json["certificateAuthorities"].as_array().map(Vec::len), Some(2), "{json}");
    // What comes out is what went in, and can be taken elsewhere.
    place.affiant(["trust", "export", "-o", "again.tar"]).run().code(0);
    place.affiant(["trust", "import", "again.tar"]).env("AFFIANT_HOME", "elsewhere").run().code(0);
    place.affiant(["trust", "show", "public"]).env("AFFIANT_HOME", "elsewhere").run().code(0);
    let root = place.affiant(["trust", "export", "--form", "trusted-root"]).run().code(0).stdout_text();
    assert_eq!(root.into_bytes(), std::fs::read(fixture("tuf/public/targets/trusted_root.json")).expect("a fixture"));
    place.affiant(["trust", "export", "--form", "signing-config"]).run().code(3);
}

/// What is shown says itself that it is old, and a check with it, which asks nobody, says so too.
#[test]
fn an_old_copy_is_told_to_be_old() {
    let place = Place::without_key();
    public_copy(&place);
    place.affiant(["trust", "import", "trust.tar"]).run().code(0);
    let shown = place.affiant(["trust", "show", "public"]).run().code(0);
    assert!(shown.stdout_text().contains("newest known until: 2026-02-12T13:42:54Z"));
    place.write("file", "content");
    place.write(
        "bundle.json",
        std::fs::read(fixture("cosign/bundles/blob-keyless-rekor1.sigstore.json")).expect("a bundle"),
    );
    let signer = ["--certificate-identity", "a@b.example", "--certificate-oidc-issuer", "https://i.example"];
    let verify = ["image", "verify-blob", "--trusted-root", "public", "--offline", "--bundle", "bundle.json"];
    let ended = place.affiant(verify).with(signer).with(["file"]).run();
    assert_ne!(ended.exit_code(), 0);
    let _ = ended.stderr_has(&["of before 2026-02-12T13:42:54Z", "affiant trust update public"]);
}

#[test]
fn a_copy_that_was_altered_is_not_taken() {
    let place = Place::without_key();
    public_copy(&place);
    let bytes = std::fs::read(place.work().join("trust.tar")).expect("written");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for (what, altered) in [
        ("a date", text.replace("2026-02-12", "2036-02-12")),
        ("a key of a log", text.replace("rekor.sigstore.dev", "rekor.sigstore.deu")),
        ("half of it", text[..text.len() / 2].to_owned()),
        ("nothing", String::new()),
    ] {
        assert_ne!(altered, text, "{what}");
        place.write("altered.tar", altered);
        place.affiant(["trust", "import", "altered.tar"]).run().code(1).stdout("");
        place.affiant(["trust", "show", "public"]).run().code(4);
    }
}

#[test]
fn roots_of_a_mirror_go_where_a_flag_says() {
    let place = Place::without_key();
    let mut mirror = Mirror::new();
    let root = std::fs::read(fixture("tuf/public/targets/trusted_root.json")).expect("a fixture");
    mirror.publish(1, LATE, &[("trusted_root.json", &root)]);
    place.write("root.json", mirror.root());
    mirror.rotate(LATE);
    let base = mirror.base();
    let update = ["trust", "update", "--mirror", &base, "--root", "root.json"];
    place.affiant(update).run().code(2).stderr_has(&["--outfile"]);
    place
        .affiant(update)
        .with(["-o", "trusted_root.json"])
        .run()
        .code(0)
        .stderr_has(&["2 certificate authorities"])
        .stderr_has(&["version 2"]);
    assert_eq!(std::fs::read(place.work().join("trusted_root.json")).expect("written"), root);
    assert!(!place.all_paths().iter().any(|path| path.ends_with("timestamp.json")), "nothing else is kept");
    place.affiant(["trust", "show", "trusted_root.json"]).run().code(0);
    // A mirror that lies, one that is not there, and one without its first root.
    mirror.usurp();
    place.affiant(update).with(["-o", "x.json"]).run().code(1).stderr_has(&["threshold"]);
    place
        .affiant(["trust", "update", "--mirror", "http://127.0.0.1:9", "--root", "root.json", "-o", "x.json"])
        .run()
        .code(4)
        .stderr_has(&["127.0.0.1:9"]);
    place.affiant(["trust", "update", "--mirror", &base, "-o", "x.json"]).run().code(2).stderr_has(&["--root"]);
    place.affiant(["trust", "update"]).run().code(2);
    assert!(!place.work().join("x.json").exists());
}

#[test]
fn a_trusted_root_is_put_together_of_files() {
    let place = Place::without_key();
    let trust = std::fs::canonicalize(fixture("cosign/trust")).expect("a fixture");
    let file = |name: &str| trust.join(name).display().to_string();
    let fulcio = format!("url=http://127.0.0.1:5555,certificate-chain={}", file("fulcio-chain.pem"));
    let ctfe = format!(
        "url=http://127.0.0.1:6962,public-key={},start-time=2026-01-01T00:00:00Z,end-time=2030-01-01T00:00:00Z",
        file("ctlog.key.pub")
    );
    let rekor = format!("url=http://127.0.0.1:3000,public-key={}", file("rekor1.pub"));
    let tiled = format!("url=http://localhost:3003,public-key={},origin=localhost", file("rekor2.pub"));
    let tsa = format!("url=http://127.0.0.1:3004/api/v1/timestamp,certificate-chain={}", file("tsa-chain.pem"));
    let all = ["--fulcio", &fulcio, "--ctfe", &ctfe, "--rekor", &rekor, "--rekor", &tiled, "--tsa", &tsa];
    place.affiant(["trust", "create"]).with(all).with(["-o", "made.json"]).run().code(0).stdout("");
    let shown = place.affiant(["trust", "show", "made.json"]).run().code(0).stdout_text();
    for part in ["127.0.0.1:5555", "2030-01-01T00:00:00Z, later", "localhost:3003", "timestamp"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // The log ids are those of the recorded root.
    let ids = |file: &str| {
        let shown = place.affiant(["trust", "show", file, "-o", "json"]).run().code(0).stdout_text();
        let json: Value = serde_json::from_str(&shown).expect("JSON");
        let mut ids: Vec<_> =
            json["tlogs"].as_array().expect("a list").iter().map(|log| log["logId"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids("made.json"), ids(&file("trusted_root.json")));
    // Begun with another one, and none twice.
    place.affiant(["trust", "create", "--with", "made.json"]).with(all).with(["-o", "twice.json"]).run().code(0);
    let read = |name: &str| std::fs::read(place.work().join(name)).expect("written");
    assert_eq!(read("made.json"), read("twice.json"));
    for (what, list, said) in [
        ("--fulcio", "url=https://f.example", "certificate-chain"),
        ("--fulcio", "certificate-chain=x", "url"),
        ("--rekor", "url=https://r.example,public-key=absent.pub", "absent.pub"),
        ("--rekor", "url=https://r.example,publickey=x", "did you mean `public-key`"),
        ("--rekor", "https://r.example", "NAME=VALUE"),
        ("--tsa", "url=a,url=b", "twice"),
        ("--ctfe", "url=https://c.example,public-key=x,start-time=today", "today"),
    ] {
        let ended = place.affiant(["trust", "create", what, list]).run();
        assert!(matches!(ended.exit_code(), 2 | 4), "{list}");
        ended.stderr_has(&[said]);
    }
    let other = tiled.replace("origin=localhost", "origin=elsewhere");
    place.affiant(["trust", "create", "--rekor", &other]).run().code(2).stderr_has(&["is called localhost"]);
    place.affiant(["trust", "create"]).run().code(2).stderr_has(&["name services"]);
    place.affiant(["trust", "show", "k.json"]).run().code(4);
    place.write("empty.json", r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#);
    place.affiant(["trust", "show", "empty.json"]).run().code(4).stderr_has(&["empty.json cannot be used"]);
}

#[test]
fn cosigns_spelling_is_taken() {
    let place = Place::without_key();
    let key = std::fs::canonicalize(fixture("cosign/trust/rekor1.pub")).expect("a fixture");
    let rekor = format!("url=https://rekor.example,public-key={},start-time=2026-01-01T00:00:00Z", key.display());
    place
        .called("cosign", ["trusted-root", "create", "--rekor", &rekor, "--out", "made.json"])
        .run()
        .code(0)
        .stdout("");
    place.affiant(["trust", "show", "made.json"]).run().code(0);
    // What later checks would believe is not written because somebody says `initialize`.
    place
        .called("cosign", ["initialize", "--mirror", "https://tuf.example", "--root", "root.json"])
        .run()
        .code(2)
        .stderr_has(&["affiant trust update --mirror"]);
}
