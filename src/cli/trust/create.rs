//! `affiant trust create`: a trusted root out of certificates and keys, in the spelling of cosign's `trusted-root create`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use affiant_core::sign::KeyKind;
use affiant_core::sigstore::{Authority, Log, TrustedRoot, Window};
use clap::Args;
use jiff::Timestamp;

use super::{Getting, PUBLIC, bounded, load, write};
use crate::cli::failure::{Failure, Kind, nearest};
use crate::cli::output::Output;
use crate::cli::{Ending, keys};

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant trust create \\\n    --fulcio url=https://fulcio.example.com,certificate-chain=fulcio.pem \\\n    --ctfe url=https://ct.example.com,public-key=ct.pub,start-time=2026-01-01T00:00:00Z \\\n    --rekor url=https://rekor.example.com,public-key=rekor.pub,start-time=2026-01-01T00:00:00Z \\\n    --tsa url=https://tsa.example.com,certificate-chain=tsa.pem -o trusted_root.json\n\nA list holds `url`, `certificate-chain` or `public-key`, and `start-time`, `end-time`, `origin`. A log with an `origin`, or\nwith an Ed25519 key, is one of Rekor 2."
)]
pub(crate) struct CreateArgs {
    /// A certificate authority: url, certificate-chain (intermediates first, root last)
    #[arg(long, value_name = "LIST")]
    fulcio: Vec<String>,
    /// A certificate transparency log: url, public-key
    #[arg(long, value_name = "LIST")]
    ctfe: Vec<String>,
    /// A transparency log: url, public-key
    #[arg(long, value_name = "LIST")]
    rekor: Vec<String>,
    /// A timestamp authority: url, certificate-chain (leaf first, root last)
    #[arg(long, value_name = "LIST")]
    tsa: Vec<String>,
    /// Begin with this trusted root, a file or `public`
    #[arg(long, value_name = "ROOT")]
    with: Option<String>,
    /// The same as `--with public`
    #[arg(long, conflicts_with = "with", hide = true)]
    with_default_services: bool,
    /// Where it goes (default: stdout)
    #[arg(short, long, visible_alias = "out", value_name = "FILE")]
    outfile: Option<PathBuf>,
}

const KNOWN: [&str; 6] = ["url", "certificate-chain", "public-key", "start-time", "end-time", "origin"];

/// The members of one list.
struct Listed<'a> {
    flag: &'static str,
    members: BTreeMap<&'a str, &'a str>,
}

impl<'a> Listed<'a> {
    fn read(flag: &'static str, text: &'a str) -> Result<Self, Failure> {
        let mut members = BTreeMap::new();
        for part in text.split(',') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(Failure::usage(format!("{flag} {text}: `{part}` is no NAME=VALUE")));
            };
            if !KNOWN.contains(&name) {
                let failure = Failure::usage(format!("{flag} {text}: there is no `{name}`, only {}", KNOWN.join(", ")));
                return Err(match nearest(name, KNOWN) {
                    Some(known) => failure.hint(format!("did you mean `{known}`?")),
                    None => failure,
                });
            }
            if members.insert(name, value).is_some() {
                return Err(Failure::usage(format!("{flag} {text}: `{name}` stands there twice")));
            }
        }
        Ok(Self { flag, members })
    }

    fn wanted(&self, name: &str) -> Result<&'a str, Failure> {
        let value = self.members.get(name).copied().filter(|value| !value.is_empty());
        value.ok_or_else(|| Failure::usage(format!("{}: `{name}=…` is missing", self.flag)))
    }

    fn window(&self) -> Result<Window, Failure> {
        let time = |name: &str| {
            let Some(text) = self.members.get(name) else { return Ok(None) };
            text.parse().map(Some).map_err(|_| {
                Failure::usage(format!("{} {name}={text}: no time", self.flag)).hint("write it as 2026-01-31T00:00:00Z")
            })
        };
        // Without a beginning it counts from the first day on, as cosign writes it.
        let start = time("start-time")?.or(Some(Timestamp::UNIX_EPOCH));
        Ok(Window { start, end: time("end-time")? })
    }

    fn authority(&self) -> Result<Authority, Failure> {
        let (url, file) = (self.wanted("url")?, self.wanted("certificate-chain")?);
        let pem = bounded(Path::new(file))?;
        Authority::new(&pem, url, self.window()?)
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} {file} cannot be used", self.flag), &error))
    }

    fn log(&self, may_be_tiled: bool) -> Result<Log, Failure> {
        let (url, file, window) = (self.wanted("url")?, self.wanted("public-key")?, self.window()?);
        let key = keys::public_key(Path::new(file))?;
        let origin = self.members.get("origin").copied();
        if origin.is_none() && !(may_be_tiled && key.kind() == KeyKind::Ed25519) {
            return Ok(Log::new(url, key, window));
        }
        let log = Log::tiled(url, key, window)
            .map_err(|error| Failure::because(Kind::Usage, format!("{} {file} cannot be used", self.flag), &error))?;
        match origin {
            Some(origin) if origin != log.origin => {
                Err(Failure::usage(format!("{} origin={origin}: the log at {url} is called {}", self.flag, log.origin))
                    .hint("the origin is the host of the URL"))
            }
            _ => Ok(log),
        }
    }
}

pub(super) fn create(args: &CreateArgs, output: &Output) -> Result<Ending, Failure> {
    let with = if args.with_default_services { Some(PUBLIC) } else { args.with.as_deref() };
    let mut root = match with {
        Some(with) => load(with, Getting { flag: "--with", offline: false, signs: false }, output)?,
        None => TrustedRoot::default(),
    };
    let mut more = TrustedRoot::default();
    for text in &args.fulcio {
        more.authorities.push(Listed::read("--fulcio", text)?.authority()?);
    }
    for text in &args.ctfe {
        more.ct_logs.push(Listed::read("--ctfe", text)?.log(false)?);
    }
    for text in &args.rekor {
        more.logs.push(Listed::read("--rekor", text)?.log(true)?);
    }
    for text in &args.tsa {
        more.timestamp_authorities.push(Listed::read("--tsa", text)?.authority()?);
    }
    root.merge(more);
    if root.is_empty() {
        return Err(Failure::usage("a trusted root of nobody").hint("name services: `affiant trust create --help`"));
    }
    let mut bytes = root.to_json();
    bytes.push(b'\n');
    write(args.outfile.as_deref(), &bytes, output)?;
    Ok(Ending::Done)
}
