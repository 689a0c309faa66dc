//! Sigstore's services on this machine, in memory: a certificate authority with its log of certificates, logs of both
//! generations, and a timestamp authority. They really sign, with keys that are made for the test, and say what a test puts
//! in their mouths.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use affiant_core::digest::sha256;
use affiant_core::sign::{KeyKind, PrivateKey, PublicKey, Signer as _};
use affiant_core::trust::Certificate;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::hex;
use crate::registry::{Asked, Said, read};

/// What is said instead of the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Twist {
    #[default]
    None,
    /// Certificates for another key.
    OtherKey,
    /// Certificates without SCT.
    NoSct,
    /// Certificates for another issuer.
    OtherIssuer,
    /// Certificates that are not signed by the authority beside them.
    Forged,
    /// Entries of another artifact.
    OtherEntry,
    /// Proofs of another entry.
    OtherProof,
    /// Timestamps over other bytes.
    OtherImprint,
    /// Timestamps that answer no question.
    NoNonce,
    /// Timestamps of two hours ago.
    TwoHoursOff,
    /// No API v2 of certificates.
    OnlyV1,
    /// Certificates that have one minute left of twenty.
    AlmostOver,
    /// Certificates with a second name.
    TwoNames,
    /// Certificates without a name.
    NoName,
    /// Certificates whose issuer is the token that was shown.
    SaysBack,
    /// Certificates that are over after seconds.
    Short,
}

type Lie = Box<dyn Fn(&Asked) -> Option<Said> + Send + Sync>;

struct State {
    root: (PrivateKey, Vec<u8>),
    intermediate: (PrivateKey, Vec<u8>),
    tsa_root: (PrivateKey, Vec<u8>),
    tsa: (PrivateKey, Vec<u8>),
    ct: PrivateKey,
    logs: [PrivateKey; 2],
    twist: Twist,
    lie: Option<Lie>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    asked: Vec<Asked>,
    /// The leaves of each log.
    leaves: [Vec<Vec<u8>>; 2],
    /// Answers of the first log by the entry's id.
    entries: BTreeMap<String, Value>,
}

/// Services that answer until the test ends.
pub(crate) struct Sigstore {
    port: u16,
    state: Arc<State>,
}

/// How long a certificate lives that is over soon.
pub(crate) const SHORT: SignedDuration = SignedDuration::from_secs(15);

/// The content of a timestamp.
const TST: &str = "1.2.840.113549.1.9.16.1.4";

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u16::try_from(content.len()).expect("less than 64 KiB").to_be_bytes() {
        [0, short @ 0..128] => out.push(short),
        [0, middle] => out.extend([0x81, middle]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend(content);
    out
}

fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

fn oid(text: &str) -> Vec<u8> {
    let numbers: Vec<u32> = text.split('.').map(|one| one.parse().expect("a number")).collect();
    let mut out = vec![u8::try_from(numbers[0] * 40 + numbers[1]).expect("small")];
    for number in &numbers[2..] {
        let mut part = vec![u8::try_from(number & 0x7f).expect("seven bits")];
        let mut rest = number >> 7;
        while rest > 0 {
            part.insert(0, u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
            rest >>= 7;
        }
        out.extend(part);
    }
    tlv(0x06, &[&out])
}

fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    seq(&[&oid(id), flag, &tlv(0x04, &[value])])
}

fn general_time(time: Timestamp) -> Vec<u8> {
    tlv(0x18, &[time.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()])
}

fn name(common: &str) -> Vec<u8> {
    seq(&[&tlv(0x31, &[&seq(&[&oid("2.5.4.3"), &tlv(0x0c, &[common.as_bytes()])])])])
}

fn ecdsa() -> Vec<u8> {
    seq(&[&oid("1.2.840.10045.4.3.2")])
}

/// The signed part of a certificate.
fn tbs(
    issuer: &str,
    subject: &[u8],
    key: &PublicKey,
    from: Timestamp,
    until: Timestamp,
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    seq(&[
        &tlv(0xa0, &[&[0x02, 0x01, 0x02]]),
        &[0x02, 0x01, 0x07],
        &ecdsa(),
        &name(issuer),
        &seq(&[&general_time(from), &general_time(until)]),
        subject,
        key.to_der(),
        &tlv(0xa3, &[&seq(&[&extensions.concat()])]),
    ])
}

fn signed(tbs: &[u8], key: &PrivateKey) -> Vec<u8> {
    let signature = key.sign(&[tbs]).expect("signs");
    seq(&[tbs, &ecdsa(), &tlv(0x03, &[&[0], &signature])])
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

fn new_key() -> PrivateKey {
    PrivateKey::generate(KeyKind::P256).expect("a key")
}

fn authority(common: &str, issuer: &str, by: Option<&PrivateKey>) -> (PrivateKey, Vec<u8>) {
    let key = new_key();
    let extensions = [
        extension("2.5.29.19", true, &seq(&[&[0x01, 0x01, 0xff]])),
        extension("2.5.29.15", true, &tlv(0x03, &[&[2, 0x04]])),
    ];
    let part = tbs(issuer, &name(common), key.public_key(), now() - hours(24), now() + hours(24 * 365), &extensions);
    let der = signed(&part, by.unwrap_or(&key));
    (key, der)
}

impl Sigstore {
    pub(crate) fn start() -> Self {
        Self::with(Twist::None, None)
    }

    pub(crate) fn twisted(twist: Twist) -> Self {
        Self::with(twist, None)
    }

    pub(crate) fn with(twist: Twist, lie: Option<Lie>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let root = authority("root", "root", None);
        let intermediate = authority("intermediate", "root", Some(&root.0));
        let tsa_root = authority("time root", "time root", None);
        let tsa_key = new_key();
        let purposes = extension("2.5.29.37", true, &seq(&[&oid("1.3.6.1.5.5.7.3.8")]));
        let usage = extension("2.5.29.15", true, &tlv(0x03, &[&[7, 0x80]]));
        let (from, until) = (now() - hours(24), now() + hours(24 * 365));
        let part = tbs("time root", &name("time"), tsa_key.public_key(), from, until, &[usage, purposes]);
        let tsa = (tsa_key, signed(&part, &tsa_root.0));
        let state = Arc::new(State {
            root,
            intermediate,
            tsa_root,
            tsa,
            ct: new_key(),
            logs: [new_key(), new_key()],
            twist,
            lie,
            held: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || state.serve(&stream));
            }
        });
        Self { port, state }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn fulcio(&self) -> String {
        self.url("fulcio")
    }

    pub(crate) fn rekor(&self, generation: u8) -> String {
        self.url(&format!("rekor{generation}"))
    }

    pub(crate) fn tsa(&self) -> String {
        self.url("tsa")
    }

    /// All that was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.held.lock().expect("no panic").asked.clone()
    }

    /// How often something was asked whose path has this in it.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.target.contains(part)).count()
    }

    /// A signing configuration with a log of this generation (0: none), and with a timestamp authority or not.
    pub(crate) fn signing_config(&self, generation: u8, stamped: bool) -> String {
        let one = |url: String, generation: u8| {
            json!([{"url": url, "majorApiVersion": generation, "operator": "here",
                "validFor": {"start": "2020-01-01T00:00:00Z"}}])
        };
        let mut config = json!({"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": one(self.fulcio(), 1), "rekorTlogConfig": {}, "tsaConfig": {}});
        if generation > 0 {
            config["rekorTlogUrls"] = one(self.rekor(generation), generation);
            config["rekorTlogConfig"] = json!({"selector": "ANY"});
        }
        if stamped {
            config["tsaUrls"] = one(self.tsa(), 1);
            config["tsaConfig"] = json!({"selector": "ANY"});
        }
        config.to_string()
    }

    /// What a verifier must know to believe these services.
    pub(crate) fn trusted_root(&self) -> String {
        let state = &self.state;
        let window = json!({"start": "2020-01-01T00:00:00Z"});
        let log = |key: &PrivateKey, url: String| {
            let der = key.public_key().to_der();
            json!({"baseUrl": url, "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": STANDARD.encode(der), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": window},
                "logId": {"keyId": STANDARD.encode(sha256(der))}})
        };
        let chain = |all: &[&[u8]]| {
            let all: Vec<_> = all.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
            json!({"certificates": all})
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&state.logs[0], self.rekor(1)), log(&state.logs[1], self.rekor(2))],
            "ctlogs": [log(&state.ct, self.url("ct"))],
            "certificateAuthorities": [{"subject": {"organization": "here", "commonName": "here"}, "uri": self.fulcio(),
                "certChain": chain(&[&state.intermediate.1, &state.root.1]), "validFor": window}],
            "timestampAuthorities": [{"subject": {"organization": "here", "commonName": "here"}, "uri": self.tsa(),
                "certChain": chain(&[&state.tsa.1, &state.tsa_root.1]), "validFor": window}],
        })
        .to_string()
    }

    /// The root of certificates, as PEM.
    pub(crate) fn root_pem(&self) -> String {
        Certificate::from_der(&self.state.root.1).expect("a certificate").to_pem()
    }

    /// The root of timestamps, as PEM.
    pub(crate) fn tsa_root_pem(&self) -> String {
        Certificate::from_der(&self.state.tsa_root.1).expect("a certificate").to_pem()
    }
}

/// A token as a GitLab job has it, with other claims in place; `null` takes one away. Nobody checks who signed it.
pub(crate) fn token(changed: &Value) -> String {
    token_with("RS256", changed)
}

pub(crate) fn token_with(algorithm: &str, changed: &Value) -> String {
    let now = now().as_second();
    let mut claims = json!({
        "iss": "https://gitlab.example", "aud": "sigstore", "sub": "project_path:group/app:ref_type:branch:ref:main",
        "iat": now, "nbf": now - 5, "exp": now + 300, "project_path": "group/app", "namespace_path": "group",
        "ci_config_ref_uri": "gitlab.example/group/app//.gitlab-ci.yml@refs/heads/main",
    });
    for (name, value) in changed.as_object().into_iter().flatten() {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&json!({"alg": algorithm, "kid": "1"})), part(&claims), URL_SAFE_NO_PAD.encode([0x5a; 96]))
}

fn claims_of(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap_or_default()).unwrap_or_default()
}

fn decoded(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
}

fn refusal(status: u16, message: &str) -> Said {
    Said::new(status).with("content-type", "application/json").body(json!({"code": 3, "message": message}).to_string())
}

impl State {
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read(&mut reader) {
            self.held.lock().expect("no panic").asked.push(asked.clone());
            let said = self.lie.as_ref().and_then(|lie| lie(&asked)).unwrap_or_else(|| self.answer(&asked));
            let mut out = stream;
            let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", said.status, said.body.len());
            for (name, value) in &said.headers {
                let _ = write!(head, "{name}: {value}\r\n");
            }
            head += "\r\n";
            if out.write_all(head.as_bytes()).and_then(|()| out.write_all(&said.body)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> Said {
        match asked.path() {
            "/fulcio/api/v2/signingCert" if self.twist != Twist::OnlyV1 => self.certificate(asked, false),
            "/fulcio/api/v1/signingCert" => self.certificate(asked, true),
            "/rekor1/api/v1/log/entries" => self.enter_one(asked),
            "/rekor2/api/v2/log/entries" => self.enter_two(asked),
            "/tsa" => self.stamp(&asked.body),
            "/rekor2/api/v2/checkpoint" => {
                let held = self.held.lock().expect("no panic");
                let leaves = &held.leaves[1];
                Said::new(200).body(self.checkpoint(1, "127.0.0.1", leaves.len(), &root_of(leaves)))
            }
            path if path.starts_with("/rekor2/api/v2/tile/0/000.p/") => {
                // A tree of few leaves has one tile, which is not whole.
                let count = path.rsplit('/').next().and_then(|count| count.parse::<usize>().ok()).unwrap_or_default();
                match self.held.lock().expect("no panic").leaves[1].get(..count) {
                    Some(leaves) => Said::new(200).body(leaves.concat()),
                    None => Said::new(404),
                }
            }
            path => match path.strip_prefix("/rekor1/api/v1/log/entries/") {
                Some(id) => match self.held.lock().expect("no panic").entries.get(id) {
                    Some(entry) => Said::new(200).body(entry.to_string()),
                    None => Said::new(404),
                },
                None => Said::new(404),
            },
        }
    }

    fn certificate(&self, asked: &Asked, is_v1: bool) -> Said {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let bearer = asked.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let token = body["credentials"]["oidcIdentityToken"].as_str().or(bearer).unwrap_or_default();
        let claims = claims_of(token);
        let refused = || refusal(400, "There was an error processing the identity token");
        if claims["aud"] != "sigstore" || claims["exp"].as_i64().unwrap_or_default() < now().as_second() {
            return refused();
        }
        let challenge = claims["email"].as_str().or(claims["sub"].as_str()).unwrap_or_default().to_owned();
        let (key, proof) = if is_v1 {
            (PublicKey::from_der(&decoded(&body["publicKey"]["content"])), decoded(&body["signedEmailAddress"]))
        } else if let Some(csr) = body.get("certificateSigningRequest") {
            // SEQUENCE { SEQUENCE { 0, {}, key …: the key begins after three headers of a short request.
            let pem = String::from_utf8(decoded(csr)).unwrap_or_default();
            let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            let der = STANDARD.decode(text).unwrap_or_default();
            let at = der.windows(4).position(|four| four == [0x30, 0x59, 0x30, 0x13]).unwrap_or_default();
            (PublicKey::from_der(der.get(at..at + 91).unwrap_or_default()), Vec::new())
        } else {
            let request = &body["publicKeyRequest"];
            let pem = request["publicKey"]["content"].as_str().unwrap_or_default();
            (PublicKey::from_file_bytes(pem.as_bytes()), decoded(&request["proofOfPossession"]))
        };
        let Ok(key) = key else { return refusal(400, "The public key supplied in the request could not be parsed") };
        if body.get("certificateSigningRequest").is_none() && key.verify(&[challenge.as_bytes()], &proof).is_err() {
            return refusal(400, "The signature supplied in the request could not be verified");
        }
        let key = if self.twist == Twist::OtherKey { new_key().public_key().clone() } else { key };
        let mut claims = claims;
        if self.twist == Twist::SaysBack {
            claims["iss"] = json!(token);
        }
        let chain: Vec<String> = [self.leaf(&key, &claims), self.intermediate.1.clone(), self.root.1.clone()]
            .iter()
            .map(|der| Certificate::from_der(der).expect("a certificate").to_pem())
            .collect();
        if is_v1 {
            return Said::new(201).with("content-type", "application/pem-certificate-chain").body(chain.concat());
        }
        let answer = json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}});
        Said::new(200).with("content-type", "application/json").body(answer.to_string())
    }

    fn leaf(&self, key: &PublicKey, claims: &Value) -> Vec<u8> {
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let san = match claims["email"].as_str() {
            Some(email) => tlv(0x81, &[email.as_bytes()]),
            None if claims.get("ci_config_ref_uri").is_some() => {
                tlv(0x86, &[format!("https://{}", text("ci_config_ref_uri")).as_bytes()])
            }
            None => tlv(0x86, &[text("sub").as_bytes()]),
        };
        let san = match self.twist {
            Twist::TwoNames => [san, tlv(0x81, &[b"other@example.org"])].concat(),
            Twist::NoName => tlv(0x87, &[&[10, 0, 0, 1]]),
            _ => san,
        };
        let issuer = if self.twist == Twist::OtherIssuer { "https://other.example".to_owned() } else { text("iss") };
        let mut extensions = vec![
            extension("2.5.29.15", true, &tlv(0x03, &[&[7, 0x80]])),
            extension("2.5.29.37", false, &seq(&[&oid("1.3.6.1.5.5.7.3.3")])),
            extension("2.5.29.17", true, &seq(&[&san])),
            extension("1.3.6.1.4.1.57264.1.1", false, issuer.as_bytes()),
            extension("1.3.6.1.4.1.57264.1.8", false, &tlv(0x0c, &[issuer.as_bytes()])),
            extension("1.3.6.1.4.1.57264.1.24", false, &tlv(0x0c, &[text("sub").as_bytes()])),
        ];
        // Of which job it is, where the token says so.
        for (id, claim) in [(12, "source_repository"), (13, "source_commit"), (21, "job_url")] {
            if let Some(value) = claims[claim].as_str() {
                let value = tlv(0x0c, &[value.as_bytes()]);
                extensions.push(extension(&format!("1.3.6.1.4.1.57264.1.{id}"), false, &value));
            }
        }
        let (before, life) = match self.twist {
            Twist::Short => (5, SHORT),
            Twist::AlmostOver => (20 * 60, SignedDuration::from_secs(60)),
            _ => (5, SignedDuration::from_mins(10)),
        };
        let (from, until) = (now() - SignedDuration::from_secs(before), now() + life);
        let part = |extensions: &[Vec<u8>]| tbs("intermediate", &seq(&[]), key, from, until, extensions);
        if self.twist != Twist::NoSct {
            let list = self.scts(&part(&extensions));
            extensions.push(extension("1.3.6.1.4.1.11129.2.4.2", false, &tlv(0x04, &[&list])));
        }
        let other = new_key();
        signed(&part(&extensions), if self.twist == Twist::Forged { &other } else { &self.intermediate.0 })
    }

    /// A list with one SCT over a certificate without its list (RFC 6962 §3.2, §3.3).
    fn scts(&self, precertificate: &[u8]) -> Vec<u8> {
        let time = u64::try_from(now().as_millisecond()).expect("after 1970").to_be_bytes();
        let issuer = sha256(self.intermediate.0.public_key().to_der());
        let length = u32::try_from(precertificate.len()).expect("short").to_be_bytes();
        let signed = [&[0, 0], &time[..], &[0, 1], &issuer, &length[1..], precertificate, &[0, 0]].concat();
        let signature = self.ct.sign(&[&signed]).expect("signs");
        let size = u16::try_from(signature.len()).expect("short").to_be_bytes();
        let id = sha256(self.ct.public_key().to_der());
        let sct = [&[0], &id[..], &time, &[0, 0, 4, 3], &size, &signature].concat();
        let inner = u16::try_from(sct.len()).expect("short").to_be_bytes();
        let outer = u16::try_from(sct.len() + 2).expect("short").to_be_bytes();
        [&outer[..], &inner, &sct].concat()
    }

    fn enter_one(&self, asked: &Asked) -> Said {
        let proposed: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let stored = match proposed["kind"].as_str() {
            Some("hashedrekord") => {
                let (data, signature) = (&proposed["spec"]["data"], &proposed["spec"]["signature"]);
                json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {"data": data, "signature": signature}})
            }
            Some("dsse") => {
                let content = &proposed["spec"]["proposedContent"];
                let text = content["envelope"].as_str().unwrap_or_default();
                let envelope: Value = serde_json::from_str(text).unwrap_or_default();
                let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex(&sha256(bytes))});
                json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
                    "envelopeHash": hash(text.as_bytes()), "payloadHash": hash(&decoded(&envelope["payload"])),
                    "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0]}]}})
            }
            _ => return refusal(400, "unknown kind"),
        };
        let mut body = sorted(&stored).to_string();
        if self.twist == Twist::OtherEntry {
            body = body.replacen("\"value\":\"", "\"value\":\"00", 1);
        }
        let id = hex(&sha256(&[&[0], body.as_bytes()].concat()));
        let there = self.held.lock().expect("no panic").entries.contains_key(&id);
        if there {
            return Said::new(409)
                .with("location", format!("/api/v1/log/entries/{id}"))
                .body(json!({"code": 409, "message": "an equivalent entry already exists"}).to_string());
        }
        let (index, hashes, root, size) = self.add(0, body.as_bytes());
        let key = &self.logs[0];
        let log_id = hex(&sha256(key.public_key().to_der()));
        let (time, body) = (now().as_second(), STANDARD.encode(body));
        let promised =
            format!("{{\"body\":\"{body}\",\"integratedTime\":{time},\"logID\":\"{log_id}\",\"logIndex\":{index}}}");
        let set = key.sign(&[promised.as_bytes()]).expect("signs");
        let hashes: Vec<_> = hashes.iter().map(|hash| hex(hash)).collect();
        let entry = json!({id.as_str(): {"body": body, "integratedTime": time, "logID": log_id, "logIndex": index,
            "verification": {"signedEntryTimestamp": STANDARD.encode(set), "inclusionProof": {
                "checkpoint": self.checkpoint(0, "rekor.here - 1", size, &root), "hashes": hashes, "logIndex": index,
                "rootHash": hex(&root), "treeSize": size}}}});
        self.held.lock().expect("no panic").entries.insert(id.clone(), entry.clone());
        Said::new(201).with("location", format!("/api/v1/log/entries/{id}")).body(entry.to_string())
    }

    fn enter_two(&self, asked: &Asked) -> Said {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let request = &body["hashedRekordRequestV002"];
        if request.is_null() {
            return refusal(400, "invalid type, must be hashedrekord");
        }
        let digest =
            if self.twist == Twist::OtherEntry { json!(STANDARD.encode([7; 32])) } else { request["digest"].clone() };
        let stored = json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": digest}, "signature": request["signature"]}}});
        let stored = sorted(&stored).to_string();
        let leaf = sha256(&[&[0], stored.as_bytes()].concat()).to_vec();
        let there = self.held.lock().expect("no panic").leaves[1].iter().position(|one| *one == leaf);
        if let Some(index) = there {
            return Said::new(409).body(
                json!({"code": 6, "message":
                    format!("an equivalent entry already exists in the transparency log with index {index}")})
                .to_string(),
            );
        }
        let (index, hashes, root, size) = self.add(1, stored.as_bytes());
        let hashes: Vec<_> = hashes.iter().map(|hash| STANDARD.encode(hash)).collect();
        let entry = json!({
            "logIndex": index.to_string(), "logId": {"keyId": STANDARD.encode(sha256(self.logs[1].public_key().to_der()))},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"}, "integratedTime": "0", "inclusionPromise": null,
            "inclusionProof": {"logIndex": index.to_string(), "rootHash": STANDARD.encode(&root),
                "treeSize": size.to_string(), "hashes": hashes,
                "checkpoint": {"envelope": self.checkpoint(1, "127.0.0.1", size, &root)}},
            "canonicalizedBody": STANDARD.encode(stored)});
        Said::new(201).body(entry.to_string())
    }

    /// Adds a leaf: its number, the proof, root and size.
    fn add(&self, log: usize, body: &[u8]) -> (usize, Vec<Vec<u8>>, Vec<u8>, usize) {
        let mut held = self.held.lock().expect("no panic");
        let leaves = &mut held.leaves[log];
        leaves.push(sha256(&[&[0], body].concat()).to_vec());
        let index = leaves.len() - 1;
        let mut hashes = path(index, leaves);
        if self.twist == Twist::OtherProof {
            hashes.push(vec![1; 32]);
        }
        (index, hashes, root_of(leaves), leaves.len())
    }

    fn checkpoint(&self, log: usize, origin: &str, size: usize, root: &[u8]) -> String {
        let key = &self.logs[log];
        let text = format!("{origin}\n{size}\n{}\n", STANDARD.encode(root));
        let id = sha256(key.public_key().to_der());
        let signature = [&id[..4], &key.sign(&[text.as_bytes()]).expect("signs")].concat();
        format!("{text}\n— {} {}\n", origin.split(' ').next().unwrap_or_default(), STANDARD.encode(signature))
    }

    fn stamp(&self, query: &[u8]) -> Said {
        let (imprint, nonce) = (query.get(24..56).unwrap_or_default(), query.get(56..67).unwrap_or_default());
        let imprint = if self.twist == Twist::OtherImprint { vec![3; 32] } else { imprint.to_vec() };
        let nonce: &[u8] = if self.twist == Twist::NoNonce { &[] } else { nonce };
        let time = if self.twist == Twist::TwoHoursOff { now() - hours(2) } else { now() };
        let hash = seq(&[&oid("2.16.840.1.101.3.4.2.1")]);
        let info = seq(&[
            &[0x02, 0x01, 0x01],
            &oid("1.2.3.4"),
            &seq(&[&hash, &tlv(0x04, &[&imprint])]),
            &[0x02, 0x01, 0x4d],
            &general_time(time),
            nonce,
        ]);
        let attribute = |id: &str, value: &[u8]| seq(&[&oid(id), &tlv(0x31, &[value])]);
        let certificate = &self.tsa.1;
        let attributes = [
            attribute("1.2.840.113549.1.9.3", &oid(TST)),
            attribute("1.2.840.113549.1.9.4", &tlv(0x04, &[&sha256(&info)])),
            attribute("1.2.840.113549.1.9.16.2.47", &seq(&[&seq(&[&seq(&[&tlv(0x04, &[&sha256(certificate)])])])])),
        ]
        .concat();
        let signature = self.tsa.0.sign(&[&tlv(0x31, &[&attributes])]).expect("signs");
        let signer = seq(&[
            &[0x02, 0x01, 0x01],
            &seq(&[&name("time root"), &[0x02, 0x01, 0x07]]),
            &hash,
            &tlv(0xa0, &[&attributes]),
            &ecdsa(),
            &tlv(0x04, &[&signature]),
        ]);
        let data = seq(&[
            &[0x02, 0x01, 0x03],
            &tlv(0x31, &[&hash]),
            &seq(&[&oid(TST), &tlv(0xa0, &[&tlv(0x04, &[&info])])]),
            &tlv(0xa0, &[certificate]),
            &tlv(0x31, &[&signer]),
        ]);
        let token = seq(&[&oid("1.2.840.113549.1.7.2"), &tlv(0xa0, &[&data])]);
        let response = seq(&[&seq(&[&[0x02, 0x01, 0x00]]), &token]);
        Said::new(201).with("content-type", "application/timestamp-reply").body(response)
    }
}

/// A value whose members are sorted, as RFC 8785 writes it.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        other => other.clone(),
    }
}

fn root_of(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves {
        [] => sha256(b"").to_vec(),
        [one] => one.clone(),
        many => {
            let split = many.len().next_power_of_two() / 2;
            sha256(&[&[1], &root_of(&many[..split])[..], &root_of(&many[split..])].concat()).to_vec()
        }
    }
}

fn path(index: usize, leaves: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (mut path, other) = if index < split {
        (path(index, &leaves[..split]), root_of(&leaves[split..]))
    } else {
        (path(index - split, &leaves[split..]), root_of(&leaves[..split]))
    };
    path.push(other);
    path
}
