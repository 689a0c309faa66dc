//! What failed, as all forms tell it: each reason once, with the candidate that came nearest and the others in groups.

use std::borrow::Cow;

use affiant_core::verdict::{Candidate, Check, CheckKind, Outcome, Part, Verdict};

/// What a reason is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About<'a> {
    /// `policy`, `step`, `external attestation`, `image` or `artifact`.
    pub(super) kind: &'static str,
    /// Its name.
    pub(super) name: &'a str,
}

/// Why something was not proven.
#[derive(Debug)]
pub(super) struct Reason<'a> {
    /// What it is about: several parts where all of it is the same for them.
    pub(super) about: Vec<About<'a>>,
    /// The check that failed: of the nearest candidate, where there is one.
    pub(super) check: &'a Check,
    /// The candidate that came nearest.
    pub(super) nearest: Option<&'a Candidate>,
    /// What else failed of the part as a whole.
    pub(super) also: Vec<&'a Check>,
    /// The other candidates, by what failed of them first.
    pub(super) others: Vec<Group<'a>>,
    /// Candidates that the verdict does not tell of.
    pub(super) left_out: usize,
    /// What the policy asks for, where there is no candidate that shows it.
    pub(super) requires: &'a [String],
}

/// Candidates with the same reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group<'a> {
    /// What failed; `None` for accepted candidates of a part that failed otherwise.
    pub(super) check: Option<&'a Check>,
    /// Whether it is that of the nearest.
    pub(super) same: bool,
    pub(super) candidates: Vec<&'a Candidate>,
}

/// All reasons, in the order policy, steps, external attestations, images, artifacts.
pub(super) fn reasons<'a>(verdict: &'a Verdict) -> Vec<Reason<'a>> {
    let mut all: Vec<Reason<'a>> = Vec::new();
    let mut add = |reason: Reason<'a>| match all.iter_mut().find(|known| known.says_the_same(&reason)) {
        Some(known) => known.about.extend(reason.about),
        None => all.push(reason),
    };
    let policy = About { kind: "policy", name: &verdict.policy.source };
    for check in verdict.policy.checks.iter().filter(|check| check.has_failed()) {
        add(Reason::plain(policy, check));
    }
    for (kind, parts) in [("step", &verdict.steps), ("external attestation", &verdict.external)] {
        for part in parts.iter().filter(|part| part.outcome == Outcome::Failed) {
            Reason::of(About { kind, name: &part.name }, part).into_iter().for_each(&mut add);
        }
    }
    for image in &verdict.images {
        for check in image.checks.iter().filter(|check| check.has_failed()) {
            add(Reason::plain(About { kind: "image", name: &image.name }, check));
        }
    }
    for artifact in verdict.artifacts.iter().filter(|artifact| artifact.check.has_failed()) {
        add(Reason::plain(About { kind: "artifact", name: &artifact.name }, &artifact.check));
    }
    all
}

impl<'a> Reason<'a> {
    /// Why something without candidates failed.
    pub(super) fn plain(about: About<'a>, check: &'a Check) -> Self {
        Self {
            about: vec![about],
            check,
            nearest: None,
            also: Vec::new(),
            others: Vec::new(),
            left_out: 0,
            requires: &[],
        }
    }

    /// Why a part failed; `None` where it does not say.
    pub(super) fn of(about: About<'a>, part: &'a Part) -> Option<Self> {
        let mut own = part.checks.iter().filter(|check| check.has_failed());
        let nearest =
            part.candidates.iter().find(|candidate| !candidate.accepted && candidate.first_failed().is_some());
        let of_nearest = nearest.and_then(Candidate::first_failed);
        let check = of_nearest.or_else(|| own.next())?;
        let others = part.candidates.iter().filter(|one| nearest.is_none_or(|nearest| !std::ptr::eq(*one, nearest)));
        Some(Self {
            about: vec![about],
            check,
            nearest,
            also: own.filter(|other| *other != check).collect(),
            others: groups(others, of_nearest),
            left_out: part.left_out,
            requires: if nearest.is_some() { &[] } else { &part.requires },
        })
    }

    /// How many candidates there are beside the nearest.
    pub(super) fn more(&self) -> usize {
        self.others.iter().map(|group| group.candidates.len()).sum::<usize>() + self.left_out
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.check == other.check
            && self.nearest == other.nearest
            && self.also == other.also
            && self.others == other.others
            && self.left_out == other.left_out
            && self.requires == other.requires
    }

    /// What it is about, in few words: `step build`, `steps build and test`, `artifacts a, b and 3 more`.
    pub(super) fn title(&self) -> String {
        /// Names that are told one by one.
        const NAMES: usize = 3;
        let mut title = String::new();
        for kind in ["policy", "step", "external attestation", "image", "artifact"] {
            let names: Vec<_> = self.about.iter().filter(|about| about.kind == kind).map(|about| about.name).collect();
            if names.is_empty() {
                continue;
            }
            if !title.is_empty() {
                title.push_str("; ");
            }
            title.push_str(kind);
            if names.len() > 1 {
                title.push('s');
            }
            title.push(' ');
            title.push_str(&listed(&names, NAMES));
        }
        title
    }
}

/// Groups candidates by what failed of them first, in the order in which they come.
pub(super) fn groups<'a>(candidates: impl Iterator<Item = &'a Candidate>, nearest: Option<&Check>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for candidate in candidates {
        let check = candidate.first_failed().filter(|_| !candidate.accepted);
        match groups.iter_mut().find(|group| equal(group.check, check)) {
            Some(group) => group.candidates.push(candidate),
            None => groups.push(Group {
                check,
                same: check.is_some() && equal(check, nearest),
                candidates: vec![candidate],
            }),
        }
    }
    // What is the same needs fewest words.
    groups.sort_by_key(|group| !group.same);
    groups
}

/// Whether two checks say the same; where they looked is another place for each candidate.
fn equal(a: Option<&Check>, b: Option<&Check>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.kind == b.kind && a.expected == b.expected && a.found == b.found && a.fix == b.fix,
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// `a`, `a and b`, `a, b and c`, `a, b and 3 more`.
pub(super) fn listed<T: AsRef<str>>(names: &[T], most: usize) -> String {
    let shown = if names.len() > most { most.saturating_sub(1).max(1) } else { names.len() };
    let mut words: Vec<String> = names.iter().take(shown).map(|name| name.as_ref().to_owned()).collect();
    if names.len() > shown {
        words.push(format!("{} more", names.len() - shown));
    }
    match words.pop() {
        Some(last) if !words.is_empty() => format!("{} and {last}", words.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// What is wrong when a check of this kind fails.
pub(super) fn complaint(kind: CheckKind) -> &'static str {
    match kind {
        CheckKind::Found => "no evidence",
        CheckKind::Envelope => "not a readable envelope",
        CheckKind::Signature => "no valid signature",
        CheckKind::Payload => "not the kind of document that is asked for",
        CheckKind::Step => "evidence of another step",
        CheckKind::Functionary => "signed by somebody who may not",
        CheckKind::Log => "in no transparency log that is trusted",
        CheckKind::Certificate => "the signer's certificate is not of this run, or in no log",
        CheckKind::Time => "not signed at a proven time that is allowed",
        CheckKind::Command => "the command did not end as it should",
        CheckKind::Attestations => "attestations are missing",
        CheckKind::Age => "too old",
        CheckKind::Rules => "a rule denies",
        CheckKind::Subject => "about something else",
        CheckKind::Artifacts => "files differ between steps",
        CheckKind::Product => "not proven to come from an accepted step",
        CheckKind::Validity => "not in force",
        CheckKind::Version => "an old version",
        CheckKind::Support => "cannot be judged",
    }
}

/// What would change the outcome: what the check says, or what helps with checks of its kind.
pub(super) fn advice(check: &Check) -> Cow<'_, str> {
    if !check.fix.is_empty() {
        return Cow::Borrowed(&check.fix);
    }
    Cow::Borrowed(match check.kind {
        CheckKind::Found => {
            "hand over the evidence with --attestations FILE, or name the archive that holds it with --archive"
        }
        CheckKind::Envelope => {
            "hand over the envelope as it was written when it was signed; what was cut or edited cannot be mended"
        }
        CheckKind::Signature => {
            "hand over the envelope as it was signed; if it is, the key that signed it is not one that the policy knows"
        }
        CheckKind::Payload => "hand over what the policy asks for: an envelope of this payload type and form",
        CheckKind::Step => "run the step under the name that the policy has for it: affiant run --step NAME",
        CheckKind::Functionary => {
            "have it signed by a functionary of the policy, or have the policy's owner add this one"
        }
        CheckKind::Log => "sign it with a transparency log of the policy, or name the bundle that has its entry",
        CheckKind::Certificate => "sign the evidence in the very job that made it",
        CheckKind::Time => {
            "have the signature timestamped by an authority of the policy, within the time that the policy allows"
        }
        CheckKind::Command => {
            "mend what made the command fail and run the step again: evidence of a failed command is never accepted"
        }
        CheckKind::Attestations => "run the step again with the missing attestors: affiant run -a NAME",
        CheckKind::Age => "run the step again, so that its evidence is new",
        CheckKind::Rules => {
            "change what the rule complains of and run the step again; if the rule is wrong, its owner is the policy's"
        }
        CheckKind::Subject => {
            "verify the artifact that this evidence is about, or hand over the evidence of this artifact"
        }
        CheckKind::Artifacts => "run the later step on the files of the earlier one, with nothing changed between them",
        CheckKind::Product => "verify the very file that an accepted step made, or run the step again",
        CheckKind::Validity => "use a policy that is in force: its owner has to renew and sign it",
        CheckKind::Version => "use the newest policy",
        CheckKind::Support => "use a version of affiant that can judge it, or have it taken out of the policy",
    })
}
