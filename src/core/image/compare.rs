//! Whether two images are the same: the same config, and layers that inflate to the same bytes.
//!
//! An image that was pushed, recompressed, or put into an index has another digest; its config, and with it the digests of
//! its unpacked layers (`diff_ids`, OCI image specification, "Layer `DiffID`"), stay.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::manifest::{Descriptor, Kind, MAX_MANIFEST, Manifest};
use super::platforms::{Runnable, runnable};
use super::reference::{At, Digest};
use super::repository::{Repository, RepositoryError, Stored};
use crate::at_once::{self, UnderWay};
use crate::inflate::{Compression, Inflater};

/// Bytes to which a layer may inflate whatever its length …
const INFLATED_FREE: u64 = 64 << 30;
/// … and as a multiple of its length.
const INFLATED_RATIO: u64 = 1100;
/// How many layers are unpacked at once.
const AT_ONCE: usize = 4;
/// Size of the buffer in which a layer passes.
const CHUNK: usize = 256 * 1024;

/// The digest of what a stream inflates to.
pub fn diff_id(reader: impl BufRead, compression: Option<Compression>) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut pass = |reader: &mut dyn Read| -> io::Result<()> {
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    match compression {
        None => pass(&mut { reader })?,
        Some(compression) => pass(&mut Inflater::new(compression, reader, INFLATED_FREE, INFLATED_RATIO))?,
    }
    Ok(Digest::finished(hasher))
}

/// How two images differ, or how they are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The same manifest.
    SameManifest(Digest),
    /// The same config, and layers proven by its diff ids: this many, of which so many were inflated.
    SameImage {
        /// Digest of the config.
        config: Digest,
        /// How many layers it has.
        layers: usize,
        /// How many are stored differently.
        stored_differently: usize,
    },
    /// Another layer at this place, counted from 0.
    Layer {
        /// Which.
        index: usize,
        /// Its diff id in the first, where it has so many.
        first: Option<Digest>,
        /// Its diff id in the second.
        second: Option<Digest>,
    },
    /// The same layers, and a config that differs in these members.
    Config(Vec<String>),
    /// A layer is not what its config says.
    Unproven {
        /// `first` or `second`.
        which: &'static str,
        /// Which layer, counted from 0.
        index: usize,
        /// What the config says.
        says: Digest,
        /// What it is.
        found: Digest,
    },
    /// One has images for machines that the other has not.
    Platforms {
        /// Only in the first.
        first: Vec<String>,
        /// Only in the second.
        second: Vec<String>,
    },
}

impl Outcome {
    /// Whether the images are the same.
    pub fn is_equal(&self) -> bool {
        matches!(self, Self::SameManifest(_) | Self::SameImage { .. })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |digest: &Option<Digest>| digest.as_ref().map_or("none".to_owned(), Digest::to_string);
        match self {
            Self::SameManifest(digest) => write!(f, "equal: the same manifest {digest}"),
            Self::SameImage { config, layers, stored_differently: 0 } => {
                write!(f, "equal: the config {config} and the same {layers} layers")
            }
            Self::SameImage { config, layers, stored_differently } => write!(
                f,
                "equal: the config {config} and {layers} layers, {stored_differently} of them compressed differently and proven by diff id"
            ),
            Self::Layer { index, first, second } => {
                write!(f, "different: layer {index}: diff id {} and {}", or_none(first), or_none(second))
            }
            Self::Config(members) => {
                write!(f, "different: the same layers, and a config that differs in {}", members.join(", "))
            }
            Self::Unproven { which, index, says, found } => {
                write!(f, "different: layer {index} of the {which} is {found}, and its config says {says}")
            }
            Self::Platforms { first, second } => write!(
                f,
                "different: only the first has [{}], only the second has [{}]",
                first.join(", "),
                second.join(", ")
            ),
        }
    }
}

/// One image to be compared.
struct Image {
    manifest: Manifest,
    config_digest: Digest,
    config: Value,
    platform: String,
    digest: Digest,
}

impl Image {
    fn diff_ids(&self) -> Vec<Digest> {
        let ids = self.config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(|id| id.as_str()?.parse().ok()).collect()
    }
}

fn invalid(repository: &dyn Repository, reason: impl Into<String>) -> RepositoryError {
    RepositoryError::Refused { place: repository.name(), reason: reason.into(), permission: false, again: None }
}

/// The images of a manifest or an index, with their configs.
fn images(repository: &dyn Repository, root: &Stored) -> Result<Vec<Image>, RepositoryError> {
    let mut found = Vec::new();
    for Runnable { digest, manifest, platform } in runnable(repository, root)? {
        let (config_digest, config) = config(repository, &manifest)?;
        let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
        let platform =
            platform.map_or_else(|| format!("{}/{}", text("os"), text("architecture")), |one| one.to_string());
        found.push(Image { manifest, config_digest, config, platform, digest });
    }
    Ok(found)
}

/// The config of an image: its digest, and what it says.
fn config(repository: &dyn Repository, manifest: &Manifest) -> Result<(Digest, Value), RepositoryError> {
    let config = manifest.config.as_ref().ok_or_else(|| invalid(repository, "an image has no config"))?;
    let bytes = repository.blob_bytes(&config.digest, MAX_MANIFEST as u64)?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(repository, format!("the config {}: {error}", config.digest)))?;
    Ok((config.digest.clone(), value))
}

/// Compares what two places hold. An image and an index are equal where the index has that image; two indexes, where
/// they have the same images for the same machines.
pub fn compare(first: (&dyn Repository, &At), second: (&dyn Repository, &At)) -> Result<Vec<Outcome>, RepositoryError> {
    let stored = (first.0.need(first.1)?, second.0.need(second.1)?);
    if stored.0.digest() == stored.1.digest() {
        return Ok(vec![Outcome::SameManifest(stored.0.digest().clone())]);
    }
    let is_index = |stored: &Stored| Kind::of(stored.media_type()) == Some(Kind::Index);
    let both = is_index(&stored.0) && is_index(&stored.1);
    let (ones, others) = (images(first.0, &stored.0)?, images(second.0, &stored.1)?);
    let mut outcomes = Vec::new();
    let mut missing: (Vec<String>, Vec<String>) = Default::default();
    let mut taken = vec![false; others.len()];
    let partner = |one: &Image, taken: &[bool]| {
        let free = |at: &usize| !taken[*at];
        let by = |is: &dyn Fn(&Image) -> bool| (0..others.len()).filter(free).find(|at| is(&others[*at]));
        by(&|other| other.digest == one.digest)
            .or_else(|| by(&|other| other.config_digest == one.config_digest))
            .or_else(|| by(&|other| other.platform == one.platform))
            .or_else(|| by(&|_| !both && ones.len() == 1 && others.len() == 1))
    };
    for one in &ones {
        match partner(one, &taken) {
            Some(at) => {
                taken[at] = true;
                outcomes.push(pair((first.0, one), (second.0, &others[at]))?);
            }
            // An image that is looked for in an index needs one partner only.
            None => missing.0.push(one.platform.clone()),
        }
    }
    missing.1.extend(others.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(other, _)| other.platform.clone()));
    let has_pair = !outcomes.is_empty();
    if !has_pair || both && (!missing.0.is_empty() || !missing.1.is_empty()) {
        outcomes.push(Outcome::Platforms { first: missing.0, second: missing.1 });
    }
    Ok(outcomes)
}

fn pair(first: (&dyn Repository, &Image), second: (&dyn Repository, &Image)) -> Result<Outcome, RepositoryError> {
    let (one, other) = (first.1, second.1);
    if one.digest == other.digest {
        return Ok(Outcome::SameManifest(one.digest.clone()));
    }
    let (ids, other_ids) = (one.diff_ids(), other.diff_ids());
    for index in 0..ids.len().max(other_ids.len()) {
        if ids.get(index) != other_ids.get(index) {
            return Ok(Outcome::Layer { index, first: ids.get(index).cloned(), second: other_ids.get(index).cloned() });
        }
    }
    if one.config_digest != other.config_digest {
        return Ok(Outcome::Config(members(&one.config, &other.config)));
    }
    let (layers, others) = (one.manifest.layers(), other.manifest.layers());
    for (which, count) in [("first", layers.len()), ("second", others.len())] {
        if count != ids.len() {
            let place = if which == "first" { first.0 } else { second.0 };
            return Err(invalid(place, format!("{count} layers, and a config that says {}", ids.len())));
        }
    }
    let mut stored_differently = 0;
    for (index, says) in ids.iter().enumerate() {
        if layers[index].digest == others[index].digest {
            continue;
        }
        stored_differently += 1;
        for (which, place, layer) in [("first", first.0, &layers[index]), ("second", second.0, &others[index])] {
            let found = layer_diff_id(place, layer)?;
            if found != *says {
                return Ok(Outcome::Unproven { which, index, says: says.clone(), found });
            }
        }
    }
    Ok(Outcome::SameImage { config: one.config_digest.clone(), layers: ids.len(), stored_differently })
}

/// What a layer inflates to.
pub fn layer_diff_id(repository: &dyn Repository, layer: &Descriptor) -> Result<Digest, RepositoryError> {
    let failed = |source| RepositoryError::Io { what: format!("{} of {}", layer.digest, repository.name()), source };
    let reader = repository.blob(&layer.digest, layer.size)?;
    let mut reader = io::BufReader::with_capacity(CHUNK, reader);
    let compression = Compression::sniff(reader.fill_buf().map_err(failed)?);
    diff_id(reader, compression).map_err(failed)
}

/// Checks that the layers of an image are those that its config names: each is unpacked, and has the digest that stands
/// in `diff_ids`. Gives why not; an error means that it could not be looked at.
pub fn layers_unproven(repository: &dyn Repository, manifest: &Manifest) -> Result<Option<String>, RepositoryError> {
    let (_, config) = config(repository, manifest)?;
    let ids = config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
    let ids: Option<Vec<Digest>> =
        ids.and_then(|ids| ids.iter().map(|id| id.as_str().and_then(|id| id.parse().ok())).collect());
    let Some(ids) = ids else { return Ok(Some("its config has no list of layers".to_owned())) };
    let layers = manifest.layers();
    if layers.len() != ids.len() {
        return Ok(Some(format!("it has {} layers, and its config names {}", layers.len(), ids.len())));
    }
    let mut ids = ids.iter().enumerate();
    let mut other = None;
    let take = |digest: Digest| {
        let of_config = ids.next().filter(|(_, id)| **id != digest);
        other = other.take().or_else(|| of_config.map(|(index, id)| (index, digest, id.clone())));
        Ok(())
    };
    let looked = at_once::in_order(layers, AT_ONCE, UnderWay::Dropped, |layer| layer_diff_id(repository, layer), take);
    match other {
        Some((index, digest, id)) => {
            Ok(Some(format!("its layer {index} unpacks to {digest}, and its config says {id}")))
        }
        None => looked.map(|()| None),
    }
}

/// Which members of two configs differ.
fn members(one: &Value, other: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let (one, other) = (one.as_object().unwrap_or(&empty), other.as_object().unwrap_or(&empty));
    let mut names: Vec<String> =
        one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name)).cloned().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        names.push("nothing but how it is written".to_owned());
    }
    names
}
