//! The Sigstore instance that `setup` starts (`sigstore/stack`): its services, tokens for them, and what verifiers trust.

use std::path::PathBuf;

use crate::harness::{Ended, Place, peers, variable};
use crate::hosts::call;

/// Whom a GitLab-shaped token speaks of, as the certificate names it.
pub(crate) const GITLAB: &str = "https://gitlab.example.com/group/project//.gitlab-ci.yml@refs/heads/main";
/// The same of a GitHub-shaped one.
pub(crate) const GITHUB: &str = "https://github.com/example/project/.github/workflows/release.yml@refs/heads/main";

/// Leaves the test when the instance or one of these programs is missing.
macro_rules! need_sigstore {
    ($($name:literal),* $(,)?) => {
        crate::hosts::need_registries!("sigstore", "cosign3", $($name),*)
    };
}
pub(crate) use need_sigstore;

/// The services that prove a time: what `signing_config_<name>.json` says, and what the verifiers must be told for it.
#[derive(Clone)]
pub(crate) struct Proof {
    pub(crate) name: &'static str,
    /// Whether a signature below the tag can have it: its annotations hold no entry of Rekor 2.
    pub(crate) tag: bool,
    /// For cosign 2, when it reads a bundle.
    pub(crate) cosign2: &'static [&'static str],
    /// For cosign 3 and affiant, and for cosign 2 when it reads a tag.
    pub(crate) check: &'static [&'static str],
}

const NO_LOG: &[&str] = &["--insecure-ignore-tlog", "--use-signed-timestamps"];
const PROOFS: [Proof; 3] = [
    Proof { name: "rekor1", tag: true, cosign2: &[], check: &[] },
    Proof { name: "rekor2", tag: false, cosign2: &["--use-signed-timestamps"], check: &[] },
    Proof { name: "tsa", tag: true, cosign2: NO_LOG, check: NO_LOG },
];

/// The proofs whose services run; Rekor 1 is of the heavy set, and is left out with a word where it is not there.
pub(crate) fn proofs() -> impl Iterator<Item = Proof> {
    let thread = std::thread::current();
    let test = format!("{}, Rekor 1", thread.name().unwrap_or("a test"));
    PROOFS.into_iter().filter(move |proof| proof.name != "rekor1" || peers(&test, &["rekor1"]))
}

/// The instance.
pub(crate) struct Stack {
    folder: PathBuf,
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self { folder: variable("AFFIANT_PEERS_SIGSTORE").expect("it runs").into() }
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Everything that a verifier trusts.
    pub(crate) fn root(&self) -> String {
        self.file("trusted_root.json")
    }

    /// Where a signer goes for this proof.
    pub(crate) fn config(&self, proof: &str) -> String {
        self.file(&format!("signing_config_{proof}.json"))
    }

    pub(crate) fn service(&self, name: &str) -> String {
        let services = std::fs::read_to_string(self.folder.join("services")).expect("read");
        let mut lines = services.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(service, _)| *service == name).unwrap_or_else(|| panic!("{name} is no service")).1.to_owned()
    }

    fn token(&self, place: &Place, issuer: &str, more: &[&str]) -> String {
        let (keys, iss) = (self.file("keys"), self.service(issuer));
        let line = [&["token", "-dir", &keys, "-iss", &iss][..], more].concat();
        call(place, "sigstore-fakes", &line).code(0).stdout.trim().to_owned()
    }

    /// The token of a job of GitLab; `more` changes claims (`NAME=VALUE`).
    pub(crate) fn gitlab(&self, place: &Place, more: &[&str]) -> String {
        let claims = self.file("gitlab.json");
        self.token(place, "gitlab", &[&["-claims", &claims][..], more].concat())
    }

    /// The token of a job of GitHub.
    pub(crate) fn github(&self, place: &Place, more: &[&str]) -> String {
        let claims = self.file("keys/github.json");
        self.token(place, "github", &[&["-claims", &claims][..], more].concat())
    }

    /// The token of a person.
    pub(crate) fn person(&self, place: &Place, address: &str) -> String {
        self.token(place, "mail", &["sub=1", &format!("email={address}"), "email_verified=true"])
    }

    /// Flags that ask for the job of GitLab, with the roots of this instance.
    pub(crate) fn gitlab_flags(&self) -> Vec<String> {
        self.flags(GITLAB, &self.service("gitlab"))
    }

    pub(crate) fn flags(&self, identity: &str, issuer: &str) -> Vec<String> {
        let root = self.root();
        ["--trusted-root", &root, "--certificate-identity", identity, "--certificate-oidc-issuer", issuer]
            .map(str::to_owned)
            .to_vec()
    }

    /// The variables of old by which cosign 2 knows a private instance.
    pub(crate) fn older_variables(&self) -> [(&'static str, String); 4] {
        [
            ("SIGSTORE_ROOT_FILE", self.file("fulcio-chain.pem")),
            ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", self.file("ctlog.pub")),
            ("SIGSTORE_REKOR_PUBLIC_KEY", self.file("rekor1.pub")),
            ("SIGSTORE_TSA_CERTIFICATE_FILE", self.file("tsa-chain.pem")),
        ]
    }
}

/// A program with a token in its environment, and passwords for the registries.
pub(crate) fn with_token(place: &Place, token: &str, program: &str, line: &[&str], more: &[(&str, String)]) -> Ended {
    let folder = place.beside("home/.docker");
    let mut command = place.command(program);
    command.args(line).env("DOCKER_CONFIG", &folder).env("REGISTRY_AUTH_FILE", folder.join("config.json"));
    command.env("SIGSTORE_ID_TOKEN", token).env("COSIGN_YES", "true");
    command.envs(more.iter().map(|(name, value)| (name, value)));
    Ended::of(&command.output().unwrap_or_else(|error| panic!("{program}: {error}")))
}

/// The words of a line as they are handed to a program.
pub(crate) fn line<'a>(parts: &[&[&'a str]], owned: &'a [String], last: &[&'a str]) -> Vec<&'a str> {
    let mut all: Vec<&str> = parts.concat();
    all.extend(owned.iter().map(String::as_str));
    all.extend(last);
    all
}
