//! Whether something signed about an image has what is demanded: who signed it, what vouches for that, and what it says.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Content, Found};
use crate::dsse::{Envelope, Signature, pae_header};
use crate::image::claim::{Claim, SIGN};
use crate::image::keyed::NoSignature;
use crate::image::payload::{self, Payload, missing_annotation};
use crate::image::reference::Digest;
use crate::sign::PublicKey;
use crate::sigstore::TrustedRoot;
use crate::sigstore::budget::{Budget, Share};
use crate::sigstore::judge::{self, Demands, Material, Proof, Signer, Unproven, judge};
use crate::statement::PAYLOAD_TYPE;

/// What is demanded of something signed.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The manifest it must be about.
    pub digest: &'a Digest,
    /// Who must have signed.
    pub signer: Signer<'a>,
    /// Which logs and authorities are believed.
    pub root: &'a TrustedRoot,
    /// In how many logs it must be.
    pub logs: usize,
    /// How many authorities must vouch for a time at which it was signed.
    pub timestamps: usize,
    /// What may still be spent on checks of signatures, log entries and timestamps.
    pub budget: Option<&'a Budget>,
    /// Annotations that must stand in it.
    pub annotations: &'a BTreeMap<String, String>,
    /// Whether what it says is compared with the image and the annotations.
    pub claims: bool,
}

/// Nobody is believed.
static NOBODY: TrustedRoot =
    TrustedRoot { logs: Vec::new(), ct_logs: Vec::new(), authorities: Vec::new(), timestamp_authorities: Vec::new() };

impl<'a> Demand<'a> {
    /// A signature by a key, wherever and whenever it was made, with these annotations.
    pub fn of_key(digest: &'a Digest, key: &'a PublicKey, annotations: &'a BTreeMap<String, String>) -> Self {
        Self::of_nobody(digest, Signer::Key(key), annotations)
    }

    /// A signature with these annotations, where neither log nor authority is believed.
    pub(crate) fn of_nobody(digest: &'a Digest, signer: Signer<'a>, annotations: &'a BTreeMap<String, String>) -> Self {
        Self { digest, signer, root: &NOBODY, logs: 0, timestamps: 0, budget: None, annotations, claims: true }
    }

    fn judge(&self, found: &Found, unproven: &Unproven<'_>, share: &Share<'_>) -> Result<Proof, Refused> {
        let Self { signer, root, logs, timestamps, .. } = *self;
        let demands = Demands { signer, root, logs, timestamps, share: Some(share) };
        Ok(judge(&found.material, unproven, &demands)?)
    }
}

/// A check that something signed has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The digest is that of the image, the annotations are there.
    Claims,
    /// The signature is one of the key.
    Key,
    /// A trusted log has an entry about it.
    Log,
    /// An authority vouches for the time of the signature.
    Time,
    /// The signature is by the holder of a certificate of a trusted authority, which counted then.
    Certificate,
    /// A log of certificates vouches for the certificate.
    Transparency,
    /// The certificate is of somebody wanted.
    Identity,
}

/// Something signed that has what was demanded.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Where it was.
    pub place: String,
    /// What was said about the image.
    pub optional: BTreeMap<String, Value>,
    /// The payload that was signed, as JSON; for a bundle the one that says the same.
    pub payload: Value,
    /// What was checked.
    pub checks: BTreeSet<Check>,
    /// What holds of the signature.
    pub proof: Proof,
    /// An attestation's envelope and statement.
    pub statement: Option<Statement>,
}

/// An attestation that has what was demanded.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The envelope.
    pub envelope: Envelope,
    /// The bytes of the envelope as it was kept under a tag.
    pub bytes: Option<Vec<u8>>,
    /// What it is, as it was signed.
    pub predicate_type: String,
}

/// Why something signed does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The signature does not hold, or nobody who must vouches for it.
    #[error(transparent)]
    Proof(#[from] judge::Refused),
    /// It says something that cannot be read.
    #[error("{reason}")]
    Content {
        /// Why.
        reason: String,
    },
    /// It is about another image.
    #[error("it is about another image ({found})")]
    Digest {
        /// The digest in it.
        found: String,
    },
    /// An annotation is not there, or has another value.
    #[error("missing or incorrect annotation: {name}={value} is wanted")]
    Annotation {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// It is an attestation.
    #[error("an attestation ({}) is not a signature", .predicate_type.escape_debug())]
    Attestation {
        /// Its type.
        predicate_type: String,
    },
    /// It is a signature.
    #[error("a signature is not an attestation")]
    NoAttestation,
}

impl Refused {
    /// Whether the signature itself holds, or what vouches for it is missing; else it is by somebody else.
    pub fn is_near(&self) -> bool {
        use judge::Refused::{Certificate, Signature, Stranger};
        !matches!(self, Self::Proof(Signature(_) | Certificate { .. } | Stranger { .. }))
    }
}

/// Whether a signature has what is demanded.
pub fn judge_signature(found: &Found, demand: &Demand<'_>) -> Result<Accepted, Refused> {
    let own = Budget::default();
    judge_signature_within(found, demand, &demand.budget.unwrap_or(&own).share())
}

/// The same of one of which several things are demanded, each by itself: all of them take from its one share.
pub fn judge_signature_within(found: &Found, demand: &Demand<'_>, share: &Share<'_>) -> Result<Accepted, Refused> {
    let (proof, reference, said) = match &found.content {
        Content::Simple { payload, signature } => {
            let message: [&[u8]; 1] = [payload];
            let unproven = Unproven { message: &message, signature, envelope: None, envelope_bytes: None };
            let proof = demand.judge(found, &unproven, share)?;
            let read = Payload::parse(payload).map_err(|error| Refused::Content { reason: error.to_string() })?;
            if demand.claims && read.digest != *demand.digest {
                return Err(Refused::Digest { found: read.digest.to_string() });
            }
            (proof, Some((read.reference, read.digest)), vec![read.optional])
        }
        Content::Bundle(envelope) => signed_claim(found, envelope, None, (demand, share))?,
        Content::Envelope(envelope, bytes) => signed_claim(found, envelope, Some(bytes), (demand, share))?,
    };
    let optional = pick(said, demand)?;
    let (reference, digest, kind) = match reference {
        Some((reference, digest)) => (reference, Some(digest), payload::TYPE),
        // A bundle has no payload of its own: nothing is named that was not compared.
        None => (String::new(), demand.claims.then(|| demand.digest.clone()), SIGN),
    };
    let mut shown = optional.clone();
    shown.extend(proven(&proof, &found.material));
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": reference },
            "image": { "docker-manifest-digest": digest },
            "type": kind,
        },
        "optional": if shown.is_empty() { Value::Null } else { json!(shown) },
    });
    let checks = checks(&proof, demand);
    Ok(Accepted { place: found.place.clone(), optional, payload, checks, proof, statement: None })
}

/// What is said about an image: who proves it, a payload's name and digest, and the annotations.
type Said = (Proof, Option<(String, Digest)>, Vec<BTreeMap<String, Value>>);

/// A statement that is a signature.
fn signed_claim(
    found: &Found,
    envelope: &Envelope,
    bytes: Option<&[u8]>,
    (demand, share): (&Demand<'_>, &Share<'_>),
) -> Result<Said, Refused> {
    let (claim, proof) = judge_envelope(found, envelope, bytes, (demand, share))?;
    if claim.predicate_type != SIGN {
        return Err(Refused::Attestation { predicate_type: claim.predicate_type });
    }
    let said = about(&claim, demand)?;
    Ok((proof, None, said))
}

/// Whether an attestation has what is demanded, whatever its type.
pub fn judge_attestation(found: &Found, demand: &Demand<'_>) -> Result<Accepted, Refused> {
    let (envelope, bytes) = match &found.content {
        Content::Simple { .. } => return Err(Refused::NoAttestation),
        Content::Bundle(envelope) => (envelope, None),
        Content::Envelope(envelope, bytes) => (envelope, Some(bytes.clone())),
    };
    let own = Budget::default();
    let share = demand.budget.unwrap_or(&own).share();
    let (claim, proof) = judge_envelope(found, envelope, bytes.as_deref(), (demand, &share))?;
    if claim.predicate_type == SIGN {
        return Err(Refused::NoAttestation);
    }
    let optional = pick(about(&claim, demand)?, demand)?;
    let checks = checks(&proof, demand);
    let statement = Statement { envelope: envelope.clone(), bytes, predicate_type: claim.predicate_type };
    let (place, payload, statement) = (found.place.clone(), Value::Null, Some(statement));
    Ok(Accepted { place, optional, payload, checks, proof, statement })
}

fn checks(proof: &Proof, demand: &Demand<'_>) -> BTreeSet<Check> {
    let is_key = proof.identity.is_none();
    let done = [
        (Check::Claims, demand.claims),
        (Check::Key, is_key),
        (Check::Log, !proof.logged.is_empty()),
        (Check::Time, !proof.stamped.is_empty()),
        (Check::Certificate, !is_key),
        (Check::Transparency, proof.scts > 0),
        (Check::Identity, !is_key),
    ];
    done.into_iter().filter(|(_, done)| *done).map(|(check, _)| check).collect()
}

/// What cosign adds to the annotations it prints: who signed, as the certificate says, and what vouches for it. Only what
/// was proven is added here.
fn proven(proof: &Proof, material: &Material) -> BTreeMap<String, Value> {
    const ARC: &str = "1.3.6.1.4.1.57264.1";
    const GITHUB: [(&str, u8, &str); 5] = [
        ("githubWorkflowTrigger", 2, "certificate-github-workflow-trigger"),
        ("githubWorkflowSha", 3, "certificate-github-workflow-sha"),
        ("githubWorkflowName", 4, "certificate-github-workflow-name"),
        ("githubWorkflowRepository", 5, "certificate-github-workflow-repository"),
        ("githubWorkflowRef", 6, "certificate-github-workflow-ref"),
    ];
    let mut shown: BTreeMap<String, Value> = BTreeMap::new();
    if let Some(identity) = &proof.identity {
        shown.insert("Subject".to_owned(), identity.subject.clone().into());
        if let Some(issuer) = &identity.issuer {
            shown.insert("Issuer".to_owned(), issuer.clone().into());
            shown.insert(format!("{ARC}.1"), issuer.clone().into());
        }
        for (name, number, flag) in GITHUB {
            if let Some(value) = identity.claim(flag) {
                shown.insert(name.to_owned(), value.into());
                shown.insert(format!("{ARC}.{number}"), value.into());
            }
        }
    }
    // Entries without a promise have none.
    let entry = proof.logged.iter().find_map(|(place, _)| material.entries.get(*place)?.to_annotation());
    if let Some(Ok(entry)) = entry.map(|text| serde_json::from_str::<Value>(&text)) {
        shown.insert("Bundle".to_owned(), entry);
    }
    if let Some(response) = proof.stamped.first().and_then(|(place, _)| material.timestamps.get(*place)) {
        shown.insert("RFC3161Timestamp".to_owned(), json!({ "SignedRFC3161Timestamp": STANDARD.encode(response) }));
    }
    shown
}

/// The statement of an envelope that was signed by who is demanded.
fn judge_envelope(
    found: &Found,
    envelope: &Envelope,
    bytes: Option<&[u8]>,
    (demand, share): (&Demand<'_>, &Share<'_>),
) -> Result<(Claim, Proof), Refused> {
    let header = pae_header(&envelope.payload_type, envelope.payload.len());
    let message: [&[u8]; 2] = [&header, &envelope.payload];
    let judged = |signature: &Signature| {
        let (envelope, envelope_bytes) = (Some(envelope), bytes);
        let unproven = Unproven { message: &message, signature: &signature.sig, envelope, envelope_bytes };
        demand.judge(found, &unproven, share)
    };
    // Each of them is tried: a stranger's thousand cost a thousand checks, which the budget counts.
    let mut refused = Refused::Proof(NoSignature::Bad.into());
    let mut proof = None;
    for signature in &envelope.signatures {
        match judged(signature) {
            Ok(held) => {
                proof = Some(held);
                break;
            }
            Err(why) => refused = why,
        }
    }
    let Some(proof) = proof else { return Err(refused) };
    if envelope.payload_type != PAYLOAD_TYPE {
        let reason = format!("the payload type is `{}`", envelope.payload_type.escape_debug());
        return Err(Refused::Content { reason });
    }
    let claim = Claim::parse(&envelope.payload).map_err(|error| Refused::Content { reason: error.to_string() })?;
    Ok((claim, proof))
}

/// What a statement says of the image, subject by subject.
fn about(claim: &Claim, demand: &Demand<'_>) -> Result<Vec<BTreeMap<String, Value>>, Refused> {
    let said = claim.about(demand.digest);
    match said.is_empty() {
        true if demand.claims => Err(Refused::Digest { found: "none of its subjects is this one".to_owned() }),
        true => Ok(vec![BTreeMap::new()]),
        false => Ok(said),
    }
}

/// The set of annotations that has all that are wanted.
fn pick(said: Vec<BTreeMap<String, Value>>, demand: &Demand<'_>) -> Result<BTreeMap<String, Value>, Refused> {
    let mut refused = Refused::Content { reason: "it says nothing".to_owned() };
    for one in said {
        match missing_annotation(&one, demand.annotations) {
            Some((name, value)) if demand.claims => {
                refused = Refused::Annotation { name: name.to_owned(), value: value.to_owned() };
            }
            _ => return Ok(one),
        }
    }
    Err(refused)
}
