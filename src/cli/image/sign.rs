//! `affiant image sign`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use affiant_core::dsse::{Envelope, Signature, pae_header};
use affiant_core::image::attached::{self, Earlier, Kind as Tagged, Layer, Referred};
use affiant_core::image::found::{self, Content, Demand, Sought, judge_signature};
use affiant_core::image::payload::Payload;
use affiant_core::image::shared::{Settling, SharedError};
use affiant_core::image::{Descriptor, Digest, Target, claim, keyed};
use affiant_core::keyless::queue::Place;
use affiant_core::keyless::sealer::{Kind, Proof, Sealer};
use affiant_core::redact::{Redactor, VariableMask};
use affiant_core::sign::Signer as _;
use affiant_core::statement::PAYLOAD_TYPE;
use clap::{Args, ValueEnum};

use super::annotations::AnnotationArgs;
use super::keeping::{Said, both, not_begun, not_kept, say, together};
use super::place::{Image, RegistryArgs};
use super::targets::{self, no_answer};
use super::verify::all_in_order;
use crate::cli::failure::{Failure, Kind as Fails};
use crate::cli::keyless::{Queue, ServiceArgs, Subject, not_signed};
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::{Ending, keys, outputs, surroundings, verify};

/// How often in a row, and how long apart, a registry is asked again that answered with an error of its own.
const MAX_STUMBLES: u32 = 5;
const STUMBLE: Duration = Duration::from_millis(100);

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

/// The key or the services, and what is asked of every command that signs for images.
#[derive(Args)]
pub(super) struct SigningArgs {
    /// Sign with this key: a file, or `env:NAME`
    #[arg(long, value_name = "KEY", env = "AFFIANT_KEY", hide_env_values = true)]
    key: Option<String>,
    /// File whose first line is the password of the key
    #[arg(long, value_name = "FILE", env = "AFFIANT_KEY_PASSWORD_FILE", hide_env_values = true)]
    key_password_file: Option<std::path::PathBuf>,
    /// Do not ask: nothing is asked
    #[arg(short = 'y', long, hide = true)]
    yes: bool,
    #[command(flatten)]
    services: ServiceArgs,
    #[arg(skip)]
    called: Called,
}

impl SigningArgs {
    /// Says by which name affiant was called.
    pub(super) fn call(&mut self, called: Called) {
        self.called = called;
        self.services.call(called);
    }

    /// Finds the images before a certificate is asked for: a name that is mistyped leaves no trace in public logs. Those
    /// of registries are given.
    pub(super) fn find(
        &self,
        images: &[String],
        registry: &RegistryArgs,
        called: Option<&str>,
    ) -> Result<Vec<Option<Image>>, Failure> {
        if self.has_key() && !self.services.are_named() {
            return Ok(Vec::new());
        }
        images.iter().map(|name| registry.find(name, called)).collect()
    }

    /// Where log entries of images wait, if they may.
    pub(super) fn queue(&self, images: &[String], registry: &RegistryArgs) -> Result<Queue, Failure> {
        self.services.queue(registries(images), registry.targets().resume_flags())
    }

    /// Where those of a file wait, and the place that the entry is for.
    pub(super) fn queue_of_file(&self, bundle: Option<&Path>) -> Result<(Queue, Vec<Place>), Failure> {
        self.services.queue_of_file(bundle)
    }

    fn has_key(&self) -> bool {
        self.key.as_ref().is_some_and(|key| !key.is_empty())
    }

    /// Refuses what cannot be written, and what would overwrite a file that is read or written already, before anything is
    /// signed.
    pub(super) fn check_outputs(
        &self,
        read: &[(&'static str, Option<&Path>)],
        written: &[(&'static str, Option<&Path>)],
        certificate: Option<&Path>,
        timestamp: Option<&Path>,
    ) -> Result<(), Failure> {
        let mut files = outputs::Files::default();
        for &(what, path) in read {
            files.reads(what, path);
        }
        files.reads_keys(&self.key);
        files.reads("the password file", &self.key_password_file);
        self.services.reads(&mut files);
        let proof = [("--output-certificate", certificate), ("--rfc3161-timestamp", timestamp)];
        let written = || written.iter().chain(&proof);
        for &(flag, path) in written() {
            files.writes(flag, path);
        }
        files.check()?;
        for file in written().filter_map(|(_, path)| *path) {
            verify::probe(file)?;
        }
        let (has_certificate, has_timestamp) = self.services.foresee(self.has_key())?;
        if certificate.is_some() && !has_certificate {
            return Err(no_certificate());
        }
        if timestamp.is_some() && has_timestamp == Some(false) {
            return Err(no_timestamp());
        }
        Ok(())
    }

    /// Loads the key, or gets a certificate. `images` are those that are to be signed, if any.
    pub(super) fn load(&self, images: &[String], output: &Output) -> Result<Sealer, Failure> {
        let key = match self.key.as_ref().filter(|key| !key.is_empty()) {
            None => None,
            Some(key) => {
                let loaded = keys::signing_key(key, self.key_password_file.as_deref()).map_err(|mut failure| {
                    failure.kind = Fails::NoAnswer;
                    failure
                })?;
                if loaded.key.public_key().kind() == affiant_core::sign::KeyKind::Ed25519 {
                    output.message(
                        "note: cosign does not check the signatures of Ed25519 keys under tags; P-256 is read by all",
                    );
                }
                Some(loaded.key)
            }
        };
        let registries = registries(images);
        self.services.sealer(key, &Subject { registries: &registries, called: self.called, yes: self.yes }, output)
    }
}

/// Hosts of the registries of these images.
pub(super) fn registries(images: &[String]) -> Vec<String> {
    let host = |name: &String| match targets::named(name) {
        Ok(Target::Registry(reference)) => reference.registry,
        _ => String::new(),
    };
    images.iter().map(host).collect()
}

pub(super) fn no_certificate() -> Failure {
    Failure::usage("--output-certificate: a key has none").hint("leave it out, or sign without --key")
}

pub(super) fn no_timestamp() -> Failure {
    Failure::usage("--rfc3161-timestamp: no timestamp was made")
        .hint("name an authority with `--timestamp-servers URL`")
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant image sign --key cosign.key -a tag=1.2 -a commit=$CI_COMMIT_SHA registry.example/app@sha256:…\n  affiant image sign --signing-config signing_config.json registry.example/app@sha256:…\n\nThe password comes from --key-password-file, AFFIANT_KEY_PASSWORD, COSIGN_PASSWORD or the terminal.\nExit codes: 0 signed, 2 usage, 4 no answer, 11 no such image."
)]
pub(crate) struct SignArgs {
    /// The image; by digest, or a tag is resolved once
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    #[command(flatten)]
    annotations: AnnotationArgs,
    /// Of an index, sign the images for its platforms as well
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    pub(super) signing: SigningArgs,
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
    #[arg(
        long,
        alias = "identity",
        value_name = "NAME",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    sign_container_identity: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn sign(args: &SignArgs, output: &Output) -> Result<Ending, Failure> {
    let annotations = args.annotations.read(output)?;
    if args.registry_referrers_mode == Mode::Referrer && !args.format.contains(&Format::Tag) {
        let text =
            "--registry-referrers-mode says how what is under a tag is kept, and `--format bundle` keeps nothing there";
        args.signing.called.unheeded(text, output)?;
    }
    let redactor = Redactor::new(&surroundings::environment(), &[], &VariableMask::default());
    output.mask(redactor.clone());
    // All that the caller says of images, before a certificate is asked for or one of them is signed; of each image, its
    // own name as well, when that is known.
    let identity = args.sign_container_identity.clone().unwrap_or_default();
    let what = "an annotation or the image's name";
    refuse_secret(&redactor, what, &Payload::new(identity, Digest::of(b""), &annotations).to_json())?;
    refuse_secret(&redactor, what, &claim::signature(&Digest::of(b""), &annotations))?;
    args.registry.check(&args.images)?;
    let identity = args.sign_container_identity.as_deref();
    let found = args.signing.find(&args.images, &args.registry, identity)?;
    let queue = args.signing.queue(&args.images, &args.registry)?;
    let sealer = args.signing.load(&args.images, output)?;
    let created = surroundings::clock()?.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let forms = forms(&args.format, &sealer, output);
    let (sealer, queue, annotations, created) = (&sealer, &queue, &annotations, &*created);
    let signing = Signing { sealer, queue, args, forms: &forms, annotations, created, redactor: &redactor, output };
    args.registry.in_batches(&args.images, found, output, |images| {
        let manifests = manifests(images, args.recursive, output)?;
        together(output, not_kept, |settling, said| {
            let sign = |job: &(_, Descriptor)| signing.one(job.0, &job.1, settling);
            let take = |signed: Signed<'_>| {
                signed.notes.iter().for_each(|note| output.message(note));
                say(said, signed.image, signed.said, output);
                Ok(())
            };
            all_in_order(&manifests, sign, take, |left| not_begun(left, output))
        })
    })?;
    Ok(Ending::Done)
}

/// The images, and where `recursive` all manifests of an index, each with its image.
pub(super) fn manifests<'a>(
    images: &'a [Image],
    recursive: bool,
    output: &Output,
) -> Result<Vec<(&'a Image, Descriptor)>, Failure> {
    let mut all = Vec::new();
    for image in images {
        if !image.is_pinned() {
            let (name, digest) = (image.asked(), image.digest());
            output.message(&format!("note: {name} is now {digest}; a tag may mean another image later"));
        }
        let manifests = if recursive { image.with_children()? } else { vec![image.stored.descriptor()] };
        all.extend(manifests.into_iter().map(|manifest| (image, manifest)));
    }
    Ok(all)
}

struct Signing<'a> {
    sealer: &'a Sealer,
    queue: &'a Queue,
    args: &'a SignArgs,
    forms: &'a [Format],
    annotations: &'a BTreeMap<String, String>,
    created: &'a str,
    redactor: &'a Redactor,
    output: &'a Output,
}

/// Refuses to sign what holds a secret, which stands in `what`: what is signed is public from then on (security rule 4).
pub(super) fn refuse_secret(redactor: &Redactor, what: &str, signed: &[u8]) -> Result<(), Failure> {
    if !redactor.hits_document(signed) {
        return Ok(());
    }
    Err(Failure::new(
        Fails::Denied,
        format!("{what} holds the value of {}, so nothing is signed", surroundings::secrets_in(signed)),
    )
    .hint("take the value out of the document, the names and the annotations, or the variable out of the environment"))
}

/// What is said of a manifest that was signed.
pub(super) struct Signed<'a> {
    pub(super) image: &'a Image,
    /// What did not go as asked.
    pub(super) notes: Vec<String>,
    pub(super) said: Vec<Said>,
}

/// A signed statement, with what proves when.
pub(super) struct SealedStatement {
    pub(super) envelope: Envelope,
    /// The envelope as it is kept.
    pub(super) json: Vec<u8>,
    pub(super) proof: Proof,
}

impl SealedStatement {
    /// Signs a statement, without key id, and has it entered and stamped.
    pub(super) fn new(sealer: &Sealer, statement: &[u8]) -> Result<Self, Failure> {
        let header = pae_header(PAYLOAD_TYPE, statement.len());
        let enveloped = |sig: &[u8]| {
            let signatures = vec![Signature { sig: sig.to_vec(), ..Signature::default() }];
            Envelope { payload: statement.to_vec(), payload_type: PAYLOAD_TYPE.to_owned(), signatures }
        };
        let (sig, proof) = sealer
            .seal(Kind::Envelope, &[&header, statement], &|sig| enveloped(sig).to_json())
            .map_err(|error| not_signed(&error))?;
        let envelope = enveloped(&sig);
        let json = envelope.to_json();
        Ok(Self { envelope, json, proof })
    }

    /// The bundle.
    pub(super) fn bundle(&self, sealer: &Sealer) -> Vec<u8> {
        sealer.material(&self.proof).bundle_of_envelope(&self.envelope, &self.envelope.signatures[0])
    }

    /// The layer that is kept under a tag.
    pub(super) fn layer(&self, sealer: &Sealer, predicate_type: &str) -> Result<Layer, Failure> {
        let mut layer = Layer::attestation(self.json.clone(), predicate_type);
        let proof = sealer.prove_layer(&self.json, &self.proof).map_err(|error| not_signed(&error))?;
        sealer.material(&proof).annotate(&mut layer.annotations);
        Ok(layer)
    }
}

/// What of a proof did not go as asked.
pub(super) fn notes(proof: &Proof) -> Vec<String> {
    proof.notes.iter().map(|note| format!("note: {note}")).collect()
}

/// Says what of a proof did not go as asked.
pub(super) fn tell(proof: &Proof, output: &Output) {
    for note in notes(proof) {
        output.message(&note);
    }
}

/// The forms that are written: of those that are asked for, the ones whose time can be proven. Where one alone is asked
/// for, it fails.
fn forms(asked: &[Format], sealer: &Sealer, output: &Output) -> Vec<Format> {
    let can = |form: &Format| {
        sealer.can_prove(match form {
            Format::Tag => Kind::Annotated,
            Format::Bundle => Kind::Envelope,
        })
    };
    if asked.len() > 1 && asked.contains(&Format::Bundle) && !can(&Format::Bundle) {
        output.message(
            "note: no bundle is written: nothing would prove its time; `--log rekor1` sends the log the whole statement",
        );
        return asked.iter().copied().filter(can).collect();
    }
    asked.to_vec()
}

/// Where a signature will be kept, and what proves it.
type Kept = (Place, Proof);

/// A bundle that is to be kept.
enum Bundle {
    /// None is.
    None,
    /// This key has signed the same already in one.
    There,
    New(Vec<u8>),
}

impl<'a> Signing<'a> {
    fn one(&self, image: &'a Image, manifest: &Descriptor, settling: &Settling<'a>) -> Result<Signed<'a>, Failure> {
        let place = format!("{}@{}", image.name(), manifest.digest);
        let sealer = &self.sealer.fresh(surroundings::now()).map_err(|error| not_signed(&error))?;
        let failed = |error: SharedError| not_kept(&place, &error);
        // All is proven before any of it is kept.
        let (layer, bundle) = both(|| self.layer(sealer, image, manifest), || self.bundle(sealer, image, manifest));
        let ((layer, of_layer), (bundle, of_bundle)) = (layer?, bundle?);
        for (place, proof) in of_layer.iter().chain(&of_bundle) {
            self.queue.keep(sealer, proof, std::slice::from_ref(place), self.output)?;
        }
        let (layer, bundle) = both(
            || layer.map(|layer| self.keep_layer((sealer, &place), image, manifest, &layer, settling)).transpose(),
            || self.keep_bundle(&place, image, manifest, &bundle, settling),
        );
        let said = [layer.map_err(failed)?, bundle.map_err(failed)?].into_iter().flatten().collect();
        let notes = of_layer.iter().chain(&of_bundle).flat_map(|(_, proof)| notes(proof)).collect();
        Ok(Signed { image, notes, said })
    }

    /// The payload with its signature, where it is to be kept under a tag; and where that is proven.
    fn layer(
        &self,
        sealer: &Sealer,
        image: &Image,
        manifest: &Descriptor,
    ) -> Result<(Option<Layer>, Option<Kept>), Failure> {
        if !self.forms.contains(&Format::Tag) {
            return Ok((None, None));
        }
        let name = image.identity(self.args.sign_container_identity.as_deref())?;
        let payload = Payload::new(name, manifest.digest.clone(), self.annotations).to_json();
        refuse_secret(self.redactor, "the image's name", &payload)?;
        let (signature, proof) =
            sealer.seal(Kind::Annotated, &[&payload], &|_| Vec::new()).map_err(|error| not_signed(&error))?;
        let mut layer = Layer::signature(payload, &signature);
        let is_referrer = self.args.registry_referrers_mode == Mode::Referrer;
        let place = image.place_of(&manifest.digest, &layer, is_referrer);
        sealer.material(&proof).annotate(&mut layer.annotations);
        Ok((Some(layer), Some((place, proof))))
    }

    fn bundle(&self, sealer: &Sealer, image: &Image, manifest: &Descriptor) -> Result<(Bundle, Option<Kept>), Failure> {
        if !self.forms.contains(&Format::Bundle) {
            return Ok((Bundle::None, None));
        }
        let statement = claim::signature(&manifest.digest, self.annotations);
        if self.has_bundle(sealer, image, &manifest.digest, &statement)? {
            return Ok((Bundle::There, None));
        }
        let sealed = SealedStatement::new(sealer, &statement)?;
        let bundle = sealed.bundle(sealer);
        Ok((Bundle::New(bundle), Some((image.place_of_bundle(&manifest.digest), sealed.proof))))
    }

    fn keep_layer(
        &self,
        (sealer, place): (&Sealer, &str),
        image: &'a Image,
        manifest: &Descriptor,
        layer: &Layer,
        settling: &Settling<'a>,
    ) -> Result<Said, SharedError> {
        if self.args.registry_referrers_mode == Mode::Referrer {
            let referrer = attached::signature_referrer(layer);
            let Referred { digest, ticket } = attached::refer(settling, image.keeper(), manifest, &referrer)?;
            let text = format!("signed: {place}; kept as referrer {}@{digest}", image.keeper_name());
            return Ok(Said::new(ticket, place, text));
        }
        let tag = format!("{}{}", image.prefix(), manifest.digest.tag(Tagged::Signature.suffix()));
        let (key, own) = (sealer.public_key().clone(), layer.clone());
        let is_same = move |one: &Descriptor| {
            // What is to be proven now, and was not then, makes it another one.
            own.has_no_more_than(one)
                && attached::signature_of(one).is_ok_and(|found| keyed::holds(&key, &[&own.bytes], &found).is_ok())
        };
        let new = attached::append(settling, image.keeper(), &tag, layer, Earlier::Keep, is_same)?;
        let word = if new.is_some() { "kept as" } else { "this key has signed the same already in" };
        Ok(Said::new(new, place, format!("signed: {place}; {word} {}:{tag}", image.keeper_name())))
    }

    fn keep_bundle(
        &self,
        place: &str,
        image: &'a Image,
        manifest: &Descriptor,
        bundle: &Bundle,
        settling: &Settling<'a>,
    ) -> Result<Option<Said>, SharedError> {
        let bundle = match bundle {
            Bundle::None => return Ok(None),
            Bundle::There => {
                let text = format!("signed: {place}; this key has signed the same already in a bundle");
                return Ok(Some(Said::new(None, place, text)));
            }
            Bundle::New(bundle) => bundle,
        };
        let referrer = attached::bundle_referrer(bundle, claim::SIGN, self.created);
        let Referred { digest, ticket } = attached::refer(settling, image.keeper(), manifest, &referrer)?;
        let text = format!("signed: {place}; kept as bundle {}@{digest}", image.keeper_name());
        Ok(Some(Said::new(ticket, place, text)))
    }

    /// Whether this key has signed this very statement, with all that is to be proven of it now.
    fn has_bundle(&self, sealer: &Sealer, image: &Image, digest: &Digest, statement: &[u8]) -> Result<bool, Failure> {
        if sealer.has_new_key() {
            return Ok(false);
        }
        let demand = Demand::of_key(digest, sealer.public_key(), self.annotations);
        let mut has = false;
        let (enters, stamps) = sealer.will_have(Kind::Envelope);
        let mut look = |found: found::Found| {
            let material = &found.material;
            let is_less = (enters && material.entries.is_empty())
                || (stamps && material.timestamps.is_empty())
                || (sealer.issued().is_some() && material.certificate.is_none());
            if !is_less && let Content::Bundle(envelope) = &found.content {
                has |= envelope.payload == statement && judge_signature(&found, &demand).is_ok();
            }
        };
        let mut stumbles = 0;
        while let Err(error) = found::each(&[image.keeper()], image.prefix(), digest, Sought::Signatures, &mut look) {
            // Some registries trip over a list that another is writing.
            if !error.is_passing() || stumbles == MAX_STUMBLES {
                return Err(no_answer(&image.pinned(), &error));
            }
            stumbles += 1;
            std::thread::sleep(STUMBLE);
        }
        Ok(has)
    }
}
