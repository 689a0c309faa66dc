//! A service between affiant and a service, for whose weather the test decides.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// What is asked is handed on, and so is the answer.
    Well,
    /// 502 to everything; nothing is handed on.
    Broken,
    /// What is asked is handed on; of so many answers half arrives, then the line is dead. Afterwards all is well.
    Cut(u32),
    /// So many questions arrive by half, and are not handed on. Afterwards all is well.
    Deaf(u32),
}

/// It stands before one service until the test ends.
pub(crate) struct Proxy {
    port: u16,
    weather: Arc<Mutex<(Weather, u32)>>,
}

impl Proxy {
    /// Before the service of this URL.
    pub(crate) fn before(url: &str, weather: Weather) -> Self {
        Self::start(url, weather, None)
    }

    /// The same before a log that keeps its tree in this folder, which is read through it too.
    pub(crate) fn with_tree(url: &str, folder: PathBuf) -> Self {
        Self::start(url, Weather::Well, Some(folder))
    }

    fn start(url: &str, weather: Weather, tree: Option<PathBuf>) -> Self {
        let upstream = url.strip_prefix("http://").expect("plain HTTP");
        let upstream = upstream.split('/').next().expect("a host").replace("localhost", "127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let weather = Arc::new(Mutex::new((weather, 0)));
        let state = Arc::clone(&weather);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, upstream, tree) = (Arc::clone(&state), upstream.clone(), tree.clone());
                std::thread::spawn(move || serve(stream, &upstream, tree.as_deref(), &state));
            }
        });
        Self { port, weather }
    }

    /// As the service's, with the same name of the host.
    pub(crate) fn url(&self, url: &str) -> String {
        let authority = url.split('/').nth(2).expect("a host");
        let (host, _) = authority.rsplit_once(':').expect("a port");
        url.replace(authority, &format!("{host}:{}", self.port))
    }

    pub(crate) fn becomes(&self, weather: Weather) {
        self.weather.lock().expect("no thread has panicked").0 = weather;
    }

    /// It changes by itself, a while after the next question.
    pub(crate) fn becomes_after(&self, time: Duration, weather: Weather) {
        let state = Arc::clone(&self.weather);
        std::thread::spawn(move || {
            let asked = || state.lock().expect("no thread has panicked").1;
            let before = asked();
            while asked() == before {
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(time);
            state.lock().expect("no thread has panicked").0 = weather;
        });
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u32 {
        self.weather.lock().expect("no thread has panicked").1
    }
}

/// What this question meets.
fn next(state: &Mutex<(Weather, u32)>) -> Weather {
    let mut state = state.lock().expect("no thread has panicked");
    state.1 += 1;
    let now = state.0;
    state.0 = match now {
        Weather::Cut(1) | Weather::Deaf(1) => Weather::Well,
        Weather::Cut(left) => Weather::Cut(left - 1),
        Weather::Deaf(left) => Weather::Deaf(left - 1),
        other => other,
    };
    now
}

fn serve(mut stream: TcpStream, upstream: &str, tree: Option<&Path>, state: &Mutex<(Weather, u32)>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        assert!(!lower.starts_with("transfer-encoding:"), "lengths are told");
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let weather = next(state);
    if let Some(tree) = tree
        && let Some(path) = head.strip_prefix("GET /api/v2/").and_then(|rest| rest.split(' ').next())
    {
        let (status, bytes) = std::fs::read(tree.join(path)).map_or_else(|_| (404, Vec::new()), |bytes| (200, bytes));
        let told = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len());
        let _ = stream.write_all(&[told.as_bytes(), &bytes].concat());
        return;
    }
    if let Weather::Deaf(_) = weather {
        let mut half = vec![0; length / 2];
        let _ = reader.read_exact(&mut half);
        let _ = stream.shutdown(Shutdown::Both);
        return;
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    if weather == Weather::Broken {
        let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\nconnection: close\r\n\r\ngone");
        return;
    }
    let Ok(mut service) = TcpStream::connect(upstream) else { return };
    let mut answer = Vec::new();
    let asked = service.write_all(format!("{head}connection: close\r\n\r\n").as_bytes());
    if asked.and_then(|()| service.write_all(&body)).and_then(|()| service.read_to_end(&mut answer)).is_err() {
        return;
    }
    if let Weather::Cut(_) = weather {
        answer.truncate(answer.len() / 2);
    }
    let _ = stream.write_all(&answer);
    let _ = stream.shutdown(Shutdown::Both);
}
