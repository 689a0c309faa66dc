//! Sealing: statements become signed DSSE envelopes.

use std::io::{self, Write};

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::collect::{Collected, OwnEvidence};
use crate::collection::{Body, Collection};
use crate::digest::DigestSet;
use crate::dsse::{self, Signature};
use crate::sign::{SignError, Signer};
use crate::statement::{PAYLOAD_TYPE, STATEMENT_V1, Subject};
use crate::store::Outline;

/// Name of the subject that ties an own envelope to its run (security rule 12). Its digest is the SHA-256 of the
/// collection's payload.
pub const RUN_SUBJECT: &str = "affiant:run";

/// Payloads of up to this many bytes are read by the thread that signs them.
const ALONE: usize = 256 * 1024;

/// Why something could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The statement could not be written.
    #[error("the statement cannot be composed")]
    Compose(#[from] serde_json::Error),
    /// Nobody signs: an envelope without signatures proves nothing.
    #[error("nobody is there to sign it")]
    NoSigner,
    /// A key refused.
    #[error("the key {key_id} cannot sign")]
    Sign {
        /// Id of the key.
        key_id: String,
        /// What it said.
        source: SignError,
    },
}

/// A signed statement.
pub struct SealedEnvelope {
    /// The attestor whose own envelope it is; `None` for the collection.
    pub attestor: Option<&'static str>,
    /// The exact bytes that are signed.
    pub payload: Vec<u8>,
    /// One signature for each key. Empty when sealing failed: then only the payload is known.
    pub signatures: Vec<Signature>,
    /// What the archive's index keeps of it.
    pub outline: Outline,
}

impl SealedEnvelope {
    /// Writes the envelope as compact JSON without a trailing newline.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        dsse::write_envelope(&self.payload, PAYLOAD_TYPE, &self.signatures, out)
    }

    /// SHA-256 of the payload, 64 hex digits.
    pub fn payload_digest(&self) -> &str {
        self.outline.payload_sha256()
    }
}

/// All envelopes of a run: the collection first.
pub struct Sealed {
    /// The envelopes.
    pub envelopes: Vec<SealedEnvelope>,
    /// Why there are no signatures, when there are none.
    pub error: Option<SealError>,
}

impl Collected {
    /// Composes the statements and signs each with every key. Never loses the payloads: when a key refuses, they come
    /// back without signatures.
    pub fn seal(&self, signers: &[Box<dyn Signer>]) -> Result<Sealed, SealError> {
        let mut error = signers.is_empty().then_some(SealError::NoSigner);
        let mut envelopes = vec![seal(None, compose(&self.collection)?, signers, &mut error)];
        let run = Subject::new(RUN_SUBJECT, DigestSet::sha256_hex(envelopes[0].payload_digest()));
        for own in &self.own {
            let payload = serde_json::to_vec(&OwnStatement { own, run: &run })?;
            envelopes.push(seal(Some(own.attestor), payload, signers, &mut error));
        }
        if error.is_some() {
            for envelope in &mut envelopes {
                envelope.signatures.clear();
            }
        }
        Ok(Sealed { envelopes, error })
    }
}

/// Signs one payload with every key, until one refuses; meanwhile another thread reads what the index keeps of it.
fn seal(
    attestor: Option<&'static str>,
    payload: Vec<u8>,
    signers: &[Box<dyn Signer>],
    error: &mut Option<SealError>,
) -> SealedEnvelope {
    let outline = || Outline::of(&payload, PAYLOAD_TYPE);
    let mut signatures = Vec::new();
    let outline = std::thread::scope(|scope| {
        let other = (payload.len() > ALONE)
            .then(|| std::thread::Builder::new().name("outline".to_owned()).spawn_scoped(scope, outline).ok())
            .flatten();
        let header = dsse::pae_header(PAYLOAD_TYPE, payload.len());
        for signer in signers {
            if error.is_some() {
                break;
            }
            match signer.seal(&[&header, &payload]) {
                Ok(signature) => signatures.push(signature),
                Err(source) => {
                    *error = Some(SealError::Sign { key_id: signer.public_key().key_id().to_owned(), source });
                }
            }
        }
        other.and_then(|other| other.join().ok()).unwrap_or_else(outline)
    });
    SealedEnvelope { attestor, payload, signatures, outline }
}

/// The payload of the collection, in a buffer that was sized beforehand: growing by doubling would copy it. Room that
/// is not used costs no memory.
fn compose(collection: &Collection) -> Result<Vec<u8>, serde_json::Error> {
    let mut payload = Vec::with_capacity(collection.size_hint());
    collection.write_statement(&mut payload)?;
    Ok(payload)
}

struct OwnStatement<'a> {
    own: &'a OwnEvidence,
    run: &'a Subject,
}

impl Serialize for OwnStatement<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut subjects: Vec<&Subject> = self.own.subjects.iter().collect();
        subjects.push(self.run);
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("_type", STATEMENT_V1)?;
        map.serialize_entry("subject", &subjects)?;
        map.serialize_entry("predicateType", &self.own.predicate_type)?;
        match &self.own.body {
            Body::Composed(value) => map.serialize_entry("predicate", value)?,
            Body::Verbatim(text) => map.serialize_entry("predicate", text)?,
            // Snapshots stand in the collection only.
            Body::Materials(..) | Body::Products(..) | Body::MaterialTree(..) | Body::ProductTree(..) => {
                map.serialize_entry("predicate", &Value::Null)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::attestor::{Before, Environment, Host, Network};
    use crate::clock::Fixed;
    use crate::form::Form;
    use crate::redact::{Redactor, VariableMask};
    use crate::run::{AtRest, Choice, Observation, ObservationLevel, Request, plan};
    use crate::select::Selection;
    use crate::snapshot;

    fn collected(folder: &std::path::Path) -> Collected {
        let (clock, mask) = (Fixed(Timestamp::UNIX_EPOCH), VariableMask::default());
        let request = Request {
            before: Before {
                step: "build".to_owned(),
                dir: folder.to_owned(),
                env: Arc::new(Environment::default()),
                mask: Arc::new(mask),
                host: Host::default(),
                command: Vec::new(),
                now: Timestamp::UNIX_EPOCH,
                network: Network::default(),
            },
            choice: Choice::Named(Vec::new()),
            options: std::collections::BTreeMap::new(),
            snapshot: snapshot::Options::new(folder),
            product_subjects: Selection::default(),
            subjects: Vec::new(),
            child: None,
            at_rest: AtRest { paths: vec!["app".to_owned()], globs: Vec::new() },
            form: Form::default(),
            ignore_exit_code: false,
            redactor: Redactor::new(&Environment::default(), &[], &VariableMask::default()),
            observation: Observation { level: ObservationLevel::Command, reason: String::new() },
            engine: None,
            time_limit: Duration::from_secs(60),
        };
        let planned = plan(request, &[]).expect("a plan");
        let real = || snapshot::Timestamp { seconds: 1, nanos: 0 };
        let observed = planned.observe(&clock, &real, &snapshot::Progress::default()).expect("observed");
        observed.spawn(&clock).collect(&clock, &real, &snapshot::Progress::default())
    }

    /// What nobody signs is told as such, and is not lost.
    #[test]
    fn without_a_signer_the_payload_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("it is there");
        std::fs::write(root.join("app"), "app").expect("writes");
        let collected = collected(&root);
        let sealed = collected.seal(&[]).expect("composed");
        assert!(matches!(sealed.error, Some(SealError::NoSigner)), "{:?}", sealed.error);
        let [envelope] = &sealed.envelopes[..] else { panic!("the collection alone") };
        assert!(envelope.signatures.is_empty() && envelope.payload.starts_with(b"{"));
        let key = crate::sign::PrivateKey::generate(crate::sign::KeyKind::Ed25519).expect("a key");
        let sealed = collected.seal(&[Box::new(key)]).expect("composed");
        assert!(sealed.error.is_none() && sealed.envelopes[0].signatures.len() == 1);
        assert_eq!(sealed.envelopes[0].payload, envelope.payload);
    }
}
