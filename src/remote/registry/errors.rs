//! What answers of a registry mean that were not hoped for.

use affiant_core::image::RepositoryError;

use super::texts::said;
use super::{MAX_PAGE, Remote};
use crate::http::exchange::{Answer, NoAnswer};

/// Longest time that a registry may ask to be left alone for which is waited, in seconds.
const MAX_WAIT: u16 = 15;

impl Remote {
    pub(super) fn permission(&self, place: &str, reason: &str) -> RepositoryError {
        let reason = if self.registries.credentials.is_empty_for(&self.registry, &self.name) {
            let unread = match self.registries.credentials.unread() {
                [] => String::new(),
                [file, ..] => format!(
                    "; {} may not be read by this user: DOCKER_CONFIG names another folder, REGISTRY_AUTH_FILE another file",
                    file.display()
                ),
            };
            format!("{reason}; no password for {} is known (docker login {}){unread}", self.registry, self.registry)
        } else {
            reason.to_owned()
        };
        RepositoryError::Refused { place: place.to_owned(), reason, permission: true, again: None }
    }

    /// What an answer that was not hoped for means.
    pub(super) fn unexpected(&self, answer: Answer) -> RepositoryError {
        self.unexpected_unless(answer, &[])
    }

    /// The same; what a registry says with one of these codes may pass.
    pub(super) fn unexpected_unless(&self, answer: Answer, passing: &[&str]) -> RepositoryError {
        let (status, place, wait) = (answer.status, answer.place.clone(), answer.wait());
        let (codes, words) = answer.bytes(MAX_PAGE).ok().map(|body| said(&body)).unwrap_or_default();
        // A registry that says the proof that it was given would have it told to everybody who reads the job's log.
        let words = words.filter(|words| !self.registries.tokens.are_in(words));
        let said = words.map(|words| format!(": {words}")).unwrap_or_default();
        let again = |reason: String, seconds: u64| {
            let (place, again) = (place.clone(), u16::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_WAIT));
            RepositoryError::Refused { place, reason, permission: false, again }
        };
        match status {
            429 | 502..=504 => {
                let wait = wait.unwrap_or_default().as_secs();
                let when = match wait {
                    0 => "try again later".to_owned(),
                    seconds => format!("it asks to be left alone for {seconds} s; try again then"),
                };
                again(format!("answers {status}{said}: it is busy or down; {when}"), wait)
            }
            500 => again(format!("answers 500{said}"), 0),
            400 | 404 | 416 if codes.iter().any(|code| passing.contains(&code.as_str())) => {
                again(format!("answers {status}{said}"), 0)
            }
            401 | 403 => self.permission(&place, &format!("answers {status}{said}")),
            413 => Self::refused(
                &place,
                format!("answers 413{said}: it is too much at once; `--upload-chunk 50` sends pieces"),
            ),
            _ => Self::refused(&place, format!("answers {status}{said}")),
        }
    }
}

/// What it means that nothing came back.
pub(super) fn no_answer(failed: &NoAnswer) -> RepositoryError {
    let hint = if failed.tls { "; a registry without TLS is named with --allow-http-registry" } else { "" };
    RepositoryError::Refused {
        place: failed.place.clone(),
        reason: format!("{}{hint}", failed.reason),
        permission: false,
        // What was asked several times already has had its time.
        again: (failed.again && failed.attempts == 1).then_some(0),
    }
}
