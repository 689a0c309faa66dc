//! X.509 certificates: reading them and saying what stands in them (RFC 5280).
//!
//! A certificate is read into what the rules of [`super::chain`] and of constraints ask for. What cannot be read is an
//! error here, so that no later question is answered by "not there". Nothing here says that it is to be trusted.

use std::fmt;
use std::sync::Arc;

use der::Decode as _;
use der::asn1::ObjectIdentifier;
use jiff::Timestamp;
use pkcs8::spki::AlgorithmIdentifierRef;
use sha2::{Digest as _, Sha256};
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies, ExtendedKeyUsage, KeyUsage, NameConstraints,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::time::Time;

use super::fulcio::Fulcio;
use super::known::Known;
use super::names;
use super::raw::Raw;
use crate::sign::authority::Algorithm;
use crate::sign::{BadSignature, KeyError, PublicKey, pem};

/// Largest certificate that is read, in bytes of DER. Sigstore's have less than 2 kB.
pub const MAX_CERTIFICATE: usize = 64 * 1024;
/// Most certificates in one file.
pub const MAX_CERTIFICATES: usize = 32;
/// Most names, policies, purposes or subtrees of one kind in a certificate.
pub const MAX_NAMES: usize = 512;
/// Largest file of certificates, in bytes.
const MAX_FILE: usize = MAX_CERTIFICATES * MAX_CERTIFICATE * 2;

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
const POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32");
const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// A certificate could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Larger than is read.
    #[error("{size} bytes, a certificate has at most {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// There is no certificate.
    #[error("no certificate: {found}")]
    NotACertificate {
        /// What is there instead.
        found: String,
    },
    /// One certificate is wanted, and there are several, or something else stands beside it.
    #[error("one certificate is wanted here, found {found}")]
    NotOne {
        /// What is there.
        found: String,
    },
    /// More certificates than are read.
    #[error("{count} certificates, at most {MAX_CERTIFICATES} are read")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Not what RFC 5280 describes.
    #[error("damaged certificate: {reason}")]
    Damaged {
        /// Which part, and how.
        reason: String,
    },
    /// An extension stands twice, and readers differ in which they take.
    #[error("the certificate has the extension {oid} twice")]
    Duplicate {
        /// Its object identifier.
        oid: String,
    },
    /// A list in it is too long.
    #[error("the certificate has more than {MAX_NAMES} {what}")]
    TooManyNames {
        /// Of what.
        what: &'static str,
    },
    /// The key is of a kind that is not supported.
    #[error("the key of the certificate: {reason}")]
    Key {
        /// What is wrong with it.
        #[source]
        reason: KeyError,
    },
}

impl CertificateError {
    pub(super) fn damaged(reason: impl fmt::Display) -> Self {
        Self::Damaged { reason: reason.to_string() }
    }
}

/// A certificate; cheap to clone. Two are equal when their bytes are.
#[derive(Clone)]
pub struct Certificate(Arc<Content>);

struct Content {
    der: Vec<u8>,
    /// SHA-256 of `der`, so that comparing costs the same for every certificate; also those of the names.
    fingerprint: [u8; 32],
    subject_digest: [u8; 32],
    issuer_digest: [u8; 32],
    /// Where the signed part lies in `der`.
    tbs: std::ops::Range<usize>,
    /// How the issuer signed, or what it used instead.
    algorithm: Result<Algorithm, String>,
    signature: Vec<u8>,
    /// Serial number and issuer as they are encoded, with tag and length.
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject_name: Name,
    /// The names for people; they stand in every reason, so they are made once.
    subject_text: String,
    issuer_text: String,
    not_before: Timestamp,
    not_after: Timestamp,
    key: PublicKey,
    common_names: Vec<String>,
    organizations: Vec<String>,
    dns_names: Vec<String>,
    emails: Vec<String>,
    uris: Vec<String>,
    alternative_names: Vec<GeneralName>,
    fulcio: Fulcio,
    extensions: Extensions,
    /// What its key is known to have signed.
    known: Known,
}

/// What the extensions say that a chain depends on.
#[derive(Default)]
struct Extensions {
    basic_constraints: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    purposes: Option<Purposes>,
    policies: Vec<String>,
    name_constraints: Option<NameConstraints>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    unknown_critical: Vec<ObjectIdentifier>,
}

/// The extended key usage of a certificate.
struct Purposes {
    critical: bool,
    list: Vec<ObjectIdentifier>,
}

impl Certificate {
    /// Reads exactly one certificate, PEM or DER, with nothing but white space around it.
    pub fn read(bytes: &[u8]) -> Result<Self, CertificateError> {
        let text = std::str::from_utf8(bytes).ok();
        let Some(text) = text.filter(|text| text.contains("-----BEGIN ")) else {
            return Self::from_file_without_blocks(bytes);
        };
        match text.lines().filter(|line| line.starts_with("-----BEGIN ")).count() {
            1 => {}
            0 => return Err(CertificateError::damaged("a PEM block that does not begin at the beginning of a line")),
            count => return Err(CertificateError::NotOne { found: format!("{count} PEM blocks") }),
        }
        // ASCII space only: what base64 may be broken by.
        let inner = text.trim_matches(|c: char| c.is_ascii_whitespace());
        if !inner.starts_with("-----BEGIN ") || !inner.ends_with("-----") {
            return Err(CertificateError::NotOne { found: "text beside a PEM block".to_owned() });
        }
        Ok(Self::read_all(bytes)?.remove(0))
    }

    /// Reads a file with one or several certificates: PEM, in which text between the blocks is passed over, or one in
    /// DER. A block that is not a certificate is an error, and so is a file without one.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        if bytes.len() > MAX_FILE {
            return Err(CertificateError::TooLarge { size: bytes.len(), limit: MAX_FILE });
        }
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let announced = text.lines().filter(|line| line.starts_with("-----BEGIN ")).count();
        if announced == 0 {
            return Ok(vec![Self::from_file_without_blocks(bytes)?]);
        }
        if announced > MAX_CERTIFICATES {
            return Err(CertificateError::TooMany { count: announced });
        }
        let blocks = pem::blocks(text);
        if blocks.len() != announced {
            return Err(CertificateError::damaged("a PEM block that has no end"));
        }
        blocks
            .iter()
            .map(|block| {
                if !matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE") {
                    let label: String = block.label.escape_debug().take(64).collect();
                    return Err(CertificateError::NotACertificate { found: format!("a PEM block `{label}`") });
                }
                let der = block.body.as_ref().ok_or_else(|| CertificateError::damaged("broken base64"))?;
                Self::from_der(der)
            })
            .collect()
    }

    fn from_file_without_blocks(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.first() == Some(&0x30) {
            return Self::from_der(bytes);
        }
        let found = if bytes.is_empty() { "nothing is there" } else { "neither PEM nor DER" };
        Err(CertificateError::NotACertificate { found: found.to_owned() })
    }

    /// Reads one certificate in DER. Trailing bytes are refused.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLarge { size: der.len(), limit: MAX_CERTIFICATE });
        }
        let parsed = x509_cert::Certificate::from_der(der).map_err(CertificateError::damaged)?;
        let raw = Raw::read(der).map_err(CertificateError::damaged)?;
        let tbs = parsed.tbs_certificate();
        if raw.outer_algorithm != raw.inner_algorithm {
            return Err(CertificateError::damaged("its two signature algorithms differ"));
        }
        if tbs.version() != Version::V3 && tbs.extensions().is_some() {
            return Err(CertificateError::damaged("extensions in a certificate that is not of version 3"));
        }
        let algorithm = AlgorithmIdentifierRef::from_der(raw.inner_algorithm).map_err(CertificateError::damaged)?;
        let signature = parsed.signature().as_bytes();
        let signature = signature.ok_or_else(|| CertificateError::damaged("bits left over in the signature"))?;
        let list = tbs.extensions().map(Vec::as_slice).unwrap_or_default();
        no_duplicates(list)?;
        let alternative_names = alternative_names(list)?;
        let names = |select: fn(&GeneralName) -> Option<&str>| -> Vec<String> {
            alternative_names.iter().filter_map(select).map(str::to_owned).collect()
        };
        let validity = tbs.validity();
        let fulcio = Fulcio::read(list)?;
        let is_of_fulcio = fulcio.get("Issuer").is_some();
        Ok(Self(Arc::new(Content {
            tbs: raw.tbs,
            algorithm: Algorithm::read(algorithm),
            signature: signature.to_vec(),
            serial: raw.serial.to_vec(),
            issuer: raw.issuer.to_vec(),
            fingerprint: Sha256::digest(der).into(),
            subject_digest: Sha256::digest(raw.subject).into(),
            issuer_digest: Sha256::digest(raw.issuer).into(),
            subject_name: tbs.subject().clone(),
            subject_text: names::shown(tbs.subject()),
            issuer_text: names::shown(tbs.issuer()),
            not_before: timestamp(validity.not_before)?,
            not_after: timestamp(validity.not_after)?,
            key: PublicKey::from_spki(raw.key).map_err(|reason| CertificateError::Key { reason })?,
            common_names: texts(tbs.subject(), COMMON_NAME, "common names")?,
            organizations: texts(tbs.subject(), ORGANIZATION, "organizations")?,
            dns_names: names(|name| match name {
                GeneralName::DnsName(text) => Some(text.as_str()),
                _ => None,
            }),
            emails: names(|name| match name {
                GeneralName::Rfc822Name(text) => Some(text.as_str()),
                _ => None,
            }),
            uris: names(|name| match name {
                GeneralName::UniformResourceIdentifier(text) => Some(text.as_str()),
                _ => None,
            })
            .into_iter()
            .map(|uri| if is_of_fulcio { uri } else { names::as_go_prints(&uri) })
            .collect(),
            fulcio,
            extensions: Extensions::read(list)?,
            alternative_names,
            known: Known::default(),
            der: der.to_vec(),
        })))
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate as a PEM text with a newline at its end.
    pub fn to_pem(&self) -> String {
        String::clone(&pem::encode("CERTIFICATE", &self.0.der))
    }

    /// The key that it certifies.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.key
    }

    /// [`PublicKey::key_id`] of its key.
    pub fn key_id(&self) -> &str {
        self.0.key.key_id()
    }

    /// The subject, as RFC 4514 writes names: `CN=leaf,O=Example`.
    pub fn subject(&self) -> &str {
        &self.0.subject_text
    }

    /// What to call it in a message: the subject, or else the first of its other names.
    pub fn label(&self) -> String {
        if !self.0.subject_name.is_empty() {
            return self.subject().to_owned();
        }
        let others = self.0.uris.iter().chain(&self.0.emails).chain(&self.0.dns_names);
        let first = others.map(|name| name.escape_debug().take(names::SHOWN).collect::<String>()).next();
        first.unwrap_or_else(|| self.subject().to_owned())
    }

    /// The issuer, written like the subject.
    pub fn issuer(&self) -> &str {
        &self.0.issuer_text
    }

    /// Subject and issuer are the same: a root, or what claims to be one.
    pub fn is_self_issued(&self) -> bool {
        self.0.issuer_digest == self.0.subject_digest
    }

    /// The common name of the subject; the last one when there are several, as Go takes it.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_names.last().map(String::as_str)
    }

    /// All common names of the subject.
    pub fn common_names(&self) -> &[String] {
        &self.0.common_names
    }

    /// The organizations of the subject.
    pub fn organizations(&self) -> &[String] {
        &self.0.organizations
    }

    /// The DNS names among the subject's alternative names.
    pub fn dns_names(&self) -> &[String] {
        &self.0.dns_names
    }

    /// The e-mail addresses among the subject's alternative names. One in the subject itself does not count.
    pub fn emails(&self) -> &[String] {
        &self.0.emails
    }

    /// The URIs among the subject's alternative names, as Go's `url.URL.String` prints them; of Fulcio as they stand.
    pub fn uris(&self) -> &[String] {
        &self.0.uris
    }

    /// The name of a signer in a certificate of Fulcio: its only alternative name, an e-mail address, a URI as it stands
    /// there, or a user's name.
    ///
    /// # Errors
    /// What it has instead.
    pub fn signer_name(&self) -> Result<String, String> {
        super::fulcio::signer_name(&self.0.alternative_names, self.is_ca())
    }

    /// The value of a Fulcio extension by its Go field name ([`super::EXTENSIONS`]), letters in any case.
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.0.fulcio.get(name)
    }

    /// The Fulcio extensions that it has, by Go field name, in the order of [`super::EXTENSIONS`].
    pub fn extensions(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.fulcio.all()
    }

    /// The certificate policies, as dotted object identifiers.
    pub fn policy_oids(&self) -> &[String] {
        &self.0.extensions.policies
    }

    /// From when it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// Until when it is valid, that second included.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Whether it may certify others, as its basic constraints say.
    pub fn is_ca(&self) -> bool {
        self.0.extensions.basic_constraints.as_ref().is_some_and(|basic| basic.ca)
    }

    /// How many certificates, not counting self-issued ones, may stand between it and a leaf.
    pub fn path_length(&self) -> Option<u8> {
        self.0.extensions.basic_constraints.as_ref().and_then(|basic| basic.path_len_constraint)
    }

    /// The purposes of its extended key usage, as dotted object identifiers; `None` when it has no such extension.
    pub fn purposes(&self) -> Option<impl Iterator<Item = String>> {
        self.0.extensions.purposes.as_ref().map(|purposes| purposes.list.iter().map(ToString::to_string))
    }

    pub(super) fn purpose_list(&self) -> Option<(bool, &[ObjectIdentifier])> {
        self.0.extensions.purposes.as_ref().map(|purposes| (purposes.critical, &purposes.list[..]))
    }

    /// Whether its key usage, if it has one, allows signing messages.
    pub fn may_sign_messages(&self) -> bool {
        let usage = self.0.extensions.key_usage;
        usage.is_none_or(|usage| usage.digital_signature() || usage.non_repudiation())
    }

    /// Whether its key usage, if it has one, allows signing certificates.
    pub fn may_sign_certificates(&self) -> bool {
        self.0.extensions.key_usage.is_none_or(|usage| usage.key_cert_sign())
    }

    pub(super) fn unknown_critical(&self) -> Option<String> {
        self.0.extensions.unknown_critical.first().map(ToString::to_string)
    }

    pub(super) fn name_constraints(&self) -> Option<&NameConstraints> {
        self.0.extensions.name_constraints.as_ref()
    }

    pub(super) fn alternative_names(&self) -> &[GeneralName] {
        &self.0.alternative_names
    }

    pub(super) fn subject_name(&self) -> &Name {
        &self.0.subject_name
    }

    /// Whether the issuer of `self` has the name of `other`, byte for byte.
    pub(super) fn names_as_issuer(&self, other: &Self) -> bool {
        self.0.issuer_digest == other.0.subject_digest
    }

    /// Whether both have the same name and key.
    pub(super) fn is_same_entity(&self, other: &Self) -> bool {
        self.0.subject_digest == other.0.subject_digest && self.0.key == other.0.key
    }

    /// The issuer as it is encoded, with tag and length.
    pub(super) fn raw_issuer(&self) -> &[u8] {
        &self.0.issuer
    }

    /// The serial number as it is encoded, with tag and length.
    pub(super) fn raw_serial(&self) -> &[u8] {
        &self.0.serial
    }

    pub(super) fn subject_key_id(&self) -> Option<&[u8]> {
        self.0.extensions.subject_key_id.as_deref()
    }

    pub(super) fn authority_key_id(&self) -> Option<&[u8]> {
        self.0.extensions.authority_key_id.as_deref()
    }

    /// What is wrong with the way its issuer signed it, if it cannot be checked at all.
    pub(super) fn unsupported_algorithm(&self) -> Option<&str> {
        self.0.algorithm.as_ref().err().map(String::as_str)
    }

    /// Whether the key of `issuer` signed it. Says nothing about names or whether that key may.
    pub(crate) fn is_signed_by(&self, issuer: &Self) -> Result<(), BadSignature> {
        if issuer.0.known.has(&self.0.fingerprint) {
            return Ok(());
        }
        let algorithm = self.0.algorithm.as_ref().map_err(|_| BadSignature)?;
        issuer.0.key.verify_as(*algorithm, &self.0.der[self.0.tbs.clone()], &self.0.signature)?;
        issuer.0.known.add(&self.0.fingerprint);
        Ok(())
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.fingerprint == other.0.fingerprint
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("subject", &self.label()).finish_non_exhaustive()
    }
}

/// The end of time in certificates (RFC 5280 §4.1.2.5) is a day later than our times reach.
fn timestamp(time: Time) -> Result<Timestamp, CertificateError> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).map_err(CertificateError::damaged)?;
    Ok(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

fn no_duplicates(list: &[Extension]) -> Result<(), CertificateError> {
    let mut oids: Vec<ObjectIdentifier> = list.iter().map(|extension| extension.extn_id).collect();
    oids.sort_unstable();
    match oids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CertificateError::Duplicate { oid: pair[0].to_string() }),
        None => Ok(()),
    }
}

fn alternative_names(list: &[Extension]) -> Result<Vec<GeneralName>, CertificateError> {
    let Some(extension) = list.iter().find(|extension| extension.extn_id == SUBJECT_ALT_NAME) else {
        return Ok(Vec::new());
    };
    let names: SubjectAltName = decode(extension, "alternative names")?;
    limited(names.0.len(), "alternative names")?;
    Ok(names.0)
}

fn decode<'a, T: der::Decode<'a>>(extension: &'a Extension, what: &str) -> Result<T, CertificateError>
where
    T::Error: fmt::Display,
{
    T::from_der(extension.extn_value.as_bytes())
        .map_err(|error| CertificateError::Damaged { reason: format!("{what}: {error}") })
}

fn limited(count: usize, what: &'static str) -> Result<(), CertificateError> {
    if count > MAX_NAMES { Err(CertificateError::TooManyNames { what }) } else { Ok(()) }
}

/// The values of one attribute of a name.
fn texts(name: &Name, oid: ObjectIdentifier, what: &'static str) -> Result<Vec<String>, CertificateError> {
    let found: Vec<String> = name
        .iter()
        .filter(|attribute| attribute.oid == oid)
        .map(|attribute| {
            names::text(&attribute.value)
                .ok_or_else(|| CertificateError::Damaged { reason: format!("{what} that are no text") })
        })
        .collect::<Result<_, _>>()?;
    limited(found.len(), what)?;
    Ok(found)
}

impl Extensions {
    fn read(list: &[Extension]) -> Result<Self, CertificateError> {
        let mut found = Self::default();
        for extension in list {
            match extension.extn_id {
                BASIC_CONSTRAINTS => found.basic_constraints = Some(decode(extension, "basic constraints")?),
                KEY_USAGE => found.key_usage = Some(decode(extension, "key usage")?),
                EXTENDED_KEY_USAGE => {
                    let list: ExtendedKeyUsage = decode(extension, "extended key usage")?;
                    limited(list.0.len(), "purposes")?;
                    found.purposes = Some(Purposes { critical: extension.critical, list: list.0 });
                }
                NAME_CONSTRAINTS => {
                    let constraints: NameConstraints = decode(extension, "name constraints")?;
                    let count = |subtrees: Option<&Vec<_>>| subtrees.map_or(0, Vec::len);
                    let total = count(constraints.permitted_subtrees.as_ref());
                    limited(total + count(constraints.excluded_subtrees.as_ref()), "subtrees")?;
                    found.name_constraints = Some(constraints);
                }
                POLICIES => {
                    let policies: CertificatePolicies = decode(extension, "policies")?;
                    limited(policies.0.len(), "policies")?;
                    found.policies = policies.0.iter().map(|policy| policy.policy_identifier.to_string()).collect();
                }
                SUBJECT_KEY_ID => {
                    let id: SubjectKeyIdentifier = decode(extension, "subject key identifier")?;
                    found.subject_key_id = Some(id.0.as_bytes().to_vec());
                }
                AUTHORITY_KEY_ID => {
                    let id: AuthorityKeyIdentifier = decode(extension, "authority key identifier")?;
                    found.authority_key_id = id.key_identifier.map(|id| id.as_bytes().to_vec());
                }
                SUBJECT_ALT_NAME => {} // read before
                other if extension.critical => found.unknown_critical.push(other),
                _ => {}
            }
        }
        Ok(found)
    }
}
