//! What a rule will say, and why.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::image::Digest;
use crate::sigstore::TrustedRoot;

/// What a rule will say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It is not about this image.
    NotMatched,
    /// It admits it.
    Pass,
    /// Something in it is not judged here, and nothing else fails.
    NotJudged,
    /// It refuses it.
    Fail,
}

/// An image that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its name in the cluster, as a pod has it.
    pub name: &'a str,
    /// The manifest that the name leads to.
    pub digest: &'a Digest,
    /// Whether the name has the digest.
    pub is_pinned: bool,
    /// What time it is.
    pub now: Timestamp,
    /// What Kyverno gets from its TUF repository, where that is known.
    pub root: Option<&'a TrustedRoot>,
}

/// What a rule will say of an image, and why.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Kind and name of the policy.
    pub policy: String,
    /// Name of the rule.
    pub rule: String,
    /// The answer.
    pub answer: Answer,
    /// Whether a failure is reported only.
    pub audits: bool,
    /// What the rule looks for.
    pub looks_for: Vec<String>,
    /// What is there.
    pub found: BTreeSet<String>,
    /// Why it fails, or is not judged.
    pub reasons: Vec<String>,
    /// What would make it pass.
    pub fixes: BTreeSet<String>,
    /// What one should know besides.
    pub warnings: BTreeSet<String>,
}

/// One part of the answer.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Pass,
    Fail(String),
    NotJudged(String),
}

impl Part {
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Pass => Answer::Pass,
            Self::Fail(_) => Answer::Fail,
            Self::NotJudged(_) => Answer::NotJudged,
        }
    }
}

impl Outcome {
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.insert(text.into());
    }

    pub(super) fn fix(&mut self, text: impl Into<String>) {
        self.fixes.insert(text.into());
    }

    pub(super) fn take(&mut self, part: Part) {
        self.answer = self.answer.max(part.answer());
        match part {
            Part::Pass => {}
            Part::Fail(why) => self.reasons.push(why),
            Part::NotJudged(why) => self.reasons.push(format!("not judged: {why}")),
        }
    }
}
