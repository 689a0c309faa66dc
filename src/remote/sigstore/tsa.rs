//! Questions to timestamp authorities.

use affiant_core::keyless::stamp::{MAX_REPLY, QUERY, Query, REPLY, Stamped};

use super::{Ask, Method, ServiceError, Sigstore, words_of};

pub(super) fn timestamp(sigstore: &Sigstore, url: &str, message: &[u8]) -> Result<Stamped, ServiceError> {
    let query = Query::new(message).map_err(|error| ServiceError::bad(url, error))?;
    let ask =
        Ask { method: Method::POST, url, content_type: QUERY, accept: REPLY, authorization: None, body: &query.der };
    let mut told = sigstore.ask(&ask, MAX_REPLY)?;
    if !(200..=202).contains(&told.status) {
        return Err(told.refusal(&words_of(&told.body)));
    }
    let body = std::mem::take(&mut told.body);
    query.answer(body, message).map_err(|error| told.bad(error))
}
