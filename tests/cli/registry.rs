//! A registry on this machine, in memory: with or without a list of referrers, with a password or tokens, and with
//! whatever answers a test puts in its mouth.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use affiant_core::image::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The name and password that a registry with one wants.
pub(crate) const USER: &str = "ann";
pub(crate) const PASSWORD: &str = "password-of-ann-0123";

/// How it knows who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// It does not ask.
    Open,
    /// A password with each question.
    Password,
    /// A token of its own service, for the scope that is needed.
    Token,
    /// The same, and each is good for one question.
    Brief,
}

/// What is asked of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        let mut bytes = Vec::new();
        let mut rest = value.as_bytes();
        while let Some((first, behind)) = rest.split_first() {
            let hex = behind.get(..2).filter(|_| *first == b'%');
            if let Some(hex) = hex.and_then(|hex| std::str::from_utf8(hex).ok()) {
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = &behind[2..];
            } else {
                bytes.push(*first);
                rest = behind;
            }
        }
        String::from_utf8(bytes).ok()
    }
}

/// What it answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Said {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn error(status: u16, code: &str) -> Self {
        Self::new(status)
            .with("content-type", "application/json")
            .body(json!({"errors": [{"code": code, "message": code.to_lowercase()}]}).to_string())
    }
}

/// Answers instead of it, where it gives one.
type Lie = Box<dyn Fn(&Asked) -> Option<Said> + Send + Sync>;

struct State {
    door: Door,
    referrers: bool,
    /// Indexes must lead to what is there.
    strict: bool,
    /// A blob that is put is not seen for this long, also where it was there before: one that keeps links in files.
    blink: std::time::Duration,
    /// Entries of one page of a list.
    page: usize,
    port: u16,
    lie: Option<Lie>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By repository and digest: media type and bytes.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// By repository and tag.
    tags: BTreeMap<(String, String), String>,
    blobs: BTreeMap<(String, String), Vec<u8>>,
    /// Blobs whose links are being written.
    unseen: BTreeMap<(String, String), usize>,
    uploads: BTreeMap<String, Vec<u8>>,
    begun: usize,
    tokens: BTreeMap<String, String>,
    asked: Vec<Asked>,
}

/// A registry that serves until the test ends.
pub(crate) struct Registry {
    state: Arc<State>,
}

impl Registry {
    /// One with a list of referrers, open to all.
    pub(crate) fn start() -> Self {
        Self::with(Door::Open, true, None)
    }

    /// One without a list of referrers that takes no index with something in it that is not there.
    pub(crate) fn strict() -> Self {
        Self::of(Door::Open, false, None, true, std::time::Duration::ZERO)
    }

    /// One without a list of referrers that keeps links in files, which are empty while they are written: a blob that is
    /// put, also once more, is not seen meanwhile, and asking for it is an error.
    pub(crate) fn of_files() -> Self {
        Self::of(Door::Open, false, None, false, std::time::Duration::from_millis(25))
    }

    /// One without a list of referrers.
    pub(crate) fn old() -> Self {
        Self::with(Door::Open, false, None)
    }

    pub(crate) fn with(door: Door, referrers: bool, lie: Option<Lie>) -> Self {
        Self::of(door, referrers, lie, false, std::time::Duration::ZERO)
    }

    fn of(door: Door, referrers: bool, lie: Option<Lie>, strict: bool, blink: std::time::Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State { door, referrers, strict, blink, page: 2, port, lie, held: Mutex::default() });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || state.serve(&stream));
            }
        });
        Self { state }
    }

    /// `127.0.0.1:<port>`
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.state.port)
    }

    /// All that was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.held().asked.clone()
    }

    /// Forgets what was asked.
    pub(crate) fn forget(&self) {
        self.state.held().asked.clear();
    }

    /// The tags of a repository.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let held = self.state.held();
        held.tags.keys().filter(|(of, _)| of == repository).map(|(_, tag)| tag.clone()).collect()
    }

    /// A manifest by tag or digest.
    pub(crate) fn manifest(&self, repository: &str, at: &str) -> Option<Value> {
        let held = self.state.held();
        let digest = held.tags.get(&(repository.to_owned(), at.to_owned())).map_or(at, String::as_str);
        let (_, bytes) = held.manifests.get(&(repository.to_owned(), digest.to_owned()))?;
        serde_json::from_slice(bytes).ok()
    }

    /// A manifest whose subject is another one.
    pub(crate) fn manifest_about(&self, repository: &str, subject: &Digest) -> Option<Digest> {
        let held = self.state.held();
        let is_about = |bytes: &[u8]| {
            serde_json::from_slice::<Value>(bytes)
                .is_ok_and(|manifest| manifest["subject"]["digest"] == subject.as_str())
        };
        let mut all = held.manifests.iter().filter(|((of, _), (_, bytes))| of == repository && is_about(bytes));
        all.next().and_then(|((_, digest), _)| digest.parse().ok())
    }

    /// All manifests whose subject is another one, by digest.
    pub(crate) fn all_about(&self, repository: &str, subject: &Digest) -> Vec<String> {
        let held = self.state.held();
        let about = held.manifests.iter().filter(|((of, _), (_, bytes))| {
            let subject_of = |manifest: Value| manifest["subject"]["digest"] == subject.as_str();
            of == repository && serde_json::from_slice(bytes).is_ok_and(subject_of)
        });
        about.map(|((_, digest), _)| digest.clone()).collect()
    }

    /// The bytes of a blob.
    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Vec<u8> {
        let held = self.state.held();
        held.blobs.get(&(repository.to_owned(), digest.to_owned())).expect("it is there").clone()
    }

    /// Puts a manifest there as it is.
    pub(crate) fn put(&self, repository: &str, tag: Option<&str>, media_type: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut held = self.state.held();
        held.manifests.insert((repository.to_owned(), digest.to_string()), (media_type.to_owned(), bytes.to_vec()));
        if let Some(tag) = tag {
            held.tags.insert((repository.to_owned(), tag.to_owned()), digest.to_string());
        }
        digest
    }

    /// Puts a blob there.
    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.state.held().blobs.insert((repository.to_owned(), digest.to_string()), bytes.to_vec());
        digest
    }

    /// Puts a small image there, different for each `seed`.
    pub(crate) fn put_image(&self, repository: &str, tag: &str, seed: &str) -> Digest {
        let layer = format!("layer of {seed}");
        let config = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer.as_bytes())]}})
        .to_string();
        let (layer_digest, config_digest) =
            (self.put_blob(repository, layer.as_bytes()), self.put_blob(repository, config.as_bytes()));
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len()}]});
        self.put(repository, Some(tag), "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
    }

    /// Whether it keeps a list of referrers.
    pub(crate) fn lists_referrers(&self) -> bool {
        self.state.referrers
    }

    /// Loses a manifest.
    pub(crate) fn remove(&self, repository: &str, digest: &Digest) {
        self.state.held().manifests.remove(&(repository.to_owned(), digest.to_string()));
    }

    /// Forgets a tag.
    pub(crate) fn untag(&self, repository: &str, tag: &str) {
        self.state.held().tags.remove(&(repository.to_owned(), tag.to_owned()));
    }

    /// Changes the bytes of a blob in place.
    pub(crate) fn spoil(&self, repository: &str, digest: &Digest) {
        let mut held = self.state.held();
        let blob = held.blobs.get_mut(&(repository.to_owned(), digest.to_string())).expect("it is there");
        blob[0] ^= 1;
    }
}

impl State {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no panic")
    }

    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read(&mut reader) {
            self.held().asked.push(asked.clone());
            let said = self.lie.as_ref().and_then(|lie| lie(&asked)).unwrap_or_else(|| self.answer(&asked));
            // It hangs up.
            if said.status == 0 {
                return;
            }
            let mut head = format!("HTTP/1.1 {} X\r\n", said.status);
            for (name, value) in &said.headers {
                let _ = write!(head, "{name}: {value}\r\n");
            }
            if !said.headers.iter().any(|(name, _)| name == "content-length") {
                let _ = write!(head, "content-length: {}\r\n", said.body.len());
            }
            head += "\r\n";
            let body: &[u8] = if asked.method == "HEAD" { b"" } else { &said.body };
            let mut out = stream;
            if out.write_all(head.as_bytes()).and_then(|()| out.write_all(body)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> Said {
        if asked.path() == "/token" {
            return self.token(asked);
        }
        let Some(rest) = asked.path().strip_prefix("/v2/").map(str::to_owned) else {
            return Said::error(404, "NAME_UNKNOWN");
        };
        if let Some(refused) = self.stranger(asked, &rest) {
            return refused;
        }
        for kind in ["/manifests/", "/blobs/uploads/", "/blobs/", "/referrers/", "/tags/list"] {
            if let Some((repository, what)) = rest.split_once(kind) {
                return match kind {
                    "/manifests/" => self.manifest(asked, repository, what),
                    "/blobs/uploads/" => self.upload(asked, repository, what),
                    "/blobs/" => self.blob(asked, repository, what),
                    "/referrers/" => self.referrers(asked, repository, what),
                    _ => self.tags(asked, repository),
                };
            }
        }
        Said::new(if rest.is_empty() { 200 } else { 404 })
    }

    /// What one is told whom it does not let in.
    fn stranger(&self, asked: &Asked, rest: &str) -> Option<Said> {
        let proof = asked.headers.get("authorization").map(String::as_str).unwrap_or_default();
        let writes = !matches!(asked.method.as_str(), "GET" | "HEAD");
        let repository =
            ["/manifests/", "/blobs/", "/referrers/", "/tags/"].iter().find_map(|kind| Some(rest.split_once(kind)?.0));
        let challenge = match self.door {
            Door::Open => return None,
            Door::Password => {
                let wanted = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
                if proof == wanted {
                    return None;
                }
                "Basic realm=\"here\"".to_owned()
            }
            Door::Token | Door::Brief => {
                let scope = repository
                    .map(|name| format!("repository:{name}:{}", if writes { "pull,push" } else { "pull" }))
                    .unwrap_or_default();
                let token = proof.strip_prefix("Bearer ").unwrap_or_default();
                let mut held = self.held();
                let granted = held.tokens.get(token).cloned();
                if self.door == Door::Brief
                    && let Some(scope) = held.tokens.get_mut(token)
                {
                    scope.clear();
                }
                let is_enough = |granted: &str| {
                    granted.split(' ').any(|one| {
                        !one.is_empty() && scope.is_empty() || one == scope || one.starts_with(&format!("{scope},"))
                    })
                };
                if granted.is_some_and(|granted| is_enough(&granted)) {
                    return None;
                }
                format!("Bearer realm=\"http://127.0.0.1:{}/token\",service=\"here\",scope=\"{scope}\"", self.port)
            }
        };
        Some(Said::error(401, "UNAUTHORIZED").with("www-authenticate", challenge))
    }

    fn token(&self, asked: &Asked) -> Said {
        let wanted = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        if asked.headers.get("authorization") != Some(&wanted) {
            return Said::error(401, "UNAUTHORIZED");
        }
        let mut held = self.held();
        let token = format!("token-{}", held.tokens.len());
        held.tokens.insert(token.clone(), asked.query("scope").unwrap_or_default());
        Said::new(200)
            .body(json!({"token": token, "expires_in": if self.door == Door::Brief { 1 } else { 300 }}).to_string())
    }

    fn manifest(&self, asked: &Asked, repository: &str, what: &str) -> Said {
        let mut held = self.held();
        let key = |digest: &str| (repository.to_owned(), digest.to_owned());
        match asked.method.as_str() {
            "PUT" => {
                let digest = Digest::of(&asked.body);
                let Ok(manifest) = serde_json::from_slice::<Value>(&asked.body) else {
                    return Said::error(400, "MANIFEST_INVALID");
                };
                for part in manifest["layers"].as_array().into_iter().flatten().chain([&manifest["config"]]) {
                    let Some(part) = part["digest"].as_str() else { continue };
                    if held.unseen.contains_key(&key(part)) {
                        let said = |code: &str| json!({"code": code, "message": code.to_lowercase()});
                        let errors = json!({"errors": [said("DIGEST_INVALID"), said("MANIFEST_BLOB_UNKNOWN")]});
                        return Said::new(400).body(errors.to_string());
                    }
                    if !held.blobs.contains_key(&key(part)) {
                        return Said::error(400, "MANIFEST_BLOB_UNKNOWN");
                    }
                }
                let mut entries = manifest["manifests"].as_array().into_iter().flatten();
                let is_gone =
                    |entry: &Value| !held.manifests.contains_key(&key(entry["digest"].as_str().unwrap_or("")));
                if self.strict && entries.any(is_gone) {
                    return Said::error(404, "MANIFEST_UNKNOWN");
                }
                let media_type = asked.headers.get("content-type").cloned().unwrap_or_default();
                held.manifests.insert(key(digest.as_str()), (media_type, asked.body.clone()));
                if !what.starts_with("sha256:") {
                    held.tags.insert(key(what), digest.to_string());
                }
                let said = Said::new(201).with("docker-content-digest", digest.as_str());
                match manifest["subject"]["digest"].as_str() {
                    Some(subject) if self.referrers => said.with("oci-subject", subject),
                    _ => said,
                }
            }
            "DELETE" => {
                if what.starts_with("sha256:") {
                    held.manifests.remove(&key(what));
                    held.tags.retain(|(of, _), digest| of != repository || digest != what);
                } else {
                    held.tags.remove(&key(what));
                }
                Said::new(202)
            }
            _ => {
                let digest = held.tags.get(&key(what)).cloned().unwrap_or_else(|| what.to_owned());
                match held.manifests.get(&key(&digest)) {
                    Some((media_type, bytes)) => Said::new(200)
                        .with("content-type", media_type)
                        .with("docker-content-digest", digest)
                        .body(bytes.clone()),
                    None => Said::error(404, "MANIFEST_UNKNOWN"),
                }
            }
        }
    }

    fn upload(&self, asked: &Asked, repository: &str, what: &str) -> Said {
        let mut held = self.held();
        let place = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}");
        match asked.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from)) = (asked.query("mount"), asked.query("from"))
                    && let Some(bytes) = held.blobs.get(&(from, digest.clone())).cloned()
                {
                    held.blobs.insert((repository.to_owned(), digest), bytes);
                    return Said::new(201);
                }
                held.begun += 1;
                let id = format!("upload-{}", held.begun);
                held.uploads.insert(id.clone(), Vec::new());
                Said::new(202).with("location", place(&id))
            }
            "PATCH" => {
                let Some(upload) = held.uploads.get_mut(what) else { return Said::error(404, "BLOB_UPLOAD_UNKNOWN") };
                let range = asked.headers.get("content-range").and_then(|range| range.split('-').next()?.parse().ok());
                if range.is_some_and(|from: usize| from != upload.len()) {
                    return Said::error(416, "RANGE_INVALID");
                }
                upload.extend_from_slice(&asked.body);
                Said::new(202).with("location", place(what))
            }
            _ => {
                let Some(mut bytes) = held.uploads.remove(what) else { return Said::error(404, "BLOB_UPLOAD_UNKNOWN") };
                bytes.extend_from_slice(&asked.body);
                let digest = Digest::of(&bytes).to_string();
                if asked.query("digest").as_deref() != Some(&digest) {
                    return Said::error(400, "DIGEST_INVALID");
                }
                let name = (repository.to_owned(), digest);
                if !self.blink.is_zero() {
                    *held.unseen.entry(name.clone()).or_default() += 1;
                    drop(held);
                    std::thread::sleep(self.blink);
                    held = self.held();
                    let writers = held.unseen.remove(&name).unwrap_or_default();
                    if writers > 1 {
                        held.unseen.insert(name.clone(), writers - 1);
                    }
                }
                held.blobs.insert(name, bytes);
                Said::new(201)
            }
        }
    }

    fn blob(&self, asked: &Asked, repository: &str, what: &str) -> Said {
        let _ = asked;
        let held = self.held();
        let name = (repository.to_owned(), what.to_owned());
        if held.unseen.contains_key(&name) {
            return Said::error(500, "UNKNOWN");
        }
        match held.blobs.get(&name) {
            Some(bytes) => Said::new(200).with("content-type", "application/octet-stream").body(bytes.clone()),
            None => Said::error(404, "BLOB_UNKNOWN"),
        }
    }

    /// Pages of a list: this one, and where the next is.
    fn page<T: Clone>(&self, asked: &Asked, all: &[T]) -> (Vec<T>, Option<String>) {
        let from: usize = asked.query("from").and_then(|from| from.parse().ok()).unwrap_or(0);
        let next = from + self.page;
        let link = (next < all.len()).then(|| format!("<{}?from={next}>; rel=\"next\"", asked.path()));
        (all.iter().skip(from).take(self.page).cloned().collect(), link)
    }

    fn referrers(&self, asked: &Asked, repository: &str, of: &str) -> Said {
        if !self.referrers {
            return Said::error(404, "NOT_FOUND");
        }
        let held = self.held();
        let mut list = Vec::new();
        for ((name, digest), (media_type, bytes)) in &held.manifests {
            let Ok(manifest) = serde_json::from_slice::<Value>(bytes) else { continue };
            if name == repository && manifest["subject"]["digest"] == of {
                let kind = manifest.get("artifactType").unwrap_or(&manifest["config"]["mediaType"]);
                list.push(json!({"mediaType": media_type, "digest": digest, "size": bytes.len(),
                    "artifactType": kind, "annotations": manifest.get("annotations").unwrap_or(&json!({}))}));
            }
        }
        let (manifests, link) = self.page(asked, &list);
        let kind = "application/vnd.oci.image.index.v1+json";
        let said = Said::new(200)
            .with("content-type", kind)
            .body(json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string());
        link.into_iter().fold(said, |said, link| said.with("link", link))
    }

    fn tags(&self, asked: &Asked, repository: &str) -> Said {
        let held = self.held();
        let all: Vec<_> = held.tags.keys().filter(|(of, _)| of == repository).map(|(_, tag)| tag.clone()).collect();
        let (tags, link) = self.page(asked, &all);
        let said = Said::new(200).body(json!({"name": repository, "tags": tags}).to_string());
        link.into_iter().fold(said, |said, link| said.with("link", link))
    }
}

pub(crate) fn read(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body })
}
