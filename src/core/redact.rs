//! Secrets: which variables are masked, and how known values are kept out of what we write.
//!
//! Source: security rules 2 and 4, wire-formats §3.4. Two things stand here:
//! - [`VariableMask`] decides by the *name* of a variable whether its value is shown.
//! - [`Redactor`] knows the *values* of those variables and finds them wherever they turn up: in argv, in output,
//!   in messages, in file names.

mod patterns;
mod search;
mod url;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

pub use patterns::MIN_NAME_SECRET;
pub use search::{Cut, Hit, MIN_DOCUMENT_SECRET, MIN_SECRET, PLACEHOLDER, Redactor};
pub use url::mask_userinfo;

use crate::attestor::Environment;

/// What stands in place of a masked variable's value, as in witness and cilock.
pub const MASK: &str = "******";

/// Parts of a name, in upper case, that make a variable sensitive wherever they stand in it.
const PARTS: [&str; 19] = [
    // witness
    "TOKEN",
    "SECRET",
    "API_KEY",
    "PASSWORD",
    "JWT",
    "SSHKEY",
    "PASSPHRASE",
    // cilock
    "APIKEY",
    "PASSWD",
    "CREDENTIAL",
    "OAUTH",
    "BEARER",
    "PRIVATE",
    "SIGNING",
    "ACCESS_KEY",
    "WEBHOOK",
    "DSN",
    "CONNECTION_STRING",
    "DATABASE_URL",
];

/// Words of a name, in upper case, that make a variable sensitive only as whole words: `GIT_AUTHOR_NAME`, `PATH`,
/// `OLDPWD` and `KEYBOARD` have none of them. A word ends where no letter or digit follows.
const WORDS: [&str; 8] = ["KEY", "PAT", "PWD", "AUTH", "CRED", "CREDS", "PASS", "PIN"];

/// Names that hold a folder, although their word says otherwise.
const FOLDERS: [&str; 2] = ["PWD", "OLDPWD"];

/// Names, in upper case, of secrets that both peers mask and that no part or word above covers (wire-formats §3.4).
const NAMES: [&str; 2] = ["BINANCE_API", "VULTR_ACCESS"];

/// Names, in upper case, that are masked because the peers mask them or a rule above says so, but whose values say who or
/// where and are no secret. They are not searched for: a login name stands rightly in image references, addresses and messages, and
/// so does the path of a key.
const IDENTIFIERS: [&str; 23] = [
    "AFFIANT_KEY",
    "AFFIANT_KEY_PASSWORD_FILE",
    "AZURE_CLIENT_ID",
    "AZURE_USERNAME",
    "MSI_ENDPOINT",
    "CF_USERNAME",
    "DOCKER_EMAIL",
    "DOCKER_USERNAME",
    "FACEBOOK_APP_ID",
    "CI_DEPLOY_USER",
    "GITLAB_USER_LOGIN",
    "HEROKU_API_USER",
    "OKTA_CLIENT_ORGURL",
    "OKTA_OAUTH2_CLIENTID",
    "OKTA_AUTHN_GROUPID",
    "OS_USERNAME",
    "SAUCE_USERNAME",
    "STRIPE_DEVICE_NAME",
    "SURGE_LOGIN",
    "TWILIO_ACCOUNT_SID",
    "TRAVIS_SUDO",
    "TRAVIS_OS_NAME",
    "TRAVIS_SECURE_ENV_VARS",
];

/// A pattern of the user that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("pattern `{pattern}` for variable names: {reason}")]
pub struct MaskError {
    /// The pattern as it was given.
    pub pattern: String,
    /// What is wrong with it, as a lower-case fragment.
    pub reason: String,
}

/// How variables are masked; the five `--env-*` options of the peers (wire-formats §3.4).
#[derive(Clone, Debug, Default)]
pub struct MaskOptions {
    /// Leave sensitive variables out instead of writing [`MASK`].
    pub filter: bool,
    /// Further sensitive names. An entry with `*` is a glob in which `*` spans anything; letter case is ignored.
    pub add_keys: Vec<String>,
    /// Names that are shown although an entry above matches. No globs; letter case counts, so that an entry never
    /// shows more than it says.
    pub allow_keys: Vec<String>,
    /// Only `add_keys` are sensitive.
    pub disable_defaults: bool,
    /// When not empty: only variables that match an entry are written at all (names, or globs with `*`).
    pub capture_allowlist: Vec<String>,
}

/// How the variables of the environment are masked (wire-formats §3.4, security rule 4).
#[derive(Clone, Debug, Default)]
pub struct VariableMask {
    filter: bool,
    disable_defaults: bool,
    add: Names,
    allow: BTreeSet<String>,
    capture: Option<Names>,
}

/// Names in upper case, and globs.
#[derive(Clone, Debug, Default)]
struct Names {
    exact: BTreeSet<String>,
    globs: GlobSet,
}

impl Names {
    fn new(entries: &[String]) -> Result<Self, MaskError> {
        let mut exact = BTreeSet::new();
        let mut globs = GlobSetBuilder::new();
        for entry in entries {
            if entry.contains('*') {
                let error = |error: &globset::Error| MaskError {
                    pattern: entry.clone(),
                    reason: error.kind().to_string().to_lowercase(),
                };
                globs.add(GlobBuilder::new(entry).case_insensitive(true).build().map_err(|e| error(&e))?);
            } else {
                exact.insert(entry.to_uppercase());
            }
        }
        let globs = globs
            .build()
            .map_err(|error| MaskError { pattern: entries.join(","), reason: error.to_string().to_lowercase() })?;
        Ok(Self { exact, globs })
    }

    fn contains(&self, name: &str, upper: &str) -> bool {
        self.exact.contains(upper) || self.globs.is_match(name)
    }
}

impl VariableMask {
    /// The mask that `options` describe. A glob that cannot be read is an error.
    pub fn new(options: &MaskOptions) -> Result<Self, MaskError> {
        let capture = match options.capture_allowlist.as_slice() {
            [] => None,
            entries => Some(Names::new(entries)?),
        };
        Ok(Self {
            filter: options.filter,
            disable_defaults: options.disable_defaults,
            add: Names::new(&options.add_keys)?,
            allow: options.allow_keys.iter().cloned().collect(),
            capture,
        })
    }

    /// Whether the value of the variable `name` is hidden.
    pub fn is_sensitive(&self, name: &str) -> bool {
        if self.allow.contains(name) {
            return false;
        }
        let upper = name.to_uppercase();
        self.add.contains(name, &upper) || (!self.disable_defaults && sensitive_by_default(&upper))
    }

    /// Whether the value of the variable `name` is a secret that must not turn up elsewhere.
    fn is_searched(&self, name: &str) -> bool {
        if !self.is_sensitive(name) {
            return false;
        }
        let upper = name.to_uppercase();
        !IDENTIFIERS.contains(&upper.as_str()) || self.add.contains(name, &upper)
    }

    /// The variables as they are written: values of sensitive ones masked (or the variable left out), the userinfo
    /// of URLs masked in every value, and only what the capture allow-list names, if there is one.
    pub fn apply(&self, environment: &Environment) -> BTreeMap<String, String> {
        let mut shown = BTreeMap::new();
        for (name, value) in &environment.0 {
            if self.capture.as_ref().is_some_and(|capture| !capture.contains(name, &name.to_uppercase())) {
                continue;
            }
            if !self.is_sensitive(name) {
                shown.insert(name.clone(), mask_userinfo(value, MASK).into_owned());
            } else if !self.filter {
                shown.insert(name.clone(), MASK.to_owned());
            }
        }
        shown
    }
}

fn sensitive_by_default(upper: &str) -> bool {
    if FOLDERS.contains(&upper) {
        return false;
    }
    PARTS.iter().any(|part| upper.contains(part))
        || NAMES.contains(&upper)
        || IDENTIFIERS.contains(&upper)
        || upper.split(|c: char| !c.is_alphanumeric()).any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(options: &MaskOptions) -> VariableMask {
        VariableMask::new(options).expect("the patterns of this test are valid")
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&s| s.to_owned()).collect()
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment(pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    /// The default lists of both peers (wire-formats §3.4), as recorded.
    const PEER_NAMES: &str = "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AMAZON_AWS_ACCESS_KEY_ID \
        AMAZON_AWS_SECRET_ACCESS_KEY ALGOLIA_API_KEY AZURE_CLIENT_ID AZURE_CLIENT_SECRET AZURE_USERNAME AZURE_PASSWORD \
        MSI_ENDPOINT MSI_SECRET binance_api binance_secret BITTREX_API_KEY BITTREX_API_SECRET CF_PASSWORD CF_USERNAME \
        CODECLIMATE_REPO_TOKEN COVERALLS_REPO_TOKEN CIRCLE_TOKEN DIGITALOCEAN_ACCESS_TOKEN DOCKER_EMAIL DOCKER_PASSWORD \
        DOCKER_USERNAME DOCKERHUB_PASSWORD FACEBOOK_APP_ID FACEBOOK_APP_SECRET FACEBOOK_ACCESS_TOKEN FIREBASE_TOKEN \
        FOSSA_API_KEY GH_TOKEN GH_ENTERPRISE_TOKEN GOOGLE_APPLICATION_CREDENTIALS GOOGLE_API_KEY CI_DEPLOY_USER \
        CI_DEPLOY_PASSWORD GITLAB_USER_LOGIN CI_JOB_JWT CI_JOB_JWT_V2 CI_JOB_TOKEN HEROKU_API_KEY HEROKU_API_USER \
        MAILGUN_API_KEY MCLI_PRIVATE_API_KEY MCLI_PUBLIC_API_KEY NGROK_TOKEN NGROK_AUTH_TOKEN NPM_AUTH_TOKEN \
        OKTA_CLIENT_ORGURL OKTA_CLIENT_TOKEN OKTA_OAUTH2_CLIENTSECRET OKTA_OAUTH2_CLIENTID OKTA_AUTHN_GROUPID \
        OS_USERNAME OS_PASSWORD PERCY_TOKEN SAUCE_ACCESS_KEY SAUCE_USERNAME SENTRY_AUTH_TOKEN SLACK_TOKEN SNYK_TOKEN \
        square_access_token square_oauth_secret STRIPE_API_KEY STRIPE_DEVICE_NAME SURGE_TOKEN SURGE_LOGIN \
        TWILIO_ACCOUNT_SID CONSUMER_KEY CONSUMER_SECRET TRAVIS_SUDO TRAVIS_OS_NAME TRAVIS_SECURE_ENV_VARS VAULT_TOKEN \
        VAULT_CLIENT_KEY TOKEN VULTR_ACCESS VULTR_SECRET ACTIONS_RUNTIME_TOKEN ACTIONS_ID_TOKEN_REQUEST_TOKEN \
        GITHUB_PAT GH_PAT";

    #[test]
    fn masks_at_least_what_the_peers_mask() {
        let mask = VariableMask::default();
        for name in PEER_NAMES.split_whitespace() {
            for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                assert!(mask.is_sensitive(&name), "{name}");
            }
        }
        for part in ["TOKEN", "SECRET", "API_KEY", "PASSWORD", "JWT", "sshKey", "passphrase"] {
            for name in [part.to_owned(), format!("a{part}b"), format!("X_{part}_Y"), part.to_lowercase()] {
                assert!(mask.is_sensitive(&name), "{name}");
            }
        }
    }

    #[test]
    fn identifiers_are_masked_and_not_searched() {
        let mask = VariableMask::default();
        for name in IDENTIFIERS {
            assert!(mask.is_sensitive(name) && !mask.is_searched(name), "{name}");
        }
        for name in PEER_NAMES.split_whitespace().filter(|name| !IDENTIFIERS.contains(name)) {
            assert!(mask.is_searched(name), "{name}");
        }
        let added =
            VariableMask::new(&MaskOptions { add_keys: strings(&["DOCKER_USERNAME"]), ..MaskOptions::default() })
                .expect("there is no glob");
        assert!(added.is_searched("DOCKER_USERNAME") && !added.is_searched("SURGE_LOGIN"));
    }

    #[test]
    fn short_words_count_only_as_whole_words() {
        let mask = VariableMask::default();
        for name in
            ["MYSQL_PWD", "deploy-key", "GPG_KEY", "gh.pat", "AUTH", "REGISTRY_AUTH", "COSIGN_PKCS11_PIN", "DB_PASS"]
        {
            assert!(mask.is_sensitive(name), "{name}");
        }
        for name in
            ["PATH", "PWD", "OLDPWD", "GIT_AUTHOR_NAME", "KEYBOARD", "MONKEY", "CREDIT", "PATTERN", "SPINNER", "HOME"]
        {
            assert!(!mask.is_sensitive(name), "{name}");
        }
    }

    #[test]
    fn options_add_allow_filter_and_disable() {
        let env = environment(&[("A_TOKEN", "x"), ("B_TOKEN", "y"), ("corp_id", "z"), ("CORP_X", "w"), ("PLAIN", "v")]);
        let options = MaskOptions {
            add_keys: strings(&["CORP_*"]),
            allow_keys: strings(&["B_TOKEN", "a_token"]),
            ..MaskOptions::default()
        };
        let shown = mask(&options).apply(&env);
        assert_eq!(shown["A_TOKEN"], MASK, "an allowed name is taken in its own letter case");
        assert_eq!((shown["B_TOKEN"].as_str(), shown["corp_id"].as_str(), shown["CORP_X"].as_str()), ("y", MASK, MASK));
        let shown = mask(&MaskOptions { filter: true, ..options.clone() }).apply(&env);
        assert_eq!(shown.keys().collect::<Vec<_>>(), ["B_TOKEN", "PLAIN"]);
        let shown = mask(&MaskOptions { disable_defaults: true, ..options }).apply(&env);
        assert_eq!((shown["A_TOKEN"].as_str(), shown["corp_id"].as_str()), ("x", MASK));
        let capture = MaskOptions { capture_allowlist: strings(&["plain", "*_TOKEN"]), ..MaskOptions::default() };
        let shown = mask(&capture).apply(&env);
        assert_eq!(
            shown.into_iter().collect::<Vec<_>>(),
            [("A_TOKEN".into(), MASK.into()), ("B_TOKEN".into(), MASK.into()), ("PLAIN".into(), "v".into())]
        );
    }

    #[test]
    fn a_bad_glob_is_named() {
        let options = MaskOptions { add_keys: strings(&["*[a"]), ..MaskOptions::default() };
        let error = VariableMask::new(&options).expect_err("the class is not closed");
        assert!(error.to_string().contains("`*[a`"), "{error}");
    }

    #[test]
    fn userinfo_is_masked_in_visible_values() {
        let env = environment(&[("HTTP_PROXY", "http://u:p@proxy:3128"), ("PATH", "/usr/bin:/bin")]);
        let shown = VariableMask::default().apply(&env);
        assert_eq!(shown["HTTP_PROXY"], "http://******@proxy:3128");
        assert_eq!(shown["PATH"], "/usr/bin:/bin");
    }
}
