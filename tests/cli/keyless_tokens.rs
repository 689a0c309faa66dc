//! Tokens that are asked for again within one command: of GitHub's service and of a Buildkite agent's, which are played.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Ended, Place};
use crate::registry::{Asked, Registry, Said};
use crate::sigstore_services::{Sigstore, Twist, token};

/// What permits a job to ask for tokens.
const PERMISSION: &str = "permission-of-a-test-0123456789";
/// How long a token counts, in seconds.
const LIFE: i64 = 4;
/// How long a timestamp takes: longer than a token counts.
const STAMPING: Duration = Duration::from_secs(6);
/// More images than are signed at the same time.
const IMAGES: usize = 10;

/// What a provider and the authority were asked, and said.
#[derive(Default)]
struct Heard {
    /// The tokens that were given, in their order.
    given: Vec<String>,
    /// The tokens that were shown for a certificate, and whether they counted still.
    shown: Vec<(String, bool)>,
    /// The questions for tokens: method, target, header, body.
    asked: Vec<(String, String, String, String)>,
}

struct World {
    place: Place,
    registry: Registry,
    sigstore: Sigstore,
    heard: Arc<Mutex<Heard>>,
    images: Vec<String>,
}

impl World {
    /// A provider that gives so many tokens and no more; certificates that are almost over when they are issued.
    fn new(gives: usize) -> Self {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let hears = Arc::clone(&heard);
        let lie = move |asked: &Asked| hears.lock().expect("no panic").answer(asked, gives);
        let slow = move |asked: &Asked| {
            if asked.target.contains("/tsa") {
                std::thread::sleep(STAMPING);
            }
            lie(asked)
        };
        let sigstore = Sigstore::with(Twist::AlmostOver, Some(Box::new(slow)));
        let (registry, place) = (Registry::start(), Place::without_key());
        let images = (0..IMAGES).map(|number| {
            let digest = registry.put_image(&format!("app{number}"), "v1", &number.to_string());
            format!("{}/app{number}@{digest}", registry.host())
        });
        let images = images.collect();
        Self { place, registry, sigstore, heard, images }
    }

    /// Signs all images in a job of the provider.
    fn sign(&self, provider: &str) -> Ended {
        let base = self.sigstore.fulcio();
        let variables = match provider {
            "github" => [
                ("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{base}/idtoken/jobs/77?api-version=2.0")),
                ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", PERMISSION.to_owned()),
                ("GITHUB_ACTIONS", "true".to_owned()),
            ],
            _ => [
                ("BUILDKITE_AGENT_ENDPOINT", format!("{base}/agent/v3")),
                ("BUILDKITE_AGENT_ACCESS_TOKEN", PERMISSION.to_owned()),
                ("BUILDKITE_JOB_ID", "job-77".to_owned()),
            ],
        };
        let services = ["--fulcio-url", &base, "--timestamp-servers", &self.sigstore.tsa(), "--format", "bundle"];
        let call = self.place.affiant(["image", "sign"]).with(services).with(&self.images);
        variables.into_iter().fold(call, |call, (name, value)| call.env(name, value)).run()
    }

    /// By how many certificates the images are signed.
    fn signers(&self) -> usize {
        let signer = |number: usize| {
            let name = format!("app{number}");
            let digest = self.images[number].rsplit_once('@').expect("pinned").1.parse().expect("a digest");
            let [bundle] = &self.registry.all_about(&name, &digest)[..] else { panic!("one bundle for {name}") };
            let manifest = self.registry.manifest(&name, bundle).expect("it is there");
            let bytes = self.registry.blob(&name, manifest["layers"][0]["digest"].as_str().expect("a digest"));
            let bundle: Value = serde_json::from_slice(&bytes).expect("JSON");
            bundle["verificationMaterial"]["certificate"]["rawBytes"].as_str().expect("a certificate").to_owned()
        };
        (0..IMAGES).map(signer).collect::<BTreeSet<_>>().len()
    }
}

impl Heard {
    fn answer(&mut self, asked: &Asked, gives: usize) -> Option<Said> {
        let now = Timestamp::now().as_second();
        let is_question = asked.target.contains("/idtoken/") || asked.target.contains("/oidc/tokens");
        if is_question {
            let header = asked.headers.get("authorization").cloned().unwrap_or_default();
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            self.asked.push((asked.method.clone(), asked.target.clone(), header, body));
            if self.given.len() == gives {
                return Some(Said::new(403).body(json!({"message": format!("no more for {PERMISSION}")}).to_string()));
            }
            let token = token(&json!({"exp": now + LIFE, "jti": self.given.len()}));
            self.given.push(token.clone());
            return Some(Said::new(200).body(json!({"value": token, "token": token}).to_string()));
        }
        if asked.target.contains("signingCert") {
            let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
            let token = body["credentials"]["oidcIdentityToken"].as_str().expect("a token").to_owned();
            let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("claims")).expect("base64");
            let claims: Value = serde_json::from_slice(&claims).expect("JSON");
            let counts = claims["exp"].as_i64().expect("a time") > now;
            self.shown.push((token, counts));
            if !counts {
                return Some(Said::new(400).body(json!({"message": "the token is expired"}).to_string()));
            }
        }
        None
    }
}

/// Certificates end within the command, and the token of the first one too: for each further one the provider is asked again.
#[test]
fn a_provider_is_asked_again_when_a_token_has_ended() {
    for provider in ["github", "buildkite"] {
        let world = World::new(usize::MAX);
        let ended = world.sign(provider).code(0).stdout("");
        assert!(!ended.stderr_text().contains(PERMISSION), "{provider}");
        let heard = world.heard.lock().expect("no panic");
        let shown: Vec<&String> = heard.shown.iter().map(|(token, _)| token).collect();
        assert!(heard.shown.iter().all(|(_, counts)| *counts), "{provider}: no token is shown that has ended");
        assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), IMAGES, "{provider}: each once");
        assert!(heard.given.iter().all(|token| !ended.stderr_text().contains(token)));
        for (method, target, header, body) in &heard.asked {
            if provider == "github" {
                assert_eq!((method.as_str(), header.as_str()), ("GET", format!("Bearer {PERMISSION}").as_str()));
                assert!(target.ends_with("/idtoken/jobs/77?api-version=2.0&audience=sigstore"), "{target}");
            } else {
                assert_eq!((method.as_str(), header.as_str()), ("POST", format!("Token {PERMISSION}").as_str()));
                assert!(target.ends_with("/agent/v3/jobs/job-77/oidc/tokens"), "{target}");
                assert_eq!(serde_json::from_str::<Value>(body).expect("JSON"), json!({"audience": "sigstore"}));
            }
        }
        drop(heard);
        assert_eq!(world.signers(), IMAGES, "{provider}");
    }
}

/// A provider that gives no second one: the certificate that is there does as long as it lasts, and the token, which has ended
/// by then, is not shown again.
#[test]
fn without_another_token_the_certificate_is_used_while_it_lasts() {
    for provider in ["github", "buildkite"] {
        let world = World::new(1);
        let ended = world.sign(provider).code(0).stdout("");
        assert!(!ended.stderr_text().contains(PERMISSION), "{provider}");
        let heard = world.heard.lock().expect("no panic");
        assert_eq!((heard.given.len(), heard.shown.len()), (1, 1), "{provider}");
        assert!(heard.asked.len() > 1, "{provider}: it was asked");
        drop(heard);
        assert_eq!(world.signers(), 1, "{provider}");
    }
}
