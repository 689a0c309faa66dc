//! Chains of certificates: class F of the threat model, and the rules of RFC 5280.

use super::super::*;
use super::make::{
    ANY, CODE_SIGNING, DIGITAL_SIGNATURE, Draft, KEY_ENCIPHERMENT, SERVER, TIME_STAMPING, World, at, directory, dns,
    email, ip, name, noon, seq, tlv, uri,
};
use super::{certificate, fixture};

fn find(leaf: &Certificate, intermediates: &[Certificate], anchors: &[Anchor]) -> Result<Chain, ChainError> {
    chain(leaf, intermediates, anchors, noon(), Purpose::CodeSigning)
}

/// The chain of a world.
fn of(world: &World) -> Result<Chain, ChainError> {
    let intermediate = world.intermediate.certificate(&world.root);
    find(&world.leaf.certificate(&world.intermediate), &[intermediate], &[world.root.anchor("r")])
}

fn refused(change: impl FnOnce(&mut World)) -> String {
    let mut world = World::new();
    change(&mut world);
    of(&world).expect_err("must not hold").to_string()
}

#[test]
fn a_chain_leads_from_leaf_to_root() {
    let chain = of(&World::new()).expect("a chain");
    assert_eq!(chain.anchors, ["r"]);
    let labels: Vec<String> = chain.path.iter().map(Certificate::label).collect();
    assert_eq!(labels, ["CN=leaf,O=Example", "CN=intermediate,O=Example", "CN=root,O=Example"]);
}

#[test]
fn class_f_every_certificate_must_be_valid_at_that_time() {
    let old = "was not valid at 2026-06-01T12:00:00Z: it is from 20";
    for (label, change) in [
        ("`CN=leaf,O=Example`", (|world: &mut World| &mut world.leaf) as fn(&mut World) -> &mut Draft),
        ("`CN=intermediate,O=Example`", |world| &mut world.intermediate),
        ("`CN=root,O=Example`", |world| &mut world.root),
    ] {
        for (from, until, valid) in [
            ("20200101000000Z", "20260601115959Z", false),
            ("20200101000000Z", "20260601120000Z", true),
            ("20260601120000Z", "20990101000000Z", true),
            ("20260601120001Z", "20990101000000Z", false),
            ("20260101000000Z", "99991231235959Z", true),
        ] {
            let mut world = World::new();
            let draft = change(&mut world);
            (draft.from, draft.until) = (from, until);
            let result = of(&world);
            assert_eq!(result.is_ok(), valid, "{label} {from} {until}: {result:?}");
            if let Err(error) = result {
                assert!(error.to_string().starts_with(&format!("{label} {old}")), "{error}");
            }
        }
    }
}

#[test]
fn class_f_what_a_leaf_is_for() {
    let purpose = |purposes: Option<(bool, Vec<&'static str>)>| {
        let mut world = World::new();
        world.leaf.purposes = purposes;
        of(&world).map(drop).map_err(|error| error.to_string())
    };
    assert!(purpose(Some((false, vec![SERVER, CODE_SIGNING]))).is_ok());
    for other in [None, Some((false, vec![SERVER])), Some((true, vec![ANY])), Some((false, vec![TIME_STAMPING]))] {
        let error = purpose(other).expect_err("not for evidence");
        let expected =
            "`CN=leaf,O=Example` is not for signing evidence: its extended key usage does not have codeSigning";
        assert_eq!(error, expected);
    }
    assert!(refused(|world| world.leaf.usage = Some(KEY_ENCIPHERMENT)).contains("does not have digitalSignature"));
    let mut world = World::new();
    world.leaf.usage = None;
    assert!(of(&world).is_ok(), "key usage may be left out");
}

#[test]
fn class_g_what_a_timestamper_is_for() {
    let world = World::new();
    let check = |purposes: Option<(bool, Vec<&'static str>)>| {
        let leaf = Draft { purposes, ..world.timestamper.clone() }.certificate(&world.time_root);
        chain(&leaf, &[], &[world.time_root.anchor("t")], noon(), Purpose::TimeStamping).map_err(|e| e.to_string())
    };
    assert!(check(Some((true, vec![TIME_STAMPING]))).is_ok());
    for (purposes, reason) in [
        (Some((false, vec![TIME_STAMPING])), "its extended key usage is not critical"),
        (Some((true, vec![TIME_STAMPING, CODE_SIGNING])), "its extended key usage is not timeStamping alone"),
        (Some((true, vec![ANY])), "its extended key usage is not timeStamping alone"),
        (Some((true, vec![])), "its extended key usage is not timeStamping alone"),
        (None, "its extended key usage is not timeStamping alone"),
    ] {
        let expected = format!("`CN=timestamper,O=Example` is not for timestamps: {reason}");
        assert_eq!(check(purposes).map(drop), Err(expected));
    }
}

#[test]
fn class_f_who_may_certify() {
    let not = "`CN=intermediate,O=Example` must not certify others here: ";
    for (expected, change) in [
        (
            "its basic constraints do not make it an authority",
            (|world: &mut World| world.intermediate.authority = false) as fn(&mut World),
        ),
        ("its key usage does not have keyCertSign", |world| world.intermediate.usage = Some(DIGITAL_SIGNATURE)),
        ("its extended key usage does not have signing evidence", |world| {
            world.intermediate.purposes = Some((false, vec![SERVER, TIME_STAMPING]));
        }),
    ] {
        assert_eq!(refused(change), format!("{not}{expected}"));
    }
    for purposes in [vec![SERVER, CODE_SIGNING], vec![ANY]] {
        let mut world = World::new();
        world.intermediate.purposes = Some((false, purposes));
        assert!(of(&world).is_ok());
    }
    // A leaf of the same root must not certify, whatever it would like to.
    let mut world = World::new();
    world.intermediate = Draft { key: 1, ..Draft::leaf("intermediate", 1) };
    assert!(of(&world).is_err());
}

#[test]
fn path_lengths_are_kept() {
    assert_eq!(
        refused(|world| world.root.path_length = Some(0)),
        "`CN=root,O=Example` must not certify others here: 1 authorities stand below it, its path length allows 0"
    );
    let mut world = World::new();
    world.root.path_length = Some(1);
    world.intermediate.path_length = Some(0);
    assert!(of(&world).is_ok());
    // A self-issued authority in between (a new key for the same name) does not count.
    let next_root = Draft { key: 5, ..world.root.clone() };
    world.root.path_length = Some(1);
    let chain = find(
        &world.leaf.certificate(&world.intermediate),
        &[world.intermediate.certificate(&next_root), next_root.certificate(&world.root)],
        &[world.root.anchor("r")],
    );
    assert_eq!(chain.expect("a chain").path.len(), 4);
    // Ten certificates are a path, eleven are not.
    for (authorities, holds) in [(MAX_PATH - 2, true), (MAX_PATH - 1, false)] {
        let mut above = Draft::authority("a0", 1);
        let root = above.anchor("r");
        let mut intermediates = Vec::new();
        for number in 1..=authorities {
            let next = Draft::authority(&format!("a{number}"), number % 12);
            intermediates.push(next.certificate(&above));
            above = next;
        }
        let leaf = Draft::leaf("leaf", 0).certificate(&above);
        let result = find(&leaf, &intermediates, &[root]);
        assert_eq!(result.is_ok(), holds, "{authorities}: {result:?}");
    }
}

#[test]
fn critical_extensions_that_are_not_known_are_refused() {
    let strange = ("1.2.3.4", true, vec![0x05, 0x00]);
    for (label, change) in [
        ("leaf", (|world: &mut World| &mut world.leaf) as fn(&mut World) -> &mut Draft),
        ("intermediate", |world| &mut world.intermediate),
        ("root", |world| &mut world.root),
    ] {
        let expected = format!("`CN={label},O=Example` has the critical extension 1.2.3.4, which is not supported");
        assert_eq!(refused(|world| change(world).more = vec![strange.clone()]), expected);
        let mut world = World::new();
        change(&mut world).more = vec![("1.2.3.4", false, vec![0x05, 0x00])];
        assert!(of(&world).is_ok());
    }
    // The poison of certificate transparency: such a certificate was never meant to be used.
    assert!(
        refused(|world| world.leaf.more = vec![("1.3.6.1.4.1.11129.2.4.3", true, vec![5, 0])]).contains("critical")
    );
}

#[test]
fn certificates_that_two_readers_read_differently_are_refused() {
    let world = World::new();
    let read = |change: &dyn Fn(&mut Draft)| {
        let mut leaf = world.leaf.clone();
        change(&mut leaf);
        Certificate::from_der(&leaf.issued_by(&world.intermediate)).expect_err("refused").to_string()
    };
    let purposes = seq(&[&super::make::oid(CODE_SIGNING)]);
    assert_eq!(
        read(&|leaf| leaf.more = vec![("2.5.29.37", false, purposes.clone())]),
        "the certificate has the extension 2.5.29.37 twice"
    );
    let issuer = |number: &'static str, value: Vec<u8>| (number, false, value);
    assert_eq!(
        read(&|leaf| {
            leaf.more = vec![
                issuer("1.3.6.1.4.1.57264.1.1", b"https://a".to_vec()),
                issuer("1.3.6.1.4.1.57264.1.8", super::make::utf8("https://b")),
            ];
        }),
        "damaged certificate: its two extensions for the issuer of the identity differ"
    );
    assert!(
        read(&|leaf| leaf.more = vec![issuer("1.3.6.1.4.1.57264.1.8", b"https://b".to_vec())])
            .contains("1.3.6.1.4.1.57264.1.8 is no text")
    );
    assert!(read(&|leaf| leaf.names = vec![dns("x"); MAX_NAMES + 1]).contains("more than 512 alternative names"));
    let mut der = world.leaf.issued_by(&world.intermediate);
    der.push(0);
    assert!(Certificate::from_der(&der).is_err(), "something follows");
    assert!(matches!(Certificate::from_der(&vec![0x30; MAX_CERTIFICATE + 1]), Err(CertificateError::TooLarge { .. })));
    // The algorithm outside of what is signed must be the one inside.
    let der = world.leaf.issued_by(&world.intermediate);
    let sha256 = super::make::oid("1.2.840.10045.4.3.2");
    let last = der.windows(sha256.len()).rposition(|window| window == sha256).expect("is there");
    let mut other = der.clone();
    other[last + sha256.len() - 1] = 3;
    assert_eq!(
        Certificate::from_der(&other).expect_err("refused").to_string(),
        "damaged certificate: its two signature algorithms differ"
    );
}

#[test]
fn class_f_who_is_trusted() {
    let world = World::new();
    let (leaf, intermediate) =
        (world.leaf.certificate(&world.intermediate), world.intermediate.certificate(&world.root));
    let root = world.root.self_signed();
    let stranger = [Draft::authority("other root", 6).anchor("o")];
    // Neither the intermediate nor the root become trusted by being in the envelope.
    let with = |offered: &[Certificate]| find(&leaf, offered, &stranger).expect_err("untrusted").to_string();
    assert_eq!(
        with(&[]),
        "the issuer `CN=intermediate,O=Example` of `CN=leaf,O=Example` is neither a root nor among the intermediates"
    );
    assert_eq!(
        with(std::slice::from_ref(&intermediate)),
        "the issuer `CN=root,O=Example` of `CN=intermediate,O=Example` is neither a root nor among the intermediates"
    );
    assert_eq!(
        with(&[intermediate.clone(), root.clone()]),
        "`CN=root,O=Example` is a root, but not one of those that are trusted"
    );
    let self_signed_leaf = world.leaf.self_signed();
    assert!(find(&self_signed_leaf, std::slice::from_ref(&self_signed_leaf), &stranger).is_err());
    assert_eq!(find(&leaf, &[], &[]).map(drop), Err(ChainError::NoAnchor { subject: leaf.label() }));
    // A root with the trusted name but another key signed.
    let imposter = Draft { key: 6, ..world.root.clone() };
    let forged = world.intermediate.certificate(&imposter);
    assert_eq!(
        find(&leaf, &[forged, imposter.self_signed()], &[world.root.anchor("r")]).expect_err("forged").to_string(),
        "`CN=root,O=Example` is a root, but not one of those that are trusted"
    );
    // Whoever gives the trust decides how far up it goes, as in Go.
    let anchor = |certificate: &Certificate| {
        [Anchor { id: "x".to_owned(), certificate: certificate.clone(), intermediates: Vec::new() }]
    };
    assert_eq!(find(&leaf, &[], &anchor(&intermediate)).expect("a trusted intermediate").path.len(), 2);
    assert_eq!(find(&leaf, &[], &anchor(&leaf)).expect("a trusted leaf").path.len(), 1);
    assert!(find(&leaf, &[], &anchor(&world.leaf.self_signed())).is_err(), "another leaf of that name");
    // Intermediates of an anchor help, and are not trusted either.
    let helping = Anchor { intermediates: vec![intermediate.clone()], ..world.root.anchor("r") };
    assert!(find(&leaf, &[], std::slice::from_ref(&helping)).is_ok());
    let useless = Anchor { certificate: stranger[0].certificate.clone(), ..helping };
    assert!(find(&leaf, &[], &[useless]).is_err());
}

#[test]
fn all_roots_that_a_leaf_leads_to_are_found() {
    let world = World::new();
    let other = Draft::authority("other root", 6);
    let leaf = world.leaf.certificate(&world.intermediate);
    // The intermediate is certified by both roots, which certify each other.
    let offered = [
        world.intermediate.certificate(&world.root),
        world.intermediate.certificate(&other),
        world.root.certificate(&other),
        other.certificate(&world.root),
    ];
    let anchors = [other.anchor("b"), world.root.anchor("c"), world.root.anchor("a")];
    let found = find(&leaf, &offered, &anchors).expect("a chain");
    assert_eq!(found.anchors, ["a", "b", "c"]);
    assert_eq!(found.path.len(), 3);
}

#[test]
fn class_h_loops_and_many_intermediates_end() {
    // Everybody certified everybody, and nobody is trusted.
    let drafts: Vec<Draft> = (0..6).map(|number| Draft::authority(&format!("a{number}"), number)).collect();
    let mesh: Vec<Certificate> = drafts.iter().flat_map(|of| drafts.iter().map(|by| of.certificate(by))).collect();
    let leaf = Draft::leaf("leaf", 7).certificate(&drafts[0]);
    let anchor = [Draft::authority("r", 8).anchor("r")];
    let error = find(&leaf, &mesh, &anchor).expect_err("nobody is trusted");
    assert_eq!(error.to_string(), "finding a chain for `CN=leaf,O=Example` would take too long");
    // Thirty-two with the name of the issuer and other keys: the right one among them is found.
    let world = World::new();
    let mut offered: Vec<Certificate> =
        (0..31).map(|serial| Draft { serial, key: 9, ..world.intermediate.clone() }.certificate(&world.root)).collect();
    offered.push(world.intermediate.certificate(&world.root));
    assert!(find(&world.leaf.certificate(&world.intermediate), &offered, &[world.root.anchor("r")]).is_ok());
}

#[test]
fn names_below_an_authority_are_constrained() {
    /// `permitted` under tag 0, `excluded` under tag 1.
    fn constraints(tag: u8, bases: &[Vec<u8>]) -> (&'static str, bool, Vec<u8>) {
        let subtrees: Vec<u8> = bases.iter().flat_map(|base| seq(&[base])).collect();
        ("2.5.29.30", true, seq(&[&tlv(0xa0 + tag, &[&subtrees])]))
    }
    let holds = |tag: u8, bases: &[Vec<u8>], names: &[Vec<u8>]| {
        let mut world = World::new();
        world.intermediate.more = vec![constraints(tag, bases)];
        world.leaf.names = names.to_vec();
        of(&world).map(drop).map_err(|error| error.to_string())
    };
    let permitted =
        |base: &Vec<u8>, name: &Vec<u8>| holds(0, std::slice::from_ref(base), std::slice::from_ref(name)).is_ok();
    let excluded =
        |base: &Vec<u8>, name: &Vec<u8>| holds(1, std::slice::from_ref(base), std::slice::from_ref(name)).is_err();
    let example = directory(&[("2.5.4.10", "Example")]);
    for (base, inside, outside) in [
        (dns("example.org"), dns("a.Example.org"), dns("badexample.org")),
        (dns("example.org"), dns("example.org"), dns("example.org.evil")),
        (dns("example.org"), dns("*.example.org"), dns("*.example.com")),
        (email("example.org"), email("a@example.org"), email("a@b.example.org")),
        (email(".example.org"), email("a@b.example.org"), email("a@example.org")),
        (email("a@example.org"), email("a@EXAMPLE.org"), email("b@example.org")),
        (uri("ci.example"), uri("https://ci.example/x"), uri("https://evil/ci.example")),
        (uri(".example"), uri("spiffe://ci.example/x"), uri("https://ci.example@evil/")),
        (ip(&[10, 0, 0, 0, 255, 0, 0, 0]), ip(&[10, 1, 2, 3]), ip(&[11, 1, 2, 3])),
        (directory(&[("2.5.4.10", "exAMPLE ")]), example.clone(), directory(&[("2.5.4.10", "Other")])),
    ] {
        assert!(permitted(&base, &inside), "{base:02x?} {inside:02x?}");
        assert!(!permitted(&base, &outside), "{base:02x?} {outside:02x?}");
        assert!(excluded(&base, &inside), "{base:02x?} {inside:02x?}");
        // Nothing is excluded by being outside, unless the name cannot be compared.
        let subject_is_hit = base[0] == 0xa4;
        assert_eq!(excluded(&base, &outside), subject_is_hit, "{base:02x?} {outside:02x?}");
    }
    // In doubt: inside what is excluded, outside what is permitted.
    assert!(excluded(&email("A@example.org"), &email("a@example.org")));
    assert!(!permitted(&email("A@example.org"), &email("a@example.org")));
    assert!(excluded(&dns("deep.a.example.org"), &dns("*.a.example.org")));
    for (base, name) in [
        (dns("example.org"), dns("a..example.org")),
        (dns("example.org"), dns("")),
        (email("example.org"), email("example.org")),
        (email("example.org"), email("@example.org")),
        (email(".example.org"), email("a@.example.org")),
        (uri("example.org"), uri("urn:a:b")),
        (uri("example.org"), uri("https://127.0.0.1/")),
        (ip(&[10, 0, 0, 0, 255, 0, 0, 0]), ip(&[10, 1, 2])),
    ] {
        assert!(!permitted(&base, &name) && excluded(&base, &name), "{base:02x?} {name:02x?}");
    }
    // Other kinds of names are not touched; the subject is one.
    assert!(permitted(&dns("example.org"), &email("a@evil")));
    let other = directory(&[("2.5.4.10", "Other")]);
    assert_eq!(
        holds(0, &[other], &[]),
        Err("the name `CN=leaf,O=Example` is not among the permitted names, says `CN=intermediate,O=Example`"
            .to_owned())
    );
    assert!(holds(0, &[directory(&[("2.5.4.10", "Example"), ("2.5.4.3", "leaf")])], &[]).is_ok());
    // An address in the subject counts as one.
    let mut world = World::new();
    world.intermediate.more = vec![constraints(0, &[email("example.org")])];
    world.leaf.names = Vec::new();
    world.leaf.subject = name(&[("1.2.840.113549.1.9.1", "a@evil.example")]);
    assert!(of(&world).is_err());
    // A leaf with its issuer's name is not passed over as an authority with a new key would be.
    let mut world = World::new();
    world.leaf.subject.clone_from(&world.intermediate.subject);
    world.leaf.names = vec![dns("evil.example")];
    assert!(of(&world).is_ok());
    world.intermediate.more = vec![constraints(1, &[dns("evil.example")])];
    assert!(of(&world).is_err());
    // A constraint of the root holds for the leaf, and for the intermediate.
    for (base, result) in [("intermediate", false), ("leaf", false), ("nobody", true)] {
        let mut world = World::new();
        world.root.more = vec![constraints(1, &[directory(&[("2.5.4.10", "Example"), ("2.5.4.3", base)])])];
        assert_eq!(of(&world).is_ok(), result, "{base}");
    }
    // What cannot be understood is refused: a kind that is not known, a distance.
    let registered = tlv(0x88, &[&[0x2a, 0x03]]);
    assert!(!permitted(&registered, &dns("a")));
    let mut world = World::new();
    let subtree = seq(&[&dns("example.org"), &tlv(0x80, &[&[1]])]);
    world.intermediate.more = vec![("2.5.29.30", true, seq(&[&tlv(0xa1, &[&subtree])]))];
    assert!(of(&world).is_err());
}

#[test]
fn what_openssl_signs_is_read() {
    for name in [
        "rsa-sha256",
        "rsa-sha384",
        "rsa-sha512",
        "rsa-pss-sha256",
        "rsa-pss-sha384",
        "rsa-pss-sha512-max",
        "p256-sha256",
        "p256-sha384",
        "p256-sha512",
        "p384-sha256",
        "p384-sha384",
        "p384-sha512",
        "p521-sha256",
        "p521-sha384",
        "p521-sha512",
        "ed25519",
        "rsa-sha1",
    ] {
        let all = Certificate::read_all(&fixture(&format!("openssl/{name}.pem"))).expect("certificates");
        let [leaf, root] = &all[..] else { panic!("two certificates") };
        let anchor = Anchor { id: name.to_owned(), certificate: root.clone(), intermediates: Vec::new() };
        let result = chain(leaf, &[], &[anchor], at("2030-01-01T00:00:00Z"), Purpose::CodeSigning);
        if name == "rsa-sha1" {
            let expected = "`CN=rsa-sha1,O=Example` is signed with an unsupported algorithm: RSA with SHA-1";
            assert_eq!(result.expect_err("SHA-1").to_string(), expected);
        } else {
            assert_eq!(result.expect(name).anchors, [name]);
        }
        assert_eq!(leaf.uris(), ["https://ci.example/workflow"]);
        assert_eq!(leaf.emails(), ["builder@example.org"]);
        assert_eq!(leaf.dns_names(), ["build.example.org"]);
        assert_eq!(leaf.policy_oids(), ["1.2.3.4.5", "1.2.3.4.6"]);
    }
}

#[test]
fn files_of_certificates() {
    let (leaf, root) = (fixture("keys/leaf.pem"), fixture("keys/root.pem"));
    let both = [&b"some text\n"[..], &leaf, b"and more\n", &root].concat();
    assert_eq!(Certificate::read_all(&both).expect("two").len(), 2);
    assert_eq!(Certificate::read_all(certificate("keys/leaf.pem").der()).expect("DER").len(), 1);
    assert_eq!(Certificate::read(&[b"\r\n\n", &leaf[..], b" \n"].concat()).expect("one"), certificate("keys/leaf.pem"));
    let refused = |bytes: &[u8]| Certificate::read(bytes).expect_err("refused").to_string();
    assert_eq!(refused(&[&leaf[..], &root].concat()), "one certificate is wanted here, found 2 PEM blocks");
    assert_eq!(refused(&both), "one certificate is wanted here, found 2 PEM blocks");
    assert_eq!(refused(&[&leaf[..], b"x"].concat()), "one certificate is wanted here, found text beside a PEM block");
    assert_eq!(refused(b""), "no certificate: nothing is there");
    assert_eq!(refused(b"{}"), "no certificate: neither PEM nor DER");
    assert_eq!(refused(&fixture("keys/policy.pub")), "no certificate: a PEM block `PUBLIC KEY`");
    let all = |bytes: &[u8]| Certificate::read_all(bytes).expect_err("refused").to_string();
    assert_eq!(all(&[&leaf[..], &root[..root.len() / 2]].concat()), "damaged certificate: a PEM block that has no end");
    assert_eq!(all(&leaf.repeat(MAX_CERTIFICATES + 1)), "33 certificates, at most 32 are read");
    assert_eq!(
        all(&String::from_utf8(leaf.clone()).expect("text").replace("MII", "!!!").into_bytes()),
        "damaged certificate: broken base64"
    );
}

#[test]
fn what_is_known_of_one_certificate_makes_no_other_pass() {
    let world = World::new();
    let (root, intermediate) = (world.root.anchor("r"), world.intermediate.certificate(&world.root));
    let leaf = world.leaf.certificate(&world.intermediate);
    let anchors = [root];
    let holds = |leaf: &Certificate, intermediate: &Certificate, at| {
        chain(leaf, std::slice::from_ref(intermediate), &anchors, at, Purpose::CodeSigning).map(drop)
    };
    // Twice, so that all is known that will be.
    assert_eq!(holds(&leaf, &intermediate, noon()), Ok(()));
    assert_eq!(holds(&leaf, &intermediate, noon()), Ok(()));
    // Another time: it is known who signed, and nobody asks then.
    let late = holds(&leaf, &intermediate, at("2040-01-01T00:00:00Z"));
    assert!(matches!(late, Err(ChainError::NotValid { .. })), "{late:?}");
    // The same name, and a key of the stranger's own: he signs the intermediate himself, and the leaf with it.
    let stranger = Draft { key: 6, ..world.root.clone() };
    let forged = Draft { key: 7, ..world.intermediate.clone() };
    let forged_leaf = world.leaf.certificate(&forged);
    let other_key = holds(&forged_leaf, &forged.certificate(&stranger), noon());
    assert!(matches!(other_key, Err(ChainError::BadSignature { .. })), "{other_key:?}");
    // The same key, and another validity: what the root signed has a byte changed, in the intermediate and in the leaf.
    let changed = |certificate: &Certificate, from: &str, to: &str| {
        let mut der = certificate.der().to_vec();
        let place = der.windows(from.len()).position(|part| part == from.as_bytes()).expect("it is there");
        der[place..place + from.len()].copy_from_slice(to.as_bytes());
        Certificate::from_der(&der).expect("a certificate")
    };
    let longer = changed(&intermediate, world.intermediate.until, "20990101000000Z");
    assert!(holds(&leaf, &longer, noon()).is_err());
    let longer = changed(&leaf, world.leaf.until, "20990101000000Z");
    assert!(matches!(holds(&longer, &intermediate, noon()), Err(ChainError::BadSignature { .. })));
    // Another issuer of the same name knows nothing of what the first one has signed.
    let other_anchors = [stranger.anchor("s")];
    let other_root = chain(&leaf, &[intermediate], &other_anchors, noon(), Purpose::CodeSigning);
    assert!(matches!(other_root, Err(ChainError::BadSignature { .. })), "{other_root:?}");
}
