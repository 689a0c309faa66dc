//! Small servers that answer as they should, hang, lie, drip, redirect, or speak TLS under an authority of their own.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

const SECRET: &str = "bearer-0123456789";

/// Serves each connection on a thread of its own; the second argument counts connections from 0.
fn serving(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, serve) = (Arc::clone(&count), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (number, serve) = (counted.fetch_add(1, Ordering::SeqCst), Arc::clone(&serve));
            std::thread::spawn(move || serve(stream, number));
        }
    });
    (address, count)
}

/// Reads one request's head.
fn head(stream: &mut impl Read) -> String {
    let mut text = String::new();
    let mut reader = BufReader::with_capacity(1, stream);
    while reader.read_line(&mut text).unwrap_or(0) > 0 && !text.ends_with("\r\n\r\n") {}
    text
}

/// A server that answers every request with this.
fn answering(answer: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let answer = answer.to_owned();
    serving(move |mut stream, _| {
        head(&mut stream);
        let _ = stream.write_all(answer.as_bytes());
    })
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Limits that let a test end soon.
fn hasty() -> Settings {
    Settings {
        connect: Duration::from_secs(5),
        attempt: Duration::from_millis(400),
        whole: Duration::from_secs(2),
        ..Settings::default()
    }
}

fn ask(settings: Settings, url: &str) -> Result<String, String> {
    let answer = Client::new(settings).get(url, Some(SECRET), 1000);
    answer.map(|body| String::from_utf8(body).expect("text")).map_err(|error| {
        let text = error.to_string();
        assert!(!text.contains(SECRET) && !text.contains("hunter22") && !text.contains("query"), "{text}");
        text
    })
}

#[track_caller]
fn refused(settings: Settings, url: &str, reason: &str) -> String {
    let error = ask(settings, url).expect_err("refused");
    assert!(error.contains(reason), "`{reason}` is not in: {error}");
    error
}

#[test]
fn an_answer_is_read_and_the_token_is_sent() {
    let (address, _) = serving(|mut stream, _| {
        let head = head(&mut stream);
        assert!(head.starts_with("GET /a/b?query=1 HTTP/1.1\r\n"), "{head}");
        let _ = stream.write_all(ok(if head.contains(&format!("Bearer {SECRET}")) { "yes" } else { "no" }).as_bytes());
    });
    assert_eq!(ask(Settings::default(), &format!("http://{address}/a/b?query=1")).as_deref(), Ok("yes"));
    assert_eq!(
        ask(Settings::default(), &format!("http://localhost:{}/a/b?query=1", address.port())).as_deref(),
        Ok("yes")
    );
}

#[test]
fn redirects_are_not_followed() {
    let (elsewhere, asked) = answering(&ok("stolen"));
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("http://{elsewhere}/next?query=2");
        let (address, count) =
            answering(&format!("HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"));
        let error = refused(Settings::default(), &format!("http://{address}/"), "redirects are not followed");
        assert!(error.contains(&format!("http://{elsewhere}/next")), "{error}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn long_answers_end_at_the_limit() {
    let (address, _) = answering(&ok(&"x".repeat(1001)));
    refused(Settings::default(), &format!("http://{address}/"), "more than 1000 bytes");
    let (address, _) = answering(&ok(&"x".repeat(1000)));
    assert!(ask(Settings::default(), &format!("http://{address}/")).is_ok());
    // Without a length, and without an end.
    let (address, _) = serving(|mut stream, _| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    refused(Settings::default(), &format!("http://{address}/"), "more than 1000 bytes");
    let (address, _) = serving(|mut stream, _| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(&[b"x-y: ".as_slice(), &[b'x'; 4000], b"\r\n"].concat()).is_ok() {}
    });
    refused(Settings::default(), &format!("http://{address}/"), "head of more than 65536 bytes");
}

#[test]
fn whoever_hangs_or_drips_is_left() {
    let (address, count) = serving(|mut stream, _| {
        head(&mut stream);
        std::thread::sleep(Duration::from_secs(60));
    });
    let begun = Instant::now();
    refused(hasty(), &format!("http://{address}/"), "does not answer in time (3 attempts)");
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let (address, _) = serving(|mut stream, _| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    refused(hasty(), &format!("http://{address}/"), "does not answer in time");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn only_what_may_pass_is_asked_again() {
    let busy = |wait: &str| format!("HTTP/1.1 503 Busy\r\nretry-after: {wait}\r\ncontent-length: 0\r\n\r\n");
    let first = busy("0");
    let (address, count) = serving(move |mut stream, number| {
        head(&mut stream);
        let answer = if number == 0 { first.clone() } else { ok("late") };
        let _ = stream.write_all(answer.as_bytes());
    });
    assert_eq!(ask(Settings::default(), &format!("http://{address}/")).as_deref(), Ok("late"));
    assert_eq!(count.load(Ordering::SeqCst), 2);

    let (address, count) = answering(&busy("3600"));
    refused(Settings::default(), &format!("http://{address}/"), "answers 503");
    assert_eq!(count.load(Ordering::SeqCst), 1, "nobody waits for an hour");
    let (address, count) = answering(&busy("0"));
    refused(Settings::default(), &format!("http://{address}/"), "answers 503: it is busy or down");
    assert_eq!(count.load(Ordering::SeqCst), 3);
    for (status, reason) in
        [("404 Not Found", "answers 404"), ("401 No", "does not permit"), ("500 Oops", "answers 500")]
    {
        let (address, count) = answering(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        refused(Settings::default(), &format!("http://{address}/"), reason);
        assert_eq!(count.load(Ordering::SeqCst), 1, "{status}");
    }
    let (address, count) = serving(|stream, _| drop(stream));
    refused(hasty(), &format!("http://{address}/"), "");
    assert_eq!(count.load(Ordering::SeqCst), 3, "a connection that breaks is tried again");
    let (address, _) = answering("SSH-2.0-OpenSSH_9.9\r\n");
    refused(hasty(), &format!("http://{address}/"), "does not answer in HTTP");
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    refused(hasty(), &format!("http://{closed}/"), "connection refused (3 attempts)");
}

#[test]
fn other_machines_are_spoken_to_in_https_only() {
    for (url, reason) in [
        ("http://192.0.2.1/", "only https"),
        ("http://127.0.0.1.example.com/", "only https"),
        ("http://localhost.example.com/", "only https"),
        ("ftp://example.com/", "only https"),
        ("https://user:hunter22@example.com/", "a user or password"),
        ("//example.com/", "names no host"),
        ("https:///path", "is no URL"),
        ("/path", "names no host"),
        ("https://exa mple.com/", "is no URL"),
        ("", "is no URL"),
    ] {
        refused(hasty(), url, reason);
    }
    let error = Client::new(hasty()).get("https://example.com/", Some("a\r\nb"), 10).expect_err("no token");
    assert!(error.to_string().contains("is no token"), "{error}");
}

/// An authority, its certificate in a file, and servers of it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("writes");
        std::fs::write(dir.path().join("README"), "not a certificate").expect("writes");
        Self { issuer, dir }
    }

    fn trusted(&self) -> Settings {
        Settings { authorities: Some(self.dir.path().join("ca.pem")), ..Settings::default() }
    }

    /// A TLS server for this name, expired or not.
    fn serving(&self, name: &str, expired: bool) -> SocketAddr {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().expect("a key"))
            .expect("a configuration");
        let config = Arc::new(config);
        serving(move |stream, _| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            head(&mut stream);
            let _ = stream.write_all(ok("over TLS").as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        })
        .0
    }
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    let authority = Authority::new();
    let url = format!("https://localhost:{}/", authority.serving("localhost", false).port());
    assert_eq!(ask(authority.trusted(), &url).as_deref(), Ok("over TLS"));
    let folder = Settings { authorities_folder: Some(authority.dir.path().to_owned()), ..Settings::default() };
    assert_eq!(ask(folder, &url).as_deref(), Ok("over TLS"));
    refused(Authority::new().trusted(), &url, "SSL_CERT_FILE");
    let other = format!("https://localhost:{}/", authority.serving("example.com", false).port());
    refused(authority.trusted(), &other, "certificate is not trusted");
    let old = format!("https://localhost:{}/", authority.serving("localhost", true).port());
    refused(authority.trusted(), &old, "certificate is not trusted");

    let missing = Settings { authorities: Some("/nowhere/ca.pem".into()), ..Settings::default() };
    refused(missing, &url, "SSL_CERT_FILE=/nowhere/ca.pem");
    let empty = Settings { authorities: Some(authority.dir.path().join("README")), ..Settings::default() };
    refused(empty, &url, "no certificate authorities");
    let (plain, _) = answering(&ok("not TLS"));
    refused(authority.trusted(), &format!("https://{plain}/"), "TLS");
}

#[test]
fn other_hosts_are_reached_through_the_proxy() {
    let authority = Authority::new();
    let server = authority.serving("ci.example.com", false);
    let (proxy, count) = serving(move |mut stream, _| {
        let head = head(&mut stream);
        // user:hunter22
        if !head.starts_with("CONNECT ci.example.com:443 ") || !head.contains("dXNlcjpodW50ZXIyMg==") {
            let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let mut inner = TcpStream::connect(server).expect("connects");
        let (mut from, mut to) = (stream.try_clone().expect("a second"), inner.try_clone().expect("a second"));
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut inner, &mut stream);
    });
    let through = |user: &str| Settings { proxy: Some(format!("http://{user}{proxy}")), ..authority.trusted() };
    assert_eq!(ask(through("user:hunter22@"), "https://ci.example.com/").as_deref(), Ok("over TLS"));
    refused(through(""), "https://ci.example.com/", "proxy refuses the connection");
    assert!(count.load(Ordering::SeqCst) >= 2);
    let closed = Settings { proxy: Some("http://ann:hunter22@127.0.0.1:1".into()), ..authority.trusted() };
    refused(closed, "https://ci.example.com/", "connection refused, through the proxy 127.0.0.1:1 of HTTPS_PROXY");
    // This machine is asked directly.
    let (address, _) = answering(&ok("direct"));
    let nowhere = Settings { proxy: Some("http://127.0.0.1:1".into()), ..Settings::default() };
    assert_eq!(ask(nowhere, &format!("http://{address}/")).as_deref(), Ok("direct"));
}
