use serde_json::{Value, json};

use super::super::tests::{entry, recorded, with_type};
use super::*;
use crate::evidence::{CollectionView, Statement};

const WITNESS: &str = "https://witness.dev/attestations/";
const CILOCK: &str = "https://aflock.ai/attestations/";

/// What a rule sees of `predicate` of type `has`, when the policy asks for `wants`.
fn shown(has: &str, predicate: &str, wants: &str) -> Result<String, String> {
    let entry = with_type(&format!("{WITNESS}{has}"), predicate);
    present(&entry, &format!("{CILOCK}{wants}")).map(|input| input.get().to_owned()).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    })
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn collection(payload: &[u8]) -> CollectionView<'_> {
    Statement::parse_strict(payload).expect("reads").collection().expect("a collection").expect("reads")
}

#[test]
fn what_is_not_known_stays_as_it_was_written() {
    let text = r#"{ "b" : 1.50e3, "a":[1e2,-0.0,12345678901234567890123], "image_digest":1, "exitcode":null }"#;
    for kind in ["other/v1", "sarif/v0.1", "gitlab/v0.1", "git/v0.2", "product-of-another/v0.1"] {
        assert_eq!(shown(kind, text, kind).as_deref(), Ok(text), "{kind}");
    }
    for text in ["null", "[]", "1", r#""x""#] {
        assert_eq!(shown("other/v1", text, "other/v1").as_deref(), Ok(text));
    }
    // Documents that are no attestation of the peers.
    for kind in ["https://cyclonedx.org/bom", "https://slsa.dev/provenance/v1"] {
        assert_eq!(present(&with_type(kind, text), kind).expect(kind).get(), text);
    }
    assert!(shown("git/v0.1", "{}", "git/v0.2").expect_err("another version").contains("it is no"));
    assert!(shown("git/v0.1", "{}", "github/v0.1").is_err());
}

#[test]
fn numbers_of_known_types_keep_their_text() {
    let shown = shown("command-run/v0.1", r#"{"exitcode":0,"affiant":{"n":1.50e3}}"#, "command-run/v0.1");
    assert_eq!(
        shown.expect("shown"),
        r#"{"exitcode":0,"affiant":{"n":1.50e3},"stdout":"","stderr":"","processes":[]}"#
    );
}

#[test]
fn zero_values_stand_where_rules_want_emptiness() {
    assert_eq!(value(&shown("environment/v0.1", "{}", "environment/v0.1").expect("shown")), json!({ "variables": {} }));
    let git = value(&shown("git/v0.1", r#"{"commithash":"a","branch":"main"}"#, "git/v0.1").expect("shown"));
    assert_eq!(git, json!({ "commithash": "a", "branch": "main", "status": {}, "parenthashes": [], "refs": [] }));
    // `not input.signature` must hold for a commit that is not signed.
    for member in ["signature", "commitdigest", "treehash", "tags", "remotes"] {
        assert_eq!(git.get(member), None, "{member}");
    }
    for version in ["v0.1", "v0.2"] {
        let kind = format!("command-run/{version}");
        let run = value(&shown(&kind, r#"{"cmd":["x"]}"#, &kind).expect("shown"));
        assert_eq!((&run["exitcode"], &run["stdout"], &run["processes"]), (&json!(0), &json!(""), &json!([])));
        // What is written is never replaced.
        let run = value(&shown(&kind, r#"{"exitcode":7,"stdout":null}"#, &kind).expect("shown"));
        assert_eq!((&run["exitcode"], &run["stdout"]), (&json!(7), &json!(null)));
    }
    for text in ["null", "[]"] {
        assert!(shown("git/v0.1", text, "git/v0.1").is_err(), "{text} is no git attestation");
    }
}

/// Security rule 14: a builder cannot say that its image was judged.
#[test]
fn an_image_is_not_judged_by_its_evidence() {
    let unjudged = json!({ "imagetags": [], "image_digest": null, "cosign_subject": "" });
    for text in [
        r#"{"imagetags":[]}"#,
        r#"{"imagetags":[],"image_digest":"sha256:aa","cosign_subject":"sha256:aa"}"#,
        r#"{"cosign_subject":null,"image_digest":"","imagetags":[]}"#,
        r#"{"\u0069mage_digest":"","cosign_\u0073ubject":"","imagetags":[]}"#,
    ] {
        assert_eq!(value(&shown("oci/v0.1", text, "oci/v0.1").expect("shown")), unjudged, "{text}");
    }
    for file in ["witness/docker-build", "cilock/docker-build"] {
        let payload = recorded(file);
        let collection = collection(&payload);
        let oci = value(present(entry(&collection, "oci"), &format!("{CILOCK}oci/v0.1")).expect("shown").get());
        assert_eq!((&oci["image_digest"], &oci["cosign_subject"]), (&json!(null), &json!("")), "{file}");
        assert_eq!(oci["imagetags"], json!(["registry.example/shop/web:1.4.2"]), "{file}");
    }
}

#[test]
fn documents_that_readers_disagree_about_are_refused() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for kind in ["other/v1", "git/v0.1", "command-run/v0.1", "product/v0.1", "oci/v0.1"] {
        for (text, reason) in [
            (r#"{"a":{"b":1,"b":2}}"#, "\"b\" stands there twice"),
            (r#"{"exitcode":0,"exitcode":1}"#, "\"exitcode\" stands there twice"),
            (&deep, "recursion limit"),
        ] {
            let error = shown(kind, text, kind).expect_err(reason);
            assert!(error.contains(reason), "{kind}: {error}");
        }
    }
}

/// The recorded evidence of each peer in the form of the other: what both know is the same.
#[test]
fn recorded_evidence_is_shown_in_the_form_of_the_other_peer() {
    let (witness, cilock) = (recorded("witness/docker-build"), recorded("cilock/docker-build"));
    let (witness, cilock) = (collection(&witness), collection(&cilock));
    let show = |collection: &CollectionView<'_>, name: &str, wanted: &str| {
        value(present(entry(collection, name), &format!("{WITNESS}{name}/{wanted}")).expect("shown").get())
    };
    let raw = |collection: &CollectionView<'_>, name: &str| value(entry(collection, name).attestation.get());

    let run = show(&cilock, "command-run", "v0.1");
    let own = show(&witness, "command-run", "v0.1");
    let keys = |value: &Value| {
        let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&run), ["cmd", "exitcode", "processes", "stderr", "stdout"]);
    assert_eq!((keys(&run), &run["cmd"], &run["exitcode"]), (keys(&own), &own["cmd"], &json!(0)));
    let run = show(&witness, "command-run", "v0.2");
    assert_eq!((&run["paths"], &run["processes"], &run["exitcode"]), (&json!(null), &json!([]), &json!(0)));
    assert!(keys(&raw(&cilock, "command-run")).iter().all(|key| run.get(key).is_some()));

    let products = show(&cilock, "product", "v0.1");
    assert_eq!(keys(&products), keys(&raw(&witness, "product")));
    let image = &raw(&cilock, "product")["leaves"][1];
    assert_eq!(products["image.tar"], json!({ "mime_type": "", "digest": { "sha256": image["fileDigest"] } }));
    let materials = show(&cilock, "material", "v0.1");
    assert_eq!(
        materials.as_object().map(serde_json::Map::len),
        raw(&cilock, "material")["leaves"].as_array().map(Vec::len)
    );
    assert!(materials[".git/HEAD"]["sha256"].is_string());

    let tree = show(&witness, "product", "v0.3");
    assert_eq!((&tree["treeSize"], &tree["construction"]), (&json!(2), &json!("RFC6962")));
    // What was converted is a tree that is accepted, and converts back.
    for name in ["material", "product"] {
        let text = show(&witness, name, "v0.3").to_string();
        let back = value(&shown(&format!("{name}/v0.3"), &text, &format!("{name}/v0.1")).expect("a good tree"));
        let mut own = raw(&witness, name);
        for (_, file) in own.as_object_mut().expect("a map") {
            if let Some(mime) = file.get_mut("mime_type") {
                *mime = json!("");
            }
        }
        assert_eq!(back, own, "{name}");
    }
}

#[test]
fn a_tree_of_a_flat_map_shows_all_paths() {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let file = |digest: &str| format!(r#"{{"mime_type":"x","digest":{{"sha256":"{digest}"}}}}"#);
    let flat = format!(r#"{{"y.spdx.json":{},"x":{},"BOM.json":{}}}"#, file(&a), file(&a), file(&b));
    let tree = value(&shown("product/v0.2", &flat, "product/v0.3").expect("shown"));
    let leaves: Vec<_> =
        tree["leaves"].as_array().expect("a list").iter().map(|leaf| (&leaf["path"], &leaf["kind"])).collect();
    let none = Value::Null;
    assert_eq!(
        leaves,
        [(&json!("x"), &none), (&json!("y.spdx.json"), &json!("spdx")), (&json!("BOM.json"), &json!("cyclonedx"))]
    );
    assert_eq!(tree["treeSize"], json!(2));
    let folder = format!(r#"{{"d/":{{"dirHash":"{a}"}}}}"#);
    assert!(shown("material/v0.1", &folder, "material/v0.3").expect_err("no sha256").contains("\"d/\" has no sha256"));
    // A tree that lies is not shown in any form.
    let text = tree.to_string().replace("\"treeSize\":2", "\"treeSize\":3");
    for wants in ["product/v0.1", "product/v0.3"] {
        assert!(shown("product/v0.3", &text, wants).expect_err("a lie").contains("`treeSize` is 3"), "{wants}");
    }
}

const TRACED: &str = r#"{"_meta":{"version":"v0.2"},"summary":{},"digests":[{"digests":{"sha256":"d0"},"src":""},{"digests":{"sha256":"d1"}}],
    "paths":["/bin/sh","in\u002etxt","out"],"comms":["sh"],"cmdlines":["sh -c x"],
    "processes":[{"processid":10,"parentpid":1,"commId":0,"execPathId":0,"cmdlineId":0,"programDigestId":0,"exeDigestId":-1,
      "openedFiles":[{"pathId":1,"digestId":1},{"pathId":0,"digestId":-1}],"writtenFiles":[{"pathId":2,"digestId":0}],
      "unhashedOpens":[{"pathId":1,"reason":"gone"}],"network":{}},
     {"processid":11,"parentpid":10,"commId":-1,"execPathId":-1,"cmdlineId":-1,"programDigestId":-1,"exeDigestId":1,"openedFiles":null}],
    "cmd":["sh"],"exitcode":7,"affiant":{"x":1.0}}"#;

#[test]
fn a_traced_command_is_expanded_and_interned() {
    let flat = value(&shown("command-run/v0.2", TRACED, "command-run/v0.1").expect("shown"));
    let expected = json!({
        "cmd": ["sh"], "exitcode": 7, "stdout": "", "stderr": "", "affiant": { "x": 1.0 },
        "processes": [
            { "processid": 10, "parentpid": 1, "program": "/bin/sh", "comm": "sh", "cmdline": "sh -c x",
              "programdigest": { "sha256": "d0" },
              "openedfiles": { "in.txt": { "sha256": "d1" }, "/bin/sh": {}, "out": { "sha256": "d0" } } },
            { "processid": 11, "parentpid": 10, "exedigest": { "sha256": "d1" } },
        ],
    });
    assert_eq!(flat, expected);
    let interned = shown("command-run/v0.1", &flat.to_string(), "command-run/v0.2").expect("shown");
    let interned_value = value(&interned);
    assert_eq!(interned_value["_meta"]["counts"]["uniquePaths"], json!(3));
    assert_eq!(interned_value["digests"][0], json!({ "digests": { "sha256": "d0" } }));
    assert_eq!(interned_value["processes"][1]["exeDigestId"], json!(1));
    assert_eq!(interned_value["processes"][1]["commId"], json!(-1));
    assert_eq!(value(&shown("command-run/v0.2", &interned, "command-run/v0.1").expect("shown")), expected);
    // What v0.2 has no place for is kept.
    let process = r#"{"processes":[{"processid":1,"parentpid":0,"environ":"A=1","specbypassisvuln":true}]}"#;
    let shown = value(&shown("command-run/v0.1", process, "command-run/v0.2").expect("shown"));
    assert_eq!(shown["processes"][0]["environ"], json!("A=1"));
}

#[test]
fn a_traced_command_that_does_not_fit_is_refused() {
    for (from, to, reason) in [
        (r#""commId":0"#, r#""commId":1"#, "`commId` is 1, but `comms` has 1 elements"),
        (r#""commId":0"#, r#""commId":-2"#, "`commId` is -2"),
        (r#""execPathId":0"#, r#""execPathId":9223372036854775807"#, "`execPathId` is 9223372036854775807"),
        (r#"{"pathId":0,"digestId":-1}"#, r#"{"pathId":-1,"digestId":-1}"#, "`pathId` is -1"),
        (r#""pathId":1,"digestId":1"#, r#""pathId":1,"digestId":2"#, "`digestId` is 2"),
        (r#""comms":["sh"]"#, r#""comms":null"#, "`comms` has 0 elements"),
        (r#""commId":0"#, r#""commId":0.0"#, "invalid type"),
        (r#""out"]"#, r#""in.txt"]"#, "\"in.txt\" stands there twice"),
        (r#""out"]"#, r"7]", "key must be a string"),
        (r#""processes":["#, r#""processes":[1,"#, "invalid type"),
        (r#""processes":["#, r#""processes":{},"x":["#, "invalid type"),
        (r#""processid":10,"#, "", "missing field `processid`"),
    ] {
        assert!(TRACED.contains(from), "{from}");
        let error = shown("command-run/v0.2", &TRACED.replacen(from, to, 1), "command-run/v0.1").expect_err(to);
        assert!(error.contains(reason), "{to}: {error}");
    }
    // A path of 1 MB in each of 1000 processes: a gigabyte from a megabyte.
    let process = r#"{"processid":1,"parentpid":0,"execPathId":0}"#;
    let bomb = format!(r#"{{"paths":["{}"],"processes":[{}]}}"#, "x".repeat(1 << 20), vec![process; 1000].join(","));
    assert!(
        shown("command-run/v0.2", &bomb, "command-run/v0.1")
            .expect_err("too long")
            .contains("more than 134217728 bytes")
    );
    assert!(shown("command-run/v0.2", &bomb, "command-run/v0.2").is_ok(), "nothing is expanded");
    for text in [
        "null",
        "[]",
        r#"{"processes":[[]]}"#,
        r#"{"processes":[{"openedfiles":[]}]}"#,
        r#"{"processes":[{"comm":1}]}"#,
    ] {
        assert!(shown("command-run/v0.1", text, "command-run/v0.2").is_err(), "{text}");
    }
}
