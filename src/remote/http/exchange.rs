//! Questions of any method, with bodies of any length, for protocols that need more than one answer 200.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderMap, Method, Request, Response};
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use super::{ATTEMPTS, Client, FIRST_PAUSE, Failed, place, proxy};

/// The slowest body that is waited for, in bytes per second: slower ones end with an error.
const SLOWEST: u64 = 32 * 1024;
/// How long the other side may be silent within a body.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that the other side has looked at at once.
const LITTLE: u64 = 1 << 20;
/// How long it may take to look at more, or at what it was given in parts.
const ANSWER: Duration = Duration::from_secs(300);

/// What is asked.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    /// Names in small letters, and values; one that is no header's value ends the question.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Headers of the user.
    pub(crate) more: &'a [(String, String)],
    /// Length and bytes of what is sent.
    pub(crate) body: Option<(u64, &'a mut (dyn Read + 'a))>,
    /// About how many bytes will come.
    pub(crate) expected: u64,
    /// Whether asking it twice does no harm although it is neither GET nor HEAD.
    pub(crate) repeats: bool,
}

/// What came back, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Body,
    /// What was asked, as it may be shown.
    pub(crate) place: String,
}

/// Why nothing came back.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    /// What was asked, as it may be shown.
    pub(crate) place: String,
    /// Why, as a clause.
    pub(crate) reason: String,
    /// Whether the other side may not speak TLS.
    pub(crate) tls: bool,
    /// Whether asking again may help.
    pub(crate) again: bool,
    /// How often it was asked.
    pub(crate) attempts: u32,
}

impl Client {
    /// Asks; what can be asked again is, after a broken connection and where the other side is busy.
    pub(crate) fn exchange(&self, mut question: Question<'_>) -> Result<Answer, NoAnswer> {
        let uri = self.permitted(question.url).map_err(|(place, reason)| NoAnswer {
            place,
            reason,
            tls: false,
            again: false,
            attempts: 0,
        })?;
        let shown = place(&uri);
        let repeats =
            question.body.is_none() && (question.repeats || matches!(question.method, Method::GET | Method::HEAD));
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (failed, busy) = match self.once(&uri, &mut question) {
                Ok(answer) if matches!(answer.status, 429 | 502..=504) => {
                    let reason = format!("answers {}: it is busy or down; try again later", answer.status);
                    (Failed { reason, again: true, wait: answer.wait() }, Some(answer))
                }
                Ok(answer) => return Ok(answer),
                Err(failed) => (failed, None),
            };
            let wait = failed.wait.unwrap_or(pause);
            if !failed.again
                || !repeats
                || attempts == ATTEMPTS
                || begun.elapsed().saturating_add(wait) > self.settings.whole
            {
                if let Some(answer) = busy {
                    return Ok(answer);
                }
                let times = if attempts > 1 { format!(" ({attempts} attempts)") } else { String::new() };
                let tls = failed.reason.starts_with("TLS") || failed.reason.contains("certificate");
                return Err(NoAnswer {
                    place: shown,
                    reason: format!("{}{times}", failed.reason),
                    tls,
                    again: failed.again,
                    attempts,
                });
            }
            std::thread::sleep(wait);
            pause *= 2;
        }
    }

    fn once(&self, uri: &ureq::http::Uri, question: &mut Question<'_>) -> Result<Answer, Failed> {
        let agent = self.agent(uri).map_err(Failed::finally)?;
        let proxy = proxy::to(uri, &self.settings).map_err(Failed::finally)?;
        let mut request = Request::builder().method(question.method.clone()).uri(uri.clone());
        for (name, value) in &question.headers {
            request = request.header(*name, value);
        }
        for (name, value) in question.more {
            request = request.header(name, value);
        }
        let sent = question.body.as_ref().map_or(0, |(length, _)| *length);
        let looked_at = sent > LITTLE || question.method == Method::PUT;
        let answer = if looked_at { ANSWER } else { self.settings.attempt };
        let limits = Limits { proxy, sent, answer, expected: question.expected };
        let answer = if let Some((length, reader)) = &mut question.body {
            let mut bytes = Borrowed(&mut **reader);
            run(&agent, limits, request.header(CONTENT_LENGTH, *length).body(SendBody::from_reader(&mut bytes)))
        } else {
            // A question that changes something says that nothing follows.
            if !matches!(question.method, Method::GET | Method::HEAD) {
                request = request.header(CONTENT_LENGTH, 0);
            }
            run(&agent, limits, request.body(()))
        };
        let answer = match answer {
            Some(answer) => answer.map_err(|error| self.failed_at(uri, &error))?,
            None => return Err(Failed::finally("a header cannot be written")),
        };
        let (head, body) = answer.into_parts();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, place: place(uri) })
    }
}

/// How long what may take, and by which way it goes.
struct Limits {
    proxy: Option<Proxy>,
    /// Bytes that go and come.
    sent: u64,
    expected: u64,
    /// How long the answer may take to begin.
    answer: Duration,
}

/// Asks; `None` where the question cannot be written.
fn run(
    agent: &Agent,
    limits: Limits,
    request: Result<Request<impl AsSendBody>, ureq::http::Error>,
) -> Option<Result<Response<Body>, ureq::Error>> {
    let patience = |bytes: u64| SILENCE + Duration::from_secs(bytes / SLOWEST);
    let request = agent
        .configure_request(request.ok()?)
        .proxy(limits.proxy)
        .timeout_send_body(Some(patience(limits.sent)))
        .timeout_recv_response(Some(limits.answer))
        .timeout_per_read(Some(SILENCE.max(limits.answer)))
        .timeout_recv_body(Some(patience(limits.expected)))
        .build();
    Some(agent.run(request))
}

/// A reader for as long as one attempt lasts.
struct Borrowed<'a>(&'a mut dyn Read);

impl Read for Borrowed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Answer {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the other side asks to wait: seconds, or until a time of day (RFC 9110 §10.2.3).
    pub(crate) fn wait(&self) -> Option<Duration> {
        super::wait_of(self.header(RETRY_AFTER.as_str())?, jiff::Timestamp::now())
    }

    /// The media type without its parameters.
    pub(crate) fn media_type(&self) -> &str {
        self.header(CONTENT_TYPE.as_str()).unwrap_or_default().split(';').next().unwrap_or_default().trim()
    }

    /// The body as it comes.
    pub(crate) fn reader(self) -> impl Read + Send + 'static {
        self.body.into_reader()
    }

    /// The whole body; an error where it is longer than `limit`.
    pub(crate) fn bytes(self, limit: usize) -> Result<Vec<u8>, String> {
        self.bytes_within(limit)?.ok_or_else(|| format!("answers with more than {limit} bytes"))
    }

    /// The whole body; `None` where it is longer than `limit`.
    pub(crate) fn bytes_within(self, limit: usize) -> Result<Option<Vec<u8>>, String> {
        let mut bytes = Vec::new();
        self.body.into_reader().take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| {
            match error.get_ref() {
                Some(inner) => inner.to_string(),
                None => error.kind().to_string(),
            }
        })?;
        Ok((bytes.len() <= limit).then_some(bytes))
    }
}
