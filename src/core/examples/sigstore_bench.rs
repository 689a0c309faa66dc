//! Checks keyless bundles with one trusted root: `sigstore_bench FOLDER [COUNT]`, where FOLDER is `fixtures/cosign`.
//!
//! Each is read, its log entry, timestamps, certificate and signature checked, as if it were the first: nothing is kept
//! from one to the next but the trusted root. Prints the milliseconds of all and of each part.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use affiant_core::dsse::pae_header;
use affiant_core::image::sigstore::{Bundle, Content, Signer};
use affiant_core::sigstore::{Signed, TrustedRoot, Verifier, check, check_scts, proven_times};
use affiant_core::trust::{Certificate, Purpose, chain};

type Failed = Box<dyn std::error::Error>;

/// Rekor 1 and 2, statements and files.
const BUNDLES: [&str; 4] =
    ["attblob-keyless-rekor1", "attblob-keyless-rekor2", "blob-keyless-rekor1", "blob-keyless-rekor2"];
const PARTS: [&str; 6] = ["read", "times", "log", "chain", "certificate log", "signature"];

/// Runs one part and adds up its time.
fn timed<T>(spent: &mut Duration, part: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    let begun = Instant::now();
    let result = part();
    *spent += begun.elapsed();
    result
}

fn verify(bytes: &[u8], blob: &[u8], root: &TrustedRoot, spent: &mut [Duration; 6]) -> Result<(), Failed> {
    let [reading, stamping, logging, chaining, listing, signing] = spent;
    let (bundle, leaf) = timed(reading, || {
        let bundle = Bundle::parse(bytes)?;
        let Signer::Certificate { chain } = &bundle.signer else { return Err("no certificate".into()) };
        let leaf = Certificate::from_der(&chain[0])?;
        Ok((bundle, leaf))
    })?;
    let header;
    let (message, signature, envelope): ([&[u8]; 2], _, _) = match &bundle.content {
        Content::Envelope(envelope) => {
            header = pae_header(&envelope.payload_type, envelope.payload.len());
            ([&header, &envelope.payload], &envelope.signatures[0].sig, Some(envelope))
        }
        Content::Message { signature, .. } => ([&[], blob], signature, None),
    };
    let mut times = Vec::new();
    if !bundle.timestamps.is_empty() {
        let proven = timed(stamping, || Ok(proven_times(&bundle.timestamps, signature, &root.timestamp_authorities)?))?;
        times.extend(proven.into_iter().map(|proven| proven.time));
    }
    let logged = timed(logging, || {
        let mut signed = Signed::new(&message, signature, Verifier::Certificate(&leaf));
        if let Some(envelope) = envelope {
            signed = signed.with_envelope(envelope);
        }
        Ok(check(bundle.entries.first().ok_or("no entry")?, &signed, &root.logs, &times)?)
    })?;
    times.extend(logged.time);
    let anchors = [root.authorities[0].anchor.clone()];
    let path = timed(chaining, || {
        let at = |time: &_| Ok::<_, Failed>(chain(&leaf, &[], &anchors, *time, Purpose::CodeSigning)?.path);
        times.iter().map(at).next_back().ok_or("no time")?
    })?;
    timed(listing, || Ok(check_scts(&leaf, &path[1], &root.ct_logs, None)?))?;
    timed(signing, || Ok(leaf.public_key().verify(&message, signature)?))?;
    Ok(())
}

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("sigstore_bench FOLDER [COUNT]")?;
    let count: usize = arguments.next().map_or(Ok(1000), |count| count.parse())?;
    let read = |name: &str| std::fs::read(Path::new(&folder).join(name));
    let bundles = BUNDLES
        .map(|name| read(&format!("bundles/{name}.sigstore.json")))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let blob = read("bundles/blob.txt")?;
    let root = read("trust/trusted_root.json")?;
    let begun = Instant::now();
    let root = TrustedRoot::parse(&root)?;
    let mut spent = [Duration::ZERO; 6];
    for at in 0..count {
        verify(&bundles[at % bundles.len()], &blob, &root, &mut spent)?;
    }
    let mut out = io::stdout();
    writeln!(out, "{}", begun.elapsed().as_millis())?;
    for (part, spent) in PARTS.iter().zip(spent) {
        writeln!(out, "{part}: {}", spent.as_millis())?;
    }
    Ok(())
}
