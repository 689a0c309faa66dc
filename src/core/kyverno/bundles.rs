//! Rules of the type `SigstoreBundle`: what in them Kyverno looks at.
//!
//! Source: Kyverno 1.16.1 and 1.19.0.

use super::Version;
use super::outcome::Outcome;
use super::policy::Attestor;
use super::who::Who;

/// Why a rule about bundles fails, whatever they are; and what of it Kyverno passes over.
pub(super) fn unfit(who: &Who<'_>, attestor: &Attestor, version: Version, outcome: &mut Outcome) -> Option<String> {
    let (rekor, ctlog) = who.logs();
    let mut passed_over = Vec::new();
    for (name, is_there) in [
        ("rekor.pubkey", rekor.pubkey.is_some()),
        ("ctlog.pubkey", ctlog.pubkey.is_some()),
        ("ctlog.tsaCertChain", ctlog.tsa_cert_chain.is_some()),
        ("annotations", !attestor.annotations.is_empty()),
    ] {
        passed_over.extend(is_there.then_some(name));
    }
    if let Who::Identity(keyless, _) = who {
        passed_over.extend(keyless.roots.is_some().then_some("roots"));
        passed_over.extend((!keyless.additional_extensions.is_empty()).then_some("additionalExtensions"));
        if [&keyless.subject, &keyless.issuer].iter().any(|name| name.contains(['*', '?'])) {
            outcome.warn(
                "in rules of the type SigstoreBundle `subject` and `issuer` are no patterns: write `subjectRegExp` and `issuerRegExp`",
            );
        }
    }
    if !passed_over.is_empty() {
        outcome.warn(format!(
            "rules of the type SigstoreBundle pass over {}: whom to believe comes from the TUF repository",
            passed_over.join(", ")
        ));
    }
    let takes_keys = version >= Version::BUNDLE_KEYS;
    match who {
        Who::Key(..) if !takes_keys => {
            outcome.fix(format!("use Kyverno {} or newer, or `type: Cosign`", Version::BUNDLE_KEYS));
            return Some(format!(
                "Kyverno {version} takes no keys in rules of the type SigstoreBundle (\"there must be subject alternative name criteria\")"
            ));
        }
        Who::Key(..) => {
            outcome.warn(format!("Kyverno before {} refuses keys in rules of this type", Version::BUNDLE_KEYS));
        }
        Who::Identity(keyless, _) => {
            let says = |name: &str, expression: &str| !name.is_empty() || !expression.is_empty();
            if !says(&keyless.subject, &keyless.subject_reg_exp) || !says(&keyless.issuer, &keyless.issuer_reg_exp) {
                outcome.fix("write `subject` and `issuer` (or their expressions) into the rule");
                return Some("rules of the type SigstoreBundle must name both subject and issuer".to_owned());
            }
        }
    }
    // What is left proves no time, and there is no verifier of that.
    let has_none = match (rekor.ignore_tlog, ctlog.ignore_sct, who) {
        (false, true, _) => true,
        (true, true, Who::Identity(..)) => !takes_keys,
        _ => false,
    };
    if has_none {
        outcome.fix("take `ctlog.ignoreSCT` away: in rules of this type it drops the demand of a time");
        return Some(
            "`ctlog.ignoreSCT` drops the demand of a time, and Kyverno makes no verifier without one (\"you must specify at least one of WithObserverTimestamps()\")".to_owned(),
        );
    }
    None
}
