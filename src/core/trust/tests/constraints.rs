//! `certConstraint`.

use serde_json::json;

use super::super::*;
use super::make::{Draft, World, directory, dns, email, ip, noon, oid, tlv, uri, utf8};

/// A signer with these names.
fn signer(names: &[Vec<u8>], change: impl FnOnce(&mut Draft)) -> SignerProof {
    let world = World::new();
    let mut leaf = Draft { names: names.to_vec(), ..Draft::leaf("leaf", 2) };
    change(&mut leaf);
    let chain = chain(
        &leaf.certificate(&world.intermediate),
        &[world.intermediate.certificate(&world.root)],
        &[world.root.anchor("r")],
        noon(),
        Purpose::CodeSigning,
    )
    .expect("a chain");
    SignerProof {
        index: 0,
        key_id: String::new(),
        identity: Identity::Certificate(chain),
        time: None,
        stamped: None,
        logged: Vec::new(),
        scheme: crate::sign::Scheme::EcdsaSha256,
        notes: Vec::new(),
    }
}

fn read(value: &serde_json::Value) -> Constraint {
    let (constraint, unknown) = Constraint::read(value).expect("a constraint");
    assert!(unknown.is_empty(), "{unknown:?}");
    constraint
}

/// The fields that do not fit.
fn fields(constraint: &serde_json::Value, signer: &SignerProof) -> Vec<String> {
    read(constraint).check(signer).err().into_iter().flatten().map(|mismatch| mismatch.field).collect()
}

#[test]
fn lists_must_fit_exactly() {
    let signer = signer(&[dns("a.example.org"), dns("b.example.org")], |_| {});
    let with = |list: &serde_json::Value| {
        fields(&json!({"commonname": "leaf", "organizations": ["Example"], "dnsnames": list, "roots": ["r"]}), &signer)
    };
    let none: [&str; 0] = [];
    let wrong = ["dnsnames"];
    assert_eq!(with(&json!(["b.example.org", "a.example.org"])), none, "the order does not matter");
    assert_eq!(with(&json!(["a.example.org", "b.example.org", ""])), none, "empty ones are not values");
    assert_eq!(with(&json!(["*"])), none);
    assert_eq!(with(&json!(["other", "*"])), none, "at any place");
    assert_eq!(with(&json!(["a.example.org"])), wrong, "one too many in the certificate");
    assert_eq!(with(&json!(["a.example.org", "b.example.org", "c.example.org"])), wrong, "one too few");
    assert_eq!(with(&json!(["a.example.org", "a.example.org", "b.example.org"])), wrong, "each as often");
    assert_eq!(with(&json!(["A.example.org", "b.example.org"])), wrong, "letters as they are");
    let twice = self::signer(&[dns("a.example.org"), dns("a.example.org")], |_| {});
    let twice_with = |list: &serde_json::Value| {
        fields(&json!({"commonname": "leaf", "organizations": ["Example"], "dnsnames": list, "roots": ["r"]}), &twice)
    };
    assert_eq!(twice_with(&json!(["a.example.org", "*.example.org"])), none, "the second is for the glob");
    assert_eq!(twice_with(&json!(["a.example.org"])), wrong);
    assert_eq!(with(&json!([])), wrong);
    assert_eq!(with(&json!([""])), wrong);
    assert_eq!(with(&json!(null)), wrong);
}

#[test]
fn each_glob_takes_exactly_one_value() {
    let signer = signer(&[dns("a.example.org"), dns("b.example.org")], |_| {});
    let with = |list: &serde_json::Value| {
        fields(&json!({"commonname": "*", "organizations": ["*"], "dnsnames": list, "roots": ["*"]}), &signer)
            .is_empty()
    };
    assert!(with(&json!(["*.example.org", "*.example.org"])));
    assert!(with(&json!(["?.example.org", "a.example.org"])));
    assert!(with(&json!(["{a,b}.example.org", "[!b].example.org"])));
    // Taking the first glob that fits would leave nothing for the second, whatever the order.
    assert!(with(&json!(["*.org", "a.*"])) && with(&json!(["a.*", "*.org"])));
    assert!(with(&json!(["*.org", "b.*"])) && with(&json!(["b.*", "*.org"])));
    assert!(!with(&json!(["*.example.org"])), "two values for one glob");
    assert!(!with(&json!(["*.org", "*.org", "*.org"])), "one glob too many");
    assert!(!with(&json!(["a.*", "a*"])), "both want the same");
    assert!(!with(&json!(["*.EXAMPLE.org", "*.org"])), "letters as they are");
    assert!(!with(&json!(["a.example.org", "a*"])), "the plain one took it");
}

#[test]
fn common_names_and_organizations() {
    let leaf = signer(&[], |_| {});
    let with = |name: &str| fields(&json!({"commonname": name, "organizations": ["Example"], "roots": ["r"]}), &leaf);
    assert!(with("leaf").is_empty() && with("*").is_empty() && with("le?f").is_empty());
    // cilock folds the case here; witness does not.
    assert_eq!(with("Leaf"), ["commonname"]);
    assert_eq!(with(""), ["commonname"], "empty: it must have none");
    let nameless = signer(&[uri("https://a")], |leaf| leaf.subject = super::make::name(&[]));
    assert!(fields(&json!({"uris": ["https://a"], "roots": ["r"]}), &nameless).is_empty());
    assert_eq!(
        fields(&json!({"commonname": "leaf", "uris": ["https://a"], "roots": ["r"]}), &nameless),
        ["commonname"]
    );
    let two = signer(&[], |leaf| leaf.subject = super::make::name(&[("2.5.4.3", "leaf"), ("2.5.4.3", "other")]));
    assert_eq!(two.certificate().and_then(Certificate::common_name), Some("other"), "as Go takes it");
    for name in ["leaf", "other"] {
        assert_eq!(fields(&json!({"commonname": name, "roots": ["r"]}), &two), ["commonname"], "it has two");
    }
}

#[test]
fn each_kind_of_name_can_deny_alone() {
    let leaf = signer(&[dns("d"), email("e@x"), uri("https://u")], |leaf| {
        leaf.more = vec![
            ("1.3.6.1.4.1.57264.1.20", false, super::make::utf8("https://issuer")),
            ("2.5.29.32", false, super::make::seq(&[&super::make::seq(&[&super::make::oid("1.2.3")])])),
        ];
    });
    let good = json!({"commonname": "leaf", "organizations": ["Example"], "dnsnames": ["d"], "emails": ["e@x"],
        "uris": ["https://u"], "roots": ["r"], "extensions": {"BuildTrigger": "https://issuer"}, "requiredpolicyoids": ["1.2.3"]});
    assert!(fields(&good, &leaf).is_empty());
    for (member, value) in [
        ("commonname", json!("x")),
        ("organizations", json!(["x"])),
        ("dnsnames", json!(["x"])),
        ("emails", json!(["x"])),
        ("uris", json!(["x"])),
        ("roots", json!(["x"])),
        ("roots", json!([])),
        ("requiredpolicyoids", json!(["1.2.3", "1.2.4"])),
    ] {
        let mut changed = good.clone();
        changed[member] = value;
        assert_eq!(fields(&changed, &leaf), [member]);
    }
    for (value, fits) in [
        ("https://issuer", true),
        ("https://*", true),
        ("*", true),
        ("https://issuer2", false),
        ("issuer", false),
        ("http?//x", false),
    ] {
        let mut changed = good.clone();
        changed["extensions"]["BuildTrigger"] = json!(value);
        assert_eq!(fields(&changed, &leaf).is_empty(), fits, "{value}");
    }
    for value in ["push", "*", "**"] {
        let mut changed = good.clone();
        changed["extensions"]["Subject"] = json!(value);
        let mismatches = read(&changed).check(&leaf).expect_err("it has no such extension");
        assert_eq!(
            mismatches[0].to_string(),
            format!("extensions.Subject: expected `{value}`, found no such extension")
        );
    }
}

fn username(text: &str) -> Vec<u8> {
    tlv(0xa0, &[&oid("1.3.6.1.4.1.57264.1.7"), &tlv(0xa0, &[&utf8(text)])])
}

const ID: &str = "https://git.example/app/ci.yml@refs/heads/main";

/// What is not compared by `constraint` where the certificate has these names, with Fulcio's issuer and without.
fn names_that_pass(constraint: &serde_json::Value, names: &[Vec<u8>]) -> [bool; 2] {
    [true, false].map(|is_of_fulcio| {
        let signer = signer(names, |leaf| {
            leaf.subject = super::make::name(&[]);
            if is_of_fulcio {
                leaf.more = vec![("1.3.6.1.4.1.57264.1.8", false, utf8("https://issuer"))];
            }
        });
        fields(constraint, &signer).is_empty()
    })
}

#[test]
fn every_name_of_a_certificate_is_compared() {
    let exactly = json!({"uris": [ID], "roots": ["r"]});
    // Of Fulcio, and of others as witness compares them.
    for (names, passes) in [
        (vec![uri(ID)], [true, true]),
        (vec![uri(ID), username(ID)], [false, false]),
        (vec![uri(ID), ip(&[10, 0, 0, 1])], [false, false]),
        (vec![uri(ID), directory(&[("2.5.4.3", "x")])], [false, false]),
        (vec![uri(ID), tlv(0x88, &[&[0x2a, 0x03]])], [false, false]),
        (vec![uri(""), uri(ID)], [false, true]),
        (vec![uri(&ID.replace("https", "HTTPS"))], [false, true]),
        (vec![uri(&format!("{ID}#"))], [false, true]),
        (vec![uri(ID), uri(ID)], [false, false]),
        (vec![uri(ID), email("a@b")], [false, false]),
        (vec![username(ID)], [false, false]),
        (vec![email(ID)], [false, false]),
        (vec![dns(ID)], [false, false]),
        (vec![], [false, false]),
    ] {
        assert_eq!(names_that_pass(&exactly, &names), passes, "{names:?}");
    }
    // Who asks for the issuer alone lets nobody in whose name is not seen.
    let issuer = json!({"extensions": {"Issuer": "https://issuer"}, "roots": ["r"]});
    let any = json!({"uris": ["*"], "emails": ["*"], "dnsnames": ["*"], "extensions": {"Issuer": "*"}, "roots": ["r"]});
    for (names, passes) in [
        (vec![username("dev")], true),
        (vec![ip(&[10, 0, 0, 1])], false),
        (vec![uri(ID)], true),
        (vec![uri(ID), email("a@b")], false),
        (vec![tlv(0xa0, &[&oid("1.2.3"), &tlv(0xa0, &[&utf8("dev")])])], false),
    ] {
        assert_eq!(names_that_pass(&issuer, &names), [false, false], "{names:?}");
        assert_eq!(names_that_pass(&any, &names)[0], passes, "{names:?}");
    }
    // `*` in each list is said on purpose.
    let anybody = json!({"commonname": "*", "uris": ["*"], "emails": ["*"], "dnsnames": ["*"], "roots": ["r"]});
    assert_eq!(names_that_pass(&anybody, &[ip(&[10, 0, 0, 1])]), [false, true]);
}

#[test]
fn an_empty_demand_on_an_extension_is_an_error() {
    for empty in [json!(""), json!(null)] {
        let error = Constraint::read(&json!({"uris": [ID], "roots": ["*"], "extensions": {"issuer": empty}}));
        let reason = "`extensions.issuer` is empty, and would demand nothing; `*` stands for any value";
        assert_eq!(error.expect_err("empty").to_string(), reason);
    }
}

#[test]
fn a_constraint_that_names_nobody_is_refused() {
    let nameless = signer(&[], |leaf| leaf.subject = super::make::name(&[]));
    for empty in [
        json!({"roots": ["r"]}),
        json!({"roots": ["*"], "commonname": "", "dnsnames": [""], "emails": [], "extensions": {}}),
    ] {
        assert!(read(&empty).is_vacuous());
        assert_eq!(fields(&empty, &nameless), ["certConstraint"]);
    }
    let on_purpose = json!({"roots": ["*"], "commonname": "*"});
    assert!(!read(&on_purpose).is_vacuous() && fields(&on_purpose, &nameless).is_empty());
    let key = SignerProof { identity: Identity::Key, ..nameless };
    assert_eq!(fields(&json!({"roots": ["*"], "commonname": "*"}), &key), ["certConstraint"]);
}

#[test]
fn members_are_read_as_go_reads_them_and_unknown_ones_reported() {
    let (constraint, unknown) = Constraint::read(&json!({
        "CommonName": "leaf", "dnsNames": ["*"], "ROOTS": ["r"], "extensions": {"issuer": "x", "SourceRepoURI": "y"},
        "commonnames": "z",
    }))
    .expect("reads");
    assert_eq!(unknown, ["extensions.SourceRepoURI", "commonnames"]);
    assert_eq!(constraint.roots(), ["r"]);
    assert_eq!(
        serde_json::to_value(&constraint).expect("writes"),
        json!({"commonname": "leaf", "dnsnames": ["*"], "emails": [], "organizations": [], "uris": [], "roots": ["r"],
            "extensions": {"Issuer": "x"}})
    );
    for (bad, reason) in [
        (json!([]), "`certConstraint` is not an object"),
        (json!({"dnsnames": "a"}), "`dnsnames` is not a list of texts"),
        (json!({"dnsnames": ["a", 1]}), "`dnsnames[1]` is not a text"),
        (json!({"commonname": ["a"]}), "`commonname` is not a text"),
        (json!({"extensions": {"Issuer": 1}}), "`extensions.Issuer` is not a text"),
        (json!({"emails": [], "Emails": ["*"]}), "`Emails` stands twice"),
        (json!({"extensions": {"Issuer": "a", "issuer": "*"}}), "`extensions.issuer` stands twice"),
        (json!({"uris": ["a\u{0}*"]}), "`uris` has a value with control characters"),
        (json!({"uris": ["[a"]}), "`uris`: bad glob `[a`: `[` without `]`"),
    ] {
        assert_eq!(Constraint::read(&bad).expect_err(reason).to_string(), reason);
    }
    let many = vec!["a"; MAX_VALUES + 1];
    assert!(matches!(Constraint::read(&json!({"uris": many})), Err(ConstraintError::TooMany { .. })));
}

#[test]
fn many_globs_and_names_end_quickly() {
    let names: Vec<Vec<u8>> = (0..MAX_NAMES).map(|number| dns(&format!("{}", number + 1000))).collect();
    let signer = signer(&names, |_| {});
    let globs = vec!["1*"; MAX_NAMES];
    assert!(
        fields(&json!({"commonname": "*", "organizations": ["*"], "dnsnames": globs, "roots": ["r"]}), &signer)
            .is_empty()
    );
    let mut globs = vec!["1*"; MAX_NAMES - 1];
    globs.push("2*");
    let with = json!({"commonname": "*", "organizations": ["*"], "dnsnames": globs, "roots": ["r"]});
    assert_eq!(fields(&with, &signer), ["dnsnames"]);
}
