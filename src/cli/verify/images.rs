//! Images that the gate is asked about: their names, who must have signed them, and the evidence that is kept with them.

use std::fs;
use std::io;
use std::path::PathBuf;

use affiant_core::outfile::Outfile;
use affiant_core::sigstore::TrustedRoot;
use affiant_core::sigstore::judge::Keyless;
use affiant_core::store::SubjectDigest;
use affiant_core::verdict::{Answer, TrustInput, Verdict};
use affiant_core::verify::{Files, Handle, Image, ImageKeyless, ImageTrust, Place, Source, SourceError};
use clap::Args;

use crate::cli::failure::{Failure, Kind};
use crate::cli::image::annotations;
use crate::cli::image::place::{self, RegistryArgs};
use crate::cli::image::trust::IdentityArgs;
use crate::cli::inspect::read_file;
use crate::cli::output::Output;
use crate::cli::{keys, outputs};

#[derive(Args)]
#[command(next_help_heading = "Images")]
pub(super) struct ImageArgs {
    /// Image that must have been made by accepted evidence, as machines would run it (repeatable)
    #[arg(long = "image", value_name = "IMAGE")]
    images: Vec<String>,
    /// Write the names of the images that may be deployed, `repository@sha256:…`; no such file unless they passed
    #[arg(long, value_name = "FILE", requires = "images")]
    digest_out: Option<PathBuf>,
    #[command(flatten)]
    how: HowArgs,
}

/// How images are found and judged.
#[derive(Args)]
pub(in crate::cli) struct HowArgs {
    /// Of an index, judge and name the image for this machine alone: os/architecture[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Public key that must have signed the images, besides whom the policy asks for (repeatable: any of them)
    #[arg(long, value_name = "FILE")]
    image_key: Vec<PathBuf>,
    /// What that signature must say (repeatable)
    #[arg(long, value_name = "NAME=VALUE", hide = true)]
    image_annotations: Vec<String>,
    #[command(flatten)]
    identity: IdentityArgs<true>,
    /// Logs and authorities that are believed for it (`trusted_root.json`)
    #[arg(long, value_name = "FILE")]
    image_trusted_root: Option<PathBuf>,
    /// Demand no entry of that signature in a transparency log
    #[arg(long, hide = true)]
    image_insecure_ignore_tlog: bool,
    #[command(flatten)]
    pub(in crate::cli) registry: RegistryArgs,
}

/// An image that was found.
pub(in crate::cli) struct Opened<'a> {
    name: &'a str,
    pub(in crate::cli) image: place::Image,
    platform: Option<&'a str>,
}

impl HowArgs {
    /// Who must have signed the images.
    pub(in crate::cli) fn trust(&self, origins: &mut Vec<TrustInput>, output: &Output) -> Result<ImageTrust, Failure> {
        let annotations = annotations::read(&self.image_annotations, output)?;
        let mut trust = ImageTrust { annotations, ..ImageTrust::default() };
        let mut origin = |what: &str, value: String, from: String| {
            origins.push(TrustInput { what: what.to_owned(), value, from });
        };
        for path in &self.image_key {
            let key = keys::public_key(path)?;
            origin("image key", key.key_id().to_owned(), format!("--image-key {}", path.display()));
            trust.keys.push(key);
        }
        trust.keyless = self.keyless(&mut origin)?;
        if trust.keys.is_empty() && trust.keyless.is_none() && !trust.annotations.is_empty() {
            return Err(Failure::usage("--image-annotations: nothing says who must have signed the images")
                .hint("name a key with `--image-key FILE`, or a signer with `--image-identity NAME`"));
        }
        for (name, value) in &trust.annotations {
            origin("image annotation", format!("{name}={value}"), "--image-annotations".to_owned());
        }
        Ok(trust)
    }

    /// What is read of these images, and of who must have signed them.
    pub(in crate::cli) fn reads(&self, images: &[String], files: &mut outputs::Files) {
        files.reads("a key of the images", &self.image_key);
        files.reads("the root of trust of the images", &self.image_trusted_root);
        files.reads("the image", images.iter().filter_map(|name| place::archive_of(name)));
        let kept = self.registry.evidence_repository();
        for layout in images.iter().map(String::as_str).chain(kept).filter_map(place::layout_of) {
            files.reads("the image", [layout.join("index.json"), layout.join("oci-layout")]);
            files.reads_trees("the image", false, [layout.join("blobs")]);
        }
    }

    /// Whether anything is demanded of a signature.
    fn demands_signature(&self) -> bool {
        !self.image_key.is_empty()
            || !self.image_annotations.is_empty()
            || self.image_trusted_root.is_some()
            || self.image_insecure_ignore_tlog
            || self.identity.first().is_some()
    }

    /// The signer without a key.
    fn keyless(&self, origin: &mut impl FnMut(&str, String, String)) -> Result<Option<ImageKeyless>, Failure> {
        let needs = "`--image-identity NAME --image-issuer URL --image-trusted-root FILE` belong together";
        if self.identity.first().is_none() {
            return match (&self.image_trusted_root, self.image_insecure_ignore_tlog) {
                (Some(_), _) => {
                    Err(Failure::usage("--image-trusted-root: nothing says who must have signed").hint(needs))
                }
                (None, true) => {
                    Err(Failure::usage("--image-insecure-ignore-tlog: nothing says who must have signed").hint(needs))
                }
                (None, false) => Ok(None),
            };
        }
        let wanted = self.identity.wanted().map_err(|failure| failure.hint(needs))?;
        for (flag, text) in self.identity.given() {
            let what = if flag.starts_with("image-identity") {
                "image identity"
            } else if flag.starts_with("image-issuer") {
                "image issuer"
            } else {
                "image claim"
            };
            origin(what, text.to_owned(), format!("--{flag}"));
        }
        let Some(file) = &self.image_trusted_root else {
            return Err(Failure::usage(
                "--image-trusted-root is missing: it says which logs and authorities are believed",
            )
            .hint(needs));
        };
        let bytes = read_file(file)?;
        let root = TrustedRoot::parse(&bytes)
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} cannot be used", file.display()), &error))?;
        let digest = format!("sha256:{}", affiant_core::digest::sha256_hex(&bytes));
        origin("image trusted root", digest, format!("--image-trusted-root {}", file.display()));
        let keyless = Keyless { whose: wanted.into(), certificate: None, sct: true, detached_sct: None };
        Ok(Some(ImageKeyless { keyless, root, logs: usize::from(!self.image_insecure_ignore_tlog) }))
    }

    /// Resolves an image.
    pub(in crate::cli) fn open<'a>(&'a self, name: &'a str, offline: bool) -> Result<Opened<'a>, Failure> {
        if offline {
            self.registry.refuse_offline(name)?;
        }
        // The gate has codes of its own: whatever keeps an image from being judged is no answer.
        let image = self.registry.image(name).map_err(|mut failure| {
            failure.kind = if failure.kind == Kind::Usage { Kind::Usage } else { Kind::NoAnswer };
            failure
        })?;
        Ok(Opened { name, image, platform: self.platform.as_deref() })
    }

    /// Resolves an image of which nothing is chosen.
    pub(in crate::cli) fn open_whole<'a>(&'a self, name: &'a str, offline: bool) -> Result<Opened<'a>, Failure> {
        Ok(Opened { platform: None, ..self.open(name, offline)? })
    }
}

impl ImageArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Who must have signed the images.
    pub(super) fn trust(&self, origins: &mut Vec<TrustInput>, output: &Output) -> Result<ImageTrust, Failure> {
        if self.is_empty() && (self.how.platform.is_some() || self.how.demands_signature()) {
            return Err(Failure::usage("--platform and --image-… are about an image, and none is named")
                .hint("name it: `--image REF`"));
        }
        self.how.trust(origins, output)
    }

    /// Resolves the images, each once.
    pub(super) fn open(&self, offline: bool) -> Result<Vec<Opened<'_>>, Failure> {
        self.images.iter().map(|name| self.how.open(name, offline)).collect()
    }

    /// What is read and written.
    pub(super) fn files(&self, files: &mut outputs::Files) {
        self.how.reads(&self.images, files);
        files.writes("--digest-out", &self.digest_out);
    }

    /// Where the names that may be deployed go. What an earlier verdict left there is taken away at once.
    pub(super) fn digest_out(&self) -> Result<DigestOut, Failure> {
        let outfile = self.digest_out.as_deref().map(super::probe).transpose()?;
        if let Some(path) = &self.digest_out {
            // What a link leads to is emptied; a device is left as it is: /dev/stdout is a link to one.
            let is_file = |data: io::Result<fs::Metadata>| data.is_ok_and(|data| data.is_file());
            let done = if is_file(fs::symlink_metadata(path)) {
                fs::remove_file(path)
            } else if is_file(fs::metadata(path)) {
                fs::write(path, "")
            } else {
                Ok(())
            };
            done.map_err(|error| {
                let message = format!("{} is there, and cannot be taken away", path.display());
                Failure::because(Kind::NoAnswer, message, &error)
            })?;
        }
        Ok(DigestOut(outfile))
    }
}

impl Opened<'_> {
    /// Looks at what a machine would run of it.
    pub(super) fn look(&self) -> Result<Image<'_>, Failure> {
        let place = Place {
            name: self.name.to_owned(),
            place: self.image.name().to_owned(),
            repository: self.image.repository(),
            keepers: self.image.keepers(),
            prefix: self.image.prefix().to_owned(),
        };
        Image::look(place, &self.image.stored, self.platform)
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} cannot be judged", self.name), &error))
    }
}

/// Where the names that may be deployed go.
pub(super) struct DigestOut(Option<Outfile>);

impl DigestOut {
    /// Writes them where the answer is yes.
    pub(super) fn write(&self, verdict: &Verdict) -> Result<(), Failure> {
        let Some(outfile) = self.0.as_ref().filter(|_| verdict.answer == Answer::Passed) else { return Ok(()) };
        let names: Vec<&str> = verdict.images.iter().map(|image| image.reference.as_str()).collect();
        outfile
            .write((names.join("\n") + "\n").as_bytes())
            .map_err(|error| Failure::because(Kind::NoAnswer, "the digest cannot be written", &error))
    }
}

/// Evidence that is kept with images.
#[derive(Default)]
pub(super) struct Attached {
    files: Files,
    /// The first place that cannot be read and in which more may be, and why.
    hiding: Option<(String, String)>,
}

impl Attached {
    pub(super) fn add(&mut self, image: &Image<'_>) -> Result<(), Failure> {
        let skipped = image
            .evidence(|place, bytes| self.files.add_one(&place, bytes))
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{}: no answer", image.pinned()), &error))?;
        for one in skipped {
            if one.hides {
                self.hiding.get_or_insert_with(|| (one.place.clone(), one.reason.clone()));
            }
            self.files.tell(one.place, one.reason);
        }
        Ok(())
    }
}

impl Source for Attached {
    fn name(&self) -> String {
        "with the image".to_owned()
    }

    fn count(&self) -> Option<usize> {
        self.files.count()
    }

    fn about(&self, digests: &[SubjectDigest]) -> Result<Vec<Handle>, SourceError> {
        self.files.about(digests)
    }

    fn of_step(&self, step: &str, limit: usize) -> Result<Vec<Handle>, SourceError> {
        self.files.of_step(step, limit)
    }

    fn policies(&self) -> Vec<Handle> {
        self.files.policies()
    }

    fn unreadable(&self) -> &[(String, String)] {
        self.files.unreadable()
    }

    fn hiding(&self) -> Option<(&str, &str)> {
        self.hiding.as_ref().map(|(place, reason)| (place.as_str(), reason.as_str()))
    }

    fn read(&self, handle: &Handle) -> Result<Vec<u8>, SourceError> {
        self.files.read(handle)
    }
}
