//! Names of images: `host/repository:tag@digest`, and the places beside registries.
//!
//! Sources: the reference grammar of the distribution project, the tag and digest grammar of the OCI distribution
//! specification ("Pulling manifests") and of the image specification ("Digests").

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a repository, in bytes.
const MAX_NAME: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;
/// Places of other tools (containers-transports(5)).
const OTHERS: [&str; 5] = ["dir:", "containers-storage:", "docker-daemon:", "ostree:", "sif:"];
/// The registry that a name without one means.
const HUB: &str = "index.docker.io";

/// `sha256:` and 64 lower-case hex digits. Other algorithms are not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", crate::digest::sha256_hex(bytes)))
    }

    /// The digest of what was hashed.
    pub(crate) fn finished(hasher: sha2::Sha256) -> Self {
        Self(format!("sha256:{}", hex::encode(sha2::Digest::finalize(hasher))))
    }

    /// The digest with these 64 hex digits.
    pub fn from_hex(hex: &str) -> Result<Self, ReferenceError> {
        format!("sha256:{hex}").parse()
    }

    /// The digits alone.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The whole, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag under which a registry without referrers keeps something about this digest: `sha256-<hex>` and a suffix
    /// (`""` for the list of referrers; cosign's are `.sig`, `.att`, `.sbom`).
    pub fn tag(&self, suffix: &str) -> String {
        format!("sha256-{}{suffix}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let hex = text.strip_prefix("sha256:").ok_or_else(|| ReferenceError::Digest { text: text.to_owned() })?;
        if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Digest { text: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// By a name that may mean another one tomorrow.
    Tag(String),
    /// By its digest.
    Digest(Digest),
}

impl At {
    /// As it stands in an address.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag,
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name of an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host, with a port where it has one; `index.docker.io` for Docker Hub.
    pub registry: String,
    /// Path of the repository, `library/…` for Docker Hub's own.
    pub repository: String,
    /// The tag, where there is one. A digest beside it decides.
    pub tag: Option<String>,
    /// The digest, where there is one.
    pub digest: Option<Digest>,
}

/// Why a text is no name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Neither text nor anything.
    #[error("an image's name is empty")]
    Empty,
    /// The path has characters that no registry takes.
    #[error(
        "`{name}` is no repository: small letters, digits and single `.`, `_`, `__` or `-` between them, in parts between `/`"
    )]
    Repository {
        /// The path.
        name: String,
    },
    /// The host is none.
    #[error("`{host}` is no registry's host")]
    Host {
        /// The host.
        host: String,
    },
    /// The tag is none.
    #[error("`{tag}` is no tag: up to 128 letters, digits, `_`, `.` and `-`")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// The digest is none that is read.
    #[error("`{text}` is no digest: sha256: and 64 hex digits in small letters")]
    Digest {
        /// The digest.
        text: String,
    },
    /// A place that other tools know, and that is not read.
    #[error("`{prefix}` is a place that is not read: a registry, `oci:`, `oci-archive:` and `docker-archive:` are")]
    Place {
        /// What stands before the first colon, with it.
        prefix: String,
    },
    /// A place beside registries without a path.
    #[error("`{text}` names no file or folder behind the colon")]
    Path {
        /// The whole.
        text: String,
    },
}

impl Reference {
    /// `host/repository`, as cosign signs it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The manifest that is meant: the digest, else the tag, else `latest`.
    pub fn at(&self) -> At {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => At::Digest(digest.clone()),
            (None, tag) => At::Tag(tag.clone().unwrap_or_else(|| "latest".to_owned())),
        }
    }

    /// The same image by its digest: what can be deployed.
    pub fn pinned(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon behind the last slash begins a tag; one before it, a port.
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag { tag: tag.to_owned() });
        }
        let (registry, repository) = match rest.split_once('/') {
            Some((first, path)) if first.contains(['.', ':', '[']) || first == "localhost" => {
                (first.to_owned(), path.to_owned())
            }
            _ => (HUB.to_owned(), rest.to_owned()),
        };
        let registry = if registry == "docker.io" { HUB.to_owned() } else { registry };
        if !is_host(&registry) {
            return Err(ReferenceError::Host { host: registry });
        }
        let repository =
            if registry == HUB && !repository.contains('/') { format!("library/{repository}") } else { repository };
        if !is_repository(&repository) {
            return Err(ReferenceError::Repository { name: repository });
        }
        Ok(Self { registry, repository, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether a text is a tag.
pub fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// Whether a text is the path of a repository.
pub fn is_repository(text: &str) -> bool {
    text.len() <= MAX_NAME && text.split('/').all(is_part)
}

/// Letters and digits, between them one of `.`, `_`, `__`, or any number of `-`.
fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().copied().is_some_and(plain) || !bytes.last().copied().is_some_and(plain) {
        return false;
    }
    bytes
        .split(|byte| plain(*byte))
        .all(|between| matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-'))
}

/// A name or an address, with a port where there is one.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (is_address || host.len() <= 253 && host.split('.').all(label))
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+'))
}

/// Which image of a layout is named. A digest beside a tag decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// The tag, where there is one.
    pub tag: Option<String>,
    /// The digest, where there is one.
    pub digest: Option<Digest>,
}

impl Inside {
    /// The manifest that is meant; `None` where none is named.
    pub fn at(&self) -> Option<At> {
        self.digest.clone().map(At::Digest).or_else(|| self.tag.clone().map(At::Tag))
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// Where an image is, as it is named on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In a registry.
    Registry(Reference),
    /// `oci:FOLDER[:TAG][@DIGEST]`: an OCI layout.
    Layout(PathBuf, Inside),
    /// `oci-archive:FILE[:TAG][@DIGEST]`: an OCI layout in a tar file.
    LayoutArchive(PathBuf, Inside),
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<String>),
}

impl FromStr for Target {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let inside = |rest: &str| -> Result<(PathBuf, Inside), ReferenceError> {
            let (rest, digest) = match rest.rsplit_once('@') {
                Some((rest, digest)) if digest.starts_with("sha256:") => (rest, Some(digest.parse()?)),
                _ => (rest, None),
            };
            let (path, tag) = match rest.rsplit_once(':') {
                Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
                _ => (rest, None),
            };
            if path.is_empty() {
                return Err(ReferenceError::Path { text: text.to_owned() });
            }
            Ok((PathBuf::from(path), Inside { tag, digest }))
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, named) = inside(rest)?;
            return Ok(Self::Layout(path, named));
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, named) = inside(rest)?;
            return Ok(Self::LayoutArchive(path, named));
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name.to_owned())),
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(ReferenceError::Path { text: text.to_owned() });
            }
            return Ok(Self::DockerArchive(PathBuf::from(path), name));
        }
        // They would be asked for at Docker Hub, as repositories of that name.
        if let Some(prefix) = OTHERS.iter().find(|prefix| text.starts_with(**prefix)) {
            return Err(ReferenceError::Place { prefix: (*prefix).to_owned() });
        }
        text.parse().map(Self::Registry)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(path, named) => write!(f, "oci:{}{named}", path.display()),
            Self::LayoutArchive(path, named) => write!(f, "oci-archive:{}{named}", path.display()),
            Self::DockerArchive(path, name) => {
                write!(f, "docker-archive:{}", path.display())?;
                name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "b15245ece36593766b17936ef079a207be686c6db2e2a91da27a757a61c1832f";

    #[test]
    fn places_of_other_tools_are_no_repositories() {
        for text in ["dir:x", "containers-storage:app", "docker-daemon:app:1"] {
            let error = text.parse::<Target>().expect_err("no place");
            assert!(matches!(error, ReferenceError::Place { .. }), "{text}: {error}");
        }
        assert!("directory:x".parse::<Target>().is_ok(), "a repository with a tag");
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, name, at) in [
            ("alpine", "index.docker.io/library/alpine", "latest"),
            ("alpine:3.20", "index.docker.io/library/alpine", "3.20"),
            ("docker.io/alpine", "index.docker.io/library/alpine", "latest"),
            ("acme/app", "index.docker.io/acme/app", "latest"),
            ("ghcr.io/acme/app:v1", "ghcr.io/acme/app", "v1"),
            ("localhost/app", "localhost/app", "latest"),
            ("127.0.0.1:5000/vec/a__b--c", "127.0.0.1:5000/vec/a__b--c", "latest"),
            ("[::1]:5000/app:x", "[::1]:5000/app", "x"),
            ("host.example:443/a/b/c:T_1.x-y", "host.example:443/a/b/c", "T_1.x-y"),
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((reference.name().as_str(), reference.at().as_str()), (name, at), "{text}");
        }
        let both: Reference = format!("ghcr.io/acme/app:v1@sha256:{HEX}").parse().expect("a name");
        assert_eq!(both.at().as_str(), format!("sha256:{HEX}"), "the digest decides");
        assert_eq!(both.to_string(), format!("ghcr.io/acme/app:v1@sha256:{HEX}"));
        assert_eq!(both.pinned(&Digest::of(b"")), format!("ghcr.io/acme/app@{}", Digest::of(b"")));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            ":v1",
            "App",
            "ghcr.io/",
            "ghcr.io/A/b",
            "ghcr.io/a//b",
            "ghcr.io/a..b",
            "ghcr.io/a___b",
            "ghcr.io/-a",
            "ghcr.io/a:",
            "ghcr.io/a:-x",
            "ghcr.io/a@sha256:abc",
            "ghcr.io/a@sha512:abc",
            "ghcr.io/a@",
            "ghcr.io:0/a",
            "ghcr.io:x/a",
            "ghcr.io:99999/a",
            "gh cr.io/a",
            "https://ghcr.io/a",
            "user@ghcr.io/a",
            "ghcr.io/a?b",
            "ghcr.io/../a",
            "[::1/a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert!(format!("ghcr.io/{}", "a".repeat(256)).parse::<Reference>().is_err());
        assert!(format!("ghcr.io/a:{}", "a".repeat(129)).parse::<Reference>().is_err());
        assert!(format!("ghcr.io/a@sha256:{}", HEX.to_uppercase()).parse::<Reference>().is_err());
    }

    #[test]
    fn places_beside_registries() {
        for (text, shown) in [
            ("oci:dir", Target::Layout("dir".into(), Inside::default())),
            ("oci:/a/b:v1", Target::Layout("/a/b".into(), Inside { tag: Some("v1".into()), digest: None })),
            ("oci-archive:image.tar", Target::LayoutArchive("image.tar".into(), Inside::default())),
            ("docker-archive:image.tar", Target::DockerArchive("image.tar".into(), None)),
            ("docker-archive:image.tar:app:1", Target::DockerArchive("image.tar".into(), Some("app:1".into()))),
        ] {
            let target: Target = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(target, shown);
            assert_eq!(target.to_string(), text);
        }
        let digest = Some(Digest::from_hex(HEX).expect("a digest"));
        for (named, folder, tag) in [("a:b", "a", Some("b")), ("a", "a", None), ("a:b/c", "a:b/c", None)] {
            let text = format!("oci:{named}@sha256:{HEX}");
            let target: Target = text.parse().expect("a layout");
            let inside = Inside { tag: tag.map(str::to_owned), digest: digest.clone() };
            assert_eq!(inside.at(), digest.clone().map(At::Digest), "the digest decides");
            assert_eq!(target, Target::Layout(folder.into(), inside));
            assert_eq!(target.to_string(), text);
        }
        for text in ["oci:", "oci-archive:", "docker-archive:", "oci::v1"] {
            assert!(matches!(text.parse::<Target>(), Err(ReferenceError::Path { .. })), "{text}");
        }
    }

    #[test]
    fn tags_of_digests() {
        let digest = Digest::from_hex(HEX).expect("a digest");
        assert_eq!(digest.tag(".sig"), format!("sha256-{HEX}.sig"));
        assert_eq!(serde_json::to_string(&digest).expect("a text"), format!("\"sha256:{HEX}\""));
        assert!(serde_json::from_str::<Digest>("\"sha256:../x\"").is_err());
    }
}
