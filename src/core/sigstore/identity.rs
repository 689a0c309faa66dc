//! Who a certificate of Fulcio was given to, and who is wanted.
//!
//! A constraint is one of whole texts: a regular expression matches from the first to the last character, and so does a
//! pattern with `*`. Part of a name is never enough (`https://evil.example/?u=https://github.com/org/app`).
//!
//! Source: sigstore/fulcio, `docs/oid-info.md` and `docs/oidc.md`; sigstore-oci §7, §12.

use std::fmt::{self, Write as _};

use regex_automata::meta::Regex;

use crate::trust::Certificate;

/// Longest constraint, in bytes.
pub const MAX_PATTERN: usize = 4096;
/// Largest compiled regular expression, in bytes.
const MAX_COMPILED: usize = 1024 * 1024;
/// Characters of a name from a certificate that one sentence shows.
const SHOWN: usize = 512;

/// A claim that a certificate carries about the job behind it, and the flag that asks for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// The extension, as [`crate::trust::EXTENSIONS`] spells it.
    pub extension: &'static str,
    /// What it is, for the reader.
    pub about: &'static str,
}

const fn claim(flag: &'static str, extension: &'static str, about: &'static str) -> Claim {
    Claim { flag, extension, about }
}

/// Every claim with its flag: cosign's names for the old extensions of GitHub, affiant's for those of all providers.
pub const CLAIMS: [Claim; 21] = [
    claim(
        "certificate-github-workflow-trigger",
        "GithubWorkflowTrigger",
        "the event that started a workflow of GitHub",
    ),
    claim("certificate-github-workflow-sha", "GithubWorkflowSHA", "the commit of a workflow of GitHub"),
    claim("certificate-github-workflow-name", "GithubWorkflowName", "the name of a workflow of GitHub"),
    claim(
        "certificate-github-workflow-repository",
        "GithubWorkflowRepository",
        "the repository of a workflow of GitHub, `owner/name`",
    ),
    claim("certificate-github-workflow-ref", "GithubWorkflowRef", "the ref of a workflow of GitHub"),
    claim("source-repository", "SourceRepositoryURI", "the URL of the repository that was built"),
    claim("ref", "SourceRepositoryRef", "the ref that was built, `refs/heads/…` or `refs/tags/…`"),
    claim("source-digest", "SourceRepositoryDigest", "the commit that was built"),
    claim("source-repository-id", "SourceRepositoryIdentifier", "the number of the repository"),
    claim("source-owner", "SourceRepositoryOwnerURI", "the URL of the repository's owner"),
    claim("source-owner-id", "SourceRepositoryOwnerIdentifier", "the number of the repository's owner"),
    claim("visibility", "SourceRepositoryVisibilityAtSigning", "whether the repository was public when it was signed"),
    claim("trigger", "BuildTrigger", "the event that started the job"),
    claim("run", "RunInvocationURI", "the URL of the job"),
    claim("runner-environment", "RunnerEnvironment", "where the job ran: the provider's machine or the user's own"),
    claim("build-signer", "BuildSignerURI", "the URL of the build instructions that asked for the certificate"),
    claim("build-signer-digest", "BuildSignerDigest", "their commit"),
    claim("build-config", "BuildConfigURI", "the URL of the build instructions that started the job"),
    claim("build-config-digest", "BuildConfigDigest", "their commit"),
    claim("deployment-environment", "DeploymentEnvironment", "the environment that was deployed to"),
    claim("token-subject", "Subject", "the subject of the token"),
];

/// The claim that a flag asks for.
pub fn claim_of(flag: &str) -> Option<&'static Claim> {
    CLAIMS.iter().find(|claim| claim.flag == flag)
}

/// The name that such a flag has at the gate, where `--image-` stands before all that is about the signer of an image.
pub fn gate_flag(flag: &str) -> String {
    match flag {
        ISSUER_FLAG => "image-issuer".to_owned(),
        "certificate-oidc-issuer-regexp" => "image-issuer-regexp".to_owned(),
        _ => format!("image-{}", flag.strip_prefix("certificate-").unwrap_or(flag)),
    }
}

/// A constraint that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing is asked for.
    #[error("it is empty, and would say nothing")]
    Empty,
    /// Longer than [`MAX_PATTERN`].
    #[error("it has {size} bytes; {MAX_PATTERN} are read")]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// No regular expression.
    #[error("it is no regular expression: {reason}")]
    Regex {
        /// Why.
        reason: String,
    },
    /// Nothing says whose certificate is wanted.
    #[error("nothing says whose certificate is wanted")]
    NoSubject,
    /// Nothing says who must have vouched for the signer.
    #[error("nothing says which issuer must have vouched for the signer")]
    NoIssuer,
}

/// A constraint on a whole text.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Exact,
    Matching(Box<Regex>),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && matches!(self.kind, Kind::Exact) == matches!(other.kind, Kind::Exact)
    }
}

impl Pattern {
    /// This very text.
    pub fn exact(text: &str) -> Result<Self, IdentityError> {
        Ok(Self { text: checked(text)?.to_owned(), kind: Kind::Exact })
    }

    /// A regular expression (RE2's syntax) that matches the whole text.
    pub fn regex(text: &str) -> Result<Self, IdentityError> {
        let expression = checked(text)?;
        // By itself first, so that what is put around it cannot close what it leaves open.
        compiled(expression)?;
        let kind = Kind::Matching(Box::new(compiled(&format!(r"\A(?:{expression})\z"))?));
        Ok(Self { text: text.to_owned(), kind })
    }

    /// A pattern: `*` stands for any characters but `/` and `@`, `**` for any characters, `?` for one that is neither
    /// `/` nor `@`. Everything else stands for itself.
    pub fn glob(text: &str) -> Result<Self, IdentityError> {
        let mut expression = String::from(r"(?s)\A");
        let mut rest = checked(text)?.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '*' if rest.peek() == Some(&'*') => {
                    rest.next();
                    expression.push_str(".*");
                }
                '*' => expression.push_str("[^/@]*"),
                '?' => expression.push_str("[^/@]"),
                other if other.is_ascii_alphanumeric() || !other.is_ascii() => expression.push(other),
                other => {
                    let _ = write!(expression, r"\x{{{:x}}}", u32::from(other));
                }
            }
        }
        expression.push_str(r"\z");
        Ok(Self { text: text.to_owned(), kind: Kind::Matching(Box::new(compiled(&expression)?)) })
    }

    /// Whether a whole text is what is wanted.
    pub fn matches(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Exact => self.text == text,
            Kind::Matching(regex) => regex.is_match(text),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn checked(text: &str) -> Result<&str, IdentityError> {
    match text.len() {
        0 => Err(IdentityError::Empty),
        size if size > MAX_PATTERN => Err(IdentityError::TooLong { size }),
        _ => Ok(text),
    }
}

fn compiled(expression: &str) -> Result<Regex, IdentityError> {
    let config = Regex::config().nfa_size_limit(Some(MAX_COMPILED)).hybrid_cache_capacity(MAX_COMPILED);
    Regex::builder().configure(config).build(expression).map_err(|error| {
        let reason = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
        // The syntax error draws a picture over several lines; its last says what is wrong.
        let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        IdentityError::Regex { reason: last }
    })
}

/// Whose certificates count.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The signer's name must match each of them.
    subjects: Vec<(&'static str, Pattern)>,
    /// The issuer must match each of them.
    issuers: Vec<(&'static str, Pattern)>,
    /// Claims that must be there, with their values.
    claims: Vec<(&'static Claim, String)>,
}

/// Flag of the signer's name, as cosign spells it.
pub const SUBJECT_FLAG: &str = "certificate-identity";
/// Flag of the issuer, as cosign spells it.
pub const ISSUER_FLAG: &str = "certificate-oidc-issuer";

impl Wanted {
    /// Constraints on the signer's name and the issuer, each with the flag that gave it: all must hold, and there is one
    /// of each at least.
    pub fn new(
        subjects: Vec<(&'static str, Pattern)>,
        issuers: Vec<(&'static str, Pattern)>,
    ) -> Result<Self, IdentityError> {
        if subjects.is_empty() {
            return Err(IdentityError::NoSubject);
        }
        if issuers.is_empty() {
            return Err(IdentityError::NoIssuer);
        }
        Ok(Self { subjects, issuers, claims: Vec::new() })
    }

    /// This very signer, by this very issuer.
    pub fn exactly(subject: &str, issuer: &str) -> Result<Self, IdentityError> {
        Self::new(vec![(SUBJECT_FLAG, Pattern::exact(subject)?)], vec![(ISSUER_FLAG, Pattern::exact(issuer)?)])
    }

    /// Demands a claim as well.
    pub fn claim(mut self, claim: &'static Claim, value: &str) -> Result<Self, IdentityError> {
        self.claims.push((claim, checked(value)?.to_owned()));
        Ok(self)
    }

    /// The constraints with their flags, for the record of a check.
    pub fn constraints(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let patterns = self.subjects.iter().chain(&self.issuers).map(|(flag, pattern)| (*flag, pattern.text()));
        patterns.chain(self.claims.iter().map(|(claim, value)| (claim.flag, value.as_str())))
    }

    /// Whether a certificate is of somebody wanted. The certificate must have been proven first.
    pub fn check(&self, leaf: &Certificate) -> Result<Identity, Box<Mismatch>> {
        let found = match Identity::of(leaf) {
            Ok(found) => found,
            Err(reason) => {
                return Err(Box::new(Mismatch {
                    found: Identity::nobody(leaf),
                    problems: vec![Problem::Name { reason }],
                }));
            }
        };
        let mut problems = Vec::new();
        let mut compare = |flag: &'static str, wanted: &str, value: Option<&str>, holds: bool| {
            if !holds {
                problems.push(Problem::Value { flag, wanted: wanted.to_owned(), found: value.map(str::to_owned) });
            }
        };
        for (flag, pattern) in &self.subjects {
            compare(flag, pattern.text(), Some(&found.subject), pattern.matches(&found.subject));
        }
        for (flag, pattern) in &self.issuers {
            let issuer = found.issuer.as_deref();
            compare(flag, pattern.text(), issuer, issuer.is_some_and(|issuer| pattern.matches(issuer)));
        }
        for (claim, wanted) in &self.claims {
            let value = leaf.extension(claim.extension);
            compare(claim.flag, wanted, value, value == Some(wanted.as_str()));
        }
        if problems.is_empty() { Ok(found) } else { Err(Box::new(Mismatch { found, problems })) }
    }
}

/// Who a certificate was given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The one name: an e-mail address, a URI, or a user's name.
    pub subject: String,
    /// Who vouched for the signer: extension 8, else 1.
    pub issuer: Option<String>,
    /// All claims that have a flag, in the order of [`CLAIMS`].
    pub claims: Vec<(&'static Claim, String)>,
}

impl Identity {
    /// What a certificate says; it has exactly one name.
    pub fn of(leaf: &Certificate) -> Result<Self, String> {
        Ok(Self { subject: leaf.signer_name()?, ..Self::nobody(leaf) })
    }

    /// The same of one with any number of names: the first of them, or what else it is called.
    pub(super) fn loosely(leaf: &Certificate) -> Self {
        let subject = leaf.signer_name().unwrap_or_else(|_| leaf.label());
        Self { subject, ..Self::nobody(leaf) }
    }

    fn nobody(leaf: &Certificate) -> Self {
        let claims = CLAIMS.iter().filter_map(|claim| Some((claim, leaf.extension(claim.extension)?.to_owned())));
        let issuer = leaf.extension("Issuer").map(str::to_owned);
        Self { subject: String::new(), issuer, claims: claims.collect() }
    }

    /// The value of a claim.
    pub fn claim(&self, flag: &str) -> Option<&str> {
        self.claims.iter().find(|(claim, _)| claim.flag == flag).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", shown(&self.subject))?;
        match &self.issuer {
            Some(issuer) => write!(f, " by the issuer `{}`", shown(issuer)),
            None => f.write_str(" by no issuer that it names"),
        }
    }
}

/// What of a certificate is not as it was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not have exactly one name.
    Name {
        /// What it has.
        reason: String,
    },
    /// A value is another, or not there.
    Value {
        /// The flag that asked for it.
        flag: &'static str,
        /// What was asked for.
        wanted: String,
        /// What is there.
        found: Option<String>,
    },
}

impl Problem {
    /// The same with the names that flags have elsewhere.
    fn told(&self, name: &dyn Fn(&str) -> String) -> String {
        match self {
            Self::Name { reason } => reason.clone(),
            Self::Value { flag, wanted, found: Some(found) } => {
                format!("--{} wants `{}`, and it is `{}`", name(flag), shown(wanted), shown(found))
            }
            Self::Value { flag, wanted, found: None } => {
                format!("--{} wants `{}`, and the certificate does not say", name(flag), shown(wanted))
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(&|flag| flag.to_owned()))
    }
}

/// A certificate is proven, and of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signed by {found}: {}", list(.problems))]
pub struct Mismatch {
    /// Whose it is.
    pub found: Identity,
    /// What is not as it was wanted; at least one.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Mismatch {
    /// Who it is and what is not as it was wanted, with the names of the gate's flags.
    pub fn told_at_the_gate(&self) -> String {
        let problems: Vec<String> = self.problems.iter().map(|problem| problem.told(&gate_flag)).collect();
        format!("signed by {}: {}", self.found, problems.join("; "))
    }

    /// The flags, with values, that this certificate would pass: name and issuer, and the claims that were asked for.
    /// Nothing where there are none.
    pub fn accepting(&self) -> Vec<(&'static str, &str)> {
        let Some(issuer) = self.found.issuer.as_deref().filter(|_| !self.found.subject.is_empty()) else {
            return Vec::new();
        };
        let mut flags = vec![(SUBJECT_FLAG, self.found.subject.as_str()), (ISSUER_FLAG, issuer)];
        for problem in &self.problems {
            if let Problem::Value { flag, found: Some(found), .. } = problem
                && claim_of(flag).is_some()
            {
                flags.push((flag, found));
            }
        }
        flags
    }
}

/// A text out of a certificate, cut for a sentence; who prints it escapes what moves a terminal.
fn shown(text: &str) -> String {
    let mut cut: String = text.escape_debug().take(SHOWN).collect();
    if text.len() > SHOWN {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::EXTENSIONS;

    #[test]
    fn every_extension_has_a_flag() {
        for (name, _) in EXTENSIONS {
            let flags = CLAIMS.iter().filter(|claim| claim.extension == name).count();
            assert_eq!(flags, usize::from(name != "Issuer"), "{name}");
        }
        let mut flags: Vec<_> = CLAIMS.iter().map(|claim| claim.flag).collect();
        flags.sort_unstable();
        flags.dedup();
        assert_eq!(flags.len(), CLAIMS.len());
    }

    /// user-needs row 24: what matches a part, a prefix or another workflow does not count.
    #[test]
    fn patterns_match_whole_texts() {
        let good = "https://github.com/org/app/.github/workflows/release.yml@refs/heads/main";
        let evil = [
            "https://evil.example/?u=https://github.com/org/app/.github/workflows/release.yml@refs/heads/main",
            "https://github.com/org/app/.github/workflows/release.yml@evil",
            "https://github.com/org/app/.github/workflows/release.yml@refs/heads/main-evil",
            "https://github.com/org/app-evil/.github/workflows/release.yml@refs/heads/main",
            "https://github.com/org-evil/app/.github/workflows/release.yml@refs/heads/main",
            "https://github.com/org/app/.github/workflows/other.yml@refs/heads/main",
            "https://github.com/org/app/.github/workflows/release.yml@refs/heads/main\n",
            "evil\nhttps://github.com/org/app/.github/workflows/release.yml@refs/heads/main",
            "https://githubxcom/org/app/.github/workflows/release.yml@refs/heads/main/x",
            "",
        ];
        let patterns = [
            Pattern::exact(good),
            Pattern::regex(r"https://github\.com/org/app/\.github/workflows/release\.yml@refs/heads/main"),
            Pattern::regex(r"^https://github\.com/org/app/\.github/workflows/release\.yml@refs/(heads|tags)/main$"),
            Pattern::regex(r"nothing|https://github\.com/org/app/\.github/workflows/release\.yml@refs/heads/main"),
            Pattern::regex(
                r"https://github.com/org/app/.github/workflows/release.yml@refs/heads/mai|https://github.com/org/app/.github/workflows/release.yml@refs/heads/main",
            ),
            Pattern::glob("https://github.com/org/app/.github/workflows/release.yml@refs/heads/*ain"),
            Pattern::glob("https://github.com/org/?pp/.github/workflows/rel*.yml@refs/*/main"),
        ];
        for pattern in patterns {
            let pattern = pattern.expect("a pattern");
            assert!(pattern.matches(good), "{}", pattern.text());
            for bad in evil {
                assert!(!pattern.matches(bad), "{} matches {bad}", pattern.text());
            }
        }
        for part in ["github", "org/app", "https://github.com/org/app/", "main$", "^https://github.com/org"] {
            assert!(!Pattern::regex(part).expect("an expression").matches(good), "{part}");
            assert!(!Pattern::glob(part).expect("a pattern").matches(good), "{part}");
        }
        let people = Pattern::glob("*@example.com").expect("a pattern");
        assert!(people.matches("dev@example.com") && !people.matches("dev@evil.example@example.com"));
        assert!(!people.matches("https://evil.example/@example.com"));
        assert!(Pattern::glob("**@example.com").expect("a pattern").matches("https://evil.example/@example.com"));
        // The dot and what else has a meaning elsewhere stand for themselves.
        let literal = Pattern::glob("a.b+[c](d)|e^$\\").expect("a pattern");
        assert!(literal.matches("a.b+[c](d)|e^$\\") && !literal.matches("axb+[c](d)|e^$\\"));
    }

    #[test]
    fn what_would_say_nothing_or_break_out_is_refused() {
        for make in [Pattern::exact, Pattern::regex, Pattern::glob] {
            assert_eq!(make(""), Err(IdentityError::Empty));
            assert!(matches!(make(&"a".repeat(MAX_PATTERN + 1)), Err(IdentityError::TooLong { .. })));
        }
        for bad in ["(", "a)|(?:b", "[", "a{1000}{1000}{1000}", "(?x)a # open", "*"] {
            assert!(matches!(Pattern::regex(bad), Err(IdentityError::Regex { .. })), "{bad}");
        }
        let one = || Pattern::exact("a").expect("a pattern");
        assert!(matches!(Wanted::new(Vec::new(), vec![("i", one())]), Err(IdentityError::NoSubject)));
        assert!(matches!(Wanted::new(vec![("s", one())], Vec::new()), Err(IdentityError::NoIssuer)));
        let wanted = Wanted::exactly("a", "b").expect("constraints");
        assert!(matches!(wanted.claim(&CLAIMS[0], ""), Err(IdentityError::Empty)));
    }
}
