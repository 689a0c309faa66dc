//! A registry's repository, over the distribution protocol.
//!
//! Source: OCI distribution specification 1.1; its authentication as the distribution project writes it down ("Token
//! Authentication Specification").

mod credentials;
mod texts;
mod token;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use affiant_core::image::manifest::{ALL, MAX_MANIFEST, OCI_INDEX};
use affiant_core::image::repository::MAX_REFERRERS;
use affiant_core::image::{
    At, Checked, Descriptor, Digest, Listed, Manifest, Put, Reference, Repository, RepositoryError, Skipped, Stored,
};
use ureq::http::Method;

pub use credentials::{Credential, CredentialError, Credentials, credential_files};

use crate::http::Client;
use crate::http::exchange::{Answer, NoAnswer, Question};
use texts::{escaped, join, next_page, said, same_host};
use token::{Challenge, Tokens};

/// Longest error text, list of tags or page of referrers that is read, in bytes.
const MAX_PAGE: usize = 4 * 1024 * 1024;
/// Most pages of a list.
const MAX_PAGES: usize = 1_000;
/// Most tags that are listed.
const MAX_TAGS: usize = 100_000;
/// Most redirects of one question.
const MAX_REDIRECTS: usize = 5;
/// How often a question that changes nothing is asked where the registry has an error of its own (500), and the pause
/// before the second time; it doubles.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// Longest time that a registry may ask to be left alone for which is waited, in seconds.
const MAX_WAIT: u16 = 15;
/// What a registry says of a manifest whose blobs it does not see. That some look for them in files while another writer
/// writes the same (`DIGEST_INVALID` where the file was empty then).
const UNSEEN: [&str; 2] = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"];
const UNREAD: &str = "DIGEST_INVALID";
/// The same of an upload that was begun, and that it has lost since.
const LOST: [&str; 2] = ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"];

/// Whether a blob was put or seen; locked while that is under way.
type Kept = Arc<Mutex<bool>>;

/// What all repositories of a call share: connections, passwords, tokens.
pub struct Registries {
    client: Client,
    credentials: Credentials,
    tokens: Tokens,
    /// Which scheme a registry has, once it is known.
    schemes: Mutex<BTreeMap<String, &'static str>>,
    /// Registries (host and port) that may be asked without TLS.
    plain: Vec<String>,
    /// Blobs that this process has put or seen, by repository: whether that is done.
    kept: Mutex<BTreeMap<(String, Digest), Kept>>,
    /// Blobs are sent in pieces of this many bytes; otherwise in one.
    chunk: Option<u64>,
}

impl Registries {
    /// Registries that are asked with this client. Those of this machine, and `plain`, may be asked without TLS: the
    /// former are at first, the latter after TLS failed.
    pub fn new(client: Client, credentials: Credentials, plain: Vec<String>, chunk: Option<u64>) -> Self {
        Self {
            client,
            credentials,
            tokens: Tokens::default(),
            schemes: Mutex::default(),
            plain,
            kept: Mutex::default(),
            chunk,
        }
    }

    /// The repository that a name means.
    pub fn repository(self: &Arc<Self>, reference: &Reference) -> Remote {
        Remote {
            registries: Arc::clone(self),
            registry: reference.registry.clone(),
            name: reference.repository.clone(),
        }
    }
}

/// One repository of a registry.
pub struct Remote {
    registries: Arc<Registries>,
    registry: String,
    name: String,
}

/// A body that can be sent again.
enum Sent<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// Only once.
    Stream(u64, &'a mut dyn Read),
}

/// One question to the registry.
struct Ask<'a> {
    method: Method,
    /// Path and query behind `/v2/`, or a whole address that the registry gave.
    at: String,
    accept: Option<String>,
    media_type: Option<&'a str>,
    range: Option<String>,
    body: Sent<'a>,
    /// `pull`, or `pull,push` or `delete`.
    actions: &'static str,
    /// Another repository that is read as well.
    also: Option<&'a str>,
    expected: u64,
    /// Whether it may be asked again although it changes something.
    repeats: bool,
}

impl<'a> Ask<'a> {
    fn get(at: String) -> Self {
        Self {
            method: Method::GET,
            at,
            accept: None,
            media_type: None,
            range: None,
            body: Sent::Nothing,
            actions: "pull",
            also: None,
            expected: 0,
            repeats: false,
        }
    }

    fn change(method: Method, at: String, body: Sent<'a>) -> Self {
        Self { method, body, actions: "pull,push", ..Self::get(at) }
    }
}

impl Remote {
    fn refused(place: &str, reason: impl Into<String>) -> RepositoryError {
        RepositoryError::Refused { place: place.to_owned(), reason: reason.into(), permission: false, again: None }
    }

    fn address(&self, scheme: &str, at: &str) -> String {
        // Docker Hub has names under one host and answers under another.
        let host = if self.registry == "index.docker.io" { "registry-1.docker.io" } else { &self.registry };
        format!("{scheme}://{host}/v2/{at}")
    }

    /// With which scheme the registry is asked; found out once, also where several want to know it at the same time.
    fn scheme(&self) -> Result<&'static str, RepositoryError> {
        let registries = &self.registries;
        let mut schemes = registries.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scheme) = schemes.get(&self.registry) {
            return Ok(scheme);
        }
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        let order: &[&str] = if crate::http::is_local(host) {
            &["http", "https"]
        } else if registries.plain.iter().any(|plain| plain.eq_ignore_ascii_case(&self.registry)) {
            &["https", "http"]
        } else {
            &["https"]
        };
        let mut scheme = order[0];
        if order.len() > 1 {
            let asked = |scheme: &'static str| {
                registries.client.exchange(Question {
                    method: Method::GET,
                    url: &self.address(scheme, ""),
                    headers: Vec::new(),
                    more: &[],
                    body: None,
                    expected: 0,
                    repeats: false,
                })
            };
            // A TLS server answers 400 to a question without TLS.
            scheme = match asked(order[0]) {
                Ok(answer) if answer.status == 400 => order[1],
                Ok(_) => order[0],
                Err(failed) => match asked(order[1]) {
                    Ok(_) => order[1],
                    // That the certificate is refused says more than that nothing else is spoken.
                    Err(other) if other.reason.contains("certificate") => return Err(no_answer(&other)),
                    Err(_) => return Err(no_answer(&failed)),
                },
            };
        }
        schemes.insert(self.registry.clone(), scheme);
        Ok(scheme)
    }

    /// Asks, proves who asks where that is wanted, and follows redirects of reading.
    fn ask(&self, mut ask: Ask<'_>) -> Result<Answer, RepositoryError> {
        let registries = &*self.registries;
        let base = self.address(self.scheme()?, "");
        let mut url = if ask.at.contains("://") { ask.at.clone() } else { format!("{base}{}", ask.at) };
        let scope = token::scope(&self.name, ask.actions, ask.also);
        let mut proof = registries.tokens.known(&self.registry, &scope);
        // What is sent once cannot be asked for again: a token that has ended is got anew before.
        if proof.is_none()
            && matches!(ask.body, Sent::Stream(..))
            && let Some(challenge) = registries.tokens.challenge(&self.registry, &scope)
        {
            proof = Some(self.prove(&self.registry, &scope, &challenge)?);
        }
        // A kept proof may have ended; a new one that is refused is refused.
        let mut is_new = false;
        let mut redirects = 0;
        let mut attempts = 0;
        loop {
            let at_home = same_host(&url, &base);
            if !at_home && token::is_here(&url) && !token::is_here(&base) {
                return Err(Self::refused(&self.registry, "sends to a service on this machine"));
            }
            let mut headers: Vec<(&'static str, String)> = Vec::new();
            headers.extend(ask.accept.clone().map(|accept| ("accept", accept)));
            headers.extend(ask.media_type.map(|media_type| ("content-type", media_type.to_owned())));
            headers.extend(ask.range.clone().map(|range| ("content-range", range)));
            if at_home {
                headers.extend(proof.clone().map(|proof| ("authorization", proof)));
            }
            let mut bytes;
            let body: Option<(u64, &mut dyn Read)> = match &mut ask.body {
                Sent::Nothing => None,
                Sent::Bytes(whole) => {
                    bytes = *whole;
                    Some((whole.len() as u64, &mut bytes))
                }
                Sent::Stream(length, reader) => Some((*length, *reader)),
            };
            let (method, expected, repeats) = (ask.method.clone(), ask.expected, ask.repeats);
            let question = Question { method, url: &url, headers, more: &[], body, expected, repeats };
            let answer = registries.client.exchange(question).map_err(|failed| no_answer(&failed))?;
            match answer.status {
                401 if at_home && !is_new && !matches!(ask.body, Sent::Stream(..)) => {
                    is_new = true;
                    let challenges = answer.headers.get_all("www-authenticate");
                    let challenge = challenges.iter().filter_map(|text| text.to_str().ok()).find_map(Challenge::read);
                    let Some(challenge) = challenge else {
                        return Err(
                            self.permission(&answer.place, "it wants a proof of who asks, and does not say how")
                        );
                    };
                    proof = Some(self.prove(&answer.place, &scope, &challenge)?);
                }
                301 | 302 | 303 | 307 | 308 if matches!(ask.method, Method::GET | Method::HEAD) => {
                    redirects += 1;
                    let to = answer.header("location").and_then(|to| join(&url, to));
                    let Some(to) = to.filter(|_| redirects <= MAX_REDIRECTS) else {
                        return Err(Self::refused(&answer.place, "redirects to nowhere, or without end"));
                    };
                    url = to;
                }
                // Some registries trip over what another is writing.
                500 if matches!(ask.method, Method::GET | Method::HEAD) && attempts + 1 < ATTEMPTS => {
                    std::thread::sleep(PAUSE * 2_u32.pow(attempts));
                    attempts += 1;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// Gets a proof of who asks.
    fn prove(&self, place: &str, scope: &str, challenge: &Challenge) -> Result<String, RepositoryError> {
        let registries = &*self.registries;
        let credential = registries.credentials.of(&self.registry, &self.name);
        let credential = credential.map_err(|error| self.permission(place, &error.to_string()))?;
        registries
            .tokens
            .get(&registries.client, &self.registry, scope, challenge, credential.as_ref())
            .map_err(|reason| self.permission(place, &reason))
    }

    fn permission(&self, place: &str, reason: &str) -> RepositoryError {
        let reason = if self.registries.credentials.is_empty_for(&self.registry, &self.name) {
            let unread = match self.registries.credentials.unread() {
                [] => String::new(),
                [file, ..] => format!(
                    "; {} may not be read by this user: DOCKER_CONFIG names another folder, REGISTRY_AUTH_FILE another file",
                    file.display()
                ),
            };
            format!("{reason}; no password for {} is known (docker login {}){unread}", self.registry, self.registry)
        } else {
            reason.to_owned()
        };
        RepositoryError::Refused { place: place.to_owned(), reason, permission: true, again: None }
    }

    /// What an answer that was not hoped for means.
    fn unexpected(&self, answer: Answer) -> RepositoryError {
        self.unexpected_unless(answer, &[])
    }

    /// The same; what a registry says with one of these codes may pass.
    fn unexpected_unless(&self, answer: Answer, passing: &[&str]) -> RepositoryError {
        let (status, place, wait) = (answer.status, answer.place.clone(), answer.wait());
        let (codes, words) = answer.bytes(MAX_PAGE).ok().map(|body| said(&body)).unwrap_or_default();
        // A registry that says the proof that it was given would have it told to everybody who reads the job's log.
        let words = words.filter(|words| !self.registries.tokens.are_in(words));
        let said = words.map(|words| format!(": {words}")).unwrap_or_default();
        let again = |reason: String, seconds: u64| {
            let (place, again) = (place.clone(), u16::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_WAIT));
            RepositoryError::Refused { place, reason, permission: false, again }
        };
        match status {
            429 | 502..=504 => {
                let wait = wait.unwrap_or_default().as_secs();
                let when = match wait {
                    0 => "try again later".to_owned(),
                    seconds => format!("it asks to be left alone for {seconds} s; try again then"),
                };
                again(format!("answers {status}{said}: it is busy or down; {when}"), wait)
            }
            500 => again(format!("answers 500{said}"), 0),
            400 | 404 | 416 if codes.iter().any(|code| passing.contains(&code.as_str())) => {
                again(format!("answers {status}{said}"), 0)
            }
            401 | 403 => self.permission(&place, &format!("answers {status}{said}")),
            413 => Self::refused(
                &place,
                format!("answers 413{said}: it is too much at once; `--upload-chunk 50` sends pieces"),
            ),
            _ => Self::refused(&place, format!("answers {status}{said}")),
        }
    }

    fn pages(
        &self,
        first: String,
        accept: Option<&str>,
        mut page: impl FnMut(Answer) -> Result<bool, RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let base = self.address(self.scheme()?, "");
        let mut next = Some(first);
        for _ in 0..MAX_PAGES {
            let Some(at) = next.take() else { return Ok(()) };
            let answer = self.ask(Ask { accept: accept.map(str::to_owned), ..Ask::get(at.clone()) })?;
            let here = if at.contains("://") { at } else { format!("{base}{at}") };
            next = answer.header("link").and_then(next_page).and_then(|to| join(&here, to));
            if next.as_ref().is_some_and(|to| !same_host(to, &base)) {
                return Err(Self::refused(&answer.place, "the next page of its list is on another host"));
            }
            if !page(answer)? {
                return Ok(());
            }
        }
        Err(RepositoryError::Large {
            what: format!("a list of {}", self.name()),
            found: MAX_PAGES as u64 + 1,
            limit: MAX_PAGES as u64,
        })
    }

    /// The bytes of a manifest, with the type that goes with them.
    fn stored(&self, at: &At, answer: Answer) -> Result<Stored, RepositoryError> {
        let place = answer.place.clone();
        let named = answer.media_type().to_owned();
        let bytes = answer.bytes_within(MAX_MANIFEST).map_err(|reason| Self::refused(&place, reason))?;
        let Some(bytes) = bytes else {
            let reason = format!("it has more than {MAX_MANIFEST} bytes");
            return Err(RepositoryError::Wrong { what: format!("the manifest {at} of {}", self.name()), reason });
        };
        // Some give a general type; the manifest then says it itself.
        let media_type = if named.is_empty() || !named.contains("manifest") && !named.contains("index") {
            #[derive(serde::Deserialize)]
            struct Typed {
                #[serde(rename = "mediaType")]
                media_type: Option<String>,
            }
            serde_json::from_slice::<Typed>(&bytes).ok().and_then(|typed| typed.media_type).unwrap_or(named)
        } else {
            named
        };
        match at {
            At::Digest(digest) => Stored::checked(media_type, bytes, digest),
            At::Tag(_) => Ok(Stored::of(media_type, bytes)),
        }
    }

    /// Where the bytes of a new blob go.
    fn upload(&self, mount: Option<(&Digest, &str)>) -> Result<Option<String>, RepositoryError> {
        let base = format!("{}/blobs/uploads/", self.name);
        let (at, also) = match mount {
            Some((digest, from)) => (format!("{base}?mount={digest}&from={}", escaped(from)), Some(from)),
            None => (base, None),
        };
        // An upload that was begun, and whose answer was lost, is left alone: the registry forgets it.
        let answer = self.ask(Ask { also, repeats: true, ..Ask::change(Method::POST, at, Sent::Nothing) })?;
        match answer.status {
            201 if mount.is_some() => Ok(None),
            202 => self.location(&answer).map(Some),
            _ => Err(self.unexpected(answer)),
        }
    }

    /// Where an upload goes on.
    fn location(&self, answer: &Answer) -> Result<String, RepositoryError> {
        let base = self.address(self.scheme()?, &format!("{}/blobs/uploads/", self.name));
        answer
            .header("location")
            .and_then(|to| join(&base, to))
            .ok_or_else(|| Self::refused(&answer.place, "does not say where the bytes go"))
    }
}

fn no_answer(failed: &NoAnswer) -> RepositoryError {
    let hint = if failed.tls { "; a registry without TLS is named with --allow-http-registry" } else { "" };
    RepositoryError::Refused {
        place: failed.place.clone(),
        reason: format!("{}{hint}", failed.reason),
        permission: false,
        // What was asked several times already has had its time.
        again: (failed.again && failed.attempts == 1).then_some(0),
    }
}

impl Repository for Remote {
    fn name(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    fn resolve(&self, at: &At) -> Result<Option<Descriptor>, RepositoryError> {
        let path = format!("{}/manifests/{at}", self.name);
        let answer = self.ask(Ask { method: Method::HEAD, accept: Some(ALL.join(", ")), ..Ask::get(path) })?;
        match answer.status {
            200 => {
                let digest = answer.header("docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
                let size = answer.header("content-length").and_then(|size| size.parse::<u64>().ok());
                let known = affiant_core::image::Kind::of(answer.media_type()).is_some();
                if let (Some(digest), Some(size), true) = (digest, size, known)
                    && !matches!(at, At::Digest(wanted) if *wanted != digest)
                {
                    return Ok(Some(Descriptor {
                        media_type: answer.media_type().to_owned(),
                        digest,
                        size,
                        artifact_type: None,
                        platform: None,
                        annotations: None,
                    }));
                }
                // An answer that does not say it all.
                Ok(self.manifest(at)?.map(|stored| stored.descriptor()))
            }
            404 => Ok(None),
            // Not every registry answers to HEAD.
            405 | 501 => Ok(self.manifest(at)?.map(|stored| stored.descriptor())),
            _ => Err(self.unexpected(answer)),
        }
    }

    fn manifest(&self, at: &At) -> Result<Option<Stored>, RepositoryError> {
        let path = format!("{}/manifests/{at}", self.name);
        let answer = self.ask(Ask { accept: Some(ALL.join(", ")), ..Ask::get(path) })?;
        match answer.status {
            200 => self.stored(at, answer).map(Some),
            404 => Ok(None),
            _ => Err(self.unexpected(answer)),
        }
    }

    fn has_blob(&self, digest: &Digest) -> Result<bool, RepositoryError> {
        let path = format!("{}/blobs/{digest}", self.name);
        let answer = self.ask(Ask { method: Method::HEAD, ..Ask::get(path) })?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.unexpected(answer)),
        }
    }

    fn blob(&self, digest: &Digest, limit: u64) -> Result<Box<dyn Read + Send + '_>, RepositoryError> {
        let path = format!("{}/blobs/{digest}", self.name);
        let answer = self.ask(Ask { expected: limit, ..Ask::get(path) })?;
        match answer.status {
            200 => {
                let size = answer.header("content-length").and_then(|size| size.parse::<u64>().ok());
                if let Some(found) = size.filter(|size| *size > limit) {
                    return Err(RepositoryError::Large { what: format!("bytes of {digest}"), found, limit });
                }
                Ok(Box::new(Checked::new(answer.reader(), digest.clone(), limit)))
            }
            404 => Err(RepositoryError::Absent { what: digest.to_string(), place: self.name() }),
            _ => Err(self.unexpected(answer)),
        }
    }

    fn put_blob(&self, digest: &Digest, size: u64, bytes: &mut dyn Read) -> Result<(), RepositoryError> {
        // The first question says how to prove who asks, so that the stream is sent once.
        let Some(mut at) = self.upload(None)? else { return Ok(()) };
        let octets = Some("application/octet-stream");
        let mut sent = 0;
        while sent < size {
            let length = self.registries.chunk.unwrap_or(size).clamp(1, size - sent);
            let mut piece = bytes.take(length);
            let range = self.registries.chunk.map(|_| format!("{sent}-{}", sent + length - 1));
            let answer = self.ask(Ask {
                media_type: octets,
                range,
                ..Ask::change(Method::PATCH, at, Sent::Stream(length, &mut piece))
            })?;
            if answer.status != 202 {
                return Err(self.unexpected_unless(answer, &LOST));
            }
            at = self.location(&answer)?;
            sent += length;
        }
        let separator = if at.contains('?') { '&' } else { '?' };
        let end = format!("{at}{separator}digest={}", escaped(digest.as_str()));
        let answer = self.ask(Ask { media_type: octets, ..Ask::change(Method::PUT, end, Sent::Nothing) })?;
        match answer.status {
            201 | 204 => Ok(()),
            // The bytes were hashed here.
            _ => Err(self.unexpected_unless(answer, &[UNREAD, LOST[0], LOST[1]])),
        }
    }

    fn once(
        &self,
        digest: &Digest,
        put: &mut dyn FnMut() -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let name = (self.name(), digest.clone());
        let mut kept = self.registries.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let one = Arc::clone(kept.entry(name).or_default());
        drop(kept);
        let mut is_done = one.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_done {
            put()?;
            *is_done = true;
        }
        Ok(())
    }

    fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool, RepositoryError> {
        Ok(self.upload(Some((digest, from)))?.is_none())
    }

    fn put_manifest(&self, at: &At, media_type: &str, bytes: &[u8]) -> Result<Put, RepositoryError> {
        let path = format!("{}/manifests/{at}", self.name);
        let answer =
            self.ask(Ask { media_type: Some(media_type), ..Ask::change(Method::PUT, path, Sent::Bytes(bytes)) })?;
        match answer.status {
            200 | 201 => {
                let ours = Digest::of(bytes);
                if let Some(theirs) = answer.header("docker-content-digest")
                    && theirs != ours.as_str()
                {
                    return Err(Self::refused(&answer.place, format!("stored {theirs} where {ours} was sent")));
                }
                let has_subject = Manifest::parse(media_type, bytes).is_ok_and(|manifest| manifest.subject.is_some());
                Ok(if has_subject && answer.header("oci-subject").is_none() { Put::Unlisted } else { Put::Known })
            }
            status => {
                // A list of what is not there is refused for good; its entries are not kept anew by others.
                let is_list = affiant_core::image::Kind::of(media_type) == Some(affiant_core::image::Kind::Index);
                let passing: &[&str] = if is_list { &[UNREAD] } else { &[UNREAD, UNSEEN[0], UNSEEN[1]] };
                let error = self.unexpected_unless(answer, passing);
                let immutable = matches!(at, At::Tag(_))
                    && matches!(status, 400 | 403 | 405 | 409 | 412)
                    && error.to_string().to_ascii_lowercase().contains("immutab");
                Err(match error {
                    RepositoryError::Refused { place, reason, .. } if immutable => RepositoryError::Refused {
                        place,
                        reason: format!("{reason}; the tag {at} cannot be written again: try `--format bundle`"),
                        permission: false,
                        again: None,
                    },
                    other => other,
                })
            }
        }
    }

    fn referrers(&self, of: &Digest) -> Result<Option<Listed>, RepositoryError> {
        let mut listed = Listed::default();
        let mut first = true;
        let mut absent = false;
        self.pages(format!("{}/referrers/{of}", self.name), Some(OCI_INDEX), |answer| {
            let is_first = std::mem::take(&mut first);
            match answer.status {
                200 if answer.media_type() == OCI_INDEX => {}
                // No such list: it never heard of it, or gives something else under any address.
                200 | 400 | 404 | 405 | 501 if is_first => {
                    absent = true;
                    return Ok(false);
                }
                _ => return Err(self.unexpected(answer)),
            }
            let place = answer.place.clone();
            let page = answer.bytes_within(MAX_PAGE).map_err(|reason| Self::refused(&place, reason))?;
            let list = format!("the list of referrers of {of}");
            match page {
                Some(page) => listed.add(&list, OCI_INDEX, &page),
                // Whoever puts long annotations there makes it long.
                None => listed.skipped.push(Skipped::hiding(list, format!("a page of more than {MAX_PAGE} bytes"))),
            }
            if listed.entries.len() > MAX_REFERRERS {
                return Err(RepositoryError::Large {
                    what: format!("the list of referrers of {of}"),
                    found: listed.entries.len() as u64,
                    limit: MAX_REFERRERS as u64,
                });
            }
            Ok(true)
        })?;
        Ok((!absent).then_some(listed))
    }

    fn tags(&self) -> Result<Vec<String>, RepositoryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        self.pages(format!("{}/tags/list?n=1000", self.name), None, |answer| {
            match answer.status {
                200 => {}
                404 => return Ok(false),
                _ => return Err(self.unexpected(answer)),
            }
            let place = answer.place.clone();
            let page = answer.bytes(MAX_PAGE).map_err(|reason| Self::refused(&place, reason))?;
            let page: Page = serde_json::from_slice(&page)
                .map_err(|error| Self::refused(&place, format!("gives no list of tags: {error}")))?;
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > MAX_TAGS {
                return Err(RepositoryError::Large {
                    what: format!("the list of tags of {}", self.name()),
                    found: tags.len() as u64,
                    limit: MAX_TAGS as u64,
                });
            }
            Ok(true)
        })?;
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }

    fn delete(&self, at: &At) -> Result<(), RepositoryError> {
        let path = format!("{}/manifests/{at}", self.name);
        let answer =
            self.ask(Ask { actions: "pull,push,delete", ..Ask::change(Method::DELETE, path, Sent::Nothing) })?;
        match answer.status {
            200 | 202 | 204 | 404 => Ok(()),
            405 => Err(RepositoryError::Cannot { place: self.name(), what: "delete manifests" }),
            _ => Err(self.unexpected(answer)),
        }
    }
}
