//! Archivista as a store: `--archive archivista+URL`, and `--enable-archivista` as witness and cilock spell it.
//!
//! No server is built in. Headers are secrets: they go to the server that the same command names, and nowhere else.

use std::path::PathBuf;

use affiant_core::verify::Source;
use clap::Args;
use clap::builder::BoolishValueParser;

use super::failure::Failure;
use super::places;
use super::verify::archive;

#[cfg(feature = "remote")]
pub(crate) use affiant_remote::archivista::{Archivista, ArchivistaError};

/// What the address of a server begins with where an archive is named.
const SCHEME: &str = "archivista+";
/// The variable of `--archivista-headers`.
pub(crate) const HEADERS: &str = "AFFIANT_ARCHIVISTA_HEADERS";
/// Parts of a header that are shorter are no secrets: `Bearer`.
const SECRET: usize = 8;

/// Headers for a server that `--archive` names.
#[derive(Args)]
pub(crate) struct HeaderArgs {
    /// Header for the archivista server, `NAME: VALUE` (repeatable); it is kept secret
    #[arg(long, value_name = "HEADER", env = HEADERS, hide_env_values = true, value_delimiter = '\n')]
    archivista_headers: Vec<String>,
}

/// A server that is named apart from `--archive`, and its headers.
#[derive(Args)]
pub(crate) struct ServerArgs {
    /// The server of --enable-archivista; none is built in
    #[arg(
        long,
        alias = "archivist-server",
        value_name = "URL",
        env = "AFFIANT_ARCHIVISTA_SERVER",
        hide_env_values = true
    )]
    archivista_server: Option<String>,
    #[command(flatten)]
    headers: HeaderArgs,
}

impl ServerArgs {
    /// Its address.
    pub(crate) fn address(&self) -> Option<&str> {
        self.archivista_server.as_deref().map(|url| url.trim_end_matches('/')).filter(|url| !url.is_empty())
    }

    /// The headers, to be sent to the one server that the command names.
    pub(crate) fn headers(&self) -> &[String] {
        self.headers.headers()
    }
}

/// A server, in the spelling of witness and cilock as well.
#[derive(Args)]
pub(crate) struct ArchivistaArgs {
    /// Use the archivista of --archivista-server besides the archive
    #[arg(
        long,
        alias = "enable-archivist",
        value_name = "TRUTH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        env = "AFFIANT_ENABLE_ARCHIVISTA",
        hide_env_values = true
    )]
    enable_archivista: Option<bool>,
    #[command(flatten)]
    server: ServerArgs,
}

/// What `--archive` names.
pub(crate) enum Archive {
    Folder(PathBuf),
    /// The address of an archivista.
    Server(String),
}

impl Archive {
    /// Reads `dir:PATH`, a path alone, or `archivista+URL`.
    pub(crate) fn parse(value: &str) -> Result<Self, Failure> {
        match value.strip_prefix(SCHEME) {
            Some(url) => Ok(Self::Server(url.trim_end_matches('/').to_owned())),
            None => places::named_archive(value).map(Self::Folder),
        }
    }
}

/// The folder and the server that the values of `--archive` name, at most one of each.
pub(crate) fn named(archives: &[String]) -> Result<(Option<PathBuf>, Option<String>), Failure> {
    let (mut folder, mut server) = (None, None);
    for value in archives {
        let twice = match Archive::parse(value)? {
            Archive::Folder(path) => folder.replace(path).is_some(),
            Archive::Server(url) => server.replace(url).is_some(),
        };
        if twice {
            return Err(Failure::usage(format!("--archive {value}: another one of this kind is named"))
                .hint("one folder and one server can be named"));
        }
    }
    Ok((folder, server))
}

impl HeaderArgs {
    /// The headers, to be sent to the one server that the command names.
    pub(crate) fn headers(&self) -> &[String] {
        &self.archivista_headers
    }

    /// What must not be seen: the values, and their parts.
    pub(crate) fn secrets(&self) -> Vec<Vec<u8>> {
        let values =
            self.archivista_headers.iter().map(|header| header.split_once(':').map_or(&**header, |(_, it)| it));
        let mut secrets: Vec<_> = values
            .flat_map(|value| value.split_whitespace().chain([value.trim()]))
            .chain(self.archivista_headers.iter().map(String::as_str))
            .filter(|part| part.len() >= SECRET)
            .map(|part| part.as_bytes().to_vec())
            .collect();
        // The longest first: what is hidden in parts is hidden.
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        secrets
    }
}

impl ArchivistaArgs {
    pub(crate) fn header_args(&self) -> &HeaderArgs {
        &self.server.headers
    }

    /// The address of the server, where one is to be used; `named` is the one that `--archive` names.
    pub(crate) fn server(&self, named: Option<String>) -> Result<Option<String>, Failure> {
        let enabled = self.enable_archivista == Some(true);
        match (enabled.then(|| self.server.address()).flatten(), named) {
            (Some(own), Some(named)) if own != named => {
                Err(Failure::usage("--archive and --archivista-server name two servers").hint("name one"))
            }
            (own, named) => match own.map(str::to_owned).or(named) {
                None if enabled => Err(Failure::usage("--enable-archivista: no server is named, and none is built in")
                    .hint("name it with `--archivista-server URL`")),
                server => Ok(server),
            },
        }
    }

    /// What a server is said to be that is not used.
    pub(crate) fn unused(&self) -> Option<&'static str> {
        (self.server.address().is_some() && self.enable_archivista.is_none())
            .then_some("--archivista-server alone does nothing: `--enable-archivista` uses it")
    }

    /// The server itself.
    pub(crate) fn open(&self, named: Option<String>, offline: bool) -> Result<Option<Archivista>, Failure> {
        let Some(url) = self.server(named)? else { return Ok(None) };
        if offline {
            return Err(Failure::usage("--offline: a server cannot be asked")
                .hint("name files with `--attestations` or `--outfile`, or a folder with `--archive dir:PATH`"));
        }
        open(&url, self.server.headers()).map(Some)
    }
}

impl ArchivistaArgs {
    /// Where evidence is looked for: the archive or server that `--archive` names, the default archive where neither it
    /// nor files are named, and the server of these flags, or the one at `url`.
    pub(crate) fn sources(
        &self,
        named: Option<&str>,
        url: Option<String>,
        offline: bool,
        has_evidence: bool,
    ) -> Result<Vec<Box<dyn Source>>, Failure> {
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        let url = if let Some(Archive::Server(url)) = named.map(Archive::parse).transpose()? {
            Some(url)
        } else {
            let archive = archive(named, has_evidence)?;
            sources.extend(archive.map(|archive| Box::new(archive) as Box<dyn Source>));
            url
        };
        let server = self.open(url, offline)?;
        sources.extend(server.map(|server| Box::new(server) as Box<dyn Source>));
        Ok(sources)
    }
}

/// The archivista at an address. It is not asked anything yet.
#[cfg(feature = "remote")]
pub(crate) fn open(url: &str, headers: &[String]) -> Result<Archivista, Failure> {
    use super::failure::Kind;
    use super::surroundings::http_settings;
    use affiant_remote::http::{Client, Settings};
    let client = Client::new(Settings { keep: true, ..http_settings() });
    let refused = |error: &ArchivistaError| Failure::because(Kind::Usage, "the server cannot be used", error);
    let store = Archivista::new(client, url, headers).map_err(|error| refused(&error))?;
    store.check().map_err(|error| refused(&error))?;
    Ok(store)
}

/// A build without the remote crate asks no server.
#[cfg(not(feature = "remote"))]
pub(crate) use none::{Archivista, open};

#[cfg(not(feature = "remote"))]
mod none {
    use affiant_core::store::SubjectDigest;
    use affiant_core::verify::{Handle, Source, SourceError};

    use crate::cli::failure::Failure;

    /// There is none.
    pub(crate) enum Archivista {}

    #[derive(Debug)]
    pub(crate) struct ArchivistaError {
        pub(crate) is_outage: bool,
    }

    impl std::fmt::Display for ArchivistaError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("this build of affiant asks no other machine")
        }
    }

    impl std::error::Error for ArchivistaError {}

    pub(crate) struct Kept {
        pub(crate) gitoid: String,
        pub(crate) already: bool,
    }

    pub(crate) fn open(_: &str, _: &[String]) -> Result<Archivista, Failure> {
        Err(Failure::usage("this build of affiant asks no other machine"))
    }

    impl Archivista {
        pub(crate) fn address(&self) -> &str {
            match *self {}
        }

        pub(crate) fn put(&self, _: &[u8]) -> Result<Kept, ArchivistaError> {
            match *self {}
        }

        pub(crate) fn get(&self, _: &str, _: usize) -> Result<Vec<u8>, ArchivistaError> {
            match *self {}
        }
    }

    impl Source for Archivista {
        fn name(&self) -> String {
            match *self {}
        }

        fn count(&self) -> Option<usize> {
            match *self {}
        }

        fn about(&self, _: &[SubjectDigest]) -> Result<Vec<Handle>, SourceError> {
            match *self {}
        }

        fn of_step(&self, _: &str, _: usize) -> Result<Vec<Handle>, SourceError> {
            match *self {}
        }

        fn policies(&self) -> Vec<Handle> {
            match *self {}
        }

        fn read(&self, _: &Handle) -> Result<Vec<u8>, SourceError> {
            match *self {}
        }
    }
}
