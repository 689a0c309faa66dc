//! Who must have signed, and whether they have.

use jiff::Timestamp;

use super::policy::{CtLog, Keyless, Keys, Rekor};
use super::roots::Roots;
use super::{Version, rules};
use crate::dsse::Envelope;
use crate::image::attached::timestamp_of;
use crate::image::keyed::holds;
use crate::sign::PublicKey;
use crate::sigstore::judge::{self, Demands, Unproven, judge};
use crate::sigstore::{self, Entry, Logged, TrustedRoot, Verifier, check_scts, proven_time};
use crate::trust::{Certificate, Purpose, chain};

/// Why a signature without a log entry does not count.
pub(super) const NO_LOG: &str = "it has no log entry, and `rekor.ignoreTlog` is not set";
/// Why one with a timestamp does not count in old releases.
pub(super) const NO_AUTHORITY: &str = "no TSA root certificate(s) provided to verify timestamp";

/// What is not judged, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unknown(pub(super) String);

/// Who must have signed.
pub(super) enum Who<'a> {
    Key(&'a PublicKey, &'a Keys, Belief<'a>),
    Identity(&'a Keyless, Belief<'a>),
}

/// Whom a release of Kyverno believes, at a time.
#[derive(Clone)]
pub(super) struct Belief<'a> {
    /// What the rule says, for tags.
    pub(super) roots: Result<Roots, Unknown>,
    /// What its TUF repository says, for bundles.
    pub(super) root: Option<&'a TrustedRoot>,
    pub(super) now: Timestamp,
    pub(super) version: Version,
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
    /// What a timestamp authority says, as cosign's annotation has it.
    pub(super) timestamp: Option<String>,
}

/// A signature with what was signed.
#[derive(Clone, Copy)]
pub(super) struct Made<'a> {
    pub(super) message: &'a [&'a [u8]],
    pub(super) signature: &'a [u8],
    pub(super) material: &'a Material,
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

impl Signed {
    const YES: Self = Self::Yes { unknown: None, other: None };

    fn unknown(why: &str) -> Self {
        Self::Yes { unknown: Some(Unknown(why.to_owned())), other: None }
    }
}

impl Who<'_> {
    /// What is said of logs.
    pub(super) fn logs(&self) -> (&Rekor, &CtLog) {
        match self {
            Self::Key(_, keys, _) => (&keys.rekor, &keys.ctlog),
            Self::Identity(keyless, _) => (&keyless.rekor, &keyless.ctlog),
        }
    }

    /// Whether a signature that lies under a tag verifies, and is by them.
    pub(super) fn signed(&self, made: Made<'_>) -> Signed {
        let result = match self {
            Self::Key(key, keys, belief) => signed_by_key(made, key, &keys.rekor, belief),
            Self::Identity(keyless, belief) => signed_by_certificate(made, keyless, belief),
        };
        result.unwrap_or_else(Signed::No)
    }

    /// The same for one in a bundle, by the rules of sigstore-go.
    pub(super) fn signed_in_bundle(
        &self,
        message: &[&[u8]],
        signature: &[u8],
        (envelope, material): (&Envelope, &judge::Material),
    ) -> Signed {
        let (rekor, ctlog) = self.logs();
        let (logs, needs_time) = (usize::from(!rekor.ignore_tlog), !ctlog.ignore_sct);
        let unproven = Unproven { message, signature, envelope: Some(envelope), envelope_bytes: None };
        let demands = |signer, root| Demands { signer, root, logs, timestamps: 0, budget: None };
        let no_root =
            "Kyverno takes whom to believe about bundles from its TUF repository: `--trusted-root` names that";
        let result = match self {
            Self::Key(key, _, belief) => {
                if let Err(error) = holds(key, message, signature) {
                    return Signed::No(error.to_string());
                }
                if logs == 0 && !needs_time {
                    return Signed::YES;
                }
                let Some(root) = belief.root else { return Signed::unknown(no_root) };
                judge(material, &unproven, &demands(judge::Signer::Key(key), root))
            }
            Self::Identity(keyless, belief) => {
                let wanted = match rules::identity(keyless) {
                    Ok(wanted) => wanted,
                    Err(Unknown(why)) => return Signed::unknown(&why),
                };
                let Some(root) = belief.root else {
                    let certificate = material.certificate.as_deref().map(Certificate::read);
                    return match certificate {
                        Some(Ok(certificate)) => match holds(certificate.public_key(), message, signature) {
                            Ok(()) => match wanted.check(&certificate) {
                                Ok(_) => Signed::unknown(no_root),
                                Err(mismatch) => Signed::No(mismatch.to_string()),
                            },
                            Err(error) => Signed::No(not_by(error)),
                        },
                        Some(Err(error)) => Signed::No(error.to_string()),
                        None => Signed::No("it is signed by a key".to_owned()),
                    };
                };
                if logs == 0 && !needs_time {
                    return Signed::unknown("a certificate that must be valid now (`ignoreTlog` and `ignoreSCT`)");
                }
                let signer = judge::Keyless { wanted, certificate: None, sct: false, detached_sct: None };
                judge(material, &unproven, &demands(judge::Signer::Certificate(&signer), root))
            }
        };
        match result {
            Ok(proof) if needs_time && proof.times().is_empty() => {
                Signed::No("no timestamp that holds, and `ctlog.ignoreSCT` is not set".to_owned())
            }
            Ok(_) => Signed::YES,
            Err(refused) => Signed::No(refused.to_string()),
        }
    }
}

fn signed_by_key(made: Made<'_>, key: &PublicKey, rekor: &Rekor, belief: &Belief<'_>) -> Result<Signed, String> {
    holds(key, made.message, made.signature).map_err(|error| error.to_string())?;
    let roots = match &belief.roots {
        Ok(roots) => roots,
        Err(unknown) => return Ok(Signed::Yes { unknown: Some(unknown.clone()), other: None }),
    };
    stamped(made, roots, belief.version)?;
    if rekor.ignore_tlog {
        return Ok(Signed::YES);
    }
    if made.material.log.is_none() {
        return Err(NO_LOG.to_owned());
    }
    Ok(match logged(made, Verifier::Key(key), roots)? {
        Ok(_) => Signed::YES,
        Err(why) => Signed::unknown(why),
    })
}

fn signed_by_certificate(made: Made<'_>, keyless: &Keyless, belief: &Belief<'_>) -> Result<Signed, String> {
    let pem = made.material.certificate.as_deref().ok_or("nil certificate provided: it is signed by a key")?;
    let certificate = Certificate::read(pem.as_bytes()).map_err(|error| error.to_string())?;
    let mut unknown = None;
    match &belief.roots {
        Ok(roots) => proven(made, &certificate, keyless, roots, belief, &mut unknown)?,
        Err(why) => {
            unknown = Some(why.clone());
            holds(certificate.public_key(), made.message, made.signature).map_err(not_by)?;
        }
    }
    Ok(match rules::names(&certificate, keyless) {
        Ok(Ok(())) => Signed::Yes { unknown, other: None },
        Ok(Err(why)) => Signed::Yes { unknown, other: Some(why) },
        Err(why) => Signed::unknown(&why),
    })
}

fn not_by(error: impl std::fmt::Display) -> String {
    format!("not by the key of its certificate: {error}")
}

/// The time that a timestamp proves, where Kyverno looks at it.
fn stamped(made: Made<'_>, roots: &Roots, version: Version) -> Result<Option<Timestamp>, String> {
    let Some(text) = &made.material.timestamp else { return Ok(None) };
    let Some(authorities) = &roots.timestamp_authorities else {
        let refuses = version < Version::NO_AUTHORITY_NEEDED;
        return if refuses { Err(NO_AUTHORITY.to_owned()) } else { Ok(None) };
    };
    // Of an attestation all its bytes are stamped.
    let message = made.envelope.map_or(made.signature, |(_, bytes)| bytes);
    let proven = timestamp_of(text).and_then(|response| proven_time(&[response], message, authorities));
    proven.map(|proven| Some(proven.time)).map_err(|why| format!("its timestamp: {why}"))
}

/// What the log entry beside a signature proves; or why that is not judged.
fn logged(made: Made<'_>, verifier: Verifier<'_>, roots: &Roots) -> Result<Result<Logged, &'static str>, String> {
    let Some(log) = &made.material.log else {
        return Ok(Err("it has no log entry beside it, and Kyverno asks the log for one"));
    };
    let entry = Entry::from_annotation(log).map_err(|error| error.to_string())?;
    let Some(logs) = &roots.logs else {
        return Ok(Err("the rule has no `rekor.pubkey`, so that Kyverno asks Sigstore's services for it"));
    };
    let mut signed = sigstore::Signed::new(made.message, made.signature, verifier);
    if let Some((envelope, bytes)) = made.envelope {
        signed = signed.with_envelope(envelope).with_envelope_bytes(bytes);
    }
    sigstore::check(&entry, &signed, logs, &[]).map(Ok).map_err(|error| error.to_string())
}

/// Whether certificate, signature, log and time hold together, in the order of cosign, which Kyverno calls; `unknown` gets
/// the first thing that is not judged.
fn proven(
    made: Made<'_>,
    certificate: &Certificate,
    keyless: &Keyless,
    roots: &Roots,
    belief: &Belief<'_>,
    unknown: &mut Option<Unknown>,
) -> Result<(), String> {
    let mut pass_over = |why: &str| {
        unknown.get_or_insert_with(|| Unknown(why.to_owned()));
    };
    let stamped = stamped(made, roots, belief.version)?;
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
    if let Some(time) = stamped.filter(|time| !is_valid(*time)) {
        return Err(format!("it was stamped at {time}, when its certificate was not valid"));
    }
    if keyless.rekor.ignore_tlog {
        return if stamped.is_some() || is_valid(belief.now) {
            Ok(())
        } else {
            Err(format!(
                "its certificate was valid until {}: without a log or a timestamp (`ctlog.tsaCertChain`) it must be valid now",
                certificate.not_after()
            ))
        };
    }
    match logged(made, Verifier::Certificate(certificate), roots)? {
        Err(why) => {
            pass_over(why);
            Ok(())
        }
        Ok(logged) => match logged.time {
            Some(time) if is_valid(time) => Ok(()),
            Some(time) => Err(format!("it was logged at {time}, when its certificate was not valid")),
            None => Err("nothing proves when it was logged".to_owned()),
        },
    }
}
