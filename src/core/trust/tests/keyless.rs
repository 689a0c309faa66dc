//! Signatures with a certificate and what vouches for it: classes F and G of user-needs §4, with certificates that are
//! made for them.

use super::super::*;
use super::make::{
    ANY, CODE_SIGNING, Draft, SERVER, Stamp, World, dns, email, int, key, noon, octets, seq, tlv, uri, utf8,
};
use crate::image::keyed;
use crate::sigstore::identity::Wanted;
use crate::sigstore::judge::{Demands, Keyless, Material, Proof, Refused, Signer, Unproven, judge};
use crate::sigstore::{Authority, TrustedRoot, Window};

const SUBJECT: &str = "builder@example.org";
const ISSUER: &str = "https://issuer.example";
const MESSAGE: &[u8] = b"what is signed";

/// A world, what is trusted of it, and the times that its authority stamps.
struct Case {
    world: World,
    times: Vec<&'static str>,
    /// Intermediates that the signature brings.
    brought: Vec<Vec<u8>>,
    /// Who issued the leaf.
    issuer: Draft,
    window: Window,
    time_window: Window,
    /// Who made the signature.
    signer: usize,
    stamp: fn(&World, Stamp) -> Stamp,
}

fn issued(number: u8, text: &str) -> (&'static str, bool, Vec<u8>) {
    match number {
        1 => ("1.3.6.1.4.1.57264.1.1", false, text.as_bytes().to_vec()),
        _ => ("1.3.6.1.4.1.57264.1.8", false, utf8(text)),
    }
}

impl Case {
    fn new() -> Self {
        let mut world = World::new();
        world.leaf.more.push(issued(8, ISSUER));
        Self {
            brought: vec![world.intermediate.issued_by(&world.root)],
            issuer: world.intermediate.clone(),
            times: vec!["20260601120000Z"],
            window: Window::default(),
            time_window: Window::default(),
            signer: world.leaf.key,
            stamp: |_, stamp| stamp,
            world,
        }
    }

    fn changed(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::new();
        change(&mut case);
        case
    }

    fn root(&self) -> TrustedRoot {
        let authority =
            |anchor: Anchor, window| Authority { anchor, window, uri: String::new(), operator: String::new() };
        TrustedRoot {
            authorities: vec![authority(self.world.root.anchor("r"), self.window)],
            timestamp_authorities: vec![authority(self.world.time_root.anchor("t"), self.time_window)],
            ..TrustedRoot::default()
        }
    }

    fn judge(&self) -> Result<Proof, Refused> {
        let signature = keyed::sign(key(self.signer), &[MESSAGE]).expect("signs");
        let response = |time: &&'static str| {
            let stamp = Stamp { time, ..self.world.stamp(&signature) };
            seq(&[&seq(&[&int(0)]), &(self.stamp)(&self.world, stamp).token()])
        };
        let material = Material {
            certificate: Some(self.world.leaf.issued_by(&self.issuer)),
            chain: self.brought.clone(),
            timestamps: self.times.iter().map(response).collect(),
            ..Material::default()
        };
        let wanted = Wanted::exactly(SUBJECT, ISSUER).expect("constraints");
        let keyless = Keyless { wanted, certificate: None, sct: false, detached_sct: None };
        let root = self.root();
        let signer = Signer::Certificate(&keyless);
        let demands = Demands { signer, root: &root, logs: 0, timestamps: 0, budget: None };
        let message: [&[u8]; 1] = [MESSAGE];
        judge(
            &material,
            &Unproven { message: &message, signature: &signature, envelope: None, envelope_bytes: None },
            &demands,
        )
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Self)) -> Refused {
        Self::changed(change).judge().expect_err("must not count")
    }
}

#[test]
fn a_certificate_counts_at_its_proven_time() {
    let proof = Case::new().judge().expect("counts");
    assert_eq!(proof.times().into_iter().collect::<Vec<_>>(), [noon()]);
    let identity = proof.identity.expect("an identity");
    assert_eq!((identity.subject.as_str(), identity.issuer.as_deref()), (SUBJECT, Some(ISSUER)));
    assert_eq!(proof.path.len(), 3);
}

#[test]
fn class_f_every_certificate_is_valid_at_every_time() {
    let expired = "20260601110000Z";
    let refused = [
        Case::refused(|case| case.world.leaf.until = expired),
        Case::refused(|case| case.world.leaf.from = "20260601130000Z"),
        Case::refused(|case| {
            case.world.intermediate.until = expired;
            case.brought = vec![case.world.intermediate.issued_by(&case.world.root)];
        }),
        Case::refused(|case| case.world.root.until = expired),
        // Good at one time, not at the other: nobody writes two that differ so much.
        Case::refused(|case| case.times.push("20260603120000Z")),
        Case::refused(|case| case.times = vec!["20260603120000Z"]),
    ];
    for refused in refused {
        assert!(matches!(refused, Refused::Chain { reason: ChainError::NotValid { .. }, .. }), "{refused:?}");
    }
    Case::changed(|case| case.times.push("20260601130000Z")).judge().expect("both are in its time");
}

#[test]
fn class_f_without_a_proven_time_nothing_counts() {
    let refused = Case::refused(|case| case.times.clear());
    assert!(matches!(refused, Refused::NoTime { .. }), "{refused:?}");
    // A timestamp of another signature, or of an authority that is not trusted.
    let stamps: [fn(&World, Stamp) -> Stamp; 2] = [
        |_, stamp| Stamp { message: b"another".to_vec(), ..stamp },
        |_, stamp| {
            let (stranger, root) = (Draft::timestamper("stranger", 5), Draft::authority("nobody", 6));
            Stamp { time: stamp.time, ..Stamp::new(&stamp.message, &stranger.issued_by(&root), 5) }
        },
    ];
    for stamp in stamps {
        let refused = Case::refused(|case| case.stamp = stamp);
        assert!(matches!(refused, Refused::NoTime { .. }), "{refused:?}");
    }
}

#[test]
fn class_f_intermediates_are_no_roots_and_leaves_are_for_code() {
    // A stranger's own authority, brought along.
    let refused = Case::refused(|case| {
        let stranger = Draft::authority("stranger", 6);
        case.brought = vec![stranger.issued_by(&stranger)];
        case.issuer = stranger;
    });
    assert!(matches!(refused, Refused::Chain { .. }), "{refused:?}");
    let refused = Case::refused(|case| case.brought.clear());
    assert!(matches!(refused, Refused::Chain { reason: ChainError::UnknownIssuer { .. }, .. }), "{refused:?}");
    // A leaf certifies nobody.
    let refused = Case::refused(|case| {
        let other = Draft::leaf("other", 5);
        case.brought = vec![other.issued_by(&case.world.root)];
        case.issuer = other;
    });
    assert!(matches!(refused, Refused::Chain { reason: ChainError::NotAnAuthority { .. }, .. }), "{refused:?}");
    for purposes in [None, Some((false, vec![SERVER])), Some((false, vec![ANY]))] {
        let refused = Case::refused(|case| case.world.leaf.purposes = purposes);
        assert!(matches!(refused, Refused::Chain { reason: ChainError::Purpose { .. }, .. }), "{refused:?}");
    }
    // Another's certificate beside a signature.
    let refused = Case::refused(|case| case.signer = 7);
    assert!(matches!(refused, Refused::Signature(_)), "{refused:?}");
}

#[test]
fn class_f_windows_of_the_trusted_root_count() {
    let at = |text: &str| Some(text.parse().expect("a time"));
    let over = Window { start: None, end: at("2026-06-01T11:59:59Z") };
    let not_yet = Window { start: at("2026-06-01T12:00:01Z"), end: None };
    let exactly = Window { start: at("2026-06-01T12:00:00Z"), end: at("2026-06-01T12:00:00Z") };
    for window in [over, not_yet] {
        let refused = Case::refused(|case| case.window = window);
        assert!(matches!(refused, Refused::Authority { .. }), "{refused:?}");
        let refused = Case::refused(|case| case.time_window = window);
        assert!(matches!(refused, Refused::NoTime { .. }), "{refused:?}");
    }
    Case::changed(|case| (case.window, case.time_window) = (exactly, exactly)).judge().expect("in its time");
}

#[test]
fn class_g_who_stamps_is_for_nothing_else() {
    for purposes in [None, Some((true, vec![CODE_SIGNING])), Some((false, vec![super::make::TIME_STAMPING]))] {
        let refused = Case::refused(|case| case.world.timestamper.purposes = purposes);
        assert!(matches!(refused, Refused::NoTime { .. }), "{refused:?}");
    }
}

#[test]
fn a_signer_has_one_name_and_one_issuer() {
    let username = |text: &str| tlv(0xa0, &[&super::make::oid("1.3.6.1.4.1.57264.1.7"), &tlv(0xa0, &[&utf8(text)])]);
    let other = tlv(0xa0, &[&super::make::oid("1.2.3"), &tlv(0xa0, &[&utf8(SUBJECT)])]);
    for (names, counts) in [
        (vec![email(SUBJECT)], true),
        (vec![uri(SUBJECT)], true),
        (vec![username(SUBJECT)], true),
        (vec![dns(SUBJECT)], false),
        (vec![other], false),
        (vec![octets(b"")], false),
        (vec![email(SUBJECT), email("evil@example.org")], false),
        (vec![email("evil@example.org"), uri(SUBJECT)], false),
        (vec![email(SUBJECT), username(SUBJECT)], false),
        (Vec::new(), false),
    ] {
        let shown = format!("{names:?}");
        let result = Case::changed(|case| case.world.leaf.names = names).judge();
        assert_eq!(result.is_ok(), counts, "{shown}: {result:?}");
    }
    // The issuer is the new extension, else the old one; two that differ are damage.
    let with = |more: Vec<_>| Case::changed(|case| case.world.leaf.more = more).judge();
    with(vec![issued(1, ISSUER)]).expect("the old one");
    with(vec![issued(8, ISSUER), issued(1, ISSUER)]).expect("both");
    for bad in [
        Vec::new(),
        vec![issued(8, "https://issuer.example/")],
        vec![issued(8, "https://evil.example"), issued(1, ISSUER)],
        vec![issued(8, ISSUER), issued(1, "https://evil.example")],
    ] {
        assert!(with(bad).is_err());
    }
}
