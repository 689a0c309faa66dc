//! What `--help` shows of a command with many options, and under which headings.
//!
//! About twenty are shown; the rest stand under `--help-all`, in the reference and in the manual pages. The same flag is
//! told in the same way wherever it is.

use clap::{Arg, ArgAction, Command};

/// Where a command has no more options than these, all are shown.
const FEW: usize = 20;

const KEYS: &str = "Keys";
const CERTIFICATES: &str = "Certificates";
const LOGS: &str = "Logs and timestamps";
const REGISTRY: &str = "Registry";
const OUTPUT: &str = "Output";
const POLICY: &str = "Policy";
const EVIDENCE: &str = "Evidence";
const IMAGES: &str = "Images";
const SUMMARY: &str = "Signing a summary (VSA)";

/// What a command is about: it says what its flags mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// The gate, and what asks it.
    Gate,
    /// Signs, or attests, an image or a file.
    Signing,
    /// Checks one.
    Checking,
    /// Whatever else is done with an image.
    Image,
    /// Makes evidence or signs a document, with headings of its own.
    Other,
}

/// The commands that are looked after, by their names below `affiant`; all below `image` are besides.
const VERBS: [(&[&str], Family); 7] = [
    (&["verify"], Family::Gate),
    (&["promote"], Family::Gate),
    (&["run"], Family::Other),
    (&["attest"], Family::Other),
    (&["sign"], Family::Other),
    (&["resume"], Family::Other),
    (&["policy", "sign"], Family::Other),
];
const SIGNING: [&str; 5] = ["sign", "attest", "sign-blob", "attest-blob", "import-buildkit"];
const CHECKING: [&str; 4] = ["verify", "verify-attestation", "verify-blob", "verify-blob-attestation"];

/// Whom a certificate to sign with comes from, and who gets it.
const CERTIFYING: [&str; 12] = [
    "fulcio-url",
    "fulcio-request",
    "fulcio-auth-flow",
    "issue-certificate",
    "identity-token",
    "oidc-issuer",
    "oidc-client-id",
    "oidc-client-secret-file",
    "oidc-redirect-url",
    "oidc-provider",
    "oidc-disable-ambient-providers",
    "login-timeout",
];
/// What proves when something was signed, and what is done where that fails.
const LOGGING: [&str; 11] = [
    "trusted-root",
    "signing-config",
    "use-signing-config",
    "timestamp-servers",
    "rekor-url",
    "log",
    "tlog-upload",
    "log-public-ok",
    "on-log-failure",
    "retry-for",
    "spool",
];
/// Headings by flag; a flag of no row has the heading that its own place gives it.
const HEADINGS: [(&[Family], &str, &[&str]); 10] = [
    (&[Family::Gate], OUTPUT, &["mode", "at", "output", "report", "output-bundle", "digest-out"]),
    (
        &[Family::Gate],
        EVIDENCE,
        &[
            "attestations",
            "subjects",
            "archive",
            "enable-archivista",
            "archivista-server",
            "archivista-headers",
            "bundle",
            "offline",
        ],
    ),
    (&[Family::Signing], KEYS, &["key", "key-password-file", "attested-by-key"]),
    (&[Family::Signing], CERTIFICATES, &CERTIFYING),
    (&[Family::Signing], LOGS, &LOGGING),
    (&[Family::Gate], SUMMARY, &CERTIFYING),
    (&[Family::Gate], SUMMARY, &LOGGING),
    (
        &[Family::Signing],
        OUTPUT,
        &[
            "format",
            "archive",
            "bundle",
            "output-signature",
            "output-attestation",
            "output-certificate",
            "rfc3161-timestamp",
        ],
    ),
    (&[Family::Checking], OUTPUT, &["output"]),
    (
        &[Family::Signing, Family::Checking, Family::Image, Family::Gate],
        REGISTRY,
        &[
            "allow-http-registry",
            "allow-insecure-registry",
            "registry-username",
            "registry-password",
            "registry-token",
            "registry-referrers-mode",
            "upload-chunk",
            "attachment-tag-prefix",
            "evidence-repository",
        ],
    ),
];
/// The same of commands that check signatures.
const OF_CHECKING: [(&str, &[&str]); 3] = [
    (KEYS, &["key"]),
    (CERTIFICATES, &["certificate", "certificate-chain", "ca-roots", "ca-intermediates", "sct", "insecure-ignore-sct"]),
    (
        LOGS,
        &[
            "trusted-root",
            "insecure-ignore-tlog",
            "private-infrastructure",
            "rekor-url",
            "offline",
            "use-signed-timestamps",
            "timestamp-certificate-chain",
            "rfc3161-timestamp",
        ],
    ),
];
/// Flags that belong to no heading, whatever stands before them.
const PLAIN: [&str; 6] = ["plan", "plan-output", "config", "help-all", "bundle", "signature"];

/// Flags that few need, in every command with many.
const RARE: [&str; 22] = [
    "allow-insecure-registry",
    "registry-token",
    "registry-referrers-mode",
    "upload-chunk",
    "attachment-tag-prefix",
    "fulcio-auth-flow",
    "fulcio-request",
    "issue-certificate",
    "oidc-issuer",
    "oidc-client-id",
    "oidc-client-secret-file",
    "oidc-redirect-url",
    "oidc-disable-ambient-providers",
    "oidc-provider",
    "login-timeout",
    "retry-for",
    "signing-config",
    "use-signing-config",
    "log-public-ok",
    "on-log-failure",
    "tlog-upload",
    "key-certificate-chain",
];
/// The same of commands of one family.
const RARE_OF: [(Family, &[&str]); 4] = [
    (
        Family::Gate,
        &[
            "artifactfile",
            "directory-path",
            "subjects",
            "policy-emails",
            "policy-uris",
            "registry-username",
            "registry-password",
            "evidence-repository",
            "identity-token",
            "trusted-root",
            "rekor-url",
            "log",
            "spool",
            "key-certificate",
            "timestamp-servers",
        ],
    ),
    (Family::Signing, &["spool", "output-attestation"]),
    (
        Family::Checking,
        &[
            "private-infrastructure",
            "rekor-url",
            "use-signed-timestamps",
            "certificate-chain",
            "ca-intermediates",
            "sct",
            "insecure-ignore-sct",
            "check-claims",
        ],
    ),
    (
        Family::Other,
        &[
            "trusted-root",
            "rekor-url",
            "key-certificate",
            "attestor-product-include-glob",
            "attestor-product-exclude-glob",
            "material-include-glob",
            "material-exclude-glob",
            "kill-after",
            "archivista-headers",
        ],
    ),
];

/// Gives the options of commands with many their headings, and hides the rare ones from `--help`.
pub(super) fn tidy(command: Command) -> Command {
    let command = VERBS.iter().fold(command, |command, (path, family)| below(command, path, *family));
    command.mut_subcommand("image", |image| {
        let verbs: Vec<String> = image.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        verbs.iter().fold(image, |image, verb| {
            let family = match verb.as_str() {
                verb if SIGNING.contains(&verb) => Family::Signing,
                verb if CHECKING.contains(&verb) => Family::Checking,
                _ => Family::Image,
            };
            image.mut_subcommand(verb, |verb| all(verb, family))
        })
    })
}

fn below(command: Command, path: &[&str], family: Family) -> Command {
    match path {
        [] => all(command, family),
        [first, rest @ ..] => command.mut_subcommand(first, |verb| below(verb, rest, family)),
    }
}

/// A command, or those below it.
fn all(command: Command, family: Family) -> Command {
    if command.has_subcommands() {
        let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        return verbs.iter().fold(command, |command, verb| command.mut_subcommand(verb, |verb| all(verb, family)));
    }
    let has_all = command.get_arguments().any(|arg| arg.get_long() == Some("help-all"));
    let command = if has_all { command } else { command.arg(help_all()) };
    let shown = command.get_arguments().filter(|arg| arg.get_long().is_some() && !arg.is_hide_set()).count();
    command.mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
        let arg = headed(arg, &long, family);
        if shown > FEW && is_rare(&long, family) { arg.hide(true) } else { arg }
    })
}

fn help_all() -> Arg {
    Arg::new("help_all").long("help-all").action(ArgAction::SetTrue).help("Show every option")
}

fn headed(arg: Arg, long: &str, family: Family) -> Arg {
    let of_checking = OF_CHECKING.iter().filter(|_| family == Family::Checking).copied();
    let mut rows = HEADINGS
        .iter()
        .filter(|(families, ..)| families.contains(&family))
        .map(|(_, heading, flags)| (*heading, *flags))
        .chain(of_checking);
    let by_name = || match family {
        Family::Gate if long == "publickey" || long.starts_with("policy") => Some(POLICY),
        Family::Gate if long == "image" || long.starts_with("image-") || long == "platform" => Some(IMAGES),
        Family::Gate if long.starts_with("vsa-") || long.starts_with("key-") || long == "signer-file-key-path" => {
            Some(SUMMARY)
        }
        _ => None,
    };
    match rows.find(|(_, flags)| flags.contains(&long)).map(|(heading, _)| heading).or_else(by_name) {
        Some(heading) => arg.help_heading(heading),
        None if PLAIN.contains(&long) => arg.help_heading(None),
        None => arg,
    }
}

fn is_rare(long: &str, family: Family) -> bool {
    RARE.contains(&long) || RARE_OF.iter().any(|(of, flags)| *of == family && flags.contains(&long))
}
