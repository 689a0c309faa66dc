//! Sigstore's services: a certificate authority, logs, timestamp authorities.
//!
//! Only addresses that are named are asked, over `https` (or `http` to this machine), and no redirect is followed: what an
//! answer says about where to look next is taken as a path of the same service only. What a service does not answer is
//! asked again within one budget of time for all questions together; what it refuses is not.
//!
//! Source: sigstore/fulcio `fulcio.proto`, sigstore/rekor `openapi.yaml`, sigstore/rekor-tiles, RFC 3161; sigstore-oci §7–10.

mod buildkite;
mod fulcio;
pub mod login;
mod rekor;
mod tsa;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use affiant_core::keyless::fulcio::{Form, Issued, words_of};
use affiant_core::keyless::rekor::{LogEntry, Submission, Version};
use affiant_core::keyless::stamp::Stamped;
use affiant_core::keyless::token::IdentityToken;
use affiant_core::keyless::{AgentJob, ServiceError, Services, Whose};
use affiant_core::sign::PrivateKey;
use jiff::fmt::rfc2822::DateTimeParser;
use ureq::http::Method;
use ureq::http::header::{DATE, RETRY_AFTER};
use zeroize::Zeroizing;

use crate::http::exchange::{Answer, NoAnswer, Question};
use crate::http::{Client, Settings};

/// How long a service may take to answer one question. Logs answer when the entry is in their tree, which may take long.
const ANSWER: Duration = Duration::from_secs(60);
/// The pause before the second attempt; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest refusal that is read, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// The services, and how long they may be asked again.
pub struct Sigstore {
    client: Client,
    outages: Mutex<Outages>,
}

/// The time for outages: one budget for all questions together. Those that are asked at the same time wait through the
/// same outage, which counts once.
struct Outages {
    left: Duration,
    /// How many questions are being asked again, and since when the first of them is asked.
    waiting: u32,
    since: Option<Instant>,
}

impl Outages {
    fn left(&self) -> Duration {
        self.left.saturating_sub(self.since.map(|since| since.elapsed()).unwrap_or_default())
    }

    /// A question that was first asked at `begun` is asked again.
    fn begin(&mut self, begun: Instant) {
        self.waiting += 1;
        self.since = Some(self.since.map_or(begun, |since| since.min(begun)));
    }

    /// It has an answer, or is given up.
    fn end(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            (self.left, self.since) = (self.left(), None);
        }
    }
}

/// A question that may be asked again.
struct Ask<'a> {
    method: Method,
    url: &'a str,
    content_type: &'static str,
    accept: &'static str,
    /// The whole header `Authorization`.
    authorization: Option<String>,
    body: &'a [u8],
}

/// What a service answered with a status that is no outage.
struct Told {
    status: u16,
    place: String,
    location: Option<String>,
    sct: Option<String>,
    body: Vec<u8>,
    /// An attempt before this one may have been heard.
    is_repeated: bool,
}

impl Told {
    /// The error of a refusal.
    fn refusal(&self, words: &str) -> ServiceError {
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        let reason = format!("answers {}{words}", self.status);
        ServiceError { is_refusal: (400..500).contains(&self.status), ..ServiceError::bad(self.place.clone(), reason) }
    }

    fn bad(&self, reason: impl std::fmt::Display) -> ServiceError {
        ServiceError::bad(self.place.clone(), reason)
    }
}

impl Sigstore {
    /// Services that are reached with these settings; what does not answer is asked again for `retry_for` in all.
    pub fn new(settings: Settings, retry_for: Duration) -> Self {
        let client = Client::new(Settings { attempt: ANSWER, keep: true, ..settings });
        Self { client, outages: Mutex::new(Outages { left: retry_for, waiting: 0, since: None }) }
    }

    fn ask(&self, ask: &Ask<'_>, limit: usize) -> Result<Told, ServiceError> {
        let begun = Instant::now();
        let left = self.outages().left();
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (failed, said) = match self.once(ask) {
                Ok(answer) if is_outage(answer.status) => {
                    let wait = answer.header(RETRY_AFTER.as_str());
                    let said = wait.and_then(|wait| asked_for(wait, answer.header(DATE.as_str())));
                    let (place, status) = (answer.place.clone(), answer.status);
                    let reason = format!("answers {status}: it is busy or broken");
                    (ServiceError { is_outage: true, ..ServiceError::bad(place, reason) }, said)
                }
                Ok(answer) => match Self::told(answer, limit, attempts > 1) {
                    Ok(told) => {
                        self.end_outage(attempts);
                        return Ok(told);
                    }
                    Err(error) => (error, None),
                },
                Err(failed) => {
                    let NoAnswer { place, reason, again, .. } = failed;
                    (ServiceError { is_outage: again, ..ServiceError::bad(place, reason) }, None)
                }
            };
            let rest = left.saturating_sub(begun.elapsed());
            let wait = wait_for(pause, said, rest);
            if !failed.is_outage || rest.is_zero() || wait > rest {
                self.end_outage(attempts);
                let times = if attempts > 1 { format!(" ({attempts} attempts)") } else { String::new() };
                return Err(ServiceError { reason: format!("{}{times}", failed.reason), ..failed });
            }
            if attempts == 1 {
                self.outages().begin(begun);
            }
            std::thread::sleep(wait);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an outage lasted from what all of them may: the command that runs meanwhile costs nothing.
    fn end_outage(&self, attempts: u32) {
        if attempts > 1 {
            self.outages().end();
        }
    }

    fn once(&self, ask: &Ask<'_>) -> Result<Answer, NoAnswer> {
        let mut bytes = ask.body;
        let mut headers = vec![("accept", ask.accept.to_owned())];
        let has_body = ask.method != Method::GET;
        if has_body {
            headers.push(("content-type", ask.content_type.to_owned()));
        }
        headers.extend(ask.authorization.iter().map(|value| ("authorization", value.clone())));
        let body: Option<(u64, &mut dyn std::io::Read)> =
            has_body.then_some((ask.body.len() as u64, &mut bytes as &mut dyn std::io::Read));
        let question = Question {
            method: ask.method.clone(),
            url: ask.url,
            headers,
            more: &[],
            body,
            expected: 0,
            repeats: false,
        };
        self.client.exchange(question)
    }

    /// Asks once: what a question does may be done when its answer is lost.
    fn ask_once(&self, ask: &Ask<'_>, limit: usize) -> Result<Told, ServiceError> {
        match self.once(ask) {
            Ok(answer) if is_outage(answer.status) => {
                let reason = format!("answers {}: it is busy or broken", answer.status);
                Err(ServiceError { is_outage: true, ..ServiceError::bad(answer.place, reason) })
            }
            Ok(answer) => Self::told(answer, limit, false),
            Err(NoAnswer { place, reason, again, .. }) => {
                Err(ServiceError { is_outage: again, ..ServiceError::bad(place, reason) })
            }
        }
    }

    fn told(answer: Answer, limit: usize, is_repeated: bool) -> Result<Told, ServiceError> {
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let (location, sct) = (header("location"), header("sct"));
        let (status, place) = (answer.status, answer.place.clone());
        if (300..400).contains(&status) {
            return Err(ServiceError::bad(place, format!("answers {status}, a redirect; redirects are not followed")));
        }
        let limit = if status < 300 { limit } else { MAX_REFUSAL };
        let body = answer.bytes(limit).map_err(|reason| ServiceError {
            is_outage: !reason.starts_with("answers with more"),
            ..ServiceError::bad(place.clone(), reason)
        })?;
        Ok(Told { status, place, location, sct, body, is_repeated })
    }
}

/// Whether a status says that the same question may be answered later. 408 and 499: what stands before a service has given
/// up the question, as does a Rekor 2 whose batch was broken off by another's. Not 501: what is not there will not come.
fn is_outage(status: u16) -> bool {
    matches!(status, 408 | 429 | 499) || (status >= 500 && status != 501)
}

/// How long a service asks to be left alone (RFC 9110 §10.2.3): seconds, or a date, which is compared with what the
/// service says that the time is, else with this machine's.
fn asked_for(wait: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = wait.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = |text: &str| DateTimeParser::new().parse_timestamp(text.trim()).ok();
    let now = date.and_then(time).unwrap_or_else(jiff::Timestamp::now);
    // What is over already says no more than that it may be asked again.
    Some(time(wait)?.duration_since(now).try_into().unwrap_or(Duration::ZERO))
}

/// How long is waited before the next attempt: the pause that grows, or as long as the service asks; what is left where it
/// asks for more. Between half of a pause and all of it, so that many jobs do not come back at once.
fn wait_for(pause: Duration, said: Option<Duration>, rest: Duration) -> Duration {
    let grown = pause.mul_f64(0.5 + 0.5 * random());
    match said {
        Some(said) => said.saturating_add(pause.mul_f64(0.5 * random())).max(grown).min(rest),
        None => grown,
    }
}

/// A number from 0 to 1 on which nothing rests.
fn random() -> f64 {
    f64::from(u16::try_from(RandomState::new().build_hasher().finish() & 0xffff).unwrap_or_default()) / 65536.0
}

impl Services for Sigstore {
    fn check(&self, url: &str) -> Result<(), ServiceError> {
        self.client.check(url).map_err(|(place, reason)| ServiceError::bad(place, reason))
    }

    fn certificate(
        &self,
        url: &str,
        form: Form,
        token: &IdentityToken,
        key: &PrivateKey,
    ) -> Result<Issued, ServiceError> {
        fulcio::certificate(self, url, form, token, key)
    }

    fn entry(&self, url: &str, version: Version, submission: &Submission<'_>) -> Result<LogEntry, ServiceError> {
        rekor::entry(self, url, version, submission)
    }

    fn existing(&self, url: &str, submission: &Submission<'_>, whose: Whose<'_>) -> Result<LogEntry, ServiceError> {
        rekor::tiled(self, url, submission, whose)
    }

    fn made(&self, url: &str, submission: &Submission<'_>) -> Result<Option<LogEntry>, ServiceError> {
        rekor::made(self, url, submission)
    }

    fn timestamp(&self, url: &str, message: &[u8]) -> Result<Stamped, ServiceError> {
        tsa::timestamp(self, url, message)
    }

    fn buildkite(&self, job: &AgentJob, audience: &str) -> Result<Zeroizing<String>, ServiceError> {
        buildkite::token(self, job, audience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_answered_later_is_an_outage() {
        for status in [408, 429, 499, 500, 502, 503, 504] {
            assert!(is_outage(status), "{status}");
        }
        for status in [200, 400, 401, 404, 409, 413, 501] {
            assert!(!is_outage(status), "{status}");
        }
    }

    #[test]
    fn services_say_how_long_to_wait_in_seconds_or_as_a_date() {
        let date = Some("Sun, 22 Nov 2026 10:00:00 GMT");
        for (wait, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 22 Nov 2026 10:01:30 GMT", Some(90)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(asked_for(wait, date), seconds.map(Duration::from_secs), "{wait}");
        }
        assert_eq!(asked_for("Sun, 06 Nov 1994 08:49:37 GMT", None), Some(Duration::ZERO));
    }

    #[test]
    fn nobody_is_stormed_whatever_it_asks_for() {
        let (second, rest) = (Duration::from_secs(1), Duration::from_secs(60));
        for _ in 0..100 {
            let soon = wait_for(second, Some(Duration::ZERO), rest);
            assert!(soon >= second / 2 && soon <= second, "{soon:?}");
            let told = wait_for(second, Some(second * 20), rest);
            assert!(told >= second * 20 && told < second * 21, "{told:?}");
            // More than is left: what is left, and then once more.
            assert_eq!(wait_for(second, Some(Duration::MAX), rest), rest);
            assert!(wait_for(rest * 4, None, rest) > rest);
        }
    }

    #[test]
    fn questions_that_wait_at_the_same_time_wait_through_one_outage() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the machine runs longer");
        let mut outages = Outages { left: Duration::from_secs(120), waiting: 0, since: None };
        (0..8).for_each(|_| outages.begin(ago(10)));
        outages.begin(ago(20));
        (0..9).for_each(|_| outages.end());
        let left = outages.left().as_secs();
        assert!((90..=100).contains(&left), "{left}");
        outages.begin(ago(30));
        assert!((60..=70).contains(&outages.left().as_secs()));
        outages.end();
        outages.begin(ago(100));
        outages.end();
        assert_eq!(outages.left(), Duration::ZERO);
    }
}
