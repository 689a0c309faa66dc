//! The container engine's HTTP API over its unix socket (Docker Engine API v1.41 and later; podman answers the same
//! paths).

use std::path::{Path, PathBuf};
use std::time::Duration;

use affiant_core::attestor::{Engine, EngineError};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The longest answer that is read. An image with thousands of layers and labels stays far below.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
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
}

impl UnixEngine {
    /// The engine at `socket`. Nothing is opened before the first question.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn error(&self, reason: impl Into<String>) -> EngineError {
        EngineError { endpoint: self.endpoint(), reason: reason.into() }
    }

    async fn ask(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.error(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.error(error.to_string()))?;
        let connection = tokio::spawn(connection);
        let request = hyper::Request::get(path)
            .header("host", "localhost")
            .header("user-agent", concat!("affiant/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.error(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| self.error(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| self.error(format!("answer to {path}: {error}")))?
            .to_bytes();
        connection.abort();
        match status.as_u16() {
            200 => Ok(Some(body.to_vec())),
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| self.error(error.to_string()))?;
        runtime.block_on(async {
            match tokio::time::timeout(TIME_LIMIT, self.ask(path)).await {
                Ok(answer) => answer,
                Err(_) => Err(self.error(format!("no answer to {path} within {} s", TIME_LIMIT.as_secs()))),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
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
        answer.resize(MAX_ANSWER + 1000, b' ');
        let engine = serving(dir.path(), answer.leak());
        assert!(engine.get("/x").is_err());
    }

    #[test]
    fn only_local_sockets_are_engines() {
        assert_eq!(socket_of("unix:///run/docker.sock"), Some(PathBuf::from("/run/docker.sock")));
        assert_eq!(socket_of("tcp://10.0.0.1:2375"), None);
        assert_eq!(socket_of("unix://docker.sock"), None);
    }
}
