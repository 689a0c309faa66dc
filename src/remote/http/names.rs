//! Addresses of hosts: `/etc/hosts`, then the name servers of `/etc/resolv.conf` (RFC 1035).
//!
//! A static binary cannot use the name services of its host's C library (docs/decisions/005-static-binary.md), so both
//! builds ask the same way themselves. What only such a service knows (`mdns`, `winbind`) is not found.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Largest of the two files that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Name servers that are asked, as C libraries do.
const MAX_SERVERS: usize = 3;
/// Search domains that are tried.
const MAX_SEARCH: usize = 6;
/// Addresses of one host that are used.
const MAX_ADDRESSES: usize = 16;
/// Longest answer over UDP without extensions (RFC 1035 §4.2.1), and room for servers that send more.
const MAX_DATAGRAM: usize = 4096;
/// How often all servers are asked.
const ROUNDS: u32 = 2;
/// How long one server has, unless `options timeout:` says otherwise.
const SERVER_LIMIT: Duration = Duration::from_secs(3);

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// Finds addresses.
#[derive(Debug)]
pub(super) struct Names {
    hosts: PathBuf,
    servers: PathBuf,
    port: u16,
}

impl Default for Names {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), servers: "/etc/resolv.conf".into(), port: 53 }
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let until = timeout.not_zero().map(|limit| Instant::now() + *limit);
        let addresses = self.find(host, until.unwrap_or_else(|| Instant::now() + Duration::from_secs(60)))?;
        let mut list = self.empty();
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            list.push(SocketAddr::new(address, port));
        }
        if list.is_empty() { Err(Error::HostNotFound) } else { Ok(list) }
    }
}

impl Names {
    fn find(&self, host: &str, until: Instant) -> Result<Vec<IpAddr>, Error> {
        if let Some(address) = super::proxy::address(host) {
            return Ok(vec![address]);
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        // RFC 6761 §6.3: it is this machine, whatever a server says.
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let known = in_hosts(&read(&self.hosts).unwrap_or_default(), &name);
        if !known.is_empty() {
            return Ok(known);
        }
        let settings = ServerList::of(&read(&self.servers).unwrap_or_default());
        let mut last = Error::HostNotFound;
        for name in settings.candidates(&name, host.ends_with('.')) {
            match self.ask_all(&name, &settings, until) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks the servers in turn. Empty where one says that there is no such name.
    fn ask_all(&self, name: &str, settings: &ServerList, until: Instant) -> Result<Vec<IpAddr>, Error> {
        let mut last = Error::HostNotFound;
        for _ in 0..ROUNDS {
            for server in &settings.servers {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Error::Timeout(ureq::Timeout::Resolve));
                }
                match ask(SocketAddr::new(*server, self.port), name, settings.limit.min(left)) {
                    Ok(found) => return Ok(found),
                    Err(error) => last = Error::Io(error),
                }
            }
        }
        Err(last)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The addresses of a name in the text of `/etc/hosts`.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .take(MAX_ADDRESSES)
        .collect()
}

/// What `/etc/resolv.conf` says.
struct ServerList {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
    limit: Duration,
}

impl ServerList {
    fn of(text: &str) -> Self {
        let mut list = Self { servers: Vec::new(), search: Vec::new(), ndots: 1, limit: SERVER_LIMIT };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                // An address may have a zone (`fe80::1%eth0`), which only the C library can use.
                Some("nameserver") => list.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => list.search = words.take(MAX_SEARCH).map(str::to_owned).collect(),
                Some("options") => {
                    for word in words {
                        match word.split_once(':') {
                            Some(("ndots", value)) => list.ndots = value.parse().unwrap_or(1).min(15),
                            Some(("timeout", value)) => {
                                list.limit = Duration::from_secs(value.parse().unwrap_or(3).clamp(1, 30));
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        list.servers.truncate(MAX_SERVERS);
        if list.servers.is_empty() {
            list.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        list
    }

    /// The names to ask for, in order.
    fn candidates(&self, name: &str, absolute: bool) -> Vec<String> {
        let plain = name.to_owned();
        if absolute {
            return vec![plain];
        }
        let searched = self.search.iter().map(|domain| format!("{name}.{}", domain.trim_matches('.')));
        if name.matches('.').count() >= self.ndots {
            std::iter::once(plain).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(plain)).collect()
        }
    }
}

/// Asks one server for both kinds of addresses. Empty where there is no such name.
fn ask(server: SocketAddr, name: &str, limit: Duration) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for kind in [TYPE_A, TYPE_AAAA] {
        match ask_kind(server, name, kind, limit) {
            Ok(addresses) => found.extend(addresses),
            Err(_) if !found.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn ask_kind(server: SocketAddr, name: &str, kind: u16, limit: Duration) -> io::Result<Vec<IpAddr>> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    // Numbers that nobody can guess, so that nobody else can answer.
    let id = (RandomState::new().build_hasher().finish() & 0xffff) as u16;
    let query = query(id, name, kind).ok_or_else(|| invalid("no host name"))?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(&query)?;
    let until = Instant::now() + limit;
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        match answer(&buffer[..length], &query, kind) {
            Some(Answer::Addresses(found)) => return Ok(found),
            Some(Answer::Cut) => return ask_stream(server, &query, kind, until),
            Some(Answer::Failed) => return Err(invalid("the name server fails")),
            // Not an answer to this question.
            None => {}
        }
    }
}

/// Asks again over TCP, for an answer that does not fit in a datagram.
fn ask_stream(server: SocketAddr, query: &[u8], kind: u16, until: Instant) -> io::Result<Vec<IpAddr>> {
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&server, left())?;
    stream.set_read_timeout(Some(left()))?;
    stream.set_write_timeout(Some(left()))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    match answer(&message, query, kind) {
        Some(Answer::Addresses(found)) => Ok(found),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A question for one name (RFC 1035 §4.1). `None` for what is no host name.
fn query(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(name.len() + 18);
    message.extend(id.to_be_bytes());
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]); // recursion desired, one question
    if name.len() > 253 {
        return None;
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]); // class IN
    Some(message)
}

enum Answer {
    /// The addresses; none where there is no such name, or none of this kind.
    Addresses(Vec<IpAddr>),
    /// It does not fit in a datagram.
    Cut,
    /// The server cannot say.
    Failed,
}

/// Reads an answer to `query`; `None` for what is none.
fn answer(message: &[u8], query: &[u8], kind: u16) -> Option<Answer> {
    let header = message.get(..12)?;
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let question = message.get(12..query.len())?;
    // The same number and question, and the mark of an answer.
    if header[..2] != query[..2] || header[2] & 0x80 == 0 || !question.eq_ignore_ascii_case(&query[12..]) {
        return None;
    }
    if header[2] & 0x02 != 0 {
        return Some(Answer::Cut);
    }
    match header[3] & 0x0f {
        0 => {}
        3 => return Some(Answer::Addresses(Vec::new())),
        _ => return Some(Answer::Failed),
    }
    let mut found = Vec::new();
    let mut at = query.len();
    for _ in 0..word(6)? {
        at = after_name(message, at)?;
        let (class, length) = (word(at + 2)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        // Names that lead to others (CNAME) stand before the addresses, which belong to the question all the same.
        if word(at)? == kind && class == 1 && found.len() < MAX_ADDRESSES {
            match (kind, data.len()) {
                (TYPE_A, 4) => found.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
                (TYPE_AAAA, 16) => found.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
                _ => return None,
            }
        }
        at += 10 + length;
    }
    Some(Answer::Addresses(found))
}

/// The place behind a name; what it says is not looked at, so pointers are not followed.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length,
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name server that answers each question with what `answer` makes of it.
    fn serving(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                for message in answer(&buffer[..length]) {
                    let _ = socket.send_to(&message, from);
                }
            }
        });
        address
    }

    fn names(dir: &Path, server: SocketAddr, resolv: &str) -> Names {
        let (hosts, servers) = (dir.join("hosts"), dir.join("resolv.conf"));
        std::fs::write(&hosts, "127.0.0.9 first.test alias # comment\n::9 first.test\nnonsense\n").expect("writes");
        std::fs::write(&servers, format!("nameserver {}\n{resolv}\n", server.ip())).expect("writes");
        Names { hosts, servers, port: server.port() }
    }

    fn find(names: &Names, host: &str) -> Result<Vec<IpAddr>, Error> {
        names.find(host, Instant::now() + Duration::from_secs(20))
    }

    /// An answer with these resource data of the asked type.
    fn reply(query: &[u8], flags: [u8; 2], data: &[&[u8]]) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2..4].copy_from_slice(&flags);
        message[7] = u8::try_from(data.len()).expect("few");
        for data in data {
            message.extend([192, 12]);
            message.extend(&query[query.len() - 4..]);
            message.extend([0, 0, 0, 60, 0, u8::try_from(data.len()).expect("short")]);
            message.extend(*data);
        }
        message
    }

    fn asks_for_a(query: &[u8]) -> bool {
        query[query.len() - 4..query.len() - 2] == [0, 1]
    }

    #[test]
    fn addresses_come_from_the_file_and_from_the_server() {
        let dir = tempfile::tempdir().expect("a folder");
        let server = serving(|query| {
            let strangers =
                [reply(b"xx\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01", [0x81, 0x80], &[])];
            let own = if query.windows(8).any(|part| part == b"\x04corp\x04te") {
                if asks_for_a(query) {
                    reply(query, [0x81, 0x80], &[&[10, 0, 0, 7]])
                } else {
                    reply(query, [0x81, 0x80], &[])
                }
            } else {
                reply(query, [0x81, 0x83], &[])
            };
            strangers.into_iter().chain([own]).collect()
        });
        let names = names(dir.path(), server, "search corp.test\noptions ndots:1 timeout:5");
        assert_eq!(find(&names, "FIRST.test").expect("found").len(), 2);
        assert_eq!(find(&names, "alias").expect("found"), ["127.0.0.9".parse::<IpAddr>().expect("address")]);
        assert_eq!(find(&names, "192.0.2.1").expect("found").len(), 1);
        assert!(find(&names, "localhost").expect("found").iter().all(IpAddr::is_loopback));
        // Searched below the domain, and found there.
        assert_eq!(find(&names, "git").expect("found"), ["10.0.0.7".parse::<IpAddr>().expect("address")]);
        assert!(matches!(find(&names, "nowhere.test."), Err(Error::HostNotFound)));
        assert!(find(&names, &"a".repeat(64)).is_err() && find(&names, "a..b").is_err());
    }

    #[test]
    fn an_answer_that_is_too_long_is_asked_for_over_a_stream() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        let socket = UdpSocket::bind(address).expect("the same port");
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&reply(&buffer[..length], [0x83, 0x80], &[]), from);
            }
        });
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut length = [0; 2];
                let _ = stream.read_exact(&mut length);
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                let _ = stream.read_exact(&mut query);
                let data: &[&[u8]] = if asks_for_a(&query) { &[&[10, 0, 0, 8]] } else { &[] };
                let message = reply(&query, [0x81, 0x80], data);
                let length = u16::try_from(message.len()).expect("short");
                let _ = stream.write_all(&[&length.to_be_bytes(), message.as_slice()].concat());
            }
        });
        let dir = tempfile::tempdir().expect("a folder");
        let names = names(dir.path(), address, "");
        assert_eq!(find(&names, "long.test").expect("found"), ["10.0.0.8".parse::<IpAddr>().expect("address")]);
    }

    #[test]
    fn broken_answers_are_no_addresses() {
        let query = query(7, "a.test", TYPE_A).expect("a name");
        let good = reply(&query, [0x81, 0x80], &[&[10, 0, 0, 1], &[10, 0, 0, 2]]);
        assert!(matches!(answer(&good, &query, TYPE_A), Some(Answer::Addresses(list)) if list.len() == 2));
        for length in 0..good.len() {
            assert!(answer(&good[..length], &query, TYPE_A).is_none(), "cut at {length}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = answer(&bad, &query, TYPE_A);
            }
        }
        assert!(matches!(answer(&reply(&query, [0x81, 0x82], &[]), &query, TYPE_A), Some(Answer::Failed)));
    }
}
