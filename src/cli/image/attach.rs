//! `affiant image attach`, and `run --attach`: evidence of runs, kept with the image that it is about.

use std::collections::BTreeSet;
use std::path::PathBuf;

use affiant_core::image::attach::{self, Document, Form, Keeper, Kept, MAX_DOCUMENTS, NotAlone, Part, Refused};
use affiant_core::image::attached;
use affiant_core::image::shared::SharedError;
use affiant_core::image::{Digest, Target};
use affiant_core::sign::{PublicKey, Signer};
use affiant_core::verify::Source as _;
use clap::{Args, ValueEnum};

use super::keeping::{Said, say, together};
use super::place::{Image, RegistryArgs};
use super::targets::no_answer;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;
use crate::cli::{Ending, inspect, keys, surroundings, verify};

/// With how many referrers it is said that there are many: Kyverno fails above 50 (sigstore-oci, corrections).
const CROWDED: usize = 40;

/// How evidence is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kinds {
    /// As a Sigstore bundle that refers to the image; where it is none, as the envelope itself
    Bundle,
    /// Under the tag `.att` beside the image
    #[value(alias = "tag")]
    Att,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant image attach --key build.pub registry.example/app@sha256:… build.att.json build.att.json-slsa.json\n  affiant image attach --archive dir:evidence registry.example/app:1.2 sha256:5e7d…\n\nOf an index, evidence is kept with the manifest that it names. Evidence of a failed run, and what does not name the image, is refused; then nothing is attached.\nPrints the name of what was attached.\nExit codes: 0 attached, 1 refused, 2 usage, 4 no answer, 11 no such image."
)]
pub(crate) struct AttachArgs {
    /// The image; by digest, or a tag is resolved once
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Evidence: envelopes, bundles of them, folders, or digests in the archive (`sha256:…`)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Public key that must have signed; other signatures are left behind (repeatable). Without it none is checked
    #[arg(short, long, visible_alias = "publickey", value_name = "FILE")]
    key: Vec<PathBuf>,
    /// How it is kept
    #[arg(long, value_enum, value_delimiter = ',', default_value = "bundle")]
    format: Vec<Kinds>,
    /// Take other tools' collections without a command: nothing in them says whether a run failed
    #[arg(long)]
    command_optional: bool,
    /// Archive to look digests up in: `dir:PATH`
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// What is attached, and how.
pub(super) struct Attaching<'a> {
    pub(super) documents: &'a [&'a Document],
    pub(super) keys: &'a [PublicKey],
    /// Those who sign what is said anew: none where the documents are finished.
    pub(super) signers: &'a [&'a dyn Signer],
    pub(super) forms: &'a [Form],
    pub(super) command_optional: bool,
}

pub(super) fn attach(args: &AttachArgs, output: &Output) -> Result<Ending, Failure> {
    let keys = args.key.iter().map(|path| keys::public_key(path)).collect::<Result<Vec<_>, _>>()?;
    let documents = documents(&args.files, args.archive.as_deref(), &keys)?;
    let image = args.registry.image_to_change(&args.image)?;
    let forms: Vec<Form> = args.format.iter().map(|kind| (*kind).into()).collect();
    let documents: Vec<&Document> = documents.iter().collect();
    let attaching = Attaching {
        documents: &documents,
        keys: &keys,
        signers: &[],
        forms: &forms,
        command_optional: args.command_optional,
    };
    let names = attaching.to(&image, output)?;
    image.finish(output)?;
    if keys.is_empty() {
        output.message("note: no signature was checked; `--key FILE` says whose evidence it must be");
    }
    output.data(names.iter().flat_map(|name| [name, "\n"]).collect::<String>().as_bytes())?;
    Ok(Ending::Done)
}

impl From<Kinds> for Form {
    fn from(kind: Kinds) -> Self {
        match kind {
            Kinds::Bundle => Self::Referrer,
            Kinds::Att => Self::Tag,
        }
    }
}

/// Reads all that was named; one that cannot be read, or that no key has signed, ends it.
pub(super) fn documents(
    files: &[PathBuf],
    archive: Option<&str>,
    keys: &[PublicKey],
) -> Result<Vec<Document>, Failure> {
    let is_digest = |file: &&PathBuf| file.to_string_lossy().starts_with("sha256:") && !file.exists();
    let (digests, paths): (Vec<&PathBuf>, Vec<&PathBuf>) = files.iter().partition(is_digest);
    let mut all = Vec::new();
    for digest in digests {
        all.push((digest.display().to_string(), inspect::read(digest, archive)?));
    }
    if !paths.is_empty() {
        let paths: Vec<PathBuf> = paths.into_iter().cloned().collect();
        let evidence = verify::evidence(&paths)?;
        if let Some((label, reason)) = evidence.unreadable().first() {
            return Err(Failure::new(Kind::NoAnswer, format!("{label} is no evidence: {reason}")));
        }
        for handle in evidence.handles() {
            let bytes = evidence.read(&handle).map_err(|error| {
                Failure::because(Kind::NoAnswer, format!("{} cannot be read", handle.label), &error)
            })?;
            all.push((handle.label, bytes));
        }
    }
    if all.len() > MAX_DOCUMENTS {
        return Err(Failure::usage(format!("{} documents; {MAX_DOCUMENTS} are attached together", all.len())));
    }
    let read = |(label, bytes): (String, Vec<u8>)| {
        Document::read(label.clone(), &bytes, keys).map_err(|error| refused(&[(label, error)]))
    };
    all.into_iter().map(read).collect()
}

/// Says what is refused; nothing is attached then.
fn refused(all: &[(String, Refused)]) -> Failure {
    let text = |(label, error): &(String, Refused)| {
        let why = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{label}: {error}{why}")
    };
    let texts: Vec<String> = all.iter().map(text).collect();
    let failure = Failure::new(Kind::Denied, format!("nothing was attached: {}", texts.join("; ")));
    if all.iter().any(|(_, error)| matches!(error, Refused::NoCommand)) {
        return failure.hint("`--command-optional` takes collections of other tools that have no command in them");
    }
    failure
}

/// An image and all of an index, with their configs.
pub(super) fn parts(image: &Image) -> Result<Vec<Part>, Failure> {
    Ok(image.members()?.iter().map(|one| Part::of(one.stored.descriptor(), &one.manifest)).collect())
}

/// Which document, by its number, is attached to which manifests.
type Places = Vec<(usize, Vec<Part>)>;

impl<'a> Attaching<'a> {
    /// The evidence of our own run.
    fn of_run(documents: &'a [&'a Document], keys: &'a [PublicKey], signers: &'a [&'a dyn Signer]) -> Self {
        Self { documents, keys, signers, forms: &[Form::Referrer], command_optional: false }
    }

    /// Attaches all of it, or nothing where one of it may not be. Gives the names of what is new.
    fn to(&self, image: &Image, output: &Output) -> Result<Vec<String>, Failure> {
        self.keep(image, self.judge(&parts(image)?)?, output)
    }

    /// To what each document is attached; it is refused where one of them may not be.
    fn judge(&self, parts: &[Part]) -> Result<Places, Failure> {
        let mut places = Vec::new();
        let mut wrong = Vec::new();
        let runs = attach::judge_runs(self.documents, self.command_optional);
        for (number, (document, run)) in self.documents.iter().zip(runs).enumerate() {
            let judged =
                run.and_then(|()| attach::judge_length(document)).and_then(|()| attach::named(document, parts));
            match judged {
                Ok(found) => places.push((number, found.into_iter().cloned().collect())),
                Err(error) => wrong.push((document.label.clone(), error)),
            }
        }
        if wrong.is_empty() { Ok(places) } else { Err(refused(&wrong)) }
    }

    /// Attaches what was judged. Gives the names of what is new.
    fn keep(&self, image: &Image, places: Places, output: &Output) -> Result<Vec<String>, Failure> {
        let created = surroundings::clock()?.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (repository, prefix) = (image.keeper(), image.prefix());
        let mut crowded = BTreeSet::new();
        let not_kept = |place: &str, error: &SharedError| {
            Failure::because(Kind::NoAnswer, format!("{place}: evidence could not be kept"), error)
        };
        let names = together(output, not_kept, |settling, said| {
            let keeper = Keeper { settling, repository, prefix, created: &created };
            let mut names = Vec::new();
            for (number, parts) in places {
                let document = self.documents[number];
                for (part, form) in parts.iter().flat_map(|part| self.forms.iter().map(move |form| (part, *form))) {
                    let place = format!("{}@{}", image.name(), part.manifest.digest);
                    let mut keep = |document: &Document| -> Result<(), Failure> {
                        let kept =
                            attach::keep(document, &part.manifest, form, self.keys, &keeper).map_err(|error| {
                                Failure::because(
                                    Kind::NoAnswer,
                                    format!("{} could not be kept with {place}", document.label),
                                    &error,
                                )
                            })?;
                        for (one, ticket) in kept {
                            let (text, name) = tell(&one, image.keeper_name());
                            let text = format!("attached: {} to {place}; {text}", document.label);
                            say(said, image, vec![Said::new(ticket, &place, text)], output);
                            names.extend(name);
                        }
                        Ok(())
                    };
                    keep(document)?;
                    if form == Form::Referrer
                        && let Some(alone) = self.alone(document, part, &place, output)?
                    {
                        keep(&alone)?;
                    }
                    crowded.insert(part.manifest.digest.clone());
                }
            }
            Ok(names)
        })?;
        for digest in crowded.iter().filter(|_| self.forms.contains(&Form::Referrer)) {
            let listed =
                attached::referrers(image.keeper(), digest).map_err(|error| no_answer(&image.pinned(), &error))?;
            let count = listed.entries.len();
            if count >= CROWDED {
                output.message(&format!(
                    "note: {count} things refer to {digest} now; Kyverno refuses an image to which more than 50 do"
                ));
            }
        }
        Ok(names)
    }
}

impl Attaching<'_> {
    /// What stands beside a document of more subjects than readers of bundles take.
    fn alone(
        &self,
        document: &Document,
        part: &Part,
        place: &str,
        output: &Output,
    ) -> Result<Option<Document>, Failure> {
        let Some(subjects) = document.is_crowded() else { return Ok(None) };
        let note = |why: &str| {
            output.message(&format!(
                "note: {} has {subjects} subjects, so verifiers that read bundles alone do not see it at {place}; {why}",
                document.label
            ));
        };
        if self.signers.is_empty() {
            let kind = &document.predicate_type;
            note(&format!(
                "`affiant run --attach` signs a statement about the image alone beside it, and `affiant image attest --type {kind} --predicate FILE` does it now"
            ));
            return Ok(None);
        }
        match document.alone(&part.manifest.digest, self.signers) {
            Ok(alone) => Ok(Some(alone)),
            Err(NotAlone::Sign(error)) => Err(Failure::because(
                Kind::NoAnswer,
                format!(
                    "{} has {subjects} subjects, and its statement about {place} alone was not signed",
                    document.label
                ),
                &error,
            )),
            Err(error) => {
                note(&error.to_string());
                Ok(None)
            }
        }
    }
}

fn tell(kept: &Kept, keeper: &str) -> (String, Option<String>) {
    let name = |digest: &Digest| format!("{keeper}@{digest}");
    match kept {
        Kept::Bundle(digest) => (format!("kept as bundle {}", name(digest)), Some(name(digest))),
        Kept::Envelope(digest, why) => {
            (format!("kept as envelope {}, not as a bundle: {why}", name(digest)), Some(name(digest)))
        }
        Kept::Tag(tag) => (format!("kept as {keeper}:{tag}"), Some(format!("{keeper}:{tag}"))),
        Kept::Already => ("it was there already".to_owned(), None),
    }
}

/// Where a run's evidence goes, besides the archive.
pub(crate) struct After {
    /// The image; else those that the command made, by its docker attestation.
    named: Option<String>,
    registry: RegistryArgs,
}

impl After {
    /// As `--attach[=IMAGE]` says it. What can never work is refused.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        let named = (!text.is_empty()).then(|| text.to_owned());
        if let Some(name) = &named
            && let Target::DockerArchive(..) = super::targets::named(name)?
        {
            return Err(Failure::usage(format!("--attach={name}: nothing can be kept in a docker archive"))
                .hint("name a registry's image, `oci:FOLDER` or `oci-archive:FILE`"));
        }
        surroundings::check_passwords()?;
        Ok(Self { named, registry: RegistryArgs::of_variables()? })
    }

    /// The image that was named.
    pub(crate) fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// Attaches the envelopes of a run, the collection first, as JSON: to all the images or, where one is not there or one
    /// of the envelopes may not be attached to it, to none. Gives the names of what is new.
    pub(crate) fn attach(
        &self,
        envelopes: &[(String, Vec<u8>)],
        keys: &[PublicKey],
        signers: &[&dyn Signer],
        output: &Output,
    ) -> Result<Vec<String>, Failure> {
        let read = |(label, bytes): &(String, Vec<u8>)| {
            Document::read(label.clone(), bytes, keys).map_err(|error| refused(&[(label.clone(), error)]))
        };
        let documents = envelopes.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let images = match &self.named {
            Some(name) => vec![name.clone()],
            None => made(envelopes)?,
        };
        let mut judged = Vec::new();
        for name in images {
            let image = self.registry.image_to_change(&name).map_err(|failure| match failure.kind {
                Kind::NoTag => {
                    failure.hint("evidence is attached to what was pushed: push the image within the command")
                }
                _ => failure,
            })?;
            let parts = parts(&image)?;
            // Not every own envelope is about every image: an SBOM names its own.
            let (about, rest): (Vec<&Document>, Vec<&Document>) = documents
                .iter()
                .partition(|document| document.is_collection() || attach::named(document, &parts).is_ok());
            let places = Attaching::of_run(&about, keys, signers).judge(&parts)?;
            judged.push((image, about, rest, places));
        }
        let mut names = Vec::new();
        for (image, about, rest, places) in judged {
            for document in rest {
                output.message(&format!(
                    "note: {} is not about {}, and is not attached to it",
                    document.label,
                    image.pinned()
                ));
            }
            names.extend(Attaching::of_run(&about, keys, signers).keep(&image, places, output)?);
            image.finish(output)?;
        }
        Ok(names)
    }
}

/// The names, with their digests, of the images that a collection's docker attestation says were made.
fn made(envelopes: &[(String, Vec<u8>)]) -> Result<Vec<String>, Failure> {
    let found = envelopes.first().map(|(_, bytes)| attach::made(bytes)).unwrap_or_default();
    let mut names = Vec::new();
    for (name, digest) in found {
        // A digest in the name counts only where it is this one.
        let reference: affiant_core::image::Reference = name.parse().map_err(|error| {
            Failure::because(Kind::NoAnswer, format!("the command made an image called {name}"), &error)
        })?;
        names.push(reference.pinned(&digest));
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err(Failure::new(
            Kind::NoAnswer,
            "the evidence names no image with a name and a digest, so there is none to attach it to",
        )
        .hint("a build says them with `--metadata-file FILE` and `--push`; or name the image with `--attach=IMAGE`"));
    }
    Ok(names)
}
