//! The container engine's HTTP API over its unix socket (Docker Engine API v1.41 and later; podman answers the same
//! paths).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use affiant_core::attestor::{Engine, EngineError};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, Error, Timeout};

/// The longest answer that is read. An image with thousands of layers and labels stays far below.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// How long one question may take.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Where engines listen when nothing else is said, in the order in which they are tried.
pub const DEFAULT_SOCKETS: &[&str] = &["/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock"];

/// The socket that a host setting such as `DOCKER_HOST` names; `None` when it is not a local socket.
pub fn socket_of(host: &str) -> Option<PathBuf> {
    host.strip_prefix("unix://").filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// An engine that listens on a unix socket.
#[derive(Debug)]
pub struct UnixEngine {
    socket: PathBuf,
    limit: Duration,
}

impl UnixEngine {
    /// The engine at `socket`. Nothing is opened before the first question.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), limit: TIME_LIMIT }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn error(&self, reason: impl Into<String>) -> EngineError {
        EngineError { endpoint: self.endpoint(), reason: reason.into() }
    }

    fn too_late(&self, path: &str) -> EngineError {
        self.error(format!("no answer to {path} within {} s", self.limit.as_secs_f32()))
    }

    fn ask(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .timeout_global(Some(self.limit))
            .user_agent(concat!("affiant/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build();
        let agent = Agent::with_parts(config, Socket(self.socket.clone()), NoNames);
        let failed = |error: Error| match error {
            Error::Timeout(_) => self.too_late(path),
            Error::Io(error) => self.error(error.to_string()),
            error => self.error(format!("answer to {path}: {error}")),
        };
        let mut answer = agent.get(format!("http://localhost{path}")).call().map_err(failed)?;
        match answer.status().as_u16() {
            200 => {
                let mut body = Vec::new();
                let mut reader = answer.body_mut().as_reader().take(MAX_ANSWER + 1);
                reader.read_to_end(&mut body).map_err(|error| failed(Error::from(error)))?;
                if body.len() as u64 > MAX_ANSWER {
                    return Err(self.error(format!("answer to {path}: more than {MAX_ANSWER} bytes")));
                }
                Ok(Some(body))
            }
            404 => Ok(None),
            code => Err(self.error(format!("answered {code} to {path}"))),
        }
    }
}

impl Engine for UnixEngine {
    fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        self.ask(path)
    }
}

/// Connects to a unix socket, whatever the host of the URL.
#[derive(Debug)]
struct Socket(PathBuf);

impl Connector for Socket {
    type Out = Stream;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Stream>, Error> {
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Stream { stream: UnixStream::connect(&self.0)?, buffers }))
    }
}

/// Finds no addresses: there is one socket.
#[derive(Debug)]
struct NoNames;

impl Resolver for NoNames {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut list = self.empty();
        list.push(([127, 0, 0, 1], 0).into());
        Ok(list)
    }
}

#[derive(Debug)]
struct Stream {
    stream: UnixStream,
    buffers: LazyBuffers,
}

/// How long the socket may take. Whoever drips has its share each time, so the end is looked at here.
fn left(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    Ok(timeout.not_zero().map(|limit| *limit))
}

/// What a time limit of the socket looks like, as the library tells it.
fn in_time<T>(result: io::Result<T>, reason: Timeout) -> Result<T, Error> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(reason),
        _ => Error::Io(error),
    })
}

impl Transport for Stream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(left(timeout)?)?;
        in_time(self.stream.write_all(&self.buffers.output()[..amount]), timeout.reason)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(left(timeout)?)?;
        let amount = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break in_time(result, timeout.reason)?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        false // connections are not kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Serves `answer` once for each question and returns the engine to ask.
    fn serving(dir: &Path, answer: &'static [u8]) -> UnixEngine {
        let socket = dir.join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("binds");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(answer);
            }
        });
        UnixEngine::new(socket)
    }

    #[test]
    fn an_answer_is_read_whole_and_404_is_no_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let engine = serving(dir.path(), b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
        assert_eq!(engine.get("/images/a/json").expect("answers"), Some(b"{}".to_vec()));
        let dir = tempfile::tempdir().expect("temporary folder");
        let engine = serving(dir.path(), b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(engine.get("/images/a/json").expect("answers"), None);
    }

    #[test]
    fn an_engine_that_is_not_there_is_named() {
        let error = UnixEngine::new("/nowhere/engine.sock").get("/version").expect_err("nobody listens");
        assert!(error.to_string().contains("unix:///nowhere/engine.sock"), "{error}");
    }

    #[test]
    fn an_engine_in_trouble_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let engine = serving(dir.path(), b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
        assert!(engine.get("/x").expect_err("500").to_string().contains("answered 500"));
    }

    #[test]
    fn an_endless_answer_is_cut_off() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(17 << 20, b' ');
        let engine = serving(dir.path(), answer.leak());
        let error = engine.get("/x").expect_err("too long").to_string();
        assert!(error.contains("more than 16777216 bytes"), "{error}");
    }

    #[test]
    fn an_engine_that_hangs_or_drips_is_left() {
        for drips in [false, true] {
            let dir = tempfile::tempdir().expect("temporary folder");
            let socket = dir.path().join("engine.sock");
            let listener = UnixListener::bind(&socket).expect("binds");
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n");
                    while !drips || stream.write_all(b" ").is_ok() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
            let engine = UnixEngine { limit: Duration::from_millis(300), ..UnixEngine::new(socket) };
            let begun = std::time::Instant::now();
            let error = engine.get("/x").expect_err("no answer").to_string();
            assert!(error.contains("no answer to /x within 0.3 s"), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
    }

    #[test]
    fn only_local_sockets_are_engines() {
        assert_eq!(socket_of("unix:///run/docker.sock"), Some(PathBuf::from("/run/docker.sock")));
        assert_eq!(socket_of("tcp://10.0.0.1:2375"), None);
        assert_eq!(socket_of("unix://docker.sock"), None);
    }
}
