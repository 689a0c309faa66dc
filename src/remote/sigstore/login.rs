//! Logging in at an issuer: listens for the browser on this machine, or waits until a code was typed in elsewhere.
//!
//! The listener hears this machine alone, reads little of what it is asked, and ends with the first answer that it waits
//! for. Whoever asks for something else is sent away and ends nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use affiant_core::keyless::login::{
    Asked, Client, Device, Form, Given, LoginError, MAX_ANSWER, MAX_HEAD, MAX_LINE, Provider, Redirect, Session, asked,
};

use super::{Ask, Method, ServiceError, Sigstore, Told, Zeroizing};

/// Connections that are listened to at the same time; browsers open some that they never use.
const MAX_CONNECTIONS: usize = 16;
/// How long one of them may take to say what it wants, and to take the answer.
const CONNECTION: Duration = Duration::from_secs(10);
/// How often it is looked whether the person has given up.
const LOOK: Duration = Duration::from_millis(50);
/// The longest pause of a device whose issuer does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where and how somebody logs in.
pub struct Login<'a> {
    /// The issuer.
    pub issuer: &'a str,
    /// Who asks.
    pub client: &'a Client,
    /// Where the browser comes back to.
    pub redirect: &'a Redirect,
    /// How long a person may take.
    pub limit: Duration,
}

/// Who logs in.
pub trait Person {
    /// Is to open this address in a browser on this machine.
    fn visit(&self, address: &str);

    /// Is to type the code, anywhere.
    fn type_in(&self, device: &Device);

    /// Has given up.
    fn gave_up(&self) -> bool;
}

/// A token, and the issuer as it names itself.
pub struct LoggedIn {
    /// The identity token; nothing of it is proven.
    pub token: Zeroizing<String>,
    /// What must stand in it.
    pub issuer: String,
}

impl Sigstore {
    /// Logs in by a browser on this machine (RFC 8252).
    pub fn log_in(&self, login: &Login<'_>, person: &dyn Person) -> Result<LoggedIn, ServiceError> {
        let provider = self.provider(login)?;
        let error = |error: LoginError| ServiceError::bad(login.issuer, error);
        let session = Session::new().map_err(error)?;
        let (listener, redirect) = listen(login.redirect)?;
        person.visit(&session.url(&provider, login.client, &redirect));
        let mut code = None;
        wait(&listener, login, person, |query| {
            let found = session.code(&provider, query);
            let is_good = found.is_ok();
            code = Some(found);
            is_good
        })?;
        drop(listener);
        let code = code.ok_or_else(|| ServiceError::bad(login.issuer, "gave no code"))?.map_err(error)?;
        let form = session.redeem(&provider, login.client, &code, &redirect);
        let told = self.post(&provider.token, &form, true)?;
        let mut secrets = vec![code.as_str()];
        secrets.extend(login.client.secret.as_ref().map(|secret| secret.as_str()));
        let bad = |error: LoginError| told.bad(error);
        let Given::Token(token) = session.token(told.status, &told.body, &secrets).map_err(bad)? else {
            return Err(told.bad("gives no token"));
        };
        session.check(&token).map_err(error)?;
        Ok(LoggedIn { token, issuer: provider.issuer })
    }

    /// Logs in by a code that is typed in elsewhere (RFC 8628).
    pub fn log_in_elsewhere(&self, login: &Login<'_>, person: &dyn Person) -> Result<LoggedIn, ServiceError> {
        let provider = self.provider(login)?;
        let error = |error: LoginError| ServiceError::bad(login.issuer, error);
        let Some(place) = &provider.device else {
            return Err(ServiceError::bad(login.issuer, "gives no codes that are typed in elsewhere (device flow)"));
        };
        let session = Session::new().map_err(error)?;
        let told = self.post(place, &session.device(&provider, login.client), false)?;
        let mut device =
            Device::parse(&session, &told.body, &|url| self.permits(url)).map_err(|error| told.bad(error))?;
        person.type_in(&device);
        let begun = Instant::now();
        let limit = login.limit.min(Duration::from_secs(device.expires));
        let mut pause = Duration::from_secs(device.interval);
        loop {
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if begun.elapsed() >= limit {
                    return Err(nobody(login, limit));
                }
                if person.gave_up() {
                    return Err(given_up(login));
                }
                std::thread::sleep(LOOK);
            }
            let form = session.poll(&provider, login.client, &device);
            let told = match self.post(&provider.token, &form, true) {
                Ok(told) => told,
                // RFC 8628 §3.5: with longer pauses.
                Err(error) if error.is_outage => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut secrets = vec![device.told()];
            secrets.extend(login.client.secret.as_ref().map(|secret| secret.as_str()));
            match session.token(told.status, &told.body, &secrets).map_err(|error| told.bad(error))? {
                Given::Token(token) => return Ok(LoggedIn { token, issuer: provider.issuer }),
                Given::NotYet => {}
                Given::Slower => device.slow_down(),
            }
            pause = Duration::from_secs(device.interval);
        }
    }

    fn provider(&self, login: &Login<'_>) -> Result<Provider, ServiceError> {
        let url = Provider::url(login.issuer);
        let ask = Ask {
            method: Method::GET,
            url: &url,
            content_type: "",
            accept: "application/json",
            authorization: None,
            body: &[],
        };
        let told = self.ask(&ask, MAX_ANSWER)?;
        if told.status != 200 {
            return Err(told.refusal("it is no issuer that somebody could log in at"));
        }
        Provider::parse(&told.body, login.issuer, &|url| self.permits(url))
            .map_err(|error| ServiceError::bad(login.issuer, error))
    }

    fn permits(&self, url: &str) -> Result<(), String> {
        self.client.check(url).map_err(|(_, reason)| reason)
    }

    /// Sends a form. What has an effect is asked for once.
    fn post(&self, url: &str, form: &Form, once: bool) -> Result<Told, ServiceError> {
        let ask = Ask {
            method: Method::POST,
            url,
            content_type: "application/x-www-form-urlencoded",
            accept: "application/json",
            authorization: form.authorization.as_deref().cloned(),
            body: form.body.as_bytes(),
        };
        if once { self.ask_once(&ask, MAX_ANSWER) } else { self.ask(&ask, MAX_ANSWER) }
    }
}

fn nobody(login: &Login<'_>, limit: Duration) -> ServiceError {
    ServiceError::bad(login.issuer, format!("nobody logged in within {} s", limit.as_secs_f32()))
}

fn given_up(login: &Login<'_>) -> ServiceError {
    ServiceError::bad(login.issuer, "the login was interrupted")
}

/// Listens on this machine, at the port that is named or one that the system chooses.
fn listen(redirect: &Redirect) -> Result<(TcpListener, String), ServiceError> {
    let cannot = |error: std::io::Error| {
        let place = redirect.url(redirect.port);
        ServiceError::bad(place, format!("cannot be listened at: {}", error.kind()))
    };
    let listener = TcpListener::bind((redirect.address(), redirect.port)).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let port = listener.local_addr().map_err(cannot)?.port();
    Ok((listener, redirect.url(port)))
}

/// Waits for the browser. `take` hears what it brought, once, and says whether that is good.
fn wait(
    listener: &TcpListener,
    login: &Login<'_>,
    person: &dyn Person,
    mut take: impl FnMut(&str) -> bool,
) -> Result<(), ServiceError> {
    let begun = Instant::now();
    let (sender, brought) = mpsc::channel::<(Zeroizing<String>, TcpStream)>();
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        if person.gave_up() {
            return Err(given_up(login));
        }
        if begun.elapsed() >= login.limit {
            return Err(nobody(login, login.limit));
        }
        let accepted = listener.accept();
        let pause = if accepted.is_ok() { Duration::ZERO } else { LOOK };
        // One too many is closed at once; of a connection that is gone already nothing is heard.
        if let Ok((stream, _)) = accepted
            && open.load(Ordering::SeqCst) < MAX_CONNECTIONS
        {
            open.fetch_add(1, Ordering::SeqCst);
            let (sender, open, path) = (sender.clone(), Arc::clone(&open), login.redirect.path.clone());
            std::thread::spawn(move || {
                if let Some(query) = heard(&stream, &path) {
                    let _ = sender.send((query, stream));
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
        if let Ok((query, stream)) = brought.recv_timeout(pause) {
            let page = if take(&query) { DONE } else { FAILED };
            say(&stream, "200 OK", page);
            return Ok(());
        }
    }
}

/// What the person sees in the browser.
const DONE: &str = "<!doctype html><title>affiant</title><p>You may close this window.";
const FAILED: &str =
    "<!doctype html><title>affiant</title><p>This did not do: the terminal says why. You may close this window.";

/// The query of the question that is waited for; anything else is answered here.
fn heard(stream: &TcpStream, path: &str) -> Option<Zeroizing<String>> {
    // Accepted from a listener that does not block.
    stream.set_nonblocking(false).ok()?;
    let until = Instant::now() + CONNECTION;
    let mut head = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    let mut buffer = Zeroizing::new([0; 4096]);
    let mut reader = stream;
    loop {
        let line = head.windows(2).position(|two| two == b"\r\n");
        if line.unwrap_or(head.len()) > MAX_LINE {
            say(stream, "414 URI Too Long", "");
            return None;
        }
        if head.len() > MAX_HEAD {
            say(stream, "431 Request Header Fields Too Large", "");
            return None;
        }
        if let Some(end) = line.filter(|_| head.windows(4).any(|four| four == b"\r\n\r\n")) {
            match std::str::from_utf8(&head[..end]).map_or(Asked::Nonsense, |line| asked(line, path)) {
                Asked::Callback(query) => return Some(Zeroizing::new(query.to_owned())),
                Asked::Stray => say(stream, "404 Not Found", ""),
                Asked::Nonsense => say(stream, "400 Bad Request", ""),
            }
            return None;
        }
        let left = until.saturating_duration_since(Instant::now());
        // No time left would mean no limit.
        stream.set_read_timeout(Some(left).filter(|left| !left.is_zero())).ok().filter(|()| !left.is_zero())?;
        match reader.read(&mut buffer[..]) {
            Ok(0) => return None,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Answers, and closes. Nothing of what was asked is in it, and nothing else is loaded by it.
fn say(mut stream: &TcpStream, status: &str, page: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         referrer-policy: no-referrer\r\ncontent-security-policy: default-src 'none'\r\nconnection: close\r\n\r\n",
        page.len()
    );
    let _ = stream.set_write_timeout(Some(CONNECTION));
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(page.as_bytes()));
    let _ = stream.shutdown(Shutdown::Write);
}
