//! Signatures with a certificate and what vouches for it: classes F and G of user-needs §4, with certificates that are
//! made for them.

use super::super::*;
use super::make::{
    ANY, CODE_SIGNING, Draft, SERVER, Stamp, World, dns, email, int, key, noon, octets, seq, tlv, uri, utf8,
};
use crate::image::keyed;
use crate::sign::Signer as _;
use crate::sigstore::budget::{Budget, MAX_SIGNERS};
use crate::sigstore::identity::Wanted;
use crate::sigstore::judge::{Demands, Keyless, Material, Proof, Refused, Signer, Unproven, Whose, judge};
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
    /// What the authorities name below their roots.
    named: Vec<Certificate>,
    time_named: Vec<Certificate>,
    /// Further authorities.
    others: Vec<Anchor>,
    time_others: Vec<Anchor>,
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
            named: Vec::new(),
            time_named: Vec::new(),
            others: Vec::new(),
            time_others: Vec::new(),
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
        let all = |first: Anchor, named: &[Certificate], window, others: &[Anchor]| {
            let first = authority(Anchor { intermediates: named.to_vec(), ..first }, window);
            let others = others.iter().map(|anchor| authority(anchor.clone(), Window::default()));
            std::iter::once(first).chain(others).collect()
        };
        let (root, time_root) = (self.world.root.anchor("r"), self.world.time_root.anchor("t"));
        TrustedRoot {
            authorities: all(root, &self.named, self.window, &self.others),
            timestamp_authorities: all(time_root, &self.time_named, self.time_window, &self.time_others),
            ..TrustedRoot::default()
        }
    }

    fn judge(&self) -> Result<Proof, Refused> {
        self.judge_within(None)
    }

    fn judge_within(&self, budget: Option<&Budget>) -> Result<Proof, Refused> {
        let share = budget.map(Budget::share);
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
        let keyless = Keyless { whose: wanted.into(), certificate: None, sct: false, detached_sct: None };
        let root = self.root();
        let signer = Signer::Certificate(&keyless);
        let demands = Demands { signer, root: &root, logs: 0, timestamps: 0, share: share.as_ref() };
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
        (vec![username(SUBJECT)], true),
        // Only an e-mail address or user's name reads so.
        (vec![uri(SUBJECT)], false),
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
    // Only a URI reads as one, whatever pattern takes it; nobody's name has control characters.
    for (names, counts) in [
        (vec![uri("https://ci.example/app")], true),
        (vec![email("https://ci.example/app")], false),
        (vec![username("https://ci.example/app")], false),
        (vec![uri("https://ci.example/app\0evil")], false),
        (vec![uri("https://ci.example/app\n")], false),
        (vec![email("a\r@example.org")], false),
    ] {
        let certificate = Draft { names, ..Draft::leaf("leaf", 2) }.self_signed();
        assert_eq!(certificate.signer_name().is_ok(), counts, "{:?}", certificate.signer_name());
    }
    let refused = Case::refused(|case| case.world.leaf.authority = true);
    assert!(matches!(refused, Refused::Identity(_)) && refused.to_string().contains("an authority's"), "{refused:?}");
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

/// Until shortly before anything here is signed.
const RETIRED: &str = "2026-05-31T00:00:00Z";

fn retired() -> Window {
    Window { start: None, end: Some(super::make::at(RETIRED)) }
}

/// Another authority of the same root, with its own intermediate.
fn sibling(world: &World, key: usize) -> (Draft, Anchor) {
    let other = Draft { serial: 21, ..Draft::authority("other intermediate", key) };
    let intermediates = vec![other.certificate(&world.root)];
    (other, Anchor { id: "s".to_owned(), intermediates, ..world.root.anchor("s") })
}

#[test]
fn a_retired_intermediate_does_not_count_by_the_root_of_another_authority() {
    let both = |case: &mut Case| {
        case.named = vec![case.world.intermediate.certificate(&case.world.root)];
        case.others = vec![sibling(&case.world, 6).1];
    };
    Case::changed(both).judge().expect("both are trusted");
    let refused = Case::refused(|case| {
        both(case);
        case.window = retired();
    });
    assert!(matches!(refused, Refused::Chain { reason: ChainError::UnknownIssuer { .. }, .. }), "{refused:?}");
    // The other one still counts, with and without its intermediate.
    for brings in [true, false] {
        let of_other = Case::changed(|case| {
            both(case);
            case.window = retired();
            case.issuer = sibling(&case.world, 6).0;
            case.brought = if brings { vec![case.issuer.issued_by(&case.world.root)] } else { Vec::new() };
        });
        of_other.judge().expect("it is trusted");
    }
    let refused = Case::refused(|case| {
        both(case);
        case.others.clear();
        case.window = retired();
    });
    assert!(matches!(refused, Refused::Authority { .. }), "{refused:?}");
}

#[test]
fn at_the_gate_a_retired_intermediate_does_not_count_by_the_root_of_another() {
    let world = World::new();
    let mut trust = world.trust();
    trust.roots[0].intermediates = vec![world.intermediate.certificate(&world.root)];
    trust.roots.push(sibling(&world, 6).1);
    let envelope = world.envelope();
    assert_eq!(trust.check(envelope.clone()).expect("counts").signers()[0].roots(), ["r", "s"]);
    trust.root_windows = [("r".to_owned(), retired())].into();
    let refused = trust.check(envelope.clone()).expect_err("must not count").to_string();
    assert!(refused.contains("leads to `r`, which is trusted only until 2026-05-31"), "{refused}");
    // Nor by a stranger's intermediate that no authority names.
    let mut of_new = world.clone();
    of_new.intermediate = Draft { serial: 33, ..Draft::authority("new intermediate", 7) };
    let refused = trust.check(of_new.envelope()).expect_err("must not count").to_string();
    assert!(refused.contains("does not count") || refused.contains("is trusted only"), "{refused}");
    let mut of_other = world.clone();
    of_other.intermediate = sibling(&world, 6).0;
    assert_eq!(trust.check(of_other.envelope()).expect("counts").signers()[0].roots(), ["s"]);
    // Where the root itself is trusted, whatever leads to it counts.
    trust.roots.push(world.root.anchor("u"));
    assert_eq!(trust.check(envelope).expect("counts").signers()[0].roots(), ["u"]);
}

#[test]
fn an_authority_that_names_what_it_stamps_with_stamps_with_nothing_else() {
    let own = |world: &World| world.timestamper.certificate(&world.time_root);
    let other = |world: &World| Draft { serial: 9, ..Draft::timestamper("other", 8) }.certificate(&world.time_root);
    Case::changed(|case| case.time_named = vec![own(&case.world)]).judge().expect("its own");
    let refused = Case::refused(|case| case.time_named = vec![other(&case.world)]).to_string();
    assert!(refused.contains("not by the certificate that the authority `t` is trusted with"), "{refused}");
    // Its own is retired, and another authority has the same root.
    let refused = Case::refused(|case| {
        case.time_named = vec![own(&case.world)];
        case.time_window = retired();
        let intermediates = vec![other(&case.world)];
        case.time_others = vec![Anchor { intermediates, ..case.world.time_root.anchor("s") }];
    });
    assert!(matches!(refused, Refused::NoTime { .. }), "{refused:?}");
    // The same at the gate, where all are asked together.
    let world = World::new();
    let mut trust = world.trust();
    trust.authorities[0].intermediates = vec![own(&world)];
    trust.authorities.push(Anchor { intermediates: vec![other(&world)], ..world.time_root.anchor("s") });
    trust.check(world.envelope()).expect("its own");
    trust.authority_windows = [("t".to_owned(), retired())].into();
    let refused = trust.check(world.envelope()).expect_err("must not count").to_string();
    assert!(refused.contains("the authority `t` is trusted only until 2026-05-31"), "{refused}");
}

/// Judges one signature by this key over `message`, which brings so many timestamps that are none.
fn by_key(signer: usize, wanted: usize, message: &[u8], brought: usize, budget: &Budget) -> Result<Proof, Refused> {
    let signature = keyed::sign(key(signer), &[message]).expect("signs");
    let material = Material { timestamps: vec![Vec::new(); brought], ..Material::default() };
    let root = TrustedRoot::default();
    let signer = Signer::Key(key(wanted).public_key());
    let share = budget.share();
    let demands = Demands { signer, root: &root, logs: 0, timestamps: 0, share: Some(&share) };
    let message = [message];
    let unproven = Unproven { message: &message, signature: &signature, envelope: None, envelope_bytes: None };
    judge(&material, &unproven, &demands)
}

#[test]
fn a_stranger_s_material_does_not_use_up_what_a_given_key_needs() {
    let budget = Budget::of(3, 100, 1 << 30);
    for _ in 0..10 {
        let refused = by_key(6, 5, MESSAGE, 3, &budget).expect_err("by somebody else");
        assert!(matches!(refused, Refused::Signature(_)), "{refused:?}");
    }
    by_key(5, 5, MESSAGE, 3, &budget).expect("there is still enough");
    assert_eq!(by_key(5, 5, MESSAGE, 1, &budget).expect_err("used up"), Refused::Budget);
}

#[test]
fn signatures_over_much_are_refused_when_too_many_are_checked() {
    let large = vec![b'x'; 512 * 1024];
    let budget = Budget::of(100, 7, 1 << 30);
    for _ in 0..2 {
        assert!(matches!(by_key(6, 5, &large, 0, &budget), Err(Refused::Signature(_))));
    }
    by_key(5, 5, MESSAGE, 0, &budget).expect("one is left, and this costs no more");
    assert_eq!(by_key(5, 5, MESSAGE, 0, &budget).expect_err("used up"), Refused::Signatures);
}

/// A policy with many keys: each of them is tried on each signature, whatever strangers have used up before.
#[test]
fn each_of_many_keys_is_tried_where_the_rest_is_used_up() {
    const KEYS: usize = 40;
    let signature = keyed::sign(key(5), &[MESSAGE]).expect("signs");
    let root = TrustedRoot::default();
    let judged = |budget: &Budget| {
        let share = budget.share();
        // Those of others come first.
        let wanted = std::iter::repeat_n(6, KEYS - 1).chain([5]);
        let tried = wanted.map(|wanted| {
            let signer = Signer::Key(key(wanted).public_key());
            let demands = Demands { signer, root: &root, logs: 0, timestamps: 0, share: Some(&share) };
            let (message, material): ([&[u8]; 1], _) = ([MESSAGE], Material::default());
            let (signature, message) = (&signature, &message);
            judge(&material, &Unproven { message, signature, envelope: None, envelope_bytes: None }, &demands)
        });
        tried.last().expect("some")
    };
    let empty = || Budget::of(0, 0, 0);
    judged(&empty().of_signers(KEYS)).expect("each is tried");
    assert_eq!(judged(&empty().of_signers(1)).expect_err("as for one"), Refused::Signatures);
    // The number has an end: beyond it, what is there for all is used.
    let share = empty().of_signers(usize::MAX);
    let share = share.share();
    let tries = (0..).take_while(|_| share.spend_signature(&[MESSAGE]).is_ok()).take(10_000).count();
    assert_eq!(tries, 1 + 16 + MAX_SIGNERS);
}

#[test]
fn the_timestamps_of_all_signatures_share_one_budget() {
    let refused = |work: u64| {
        let budget = Budget::of(100, 100, work);
        let case = Case::changed(|case| case.times = vec!["20260601120000Z"; 3]);
        (0..4).filter(|_| case.judge_within(Some(&budget)).is_err()).count()
    };
    assert_eq!(refused(1 << 34), 0);
    assert_eq!(refused(0), 4);
    // Somewhere between there is enough for some: it is not counted anew for each.
    assert!((16..34).any(|bits| (1..4).contains(&refused(1 << bits))));
}

/// Something that is kept about an image, made once and judged often.
struct Kept {
    material: Material,
    signature: Vec<u8>,
}

impl Kept {
    /// What this case has signed, with these timestamps and `junk` more that are none.
    fn of(case: &Case, junk: usize) -> Self {
        let signature = keyed::sign(key(case.signer), &[MESSAGE]).expect("signs");
        let stamp = case.world.stamp(&signature);
        let mut timestamps = vec![seq(&[&seq(&[&int(0)]), &stamp.token()])];
        timestamps.extend((0..junk).map(|number| vec![0x30, u8::try_from(number % 100).expect("small")]));
        let material = Material {
            certificate: Some(case.world.leaf.issued_by(&case.issuer)),
            chain: case.brought.clone(),
            timestamps,
            ..Material::default()
        };
        Self { material, signature }
    }

    fn judge(&self, root: &TrustedRoot, whose: &Whose, budget: &Budget) -> Result<Proof, Refused> {
        let keyless = Keyless { whose: whose.clone(), certificate: None, sct: false, detached_sct: None };
        let share = budget.share();
        let signer = Signer::Certificate(&keyless);
        let demands = Demands { signer, root, logs: 0, timestamps: 0, share: Some(&share) };
        let message: [&[u8]; 1] = [MESSAGE];
        let signature = &self.signature;
        judge(
            &self.material,
            &Unproven { message: &message, signature, envelope: None, envelope_bytes: None },
            &demands,
        )
    }
}

/// Both ways to say whose certificate counts: by flags and by a policy.
fn whose() -> [Whose; 2] {
    let value = serde_json::json!({"emails": [SUBJECT], "commonname": "*", "dnsnames": ["*"], "uris": ["*"],
        "organizations": ["*"], "roots": ["*"], "extensions": {"Issuer": ISSUER}});
    let constraint = Constraint::read(&value).expect("a constraint").0;
    [Wanted::exactly(SUBJECT, ISSUER).expect("constraints").into(), Whose::OneOf(vec![constraint])]
}

/// Strangers of every sort, each with as much as a bundle can bring.
fn strangers() -> Vec<Kept> {
    let other = Case::changed(|case| case.world.leaf.names = vec![email("stranger@example.org")]);
    let forged = Case::changed(|case| {
        let stranger = Draft::authority("stranger", 6);
        case.brought = vec![stranger.issued_by(&stranger)];
        case.issuer = stranger;
    });
    let borrowed = Case::changed(|case| case.signer = 7);
    vec![
        Kept::of(&other, 60),
        Kept::of(&other, 0),
        Kept::of(&forged, 60),
        Kept::of(&forged, 0),
        Kept::of(&borrowed, 60),
    ]
}

#[test]
fn thousands_of_strangers_take_nothing_from_the_right_signature() {
    let (case, strangers) = (Case::new(), strangers());
    let (root, good) = (case.root(), Kept::of(&case, 0));
    for whose in whose() {
        let budget = Budget::default();
        let mut cut = 0;
        for number in 0..3000 {
            // Few of those that cost a check each.
            let place = if number % 50 < 3 { 2 + number % 3 } else { number % 2 };
            let stranger = &strangers[place];
            match stranger.judge(&root, &whose, &budget) {
                // Whoever is not wanted by a policy is told by whoever reads it.
                Ok(proof) => assert!(matches!(whose, Whose::OneOf(_)) && proof.identity.is_some()),
                Err(Refused::Stranger { reason }) => {
                    cut += 1;
                    assert!(!reason.is_empty());
                }
                Err(Refused::Identity(_) | Refused::Chain { .. } | Refused::Signature(_) | Refused::NoTime { .. }) => {}
                Err(refused) => panic!("{refused:?}"),
            }
        }
        assert!(cut > 1000, "most are not looked at in full: {cut}");
        let proof = good.judge(&root, &whose, &budget).expect("it is still judged");
        assert_eq!(proof.anchors, ["r"]);
        // With more than its share too: strangers have not touched what is there for all.
        Kept::of(&case, 60).judge(&root, &whose, &budget).expect("it is still judged");
    }
}

/// Only who copies the right signature can use up what is there for all: then what needs more than its share is refused,
/// and says so.
#[test]
fn what_brings_more_than_its_share_is_refused_where_the_rest_is_used_up() {
    let case = Case::new();
    let (root, good, fat) = (case.root(), Kept::of(&case, 0), Kept::of(&case, 60));
    for whose in whose() {
        let budget = Budget::default();
        let refused = (0..200).find_map(|_| fat.judge(&root, &whose, &budget).err()).expect("there is an end");
        assert_eq!(refused, Refused::Budget);
        let text = refused.to_string();
        assert!(text.contains("more than 4 log entries") && text.contains("used up"), "{text}");
        good.judge(&root, &whose, &budget).expect("its share is its own");
    }
}
