//! What is asked of the readers of what signing services answer, and of records of log entries that wait, for any bytes at
//! all; as in `targets.rs`.

use std::sync::LazyLock;

use affiant_core::dsse::pae_header;
use affiant_core::image::sigstore::{Bundle, Content, Signer as Said};
use affiant_core::jwt::{Keys, Token};
use affiant_core::keyless::config::SigningConfig;
use affiant_core::keyless::fulcio::{self, Form};
use affiant_core::keyless::login::{self, Asked, Client, Device, Given, Provider, Session};
use affiant_core::keyless::queue::{MAX_PLACES, Place, Queued, Signer};
use affiant_core::keyless::rekor::{LogEntry, Submission, Verifier, Version};
use affiant_core::keyless::stamp::Query;
use affiant_core::keyless::tiles;
use affiant_core::keyless::token::{AUDIENCE, IdentityToken, Wanted};
use affiant_core::sign::PublicKey;
use affiant_core::sigstore::Entry;
use affiant_core::trust::Certificate;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

macro_rules! fixture {
    ($path:literal) => {
        include_bytes!(concat!("../../fixtures/cosign/", $path)).as_slice()
    };
}

/// Bundles with a certificate: of statements and of a blob.
const BUNDLES: [&[u8]; 3] = [
    fixture!("bundles/attblob-keyless-rekor1.sigstore.json"),
    fixture!("bundles/attblob-keyless-rekor2.sigstore.json"),
    fixture!("bundles/blob-keyless-rekor2.sigstore.json"),
];

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("recorded JSON")
}

fn base64(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().expect("text")).expect("base64")
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("32 bytes")
}

/// What a log was told, and of what its entry is.
struct Told {
    version: Version,
    sha256: [u8; 32],
    signature: Vec<u8>,
    key: Option<PublicKey>,
    certificate: Option<Certificate>,
    body: Vec<u8>,
}

impl Told {
    fn submission(&self) -> Submission<'_> {
        let key = || self.key.as_ref().expect("one of both");
        let verifier = self.certificate.as_ref().map_or_else(|| Verifier::Key(key()), Verifier::Certificate);
        Submission { message: &[], sha256: self.sha256, signature: &self.signature, verifier, envelope: None }
    }
}

static TOLD: LazyLock<[Told; 2]> = LazyLock::new(|| {
    let one = json(fixture!("api/rekor1-hashedrekord-cert.json"));
    let spec = &one["request"]["spec"];
    let entry = one["response"].as_object().and_then(|all| all.values().next()).expect("an entry");
    let pem = base64(&spec["signature"]["publicKey"]["content"]);
    let first = Told {
        version: Version::One,
        sha256: digest(&hex::decode(spec["data"]["hash"]["value"].as_str().expect("text")).expect("hex")),
        signature: base64(&spec["signature"]["content"]),
        key: None,
        certificate: Some(Certificate::read_all(&pem).expect("recorded").remove(0)),
        body: base64(&entry["body"]),
    };
    let two = json(fixture!("api/rekor2-hashedrekord-key.json"));
    let told = &two["request"]["hashedRekordRequestV002"];
    let key = base64(&told["signature"]["verifier"]["publicKey"]["rawBytes"]);
    let second = Told {
        version: Version::Two,
        sha256: digest(&base64(&told["digest"])),
        signature: base64(&told["signature"]["content"]),
        key: Some(PublicKey::from_der(&key).expect("recorded")),
        certificate: None,
        body: base64(&two["response"]["canonicalizedBody"]),
    };
    [first, second]
});

/// The recorded answer of a log of the second generation.
static MADE: LazyLock<LogEntry> = LazyLock::new(|| {
    let two = json(fixture!("api/rekor2-hashedrekord-key.json"));
    let answer = two["response"].to_string();
    TOLD[1].submission().answer(Version::Two, answer.as_bytes()).expect("a recorded answer")
});

/// Records of the recorded bundles, and these bundles without their entries.
static WAITING: LazyLock<Vec<(Queued, Vec<u8>)>> = LazyLock::new(|| {
    let of = |bytes: &&[u8]| {
        let bundle = Bundle::parse(bytes).expect("a recorded bundle");
        let Said::Certificate { chain } = &bundle.signer else { panic!("a certificate signed it") };
        let (sha256, signature) = match &bundle.content {
            Content::Envelope(envelope) => {
                let header = pae_header(&envelope.payload_type, envelope.payload.len());
                let message = [header.as_slice(), &envelope.payload].concat();
                (affiant_core::digest::sha256(&message), envelope.signatures[0].sig.clone())
            }
            Content::Message { sha256, signature } => (digest(sha256.as_deref().expect("recorded")), signature.clone()),
        };
        let queued = Queued {
            log: "https://rekor.example".to_owned(),
            version: Version::Two,
            sha256,
            signature,
            signer: Signer::Certificate(Certificate::from_der(&chain[0]).expect("recorded")),
            envelope: None,
            registries: Vec::new(),
            places: vec![Place::File("b.json".into())],
        };
        let mut bundle = json(bytes);
        bundle["verificationMaterial"].as_object_mut().expect("members").remove("tlogEntries");
        (queued, bundle.to_string().into_bytes())
    };
    BUNDLES.iter().map(of).collect()
});

/// Records of entries that wait: what is read, written and read again is the same; a member twice is refused; and an entry
/// goes into nothing but the bundle of its signature, once.
pub(crate) fn queue(data: &[u8]) {
    if let Ok(queued) = Queued::parse(data) {
        assert_eq!(Queued::parse(&queued.to_json()).as_ref(), Ok(&queued), "read, written, read again");
        assert!((1..=MAX_PLACES).contains(&queued.places.len()));
        assert!(queued.places.iter().all(|place| place.has_room(queued.version)));
        let inside = data.trim_ascii_start().strip_prefix(b"{").expect("what was read is an object");
        for member in ["version", "places", "signature", "x"] {
            let double = [format!("{{\"{member}\":1,").as_bytes(), inside].concat();
            assert!(Queued::parse(&double).is_err(), "{member} twice");
        }
        for (own, bundle) in &*WAITING {
            // The digest of a blob may be left out of a bundle, so that of a record is compared where it is there.
            let is_own =
                queued.signature == own.signature && queued.signer == own.signer && queued.sha256 == own.sha256;
            assert_eq!(queued.is_in(bundle).is_ok(), is_own, "an entry for somebody else's bundle");
            completed(&queued, bundle);
        }
    }
    for (queued, _) in &*WAITING {
        completed(queued, data);
    }
}

/// A bundle that is completed is the same with one entry more, and that is all that is ever done.
fn completed(queued: &Queued, bundle: &[u8]) {
    let Ok(done) = queued.complete(bundle, &MADE) else { return };
    let before = queued.is_in(bundle).expect("only its own is completed");
    let Some(done) = done else { return };
    let after = queued.is_in(&done).expect("it still is its own");
    assert_eq!(after.entries.len(), before.entries.len() + 1);
    assert_eq!((after.content, after.signer, after.timestamps), (before.content, before.signer, before.timestamps));
    assert_eq!(queued.complete(&done, &MADE), Ok(None), "a second time nothing is left to do");
}

/// What services answer: nothing of it is taken for an answer to a question that was not asked, and what is taken can be
/// read by others.
pub(crate) fn answers(data: &[u8]) {
    of_authority(data);
    of_logs(data);
    let query = Query::new(b"message").expect("random numbers");
    assert!(query.answer(data.to_vec(), b"message").is_err(), "nobody knows the number of this question");
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(size) = tiles::size_of(text) {
            assert_eq!(text.split('\n').nth(1), Some(size.to_string().as_str()));
        }
        of_token(text);
    }
    of_issuer(data);
    if let Ok(config) = SigningConfig::parse(data) {
        let value = json(data);
        for log in [None, Some(Version::One), Some(Version::Two)] {
            let Ok(chosen) = config.choose(Timestamp::UNIX_EPOCH, log) else { continue };
            let logs = chosen.logs.into_iter().map(|(url, version)| {
                assert!(log.is_none_or(|wanted| wanted == version));
                url
            });
            let all = logs.chain(chosen.timestamps).chain(chosen.authority).chain(chosen.issuer);
            for url in all {
                assert!(stands_in(&value, &url), "{url} was not named");
            }
        }
    }
}

/// Whether a text of a document is this address.
fn stands_in(value: &Value, url: &str) -> bool {
    match value {
        Value::String(text) => text.trim_end_matches('/') == url,
        Value::Array(all) => all.iter().any(|one| stands_in(one, url)),
        Value::Object(all) => all.values().any(|one| stands_in(one, url)),
        _ => false,
    }
}

fn of_authority(data: &[u8]) {
    for form in [Form::Key, Form::V1] {
        let Ok(issued) = fulcio::answer(form, data, None) else { continue };
        assert!(!issued.leaf.is_ca() && issued.chain.iter().all(Certificate::is_ca));
        let claims = IdentityToken::look(&Zeroizing::new(GOOD.to_owned()), &WANTED, Timestamp::UNIX_EPOCH);
        let other = TOLD[1].key.as_ref().expect("a key");
        assert!(issued.check(other, claims.expect("good").claims()).is_err(), "for a key that nobody asked for");
    }
}

fn of_logs(data: &[u8]) {
    for told in &*TOLD {
        let Ok(made) = told.submission().answer(told.version, data) else { continue };
        let entry = Entry::parse(made.bundled.to_string().as_bytes()).expect("a bundle can hold it");
        let (body, own): (Value, Value) = (json(&entry.body), json(&told.body));
        assert_eq!(body, own, "the entry of something else");
        assert_eq!((entry.index, made.annotation.is_some()), (made.index, told.version == Version::One));
        assert_eq!(told.submission().answer(told.version, &made.answer).as_ref(), Ok(&made), "read again");
    }
}

/// `{"alg":"RS256"}`, an issuer, the audience, a subject and a time in 1970, and a signature that nobody made.
const GOOD: &str =
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZSIsImF1ZCI6InNpZ3N0b3JlIiwic3ViIjoiYSIsImV4cCI6NjAwfQ.c2ln";
const WANTED: Wanted<'static> = Wanted { audience: AUDIENCE, issuer: None };

fn of_token(text: &str) {
    if let Ok(keys) = Keys::read("https://a.example/keys", text.as_bytes()) {
        let token = Token::read(GOOD).expect("good");
        assert!(token.prove(&keys).is_err(), "nobody signed it");
    }
    let Ok(token) = IdentityToken::look(&Zeroizing::new(text.to_owned()), &WANTED, Timestamp::UNIX_EPOCH) else {
        return;
    };
    let claims = token.claims();
    assert!(!claims.issuer.is_empty() && !claims.subject.is_empty());
    let again = Token::read(token.expose()).expect("it was read");
    assert_eq!(again.issuer(), Some(claims.issuer.as_str()));
    assert!(!format!("{token:?}").contains(token.expose()), "a token is not shown");
    assert!(!token.keep_out_of(&format!("no: {text}")).contains(token.expose()), "nor said back");
}

/// Of an issuer that a person logs in at, and of a browser.
fn of_issuer(data: &[u8]) {
    let permits = |url: &str| if url.starts_with("https://") { Ok(()) } else { Err("no TLS".to_owned()) };
    let session = Session::new().expect("random numbers");
    let client = Client { id: "sigstore".to_owned(), secret: None };
    let issuer =
        serde_json::from_slice::<Value>(data).ok().and_then(|value| Some(value["issuer"].as_str()?.to_owned()));
    let provider = Provider::parse(data, issuer.as_deref().unwrap_or_default(), &permits);
    if let Ok(provider) = &provider {
        let url = session.url(provider, &client, "http://127.0.0.1:1/auth/callback");
        assert!(url.starts_with("https://") && provider.token.starts_with("https://"));
        assert!(provider.device.as_ref().is_none_or(|url| url.starts_with("https://")));
    }
    for status in [200, 400] {
        if let Ok(Given::Token(token)) = session.token(status, data, &[]) {
            assert_eq!(status, 200, "no refusal");
            // In members that are for others, bytes may stand that are no text: then there is no second reading.
            if let Ok(second) = serde_json::from_slice::<Value>(data) {
                assert_eq!(second["id_token"].as_str(), Some(token.as_str()));
            }
        }
    }
    if let Ok(mut device) = Device::parse(&session, data, &permits) {
        assert!((1..=60).contains(&device.interval) && device.address.starts_with("https://"));
        assert!(!device.user_code.chars().any(char::is_control));
        device.slow_down();
        assert!(device.interval <= 60);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let query = match login::asked(text.lines().next().unwrap_or_default(), "/auth/callback") {
        Asked::Callback(query) => query,
        Asked::Stray | Asked::Nonsense => text,
    };
    let known = Provider::parse(ISSUER, "https://a.example", &permits).expect("good");
    assert!(session.code(&known, query).is_err(), "nobody knows this login");
    // The same with what only we know.
    let url = session.url(&known, &client, "http://127.0.0.1:1/auth/callback");
    let state = url.split('&').find(|part| part.starts_with("state=")).expect("it is told");
    if let Ok(code) = session.code(&known, &format!("{state}&{query}")) {
        assert!(!code.is_empty());
    }
}

const ISSUER: &[u8] = br#"{"issuer": "https://a.example", "authorization_endpoint": "https://a.example/a", "token_endpoint": "https://a.example/t"}"#;
