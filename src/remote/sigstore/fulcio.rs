//! Questions to the certificate authority.

use affiant_core::keyless::fulcio::{self, Form, Issued};
use affiant_core::sign::Signer as _;

use super::{Ask, IdentityToken, Method, PrivateKey, ServiceError, Sigstore, words_of};

pub(super) fn certificate(
    sigstore: &Sigstore,
    base: &str,
    form: Form,
    token: &IdentityToken,
    key: &PrivateKey,
) -> Result<Issued, ServiceError> {
    let base = base.trim_end_matches('/');
    let url = format!("{base}{}", form.path());
    let body = fulcio::request(form, token, key).map_err(|error| ServiceError::bad(&url, error))?;
    let ask = Ask {
        method: Method::POST,
        url: &url,
        content_type: "application/json",
        accept: form.accepts(),
        authorization: form.has_bearer().then(|| format!("Bearer {}", token.expose())),
        body: &body,
    };
    let told = sigstore.ask(&ask, fulcio::MAX_ANSWER)?;
    match (told.status, form) {
        // What is wrong with a certificate is said with its names, which may be those of the token's own text.
        (200 | 201, _) => fulcio::answer(form, &told.body, told.sct.as_deref())
            .and_then(|issued| issued.check(key.public_key(), token.claims()).map(|()| issued))
            .map_err(|error| told.bad(token.keep_out_of(&error.to_string()))),
        // An authority that knows the first API only.
        (404 | 405, Form::Key) => certificate(sigstore, base, Form::V1, token, key),
        _ => Err(told.refusal(&token.keep_out_of(&words_of(&told.body)))),
    }
}
