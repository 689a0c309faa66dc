//! Questions to logs.

use affiant_core::keyless::rekor::{LogEntry, MAX_ANSWER, Submission, Version};

use super::{Ask, Method, ServiceError, Sigstore, words_of};

pub(super) fn entry(
    sigstore: &Sigstore,
    base: &str,
    version: Version,
    submission: &Submission<'_>,
) -> Result<LogEntry, ServiceError> {
    let base = base.trim_end_matches('/');
    let url = format!("{base}{}", version.path());
    let body = submission.request(version).map_err(|error| ServiceError::bad(&url, error))?;
    // An answer has what was sent in base64 of base64.
    let limit = MAX_ANSWER + body.len() * 2;
    let ask = Ask {
        method: Method::POST,
        url: &url,
        content_type: "application/json",
        accept: "application/json",
        authorization: None,
        body: &body,
    };
    let told = sigstore.ask(&ask, limit)?;
    let taken = match (told.status, version) {
        (200 | 201, _) => told,
        (409, Version::One) => existing(sigstore, base, told.location.as_deref(), limit).map_err(|error| {
            ServiceError { reason: format!("it has this entry already, and {}", error.reason), ..error }
        })?,
        (409, Version::Two) => {
            let again = if told.is_repeated { ", maybe since an attempt whose answer was lost" } else { "" };
            let words = words_of(&told.body);
            let reason = format!("it has this entry already{again}, and does not give it again: {words}");
            return Err(ServiceError { is_duplicate: true, ..told.bad(reason) });
        }
        (413, _) => {
            return Err(told.refusal(&format!("{} bytes are too many for this log", body.len())));
        }
        _ => return Err(told.refusal(&words_of(&told.body))),
    };
    submission.answer(version, &taken.body).map_err(|error| taken.bad(error))
}

/// The entry that is there already, at the place that the log names: a path of its own, never another host.
fn existing(
    sigstore: &Sigstore,
    base: &str,
    location: Option<&str>,
    limit: usize,
) -> Result<super::Told, ServiceError> {
    let place = || format!("{base}{}", Version::One.path());
    let id = location
        .and_then(|location| location.rsplit('/').next())
        .filter(|id| (64..=80).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or_else(|| ServiceError::bad(place(), "does not say where"))?;
    let url = format!("{}/{id}", place());
    let ask = Ask {
        method: Method::GET,
        url: &url,
        content_type: "",
        accept: "application/json",
        authorization: None,
        body: &[],
    };
    let told = sigstore.ask(&ask, limit)?;
    if told.status == 200 { Ok(told) } else { Err(told.refusal(&words_of(&told.body))) }
}
