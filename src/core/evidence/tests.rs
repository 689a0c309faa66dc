use proptest::prelude::*;

use super::files::{Digests, Files};
use super::links::{self, Standing};
use super::merkle;
use super::*;
use crate::digest::sha256_hex;
use crate::dsse::Envelope;

/// The payload of a recorded envelope.
pub(super) fn recorded(name: &str) -> Vec<u8> {
    let path = format!("{}/../../fixtures/envelopes/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(&path).expect("a fixture");
    Envelope::parse(&text, 1 << 24).expect("an envelope").payload
}

pub(super) fn entry<'a>(collection: &'a CollectionView<'a>, name: &str) -> &'a EntryView<'a> {
    collection.attestations.iter().find(|entry| entry.short_name() == name).expect("an entry of this name")
}

pub(super) fn with_type<'a>(kind: &str, predicate: &'a str) -> EntryView<'a> {
    EntryView {
        kind: kind.to_owned(),
        attestation: serde_json::from_str(predicate).expect("JSON"),
        starttime: String::new(),
        endtime: String::new(),
    }
}

fn product<'a>(version: &str, predicate: &'a str) -> EntryView<'a> {
    with_type(&format!("https://witness.dev/attestations/product/{version}"), predicate)
}

fn files(entry: &EntryView<'_>) -> Result<Files, String> {
    Files::read(entry).expect("an entry with files").map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    })
}

fn hex32(text: &str) -> [u8; 32] {
    hex::decode(text).expect("hex").try_into().expect("32 bytes")
}

#[test]
fn recorded_statements_are_read_strictly() {
    for (file, predicate_type, step) in [
        ("witness/docker-build", COLLECTION_TYPE, "docker-build"),
        ("witness/docker-sbom", COLLECTION_TYPE, "docker-sbom"),
        ("cilock/docker-build", COLLECTION_TYPE_CILOCK, "docker-build"),
        ("cilock/docker-sbom", COLLECTION_TYPE_CILOCK, "docker-sbom"),
        ("cilock/certificate", COLLECTION_TYPE_CILOCK, "build"),
    ] {
        let payload = recorded(file);
        let statement = Statement::parse_strict(&payload).expect(file);
        assert_eq!(statement.predicate_type, predicate_type);
        let collection = statement.collection().expect("a collection").expect(file);
        assert_eq!(collection.name, step, "{file}");
        assert_eq!(collection.exit_codes().expect(file), [0], "{file}");
        assert_eq!(statement.subject.iter().count(), statement.subject.len());
        for entry in &collection.attestations {
            if let Some(files) = Files::read(entry) {
                assert!(!files.expect(file).is_empty());
            }
        }
    }
}

#[test]
fn statement_parse_strict_refuses_what_readers_disagree_about() {
    let good = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"p","predicate":{}}"#;
    Statement::parse_strict(good.as_bytes()).expect("the good one");
    let deep = |levels: usize| good.replace("{}", &format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    Statement::parse_strict(deep(126).as_bytes()).expect("127 levels");
    for (case, text, reason) in [
        ("type", good.replace("Statement/v1", "Statement/v9"), "Statement/v9"),
        ("no type", good.replace("_type", "other"), "`_type` is \"\""),
        ("no predicate type", good.replace("predicateType", "other"), "predicateType"),
        ("no predicate", good.replace(r#","predicate":{}"#, ""), "predicate"),
        ("empty predicate type", good.replace(r#""p""#, r#""""#), "predicateType"),
        ("type of another kind", good.replace(r#""p""#, "1"), "string"),
        ("double", good.replace("\"subject\":[]", r#""subject":[],"subject":[]"#), "\"subject\" stands there twice"),
        ("double, escaped", good.replace("{}", r#"{"a":1,"\u0061":2}"#), "\"a\" stands there twice"),
        ("double, far apart", good.replace("{}", r#"{"b":1,"c":1,"a":{"b":1},"b":2}"#), "\"b\" stands there twice"),
        ("double, deep", good.replace("{}", r#"[{"x":[{"b":1,"b":1}]}]"#), "\"b\" stands there twice"),
        ("lookalike", good.replace("{}", r#"{},"Predicate":{"name":"x"}"#), "some readers take for `predicate`"),
        ("lookalike beyond ASCII", good.replace("{}", "{},\"\u{17f}ubject\":[]"), "some readers take for `subject`"),
        ("trailing", format!("{good} {{}}"), "trailing"),
        ("deep", deep(127), "recursion limit"),
        ("very deep", deep(100_000), "recursion limit"),
        ("subject", good.replace("[]", r#"[{"name":"x"}]"#), "digest"),
        ("subject digest", good.replace("[]", r#"[{"name":"x","digest":{"sha256":1}}]"#), "string"),
        ("subjects", good.replace("[]", "{}"), "`subject` is no list"),
        ("cut", good[..40].to_owned(), "EOF"),
    ] {
        let error = Statement::parse_strict(text.as_bytes()).expect_err(case);
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {source}").contains(reason), "{case}: {error}: {source}");
    }
    let mut bytes = good.as_bytes().to_vec();
    bytes[20] = 0xff;
    assert!(Statement::parse_strict(&bytes).is_err(), "not UTF-8");
    // A file may be called like a member.
    let names = good.replace("{}", r#"{"Predicate":1,"predicate":2,"README":3,"readme":4}"#);
    Statement::parse_strict(names.as_bytes()).expect("names within the predicate");
}

#[test]
fn collections_are_read_once() {
    let text = |members: &str| {
        format!(
            r#"{{"_type":"x","predicateType":"https://aflock.ai/attestation-collection/v0.1","predicate":{{{members}}}}}"#
        )
    };
    let read = |members: &str| {
        let text = text(members);
        let statement = Statement::parse(text.as_bytes()).expect("a statement");
        statement.collection().expect("a collection").map(|collection| collection.attestations.len())
    };
    assert_eq!(read(r#""name":"a","attestations":null,"backrefs":null,"gaps":null"#).expect("reads"), 0);
    assert_eq!(read(r#""name":"a","other":{"name":"b"}"#).expect("reads"), 0);
    let many = |count: usize, of: fn(usize) -> String| (0..count).map(of).collect::<Vec<_>>().join(",");
    let entries = many(MAX_ENTRIES, |_| r#"{"type":"x","attestation":1}"#.to_owned());
    assert_eq!(read(&format!(r#""name":"a","attestations":[{entries}]"#)).expect("reads"), MAX_ENTRIES);
    let digests = many(subjects::MAX_DIGESTS + 1, |at| format!(r#""{at}":"""#));
    for members in [
        &format!(r#""name":"a","attestations":[{entries},{{"type":"x","attestation":1}}]"#),
        &format!(r#""name":"a","gaps":[{}]"#, many(MAX_ENTRIES + 1, |_| "{}".to_owned())),
        &format!(r#""name":"a","backrefs":{{{}}}"#, many(MAX_BACKREFS + 1, |at| format!(r#""{at}":{{}}"#))),
        &format!(r#""name":"a","backrefs":{{"x":{{{digests}}}}}"#),
        r#""name":"a","backrefs":{"x":{},"x":{}}"#,
        "",
        r#""name":null"#,
        r#""name":"a","name":"b""#,
        r#""name":"a","Name":"b""#,
        r#""name":"a","attestations":[],"Attestations":[]"#,
        r#""name":"a","attestations":[{"type":"x"}]"#,
        r#""name":"a","attestations":{}"#,
        r#""name":"a","backrefs":{"x":1}"#,
    ] {
        assert!(read(members).is_err(), "{members}");
    }
}

#[test]
fn exit_codes_of_both_versions() {
    let codes = |entries: &[(&str, &str)]| {
        let attestations = entries
            .iter()
            .map(|(version, predicate)| {
                with_type(&format!("https://aflock.ai/attestations/command-run/{version}"), predicate)
            })
            .collect();
        CollectionView { name: String::new(), attestations, backrefs: None, gaps: Vec::new() }
            .exit_codes()
            .map_err(|error| error.to_string())
    };
    assert_eq!(codes(&[]), Ok(vec![]));
    assert_eq!(
        codes(&[("v0.1", r#"{"exitcode":0}"#), ("v0.2", r#"{"exitcode":7}"#), ("v0.2", "{}")]),
        Ok(vec![0, 7, 0])
    );
    assert_eq!(codes(&[("v0.1", r#"{"exitcode":-1}"#)]), Ok(vec![-1]));
    assert_eq!(codes(&[("v0.9", "{}")]), Ok(vec![]), "of an unknown version nothing is known");
    for (version, predicate) in [
        ("v0.1", "{}"),
        ("v0.1", r#"{"exitcode":null}"#),
        ("v0.2", r#"{"exitcode":null}"#),
        ("v0.1", r#"{"exitcode":"0"}"#),
        ("v0.1", r#"{"exitcode":0.0}"#),
        ("v0.1", r#"{"exitcode":0e0}"#),
        ("v0.1", r#"{"exitcode":9223372036854775808}"#),
        ("v0.1", r#"{"exitcode":7,"exitcode":0}"#),
        ("v0.2", "[]"),
        ("v0.2", "null"),
    ] {
        assert!(codes(&[(version, predicate)]).is_err(), "{version} {predicate}");
    }
}

#[test]
fn both_forms_of_files_are_read() {
    let sha256 = "56f6e6304d02d413bb7d5d463ac5cdc58551266dc7269b467fc385815f39b913";
    let sha1 = "e0c2b391a5e2a8ea8847c5eaaaa44bb14c5963f3";
    let flat = format!(
        r#"{{"b":{{"mime_type":"text/plain","digest":{{"sha256":"{sha256}"}}}},"a":{{"mime_type":"","digest":{{"gitoid:sha1":"gitoid:blob:sha1:{sha1}","dirHash":"{sha256}"}},"new":1}}}}"#
    );
    let table = files(&product("v0.1", &flat)).expect("reads");
    let paths: Vec<_> = table.iter().map(|file| (file.path, file.mime)).collect();
    assert_eq!(paths, [("a", Some("")), ("b", Some("text/plain"))]);
    assert_eq!(table.get("b").expect("b").digests, Digests::of_sha256(hex32(sha256)));
    assert_eq!(table.get("a").expect("a").digests.digest_set().0.len(), 2);
    assert_eq!(table.find("sha256", sha256), Some("b"));
    assert_eq!(table.find("dirHash", sha256), Some("a"));
    assert_eq!(table.find("gitoid:sha1", sha1), Some("a"));
    assert_eq!(table.find("gitoid:sha1", &format!("gitoid:blob:sha1:{sha1}")), Some("a"));
    for (algorithm, value) in [("sha1", sha1), ("sha256", sha1), ("sha256", ""), ("sha512", sha256), ("SHA256", sha256)]
    {
        assert_eq!(table.find(algorithm, value), None, "{algorithm}");
    }
    // Numbers of wire-formats §10.
    let tree = format!(
        r#"{{"merkleRoot":"5217e1cde90c350b0b8df2c0f0adb6213c70b0c5d9f6fc05537cc5f067cb31e6","treeSize":1,"hashAlgorithm":"sha256","construction":"RFC6962","leaves":[{{"path":"x","fileDigest":"{sha256}","leafHash":"462933edc73175fd2ec3b98d90ca5fd4625464965963af81080fba0371978259","kind":"vex"}}]}}"#
    );
    let table = files(&product("v0.3", &tree)).expect("reads");
    assert_eq!((table.find("sha256", sha256), table.is_tree()), (Some("x"), true));
    // Two paths of one content are one leaf, and both are kept where they are written.
    let both = tree.replace("[{", &format!(r#"[{{"path":"y","fileDigest":"{sha256}"}},{{"#));
    assert_eq!(files(&product("v0.3", &both)).expect("reads").len(), 2);

    assert!(Files::read(&product("v0.4", "{}")).is_none());
    assert!(Files::read(&with_type("https://witness.dev/attestations/git/v0.1", "{}")).is_none());
    assert!(files(&product("v0.1", "null")).expect("Go's empty map").is_empty());
}

#[test]
fn files_in_no_known_form_are_no_empty_list() {
    let hash = "5".repeat(64);
    for (predicate, reason) in [
        (r#"{"f":{"digest":{"sha256":"H"}},"f":{"digest":{"sha256":"H"}}}"#, "\"f\" stands there twice"),
        (r#"{"f":{"digest":{}},"a":{"digest":{}},"f":{"digest":{}}}"#, "\"f\" stands there twice"),
        (r#"{"f":{"digest":{"sha256":"H","sha256":"H"}}}"#, "sha256 stands there twice"),
        (r#"{"f":{"digest":{},"digest":{}}}"#, "\"digest\" stands there twice"),
        (r#"{"f":{"digest":{"sha256":"Ha"}}}"#, "is no digest that is known"),
        (r#"{"f":{"digest":{"sha256":"ABCDEF"}}}"#, "is no digest that is known"),
        (r#"{"f":{"digest":{"sha512":"H"}}}"#, "is no digest that is known"),
        (r#"{"f":{"digest":{"gitoid:sha256":"H"}}}"#, "is no digest that is known"),
        (r#"{"f":{"mime_type":"x"}}"#, "missing field `digest`"),
        (r#"{"merkleRoot":"H","treeSize":0}"#, "a product"),
        (r#"{"a":{"a":{}}}"#, "missing field `digest`"),
        ("[]", "a map of files"),
    ] {
        let error = files(&product("v0.1", &predicate.replace('H', &hash))).expect_err(predicate);
        assert!(error.contains(reason), "{predicate}: {error}");
    }
}

/// The root that cilock writes for two leaves (wire-formats §10), and every member of the tree changed.
#[test]
fn merkle_trees_are_computed_again() {
    let tree = r#"{"merkleRoot":"a94a955c238fff57b5c3713b997729a25724d325fc2069c7ab08c473acd2bcef","treeSize":2,"hashAlgorithm":"sha256","construction":"RFC6962","leaves":[{"path":"a","fileDigest":"56f6e6304d02d413bb7d5d463ac5cdc58551266dc7269b467fc385815f39b913","leafHash":"462933edc73175fd2ec3b98d90ca5fd4625464965963af81080fba0371978259"},{"path":"b","fileDigest":"9cfc6fcb3139b1e5d6aa0ddc4615fb4051a92f0af97df0ccf182fe06cc164d5f","leafHash":"d3cdaa3b7e014ed84ff800e7143c6f9e80d509146aee1863be38f4d9e5b7f286"}]}"#;
    let table = files(&product("v0.3", tree)).expect("cilock's own");
    let built = merkle::build(&table).expect("builds");
    assert_eq!(hex::encode(built.root), "a94a955c238fff57b5c3713b997729a25724d325fc2069c7ab08c473acd2bcef");
    for (from, to, reason) in [
        ("a94a", "a94b", "`merkleRoot` is a94b"),
        ("\"a94a", "\"A94a", "not 64 lowercase hex digits"),
        (r#""treeSize":2"#, r#""treeSize":3"#, "`treeSize` is 3, the leaves give 2"),
        (r#""treeSize":2"#, r#""treeSize":-2"#, "invalid value"),
        (r#":"sha256""#, r#":"sha512""#, "`hashAlgorithm` is \"sha512\""),
        ("RFC6962", "RFC9162", "`construction` is \"RFC9162\""),
        (r#","construction":"RFC6962""#, "", "missing field `construction`"),
        (r#","leaves":["#, r#","Leaves":["#, "`treeSize` is 2, the leaves give 0"),
        ("56f6", "56f7", "`leafHash` of \"a\""),
        ("4629", "4628", "`leafHash` of \"a\""),
        ("56f6e6", "56f6e", "`fileDigest` of \"a\""),
        (r#""path":"b""#, r#""path":"a""#, "\"a\" stands there twice"),
        (r#""path":"b""#, r#""path":null"#, "string"),
        (r#""treeSize":2"#, r#""treeSize":2,"treeSize":2"#, "\"treeSize\" stands there twice"),
    ] {
        assert!(tree.contains(from), "{from}");
        let error = files(&product("v0.3", &tree.replacen(from, to, 1))).expect_err(to);
        assert!(error.contains(reason), "{to}: {error}");
    }
    let empty = r#"{"merkleRoot":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","treeSize":0,"hashAlgorithm":"sha256","construction":"RFC6962"}"#;
    assert!(files(&product("v0.3", empty)).expect("no files").is_empty());
    let many = format!(
        r#"{{"leaves":[{}]}}"#,
        vec![format!(r#"{{"path":"","fileDigest":"{}"}}"#, "0".repeat(64)); (1 << 20) + 1].join(",")
    );
    assert!(files(&product("v0.3", &many)).expect_err("too many").contains("more than 1048576 leaves"));
}

/// What cilock recorded is what is written for the same files, byte for byte.
#[test]
fn recorded_trees_are_written_again() {
    let mut trees = 0;
    for file in ["cilock/docker-build", "cilock/docker-sbom", "cilock/certificate"] {
        let payload = recorded(file);
        let statement = Statement::parse_strict(&payload).expect(file);
        let collection = statement.collection().expect("a collection").expect(file);
        for name in ["material", "product"] {
            let entry = entry(&collection, name);
            if !entry.kind.ends_with("/v0.3") {
                continue;
            }
            let tree = merkle::build(Files::read(entry).expect("files").expect(file)).expect("a tree");
            let root = DigestSet::sha256_hex(hex::encode(tree.root));
            let subject = format!("{}/tree:{name}s", entry.kind);
            let recorded = statement.subject.iter().find(|one| one.name == subject).expect("the root is a subject");
            assert_eq!(recorded.digest_set(), root, "{file}");
            let written = serde_json::to_string(&tree.predicate(name == "product")).expect("writes");
            assert_eq!(written, entry.attestation.get(), "{file} {name}");
            trees += 1;
        }
    }
    assert!(trees >= 4, "only {trees} trees were recorded");
}

/// As cilock has it: `leaves` is there for materials even when it is empty, and is left out of an empty product.
#[test]
fn trees_of_no_file_are_written() {
    let table = Files::default();
    let tree = merkle::build(&table).expect("builds");
    let material = serde_json::to_value(tree.predicate(false)).expect("writes");
    assert_eq!((&material["leaves"], &material["treeSize"]), (&serde_json::json!([]), &0.into()));
    let product = serde_json::to_value(tree.predicate(true)).expect("writes");
    assert_eq!((product.get("leaves"), &product["merkleRoot"]), (None, &material["merkleRoot"]));
}

#[test]
fn paths_of_one_content_are_kept_beside_the_leaves() {
    let content = Digests::of_sha256([7; 32]);
    let table = Files::of([("b", content), ("a", content), ("c", Digests::of_sha256([8; 32]))]).expect("files");
    let tree = merkle::build(&table).expect("builds");
    let written = serde_json::to_string(&tree.predicate(true)).expect("writes");
    let value: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    let paths = |list: &serde_json::Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|leaf| leaf["path"].as_str().expect("a path").to_owned()).collect()
    };
    assert_eq!((paths(&value["leaves"]), &value["treeSize"]), (vec!["a".into(), "c".into()], &2.into()));
    assert_eq!(paths(&value["affiant"]["alike"]), ["b"]);
    let read = files(&product("v0.3", &written)).expect("our own");
    assert_eq!(read, table);
    assert!(read.is_tree());
    // A rule about paths sees all of them.
    let shown =
        input::present(&product("v0.3", &written), "https://aflock.ai/attestations/product/v0.3").expect("shown");
    let shown: serde_json::Value = serde_json::from_str(shown.get()).expect("JSON");
    assert_eq!(paths(&shown["leaves"]), ["a", "b", "c"]);

    let alike = format!(r#"{{"path":"b","fileDigest":"{}"}}"#, "07".repeat(32));
    for (to, reason) in [
        (alike.replace("07", "09"), "`affiant.alike` names \"b\""),
        (alike.replace("\"b\"", "\"a\""), "\"a\" stands there twice"),
        (format!("{alike},{alike}"), "\"b\" stands there twice"),
        (alike.replace("0707", "07"), "not 64 lowercase hex digits"),
        (format!(r#"{alike}],"alike":[{alike}"#), "\"alike\" stands there twice"),
    ] {
        let changed = written.replacen(&alike, &to, 1);
        assert_ne!(changed, written);
        let error = files(&product("v0.3", &changed)).expect_err(&to);
        assert!(error.contains(reason), "{to}: {error}");
    }
    let both = Files::of([("x\\y", content), ("x/y", content)]).expect("files");
    assert!(matches!(merkle::build(&both), Err(merkle::MerkleError::Path { .. })));
}

/// RFC 6962 §2.1 as it is written there.
fn naive_root(leaves: &[[u8; 32]]) -> [u8; 32] {
    use crate::digest::sha256;
    match leaves {
        [] => sha256(b""),
        [one] => sha256(&[&[0], one.as_slice()].concat()),
        more => {
            let half = more.len().next_power_of_two() / 2;
            let (left, right) = more.split_at(half);
            sha256(&[&[1], naive_root(left).as_slice(), naive_root(right).as_slice()].concat())
        }
    }
}

/// Digest sets of two contents, with any subset of the algorithms.
fn digests(content: u8, which: u8) -> Digests {
    let has = |bit: u8| which >> bit & 1 == 1;
    Digests {
        sha256: has(0).then_some([content; 32]),
        gitoid_sha256: has(1).then_some([content; 32]),
        dir_hash: None,
        sha1: has(2).then_some([content; 20]),
        gitoid_sha1: has(3).then_some([content; 20]),
    }
}

proptest! {
    #[test]
    fn merkle_root_is_that_of_the_naive_recursion(leaves in proptest::collection::vec(any::<[u8; 32]>(), 0..70)) {
        prop_assert_eq!(merkle::root(leaves.iter().copied()), naive_root(&leaves));
    }

    #[test]
    fn a_tree_holds_each_content_once(contents in proptest::collection::btree_map("[a-c\\\\]{1,3}", any::<[u8; 1]>(), 0..20)) {
        let digests = |content: &[u8; 1]| Digests::of_sha256(crate::digest::sha256(content));
        let table = Files::of(contents.iter().map(|(path, content)| (path.as_str(), digests(content)))).expect("files");
        let tree = merkle::build(&table).expect("all have a SHA-256");
        // cilock: sort pairs of digest and path, keep the first of each digest.
        let mut pairs: Vec<_> = contents.iter().map(|(path, content)| (crate::digest::sha256(content), path.replace('\\', "/"))).collect();
        pairs.sort();
        pairs.dedup_by_key(|pair| pair.0);
        let leaves: Vec<_> = tree.leaves().map(|leaf| (leaf.digest, leaf.path.into_owned())).collect();
        prop_assert_eq!(&leaves, &pairs);
        prop_assert_eq!(tree.size, pairs.len());
        prop_assert_eq!(tree.files().count(), table.len());
        let hashes: Vec<_> = pairs.iter().map(|(digest, _)| merkle::leaf_hash(digest)).collect();
        prop_assert_eq!(tree.root, naive_root(&hashes));
    }

    #[test]
    fn digest_sets_are_equal_by_their_strongest_class(a in 0_u8..2, b in 0_u8..2, x in 0_u8..16, y in 0_u8..16) {
        let (left, right) = (digests(a, x), digests(b, y));
        let shared = x & y;
        let strong = (x | y) & 0b0011 != 0;
        let expected = a == b && if strong { shared & 0b0011 != 0 } else { shared & 0b1100 != 0 };
        prop_assert_eq!(left.same(&right), expected);
        prop_assert_eq!(right.same(&left), expected);
    }

    #[test]
    fn compare_and_overlay_agree_with_maps(
        s in proptest::collection::btree_map("[a-d]{1,2}", (0_u8..2, 0_u8..16), 0..12),
        m in proptest::collection::btree_map("[a-d]{1,2}", (0_u8..2, 0_u8..16), 0..12),
        p in proptest::collection::btree_map("[a-d]{1,2}", (0_u8..2, 0_u8..16), 0..12),
    ) {
        let table = |map: &BTreeMap<String, (u8, u8)>| Files::of(map.iter().rev().map(|(path, (content, which))| (path.as_str(), digests(*content, *which)))).expect("files");
        let mut left = m.clone();
        left.extend(p.clone());
        let artifacts = table(&m).overlay(&table(&p));
        prop_assert_eq!(&artifacts, &table(&left));
        let edge = table(&s).compare(&artifacts);
        let shared: Vec<_> = s.iter().filter(|(path, _)| left.contains_key(*path)).collect();
        prop_assert_eq!(edge.shared, shared.len());
        let different: Vec<_> = shared.iter().filter(|(path, (content, which))| {
            let (other, others) = left[*path];
            !digests(*content, *which).same(&digests(other, others))
        }).map(|(path, _)| (*path).clone()).collect();
        prop_assert_eq!(edge.different_total, different.len());
        let listed: Vec<_> = edge.different.into_iter().map(|one| one.path).collect();
        prop_assert_eq!(listed, different);
    }

    #[test]
    fn find_returns_the_first_path(contents in proptest::collection::btree_map("[a-d]{1,3}", (0_u8..9, 0_u8..16), 0..20), wanted in 0_u8..9) {
        let table = Files::of(contents.iter().map(|(path, (content, which))| (path.as_str(), digests(*content, *which)))).expect("files");
        let first = contents.iter().find(|(_, (content, which))| *content == wanted && which & 1 == 1).map(|(path, _)| path.as_str());
        prop_assert_eq!(table.find("sha256", &hex::encode([wanted; 32])), first);
    }

    #[test]
    fn no_predicate_makes_a_reader_panic(text in "[\\[\\]{}:,\"a01.-]{0,40}") {
        let _ = Statement::parse_strict(text.as_bytes());
        if let Ok(raw) = serde_json::from_str::<&RawValue>(&text) {
            for kind in ["product/v0.1", "product/v0.3", "material/v0.1", "command-run/v0.1"] {
                let entry = with_type(&format!("https://aflock.ai/attestations/{kind}"), raw.get());
                let _ = (Files::read(&entry), entry.exit_code());
            }
        }
    }
}

#[test]
fn a_long_list_of_differences_is_cut() {
    let paths: Vec<_> = (0..1000).map(|at| format!("{at:04}")).collect();
    let table =
        |byte| Files::of(paths.iter().map(|path| (path.as_str(), Digests::of_sha256([byte; 32])))).expect("files");
    let edge = table(1).compare(&table(2));
    assert_eq!((edge.shared, edge.different_total, edge.different.len()), (1000, 1000, files::MAX_DIFFERENCES));
    assert_eq!(edge.different[0].found.sha256(), Some(&*"01".repeat(32)));
    assert_eq!(edge.different[0].expected.sha256(), Some(&*"02".repeat(32)));
}

/// The steps of the recorded pipelines fit, and an edited file is found.
#[test]
fn recorded_steps_are_joined_by_their_files() {
    for peer in ["witness", "cilock"] {
        let (build, sbom) = (recorded(&format!("{peer}/docker-build")), recorded(&format!("{peer}/docker-sbom")));
        let (build, sbom) =
            (Statement::parse_strict(&build).expect("reads"), Statement::parse_strict(&sbom).expect("reads"));
        let (build, sbom) = (
            build.collection().expect("a collection").expect("reads"),
            sbom.collection().expect("a collection").expect("reads"),
        );
        let (materials, products) =
            (files(entry(&build, "material")).expect("reads"), files(entry(&build, "product")).expect("reads"));
        let found = files(entry(&sbom, "material")).expect("reads");
        let edge = found.compare(&materials.overlay(&products));
        assert!(edge.shared > 20, "{peer}: {edge:?}");
        assert_eq!(edge.different, [], "{peer}");
        let image = products.get("image.tar").expect("the image").digests;
        assert_eq!(found.find_sha256(&image.sha256.expect("a SHA-256")), Some("image.tar"), "{peer}");
        let edited = found.overlay(&Files::of([("image.tar", Digests::of_sha256([0; 32]))]).expect("files"));
        let edge = edited.compare(&materials.overlay(&products));
        assert_eq!(edge.different.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["image.tar"], "{peer}");
    }
}

fn backrefs(payload: &[u8]) -> Vec<links::BackReference> {
    let statement = Statement::parse_strict(payload).expect("reads");
    let collection = statement.collection().expect("a collection").expect("reads");
    links::backrefs(&statement, &collection)
}

#[test]
fn back_references_are_signed_or_those_of_witness() {
    let names = |file: &str| backrefs(&recorded(file)).into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(
        names("witness/docker-build"),
        ["https://witness.dev/attestations/git/v0.1/commithash:b4d381d2e9db03edefc61212df811eaf5d2178f2"]
    );
    let signed = names("cilock/docker-build");
    // Not the image's tag, which all builds have in common that were ever given it.
    assert_eq!(signed.len(), 5, "{signed:?}");
    assert!(!signed.iter().any(|name| name.contains("imagetag")), "{signed:?}");
    assert!(signed.iter().any(|name| name.ends_with("/tree:products")), "{signed:?}");
}

#[test]
fn parent_commits_and_malformed_digests_link_nothing() {
    let statement = |subjects: &str, members: &str| {
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v0.1","subject":[{subjects}],"predicateType":"{COLLECTION_TYPE}","predicate":{{"name":"a"{members}}}}}"#
        )
    };
    let commit = "a".repeat(40);
    let subject = |name: &str, digest: &str| format!(r#"{{"name":"{name}","digest":{{{digest}}}}}"#);
    let git = "https://aflock.ai/attestations/git/v0.1";
    let sha1 = format!(r#""sha1":"{commit}""#);
    let subjects = [
        subject(&format!("{git}/commithash:{commit}"), &sha1),
        subject(&format!("{git}/parenthash:{commit}"), &sha1),
        subject(&format!("{git}/authoremail:a@b.c"), &sha1),
        subject(&format!("commithash:{commit}"), &sha1),
        subject("https://other.example/git/v0.1/commithash:x", &sha1),
        subject("https://witness.dev/attestations/gitlab/v0.1/pipelineurl:x", r#""sha256":"short""#),
    ];
    let found = backrefs(statement(&subjects.join(","), "").as_bytes());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].digest.0, BTreeMap::from([("sha1".to_owned(), commit.clone())]));
    let parent = |name: &str| format!(r#""{name}":{{{sha1}}}"#);
    let written = [
        parent(&format!("{git}/parenthash:{commit}")),
        parent("https://other.example/x/ParentHash:1"),
        parent("parenthash:1"),
        r#""odd":{"sha256":""}"#.to_owned(),
        r#""empty":{}"#.to_owned(),
        format!(r#""{git}/commithash:{commit}":{{{sha1},"sha512":"x"}}"#),
    ];
    let found =
        backrefs(statement(&subjects.join(","), &format!(r#","backrefs":{{{}}}"#, written.join(","))).as_bytes());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].digest.0.len(), 1);
    // An empty map is a map: its producer says that there are none.
    assert!(backrefs(statement(&subjects.join(","), r#","backrefs":{}"#).as_bytes()).is_empty());
}

#[test]
fn what_many_runs_have_in_common_links_nothing() {
    let written = |name: &str, algorithm: &str, value: &str| {
        let predicate = format!(r#"{{"name":"a","backrefs":{{"{name}":{{"{algorithm}":"{value}"}}}}}}"#);
        backrefs(
            format!(r#"{{"_type":"{STATEMENT_V1}","subject":[],"predicateType":"{COLLECTION_TYPE}","predicate":{predicate}}}"#)
                .as_bytes(),
        )
        .len()
    };
    let (other, text) = ("ab".repeat(32), sha256_hex(b"main"));
    // By its name, whatever its digest; by its digest, whatever its name; neither.
    assert_eq!(written("https://aflock.ai/attestations/git/v0.1/refnameshort:main", "sha256", &other), 0);
    assert_eq!(written("https://other.example/x/v0.1/branch:main", "sha256", &text), 0);
    assert_eq!(written("https://other.example/x/v0.1/branch:main", "sha256", &other), 1);
}

#[test]
fn subjects_of_texts_prove_nothing() {
    let payload = recorded("witness/docker-build");
    let statement = Statement::parse_strict(&payload).expect("reads");
    let mut real: Vec<_> = statement
        .subject
        .iter()
        .map(|subject| (links::standing(&subject.name), subject.name.rsplit('/').next().unwrap_or_default().to_owned()))
        .filter(|(standing, _)| *standing != Standing::Finds)
        .map(|(standing, name)| (standing, name.split_at(8).0.to_owned()))
        .collect();
    real.sort();
    assert_eq!(
        real,
        [
            (Standing::Product, "file:doc".to_owned()),
            (Standing::Product, "file:ima".to_owned()),
            (Standing::Product, "tardiges".to_owned()),
            (Standing::Image, "imagedig".to_owned()),
            (Standing::ImageId, "imageid:".to_owned()),
        ]
    );
    for name in [
        "release=1",
        "file:x",
        "https://aflock.ai/attestations/material/v0.3/tree:materials",
        "https://aflock.ai/attestations/lockfiles/v0.1/file:go.sum",
        "https://aflock.ai/attestations/git/v0.1/commithash:aa",
        "https://aflock.ai/attestations/docker/v0.1/materialdigest:aa",
        "https://aflock.ai/attestations/oci/v0.1/imagetag:file:x",
        "https://aflock.ai/attestations/product/v0.1/name:file:x",
        "https://other.example/attestations/product/v0.1/file:x",
        "https://aflock.ai/attestations/aws/v0.1/imageid:ami-1",
    ] {
        assert!(!links::is_real(name), "{name}");
    }
    for name in ["https://aflock.ai/attestations/product/v0.3/tree:products", "https://cyclonedx.org/bom/file:x/y:z"] {
        assert!(links::is_real(name), "{name}");
    }
}

#[test]
fn subjects_of_other_statements() {
    let real = |name: &str, digest: DigestSet| {
        let digest = digest.0.into_iter().map(|(algorithm, value)| (algorithm.into(), value.into())).collect();
        links::is_real_external(&SubjectView { name: name.into(), digest })
    };
    let content = || DigestSet::of_text("the content of a file");
    for name in [
        "app.tar",
        "registry.example/app",
        "pkg:docker/app@1",
        "file:out.bin",
        "sha256:aa",
        "",
        "imagedigest:aa",
        "a/b",
    ] {
        assert!(real(name, content()), "{name}");
    }
    assert!(real("commit of another tool", DigestSet::sha1_hex("a".repeat(40))));
    for name in ["commithash:aa", "authoremail:a@b.c", "layerdiffid01:aa", "tree:materials", "imagetag:x", "policy:x"] {
        assert!(!real(name, content()), "{name}");
    }
    let typed = "https://witness.dev/attestations/git/v0.1/commithash:aa";
    assert!(!real(typed, content()));
    // Whatever it is called: the digest of a part of its own name is that of a text.
    for (name, text) in
        [("v1.0", "v1.0"), ("trivy:cve:CVE-1", "CVE-1"), ("x:y/z", "z"), ("project:g/a@1", "project:g/a@1")]
    {
        assert!(!real(name, DigestSet::of_text(text)), "{name}");
    }
    assert!(!real(&"a/".repeat(100), content()), "more parts than are looked at");
    assert!(!real(&"a".repeat(5000), content()), "longer than is looked at");
}
