//! `affiant image sign`.

use std::collections::BTreeMap;

use affiant_core::dsse::{Envelope, Signature, pae_header};
use affiant_core::image::attached::{self, Earlier, Kind as Tagged, Layer};
use affiant_core::image::found::{self, Content, Demand, Sought, judge_signature};
use affiant_core::image::payload::Payload;
use affiant_core::image::shared::{Pace, SharedError};
use affiant_core::image::{Descriptor, claim, keyed, sigstore};
use affiant_core::redact::{Redactor, VariableMask};
use affiant_core::sign::{PrivateKey, Signer as _};
use affiant_core::statement::PAYLOAD_TYPE;
use clap::{Args, ValueEnum};

use super::annotations::AnnotationArgs;
use super::place::{Image, RegistryArgs};
use super::targets::no_answer;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;
use crate::cli::{Ending, keys, surroundings};

/// How a signature is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Under a tag beside the image: cosign v2, Kyverno `Cosign`
    Tag,
    /// As a Sigstore bundle that refers to the image: cosign v3, Kyverno `SigstoreBundle`
    Bundle,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Legacy,
    #[value(name = "oci-1-1")]
    Referrer,
}

/// The key, and what is asked of every command that signs for images.
#[derive(Args)]
pub(super) struct SigningArgs {
    /// Sign with this key: a file, or `env:NAME`
    #[arg(long, value_name = "KEY", env = "AFFIANT_KEY", hide_env_values = true)]
    key: Option<String>,
    /// File whose first line is the password of the key
    #[arg(long, value_name = "FILE", env = "AFFIANT_KEY_PASSWORD_FILE", hide_env_values = true)]
    key_password_file: Option<std::path::PathBuf>,
    /// Make an entry in a transparency log: not with keys so far
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", hide = true)]
    tlog_upload: Option<bool>,
    /// Do not ask: nothing is asked
    #[arg(short = 'y', long, hide = true)]
    yes: bool,
}

impl SigningArgs {
    /// Loads the key.
    pub(super) fn load(&self, output: &Output) -> Result<PrivateKey, Failure> {
        let Some(key) = &self.key else {
            return Err(Failure::usage(
                "no key is named, and signing without one (keyless) is a part that this affiant does not have",
            )
            .hint("name a key with `--key FILE`"));
        };
        let loaded = keys::signing_key(key, self.key_password_file.as_deref()).map_err(|mut failure| {
            failure.kind = Kind::NoAnswer;
            failure
        })?;
        if self.tlog_upload == Some(true) {
            return Err(Failure::usage(
                "--tlog-upload: entries in a transparency log are a part that this affiant does not have",
            )
            .hint(
                "leave it out, or write `--tlog-upload=false`; who checks the signature says `--insecure-ignore-tlog`",
            ));
        }
        if loaded.key.public_key().kind() == affiant_core::sign::KeyKind::Ed25519 {
            output
                .message("note: cosign does not check the signatures of Ed25519 keys under tags; P-256 is read by all");
        }
        Ok(loaded.key)
    }
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image sign --key cosign.key -a tag=1.2 -a commit=$CI_COMMIT_SHA registry.example/app@sha256:…\n\nThe password comes from --key-password-file, AFFIANT_KEY_PASSWORD, COSIGN_PASSWORD or the terminal.\nExit codes: 0 signed, 2 usage, 4 no answer, 11 no such image."
)]
pub(crate) struct SignArgs {
    /// The image; by digest, or a tag is resolved once
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    #[command(flatten)]
    annotations: AnnotationArgs,
    /// Of an index, sign every manifest as well
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    signing: SigningArgs,
    /// How the signature is kept
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tag,bundle")]
    format: Vec<Format>,
    /// `oci-1-1`: instead of the tag, a referrer
    #[arg(
        long,
        value_enum,
        default_value = "legacy",
        hide_default_value = true,
        hide_possible_values = true,
        value_name = "MODE"
    )]
    registry_referrers_mode: Mode,
    /// What stands in the signature as the image's name, instead of its repository; a layout that says none needs it
    #[arg(long, alias = "identity", value_name = "NAME")]
    sign_container_identity: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn sign(args: &SignArgs, output: &Output) -> Result<Ending, Failure> {
    let annotations = args.annotations.read(output)?;
    let redactor = Redactor::new(&surroundings::environment(), &[], &VariableMask::default());
    output.mask(redactor.clone());
    // What is signed is public from then on (security rule 4).
    if let Some((name, _)) = annotations.iter().find(|(_, value)| redactor.hits_document(value.as_bytes())) {
        return Err(Failure::new(
            Kind::Denied,
            format!(
                "the annotation {name} holds the value of a secret variable of this environment, so it is not signed"
            ),
        ));
    }
    let key = args.signing.load(output)?;
    let created = surroundings::clock()?.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for name in &args.images {
        let image = args.registry.image_to_change(name)?;
        if !image.is_pinned() {
            output.message(&format!("note: {name} is now {}; a tag may mean another image later", image.digest()));
        }
        let manifests = if args.recursive { image.with_children()? } else { vec![image.stored.descriptor()] };
        let earlier = Signed { image: &image, key: &key, args, annotations: &annotations, created: &created };
        for manifest in &manifests {
            earlier.one(manifest, output)?;
        }
        image.finish()?;
    }
    Ok(Ending::Done)
}

struct Signed<'a> {
    image: &'a Image,
    key: &'a PrivateKey,
    args: &'a SignArgs,
    annotations: &'a BTreeMap<String, String>,
    created: &'a str,
}

/// A tag or a list was not written.
pub(super) fn not_kept(place: &str, error: &SharedError) -> Failure {
    Failure::because(Kind::NoAnswer, format!("{place}: it was signed, and could not be kept"), error)
}

pub(super) fn not_signed(error: &affiant_core::sign::SignError) -> Failure {
    Failure::because(Kind::NoAnswer, "the key cannot sign", error)
}

/// A statement in an envelope of one signature without key id, and its bundle.
pub(super) fn sealed(key: &PrivateKey, statement: Vec<u8>) -> Result<(Envelope, Vec<u8>), Failure> {
    let header = pae_header(PAYLOAD_TYPE, statement.len());
    let sig = keyed::sign(key, &[&header, &statement]).map_err(|error| not_signed(&error))?;
    let signature = Signature { sig, ..Signature::default() };
    let envelope =
        Envelope { payload: statement, payload_type: PAYLOAD_TYPE.to_owned(), signatures: vec![signature.clone()] };
    let bundle = sigstore::of_envelope(&envelope, &signature, &sigstore::hint(key.public_key()));
    Ok((envelope, bundle))
}

impl Signed<'_> {
    fn one(&self, manifest: &Descriptor, output: &Output) -> Result<(), Failure> {
        let pace = Pace::default();
        let (keeper, digest) = (self.image.keeper(), &manifest.digest);
        let place = format!("{}@{digest}", self.image.name());
        let demand = Demand {
            digest,
            key: self.key.public_key(),
            annotations: self.annotations,
            log: false,
            time: None,
            claims: true,
        };
        let failed = |error: SharedError| not_kept(&place, &error);
        if self.args.format.contains(&Format::Tag) {
            let name = self.image.identity(self.args.sign_container_identity.as_deref())?;
            let payload = Payload::new(name, digest.clone(), self.annotations).to_json();
            let signature = keyed::sign(self.key, &[&payload]).map_err(|error| not_signed(&error))?;
            let layer = Layer::signature(payload.clone(), &signature);
            if self.args.registry_referrers_mode == Mode::Referrer {
                let referrer = attached::signature_referrer(&layer);
                let kept = attached::refer(keeper, manifest, &referrer, &pace).map_err(failed)?;
                output.message(&format!("signed: {place}; kept as referrer {}@{kept}", self.image.keeper_name()));
            } else {
                let tag = format!("{}{}", self.image.prefix(), digest.tag(Tagged::Signature.suffix()));
                let is_same = |one: &Descriptor| {
                    attached::signature_of(one)
                        .is_ok_and(|found| keyed::holds(self.key.public_key(), &[&payload], &found).is_ok())
                };
                let new = attached::append(keeper, &tag, &layer, Earlier::Keep, &pace, is_same).map_err(failed)?;
                let word = if new { "kept as" } else { "this key has signed the same already in" };
                output.message(&format!("signed: {place}; {word} {}:{tag}", self.image.keeper_name()));
            }
        }
        if self.args.format.contains(&Format::Bundle) {
            let statement = claim::signature(digest, self.annotations);
            if self.has_bundle(&demand, &statement)? {
                output.message(&format!("signed: {place}; this key has signed the same already in a bundle"));
                return Ok(());
            }
            let (_, bundle) = sealed(self.key, statement)?;
            let referrer = attached::bundle_referrer(&bundle, claim::SIGN, self.created);
            let kept = attached::refer(keeper, manifest, &referrer, &pace).map_err(failed)?;
            output.message(&format!("signed: {place}; kept as bundle {}@{kept}", self.image.keeper_name()));
        }
        Ok(())
    }

    /// Whether this key has signed this very statement.
    fn has_bundle(&self, demand: &Demand<'_>, statement: &[u8]) -> Result<bool, Failure> {
        let mut has = false;
        let look = |found: found::Found| {
            if let Content::Bundle(envelope) = &found.content {
                has |= envelope.payload == statement && judge_signature(&found, demand).is_ok();
            }
        };
        found::each(&[self.image.keeper()], self.image.prefix(), demand.digest, Sought::Signatures, look)
            .map_err(|error| no_answer(&self.image.pinned(), &error))?;
        Ok(has)
    }
}
