//! Certificates, tokens and envelopes with any defect, made for a test.

use std::sync::OnceLock;

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};

use super::super::*;
use crate::dsse::{TIMESTAMP_TSP, Timestamp};
use crate::sign::authority::Hash;
use crate::sign::{KeyKind, PrivateKey, Signer as _};

pub(super) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub(super) const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
pub(super) const SERVER: &str = "1.3.6.1.5.5.7.3.1";
pub(super) const ANY: &str = "2.5.29.37.0";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";

pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    let length = u16::try_from(content.len()).expect("less than 64 KiB").to_be_bytes();
    match length {
        [0, short @ 0..128] => out.push(short),
        [0, middle] => out.extend([0x81, middle]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend(content);
    out
}

pub(super) fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub(super) fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, parts)
}

pub(super) fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(0x04, &[bytes])
}

pub(super) fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, &[text.as_bytes()])
}

pub(super) fn oid(text: &str) -> Vec<u8> {
    ObjectIdentifier::new(text).expect("an object identifier").to_der().expect("encodes")
}

pub(super) fn int(value: u32) -> Vec<u8> {
    value.to_der().expect("encodes")
}

/// A name of attributes, like `[("2.5.4.3", "leaf")]`.
pub(super) fn name(attributes: &[(&str, &str)]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> =
        attributes.iter().map(|(kind, value)| set(&[&seq(&[&oid(kind), &utf8(value)])])).collect();
    tlv(0x30, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

pub(super) fn dns(text: &str) -> Vec<u8> {
    tlv(0x82, &[text.as_bytes()])
}

pub(super) fn email(text: &str) -> Vec<u8> {
    tlv(0x81, &[text.as_bytes()])
}

pub(super) fn uri(text: &str) -> Vec<u8> {
    tlv(0x86, &[text.as_bytes()])
}

pub(super) fn ip(bytes: &[u8]) -> Vec<u8> {
    tlv(0x87, &[bytes])
}

pub(super) fn directory(attributes: &[(&str, &str)]) -> Vec<u8> {
    tlv(0xa4, &[&name(attributes)])
}

/// One of a few keys that are made once for all tests.
pub(crate) fn key(number: usize) -> &'static PrivateKey {
    static KEYS: [OnceLock<PrivateKey>; 12] = [const { OnceLock::new() }; 12];
    KEYS[number].get_or_init(|| PrivateKey::generate(KeyKind::P256).expect("a key"))
}

pub(super) fn at(text: &str) -> jiff::Timestamp {
    text.parse().expect("a time")
}

/// The time at which everything is valid that does not say otherwise.
pub(crate) fn noon() -> jiff::Timestamp {
    at("2026-06-01T12:00:00Z")
}

/// A certificate to be.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(super) subject: Vec<u8>,
    /// Of its public key.
    pub(super) key: usize,
    pub(super) serial: u32,
    /// `YYYYMMDDhhmmssZ`
    pub(super) from: &'static str,
    pub(super) until: &'static str,
    pub(super) authority: bool,
    pub(super) path_length: Option<u32>,
    /// The first byte of the key usage.
    pub(super) usage: Option<u8>,
    pub(super) purposes: Option<(bool, Vec<&'static str>)>,
    pub(super) names: Vec<Vec<u8>>,
    /// Further extensions: identifier, critical, value.
    pub(super) more: Vec<(&'static str, bool, Vec<u8>)>,
}

pub(super) const DIGITAL_SIGNATURE: u8 = 0x80;
pub(super) const KEY_ENCIPHERMENT: u8 = 0x20;
pub(super) const SIGN_CERTIFICATES: u8 = 0x04;

impl Draft {
    pub(super) fn leaf(common_name: &str, key: usize) -> Self {
        Self {
            subject: name(&[("2.5.4.10", "Example"), ("2.5.4.3", common_name)]),
            key,
            serial: 7,
            from: "20260601000000Z",
            until: "20260602000000Z",
            authority: false,
            path_length: None,
            usage: Some(DIGITAL_SIGNATURE),
            purposes: Some((false, vec![CODE_SIGNING])),
            names: Vec::new(),
            more: Vec::new(),
        }
    }

    pub(super) fn timestamper(common_name: &str, key: usize) -> Self {
        Self {
            purposes: Some((true, vec![TIME_STAMPING])),
            until: "20360101000000Z",
            from: "20260101000000Z",
            ..Self::leaf(common_name, key)
        }
    }

    pub(super) fn authority(common_name: &str, key: usize) -> Self {
        Self {
            from: "20260101000000Z",
            until: "20360101000000Z",
            authority: true,
            usage: Some(SIGN_CERTIFICATES),
            purposes: None,
            ..Self::leaf(common_name, key)
        }
    }

    fn extensions(&self) -> Vec<u8> {
        let extension = |id: &str, critical: bool, value: &[u8]| {
            let flag = if critical { vec![0x01, 0x01, 0xff] } else { Vec::new() };
            seq(&[&oid(id), &flag, &octets(value)])
        };
        let mut list = Vec::new();
        if self.authority {
            let length = self.path_length.map(int).unwrap_or_default();
            list.push(extension("2.5.29.19", true, &seq(&[&[0x01, 0x01, 0xff], &length])));
        }
        if let Some(bits) = self.usage {
            let unused = u8::try_from(bits.trailing_zeros()).expect("eight bits");
            list.push(extension("2.5.29.15", true, &tlv(0x03, &[&[unused, bits]])));
        }
        if let Some((critical, purposes)) = &self.purposes {
            let purposes: Vec<u8> = purposes.iter().flat_map(|purpose| oid(purpose)).collect();
            list.push(extension("2.5.29.37", *critical, &seq(&[&purposes])));
        }
        if !self.names.is_empty() {
            list.push(extension("2.5.29.17", false, &seq(&[&self.names.concat()])));
        }
        list.extend(self.more.iter().map(|(id, critical, value)| extension(id, *critical, value)));
        list.concat()
    }

    /// The certificate, signed with the key of `issuer` and bearing its name.
    pub(super) fn issued_by(&self, issuer: &Self) -> Vec<u8> {
        let algorithm = seq(&[&oid(ECDSA_SHA256)]);
        let validity = seq(&[&tlv(0x18, &[self.from.as_bytes()]), &tlv(0x18, &[self.until.as_bytes()])]);
        let extensions = self.extensions();
        let extensions = if extensions.is_empty() { Vec::new() } else { tlv(0xa3, &[&seq(&[&extensions])]) };
        let tbs = seq(&[
            &tlv(0xa0, &[&int(2)]),
            &int(self.serial),
            &algorithm,
            &issuer.subject,
            &validity,
            &self.subject,
            key(self.key).public_key().to_der(),
            &extensions,
        ]);
        let signature = key(issuer.key).sign(&[&tbs]).expect("signs");
        seq(&[&tbs, &algorithm, &tlv(0x03, &[&[0], &signature])])
    }

    pub(super) fn certificate(&self, issuer: &Self) -> Certificate {
        Certificate::from_der(&self.issued_by(issuer)).expect("a certificate")
    }

    pub(crate) fn self_signed(&self) -> Certificate {
        self.certificate(self)
    }

    pub(super) fn anchor(&self, id: &str) -> Anchor {
        Anchor { id: id.to_owned(), certificate: self.self_signed(), intermediates: Vec::new() }
    }
}

/// A timestamp token to be; everything in it can be replaced.
#[derive(Clone)]
pub(crate) struct Stamp {
    pub(super) message: Vec<u8>,
    pub(crate) time: &'static str,
    /// Algorithm and value of the imprint, if not the SHA-256 of the message.
    pub(super) imprint: Option<(Vec<u8>, Vec<u8>)>,
    /// The signer's certificate in DER, and its key.
    pub(super) signer: Vec<u8>,
    pub(super) key: usize,
    /// The certificate that the signer id names, if another.
    pub(super) named_by_id: Option<Vec<u8>>,
    /// The certificate whose hash stands in the attributes.
    pub(super) named: Option<Vec<u8>>,
    pub(super) bag: Vec<Vec<u8>>,
    pub(super) content_type: &'static str,
    /// The digest of the content, if a wrong one.
    pub(super) digest: Option<Vec<u8>>,
    pub(super) signers: usize,
    /// Put at the end of `TSTInfo`.
    pub(super) info_end: Vec<u8>,
    /// Put among the signed attributes.
    pub(super) attribute: Vec<u8>,
    /// Names the signer instead of issuer and number.
    pub(super) key_id: Option<Vec<u8>>,
    /// Put after the bag.
    pub(super) revoked: Vec<u8>,
    /// The digest algorithms of the whole token, if others.
    pub(super) digests: Option<Vec<u8>>,
    /// Put at the end of the signer.
    pub(super) signer_end: Vec<u8>,
    pub(super) versions: [u32; 3],
}

const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";

impl Stamp {
    pub(super) fn new(message: &[u8], signer: &[u8], key: usize) -> Self {
        Self {
            message: message.to_vec(),
            time: "20260601120000Z",
            imprint: None,
            signer: signer.to_vec(),
            key,
            named_by_id: None,
            named: Some(signer.to_vec()),
            bag: vec![signer.to_vec()],
            content_type: TST_INFO,
            digest: None,
            signers: 1,
            info_end: Vec::new(),
            attribute: Vec::new(),
            key_id: None,
            revoked: Vec::new(),
            digests: None,
            signer_end: Vec::new(),
            versions: [3, 1, 1],
        }
    }

    pub(crate) fn token(&self) -> Vec<u8> {
        let sha256 = seq(&[&oid(SHA256)]);
        let (imprint_hash, imprint) =
            self.imprint.clone().unwrap_or_else(|| (sha256.clone(), Hash::Sha256.digest(&self.message)));
        let info = seq(&[
            &int(self.versions[2]),
            &oid("1.2.3.4"),
            &seq(&[&imprint_hash, &octets(&imprint)]),
            &int(77),
            &tlv(0x18, &[self.time.as_bytes()]),
            &self.info_end,
        ]);
        let attribute = |id: &str, value: &[u8]| seq(&[&oid(id), &set(&[value])]);
        let digest = self.digest.clone().unwrap_or_else(|| Hash::Sha256.digest(&info));
        let mut attributes = vec![
            attribute("1.2.840.113549.1.9.3", &oid(self.content_type)),
            attribute("1.2.840.113549.1.9.4", &octets(&digest)),
        ];
        if let Some(named) = &self.named {
            let hash = octets(&Hash::Sha256.digest(named));
            attributes.push(attribute("1.2.840.113549.1.9.16.2.47", &seq(&[&seq(&[&seq(&[&hash])])])));
        }
        attributes.push(self.attribute.clone());
        let attributes = attributes.concat();
        let signature = key(self.key).sign(&[&set(&[&attributes])]).expect("signs");
        let id = Certificate::from_der(self.named_by_id.as_ref().unwrap_or(&self.signer)).expect("a certificate");
        let signer = seq(&[
            &int(self.versions[1]),
            &self
                .key_id
                .as_ref()
                .map_or_else(|| seq(&[id.raw_issuer(), id.raw_serial()]), |key_id| tlv(0x80, &[key_id])),
            &sha256,
            &tlv(0xa0, &[&attributes]),
            &seq(&[&oid(ECDSA_SHA256)]),
            &octets(&signature),
            &self.signer_end,
        ]);
        let bag = if self.bag.is_empty() { Vec::new() } else { tlv(0xa0, &[&self.bag.concat()]) };
        let data = seq(&[
            &int(self.versions[0]),
            &set(&[self.digests.as_ref().unwrap_or(&sha256)]),
            &seq(&[&oid(TST_INFO), &tlv(0xa0, &[&octets(&info)])]),
            &bag,
            &self.revoked,
            &set(&[&signer.repeat(self.signers)]),
        ]);
        seq(&[&oid("1.2.840.113549.1.7.2"), &tlv(0xa0, &[&data])])
    }
}

/// A whole world in which everything is right: root 0, intermediate 1, leaf 2, root of timestamps 3, timestamper 4.
#[derive(Clone)]
pub(crate) struct World {
    pub(super) root: Draft,
    pub(super) intermediate: Draft,
    pub(super) leaf: Draft,
    pub(crate) time_root: Draft,
    pub(super) timestamper: Draft,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            root: Draft::authority("root", 0),
            intermediate: Draft::authority("intermediate", 1),
            leaf: Draft { names: vec![email("builder@example.org")], ..Draft::leaf("leaf", 2) },
            time_root: Draft::authority("time root", 3),
            timestamper: Draft { serial: 8, ..Draft::timestamper("timestamper", 4) },
        }
    }

    pub(crate) fn trust(&self) -> Trust {
        let (roots, authorities) = (vec![self.root.anchor("r")], vec![self.time_root.anchor("t")]);
        Trust { roots, authorities, ..Trust::default() }
    }

    pub(crate) fn stamp(&self, message: &[u8]) -> Stamp {
        Stamp::new(message, &self.timestamper.issued_by(&self.time_root), self.timestamper.key)
    }

    /// An envelope that counts in [`World::trust`].
    pub(super) fn envelope(&self) -> Envelope {
        self.sealed(b"{}")
    }

    /// The leaf says this, by the last number of Sigstore's extensions.
    pub(crate) fn saying(mut self, claims: &[(&'static str, &str)]) -> Self {
        self.leaf.more.extend(claims.iter().map(|(id, value)| (*id, false, utf8(value))));
        self
    }

    /// The roots of signers and of timestamps, PEM.
    pub(crate) fn roots(&self) -> [String; 2] {
        [&self.root, &self.time_root].map(|root| root.self_signed().to_pem())
    }

    /// An envelope with this payload that counts in [`World::trust`].
    pub(crate) fn sealed(&self, payload: &[u8]) -> Envelope {
        self.sealed_as(payload, "application/vnd.in-toto+json")
    }

    /// The same with a payload of this type.
    pub(crate) fn sealed_as(&self, payload: &[u8], kind: &str) -> Envelope {
        let mut envelope = Envelope::seal(payload.to_vec(), kind, &[key(self.leaf.key)]).expect("signs");
        let signature = &mut envelope.signatures[0];
        signature.certificate = Some(self.leaf.certificate(&self.intermediate).to_pem().into_bytes());
        signature.intermediates = vec![self.intermediate.certificate(&self.root).to_pem().into_bytes()];
        signature.timestamps = vec![stamped(self.stamp(&signature.sig).token())];
        envelope
    }
}

pub(crate) fn stamped(data: Vec<u8>) -> Timestamp {
    Timestamp { kind: TIMESTAMP_TSP.to_owned(), data }
}

#[test]
fn what_is_made_here_is_der() {
    let world = World::new();
    for der in [world.leaf.issued_by(&world.intermediate), world.stamp(b"x").token()] {
        der::Any::from_der(&der).expect("DER");
    }
}
