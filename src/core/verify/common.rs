//! What a signer's certificate and the collection that it signed must have in common: repository, commit, run.
//!
//! A certificate of Sigstore's authority names the repository, commit and run of the job that asked for it. Where a policy
//! demands it, the evidence must be of that very job: else somebody who can get such a certificate for one commit could
//! sign evidence of another. Each attestation that says something of it must agree, and one at least must say it.
//!
//! Sources: sigstore/fulcio, `docs/oid-info.md`; wire-formats §3.5 to §3.7.

use serde_json::Value;

use super::accept::{Checks, Judged, fail};
use crate::evidence::CollectionView;
use crate::policy::{Match, Step};
use crate::trust::{SignerProof, distinct_identities};
use crate::verdict::{Check, CheckKind};

/// Values that are told in one text, and the longest.
const SHOWN: usize = 5;
const MAX_VALUE: usize = 200;
/// Schemes of the URLs of repositories.
const SCHEMES: [&str; 6] = ["https", "http", "ssh", "git", "git+ssh", "git+https"];
/// Digits of the two sorts of commit ids.
const COMMIT: [usize; 2] = [40, 64];

/// What one attestation says; one of the values must be the certificate's.
struct Said {
    /// The member that says it, `git.remotes`.
    by: &'static str,
    values: Vec<String>,
}

/// What is compared: a text, and which attempt of a run it is where that is said.
#[derive(Debug, PartialEq, Eq)]
struct Same {
    text: String,
    attempt: Option<String>,
}

impl Same {
    fn of(text: String) -> Self {
        Self { text, attempt: None }
    }

    /// The attempts must be the same where both say which it is.
    fn agrees(&self, other: &Self) -> bool {
        let attempts = self.attempt.as_ref().zip(other.attempt.as_ref());
        self.text == other.text && attempts.is_none_or(|(one, other)| one == other)
    }
}

/// Checks what the step demands of the certificates of those who count, as many as the threshold needs. Those who meet it
/// are handed on: no other demand may be met by a signature that does not count here.
pub(super) fn certificates<'a>(
    step: &Step,
    signers: &[&'a SignerProof],
    collection: &CollectionView<'_>,
    label: &str,
    checks: &mut Checks,
) -> Judged<Vec<&'a SignerProof>> {
    if step.matches.is_empty() {
        return Ok(signers.to_vec());
    }
    match agreeing(&step.matches, step.threshold, signers, collection) {
        Ok(fitting) => {
            checks.pass(CheckKind::Certificate, format!("its {} are the evidence's", words(&step.matches)));
            Ok(fitting)
        }
        Err((expected, found)) => fail(
            Check::failed(
                CheckKind::Certificate,
                format!("{expected} (steps.{}.certificateMatches)", step.name),
                found,
            )
            .at(label)
            .fix("sign the evidence in the very job that made it, with the attestors git and github or gitlab"),
        ),
    }
}

/// What a policy demands that those who signed an image have in common with the collection of the run that made it.
#[derive(Clone, Debug)]
pub(super) struct OfSigners {
    pub(super) matches: Vec<Match>,
    pub(super) threshold: usize,
    /// Those whose signatures of the image count.
    pub(super) signers: Vec<SignerProof>,
}

impl OfSigners {
    /// Whether this collection is of the very job that signed the image.
    pub(super) fn check(&self, collection: &CollectionView<'_>, label: &str) -> Result<(), Check> {
        let signers: Vec<&SignerProof> = self.signers.iter().collect();
        agreeing(&self.matches, self.threshold, &signers, collection).map(drop).map_err(|(expected, found)| {
            let expected = format!("{expected} who signed the image (images.certificateMatches)");
            Check::failed(CheckKind::Certificate, expected, found)
                .at(label)
                .fix("sign the image in the very job that built it, with the attestors git and github or gitlab")
        })
    }
}

fn words(matches: &[Match]) -> String {
    matches.iter().map(|what| what.word()).collect::<Vec<_>>().join(", ")
}

/// Those of whom certificate and collection agree in all of it, as many as the threshold needs; else what was expected of
/// the first who do not, and what was found.
fn agreeing<'a>(
    matches: &[Match],
    threshold: usize,
    signers: &[&'a SignerProof],
    collection: &CollectionView<'_>,
) -> Result<Vec<&'a SignerProof>, (String, String)> {
    let mut fitting: Vec<&'a SignerProof> = Vec::new();
    let mut failed = None;
    let said: Vec<(Match, Vec<Said>)> = matches.iter().map(|what| (*what, said(*what, collection))).collect();
    for signer in signers {
        match said.iter().try_for_each(|(what, said)| same(*what, signer, said)) {
            Ok(()) => fitting.push(signer),
            Err(reason) => failed = failed.or(Some(reason)),
        }
    }
    let count = distinct_identities(fitting.iter().copied());
    // A threshold is 1 or more; that nobody signed is never enough.
    if count > 0 && count >= threshold {
        return Ok(fitting);
    }
    let nobody = || (format!("{threshold} signers with such a certificate"), format!("{count} of them"));
    Err(failed.unwrap_or_else(nobody))
}

/// Whether certificate and evidence agree; else what was expected, and what was found.
fn same(what: Match, signer: &SignerProof, said: &[Said]) -> Result<(), (String, String)> {
    let (extension, normal): (&str, fn(&str) -> Option<Same>) = match what {
        Match::Repository => ("SourceRepositoryURI", |text| repository(text).map(Same::of)),
        Match::Commit => ("SourceRepositoryDigest", |text| commit(text).map(Same::of)),
        Match::Run => ("RunInvocationURI", run),
    };
    let Some(certificate) = signer.certificate() else {
        let found = format!("signed by the key {}, which has no certificate", signer.key_id);
        return Err((format!("a certificate that names the {what}"), found));
    };
    let Some(value) = certificate.extension(extension) else {
        let found = format!("the certificate of {} has no {extension}", certificate.label());
        return Err((format!("a certificate that names the {what}"), found));
    };
    let expected = format!("evidence of the {what} `{}`, which the certificate names ({extension})", cut(value));
    let Some(wanted) = normal(value) else {
        return Err((expected, format!("the certificate's `{}` is no {what} that can be compared", cut(value))));
    };
    if said.is_empty() {
        return Err((expected, format!("no attestation of the collection says of which {what} it is")));
    }
    for one in said {
        if !one.values.iter().any(|value| normal(value).is_some_and(|value| value.agrees(&wanted))) {
            let values: Vec<String> = one.values.iter().take(SHOWN).map(|value| format!("`{}`", cut(value))).collect();
            return Err((expected, format!("the collection says {} ({})", values.join(", "), one.by)));
        }
    }
    Ok(())
}

fn cut(text: &str) -> String {
    text.escape_debug().take(MAX_VALUE).collect()
}

/// What the attestations of a collection say of it; those that say nothing are left out.
fn said(what: Match, collection: &CollectionView<'_>) -> Vec<Said> {
    let mut all = Vec::new();
    for entry in &collection.attestations {
        let members: &[(&'static str, &[&str])] = match (entry.short_name(), what) {
            ("git", Match::Repository) => &[("git.remotes", &["remotes"])],
            ("git", Match::Commit) => &[("git.commithash", &["commithash"])],
            ("github", Match::Repository) => &[("github.projecturl", &["projecturl"])],
            ("github", Match::Commit) => &[("github.jwt.claims.sha", &["jwt", "claims", "sha"])],
            ("github", Match::Run) => &[("github.pipelineurl", &["pipelineurl"])],
            ("gitlab", Match::Repository) => &[("gitlab.projecturl", &["projecturl"])],
            ("gitlab", Match::Commit) => &[("gitlab.jwt.claims.sha", &["jwt", "claims", "sha"])],
            ("gitlab", Match::Run) => &[("gitlab.joburl", &["joburl"])],
            _ => continue,
        };
        let Ok(predicate) = serde_json::from_str::<Value>(entry.attestation.get()) else { continue };
        for (by, path) in members {
            let value = path.iter().try_fold(&predicate, |value, name| value.get(name));
            let values: Vec<String> = match value {
                Some(Value::String(text)) => vec![text.clone()],
                Some(Value::Array(list)) => list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
                _ => Vec::new(),
            };
            let mut values: Vec<String> = values.into_iter().filter(|value| !value.is_empty()).collect();
            if *by == "github.pipelineurl"
                && let Some(attempt) = attempt(&predicate)
            {
                for url in &mut values {
                    *url = with_attempt(url, &attempt);
                }
            }
            if !values.is_empty() {
                all.push(Said { by, values });
            }
        }
    }
    all
}

/// Which attempt of a run it was, as the token of GitHub says.
fn attempt(predicate: &Value) -> Option<String> {
    match predicate.pointer("/jwt/claims/run_attempt")? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The URL of an attempt, as a certificate names it; what is no number makes it one that nothing agrees with.
fn with_attempt(url: &str, attempt: &str) -> String {
    format!("{}/attempts/{attempt}", url.trim_end_matches('/'))
}

fn commit(text: &str) -> Option<String> {
    let is_one = COMMIT.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| text.to_ascii_lowercase())
}

/// `host/path` of a repository: `https://host/path.git`, `ssh://git@host/path` and `git@host:path` are the same one.
/// Letters of the host have no case, those of the path have.
fn repository(text: &str) -> Option<String> {
    let of_host = |host: &str| host.rsplit_once('@').map_or(host, |(_, host)| host).to_owned();
    let (host, path) = if let Some((scheme, rest)) = text.split_once("://") {
        let scheme = scheme.to_ascii_lowercase();
        if !SCHEMES.contains(&scheme.as_str()) {
            return None;
        }
        let (host, path) = rest.split_once('/')?;
        let host = of_host(host);
        let default = if scheme == "http" { ":80" } else { ":443" };
        let host = match host.split_once(':') {
            // A port of SSH is none of the repository's; one of the web belongs to the host.
            Some((host, _)) if !scheme.contains("http") => host.to_owned(),
            _ => host.strip_suffix(default).unwrap_or(&host).to_owned(),
        };
        (host, path)
    } else {
        let (host, path) = text.split_once(':')?;
        (of_host(host), path)
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    let is_plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['?', '#', '%', '\\']);
    let is_good = !host.is_empty() && !host.contains(['/', '?', '#']) && path.split('/').all(is_plain);
    is_good.then(|| format!("{}/{path}", host.to_ascii_lowercase()))
}

/// The URL of a run. In a certificate that of GitHub has `/attempts/N` behind it; `pipelineurl` has not.
fn run(text: &str) -> Option<Same> {
    let (scheme, rest) = text.split_once("://")?;
    if !["https", "http"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return None;
    }
    let (host, path) = rest.split_once('/')?;
    let path = path.trim_end_matches('/');
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (path, attempt) = match path.rsplit_once("/attempts/") {
        Some((run, number)) if is_number(number) => (run, Some(number.to_owned())),
        _ => (path, None),
    };
    let is_plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['?', '#', '%', '\\']);
    let is_good = !host.is_empty() && !host.contains('@') && path.split('/').all(is_plain);
    is_good.then(|| Same { text: format!("{}/{path}", host.to_ascii_lowercase()), attempt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_many_spellings() {
        let same = "gitlab.example.test/group/sub/project";
        for text in [
            "https://gitlab.example.test/group/sub/project",
            "https://gitlab.example.test/group/sub/project.git",
            "https://GitLab.example.test:443/group/sub/project/",
            "https://user@gitlab.example.test/group/sub/project.git/",
            "http://gitlab.example.test/group/sub/project",
            "ssh://git@gitlab.example.test:2222/group/sub/project.git",
            "git@gitlab.example.test:group/sub/project.git",
            "git@gitlab.example.test:/group/sub/project",
        ] {
            assert_eq!(repository(text).as_deref(), Some(same), "{text}");
        }
        for text in [
            "https://gitlab.example.test/group/sub/Project",
            "https://gitlab.example.test/group/project",
            "https://gitlab.example.test.evil.test/group/sub/project",
            "https://evil.test/gitlab.example.test/group/sub/project",
            "https://gitlab.example.test@evil.test/group/sub/project",
            "https://gitlab.example.test:8443/group/sub/project",
            "https://gitlab.example.test/group/sub/project.git.git",
            "https://gitlab.example.test/group/sub/project?x",
            "https://gitlab.example.test/group/x/../sub/project",
            "https://gitlab.example.test/group/sub%2fproject",
            "file:///gitlab.example.test/group/sub/project",
            "/gitlab.example.test/group/sub/project",
            "",
            "https://",
            "git@:x",
        ] {
            assert_ne!(repository(text).as_deref(), Some(same), "{text}");
        }
    }

    #[test]
    fn a_run_is_the_same_where_nobody_says_another_attempt() {
        let same = "github.com/o/r/actions/runs/17";
        for (text, attempt) in [
            ("https://github.com/o/r/actions/runs/17", None),
            ("https://github.com/o/r/actions/runs/17/", None),
            ("https://github.com/o/r/actions/runs/17/attempts/2", Some("2")),
        ] {
            let expected = Same { text: same.to_owned(), attempt: attempt.map(str::to_owned) };
            assert_eq!(run(text), Some(expected), "{text}");
        }
        for text in [
            "https://github.com/o/r/actions/runs/170",
            "https://github.com/o/r/actions/runs/17/attempts/",
            "https://github.com/o/r/actions/runs/17/attempts/x",
            "https://github.com/o/r/actions/runs/17/attempts/2/x",
            "https://x@github.com/o/r/actions/runs/17",
            "ssh://github.com/o/r/actions/runs/17",
            "17",
        ] {
            assert!(run(text).is_none_or(|one| one.text != same), "{text}");
        }
        let of = |attempt: Option<&str>| Same { text: same.to_owned(), attempt: attempt.map(str::to_owned) };
        for (one, other, agree) in [
            (None, None, true),
            (Some("2"), None, true),
            (None, Some("2"), true),
            (Some("2"), Some("2"), true),
            (Some("2"), Some("1"), false),
        ] {
            assert_eq!(of(one).agrees(&of(other)), agree, "{one:?} {other:?}");
        }
        let token = |claim: Value| serde_json::json!({"jwt": {"claims": {"run_attempt": claim}}});
        assert_eq!(attempt(&token("3".into())).as_deref(), Some("3"));
        assert_eq!(attempt(&token(3.into())).as_deref(), Some("3"));
        assert_eq!((attempt(&token(Value::Null)), attempt(&serde_json::json!({}))), (None, None));
        // What is no number agrees with no attempt, and with none that is not said.
        for odd in ["", "x", "2/../3"] {
            assert!(
                run(&with_attempt("https://github.com/o/r/actions/runs/17", odd)).is_none_or(|one| one.text != same)
            );
        }
        assert_eq!(commit(&"AB".repeat(20)), Some("ab".repeat(20)));
        assert_eq!((commit("ab"), commit(&"zz".repeat(20)), commit("")), (None, None, None));
    }
}
