//! An identity token of any issuer (wire-formats §3.19). Nothing is guessed: variable, issuer and audience are named.

use affiant_core::attestor::{
    About, AttestBefore, AttestError, Before, Evidence, Foresight, Found, OptionAbout, Outcome, Place, Predicate,
};
use serde::Deserialize;

use crate::ci_token::{self, KeySource, variable};

/// The attestor `jwt`.
pub(crate) struct JsonWebToken;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// The variable that holds the token.
    token_variable: String,
    /// Who must have made it.
    issuer: String,
    /// Whom it must be for.
    audience: String,
    /// Where the issuer's keys are, where it has no discovery document.
    jwks_url: Option<String>,
}

static ABOUT: About = About {
    name: "jwt",
    predicate_type: "https://witness.dev/attestations/jwt/v0.1",
    summary: "Records what an identity token says, after proving it with its issuer's keys; never the token.",
    default_when: "nowhere: it is named with -a and its options",
    subjects: &[],
    options: &[
        OptionAbout { name: "token-variable", help: "Variable that holds the identity token (required)" },
        OptionAbout { name: "issuer", help: "Issuer that must have made the token, exactly (required)" },
        OptionAbout { name: "audience", help: "Audience that the token must be for (required)" },
        OptionAbout { name: "jwks-url", help: "Where the issuer's keys are (default: as its discovery document says)" },
    ],
    schema: include_str!("schemas/jwt.json"),
};

impl AttestBefore for JsonWebToken {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(_: &Before) -> Option<String> {
        None
    }

    fn foresee(options: &Options, _: &Before) -> Foresight {
        ci_token::foresee(&[&options.token_variable], None)
    }

    fn attest(options: Options, world: &Before) -> Outcome {
        let token = variable(world, &options.token_variable);
        if token.is_empty() {
            return Ok(Found::Nothing(format!("{} is not set", options.token_variable)));
        }
        let source = options.jwks_url.as_deref().map_or(KeySource::Discovered, KeySource::At);
        let jwt = ci_token::prove(world, &token, &options.issuer, &options.audience, &source)
            .map_err(|reason| AttestError::new(format!("{}: {reason}", options.token_variable)))?;
        let predicate = serde_json::to_value(jwt).map_err(|error| AttestError::new(error.to_string()))?;
        Ok(Found::Evidence {
            pieces: vec![Evidence {
                predicate_type: ABOUT.predicate_type.to_owned(),
                predicate: Predicate::Composed(predicate),
                subjects: Vec::new(),
                back_references: Vec::new(),
                place: Place::Collection,
            }],
            shortfalls: Vec::new(),
        })
    }
}
