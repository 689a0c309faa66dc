//! Identity tokens of Buildkite's agents.
//!
//! Source: buildkite/agent, its API `POST /jobs/<id>/oidc/tokens`.

use affiant_core::keyless::AgentJob;
use serde::Deserialize;
use serde_json::json;

use super::{Ask, Method, ServiceError, Sigstore, Zeroizing};

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 128 * 1024;

#[derive(Deserialize)]
struct Answer {
    token: String,
}

pub(super) fn token(sigstore: &Sigstore, job: &AgentJob, audience: &str) -> Result<Zeroizing<String>, ServiceError> {
    let id = &job.id;
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_id || !job.access.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ServiceError::bad(&job.endpoint, "the variables of the agent name no job"));
    }
    let url = format!("{}/jobs/{id}/oidc/tokens", job.endpoint.trim_end_matches('/'));
    let body = json!({ "audience": audience }).to_string();
    let ask = Ask {
        method: Method::POST,
        url: &url,
        content_type: "application/json",
        accept: "application/json",
        authorization: Some(format!("Token {}", job.access.as_str())),
        body: body.as_bytes(),
    };
    let told = sigstore.ask(&ask, MAX_ANSWER)?;
    if !(200..=201).contains(&told.status) {
        return Err(told.refusal(""));
    }
    // What is wrong with it is not shown: it may hold the token.
    let answer: Result<Answer, _> = serde_json::from_slice(&told.body);
    answer.map(|answer| Zeroizing::new(answer.token)).map_err(|_| told.bad("gives no token"))
}
