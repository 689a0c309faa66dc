//! What the flags, attestors and commands of witness and cilock do that affiant itself does not have.
//!
//! A part that is built later loses its lines here: an attestor by being in the list of attestors, a flag by being
//! taken from the table.

use super::Called;

/// A part of the peers that affiant does not have yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Platform,
    Kms,
    Vault,
    Spiffe,
    Timestamps,
    Tracing,
    Providers,
    Cloud,
    Attestors,
}

impl Part {
    /// What it is called in a refusal.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Platform => "services behind one URL (keyless signing, timestamps, archivista)",
            Self::Kms => "keys in key management services",
            Self::Vault => "certificates from Vault",
            Self::Spiffe => "SPIFFE identities",
            Self::Timestamps => "timestamps (RFC 3161)",
            Self::Tracing => "tracing",
            Self::Providers => "attestors of CI providers",
            Self::Cloud => "attestors of cloud machines",
            Self::Attestors => "further attestors",
        }
    }

    /// What to do until then.
    pub(crate) const fn hint(self) -> &'static str {
        match self {
            Self::Platform => {
                "write `--platform-url \"\"` or `--offline`, and name a key with `--signer-file-key-path FILE`"
            }
            Self::Kms | Self::Vault | Self::Spiffe => "name a key file with `--signer-file-key-path FILE`",
            Self::Timestamps => "leave the flag out: a key needs no timestamp",
            Self::Tracing => "leave the flag out: materials and products are found by looking at the folder twice",
            Self::Providers | Self::Cloud | Self::Attestors => "leave it out; `attestors list` says which there are",
        }
    }
}

/// Attestors of the peers that are not built, until they are.
pub(crate) const ATTESTORS: &[(&[&str], Part)] = &[
    (&["github-review", "githubwebhook"], Part::Providers),
    (&["aws", "aws-iid", "aws-codebuild", "gcp-iit"], Part::Cloud),
    (
        &[
            "configuration",
            "go-build",
            "govulncheck",
            "inclusion-proof",
            "k8smanifest",
            "lockfiles",
            "maven",
            "network-trace",
            "omnitrail",
            "pip-install",
            "policyverify",
            "sarif",
            "secretscan",
            "structured-data",
            "system-packages",
            "test-results",
            "trivy",
            "vex",
        ],
        Part::Attestors,
    ),
];

/// Flags that begin like this, by what they need.
pub(super) const PREFIXES: &[(&str, Part)] = &[
    ("signer-kms-", Part::Kms),
    ("signer-vault-", Part::Vault),
    ("signer-spiffe-", Part::Spiffe),
    ("verifier-kms-", Part::Kms),
];

/// How a flag is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `--flag`, `--flag=false`.
    Truth,
    /// `--flag VALUE`.
    Value,
}

/// What a flag does.
#[derive(Clone, Copy)]
pub(super) enum Does {
    /// Nothing, and why that is right.
    Nothing(&'static str),
    /// It needs a part, unless it has one of these values.
    Needs(Part, &'static [&'static str]),
    /// It is refused, unless it has one of these values: why, and what to do instead.
    Refused(&'static [&'static str], &'static str, &'static str),
    /// What affiant calls it.
    Means(&'static str, Meaning),
}

/// What a flag changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// `--workload`.
    Workload,
    /// `--plan`.
    Plan,
}

/// A flag of the peers.
pub(super) struct Flag {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) alias: Option<&'static str>,
    pub(super) verbs: &'static [&'static str],
    /// Whose it is.
    pub(super) of: &'static [Called],
    pub(super) takes: Takes,
    pub(super) does: Does,
}

const BOTH: &[Called] = &[Called::Witness, Called::Cilock];
const WITNESS: &[Called] = &[Called::Witness];
const CILOCK: &[Called] = &[Called::Cilock];
const COSIGN: &[Called] = &[Called::Cosign];

/// The commands that the names have.
pub(super) const VERBS: &[&str] = &["run", "attest", "sign", "verify", "policy", "attestors", "bundle"];
/// The commands that the name `cosign` has, in our words.
pub(super) const COSIGN_VERBS: &[&str] = &["image"];
const CAPTURE: &[&str] = &["run", "attest"];
const STORES: &[&str] = &["run", "attest", "verify"];
const SIGNERS: &[&str] = &["run", "attest", "sign"];
const VERIFY: &[&str] = &["verify"];

const fn truth(long: &'static str, of: &'static [Called], verbs: &'static [&'static str], does: Does) -> Flag {
    Flag { long, short: None, alias: None, verbs, of, takes: Takes::Truth, does }
}

const fn value(long: &'static str, of: &'static [Called], verbs: &'static [&'static str], does: Does) -> Flag {
    Flag { long, short: None, alias: None, verbs, of, takes: Takes::Value, does }
}

const PROFILES: Does = Does::Refused(&[""], "affiant writes no profile of itself", "leave it out");
const WITH_TRACE: Does = Does::Nothing("only `--trace` would read it");
const REPORT: &str = "stdout belongs to the command; `--report FILE` writes what happened as JSON";

const BOTH_FORMS: Does = Does::Nothing("both forms are written, and each is found by itself");
const FILES: &str = "what is checked is what the registry keeps beside the image";
const OWN_CERTIFICATE: Does =
    Does::Refused(&[""], "a certificate is got when it is signed, or there is a key", "leave it out");
const NOT_KEPT: Does = Does::Refused(
    &["false"],
    "what is signed for an image is kept beside it",
    "`attest-blob` and `sign-blob` write files",
);
const BESIDE: Does = Does::Refused(
    &[""],
    "what is signed for an image is kept beside it",
    "`affiant image download` gives it out; `sign-blob` and `attest-blob` write files",
);
const WHOLE: &str = "all that is kept about an image is carried with it";
const NO_EVIDENCE: &str = "`--no-evidence` leaves all of it behind";
const CARRIED_WHOLE: Does = Does::Refused(&["sig,att,sbom"], WHOLE, NO_EVIDENCE);
const CLIENT_CERTIFICATE: Does =
    Does::Refused(&[""], "certificates of clients are not sent to timestamp authorities", "leave it out");

/// All flags that the peers have and affiant has not, or has under another name.
pub(super) const FLAGS: &[Flag] = &[
    Flag { short: Some('l'), ..value("log-level", BOTH, VERBS, Does::Nothing("messages are few and have no levels")) },
    value("debug-cpu-profile-file", BOTH, VERBS, PROFILES),
    value("debug-mem-profile-file", BOTH, VERBS, PROFILES),
    value("platform-url", CILOCK, VERBS, Does::Needs(Part::Platform, &[""])),
    truth("offline", CILOCK, &["sign"], Does::Nothing("no host is in any default")),
    value(
        "policy-hardening",
        CILOCK,
        VERBS,
        Does::Refused(&["enforce"], "a name chooses the syntax, never leniency", "leave it out; `--mode warn` is ours"),
    ),
    truth("archivista-oidc", CILOCK, STORES, Does::Needs(Part::Platform, &["false"])),
    value("archivista-audience", CILOCK, STORES, Does::Nothing("only `--archivista-oidc` would read it")),
    Flag { short: Some('r'), ..truth("trace", BOTH, CAPTURE, Does::Needs(Part::Tracing, &["false"])) },
    value("capture-mode", CILOCK, CAPTURE, Does::Needs(Part::Tracing, &["auto", "walk"])),
    value("hardening", CILOCK, CAPTURE, Does::Needs(Part::Tracing, &["off", "standard"])),
    truth("require-zero-drops", CILOCK, CAPTURE, Does::Needs(Part::Tracing, &["false"])),
    value("attestor-command-run-trace-backend", BOTH, CAPTURE, WITH_TRACE),
    value("prewalk-skip-dir", CILOCK, CAPTURE, WITH_TRACE),
    value("prewalk-include-dir", CILOCK, CAPTURE, WITH_TRACE),
    value("cache-add-pattern", CILOCK, CAPTURE, WITH_TRACE),
    value("cache-allow-pattern", CILOCK, CAPTURE, WITH_TRACE),
    truth("diagnose", CILOCK, CAPTURE, WITH_TRACE),
    truth("signer-fulcio-use-http", BOTH, SIGNERS, Does::Nothing("HTTP is what is spoken")),
    value("vsa-timestamp-servers", CILOCK, VERIFY, Does::Needs(Part::Timestamps, &[""])),
    value(
        "signer-file-key-passphrase",
        CILOCK,
        &["run", "attest", "sign", "verify"],
        Does::Refused(
            &[],
            "everybody on this machine can read a command line",
            "name a file with `--signer-file-key-passphrase-path FILE`, or set AFLOCK_KEY_PASSPHRASE",
        ),
    ),
    value(
        "workload",
        CILOCK,
        CAPTURE,
        Does::Means(
            "`auto`: those that the step calls for, besides those named with `-a`; `manual`: those named, or `environment,git`",
            Meaning::Workload,
        ),
    ),
    truth("validate-only", CILOCK, CAPTURE, Does::Means("`--plan`", Meaning::Plan)),
    value("output-format", CILOCK, CAPTURE, Does::Refused(&["text"], REPORT, "write `--report FILE`")),
    truth("json", CILOCK, CAPTURE, Does::Refused(&["false"], REPORT, "write `--report FILE`")),
    value(
        "no-default-attestor",
        CILOCK,
        CAPTURE,
        Does::Refused(
            &[""],
            "materials and products are part of all evidence",
            "`--material-include-glob` chooses materials",
        ),
    ),
    truth("ignore-command-exit-code", CILOCK, &["attest"], Does::Nothing("there is no command")),
    truth("no-embedded-trust", CILOCK, VERIFY, Does::Nothing("no trust is built in")),
    truth(
        "trust-discovery",
        CILOCK,
        VERIFY,
        Does::Refused(&["false"], "whom the gate trusts is taken from flags only", "name keys and roots"),
    ),
    Flag { short: Some('v'), ..truth("verbose", CILOCK, &["run"], Does::Nothing("of `plan`, whose text is complete")) },
    value(
        "verifier-file-key-path",
        WITNESS,
        VERIFY,
        Does::Refused(&[""], "it is `--publickey` that names the policy's key", "write `--publickey FILE`"),
    ),
    Flag {
        short: Some('t'),
        ..value("timeout", COSIGN, COSIGN_VERBS, Does::Nothing("each question has its own limit"))
    },
    Flag {
        short: Some('d'),
        ..truth("verbose", COSIGN, COSIGN_VERBS, Does::Nothing("messages are few and have no levels"))
    },
    value("output-file", COSIGN, COSIGN_VERBS, Does::Refused(&[""], "stdout is where data goes", "write `> FILE`")),
    truth("new-bundle-format", COSIGN, COSIGN_VERBS, BOTH_FORMS),
    truth("experimental-oci11", COSIGN, COSIGN_VERBS, BOTH_FORMS),
    truth(
        "upload",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&["true"], "a signature is kept beside the image", "leave it out"),
    ),
    truth("record-creation-timestamp", COSIGN, COSIGN_VERBS, Does::Nothing("times under tags prove nothing")),
    value("certificate", COSIGN, COSIGN_VERBS, OWN_CERTIFICATE),
    value("certificate-chain", COSIGN, COSIGN_VERBS, OWN_CERTIFICATE),
    truth(
        "insecure-skip-verify",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&["false"], "what the services answer is compared with what was asked", "leave it out"),
    ),
    value(
        "rfc3161-timestamp-bundle",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&[""], "it is `--rfc3161-timestamp`", "write `--rfc3161-timestamp FILE`"),
    ),
    value("output-signature", COSIGN, COSIGN_VERBS, BESIDE),
    value("output-payload", COSIGN, COSIGN_VERBS, BESIDE),
    value("output-certificate", COSIGN, COSIGN_VERBS, BESIDE),
    value("bundle", COSIGN, COSIGN_VERBS, BESIDE),
    truth("no-upload", COSIGN, COSIGN_VERBS, NOT_KEPT),
    value(
        "statement",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&[""], "the statement is made here", "write `--type TYPE --predicate FILE`"),
    ),
    value(
        "rekor-entry-type",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&["dsse"], "statements are entered as `dsse`", "leave it out"),
    ),
    truth("b64", COSIGN, COSIGN_VERBS, Does::Refused(&["true"], "signatures are written in base64", "leave it out")),
    value("signature", COSIGN, COSIGN_VERBS, Does::Refused(&[""], FILES, "`verify-blob` checks a file's signature")),
    truth(
        "allow-certificate-chain",
        COSIGN,
        COSIGN_VERBS,
        Does::Nothing("the certificates above a signer's are read wherever they are, and none is believed"),
    ),
    value("only", COSIGN, COSIGN_VERBS, CARRIED_WHOLE),
    truth("sig-only", COSIGN, COSIGN_VERBS, Does::Refused(&["false"], WHOLE, NO_EVIDENCE)),
    Flag {
        short: Some('f'),
        ..truth("force", COSIGN, COSIGN_VERBS, Does::Nothing("what arrives is added to what is there"))
    },
    value("registry-referrers-mode", COSIGN, COSIGN_VERBS, BOTH_FORMS),
    value("timestamp-client-cacert", COSIGN, COSIGN_VERBS, CLIENT_CERTIFICATE),
    value("timestamp-client-cert", COSIGN, COSIGN_VERBS, CLIENT_CERTIFICATE),
    value("timestamp-client-key", COSIGN, COSIGN_VERBS, CLIENT_CERTIFICATE),
    value("timestamp-server-name", COSIGN, COSIGN_VERBS, CLIENT_CERTIFICATE),
    truth("sk", COSIGN, COSIGN_VERBS, Does::Needs(Part::Kms, &["false"])),
    value("slot", COSIGN, COSIGN_VERBS, Does::Nothing("only `--sk` would read it")),
    value(
        "attachment",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&[""], "an SBOM is attested, not attached and signed", "write `attest --type`"),
    ),
    truth("local-image", COSIGN, COSIGN_VERBS, Does::Refused(&["false"], FILES, "push the image")),
    value("payload", COSIGN, COSIGN_VERBS, Does::Refused(&[""], FILES, "leave it out")),
    value("max-workers", COSIGN, COSIGN_VERBS, Does::Nothing("eight images are looked at at the same time")),
    truth(
        "k8s-keychain",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&["false"], "passwords are those of docker and podman", "docker login"),
    ),
    value(
        "registry-cacert",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&[""], "authorities are those of the machine", "set SSL_CERT_FILE"),
    ),
    value(
        "registry-client-cert",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&[""], "certificates of clients are not sent", "use a password or token"),
    ),
    value(
        "registry-client-key",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&[""], "certificates of clients are not sent", "use a password or token"),
    ),
    value(
        "registry-server-name",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&[""], "a server is known by the name that it is asked by", "leave it out"),
    ),
    value(
        "signature-digest-algorithm",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&["sha256", "sha384", "sha512"], "no key signs images with another hash", "leave it out"),
    ),
    value(
        "signing-algorithm",
        COSIGN,
        COSIGN_VERBS,
        Does::Refused(&[""], "the kind of key says how it signs", "leave it out"),
    ),
    truth("skip-confirmation", COSIGN, COSIGN_VERBS, Does::Nothing("nothing is asked")),
];

/// Commands of cilock that speak with its platform, or that affiant has under another name.
pub(super) const OTHER_VERBS: &[(&[&str], &str)] = &[
    (&["login", "logout", "use", "whoami", "trust"], "it speaks with cilock's platform, which affiant does not use"),
    (&["tools"], "`affiant attestors list` says which attestors there are"),
    (&["prove"], "a leaf proves nothing without the signed tree, which `verify` reads"),
    (&["keyid"], "`affiant key id FILE` prints the id of a key"),
];
/// Commands of cosign that affiant has not.
pub(super) const COSIGN_OTHER_VERBS: &[(&[&str], &str)] = &[
    (
        &["attach"],
        "`affiant image attest` signs an SBOM or any statement; `affiant image attach` keeps evidence of runs",
    ),
    (&["login"], "`docker login` or `podman login` keeps the password"),
    (&["signing-config"], "a signing configuration is written by hand; `--signing-config FILE` names it"),
    (
        &["piv-tool", "pkcs11-tool", "import-key-pair"],
        "`affiant key convert --form cosign` writes a key in cosign's form",
    ),
    (&["env", "dockerfile", "manifest", "upload", "debug"], "nothing takes its place"),
    (&["bundle"], "a bundle is written by `sign-blob --bundle`"),
    (&["completion"], "`affiant completions SHELL` writes those of affiant"),
];
/// The same of `policy`.
pub(super) const OTHER_POLICY_VERBS: &[(&[&str], &str)] = &[(
    &["push", "bind", "from-commit", "catalog", "draft"],
    "it speaks with cilock's platform, which affiant does not use",
)];
