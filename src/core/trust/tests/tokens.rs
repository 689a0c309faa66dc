//! Timestamp tokens: classes F and G of the threat model, RFC 3161, RFC 5652.

use super::super::timestamp::{MAX_BAG, MAX_TOKEN, TimestampError, token_of_response, verify};
use super::super::*;
use super::fixture;
use super::make::{CODE_SIGNING, Draft, Stamp, World, noon, octets, oid, seq, set, tlv};
use crate::sign::authority::Hash;

const MESSAGE: &[u8] = b"a signature";

fn check(stamp: &Stamp) -> Result<ProvenTime, TimestampError> {
    verify(&stamp.token(), MESSAGE, &[World::new().time_root.anchor("t")])
}

fn refused(change: impl FnOnce(&World, &mut Stamp)) -> String {
    let world = World::new();
    let mut stamp = world.stamp(MESSAGE);
    change(&world, &mut stamp);
    check(&stamp).expect_err("must not hold").to_string()
}

#[test]
fn a_token_proves_its_time() {
    let stamp = World::new().stamp(MESSAGE);
    assert_eq!(check(&stamp), Ok(ProvenTime { time: noon(), authority: "t".to_owned() }));
    assert_eq!(check(&Stamp { named: None, ..stamp.clone() }).map(|proven| proven.time), Ok(noon()));
    let exact = Stamp { time: "20260601115959.75Z", ..stamp };
    assert_eq!(check(&exact).map(|proven| proven.time.to_string()), Ok("2026-06-01T11:59:59.75Z".to_owned()));
}

#[test]
fn a_token_is_for_one_signature() {
    let token = World::new().stamp(MESSAGE).token();
    let authorities = [World::new().time_root.anchor("t")];
    assert_eq!(verify(&token, b"another signature", &authorities), Err(TimestampError::OtherMessage));
    assert_eq!(verify(&token, MESSAGE, &[]), Err(TimestampError::NoAuthority));
}

#[test]
fn a_token_has_a_limit() {
    let token = vec![0; MAX_TOKEN + 1];
    let error = verify(&token, MESSAGE, &[World::new().time_root.anchor("t")]);
    assert_eq!(error, Err(TimestampError::TooLarge { size: MAX_TOKEN + 1 }));
    let file = vec![b' '; 64 << 20];
    assert!(matches!(Certificate::read_all(&file), Err(CertificateError::TooLarge { .. })));
}

#[test]
fn imprints_are_of_the_sha_2_family() {
    let sha1 = {
        use sha1::Digest as _;
        sha1::Sha1::digest(MESSAGE).to_vec()
    };
    for (id, imprint, holds) in [
        ("2.16.840.1.101.3.4.2.1", Hash::Sha256.digest(MESSAGE), true),
        ("2.16.840.1.101.3.4.2.2", Hash::Sha384.digest(MESSAGE), true),
        ("2.16.840.1.101.3.4.2.3", Hash::Sha512.digest(MESSAGE), true),
        ("2.16.840.1.101.3.4.2.2", Hash::Sha256.digest(MESSAGE), false),
        ("2.16.840.1.101.3.4.2.1", Vec::new(), false),
        ("1.3.14.3.2.26", sha1, false),
    ] {
        let stamp = Stamp { imprint: Some((seq(&[&oid(id)]), imprint)), ..World::new().stamp(MESSAGE) };
        assert_eq!(check(&stamp).is_ok(), holds, "{id}");
    }
    let reason = refused(|_, stamp| stamp.imprint = Some((seq(&[&oid("1.3.14.3.2.26")]), vec![0; 20])));
    assert_eq!(reason, "the token has an imprint over SHA-1, which is not supported");
}

#[test]
fn class_f_the_checked_certificate_is_the_signers() {
    let world = World::new();
    let good = world.timestamper.issued_by(&world.time_root);
    let stranger = Draft { key: 5, ..Draft::timestamper("stranger", 5) };
    let stranger = stranger.issued_by(&Draft { key: 6, ..Draft::authority("nobody", 6) });
    // A stranger signed; the good certificate lies beside his.
    for bag in [vec![good.clone(), stranger.clone()], vec![stranger.clone(), good.clone()]] {
        let by_stranger = Stamp { bag: bag.clone(), ..Stamp::new(MESSAGE, &stranger, 5) };
        assert!(matches!(check(&by_stranger), Err(TimestampError::Chain { .. })));
        // His signature under the good one's name.
        let forged = Stamp { named_by_id: Some(good.clone()), named: Some(good.clone()), ..by_stranger };
        assert_eq!(check(&forged), Err(TimestampError::BadSignature));
        let honest = Stamp { bag, ..world.stamp(MESSAGE) };
        assert!(check(&honest).is_ok(), "others in the bag do not matter");
    }
    // The same issuer and number, another key: which of the two signed is not left to their order.
    let twin = Draft { key: 7, ..world.timestamper.clone() }.issued_by(&world.time_root);
    for bag in [vec![twin.clone(), good.clone()], vec![good.clone(), twin.clone()]] {
        assert!(check(&Stamp { bag: bag.clone(), ..world.stamp(MESSAGE) }).is_ok());
        let by_twin = Stamp { key: 8, bag, ..world.stamp(MESSAGE) };
        assert!(check(&by_twin).is_err());
    }
    // The attributes name another certificate than the id.
    assert_eq!(
        refused(|_, stamp| stamp.named = Some(twin)),
        "the token was signed with another certificate than the one it names"
    );
    assert_eq!(refused(|_, stamp| stamp.bag = vec![stranger]), "the certificate of the token's signer is missing");
}

#[test]
fn certificates_may_come_from_the_authority_when_the_token_has_none() {
    let world = World::new();
    let timestamper = world.timestamper.certificate(&world.time_root);
    let stamp = Stamp { bag: Vec::new(), ..world.stamp(MESSAGE) };
    let with = |anchor: Anchor| verify(&stamp.token(), MESSAGE, &[anchor]);
    assert_eq!(with(world.time_root.anchor("t")), Err(TimestampError::NoCertificate));
    assert!(with(Anchor { intermediates: vec![timestamper.clone()], ..world.time_root.anchor("t") }).is_ok());
    assert!(with(Anchor { id: "t".to_owned(), certificate: timestamper.clone(), intermediates: Vec::new() }).is_ok());
    // Not trusted by lying among the intermediates of somebody else.
    let other = Draft::authority("other", 9).anchor("o");
    assert!(matches!(with(Anchor { intermediates: vec![timestamper], ..other }), Err(TimestampError::Chain { .. })));
}

#[test]
fn class_g_the_signer_must_be_a_trusted_authority() {
    let chain = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        let token = world.stamp(MESSAGE).token();
        verify(&token, MESSAGE, &[world.time_root.anchor("t")]).expect_err("must not hold").to_string()
    };
    let prefix = "the signer of the token is not a trusted authority: ";
    for (expected, change) in [
        (
            "`CN=timestamper,O=Example` was not valid at 2026-06-01T12:00:00Z",
            (|world: &mut World| world.timestamper.until = "20260601115959Z") as fn(&mut World),
        ),
        ("`CN=time root,O=Example` was not valid at 2026-06-01T12:00:00Z", |world| {
            world.time_root.from = "20260601120001Z";
        }),
        ("`CN=timestamper,O=Example` is not for timestamps", |world| {
            world.timestamper.purposes = Some((false, vec![CODE_SIGNING]));
        }),
        ("`CN=time root,O=Example` must not certify others here", |world| world.time_root.authority = false),
    ] {
        let reason = chain(&change);
        assert!(reason.starts_with(&format!("{prefix}{expected}")), "{reason}");
    }
    let other = Draft::authority("other", 9).anchor("o");
    let reason = verify(&World::new().stamp(MESSAGE).token(), MESSAGE, &[other]).expect_err("untrusted").to_string();
    assert_eq!(
        reason,
        format!(
            "{prefix}the issuer `CN=time root,O=Example` of `CN=timestamper,O=Example` is neither a root nor among the intermediates"
        )
    );
    // A root of evidence is no authority for times.
    let world = World::new();
    assert!(verify(&world.stamp(MESSAGE).token(), MESSAGE, &[world.root.anchor("r")]).is_err());
}

#[test]
fn tokens_that_are_not_what_they_should_be() {
    let attribute = |id: &str, value: &[u8]| seq(&[&oid(id), &set(&[value])]);
    for (expected, change) in [
        (
            "the content of the token was altered",
            Box::new(|stamp: &mut Stamp| stamp.digest = Some(vec![0; 32])) as Box<dyn Fn(&mut Stamp)>,
        ),
        ("the signature of the token is not by the key of its certificate", Box::new(|stamp| stamp.key = 5)),
        ("the token has more than one signer, which is not supported", Box::new(|stamp| stamp.signers = 2)),
        ("not a timestamp token: it has no signer", Box::new(|stamp| stamp.signers = 0)),
        (
            "its signed attributes do not say that the content is TSTInfo",
            Box::new(|stamp| stamp.content_type = "1.2.840.113549.1.7.1"),
        ),
        (
            "the attribute 1.2.840.113549.1.9.4 stands twice",
            Box::new(move |stamp| stamp.attribute = attribute("1.2.840.113549.1.9.4", &octets(&[0; 32]))),
        ),
        ("another version of SignedData than 3", Box::new(|stamp| stamp.versions[0] = 1)),
        ("the version of SignerInfo does not fit how it names its signer", Box::new(|stamp| stamp.versions[1] = 3)),
        ("another version of TSTInfo than 1", Box::new(|stamp| stamp.versions[2] = 2)),
        ("the token has attributes that are not signed", Box::new(|stamp| stamp.signer_end = tlv(0xa1, &[]))),
        ("not a timestamp token: the time is not one", Box::new(|stamp| stamp.time = "20260601")),
        (
            "the token has the critical extension 1.2.3.4",
            Box::new(|stamp| stamp.info_end = tlv(0xa1, &[&seq(&[&oid("1.2.3.4"), &[1, 1, 0xff], &octets(&[])])])),
        ),
        ("not a timestamp token: TSTInfo: ", Box::new(|stamp| stamp.info_end = octets(&[]))),
        (
            "the token has more than 32 certificates",
            Box::new(|stamp| stamp.bag = vec![stamp.bag[0].clone(); MAX_BAG + 1]),
        ),
        (
            "the token has something else than certificates beside them",
            Box::new(|stamp| stamp.bag.push(tlv(0xa1, &[]))),
        ),
        ("the token has a revocation list", Box::new(|stamp| stamp.revoked = tlv(0xa1, &[]))),
        (
            "the digest algorithms are not those of the signer",
            Box::new(|stamp| stamp.digests = Some(seq(&[&oid("2.16.840.1.101.3.4.2.3")]))),
        ),
        ("SHA-1, which is not supported", Box::new(|stamp| stamp.digests = Some(seq(&[&oid("1.3.14.3.2.26")])))),
        ("a certificate in the token cannot be read: ", Box::new(|stamp| stamp.bag.push(seq(&[])))),
    ] {
        let reason = refused(|_, stamp| change(stamp));
        assert!(reason.contains(expected), "{reason} instead of {expected}");
    }
    let authorities = [World::new().time_root.anchor("t")];
    for garbage in [&b""[..], b"x", &[0x30, 0x80], &seq(&[]), &vec![0; MAX_TOKEN + 1]] {
        assert!(verify(garbage, b"", &authorities).is_err());
    }
    let mut more = World::new().stamp(MESSAGE).token();
    more.push(0);
    assert!(verify(&more, MESSAGE, &authorities).is_err(), "something follows");
    // What is not critical, and what else RFC 3161 allows, is passed over.
    let extension = tlv(0xa1, &[&seq(&[&oid("1.2.3.4"), &octets(&[])])]);
    let end = [seq(&[&[2, 1, 1]]), vec![1, 1, 0xff, 2, 1, 5], extension].concat();
    assert!(check(&Stamp { info_end: end, ..World::new().stamp(MESSAGE) }).is_ok());
}

#[test]
fn signers_may_be_named_by_key_id() {
    let world = World::new();
    let with_id = |id: &[u8]| Draft { more: vec![("2.5.29.14", false, octets(id))], ..world.timestamper.clone() };
    let signer = with_id(b"right").issued_by(&world.time_root);
    let stamp = Stamp { key_id: Some(b"right".to_vec()), versions: [3, 3, 1], ..Stamp::new(MESSAGE, &signer, 4) };
    assert!(check(&stamp).is_ok());
    assert_eq!(check(&Stamp { key_id: Some(b"wrong".to_vec()), ..stamp.clone() }), Err(TimestampError::NoCertificate));
    assert!(matches!(check(&Stamp { versions: [3, 1, 1], ..stamp }), Err(TimestampError::Damaged { .. })));
}

fn openssl(authority: &str) -> [Anchor; 1] {
    let all = Certificate::read_all(&fixture(&format!("openssl/{authority}.pem"))).expect("certificates");
    [Anchor { id: authority.to_owned(), certificate: all[1].clone(), intermediates: vec![all[0].clone()] }]
}

#[test]
fn what_openssl_stamps_is_read() {
    let message = fixture("openssl/message");
    for (token, authority, reason) in [
        ("token-rsa-chain", "tsa-rsa", None),
        ("token-rsa-plain", "tsa-rsa", None),
        ("token-rsa-no-certificate", "tsa-rsa", None),
        ("token-rsa-named-by-sha1", "tsa-rsa", None),
        ("token-p384", "tsa-p384", None),
        ("token-rsa-sha1-imprint", "tsa-rsa", Some("the token has an imprint over SHA-1, which is not supported")),
        ("token-p384", "tsa-rsa", Some("is neither a root nor among the intermediates")),
    ] {
        let der = fixture(&format!("openssl/{token}.der"));
        let result = verify(&der, &message, &openssl(authority));
        match reason {
            None => assert_eq!(result.expect(token).authority, authority),
            Some(reason) => {
                let error = result.expect_err(token).to_string();
                assert!(error.contains(reason), "{token}: {error}");
            }
        }
        assert!(verify(&der, b"other", &openssl(authority)).is_err());
    }
    // The old attribute names the certificate by its SHA-1: it must be that one.
    let mut altered = fixture("openssl/token-rsa-named-by-sha1.der");
    let id = oid("1.2.840.113549.1.9.16.2.12");
    let place = altered.windows(id.len()).position(|window| window == id).expect("is there");
    altered[place + id.len() + 12] ^= 1;
    assert_eq!(verify(&altered, &message, &openssl("tsa-rsa")), Err(TimestampError::OtherCertificate));
}

#[test]
fn responses_hold_tokens() {
    let response = fixture("openssl/response-p384.der");
    let token = token_of_response(&response).expect("a token");
    assert!(verify(token, &fixture("openssl/message"), &openssl("tsa-p384")).is_ok());
    let error = verify(&response, &fixture("openssl/message"), &openssl("tsa-p384")).expect_err("a response");
    assert!(error.to_string().contains("whole response"), "{error}");
    let refusal = seq(&[&seq(&[&[2, 1, 2]])]);
    assert!(token_of_response(&refusal).expect_err("refused").to_string().contains("refused to give a token"));
    assert!(token_of_response(b"").is_err());
}
