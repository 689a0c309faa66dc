//! Where identity tokens come from, in this order: the flag, `SIGSTORE_ID_TOKEN` (GitLab, `CircleCI`), a file in the place
//! that is agreed for it, GitHub Actions, Buildkite's agent, a person at the terminal who logs in. What is there is looked at
//! before anything is done; GitHub, Buildkite and the person are asked when the token is needed, and not before.

use std::path::{Path, PathBuf};

use affiant_attestors::{GITHUB_REQUEST, github_token};
use affiant_core::attestor::Network;
use affiant_core::jwt::MAX_TOKEN;
use affiant_core::keyless::token::{AUDIENCE, IdentityToken, Wanted};
use affiant_core::keyless::{AgentJob, Services};
use clap::Args;
use zeroize::Zeroizing;

use super::is_file;
use super::login::{Flow, Login, LoginArgs, why_not};
use crate::cli::failure::{Failure, Kind};
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::outputs;
use crate::cli::surroundings::{self, variable};

/// The variable that jobs of GitLab and `CircleCI` have a token in.
const VARIABLE: &str = "SIGSTORE_ID_TOKEN";
/// Where a token is put for jobs that cannot have variables (sigstore's `filesystem` provider).
const FILE: &str = "/var/run/sigstore/cosign/oidc-token";
/// What the variables of a Buildkite agent are called: access, endpoint, job.
const BUILDKITE: [&str; 3] = ["BUILDKITE_AGENT_ACCESS_TOKEN", "BUILDKITE_AGENT_ENDPOINT", "BUILDKITE_JOB_ID"];
/// Our own variable for the token, or for a file with it.
const OWN: &str = "AFFIANT_IDENTITY_TOKEN";
/// What is shorter, in bytes, is no token.
const MIN_TOKEN: usize = 16;
/// How long GitHub may take to give a token.
const WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Whose identity it is.
#[derive(Args, Clone)]
pub(crate) struct TokenArgs {
    /// Identity token (OIDC), or a file with it
    #[arg(
        long,
        aliases = ["signer-fulcio-token", "signer-fulcio-token-path"],
        value_name = "TOKEN",
        env = "AFFIANT_IDENTITY_TOKEN",
        hide_env_values = true
    )]
    pub(crate) identity_token: Option<String>,
    /// Demand that the token is by this issuer; on a terminal, where there is none: log in there
    #[arg(
        long,
        alias = "signer-fulcio-oidc-issuer",
        value_name = "URL",
        env = "AFFIANT_OIDC_ISSUER",
        hide_env_values = true
    )]
    pub(crate) oidc_issuer: Option<String>,
    /// Audience of the token; who asks for it in a login
    #[arg(
        long,
        alias = "signer-fulcio-oidc-client-id",
        value_name = "NAME",
        default_value = AUDIENCE,
        env = "AFFIANT_OIDC_CLIENT_ID",
        hide_env_values = true
    )]
    pub(crate) oidc_client_id: String,
    /// Where the token comes from: envvar, filesystem, github-actions, buildkite-agent (default: the first that is there)
    #[arg(long, value_name = "NAME", env = "AFFIANT_OIDC_PROVIDER", hide_env_values = true)]
    pub(crate) oidc_provider: Option<String>,
    /// Take no token that is not named
    #[arg(long, env = "AFFIANT_OIDC_DISABLE_AMBIENT_PROVIDERS", hide_env_values = true)]
    pub(crate) oidc_disable_ambient_providers: bool,
    #[command(flatten)]
    login: LoginArgs,
    #[arg(skip)]
    called: Called,
}

/// A token, or whom to ask for one.
#[derive(Clone)]
enum Source {
    /// A token that is here.
    Here(Zeroizing<String>),
    /// GitHub's service: address, and what permits the question.
    GitHub(Zeroizing<String>, Zeroizing<String>),
    /// A Buildkite agent's service.
    Buildkite(AgentJob),
    /// A person.
    Login(Login),
}

/// A token that was found, or whom to ask for one.
#[derive(Clone)]
pub(crate) struct Found {
    source: Source,
    /// Where it was found.
    from: String,
    /// Variables that nobody else needs (security rule 2).
    pub(crate) consumed: Vec<String>,
}

/// What permits to sign as an identity: it stays with us (security rule 2).
#[derive(Default)]
pub(crate) struct Secrets {
    /// Tokens, without blanks around them.
    pub(crate) texts: Vec<Vec<u8>>,
    /// The variables that hold them, or that lead to them.
    pub(crate) variables: Vec<String>,
}

/// A provider of tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    Variable,
    File,
    GitHub,
    Buildkite,
}

const PROVIDERS: [(&str, Provider); 5] = [
    ("envvar", Provider::Variable),
    ("filesystem", Provider::File),
    ("github-actions", Provider::GitHub),
    ("github", Provider::GitHub),
    ("buildkite-agent", Provider::Buildkite),
];

impl TokenArgs {
    /// Files that are read.
    pub(super) fn reads(&self, files: &mut outputs::Files) {
        files.reads("the identity token", &self.identity_token);
        files.reads("the secret of the client", self.login.secret_file());
    }

    /// Says by which name affiant was called.
    pub(crate) fn call(&mut self, called: Called) {
        self.called = called;
    }

    /// The peers name with this flag where to log in, whoever made the token that they take in the end.
    fn wanted(&self) -> Wanted<'_> {
        let issuer = self.oidc_issuer.as_deref().filter(|issuer| !issuer.is_empty() && self.called == Called::Affiant);
        Wanted { audience: &self.oidc_client_id, issuer }
    }

    /// Looks at a token. One that a login led to is by the issuer that was asked, under whatever name we were called.
    fn look(&self, text: &Zeroizing<String>, from: &str, issuer: Option<&str>) -> Result<IdentityToken, Failure> {
        let wanted = self.wanted();
        let wanted = Wanted { issuer: issuer.or(wanted.issuer), ..wanted };
        IdentityToken::look(text, &wanted, surroundings::now()).map_err(|fault| {
            Failure::new(Kind::NoAnswer, format!("the identity token from {from} cannot be used: {fault}"))
                .hint(fault.remedy())
        })
    }

    /// The token that is named, or the first that the surroundings have, or somebody who can log in: at the issuer that is
    /// named, else at that of the services. A token that is here is looked at.
    pub(crate) fn find(&self, issuer: Option<&str>) -> Result<Found, Failure> {
        let own = self.oidc_issuer.as_deref().map(str::trim).filter(|issuer| !issuer.is_empty());
        let found = self.found(own.or(issuer))?;
        if let Source::Here(text) = &found.source {
            self.look(text, &found.from, None)?;
        }
        Ok(found)
    }

    /// How `resume` is told the same. A token is not among it: it has expired then.
    pub(crate) fn resume_flags(&self) -> Vec<(&'static str, String)> {
        let file = self.identity_token.as_deref().filter(|given| is_file(Path::new(given)));
        let client = Some(self.oidc_client_id.as_str()).filter(|name| *name != AUDIENCE);
        // The peers' flag says where to log in, and nothing of a token that is here.
        let logs_in = || matches!(self.found(self.oidc_issuer.as_deref()), Ok(Found { source: Source::Login(_), .. }));
        let issuer = self.wanted().issuer.or(self.oidc_issuer.as_deref().filter(|_| logs_in()));
        let flags = [
            ("--identity-token", file),
            ("--oidc-issuer", issuer),
            ("--oidc-client-id", client),
            ("--oidc-provider", self.oidc_provider.as_deref().filter(|name| !name.is_empty())),
        ];
        let flags = flags.into_iter().filter_map(|(flag, value)| Some((flag, value?.to_owned())));
        flags.chain(self.login.resume_flags()).collect()
    }

    /// All that the command may not see: the token that is named, and where an identity signs, whatever of the
    /// surroundings gives one, also what was not taken. Nothing is judged here; [`Self::find`] does.
    pub(crate) fn secrets(&self, is_identity: bool) -> Secrets {
        let mut secrets = Secrets::default();
        let mut add = |text: &str| {
            let text = text.trim();
            if text.len() >= MIN_TOKEN {
                secrets.texts.push(text.as_bytes().to_vec());
            }
        };
        let of_file = |path: &Path| match of_file(path, "") {
            Ok(Found { source: Source::Here(text), .. }) => Some(text),
            _ => None,
        };
        if let Some(given) = &self.identity_token {
            if is_file(Path::new(given)) {
                if let Some(text) = &of_file(Path::new(given)) {
                    add(text);
                }
            } else {
                add(given);
            }
        }
        if is_identity {
            if let Ok(Some(secret)) = self.login.secret() {
                add(&secret);
            }
            for name in [VARIABLE, GITHUB_REQUEST[1], BUILDKITE[0]] {
                if let Some(text) = variable(name).and_then(|value| value.into_string().ok()).map(Zeroizing::new) {
                    add(&text);
                }
            }
            if is_file(Path::new(FILE))
                && let Some(text) = &of_file(Path::new(FILE))
            {
                add(text);
            }
            let names = [VARIABLE, BUILDKITE[0]].into_iter().chain(GITHUB_REQUEST);
            secrets.variables.extend(names.filter(|name| variable(name).is_some()).map(str::to_owned));
        }
        for name in surroundings::holders(OWN, &secrets.texts) {
            if !secrets.variables.contains(&name) {
                secrets.variables.push(name);
            }
        }
        secrets
    }

    fn found(&self, issuer: Option<&str>) -> Result<Found, Failure> {
        let flow = self.login.flow()?;
        if let Some(given) = self.identity_token.as_deref().filter(|given| !given.trim().is_empty()) {
            if let Some(flow) = flow.filter(|flow| *flow != Flow::Token) {
                return Err(Failure::usage(format!("a token, and --fulcio-auth-flow {flow}: which of them is meant?"))
                    .hint("leave one of them out"));
            }
            // Which variable it came in, when it came in one, is known to clap only.
            let consumed = [OWN, "COSIGN_IDENTITY_TOKEN"];
            let consumed = consumed.into_iter().filter(|name| variable(name).is_some_and(|value| value == given));
            let consumed = consumed.map(str::to_owned).collect();
            let is_token = given.trim().starts_with("ey") && given.bytes().filter(|byte| *byte == b'.').count() == 2;
            return if is_token && !is_file(Path::new(given)) {
                let text = Zeroizing::new(given.to_owned());
                Ok(Found { source: Source::Here(text), from: "--identity-token".to_owned(), consumed })
            } else {
                Ok(Found { consumed, ..of_file(Path::new(given), "--identity-token")? })
            };
        }
        let chosen = match self.oidc_provider.as_deref().filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => {
                Some(PROVIDERS.iter().find(|(known, _)| *known == name).map(|(_, one)| *one).ok_or_else(|| {
                    let names: Vec<_> = PROVIDERS.iter().map(|(name, _)| *name).collect();
                    Failure::usage(format!("--oidc-provider {name}: none of {}", names.join(", ")))
                        .hint("another provider's token is given with `--identity-token FILE`")
                })?)
            }
        };
        if flow.is_some_and(|flow| flow != Flow::Token) {
            return Ok(self.login.find(issuer)?.into());
        }
        // Whoever names a provider does not mean a person.
        let person = || match chosen {
            None => self.login.possible(issuer),
            Some(_) => None,
        };
        if self.oidc_disable_ambient_providers && chosen.is_none() {
            if let Some(login) = person() {
                return Ok(login?.into());
            }
            return Err(Failure::usage("no identity token is named, and none of the surroundings may be taken")
                .hint("name one with `--identity-token FILE`"));
        }
        let all = [Provider::Variable, Provider::File, Provider::GitHub, Provider::Buildkite];
        for provider in all.into_iter().filter(|one| chosen.is_none_or(|chosen| chosen == *one)) {
            if let Some(found) = of_surroundings(provider)? {
                return Ok(found);
            }
        }
        person().map_or_else(|| Err(nothing(issuer)), |login| Ok(login?.into()))
    }
}

/// Says what the job must permit, by where it runs.
fn nothing(issuer: Option<&str>) -> Failure {
    let is = |name: &str| variable(name).is_some_and(|value| value == "true");
    let failure = Failure::new(Kind::NoAnswer, "there is no identity token, and so nobody to issue a certificate to");
    if is("GITHUB_ACTIONS") {
        failure.hint("the job needs `permissions: id-token: write`")
    } else if is("GITLAB_CI") {
        failure.hint("write in the job: `id_tokens: SIGSTORE_ID_TOKEN: aud: sigstore`")
    } else {
        failure.hint("give one with `--identity-token FILE`, or SIGSTORE_ID_TOKEN").hint(why_not(issuer))
    }
}

impl From<Login> for Found {
    fn from(login: Login) -> Self {
        Self { from: format!("a login at {}", login.issuer), source: Source::Login(login), consumed: Vec::new() }
    }
}

/// What a small file with a secret holds, or why it cannot be had, without any of it.
pub(super) fn secret_of(path: &Path, limit: usize) -> Result<Zeroizing<String>, String> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|error| error.kind().to_string())?;
    file.take(limit as u64 + 1).read_to_string(&mut text).map_err(|error| error.kind().to_string())?;
    if text.len() > limit { Err(format!("longer than {limit} bytes")) } else { Ok(text) }
}

/// A small file with a token.
fn of_file(path: &Path, flag: &str) -> Result<Found, Failure> {
    let cannot = |reason: String| {
        // What was given may be a token that is damaged: it is not shown.
        let what =
            if flag.starts_with("--") { format!("{flag} is no token, and no file with one") } else { flag.to_owned() };
        Failure::new(Kind::NoAnswer, format!("{what}: {reason}"))
            .hint("name a file that has the token, and nothing else")
    };
    let text = secret_of(path, MAX_TOKEN).map_err(cannot)?;
    Ok(Found { source: Source::Here(text), from: path.display().to_string(), consumed: Vec::new() })
}

fn of_surroundings(provider: Provider) -> Result<Option<Found>, Failure> {
    let secret = |name: &str| variable(name).and_then(|value| value.into_string().ok()).map(Zeroizing::new);
    Ok(match provider {
        Provider::Variable => secret(VARIABLE).map(|text| Found {
            source: Source::Here(text),
            from: VARIABLE.to_owned(),
            consumed: vec![VARIABLE.to_owned()],
        }),
        Provider::File if is_file(&PathBuf::from(FILE)) => Some(of_file(Path::new(FILE), FILE)?),
        Provider::File => None,
        Provider::GitHub => secret(GITHUB_REQUEST[0]).zip(secret(GITHUB_REQUEST[1])).map(|(url, bearer)| Found {
            source: Source::GitHub(url, bearer),
            from: "GitHub Actions".to_owned(),
            consumed: GITHUB_REQUEST.map(str::to_owned).to_vec(),
        }),
        Provider::Buildkite => {
            secret(BUILDKITE[0]).zip(secret(BUILDKITE[1]).zip(secret(BUILDKITE[2]))).map(|found| Found {
                source: Source::Buildkite(AgentJob {
                    access: found.0,
                    endpoint: String::clone(&found.1.0),
                    id: String::clone(&found.1.1),
                }),
                from: "Buildkite's agent".to_owned(),
                consumed: vec![BUILDKITE[0].to_owned()],
            })
        }
    })
}

impl Found {
    /// Where somebody will be asked to log in.
    pub(crate) fn login(&self) -> Option<&str> {
        match &self.source {
            Source::Login(login) => Some(&login.issuer),
            _ => None,
        }
    }

    /// The token: what is here, or what is given for it now. `must_go_on`: whoever breaks a login off ends the login, and
    /// not affiant.
    pub(crate) fn fetch(
        &self,
        services: &dyn Services,
        args: &TokenArgs,
        must_go_on: bool,
        output: &Output,
    ) -> Result<IdentityToken, Failure> {
        if let Source::Login(login) = &self.source {
            let (text, issuer) = args.login.log_in(login, &args.oidc_client_id, must_go_on, output)?;
            let token = args.look(&text, &self.from, Some(&issuer))?;
            output.message(&format!("logged in as {}", token.claims().challenge()));
            return Ok(token);
        }
        args.look(&self.text(services, &args.oidc_client_id)?, &self.from, None)
    }

    /// The token as it was given.
    fn text(&self, services: &dyn Services, audience: &str) -> Result<Zeroizing<String>, Failure> {
        let cannot =
            |reason: String| Failure::new(Kind::NoAnswer, format!("no identity token from {}: {reason}", self.from));
        match &self.source {
            Source::Here(text) => Ok(text.clone()),
            Source::GitHub(url, bearer) => {
                let Network::Open(network) = surroundings::network(false, WAIT) else {
                    return Err(cannot("this affiant was built without network".to_owned()));
                };
                github_token(network.as_ref(), url, bearer, audience)
                    .map(Zeroizing::new)
                    .map_err(|reason| cannot(reason).hint("the job needs `permissions: id-token: write`"))
            }
            Source::Buildkite(job) => services.buildkite(job, audience).map_err(|error| cannot(error.to_string())),
            Source::Login(_) => Err(cannot("nobody was asked".to_owned())),
        }
    }
}
