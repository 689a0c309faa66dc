//! What Sigstore's certificate authority writes about the workflow behind a certificate.
//!
//! Source: sigstore/fulcio, `docs/oid-info.md`; names as the peers spell them in policies (wire-formats §5.2).

use der::asn1::{AnyRef, Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;

use super::certificate::CertificateError;
use super::names;

/// Arc of the extensions.
const ARC: &str = "1.3.6.1.4.1.57264.1.";
/// Kind of an alternative name that is a user's name.
const USERNAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
/// Number of the old form of `Issuer`, and of the new one.
const ISSUER: (u8, u8) = (1, 8);
/// Highest number whose value is the bare text; later ones hold a text in DER.
const LAST_BARE: u8 = 6;

/// The extensions by the field names of the Go library, with their numbers. `Issuer` also has an old one, 1.
pub const EXTENSIONS: [(&str, u8); 22] = [
    ("Issuer", 8),
    ("GithubWorkflowTrigger", 2),
    ("GithubWorkflowSHA", 3),
    ("GithubWorkflowName", 4),
    ("GithubWorkflowRepository", 5),
    ("GithubWorkflowRef", 6),
    ("BuildSignerURI", 9),
    ("BuildSignerDigest", 10),
    ("RunnerEnvironment", 11),
    ("SourceRepositoryURI", 12),
    ("SourceRepositoryDigest", 13),
    ("SourceRepositoryRef", 14),
    ("SourceRepositoryIdentifier", 15),
    ("SourceRepositoryOwnerURI", 16),
    ("SourceRepositoryOwnerIdentifier", 17),
    ("BuildConfigURI", 18),
    ("BuildConfigDigest", 19),
    ("BuildTrigger", 20),
    ("RunInvocationURI", 21),
    ("SourceRepositoryVisibilityAtSigning", 22),
    ("DeploymentEnvironment", 23),
    ("Subject", 24),
];

/// The values, at the places of [`EXTENSIONS`].
#[derive(Default)]
pub(super) struct Fulcio([Option<String>; EXTENSIONS.len()]);

impl Fulcio {
    pub(super) fn read(list: &[Extension]) -> Result<Self, CertificateError> {
        let mut found = Self::default();
        for extension in list {
            let Some(number) = number(extension.extn_id) else { continue };
            let known = if number == ISSUER.0 { ISSUER.1 } else { number };
            let Some(place) = EXTENSIONS.iter().position(|(_, number)| *number == known) else { continue };
            let value = value(number, extension.extn_value.as_bytes()).ok_or_else(|| {
                CertificateError::damaged(format!("the extension {ARC}{number} is no text of the kind it should be"))
            })?;
            match &found.0[place] {
                Some(other) if *other != value => {
                    return Err(CertificateError::damaged("its two extensions for the issuer of the identity differ"));
                }
                _ => found.0[place] = Some(value),
            }
        }
        Ok(found)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let place = EXTENSIONS.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))?;
        self.0[place].as_deref()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        EXTENSIONS.iter().zip(&self.0).filter_map(|((name, _), value)| Some((*name, value.as_deref()?)))
    }
}

/// The one name among the alternative names; what is there instead, where it is not one.
///
/// Policies compare texts alone. So a text that reads as one of another kind is none: a URI has `://`, an e-mail address or
/// a user's name has not.
pub(super) fn signer_name(names: &[GeneralName], is_authority: bool) -> Result<String, String> {
    if is_authority {
        return Err("the certificate is an authority's, and no signer's".to_owned());
    }
    let [name] = names else {
        return Err(format!("the certificate has {} alternative names, and a signer has exactly one", names.len()));
    };
    let (text, is_uri) = match name {
        GeneralName::Rfc822Name(name) => (Some(name.as_str().to_owned()), false),
        GeneralName::UniformResourceIdentifier(name) => (Some(name.as_str().to_owned()), true),
        GeneralName::OtherName(other) if other.type_id == USERNAME => (names::text(&other.value), false),
        _ => (None, false),
    };
    let text = text.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| "the certificate's name is no e-mail address, URI or user's name".to_owned())?;
    if text.chars().any(char::is_control) {
        return Err("the certificate's name has control characters".to_owned());
    }
    match (is_uri, text.contains("://")) {
        (false, true) => Err("the certificate's name reads as a URI, and is of another kind".to_owned()),
        (true, false) if text.contains('@') => {
            Err("the certificate's name reads as an e-mail address, and is of another kind".to_owned())
        }
        _ => Ok(text),
    }
}

/// Whether there is a name that no list of a policy compares.
pub(super) fn has_incomparable(names: &[GeneralName]) -> bool {
    let compares = |name: &GeneralName| {
        matches!(name, GeneralName::DnsName(_) | GeneralName::Rfc822Name(_) | GeneralName::UniformResourceIdentifier(_))
    };
    !names.iter().all(compares)
}

fn number(oid: ObjectIdentifier) -> Option<u8> {
    oid.to_string().strip_prefix(ARC)?.parse().ok()
}

fn value(number: u8, bytes: &[u8]) -> Option<String> {
    if number <= LAST_BARE {
        return std::str::from_utf8(bytes).ok().map(str::to_owned);
    }
    let any = AnyRef::from_der(bytes).ok()?;
    match any.tag() {
        Tag::Utf8String => any.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => any.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::Ia5String => any.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        _ => None,
    }
}
