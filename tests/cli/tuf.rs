//! A mirror of trust roots on this machine: TUF metadata that hold, and files in their place that do not.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use affiant_core::sign::{KeyKind, PrivateKey, Signer as _};
use serde_json::{Value, json};

/// Files by path.
type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A mirror that serves until the test ends.
pub(crate) struct Mirror {
    port: u16,
    files: Files,
    asked: Arc<Mutex<Vec<String>>>,
    /// The key of the root role, which changes, and the one of the others.
    root_key: PrivateKey,
    key: PrivateKey,
    root_version: u64,
    root: Vec<u8>,
}

fn new_key() -> PrivateKey {
    PrivateKey::generate(KeyKind::Ed25519).expect("a key")
}

/// The raw public key in hex: the last 32 bytes of its `SubjectPublicKeyInfo`.
fn hex_of(key: &PrivateKey) -> String {
    let der = key.public_key().to_der();
    hex::encode(&der[der.len() - 32..])
}

fn sha256(bytes: &[u8]) -> String {
    affiant_core::digest::sha256_hex(bytes)
}

/// Canonical JSON: these documents have neither control characters nor fractions, so sorted members are enough.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let parts: Vec<_> =
                sorted.iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value))).collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn signed(content: &Value, keys: &[&PrivateKey]) -> Vec<u8> {
    let bytes = canonical(content);
    let signatures: Vec<_> = keys
        .iter()
        .map(|key| json!({ "keyid": id(key), "sig": hex::encode(key.sign(&[bytes.as_bytes()]).expect("signs")) }))
        .collect();
    json!({ "signed": content, "signatures": signatures }).to_string().into_bytes()
}

fn id(key: &PrivateKey) -> String {
    sha256(hex_of(key).as_bytes())
}

/// Metadata that expire then.
pub(crate) const LATE: &str = "2099-01-01T00:00:00Z";

impl Mirror {
    /// Begins with root 1 and nothing else.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (files, asked) = (Files::default(), Arc::new(Mutex::new(Vec::new())));
        let (served, told) = (files.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (served, told) = (served.clone(), told.clone());
                std::thread::spawn(move || serve(&stream, &served, &told));
            }
        });
        let mut mirror =
            Self { port, files, asked, root_key: new_key(), key: new_key(), root_version: 0, root: Vec::new() };
        let first = new_key();
        mirror.root_key = first;
        mirror.root = mirror.next_root(&[], LATE);
        mirror
    }

    pub(crate) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The root that whoever trusts the mirror begins with.
    pub(crate) fn root(&self) -> &[u8] {
        &self.root
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }

    /// Puts a file in place of what is there; nothing takes it away.
    pub(crate) fn put(&self, path: &str, bytes: Option<&[u8]>) {
        let mut files = self.files.lock().expect("no panic");
        match bytes {
            Some(bytes) => files.insert(path.to_owned(), bytes.to_vec()),
            None => files.remove(path),
        };
    }

    /// A file as it is served.
    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        self.files.lock().expect("no panic").get(path).cloned().expect("there")
    }

    fn next_root(&mut self, also: &[&PrivateKey], expires: &str) -> Vec<u8> {
        self.root_version += 1;
        let key = |key: &PrivateKey| json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": hex_of(key) } });
        let other = json!({ "keyids": [id(&self.key)], "threshold": 1 });
        let content = json!({
            "_type": "root", "spec_version": "1.0.31", "consistent_snapshot": true, "version": self.root_version, "expires": expires,
            "keys": { id(&self.root_key): key(&self.root_key), id(&self.key): key(&self.key) },
            "roles": {
                "root": { "keyids": [id(&self.root_key)], "threshold": 1 },
                "timestamp": other, "snapshot": other, "targets": other,
            },
        });
        let mut keys = vec![&self.root_key];
        keys.extend(also);
        let bytes = signed(&content, &keys);
        self.put(&format!("{}.root.json", self.root_version), Some(&bytes));
        bytes
    }

    /// A new root with a new key, which the old one vouches for.
    pub(crate) fn rotate(&mut self, expires: &str) {
        let old = std::mem::replace(&mut self.root_key, new_key());
        self.next_root(&[&old], expires);
    }

    /// A new root that nobody vouches for.
    pub(crate) fn usurp(&mut self) {
        self.root_key = new_key();
        self.next_root(&[], LATE);
    }

    /// Publishes these targets.
    pub(crate) fn publish(&self, version: u64, expires: &str, targets: &[(&str, &[u8])]) {
        let described: serde_json::Map<String, Value> = targets
            .iter()
            .map(|(name, bytes)| {
                ((*name).to_owned(), json!({ "length": bytes.len(), "hashes": { "sha256": sha256(bytes) } }))
            })
            .collect();
        let of =
            |kind: &str| json!({ "_type": kind, "spec_version": "1.0.31", "version": version, "expires": expires });
        let mut content = of("targets");
        content["targets"] = Value::Object(described);
        let bytes = signed(&content, &[&self.key]);
        self.put(&format!("{version}.targets.json"), Some(&bytes));
        let mut content = of("snapshot");
        content["meta"] = json!({ "targets.json": { "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(&bytes) } } });
        let bytes = signed(&content, &[&self.key]);
        self.put(&format!("{version}.snapshot.json"), Some(&bytes));
        let mut content = of("timestamp");
        content["meta"] = json!({ "snapshot.json": { "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(&bytes) } } });
        self.put("timestamp.json", Some(&signed(&content, &[&self.key])));
        for (name, bytes) in targets {
            self.put(&format!("targets/{}.{name}", sha256(bytes)), Some(bytes));
        }
    }
}

fn serve(mut stream: &TcpStream, files: &Files, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
        header.clear();
    }
    let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    asked.lock().expect("no panic").push(path.clone());
    let found = files.lock().expect("no panic").get(&path).cloned();
    let (status, body) = found.map_or(("404 Not Found", Vec::new()), |bytes| ("200 OK", bytes));
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}
