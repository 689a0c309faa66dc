//! From a certificate to a root: building and checking chains (RFC 5280 §6).
//!
//! Own code, because no crate has the rules that are needed here together (`docs/decisions/009-chains.md`). The time is
//! always a parameter: nobody asks whether a certificate is valid now.

use std::collections::BTreeMap;

use der::asn1::ObjectIdentifier;
use jiff::Timestamp;

use super::certificate::Certificate;
use super::names;
use super::timestamp::Windows;
use super::work::{TooMuchWork, Work};

/// Longest path, leaf and root counted.
pub const MAX_PATH: usize = 10;
/// Most signatures that are checked for one chain.
const MAX_LINKS: usize = 64;
/// Most candidates that are looked at for one chain, however cheaply.
const MAX_STEPS: usize = 4096;
/// What looking at one candidate costs besides checking a signature, in bytes hashed.
const COST_OF_STEP: u64 = 8 * 1024;
/// What one chain may cost when nobody counts over several.
const COST_OF_ONE: u64 = 1024 * 1024 * 1024;

const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// A certificate that is trusted because somebody says so, and what helps to lead there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// What policies call it.
    pub id: String,
    /// The trusted certificate. It need not be self-signed: a trusted intermediate, or a trusted leaf, ends a chain as
    /// well, as in Go.
    pub certificate: Certificate,
    /// Certificates that may lead to it. They are not trusted by themselves.
    pub intermediates: Vec<Certificate>,
}

/// What a leaf must be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signing evidence: extended key usage `codeSigning`; `anyExtendedKeyUsage` does not count.
    CodeSigning,
    /// Signing timestamps: extended key usage `timeStamping`, critical and nothing else (RFC 3161 §2.3).
    TimeStamping,
}

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The ids of all anchors that it was found to lead to, sorted, at least one. More than one where authorities
    /// certify each other, or where one certificate has two ids.
    pub anchors: Vec<String>,
    /// From the leaf to the first anchor that was found, both included.
    pub path: Vec<Certificate>,
}

/// A certificate leads to no anchor. The reason is that of the path that came nearest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There is nothing to lead to.
    #[error("no root is given that `{subject}` could lead to")]
    NoAnchor {
        /// The leaf.
        subject: String,
    },
    /// A certificate of the path was not valid then.
    #[error("`{subject}` was not valid at {at}: it is from {not_before} to {not_after}")]
    NotValid {
        /// Which.
        subject: String,
        /// The time that counts.
        at: Timestamp,
        /// From when.
        not_before: Timestamp,
        /// Until when.
        not_after: Timestamp,
    },
    /// The certificate may not be used for this.
    #[error("`{subject}` is not for {purpose}: {problem}")]
    Purpose {
        /// Which.
        subject: String,
        /// `signing evidence` or `timestamps`.
        purpose: &'static str,
        /// What its extensions say.
        problem: String,
    },
    /// A certificate above the leaf is no authority, or may not be at this place.
    #[error("`{subject}` must not certify others here: {problem}")]
    NotAnAuthority {
        /// Which.
        subject: String,
        /// Why.
        problem: String,
    },
    /// A critical extension that is not understood, so that nobody knows what it forbids.
    #[error("`{subject}` has the critical extension {oid}, which is not supported")]
    UnknownCritical {
        /// Which.
        subject: String,
        /// Object identifier of the extension.
        oid: String,
    },
    /// A name is outside of what an authority above may certify.
    #[error("the name {problem}")]
    Names {
        /// Which name, and what is said of it.
        problem: String,
    },
    /// Nobody with the issuer's name is known.
    #[error("the issuer `{issuer}` of `{subject}` is neither a root nor among the intermediates")]
    UnknownIssuer {
        /// Whose issuer.
        subject: String,
        /// The issuer.
        issuer: String,
    },
    /// The path ends in a self-signed certificate that nobody trusts.
    #[error("`{subject}` is a root, but not one of those that are trusted")]
    UntrustedRoot {
        /// The root.
        subject: String,
    },
    /// The certificate with the issuer's name did not sign.
    #[error("`{subject}` is not signed by the key of `{issuer}`")]
    BadSignature {
        /// Which.
        subject: String,
        /// Who should have signed.
        issuer: String,
    },
    /// The signature of the issuer is of a kind that is not supported.
    #[error("`{subject}` is signed with an unsupported algorithm: {algorithm}")]
    Algorithm {
        /// Which.
        subject: String,
        /// Name or object identifier.
        algorithm: String,
    },
    /// The path is longer than [`MAX_PATH`].
    #[error("the chain of `{subject}` has more than {MAX_PATH} certificates")]
    TooLong {
        /// The leaf.
        subject: String,
    },
    /// There are too many paths to try, or the work for one envelope is used up.
    #[error("finding a chain for `{subject}` would take too long")]
    TooMuchWork {
        /// The leaf.
        subject: String,
    },
}

impl ChainError {
    /// What would help, as an instruction.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::NoAnchor { .. } | Self::UnknownIssuer { .. } | Self::UntrustedRoot { .. } => {
                "if its issuer is to be trusted, give the issuer's root certificate, and intermediates that lead to it"
            }
            Self::NotValid { .. } => "have it signed, and timestamped at once, while the certificate is valid",
            Self::Purpose { .. } => "have it signed with a certificate whose extended key usage is codeSigning",
            Self::NotAnAuthority { .. } | Self::UnknownCritical { .. } | Self::Names { .. } | Self::TooLong { .. } => {
                "have it signed with a certificate whose chain follows the rules of its authorities"
            }
            Self::BadSignature { .. } => "give the intermediate certificates that belong to the signer's certificate",
            Self::Algorithm { .. } => "have it signed with a certificate that was signed with SHA-256 or better",
            Self::TooMuchWork { .. } => "remove intermediate certificates that are not needed",
        }
    }
}

impl Purpose {
    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::CodeSigning => CODE_SIGNING,
            Self::TimeStamping => TIME_STAMPING,
        }
    }

    fn shown(self) -> &'static str {
        match self {
            Self::CodeSigning => "signing evidence",
            Self::TimeStamping => "timestamps",
        }
    }
}

/// Finds chains from `leaf` to `anchors`, all of whose certificates were valid `at` that time, and whose leaf is for
/// `purpose`.
///
/// `intermediates` come from a stranger: they, and those of the anchors, can be between leaf and anchor and are never
/// the end. Names of issuer and subject are compared as bytes, as Go does.
pub fn chain(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Anchor],
    at: Timestamp,
    purpose: Purpose,
) -> Result<Chain, ChainError> {
    chain_within(leaf, intermediates, anchors, at, purpose, &Work::new(COST_OF_ONE))
}

pub(super) fn chain_within(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Anchor],
    at: Timestamp,
    purpose: Purpose,
    work: &Work,
) -> Result<Chain, ChainError> {
    if anchors.is_empty() {
        return Err(ChainError::NoAnchor { subject: leaf.label() });
    }
    check_common(leaf, at)?;
    check_leaf(leaf, purpose)?;
    let mut pool: Vec<&Certificate> = Vec::new();
    let offered = anchors.iter().flat_map(|anchor| std::iter::once(&anchor.certificate).chain(&anchor.intermediates));
    for certificate in offered.chain(intermediates) {
        if !pool.contains(&certificate) {
            pool.push(certificate);
        }
    }
    let mut search = Search {
        pool,
        anchors,
        at,
        purpose,
        work,
        links: BTreeMap::new(),
        steps: 0,
        path: vec![leaf.clone()],
        found: None,
        failure: None,
    };
    let complete = search.extend(None);
    match search.found {
        Some((mut ids, path)) => {
            ids.sort_unstable();
            ids.dedup();
            Ok(Chain { anchors: ids, path })
        }
        None if complete.is_err() => Err(ChainError::TooMuchWork { subject: leaf.label() }),
        None => Err(search.failure.map_or_else(
            || ChainError::UnknownIssuer { subject: leaf.label(), issuer: leaf.issuer().to_owned() },
            |(_, e)| e,
        )),
    }
}

/// Anchors, and what a stranger may bring for them.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    /// They name the certificates that may lead to them: no others may. One root may stand above several authorities that
    /// are trusted at different times, so what leads to the root need not be of the authority that is trusted.
    pub(crate) whole: Vec<Anchor>,
    /// Whatever leads to them counts.
    pub(crate) bare: Vec<Anchor>,
}

impl Anchors {
    /// Those that are trusted `at` this time and for which `counts` holds. One of a root that is trusted for some time only, under whatever id, is
    /// whole where it names intermediates.
    pub(super) fn open(anchors: &[Anchor], windows: &Windows, at: Timestamp, counts: impl Fn(&Anchor) -> bool) -> Self {
        let window = |anchor: &Anchor| windows.get(&anchor.id).copied().unwrap_or_default();
        let mut open = Self::default();
        for anchor in anchors.iter().filter(|anchor| window(anchor).covers(at) && counts(anchor)) {
            let mut same = anchors.iter().filter(|other| other.certificate == anchor.certificate);
            let is_whole = !anchor.intermediates.is_empty() && same.any(|other| !window(other).is_endless());
            if is_whole { &mut open.whole } else { &mut open.bare }.push(anchor.clone());
        }
        open
    }

    /// Whether nobody is trusted.
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.bare.is_empty()
    }

    /// The same as [`chain`], from a stranger's `intermediates` to these.
    pub(crate) fn chain(
        &self,
        leaf: &Certificate,
        intermediates: &[Certificate],
        at: Timestamp,
        purpose: Purpose,
        work: &Work,
    ) -> Result<Chain, ChainError> {
        if self.whole.is_empty() {
            return chain_within(leaf, intermediates, &self.bare, at, purpose, work);
        }
        let whole = chain_within(leaf, &[], &self.whole, at, purpose, work);
        if self.bare.is_empty() {
            return whole;
        }
        match (whole, chain_within(leaf, intermediates, &self.bare, at, purpose, work)) {
            (Ok(mut chain), Ok(other)) => {
                chain.anchors.extend(other.anchors);
                chain.anchors.sort_unstable();
                chain.anchors.dedup();
                Ok(chain)
            }
            (Ok(chain), Err(_)) | (Err(_), Ok(chain)) => Ok(chain),
            (Err(first), Err(_)) => Err(first),
        }
    }
}

/// A depth-first search over all paths upwards.
struct Search<'a> {
    /// Everybody who may stand above the leaf, each once.
    pool: Vec<&'a Certificate>,
    anchors: &'a [Anchor],
    at: Timestamp,
    purpose: Purpose,
    work: &'a Work,
    /// Whether the second signed the first, by their places in the pool; the leaf has none.
    links: BTreeMap<(Option<usize>, usize), bool>,
    steps: usize,
    path: Vec<Certificate>,
    found: Option<(Vec<String>, Vec<Certificate>)>,
    /// The failure of the path that came nearest, with how near it was.
    failure: Option<((usize, u8), ChainError)>,
}

/// How much a failure says, among those at the same height.
const SAYS_LITTLE: u8 = 0;
const SAYS_MORE: u8 = 1;
const SAYS_MOST: u8 = 2;

impl Search<'_> {
    /// Tries everything above the last certificate of the path, which has the place `below` in the pool.
    fn extend(&mut self, below: Option<usize>) -> Result<(), TooMuchWork> {
        let last = self.path[self.path.len() - 1].clone();
        let reached = self.anchors.iter().filter(|anchor| anchor.certificate == last).map(|anchor| anchor.id.clone());
        let reached: Vec<String> = reached.collect();
        if !reached.is_empty() {
            match names::check_path(&self.path) {
                Ok(()) => self.found.get_or_insert_with(|| (Vec::new(), self.path.clone())).0.extend(reached),
                Err(problem) => self.fail(SAYS_MOST, ChainError::Names { problem }),
            }
        }
        let mut candidates: Vec<usize> =
            (0..self.pool.len()).filter(|place| last.names_as_issuer(self.pool[*place])).collect();
        candidates.sort_by_key(|place| key_id_distance(&last, self.pool[*place]));
        candidates.retain(|place| !self.is_in_path(self.pool[*place]));
        if candidates.is_empty() {
            let (subject, issuer) = (last.label(), last.issuer().to_owned());
            if last.is_self_issued() {
                self.fail(SAYS_MORE, ChainError::UntrustedRoot { subject });
            } else {
                self.fail(SAYS_LITTLE, ChainError::UnknownIssuer { subject, issuer });
            }
            return Ok(());
        }
        if self.path.len() >= MAX_PATH {
            self.fail(SAYS_MOST, ChainError::TooLong { subject: self.path[0].label() });
            return Ok(());
        }
        for place in candidates {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(TooMuchWork);
            }
            self.work.spend(COST_OF_STEP)?;
            let issuer = self.pool[place].clone();
            if let Err(error) = self.check_authority(&issuer) {
                self.fail(SAYS_MOST, error);
                continue;
            }
            if let Some(algorithm) = last.unsupported_algorithm() {
                let algorithm = algorithm.to_owned();
                self.fail(SAYS_MOST, ChainError::Algorithm { subject: last.label(), algorithm });
                continue;
            }
            if !self.signed(below, &last, place)? {
                let (subject, issuer) = (last.label(), issuer.label());
                // A root that only bears the name of a trusted one.
                let forged = last.is_self_issued().then(|| ChainError::UntrustedRoot { subject: subject.clone() });
                self.fail(SAYS_MORE, forged.unwrap_or(ChainError::BadSignature { subject, issuer }));
                continue;
            }
            self.path.push(issuer);
            let result = self.extend(Some(place));
            self.path.pop();
            result?;
        }
        Ok(())
    }

    fn fail(&mut self, says: u8, error: ChainError) {
        let rank = (self.path.len(), says);
        if self.failure.as_ref().is_none_or(|(best, _)| *best < rank) {
            self.failure = Some((rank, error));
        }
    }

    /// The same certificate, or another one for the same name and key, which would only lead in circles.
    fn is_in_path(&self, candidate: &Certificate) -> bool {
        self.path.iter().any(|certificate| certificate.is_same_entity(candidate))
    }

    fn signed(&mut self, below: Option<usize>, last: &Certificate, place: usize) -> Result<bool, TooMuchWork> {
        if let Some(known) = self.links.get(&(below, place)) {
            return Ok(*known);
        }
        if self.links.len() >= MAX_LINKS {
            return Err(TooMuchWork);
        }
        let issuer = self.pool[place];
        self.work.spend_check(issuer.public_key())?;
        let signed = last.is_signed_by(issuer).is_ok();
        self.links.insert((below, place), signed);
        Ok(signed)
    }

    /// Checks whether `issuer` may stand above the path.
    fn check_authority(&self, issuer: &Certificate) -> Result<(), ChainError> {
        check_common(issuer, self.at)?;
        let not = |problem: String| Err(ChainError::NotAnAuthority { subject: issuer.label(), problem });
        if !issuer.is_ca() {
            return not("its basic constraints do not make it an authority".to_owned());
        }
        if !issuer.may_sign_certificates() {
            return not("its key usage does not have keyCertSign".to_owned());
        }
        let between = self.path[1..].iter().filter(|certificate| !certificate.is_self_issued()).count();
        if let Some(limit) = issuer.path_length().filter(|limit| usize::from(*limit) < between) {
            return not(format!("{between} authorities stand below it, its path length allows {limit}"));
        }
        if let Some((_, purposes)) = issuer.purpose_list()
            && !purposes.contains(&self.purpose.oid())
            && !purposes.contains(&ANY_PURPOSE)
        {
            return not(format!("its extended key usage does not have {}", self.purpose.shown()));
        }
        Ok(())
    }
}

/// Issuers whose key id is the one that is named come first, those with another one last.
fn key_id_distance(certificate: &Certificate, issuer: &Certificate) -> u8 {
    match (certificate.authority_key_id(), issuer.subject_key_id()) {
        (Some(wanted), Some(id)) if wanted == id => 0,
        (Some(_), Some(_)) => 2,
        _ => 1,
    }
}

fn check_common(certificate: &Certificate, at: Timestamp) -> Result<(), ChainError> {
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if at < not_before || at > not_after {
        return Err(ChainError::NotValid { subject: certificate.label(), at, not_before, not_after });
    }
    match certificate.unknown_critical() {
        Some(oid) => Err(ChainError::UnknownCritical { subject: certificate.label(), oid }),
        None => Ok(()),
    }
}

fn check_leaf(leaf: &Certificate, purpose: Purpose) -> Result<(), ChainError> {
    let not = |problem: &str| {
        let (subject, problem) = (leaf.label(), problem.to_owned());
        Err(ChainError::Purpose { subject, purpose: purpose.shown(), problem })
    };
    if !leaf.may_sign_messages() {
        return not("its key usage does not have digitalSignature");
    }
    match (purpose, leaf.purpose_list()) {
        (Purpose::CodeSigning, Some((_, list))) if list.contains(&CODE_SIGNING) => Ok(()),
        (Purpose::CodeSigning, _) => not("its extended key usage does not have codeSigning"),
        (Purpose::TimeStamping, Some((true, list))) if list == [TIME_STAMPING] => Ok(()),
        (Purpose::TimeStamping, Some((false, list))) if list == [TIME_STAMPING] => {
            not("its extended key usage is not critical")
        }
        (Purpose::TimeStamping, _) => not("its extended key usage is not timeStamping alone"),
    }
}
