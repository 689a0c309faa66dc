//! `affiant image`: images in registries, layouts and archives, and what is signed about them.

pub(in crate::cli) mod annotations;
mod attach;
mod attest;
mod audit;
mod blob;
mod blob_attestation;
mod compare;
mod copy;
mod download;
mod import;
mod keeping;
mod keypair;
pub(in crate::cli) mod place;
pub(in crate::cli) mod promote;
mod push;
pub(in crate::cli) mod queued;
mod scratch;
mod show;
mod sign;
mod targets;
pub(in crate::cli) mod trust;
mod types;
mod verify;
mod verify_attestation;

pub(crate) use attach::After;

use clap::Subcommand;

pub(super) use targets::{TargetArgs, no_answer};

use super::Ending;
use super::failure::Failure;
use super::names::Called;
use super::output::Output;

#[derive(Subcommand)]
pub(crate) enum ImageVerb {
    /// Sign an image, with annotations
    Sign(Box<sign::SignArgs>),
    /// Check the signatures of images
    Verify(Box<verify::VerifyArgs>),
    /// Attest something about an image: an SBOM, a scan, a provenance, any predicate
    Attest(Box<attest::AttestArgs>),
    /// Check the attestations of an image, and ask a policy about them
    VerifyAttestation(Box<verify_attestation::VerifyAttestationArgs>),
    /// Keep evidence of `affiant run` with the image that it is about
    Attach(Box<attach::AttachArgs>),
    /// Sign the attestations that a build has put into an index
    ImportBuildkit(Box<import::ImportArgs>),
    /// Make a pair of keys in cosign's form
    GenerateKeyPair(keypair::GenerateArgs),
    /// Print the public key of a private one
    PublicKey(keypair::PublicKeyArgs),
    /// Print the name under which an image's signatures are kept
    Triangulate(show::TriangulateArgs),
    /// Show what is kept about an image
    Tree(show::TreeArgs),
    /// Print the digest of an image
    Digest(show::DigestArgs),
    /// Print what is kept about an image, as it lies there
    #[command(subcommand)]
    Download(Box<download::DownloadVerb>),
    /// Take away what is kept about an image
    Clean(Box<download::CleanArgs>),
    /// Say which images of a repository are signed, which tags were replaced, and what is left over
    Audit(Box<audit::AuditArgs>),
    /// Sign a file, into a Sigstore bundle
    SignBlob(blob::SignBlobArgs),
    /// Check the signature of a file
    VerifyBlob(blob::VerifyBlobArgs),
    /// Attest something about a file
    AttestBlob(Box<blob_attestation::AttestBlobArgs>),
    /// Check an attestation of a file
    VerifyBlobAttestation(Box<blob_attestation::VerifyBlobAttestationArgs>),
    /// Carry an image with all that is kept about it to another place
    Copy(Box<copy::CopyArgs>),
    /// Keep an image with all that is kept about it in a folder
    Save(Box<copy::SaveArgs>),
    /// Put what `save` kept into a registry
    Load(Box<copy::LoadArgs>),
    /// Push an archive or layout as it is, and print the name that can be deployed
    Push(Box<push::PushArgs>),
    /// Say whether two images are the same, by config and unpacked layers
    Compare(Box<compare::CompareArgs>),
}

impl ImageVerb {
    /// Says by which name affiant was called.
    pub(crate) fn call(&mut self, called: Called) {
        match self {
            Self::Verify(args) => args.call(called),
            Self::VerifyAttestation(args) => args.call(called),
            Self::VerifyBlob(args) => args.call(called),
            Self::VerifyBlobAttestation(args) => args.call(called),
            Self::Sign(args) => args.signing.call(called),
            Self::Attest(args) => args.signing.call(called),
            Self::SignBlob(args) => args.signing.call(called),
            Self::AttestBlob(args) => args.signing.call(called),
            Self::ImportBuildkit(args) => args.signing.call(called),
            _ => {}
        }
    }
}

pub(crate) fn image(verb: &ImageVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        ImageVerb::Sign(args) => sign::sign(args, output),
        ImageVerb::Verify(args) => verify::verify(args, output),
        ImageVerb::Attest(args) => attest::attest(args, output),
        ImageVerb::VerifyAttestation(args) => verify_attestation::verify_attestation(args, output),
        ImageVerb::Attach(args) => attach::attach(args, output),
        ImageVerb::ImportBuildkit(args) => import::import(args, output),
        ImageVerb::GenerateKeyPair(args) => keypair::generate(args, output),
        ImageVerb::PublicKey(args) => keypair::public_key(args, output),
        ImageVerb::Triangulate(args) => show::triangulate(args, output),
        ImageVerb::Tree(args) => show::tree(args, output),
        ImageVerb::Digest(args) => show::digest(args, output),
        ImageVerb::Download(verb) => download::download(verb, output),
        ImageVerb::Clean(args) => download::clean(args, output),
        ImageVerb::Audit(args) => audit::audit(args, output),
        ImageVerb::SignBlob(args) => blob::sign_blob(args, output),
        ImageVerb::VerifyBlob(args) => blob::verify_blob(args, output),
        ImageVerb::AttestBlob(args) => blob_attestation::attest_blob(args, output),
        ImageVerb::VerifyBlobAttestation(args) => blob_attestation::verify_blob_attestation(args, output),
        ImageVerb::Copy(args) => copy::copy(args, output),
        ImageVerb::Save(args) => copy::save(args, output),
        ImageVerb::Load(args) => copy::load(args, output),
        ImageVerb::Push(args) => push::push(args, output),
        ImageVerb::Compare(args) => compare::compare(args, output),
    }
}
