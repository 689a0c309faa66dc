//! Who must have signed, and whether they have.

use super::policy::{Keyless, Keys};
use super::rules;
use crate::image::keyed::holds;
use crate::sign::PublicKey;
use crate::trust::Certificate;

/// Why a signature without a log entry does not count.
pub(super) const NO_LOG: &str = "it has no log entry, and `rekor.ignoreTlog` is not set";

/// Who must have signed.
pub(super) enum Who<'a> {
    Key(&'a PublicKey, &'a Keys),
    Identity(&'a Keyless),
}

/// Whether somebody signed; with what is not judged of that.
pub(super) enum Signed {
    Yes(Option<String>),
    No(String),
}

impl Who<'_> {
    /// Whether a signature over the concatenation of `message` is by them.
    pub(super) fn signed(
        &self,
        message: &[&[u8]],
        signature: &[u8],
        certificate: Option<&str>,
        has_log: bool,
    ) -> Signed {
        match self {
            Self::Key(key, keys) => match holds(key, message, signature) {
                Err(error) => Signed::No(error.to_string()),
                Ok(()) if keys.rekor.ignore_tlog => Signed::Yes(None),
                Ok(()) if has_log => Signed::Yes(Some("its log entry".to_owned())),
                Ok(()) => Signed::No(NO_LOG.to_owned()),
            },
            Self::Identity(keyless) => {
                let Some(pem) = certificate else {
                    return Signed::No("nil certificate provided: it is signed by a key".into());
                };
                let certificate = match Certificate::read(pem.as_bytes()) {
                    Ok(certificate) => certificate,
                    Err(error) => return Signed::No(error.to_string()),
                };
                if let Err(error) = holds(certificate.public_key(), message, signature) {
                    return Signed::No(format!("not by the key of its certificate: {error}"));
                }
                match rules::names(&certificate, keyless) {
                    Ok(Ok(())) => {
                        let where_to =
                            if keyless.roots.is_some() { "" } else { ", for which Kyverno asks Sigstore's services" };
                        Signed::Yes(Some(format!(
                            "the certificate names who is wanted, and its key signed; its chain, log entry and SCT{where_to}"
                        )))
                    }
                    Ok(Err(why)) => Signed::No(why),
                    Err(why) => Signed::Yes(Some(why)),
                }
            }
        }
    }
}
