//! Images in registries and layouts: names, manifests, and the place that holds them.
//!
//! Nothing here opens a socket. A [`Repository`] is a registry's repository (`affiant-remote`), a folder or an archive;
//! what is signed, found, copied and judged is the same for all of them.

pub mod attach;
pub mod attached;
pub mod audit;
pub mod beside;
pub mod buildkit;
pub mod carry;
pub mod claim;
pub mod compare;
pub mod complete;
pub mod found;
pub mod kept;
pub mod keyed;
pub mod layout;
pub mod manifest;
pub mod payload;
pub mod platforms;
pub mod reference;
pub mod replace;
pub mod repository;
pub mod shared;
pub mod sigstore;
pub mod walk;

pub use layout::Layout;
pub use manifest::{Descriptor, Kind, Manifest, ManifestError, Platform};
pub use reference::{At, Digest, Inside, Reference, ReferenceError, Target};
pub use repository::{Checked, Listed, Put, Repository, RepositoryError, Skipped, Stored};
