//! Trust roots by The Update Framework: what Sigstore's public instance publishes, and private ones alike.
//!
//! The checks (chain of roots, thresholds, versions, times, lengths and digests) are those of the crate `sigstore-tuf`;
//! here are the way to the mirror, the copy on this machine, and the root that everything begins with. Whatever is kept
//! on this machine is checked anew from that root each time.
//!
//! Source: TUF specification 1.0, section 5; sigstore-oci §11.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use sigstore_tuf::cache::{FileStore, MetadataStore, StoreRepository};
use sigstore_tuf::client::Updater;
use sigstore_tuf::error::Error;
use sigstore_tuf::metadata::Role as _;
use sigstore_tuf::transport::{FetchFuture, Repository};

use crate::http::Client;
use crate::http::exchange::Question;

/// Where Sigstore's public instance publishes its roots. It is asked only where somebody names that instance.
pub const PUBLIC_MIRROR: &str = "https://tuf-repo-cdn.sigstore.dev";
/// The root of the public instance that everything begins with: version 16 of its root metadata.
pub const PUBLIC_ROOT: &[u8] = include_bytes!("tuf/public-root.json");
/// Name of the target that says whom to trust.
pub const TRUSTED_ROOT: &str = "trusted_root.json";
/// Name of the target that says which services sign.
pub const SIGNING_CONFIG: &str = "signing_config.v0.2.json";
/// Longest target, in bytes.
pub const MAX_TARGET: u64 = 4 * 1024 * 1024;
/// Most files of a copy.
const MAX_FILES: usize = 256;

/// An instance: whom its roots come from, and where the copy of them is.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Address of the mirror, without a slash at the end.
    pub mirror: String,
    /// The root metadata that everything begins with; trusted because it was named.
    pub root: Vec<u8>,
    /// Folder of the copy on this machine.
    pub copy: PathBuf,
}

/// Where metadata come from.
#[derive(Clone, Debug)]
pub enum From {
    /// From the mirror. What has expired does not count.
    Mirror(Arc<Client>),
    /// From the copy on this machine, asking nobody. It counts as it was when it was got: that it has expired since can
    /// only be told ([`Got::expires`]).
    Copy,
}

/// What was got.
#[derive(Clone, Debug)]
pub struct Got {
    /// Version of the root metadata that was reached.
    pub root_version: u64,
    /// When that root expires.
    pub root_expires: Timestamp,
    /// When the mirror's word that this is the newest expires.
    pub expires: Timestamp,
    /// The targets that there are, by name.
    pub targets: BTreeMap<String, Vec<u8>>,
}

/// Why nothing was got.
#[derive(Debug, thiserror::Error)]
pub enum TufError {
    /// There is no copy on this machine.
    #[error("there is no copy of the roots of {mirror} on this machine ({copy})")]
    NoCopy {
        /// The mirror.
        mirror: String,
        /// The folder.
        copy: String,
    },
    /// The mirror gave nothing.
    #[error("{place}: {reason}")]
    NoAnswer {
        /// What was asked.
        place: String,
        /// Why.
        reason: String,
    },
    /// What was got does not hold.
    #[error("the roots of {mirror} do not hold: {reason}")]
    Refused {
        /// The mirror.
        mirror: String,
        /// Why.
        reason: String,
    },
    /// The copy cannot be written or read.
    #[error("{path} cannot be {what}")]
    Copy {
        /// Which file.
        path: String,
        /// `read` or `written`.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Something to be taken as a copy is none.
    #[error("no copy of trust roots: {0}")]
    NotOne(String),
}

impl Instance {
    /// Sigstore's public instance, with its copy in this folder.
    pub fn public(copy: PathBuf) -> Self {
        Self { mirror: PUBLIC_MIRROR.to_owned(), root: PUBLIC_ROOT.to_vec(), copy }
    }

    /// Gets these targets, those that there are; `now` is compared with the times of the metadata.
    pub fn get(&self, from: From, names: &[&str], now: Timestamp) -> Result<Got, TufError> {
        match from {
            From::Mirror(client) => {
                let mirror = Mirror { client, base: self.mirror.trim_end_matches('/').to_owned() };
                self.keeping(mirror, names, now)
            }
            From::Copy => {
                if !self.copy.join("timestamp.json").exists() {
                    let copy = self.copy.display().to_string();
                    return Err(TufError::NoCopy { mirror: self.mirror.clone(), copy });
                }
                let copy = Versions(FileStore::new(&self.copy));
                let updater = Updater::new(StoreRepository::new(copy), &self.root);
                // Times are told, not enforced: nobody can be asked for newer ones.
                self.refresh(updater.map_err(|error| self.refused(&error))?, names, Timestamp::UNIX_EPOCH)
            }
        }
    }

    /// Gets targets, and keeps what was got once all of it holds. What is kept already is the floor.
    fn keeping(&self, repository: impl Repository + 'static, names: &[&str], now: Timestamp) -> Result<Got, TufError> {
        let staged = Arc::new(Staged { kept: FileStore::new(&self.copy), new: Mutex::default() });
        let updater = Updater::new(repository, &self.root).map_err(|error| self.refused(&error))?;
        let got = self.refresh(updater.with_store(staged.clone()), names, now)?;
        let new = std::mem::take(&mut *staged.new.lock().unwrap_or_else(PoisonError::into_inner));
        // The mirror's last word goes last: what it vouches for is there by then.
        let (last, first): (Vec<_>, Vec<_>) = new.into_iter().partition(|(name, _)| name == "timestamp.json");
        for (name, bytes) in first.into_iter().chain(last) {
            staged.kept.store(&name, &bytes).map_err(|error| {
                let source = std::io::Error::other(error.to_string());
                TufError::Copy { path: self.copy.join(&name).display().to_string(), what: "written", source }
            })?;
        }
        Ok(got)
    }

    fn refresh(&self, mut updater: Updater, names: &[&str], now: Timestamp) -> Result<Got, TufError> {
        let refused = |error: Error| self.refused(&error);
        at_once(updater.refresh(now)).map_err(refused)?;
        let mut targets = BTreeMap::new();
        for name in names {
            let Some(target) = at_once(updater.get_target_info(name, now)).map_err(refused)? else { continue };
            if target.length > MAX_TARGET {
                let reason = format!("{name} has {} bytes; {MAX_TARGET} are read", target.length);
                return Err(TufError::Refused { mirror: self.mirror.clone(), reason });
            }
            let bytes = match updater.find_cached_target(&target, name) {
                Some(bytes) => bytes,
                None => match at_once(updater.download_target(&target, name)) {
                    Ok(bytes) => bytes,
                    // Published, and not in this copy.
                    Err(error) if is_absent(&error) => continue,
                    Err(error) => return Err(refused(error)),
                },
            };
            targets.insert((*name).to_owned(), bytes);
        }
        let trusted = updater.trusted();
        let expires = trusted.timestamp().map_or(Timestamp::UNIX_EPOCH, sigstore_tuf::metadata::Role::expires);
        Ok(Got { root_version: trusted.root().version, root_expires: trusted.root().expires(), expires, targets })
    }

    fn refused(&self, error: &Error) -> TufError {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        if let Some(NotGot { place, reason }) = source.and_then(|source| source.downcast_ref()) {
            return TufError::NoAnswer { place: place.clone(), reason: reason.clone() };
        }
        while let Some(inner) = source {
            reason = format!("{reason}: {inner}");
            source = inner.source();
        }
        TufError::Refused { mirror: self.mirror.clone(), reason }
    }

    /// The files of the copy, by name: what [`Instance::take`] takes elsewhere.
    pub fn files(&self) -> Result<BTreeMap<String, Vec<u8>>, TufError> {
        let mut files = BTreeMap::new();
        for folder in ["", "root_history", "targets"] {
            let path = self.copy.join(folder);
            let listed = match std::fs::read_dir(&path) {
                Ok(listed) => listed,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(TufError::Copy { path: path.display().to_string(), what: "read", source }),
            };
            for entry in listed {
                let failed = |source| TufError::Copy { path: path.display().to_string(), what: "read", source };
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_file = entry.file_type().map_err(failed)?.is_file();
                let is_older = folder.is_empty() && name.starts_with(|c: char| c.is_ascii_digit());
                if !is_file || !is_json(&name) || is_older || name.starts_with('.') || files.len() == MAX_FILES {
                    continue;
                }
                let bytes = std::fs::read(entry.path()).map_err(failed)?;
                files.insert(if folder.is_empty() { name } else { format!("{folder}/{name}") }, bytes);
            }
        }
        Ok(files)
    }

    /// Takes the files of a copy that was made elsewhere, once they hold: they lead from the root of this instance, and
    /// are not older than what is here.
    pub fn take(&self, files: &BTreeMap<String, Vec<u8>>, names: &[&str]) -> Result<Got, TufError> {
        let plain = |name: &String| {
            let base = name.strip_prefix("root_history/").or(name.strip_prefix("targets/")).unwrap_or(name);
            !base.contains('/') && !base.starts_with('.') && is_json(base)
        };
        if files.len() > MAX_FILES {
            return Err(TufError::NotOne(format!("{} files; {MAX_FILES} are taken", files.len())));
        }
        if let Some(other) = files.keys().find(|name| !plain(name)) {
            return Err(TufError::NotOne(format!("`{}` is no name of one of its files", other.escape_debug())));
        }
        let memory = sigstore_tuf::cache::MemoryStore::new();
        for (name, bytes) in files {
            memory.store(name, bytes).map_err(|error| self.refused(&error))?;
        }
        self.keeping(StoreRepository::new(Versions(memory)), names, Timestamp::UNIX_EPOCH)
    }
}

fn is_json(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "json")
}

/// Whether a target is not where it should be; its metadata hold.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Transport { message, source: None } if message.starts_with("target "))
}

/// Files that are kept, with new ones before them that are not kept yet.
struct Staged {
    kept: FileStore,
    new: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MetadataStore for Staged {
    fn load(&self, name: &str) -> sigstore_tuf::error::Result<Option<Vec<u8>>> {
        match self.new.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => self.kept.load(name),
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::error::Result<()> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

/// What the futures of this transport give: they never wait, so they need nobody who waits for them.
fn at_once<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::transport("the transport waits")),
    }
}

/// A copy, asked as a mirror is: by version.
struct Versions<S>(S);

impl<S: MetadataStore> MetadataStore for Versions<S> {
    fn load(&self, name: &str) -> sigstore_tuf::error::Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.0.load(name)? {
            return Ok(Some(bytes));
        }
        if let Some(found) = self.0.load(&format!("root_history/{name}"))? {
            return Ok(Some(found));
        }
        // `5.snapshot.json` and `targets/<digest>.trusted_root.json` are kept without what stands before.
        let (folder, base) = name.rsplit_once('/').map_or(("", name), |(folder, base)| (folder, base));
        match base.split_once('.') {
            Some((_, plain)) if is_json(plain) && plain != "root.json" => {
                let plain = if folder.is_empty() { plain.to_owned() } else { format!("{folder}/{plain}") };
                self.0.load(&plain)
            }
            _ => Ok(None),
        }
    }

    fn store(&self, _: &str, _: &[u8]) -> sigstore_tuf::error::Result<()> {
        Ok(())
    }
}

/// A mirror that is asked over HTTP.
struct Mirror {
    client: Arc<Client>,
    base: String,
}

/// A mirror gave nothing.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
struct NotGot {
    place: String,
    reason: String,
}

impl Mirror {
    fn ask(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let failed = |place: String, reason: String| {
            Error::transport_with_source("the mirror gave nothing", NotGot { place, reason })
        };
        let url = format!("{}/{path}", self.base);
        let question = Question {
            method: ureq::http::Method::GET,
            url: &url,
            headers: Vec::new(),
            more: &[],
            body: None,
            expected: limit,
            repeats: false,
        };
        let answer = self.client.exchange(question).map_err(|error| failed(error.place, error.reason))?;
        let place = answer.place.clone();
        match answer.status {
            200 => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                answer.bytes(limit).map(Some).map_err(|reason| failed(place, reason))
            }
            // Stores of objects answer 403 for what they have not.
            403 | 404 => Ok(None),
            status => Err(failed(place, format!("answers {status}"))),
        }
    }
}

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        let got = self.ask(name, max_length);
        Box::pin(std::future::ready(got))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        let got = self.ask(&format!("targets/{path}"), max_length);
        Box::pin(std::future::ready(got))
    }
}
