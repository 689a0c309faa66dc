//! Who must have signed, and whether they have.

use jiff::Timestamp;

use super::policy::{Keyless, Keys};
use super::roots::Roots;
use super::rules;
use crate::dsse::Envelope;
use crate::image::keyed::holds;
use crate::sign::PublicKey;
use crate::sigstore::{self, Entry, Verifier, check_scts};
use crate::trust::{Certificate, Purpose, chain};

/// Why a signature without a log entry does not count.
pub(super) const NO_LOG: &str = "it has no log entry, and `rekor.ignoreTlog` is not set";

/// What is not judged, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unknown(pub(super) String);

/// Who must have signed.
pub(super) enum Who<'a> {
    Key(&'a PublicKey, &'a Keys),
    /// Whose certificate is wanted, whom to believe, and what time it is.
    Identity(&'a Keyless, Result<Roots, Unknown>, Timestamp),
}

/// What lies beside a signature, as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Material {
    /// The signer's certificate, in PEM.
    pub(super) certificate: Option<String>,
    /// The certificates that may lead to a root, in PEM.
    pub(super) chain: Option<String>,
    /// What a log says, as cosign's annotation has it.
    pub(super) log: Option<String>,
    pub(super) has_timestamp: bool,
}

/// A signature with what was signed.
#[derive(Clone, Copy)]
pub(super) struct Made<'a> {
    pub(super) message: &'a [&'a [u8]],
    pub(super) signature: &'a [u8],
    pub(super) material: &'a Material,
    pub(super) has_log: bool,
    /// The envelope and its bytes, where it is one.
    pub(super) envelope: Option<(&'a Envelope, &'a [u8])>,
}

/// Whether somebody signed.
pub(super) enum Signed {
    /// It verifies, whoever is wanted.
    Yes {
        /// What of that is not judged.
        unknown: Option<Unknown>,
        /// Why it is by somebody else than is wanted.
        other: Option<String>,
    },
    No(String),
}

impl Who<'_> {
    /// Whether a signature verifies, and is by them.
    pub(super) fn signed(&self, made: Made<'_>) -> Signed {
        match self {
            Self::Key(key, keys) => match holds(key, made.message, made.signature) {
                Err(error) => Signed::No(error.to_string()),
                Ok(()) if keys.rekor.ignore_tlog => Signed::Yes { unknown: None, other: None },
                Ok(()) if made.has_log => {
                    Signed::Yes { unknown: Some(Unknown("its log entry".to_owned())), other: None }
                }
                Ok(()) => Signed::No(NO_LOG.to_owned()),
            },
            Self::Identity(keyless, roots, now) => {
                let Some(pem) = made.material.certificate.as_deref() else {
                    return Signed::No("nil certificate provided: it is signed by a key".into());
                };
                let certificate = match Certificate::read(pem.as_bytes()) {
                    Ok(certificate) => certificate,
                    Err(error) => return Signed::No(error.to_string()),
                };
                let mut unknown = None;
                let proven = match roots {
                    Ok(roots) => proven(made, &certificate, keyless, roots, *now, &mut unknown),
                    Err(why) => {
                        unknown = Some(why.clone());
                        holds(certificate.public_key(), made.message, made.signature).map_err(not_by)
                    }
                };
                if let Err(why) = proven {
                    return Signed::No(why);
                }
                match rules::names(&certificate, keyless) {
                    Ok(Ok(())) => Signed::Yes { unknown, other: None },
                    Ok(Err(why)) => Signed::Yes { unknown, other: Some(why) },
                    Err(why) => Signed::Yes { unknown: Some(Unknown(why)), other: None },
                }
            }
        }
    }
}

fn not_by(error: impl std::fmt::Display) -> String {
    format!("not by the key of its certificate: {error}")
}

/// Whether certificate, signature, log and time hold together, in the order of cosign, which Kyverno calls; `unknown` gets
/// the first thing that is not judged.
fn proven(
    made: Made<'_>,
    certificate: &Certificate,
    keyless: &Keyless,
    roots: &Roots,
    now: Timestamp,
    unknown: &mut Option<Unknown>,
) -> Result<(), String> {
    let mut pass_over = |why: &str| {
        unknown.get_or_insert_with(|| Unknown(why.to_owned()));
    };
    let mut issuer = None;
    if let Some(anchors) = &roots.anchors {
        let between = match made.material.chain.as_deref().filter(|text| !text.trim().is_empty()) {
            Some(text) => Certificate::read_all(text.as_bytes()).map_err(|error| format!("its chain: {error}"))?,
            None => Vec::new(),
        };
        let path = chain(certificate, &between, anchors, certificate.not_before(), Purpose::CodeSigning)
            .map_err(|error| format!("its certificate leads to none of the `roots`: {error}"))?
            .path;
        issuer = path.into_iter().nth(1);
    } else {
        pass_over("the rule has no `roots`, so that Kyverno asks Sigstore's services for them");
    }
    match (&roots.ct_logs, &issuer) {
        _ if keyless.ctlog.ignore_sct => {}
        (Some(logs), Some(issuer)) => {
            check_scts(certificate, issuer, logs, None).map_err(|error| error.to_string())?;
        }
        (None, _) => pass_over("the rule has no `ctlog.pubkey`, so that Kyverno asks Sigstore's services for it"),
        (Some(_), None) => pass_over("the certificate is one of the `roots` itself"),
    }
    holds(certificate.public_key(), made.message, made.signature).map_err(not_by)?;
    let is_valid = |time: Timestamp| (certificate.not_before()..=certificate.not_after()).contains(&time);
    if keyless.rekor.ignore_tlog {
        if !is_valid(now) && made.material.has_timestamp && keyless.ctlog.tsa_cert_chain.is_some() {
            pass_over("its timestamp (`ctlog.tsaCertChain`)");
        } else if !is_valid(now) {
            return Err(format!(
                "its certificate was valid until {}: without a log or a timestamp it must be valid now",
                certificate.not_after()
            ));
        }
        return Ok(());
    }
    let Some(log) = &made.material.log else {
        pass_over("it has no log entry beside it, and Kyverno asks the log for one");
        return Ok(());
    };
    let entry = Entry::from_annotation(log).map_err(|error| error.to_string())?;
    let Some(logs) = &roots.logs else {
        pass_over("the rule has no `rekor.pubkey`, so that Kyverno asks Sigstore's services for it");
        return Ok(());
    };
    let mut signed = sigstore::Signed::new(made.message, made.signature, Verifier::Certificate(certificate));
    if let Some((envelope, bytes)) = made.envelope {
        signed = signed.with_envelope(envelope).with_envelope_bytes(bytes);
    }
    let logged = sigstore::check(&entry, &signed, logs, &[]).map_err(|error| error.to_string())?;
    match logged.time {
        Some(time) if is_valid(time) => Ok(()),
        Some(time) => Err(format!("it was logged at {time}, when its certificate was not valid")),
        None => Err("nothing proves when it was logged".to_owned()),
    }
}
