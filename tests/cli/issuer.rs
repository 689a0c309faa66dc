//! A CI provider on this machine: it gives identity tokens and shows the keys that prove them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The key of all providers of a test: making one takes a while.
static PAIR: OnceLock<RsaKeyPair> = OnceLock::new();
/// What GitHub's variables permit questions for tokens with.
pub(crate) const PERMISSION: &str = "request-permission-0123456789abcdef";

/// What it answers instead of the truth.
#[derive(Default)]
pub(crate) struct Lies {
    /// Claims in place of its own; `null` takes one away.
    pub(crate) claims: Value,
    /// The algorithm that the header of tokens names.
    pub(crate) algorithm: Option<&'static str>,
    /// Keys in place of its own.
    pub(crate) keys: Option<Value>,
    /// Whole answers (head and body) by a part of the path; an empty one never comes.
    pub(crate) answers: BTreeMap<&'static str, Vec<u8>>,
}

/// A provider that serves until the test ends.
pub(crate) struct Issuer {
    port: u16,
    state: Arc<State>,
}

struct State {
    pair: &'static RsaKeyPair,
    server: String,
    claims: Value,
    lies: Lies,
    asked: Mutex<Vec<String>>,
    tokens: Mutex<Vec<String>>,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A fixture with the server's address in place.
pub(crate) fn fixture(path: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path);
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .expect("JSON")
}

/// A public key as a member of a key set.
pub(crate) fn jwk(pair: &RsaKeyPair, id: &str) -> Value {
    // `RSAPublicKey`: two headers of four bytes, a zero, 256 bytes, and the exponent 65537.
    let n = encode(&pair.public_key().as_ref()[9..265]);
    json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": n, "e": "AQAB"})
}

pub(crate) fn new_pair() -> RsaKeyPair {
    RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key")
}

impl Issuer {
    /// The provider whose fixture is `provider`.
    pub(crate) fn start(provider: &str, lies: Lies) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State {
            pair: PAIR.get_or_init(new_pair),
            server: format!("http://127.0.0.1:{port}"),
            claims: fixture(&format!("{provider}/claims.json")),
            lies,
            asked: Mutex::default(),
            tokens: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { port, state }
    }

    /// `http://127.0.0.1:<port>`
    pub(crate) fn url(&self) -> String {
        self.state.server.clone()
    }

    /// The variables of the fixture's environment, and those that permit questions for tokens.
    pub(crate) fn variables(&self, provider: &str) -> BTreeMap<String, String> {
        let host = format!("127.0.0.1:{}", self.port);
        let text = fixture(&format!("{provider}/environment.json")).to_string();
        let text = text.replace("[SERVER]", &self.url()).replace("[HOST]", &host);
        let mut variables: BTreeMap<String, String> = serde_json::from_str(&text).expect("texts");
        if provider == "github" {
            let url = format!("{}/_services/pipelines/idtoken/2f3e/jobs/77?api-version=2.0", self.url());
            variables.insert("ACTIONS_ID_TOKEN_REQUEST_URL".into(), url);
            variables.insert("ACTIONS_ID_TOKEN_REQUEST_TOKEN".into(), PERMISSION.into());
        }
        if provider == "gitlab" {
            variables.insert("AFFIANT_ID_TOKEN".into(), self.token("affiant", &self.url()));
        }
        variables
    }

    /// What was asked: method, path and query.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().expect("no panic").clone()
    }

    /// All tokens that were given.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.state.tokens.lock().expect("no panic").clone()
    }

    /// A token for this audience.
    pub(crate) fn token(&self, audience: &str, issuer: &str) -> String {
        self.state.token(audience, issuer)
    }
}

impl State {
    #[expect(clippy::disallowed_methods, reason = "tokens are judged by the real time")]
    fn token(&self, audience: &str, issuer: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let mut claims = self.claims.clone();
        for (name, value) in [
            ("iss", json!(issuer)),
            ("aud", json!(audience)),
            ("iat", json!(now)),
            ("nbf", json!(now - 300)),
            ("exp", json!(now + 300)),
        ] {
            claims[name] = value;
        }
        for (name, value) in self.lies.claims.as_object().into_iter().flatten() {
            claims[name] = match value {
                Value::String(text) => json!(text.replace("[SERVER]", &self.server)),
                other => other.clone(),
            };
        }
        let header = json!({"typ": "JWT", "alg": self.lies.algorithm.unwrap_or("RS256"), "kid": "key-1"});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("signs");
        let token = format!("{signed}.{}", encode(signature));
        self.tokens.lock().expect("no panic").push(token.clone());
        token
    }
}

fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut permission = String::new();
        loop {
            let mut line = String::new();
            if reader.by_ref().take(8192).read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("authorization")
            {
                value.trim().clone_into(&mut permission);
            }
        }
        state.asked.lock().expect("no panic").push(target.clone());
        let answer = answer(&target, &permission, state);
        if answer.is_empty() {
            std::thread::sleep(Duration::from_secs(120));
            return;
        }
        let mut stream = stream;
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn answer(target: &str, permission: &str, state: &State) -> Vec<u8> {
    if let Some((_, lie)) = state.lies.answers.iter().find(|(part, _)| target.contains(*part)) {
        return lie.clone();
    }
    let server = &state.server;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let github = format!("{server}/_services/token");
    let body = if path.contains("/idtoken/") {
        if permission != format!("Bearer {PERMISSION}") {
            return response("401 Unauthorized", "");
        }
        let audience = query.split('&').find_map(|pair| pair.strip_prefix("audience=")).unwrap_or("nobody");
        json!({"count": 1, "value": state.token(audience, &github)})
    } else if let Some(base) = path.strip_suffix("/.well-known/openid-configuration") {
        json!({"issuer": format!("{server}{base}"), "jwks_uri": format!("{server}{base}/keys")})
    } else if path.ends_with("/keys") {
        state.lies.keys.clone().unwrap_or_else(|| json!({"keys": [jwk(state.pair, "key-1")]}))
    } else {
        return response("404 Not Found", "");
    };
    response("200 OK", &body.to_string())
}

/// An answer with this status and body.
pub(crate) fn response(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
