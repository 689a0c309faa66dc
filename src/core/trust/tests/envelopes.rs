//! Whole envelopes: who counts, how often, and why not.

use super::super::*;
use super::make::{Draft, World, email, key, noon, stamped};
use super::{certificate, envelope, fixture, policy};
use crate::dsse::{MAX_INTERMEDIATES, MAX_TIMESTAMPS};
use crate::sign::{Scheme, Signer as _};

fn trusting(numbers: &[usize]) -> Trust {
    Trust { keys: numbers.iter().map(|number| key(*number).public_key().clone()).collect(), ..Trust::default() }
}

fn reason(trust: &Trust, envelope: Envelope) -> Reason {
    let refused = trust.check(envelope).expect_err("must not count");
    let CheckError::NoneCounts { refused } = refused.reason else { panic!("{}", refused.reason) };
    refused[0].reason.clone()
}

fn sealed(numbers: &[usize]) -> Envelope {
    let signers: Vec<&dyn crate::sign::Signer> = numbers.iter().map(|number| key(*number) as _).collect();
    if signers.is_empty() {
        let (payload, payload_type) = (b"{}".to_vec(), "application/vnd.in-toto+json".to_owned());
        return Envelope { payload, payload_type, signatures: Vec::new() };
    }
    Envelope::seal(b"{}".to_vec(), "application/vnd.in-toto+json", &signers).expect("signs")
}

#[test]
fn signatures_by_keys_count() {
    let checked = trusting(&[1, 2]).check(sealed(&[1, 3])).expect("counts");
    let [proof] = checked.signers() else { panic!("one signer") };
    assert_eq!((proof.index, &proof.identity, &proof.time), (0, &Identity::Key, &None));
    assert_eq!((proof.key_id.as_str(), proof.scheme), (key(1).public_key().key_id(), Scheme::EcdsaSha256));
    let [refused] = checked.refused() else { panic!("one refused") };
    assert_eq!(
        refused.to_string(),
        format!("signature 1: it is by none of the trusted keys (it names {})", key(3).public_key().key_id())
    );
    assert_eq!(checked.payload("application/vnd.in-toto+json"), Ok(&b"{}"[..]));
    // A document of another type signed by the same key is not read.
    assert!(checked.payload("https://witness.testifysec.com/policy/v0.1").is_err());
    let length = checked.clone().try_map(|envelope| Ok::<_, ()>(envelope.payload.len())).expect("maps");
    assert_eq!((*length.value(), length.signers().len(), length.refused().len()), (2, 1, 1));
}

#[test]
fn class_r_keys_are_chosen_by_their_id_and_then_proved() {
    let mut lying = sealed(&[1]);
    lying.signatures[0].key_id = key(2).public_key().key_id().to_owned();
    assert!(matches!(reason(&trusting(&[1, 2]), lying.clone()), Reason::Altered { .. }));
    assert!(trusting(&[1]).check(lying).is_ok(), "an id that nobody has says nothing");
    let mut nameless = sealed(&[1]);
    nameless.signatures[0].key_id.clear();
    assert!(trusting(&[2, 1]).check(nameless.clone()).is_ok());
    assert_eq!(reason(&trusting(&[2]), nameless).to_string(), "it is by none of the trusted keys");
    let mut altered = sealed(&[1]);
    altered.payload.push(b' ');
    assert!(matches!(reason(&trusting(&[1]), altered), Reason::Altered { .. }));
    let mut of_another_type = sealed(&[1]);
    of_another_type.payload_type = "text/plain".to_owned();
    assert!(trusting(&[1]).check(of_another_type).is_err());
}

#[test]
fn nobody_and_nothing() {
    let error = |trust: &Trust, envelope| trust.check(envelope).expect_err("must not count").to_string();
    assert_eq!(error(&trusting(&[1]), sealed(&[])), "the envelope has no signature");
    assert_eq!(
        error(&Trust::default(), sealed(&[1])),
        "there is neither a public key nor a root certificate to check the envelope with"
    );
    let world = World::new();
    assert_eq!(
        error(&world.trust(), sealed(&[1])),
        "no signature of the envelope counts: signature 0: it has no certificate, and no public key is trusted"
    );
    let error = error(&trusting(&[1]), sealed(&[2, 3, 4, 5, 6]));
    assert!(error.contains("signature 2: ") && error.ends_with("; and 2 more"), "{error}");
}

#[test]
fn certificates_count_only_at_a_proven_time() {
    let world = World::new();
    let trust = world.trust();
    let with = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = world.envelope();
        change(&mut envelope);
        reason(&trust, envelope)
    };
    assert_eq!(
        with(&|envelope| envelope.signatures[0].timestamps.clear()).to_string(),
        "the time of its certificate (`CN=leaf,O=Example`) is not proven: it has no timestamp"
    );
    let other = stamped(world.stamp(b"another signature").token());
    assert_eq!(
        with(&|envelope| envelope.signatures[0].timestamps = vec![other.clone()]).to_string(),
        "the time of its certificate (`CN=leaf,O=Example`) is not proven: the token is for another signature"
    );
    let two = with(&|envelope| envelope.signatures[0].timestamps = vec![other.clone(), other.clone()]);
    assert!(two.to_string().contains("none of 2 timestamps holds; the first: the token is for another signature"));
    assert!(two.remedy().starts_with("give the certificate of the authority that made the timestamp"));
    let unknown = with(&|envelope| envelope.signatures[0].timestamps[0].kind = "roughtime".to_owned());
    assert!(unknown.to_string().contains("a timestamp of type `roughtime` is not supported"));
    let late = |envelope: &mut Envelope| {
        let signature = &mut envelope.signatures[0];
        let mut stamp = world.stamp(&signature.sig);
        stamp.time = "20260602000001Z";
        signature.timestamps = vec![stamped(stamp.token())];
    };
    assert_eq!(
        with(&late).to_string(),
        "its certificate does not count: `CN=leaf,O=Example` was not valid at 2026-06-02T00:00:01Z: it is from 2026-06-01T00:00:00Z to 2026-06-02T00:00:00Z"
    );
    // Beside a token that holds, one that does not is noted.
    let mut envelope = world.envelope();
    envelope.signatures[0].timestamps.insert(0, other);
    let checked = trust.check(envelope).expect("counts");
    assert_eq!(checked.signers()[0].notes[0].to_string(), "timestamp 0: the token is for another signature");
    // Of several times the earliest is told.
    let at_times = |times: &[&'static str]| {
        let mut envelope = world.envelope();
        let sig = envelope.signatures[0].sig.clone();
        for time in times {
            let stamp = super::make::Stamp { time, ..world.stamp(&sig) };
            envelope.signatures[0].timestamps.push(stamped(stamp.token()));
        }
        trust.check(envelope)
    };
    let checked = at_times(&["20260601130000Z", "20260601110000Z"]).expect("counts");
    let time = checked.signers()[0].time.as_ref().map(|proven| proven.time.to_string());
    assert_eq!(time.as_deref(), Some("2026-06-01T11:00:00Z"));
    let no_root = Trust { roots: Vec::new(), ..trusting(&[5]) };
    assert!(matches!(reason(&no_root, world.envelope()), Reason::NoRoot { .. }));
    let no_authority = Trust { authorities: Vec::new(), ..trust };
    assert!(reason(&no_authority, world.envelope()).remedy().contains("certificate of the timestamp authority"));
}

/// Issue 7, decision 009: a trusted time at which the certificate was not valid is not made good by another.
#[test]
fn class_f_every_proven_time_is_inside_the_certificate() {
    let world = World::new();
    let trust = world.trust();
    for (time, counts) in [
        ("20260601110000Z", true),
        ("20260602000000Z", true),
        ("20260602000001Z", false),
        ("20260531235959Z", false),
        ("20270601120000Z", false),
    ] {
        let mut envelope = world.envelope();
        let sig = envelope.signatures[0].sig.clone();
        let stamp = super::make::Stamp { time, ..world.stamp(&sig) };
        envelope.signatures[0].timestamps.push(stamped(stamp.token()));
        let checked = trust.check(envelope.clone());
        assert_eq!(checked.is_ok(), counts, "{time}");
        if let Err(refused) = checked {
            assert!(refused.reason.to_string().contains("was not valid at"), "{time}: {}", refused.reason);
        }
        // Whom nobody trusts proves no time, and harms nothing.
        let mut stranger = world.clone();
        stranger.time_root.key = 8;
        stranger.timestamper.key = 7;
        let stamp = super::make::Stamp { time, ..stranger.stamp(&sig) };
        envelope.signatures[0].timestamps[1] = stamped(stamp.token());
        trust.check(envelope).expect("counts");
    }
}

#[test]
fn the_key_of_the_certificate_must_have_signed() {
    let world = World::new();
    let mut envelope = world.envelope();
    // Another key signed, and had its signature stamped; the certificate is somebody else's.
    envelope.signatures[0].sig = sealed(&[5]).signatures[0].sig.clone();
    envelope.signatures[0].timestamps = vec![stamped(world.stamp(&envelope.signatures[0].sig).token())];
    assert!(matches!(reason(&world.trust(), envelope), Reason::NotByCertificate { .. }));
    let mut altered = world.envelope();
    altered.payload = b"[]".to_vec();
    assert!(matches!(reason(&world.trust(), altered), Reason::NotByCertificate { .. }));
    for broken in [&b"x"[..], b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mut envelope = world.envelope();
        envelope.signatures[0].certificate = Some(broken.to_vec());
        assert!(matches!(reason(&world.trust(), envelope), Reason::Certificate { .. }));
    }
}

#[test]
fn keys_are_tried_when_the_certificate_leads_nowhere() {
    let world = World::new();
    let trust = Trust { roots: vec![Draft::authority("other", 6).anchor("o")], ..world.trust() };
    let trust = Trust { keys: trusting(&[world.leaf.key]).keys, ..trust };
    let checked = trust.check(world.envelope()).expect("counts");
    let [proof] = checked.signers() else { panic!("one signer") };
    assert_eq!(proof.identity, Identity::Key);
    assert_eq!(proof.time.as_ref().map(|time| time.time), Some(noon()), "its time is proven all the same");
    assert!(proof.notes[0].to_string().starts_with("certificate: its certificate does not count: the issuer"));
    // With both, the certificate says more.
    let both = Trust { keys: trust.keys, ..world.trust() };
    assert!(both.check(world.envelope()).expect("counts").signers()[0].certificate().is_some());
    // An intermediate that cannot be read is noted, and no harm when it is not needed.
    let mut envelope = world.envelope();
    envelope.signatures[0].intermediates.insert(0, b"x".to_vec());
    let checked = world.trust().check(envelope).expect("counts");
    assert!(matches!(checked.signers()[0].notes[..], [Note::Intermediate { place: 0, .. }]));
}

#[test]
fn class_f_what_the_envelope_brings_is_not_trusted() {
    let world = World::new();
    let mut own = World::new();
    own.root = Draft { key: 8, ..own.root };
    own.intermediate = Draft { key: 9, ..own.intermediate };
    let mut envelope = own.envelope();
    for draft in [&own.root, &own.intermediate, &own.leaf] {
        envelope.signatures[0].intermediates.push(draft.self_signed().to_pem().into_bytes());
    }
    assert!(matches!(reason(&world.trust(), envelope), Reason::Chain { .. }));
}

#[test]
fn signers_are_counted_once() {
    let count = |trust: &Trust, envelope: Envelope| {
        let checked = trust.check(envelope).expect("counts");
        (checked.signers().len(), distinct_identities(checked.signers()))
    };
    assert_eq!(count(&trusting(&[1, 2]), sealed(&[1, 1, 2, 1])), (4, 2));
    // Short-lived certificates: the same names, each time another key.
    let of = |leaf_key: usize, address: &str, root_key: usize| {
        let mut world = World::new();
        world.root = Draft { key: root_key, ..Draft::authority(&format!("root {root_key}"), root_key) };
        world.leaf = Draft { key: leaf_key, names: vec![email(address)], ..world.leaf };
        world
    };
    let worlds = [of(2, "a@x", 0), of(5, "a@x", 0), of(6, "b@x", 0), of(7, "a@x", 8), of(6, "c@x", 0)];
    let trust = Trust { roots: vec![worlds[0].root.anchor("r"), worlds[3].root.anchor("s")], ..worlds[0].trust() };
    let join = |places: &[usize]| {
        let mut envelope = worlds[places[0]].envelope();
        envelope.signatures = places.iter().flat_map(|place| worlds[*place].envelope().signatures).collect();
        count(&trust, envelope)
    };
    assert_eq!(join(&[0, 1]), (2, 1), "the same names and root");
    assert_eq!(join(&[0, 2]), (2, 2), "other names");
    assert_eq!(join(&[0, 3]), (2, 2), "another root");
    assert_eq!(join(&[2, 4]), (2, 1), "the same key");
    assert_eq!(join(&[0, 1, 2, 3, 4]), (5, 3));
    // A key that also has a certificate.
    let mut both = worlds[0].envelope();
    both.signatures.extend(sealed(&[2]).signatures);
    let trust = Trust { keys: trusting(&[2]).keys, ..trust };
    assert_eq!(count(&trust, both), (2, 1));
    // Whom an issuer has identified is one, whichever authority certifies that; another issuer's is another.
    let identified =
        |world: &World, issuer: &str| world.clone().saying(&[("1.3.6.1.4.1.57264.1.8", issuer)]).envelope().signatures;
    let join = |signers: &[(usize, &str)]| {
        let mut envelope = worlds[0].envelope();
        envelope.signatures = signers.iter().flat_map(|(place, issuer)| identified(&worlds[*place], issuer)).collect();
        count(&trust, envelope)
    };
    assert_eq!(join(&[(0, "https://i"), (3, "https://i")]), (2, 1), "two authorities");
    assert_eq!(join(&[(0, "https://i"), (1, "https://j")]), (2, 2), "two issuers");
    assert_eq!(join(&[(0, "https://i"), (2, "https://i")]), (2, 2), "two names");
    assert_eq!(distinct_identities([]), 0);
}

#[test]
fn what_sigstore_signs_counts() {
    let bundle: serde_json::Value = serde_json::from_slice(&fixture("sigstore/bundle.json")).expect("JSON");
    let bytes = |value: &serde_json::Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(value.as_str().expect("text")).expect("base64")
    };
    let material = &bundle["verificationMaterial"];
    let response = bytes(&material["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"]);
    let leaf = Certificate::read(&bytes(&material["certificate"]["rawBytes"])).expect("a certificate");
    let envelope = Envelope {
        payload: bytes(&bundle["dsseEnvelope"]["payload"]),
        payload_type: "application/vnd.in-toto+json".to_owned(),
        signatures: vec![Signature {
            sig: bytes(&bundle["dsseEnvelope"]["signatures"][0]["sig"]),
            certificate: Some(leaf.to_pem().into_bytes()),
            intermediates: vec![fixture("sigstore/fulcio-int.pem")],
            timestamps: vec![stamped(timestamp::token_of_response(&response).expect("a token").to_vec())],
            ..Signature::default()
        }],
    };
    let mut times = Certificate::read_all(&fixture("sigstore/tsa-chain.pem")).expect("certificates");
    let root = times.pop().expect("the root is last");
    let trust = Trust {
        keys: Vec::new(),
        roots: vec![Anchor {
            id: "fulcio".to_owned(),
            certificate: certificate("sigstore/fulcio-root.pem"),
            intermediates: Vec::new(),
        }],
        authorities: vec![Anchor { id: "tsa".to_owned(), certificate: root, intermediates: times }],
        ..Trust::default()
    };
    let checked = trust.check(envelope).expect("counts");
    let signer = checked.signers()[0].certificate().expect("a certificate");
    assert_eq!(signer.label(), "https://gitlab.example.test/mygroup/myproject//.gitlab-ci.yml@refs/heads/main");
    assert_eq!(signer.subject(), "(no name)");
    let extensions: Vec<(&str, &str)> = signer.extensions().collect();
    assert_eq!(extensions.len(), 16);
    for (name, value) in [
        ("BuildTrigger", "push"),
        ("RunnerEnvironment", "gitlab-hosted"),
        ("SourceRepositoryIdentifier", "20"),
        ("SourceRepositoryVisibilityAtSigning", "public"),
        ("Subject", "project_path:mygroup/myproject:ref_type:branch:ref:main"),
    ] {
        assert!(extensions.contains(&(name, value)), "{name}");
        assert_eq!(signer.extension(&name.to_lowercase()), Some(value));
    }
    assert_eq!(signer.extension("GithubWorkflowRef"), None);
}

#[test]
fn class_s_a_second_form_of_a_signature_is_no_second_signer() {
    // Anybody can turn S into the order minus S; it is the same signer.
    let mut envelope = sealed(&[1]);
    let mut twin = envelope.signatures[0].clone();
    let signature = p256::ecdsa::Signature::from_der(&twin.sig).expect("a signature");
    let (r, s) = signature.split_scalars();
    twin.sig = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes())
        .expect("a signature")
        .to_der()
        .as_bytes()
        .to_vec();
    assert_ne!(twin.sig, envelope.signatures[0].sig);
    envelope.signatures.push(twin);
    let checked = trusting(&[1]).check(envelope).expect("counts");
    assert_eq!((checked.signers().len(), distinct_identities(checked.signers())), (2, 1));
    // Another spelling of the numbers is no signature.
    let mut spelled = sealed(&[1]);
    let sig = &mut spelled.signatures[0].sig;
    *sig = [&[0x30, 0x81, sig[1]], &sig[2..]].concat();
    assert!(trusting(&[1]).check(spelled).is_err());
}

#[test]
fn class_h_many_signatures_certificates_and_timestamps_end() {
    let world = World::new();
    let good = world.envelope();
    // Everything that an envelope may have, all of it by strangers, and one that counts at its end.
    let stranger = Draft { key: 9, ..Draft::authority("time root", 9) };
    let timestamper = Draft { key: 10, serial: 8, ..Draft::timestamper("timestamper", 10) };
    let sig = sealed(&[11]).signatures[0].sig.clone();
    let token = super::make::Stamp::new(&sig, &timestamper.issued_by(&stranger), 10).token();
    let mut junk = good.signatures[0].clone();
    junk.sig = sig;
    junk.timestamps = vec![stamped(token); MAX_TIMESTAMPS];
    junk.intermediates = vec![world.intermediate.self_signed().to_pem().into_bytes(); MAX_INTERMEDIATES];
    let mut envelope = good.clone();
    envelope.signatures = vec![junk; 8];
    envelope.signatures.extend(good.signatures);
    let checked = world.trust().check(envelope).expect("the last one counts");
    assert_eq!((checked.signers().len(), checked.refused().len()), (1, 8));
}

#[test]
fn work_is_limited() {
    let world = World::new();
    let (trust, envelope) = (world.trust(), world.envelope());
    let header = dsse::pae_header(&envelope.payload_type, envelope.payload.len());
    let parts: [&[u8]; 2] = [&header, &envelope.payload];
    let check = |limit: u64| {
        let work = Work::new(limit);
        let (message, payload) = (Message::new(&parts), envelope.payload.len());
        let one = OneEnvelope { trust: &trust, message, parts: &parts, envelope: &envelope, payload, work };
        one.check(0, &envelope.signatures[0]).map(|_| one.work.left()).map_err(|refused| refused.reason)
    };
    let limit = 64 * 1024 * 1024;
    let needed = limit - check(limit).expect("enough");
    // Two chains of one and two signatures, the token's and the envelope's own.
    assert!((5 * 256 * 1024..6 * 256 * 1024).contains(&needed), "{needed}");
    assert!(check(needed).is_ok());
    for too_little in [0, 1, needed / 3, needed / 2, needed - 1] {
        let reason = check(too_little).expect_err("too little");
        assert!(reason.to_string().contains("would take too long") || reason == Reason::TooMuchWork, "{reason}");
    }
}

#[test]
fn recorded_policies_are_signed_by_a_key() {
    let key = PublicKey::from_file_bytes(&fixture("keys/policy.pub")).expect("a key");
    let trust = Trust { keys: vec![key], ..Trust::default() };
    for peer in ["cilock", "witness"] {
        let checked = trust.check(envelope(&format!("{peer}/policy-good.signed.json"))).expect("counts");
        assert!(checked.payload("https://witness.testifysec.com/policy/v0.1").is_ok());
        let (evidence_trust, _) = policy(&format!("{peer}/policy-good.signed.json"));
        assert!(evidence_trust.check(checked.into_value()).is_err(), "a policy is no evidence");
    }
}
