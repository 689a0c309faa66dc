//! Questions to logs.

use std::time::Duration;

use affiant_core::keyless::Whose;
use affiant_core::keyless::rekor::{LogEntry, MAX_ANSWER, RekorError, Submission, Version};
use affiant_core::keyless::tiles::{self, CHECKPOINT, MAX_TILE, TILES, Tile, WIDTH};
use affiant_core::sigstore::note::MAX_CHECKPOINT;

use super::{Ask, Method, ServiceError, Sigstore, words_of};

/// What stands before the number of an entry that is there already (sigstore/rekor-tiles).
const WITH_INDEX: &str = "with index ";

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

/// The entry that a log of the first generation has of this submission, by the name that it would have.
pub(super) fn made(
    sigstore: &Sigstore,
    base: &str,
    submission: &Submission<'_>,
) -> Result<Option<LogEntry>, ServiceError> {
    let place = format!("{}{}", base.trim_end_matches('/'), Version::One.path());
    let url = format!("{place}/{}", submission.id().map_err(|error| ServiceError::bad(&place, error))?);
    let sent = submission.envelope.map_or(0, <[u8]>::len);
    let (content_type, accept) = ("", "application/json");
    let ask = Ask { method: Method::GET, url: &url, content_type, accept, authorization: None, body: &[] };
    let told = sigstore.ask(&ask, MAX_ANSWER + sent * 2)?;
    match told.status {
        200 => submission.answer(Version::One, &told.body).map(Some).map_err(|error| told.bad(error)),
        404 => Ok(None),
        _ => Err(told.refusal(&words_of(&told.body))),
    }
}

/// How often is looked whether an entry is in the tree by now, and with what pause: logs publish their trees each second
/// or two.
const MAX_LOOKS: u32 = 10;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why an entry that is there already is not found.
struct NotFound(ServiceError);

impl From<RekorError> for NotFound {
    fn from(error: RekorError) -> Self {
        Self(ServiceError::bad("", error))
    }
}

/// The entry that a log of the second generation has already: its place stands in the refusal, its proof is computed of
/// the log's tiles.
pub(super) fn tiled(
    sigstore: &Sigstore,
    base: &str,
    submission: &Submission<'_>,
    whose: Whose<'_>,
) -> Result<LogEntry, ServiceError> {
    let base = base.trim_end_matches('/');
    let url = format!("{base}{}", Version::Two.path());
    let bad = |error: &dyn std::fmt::Display| ServiceError::bad(&url, error);
    let body = submission.request(Version::Two).map_err(|error| bad(&error))?;
    let ask = Ask {
        method: Method::POST,
        url: &url,
        content_type: "application/json",
        accept: "application/json",
        authorization: None,
        body: &body,
    };
    let told = sigstore.ask(&ask, MAX_ANSWER + body.len() * 2)?;
    let words = words_of(&told.body);
    let index = match told.status {
        200 | 201 => return submission.answer(Version::Two, &told.body).map_err(|error| told.bad(error)),
        409 => words.rsplit_once(WITH_INDEX).and_then(|(_, number)| {
            number.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok()
        }),
        _ => return Err(told.refusal(&words)),
    };
    let index = index.ok_or_else(|| told.bad("does not say which entry it has"))?;
    let mut looks = 0;
    let (note, size) = loop {
        let note = get(sigstore, &format!("{base}{CHECKPOINT}"), MAX_CHECKPOINT)?;
        let note = String::from_utf8(note).map_err(|error| bad(&error))?;
        let size = tiles::size_of(&note).map_err(|error| bad(&error))?;
        if index < size {
            break (note, size);
        }
        looks += 1;
        if looks == MAX_LOOKS {
            let reason = format!("the entry {index} is not in its tree yet, which has {size}");
            return Err(ServiceError { is_outage: true, ..bad(&reason) });
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    let log = whose(&note).ok_or_else(|| bad(&"its tree is signed by no log of the trusted root"))?;
    let mut read = |tile: Tile| {
        let of = |tile: Tile| get(sigstore, &format!("{base}{TILES}{}", tile.path()), MAX_TILE);
        // Once a tile is whole its parts may be gone.
        of(tile).or_else(|error| if tile.width < WIDTH { of(tile.whole()) } else { Err(error) }).map_err(NotFound)
    };
    let hashes = tiles::inclusion(index, size, &mut read).map_err(|NotFound(error)| error)?;
    submission.found(&log, index, &note, &hashes).map_err(|error| bad(&error))
}

fn get(sigstore: &Sigstore, url: &str, limit: usize) -> Result<Vec<u8>, ServiceError> {
    let accept = "application/octet-stream, text/plain, */*";
    let ask = Ask { method: Method::GET, url, content_type: "", accept, authorization: None, body: &[] };
    let told = sigstore.ask(&ask, limit)?;
    if told.status == 200 { Ok(told.body) } else { Err(told.refusal(&words_of(&told.body))) }
}
