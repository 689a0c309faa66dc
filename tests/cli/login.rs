//! A person who logs in for an identity token: at a real terminal, and an issuer that is played. The test is the browser.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use affiant_core::digest::sha256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{Call, Place, left_out};
use crate::registry::{Asked, Registry, Said, read};
use crate::sigstore_services::{Sigstore, token};

/// Long enough for a machine that does other things as well.
const LONG: Duration = Duration::from_secs(120);
/// An account without rights.
const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const ANN: &str = "ann@login.example";

/// What the issuer does otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trick {
    #[default]
    None,
    /// Tokens of another login.
    OtherNonce,
    /// Tokens by another issuer.
    OtherIssuer,
    /// It describes another one.
    OtherDocument,
    /// Its token's place says back what it was sent.
    SaysBack,
    /// Codes for devices expire.
    Expires,
    /// It has no codes for devices.
    NoDevice,
}

struct State {
    server: String,
    trick: Trick,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    asked: Vec<Asked>,
    /// Of each code: challenge, nonce and where the browser goes.
    codes: BTreeMap<String, [String; 3]>,
    /// Challenge of the device, and how often it has asked.
    device: (String, usize),
    tokens: Vec<String>,
}

/// An issuer that serves until the test ends.
struct Issuer {
    state: Arc<State>,
}

/// A member of a form.
fn member(form: &[u8], name: &str) -> String {
    let target = format!("/?{}", String::from_utf8_lossy(form));
    let asked = Asked { method: String::new(), target, headers: BTreeMap::new(), body: Vec::new() };
    asked.query(name).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02x}");
        out
    })
}

impl Issuer {
    fn start(trick: Trick) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let server = format!("http://{}/auth", listener.local_addr().expect("bound"));
        let state = Arc::new(State { server, trick, held: Mutex::default() });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || state.serve(&stream));
            }
        });
        Self { state }
    }

    fn url(&self) -> String {
        self.state.server.clone()
    }

    fn asked(&self) -> Vec<Asked> {
        self.state.held.lock().expect("no panic").asked.clone()
    }

    /// Nothing that is secret stands in these texts.
    #[track_caller]
    fn kept_secret(&self, texts: &[&str]) {
        let held = self.state.held.lock().expect("no panic");
        let verifiers = held.asked.iter().map(|asked| member(&asked.body, "code_verifier"));
        let parts = held.tokens.iter().map(|token| token.rsplit('.').next().expect("parts").to_owned());
        for secret in verifiers.chain(parts).chain(held.codes.keys().cloned()).filter(|secret| !secret.is_empty()) {
            assert!(texts.iter().all(|text| !text.contains(&secret)), "{secret}: {texts:?}");
        }
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read(&mut reader) {
            self.held.lock().expect("no panic").asked.push(asked.clone());
            let said = self.answer(&asked);
            let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", said.status, said.body.len());
            for (name, value) in &said.headers {
                let _ = write!(head, "{name}: {value}\r\n");
            }
            head += "\r\n";
            let mut out = stream;
            if out.write_all(head.as_bytes()).and_then(|()| out.write_all(&said.body)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> Said {
        let server = &self.server;
        let json =
            |status, value: &Value| Said::new(status).with("content-type", "application/json").body(value.to_string());
        match asked.path() {
            "/auth/.well-known/openid-configuration" => {
                let issuer = if self.trick == Trick::OtherDocument { "https://other.example" } else { server };
                let mut document = json!({"issuer": issuer, "authorization_endpoint": format!("{server}/ask"),
                    "token_endpoint": format!("{server}/token"), "code_challenge_methods_supported": ["S256"]});
                if self.trick != Trick::NoDevice {
                    document["device_authorization_endpoint"] = json!(format!("{server}/device"));
                }
                json(200, &document)
            }
            "/auth/ask" => {
                let said = |name: &str| asked.query(name).unwrap_or_default();
                let good = said("response_type") == "code"
                    && said("client_id") == "sigstore"
                    && said("scope") == "openid email"
                    && said("code_challenge_method") == "S256";
                if !good {
                    return Said::new(400);
                }
                let mut held = self.held.lock().expect("no panic");
                let code = format!("code-of-a-login-{}-0123", held.codes.len());
                held.codes.insert(code.clone(), [said("code_challenge"), said("nonce"), said("redirect_uri")]);
                let to = format!("{}?code={code}&state={}", said("redirect_uri"), escaped(&said("state")));
                Said::new(303).with("location", to)
            }
            "/auth/device" => {
                self.held.lock().expect("no panic").device.0 = member(&asked.body, "code_challenge");
                json(
                    200,
                    &json!({"device_code": "device-code-of-a-test", "user_code": "ABCD-EFGH", "interval": 1,
                    "verification_uri": format!("{server}/type"), "expires_in": 300}),
                )
            }
            "/auth/token" => {
                let (status, value) = self.token(asked);
                json(status, &value)
            }
            _ => Said::new(404),
        }
    }

    fn token(&self, asked: &Asked) -> (u16, Value) {
        let said = |name: &str| member(&asked.body, name);
        if self.trick == Trick::SaysBack {
            let words = format!("no: {}", String::from_utf8_lossy(&asked.body));
            return (400, json!({"error": "invalid_grant", "error_description": words}));
        }
        let mut held = self.held.lock().expect("no panic");
        let (challenge, nonce) = if said("grant_type") == "authorization_code" {
            match held.codes.get(&said("code")) {
                Some([challenge, nonce, redirect]) if *redirect == said("redirect_uri") => {
                    (challenge.clone(), Some(nonce.clone()))
                }
                _ => return (400, json!({"error": "invalid_grant"})),
            }
        } else {
            held.device.1 += 1;
            match (held.device.1, self.trick) {
                (1, _) => return (400, json!({"error": "authorization_pending"})),
                (2, _) => return (400, json!({"error": "slow_down"})),
                (_, Trick::Expires) => return (400, json!({"error": "expired_token"})),
                _ => (held.device.0.clone(), None),
            }
        };
        if challenge != URL_SAFE_NO_PAD.encode(sha256(said("code_verifier").as_bytes()))
            || said("client_id") != "sigstore"
        {
            return (400, json!({"error": "invalid_grant", "error_description": "not yours"}));
        }
        let nonce = if self.trick == Trick::OtherNonce { Some("of-another-login".to_owned()) } else { nonce };
        let issuer = if self.trick == Trick::OtherIssuer { "https://other.example" } else { &self.server };
        let made = token(&json!({"iss": issuer, "sub": "ann", "email": ANN, "email_verified": true, "nonce": nonce,
            "project_path": null, "namespace_path": null, "ci_config_ref_uri": null}));
        held.tokens.push(made.clone());
        (200, json!({"id_token": made, "access_token": "nobody-reads-this", "token_type": "bearer"}))
    }
}

/// What is answered to these bytes: all of it, as text.
fn ask(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LONG)).expect("a limit");
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // Whoever is sent away before all was said sees a broken connection.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Address and path of a URL.
fn apart(url: &str) -> (&str, String) {
    let rest = url.strip_prefix("http://").expect("a URL on this machine");
    let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (address, path.to_owned())
}

fn get(url: &str) -> String {
    let (address, path) = apart(url);
    ask(address, format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())
}

/// Where the issuer sends the browser.
fn sent_to(url: &str) -> String {
    let answer = {
        let (address, path) = apart(url);
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).expect("asks");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length == 1) {
            head.push(byte[0]);
        }
        String::from_utf8_lossy(&head).into_owned()
    };
    let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
    location.unwrap_or_else(|| panic!("not sent on: {answer}")).to_owned()
}

/// A call on a terminal of its own.
struct Terminal {
    child: Child,
    master: std::fs::File,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Terminal {
    fn start(call: Call) -> Self {
        Self::of(&call.command(), &[])
    }

    /// With these words before the program.
    fn of(call: &Command, before: &[&str]) -> Self {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let fd = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("another descriptor"));
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .args(before)
            .arg(call.get_program())
            .args(call.get_args())
            .current_dir(call.get_current_dir().expect("a folder"))
            .env_clear()
            .envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(fd(&pty.slave))
            .stdout(fd(&pty.slave))
            .stderr(fd(&pty.slave));
        let child = command.spawn().expect("setsid is needed for this test");
        drop(command);
        drop(pty.slave);
        let master = std::fs::File::from(pty.master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (master.try_clone().expect("another descriptor"), Arc::clone(&screen));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end of a terminal is an error (EIO).
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                to.lock().expect("no panic").extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, master, screen, reader }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no panic")).into_owned()
    }

    /// The line that begins so, once it is there as a whole.
    #[track_caller]
    fn line(&self, begin: &str) -> String {
        let until = Instant::now() + LONG;
        loop {
            let is_over = self.reader.is_finished();
            let screen = self.screen();
            let whole = screen.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(line) =
                whole.lines().map(|line| line.trim_end_matches('\r')).find(|line| line.starts_with(begin))
            {
                return line.to_owned();
            }
            assert!(Instant::now() < until && !is_over, "no `{begin}`: {screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn types(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).expect("types");
    }

    /// Exit code and screen.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("ends").code();
        self.reader.join().expect("reads");
        let screen = String::from_utf8_lossy(&self.screen.lock().expect("no panic")).into_owned();
        (code, screen)
    }

    #[track_caller]
    fn ends_with(self, code: i32, parts: &[&str]) -> String {
        let (ended, screen) = self.end();
        assert_eq!(ended, Some(code), "{screen}");
        for part in parts {
            assert!(screen.contains(part), "`{part}` is not in: {screen}");
        }
        screen
    }
}

/// An issuer, services, and a file that is to be signed.
struct World {
    issuer: Issuer,
    sigstore: Sigstore,
    place: Place,
}

impl World {
    fn new(trick: Trick) -> Self {
        let (issuer, sigstore, place) = (Issuer::start(trick), Sigstore::start(), Place::without_key());
        place.write("file", "content");
        Self { issuer, sigstore, place }
    }

    /// Whoever signs it would have to log in.
    fn sign(&self, more: &[&str]) -> Call {
        let services = ["--fulcio-url", &self.sigstore.fulcio(), "--timestamp-servers", &self.sigstore.tsa()];
        self.place
            .affiant(["image", "sign-blob", "--bundle", "b.json", "--oidc-issuer", &self.issuer.url()])
            .with(services)
            .with(more)
            .with(["file"])
    }

    fn run(&self, more: &[&str]) -> Call {
        let services = ["--fulcio-url", &self.sigstore.fulcio(), "--timestamp-servers", &self.sigstore.tsa()];
        self.place
            .affiant(["run", "-o", "../a.json", "--step", "build", "-a", "environment", "--spool", "../spool"])
            .with(["--oidc-issuer", &self.issuer.url()])
            .with(services)
            .with(more)
    }

    fn is_signed(&self) -> bool {
        self.place.work().join("b.json").metadata().is_ok_and(|file| file.len() > 0)
    }
}

#[test]
fn a_person_logs_in_with_a_browser() {
    let world = World::new(Trick::None);
    let terminal = Terminal::start(world.sign(&[]));
    let url = terminal.line("http://");
    assert!(url.contains("code_challenge_method=S256") && url.contains("nonce=") && url.contains("state="), "{url}");
    let back = sent_to(&url);
    assert!(back.starts_with("http://127.0.0.1:") && back.contains("/auth/callback?code="), "{back}");
    let (address, _) = apart(&back);
    // Strangers are sent away, and end nothing; one says nothing at all.
    let _silent = TcpStream::connect(address).expect("connects");
    assert!(get(&format!("http://{address}/favicon.ico")).starts_with("HTTP/1.1 404"));
    assert!(get(&format!("http://{address}/auth/callback")).starts_with("HTTP/1.1 404"));
    assert!(ask(address, b"POST /auth/callback?a=b HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(ask(address, b"EHLO example\r\n\r\n").starts_with("HTTP/1.1 400"));
    let long = format!("GET /auth/callback?{} HTTP/1.1\r\n\r\n", "a".repeat(9 * 1024));
    let answer = ask(address, long.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 414"), "{answer}");
    let page = get(&back);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("You may close this window"), "{page}");
    for header in ["cache-control: no-store", "referrer-policy: no-referrer", "default-src 'none'"] {
        assert!(page.contains(header), "{header}: {page}");
    }
    let screen =
        terminal.ends_with(0, &["log in at", "logged in as ann@login.example", "signing as ann@login.example"]);
    world.issuer.kept_secret(&[&screen, &page]);
    assert!(world.is_signed());
    assert_eq!(world.sigstore.count("signingCert"), 1);
}

/// The browser is opened by `$BROWSER`; root has none.
#[test]
fn a_browser_is_opened_but_not_as_root() {
    let world = World::new(Trick::None);
    let (browser, opened) = (world.place.beside("browser"), world.place.beside("opened"));
    let script = format!("#!/bin/sh\nprintf %s \"$1\" >{0}.new && mv {0}.new {0}\n", opened.display());
    std::fs::write(&browser, script).expect("writes");
    let everybody = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    };
    for name in [".", "work", "home", "browser"] {
        everybody(&world.place.beside(name));
    }
    let call = || world.sign(&[]).env("BROWSER", &browser).command();
    let is_root = nix::unistd::Uid::effective().is_root();
    let terminal = Terminal::of(&call(), if is_root { &NOBODY } else { &[] });
    let line = format!("opened with {}", browser.display());
    if is_root {
        // Where the build is in a folder of root's, nobody else can start it.
        let until = Instant::now() + LONG;
        while !terminal.screen().contains(&line) && !terminal.reader.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    if is_root && !terminal.screen().contains(&line) {
        left_out(&format!("a browser that is opened: nobody else can start it: {}", terminal.end().1));
    } else {
        terminal.line(&line);
        let until = Instant::now() + LONG;
        while !opened.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let url = std::fs::read_to_string(&opened).expect("opened");
        assert_eq!(url, terminal.line("http://"));
        get(&sent_to(&url));
        terminal.ends_with(0, &["logged in as ann@login.example"]);
        std::fs::remove_file(&opened).expect("removes");
    }
    if is_root {
        let terminal = Terminal::of(&call(), &[]);
        get(&sent_to(&terminal.line("http://")));
        terminal.ends_with(0, &["no browser is opened as root"]);
        assert!(!opened.exists());
    }
}

/// What the browser brings must be the answer to this login, and the token of it.
#[test]
fn other_answers_than_to_this_login_are_refused() {
    let world = World::new(Trick::None);
    for (tail, part) in [
        ("?code=c&state=of-another-login", "no answer to this login"),
        ("?code=c", "no answer to this login"),
        ("?error=access_denied", "no answer to this login"),
        ("?code=c&state=[STATE]&iss=https%3A%2F%2Fother.example", "https://other.example"),
        ("?code=c&code=d&state=[STATE]", "twice"),
        (
            "?error=access_denied&state=[STATE]&error_description=Ann%1b%5b2J+says%0Ano",
            "refuses: access_denied: Ann [2J says no",
        ),
        ("?code=not-a-code-of-this-issuer&state=[STATE]", "invalid_grant"),
    ] {
        let terminal = Terminal::start(world.sign(&[]));
        let url = terminal.line("http://");
        let back = sent_to(&url);
        let state = back.rsplit_once("state=").expect("a state").1;
        let start = back.split('?').next().expect("a URL");
        let page = get(&format!("{start}{}", tail.replace("[STATE]", state)));
        assert!(page.starts_with("HTTP/1.1 200") && !page.contains("Ann"), "{page}");
        let screen = terminal.ends_with(4, &["nobody is logged in", part]);
        assert!(!screen.contains('\u{1b}'), "{screen:?}");
        world.issuer.kept_secret(&[&screen]);
    }
    for (trick, part) in [
        (Trick::OtherNonce, "of another login (`nonce`)"),
        (Trick::OtherIssuer, "is by the issuer `https://other.example`"),
        (Trick::SaysBack, "not shown"),
    ] {
        let world = World::new(trick);
        let terminal = Terminal::start(world.sign(&[]));
        get(&sent_to(&terminal.line("http://")));
        let screen = terminal.ends_with(4, &[part]);
        world.issuer.kept_secret(&[&screen]);
        assert!(world.sigstore.asked().is_empty() && !world.is_signed(), "{trick:?}");
    }
    let world = World::new(Trick::OtherDocument);
    Terminal::start(world.sign(&[])).ends_with(4, &["is that of the issuer `https://other.example`"]);
}

#[test]
fn a_person_who_does_not_come_or_goes_away_ends_the_login() {
    let world = World::new(Trick::None);
    Terminal::start(world.sign(&["--login-timeout", "1s"])).ends_with(4, &["nobody logged in within 1 s"]);
    let mut terminal = Terminal::start(world.sign(&[]));
    terminal.line("http://");
    terminal.types(b"\x03");
    let (code, _) = terminal.end();
    assert!(code != Some(0) && !world.is_signed());
    assert!(world.sigstore.asked().is_empty());
}

#[test]
fn a_code_is_typed_in_elsewhere() {
    let world = World::new(Trick::None);
    let device = ["--fulcio-auth-flow", "device"];
    // An ambient token is not what was asked for.
    let terminal = Terminal::start(world.sign(&device).env("SIGSTORE_ID_TOKEN", token(&json!({}))));
    let screen = terminal.ends_with(0, &["type ABCD-EFGH", "/auth/type", "logged in as ann@login.example"]);
    world.issuer.kept_secret(&[&screen]);
    assert!(!screen.contains("device-code-of-a-test"));
    let polls = world.issuer.asked().iter().filter(|asked| asked.path() == "/auth/token").count();
    assert_eq!(polls, 3, "pending, slower, given");
    let world = World::new(Trick::Expires);
    Terminal::start(world.sign(&device)).ends_with(4, &["refuses: expired_token"]);
    let world = World::new(Trick::NoDevice);
    Terminal::start(world.sign(&device)).ends_with(4, &["no codes that are typed in elsewhere"]);
    assert!(!world.is_signed());
}

/// What the page shows of a login is what is shown.
#[test]
fn the_page_shows_a_login() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-to/keyless.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, block) = page.split_once("```console\n").expect("a block");
    let (block, _) = block.split_once("\n```").expect("an end");
    let world = World::new(Trick::None);
    let registry = Registry::start();
    let digest = registry.put_image("app", "1", "a");
    world.place.write("signing_config.json", world.sigstore.signing_config(2, true));
    let here = |text: &str| {
        text.replace("registry.example", &registry.host())
            .replace("sha256:…", digest.as_str())
            .replace("https://login.example/auth", &world.issuer.url())
    };
    let mut lines = block.lines();
    let command = here(lines.next().and_then(|line| line.strip_prefix("$ affiant ")).expect("a command"));
    let terminal = Terminal::start(world.place.affiant(command.split_ascii_whitespace()));
    get(&sent_to(&terminal.line("http://")));
    // Whether a browser is opened depends on where this is tested.
    let shown: Vec<String> = lines.filter(|line| !line.starts_with("opened with")).map(here).collect();
    assert_eq!(shown.len(), 3);
    let parts: Vec<&str> = shown.iter().map(|line| line.split('…').next().unwrap_or_default()).collect();
    terminal.ends_with(0, &parts);
}

/// Issue 7: interactive login only on a terminal.
#[test]
fn nobody_is_asked_where_there_is_no_terminal() {
    let world = World::new(Trick::None);
    world.sign(&[]).run().code(4).stdout("").stderr_has(&[
        "there is no identity token",
        "--identity-token FILE",
        "at a terminal only",
    ]);
    for flow in ["normal", "device"] {
        let call = world.sign(&["--fulcio-auth-flow", flow]);
        call.run().code(4).stdout("").stderr_has(&["a person logs in at a terminal"]);
    }
    let refused = |more: &[&str], parts: &[&str]| {
        let _ = world.sign(more).run().code(2).stdout("").stderr_has(parts);
    };
    refused(
        &["--fulcio-auth-flow", "client_credentials"],
        &["client_credentials", "a secret that somebody must keep", "--key FILE"],
    );
    refused(&["--fulcio-auth-flow", "oob"], &["none of normal, device, token"]);
    refused(&["--fulcio-auth-flow", "device", "--identity-token", &token(&json!({}))], &["which of them is meant"]);
    // Before the build, and not after it.
    world.run(&["--", "touch", "ran"]).run().code(125).stdout("").stderr_has(&["there is no identity token"]);
    assert!(!world.place.work().join("ran").exists());
    // A job has nobody, even where its runner gives it a terminal.
    for more in [&[][..], &["--fulcio-auth-flow", "device"]] {
        let terminal = Terminal::start(world.sign(more).env("CI", "true"));
        terminal.ends_with(4, &["at a terminal", "not in a job"]);
    }
    // On a terminal a token is still taken first, and nobody is asked who may not be.
    Terminal::start(world.sign(&[]).env("SIGSTORE_ID_TOKEN", token(&json!({"iss": world.issuer.url()}))))
        .ends_with(0, &["signing as"]);
    Terminal::start(world.sign(&["--fulcio-auth-flow", "token"])).ends_with(4, &["there is no identity token"]);
    Terminal::start(world.sign(&["--oidc-provider", "envvar"])).ends_with(4, &["there is no identity token"]);
    let url = ["--oidc-redirect-url", "http://login.example/auth/callback"];
    Terminal::start(world.sign(&url)).ends_with(2, &["is not on this machine"]);
    let secret = ["--oidc-client-secret-file", "missing"];
    Terminal::start(world.sign(&secret)).ends_with(4, &["--oidc-client-secret-file missing"]);
    assert!(world.issuer.asked().is_empty());
    let bare = ["image", "sign-blob", "--bundle", "b.json", "--fulcio-url", &world.sigstore.fulcio()];
    let bare = world.place.affiant(bare).with(["--timestamp-servers", &world.sigstore.tsa(), "file"]);
    Terminal::start(bare).ends_with(4, &["--oidc-issuer URL"]);
}

/// The issuer of a signing configuration, a fixed address, a client with a secret, and cosign's spelling of it all.
#[test]
fn issuers_addresses_and_secrets_are_named() {
    let world = World::new(Trick::None);
    let mut config: Value = serde_json::from_str(&world.sigstore.signing_config(2, true)).expect("JSON");
    config["oidcUrls"] = json!([{"url": world.issuer.url(), "majorApiVersion": 1, "operator": "here",
        "validFor": {"start": "2020-01-01T00:00:00Z"}}]);
    world.place.write("config.json", config.to_string());
    world.place.write("secret", "secret-of-a-client-0123\n");
    // A port that is free now.
    let port = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound").port();
    let call = world
        .place
        .called("cosign", ["sign-blob", "--yes", "--bundle", "b.json", "--signing-config", "config.json"])
        .with(["--oidc-redirect-url", &format!("http://localhost:{port}/here")])
        .with(["--oidc-client-secret-file", "secret", "--oidc-disable-ambient-providers", "file"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})));
    let terminal = Terminal::start(call);
    let back = sent_to(&terminal.line("http://"));
    assert!(back.starts_with(&format!("http://localhost:{port}/here?code=")), "{back}");
    get(&back.replace("localhost", "127.0.0.1"));
    let screen = terminal.ends_with(0, &["logged in as ann@login.example"]);
    assert!(!screen.contains("secret-of-a-client"));
    let asked = world.issuer.asked();
    let redeemed = asked.iter().find(|asked| asked.path() == "/auth/token").expect("asked");
    let basic = base64::engine::general_purpose::STANDARD.encode("sigstore:secret-of-a-client-0123");
    assert_eq!(redeemed.headers.get("authorization"), Some(&format!("Basic {basic}")));
    // The variables of cosign's flags.
    let call = world
        .place
        .called("cosign", ["sign-blob", "--yes", "--bundle", "c.json", "--signing-config", "config.json", "file"])
        .env("COSIGN_OIDC_REDIRECT_URL", "https://elsewhere.example");
    Terminal::start(call).ends_with(2, &["does not begin with http://"]);
}

/// What the command of a run can see has nothing of a login: it comes after it.
#[test]
fn a_run_asks_when_its_command_has_ended() {
    let world = World::new(Trick::None);
    let script = "env; cat /proc/$PPID/cmdline; test ! -e ../asked && echo made > product";
    let terminal = Terminal::start(world.run(&["--", "sh", "-c", script]));
    let url = terminal.line("http://");
    // The command has ended by then.
    assert!(world.place.work().join("product").exists());
    let screen = terminal.screen();
    let (before, _) = screen.split_once("PATH=").expect("the command's variables");
    assert!(before.contains("you are asked to log in at"), "{screen}");
    get(&sent_to(&url));
    let screen = terminal.ends_with(0, &["logged in as ann@login.example"]);
    let written: Vec<String> = world
        .place
        .everything_written()
        .into_iter()
        .map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    let texts: Vec<&str> = written.iter().map(String::as_str).chain([screen.as_str()]).collect();
    world.issuer.kept_secret(&texts);
    let bytes = std::fs::read(world.place.beside("a.json")).expect("written");
    let envelope = affiant_core::dsse::Envelope::parse(&bytes, bytes.len()).expect("an envelope");
    assert!(envelope.signatures[0].certificate.is_some() && envelope.signatures[0].timestamps.len() == 1);
}

/// A login that is broken off after the build loses nothing: `resume` asks again.
#[test]
fn a_run_whose_login_is_broken_off_loses_nothing() {
    let world = World::new(Trick::None);
    let redirect = ["--oidc-redirect-url", "http://localhost:0/auth/callback"];
    let mut terminal =
        Terminal::start(world.run(&[&redirect[..], &["--", "sh", "-c", "echo made > product"]].concat()));
    terminal.line("http://");
    terminal.types(b"\x03");
    let parts =
        ["the login was interrupted", "the evidence waits in", "--oidc-redirect-url http://localhost:0/auth/callback"];
    let screen = terminal.ends_with(125, &parts);
    let digest =
        screen.split("--digest ").nth(1).and_then(|rest| rest.split(['`', ' ', '\r', '\n']).next()).expect("a digest");
    let services = ["--fulcio-url", &world.sigstore.fulcio(), "--timestamp-servers", &world.sigstore.tsa()];
    let resume = || {
        let call = world.place.affiant(["resume", "--spool", "../spool", "--digest", digest]);
        call.with(services).with(["--oidc-issuer", &world.issuer.url()])
    };
    let _ = resume().run().code(4).stdout("").stderr_has(&["there is no identity token"]);
    let terminal = Terminal::start(resume());
    get(&sent_to(&terminal.line("http://")));
    terminal.ends_with(0, &["logged in as ann@login.example"]);
    let bytes = std::fs::read(world.place.beside("a.json")).expect("written");
    affiant_core::dsse::Envelope::parse(&bytes, bytes.len()).expect("an envelope");
}
