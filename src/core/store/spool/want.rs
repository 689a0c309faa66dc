//! Where something that waits should have gone.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Length in bytes of a reason that is kept; the rest is cut off.
const MAX_REASON: usize = 4096;

/// Where something should have gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The file that should hold it.
    pub outfile: Option<PathBuf>,
    /// The folder of the archive that should keep it.
    pub archive: Option<PathBuf>,
    /// The address of the archivista that should keep it. Headers that it wants are not written down.
    pub archivista: Option<String>,
    /// `payloadType` that a payload is to be signed with.
    pub payload_type: Option<String>,
    /// Name of the step, for messages.
    pub step: Option<String>,
    /// Why it waits, for messages.
    pub reason: String,
    /// That it waits for nothing any more: it cannot be finished, and the reason says why.
    pub ended: bool,
    /// When it was spooled.
    pub saved: Timestamp,
}

/// The form of a want on the disk: a path that is not UTF-8 stands in hex.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WantOnDisk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outfile: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outfile_hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    archive: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    archive_hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    archivista: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
    saved: String,
}

impl Want {
    /// Whether any place is named.
    pub(super) fn has_place(&self) -> bool {
        self.outfile.is_some() || self.archive.is_some() || self.archivista.is_some()
    }

    /// What wants are sorted by.
    pub(super) fn order(&self) -> impl Ord + '_ {
        (self.saved, &self.outfile, &self.archive, &self.archivista)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let split = |path: &Option<PathBuf>| match path.as_ref().map(|path| (path.to_str(), path)) {
            None => (None, None),
            Some((Some(text), _)) => (Some(text.to_owned()), None),
            Some((None, path)) => (None, Some(hex::encode(path.as_os_str().as_bytes()))),
        };
        let (outfile, outfile_hex) = split(&self.outfile);
        let (archive, archive_hex) = split(&self.archive);
        let mut reason = self.reason.clone();
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        let form = WantOnDisk {
            outfile,
            outfile_hex,
            archive,
            archive_hex,
            archivista: self.archivista.clone(),
            payload_type: self.payload_type.clone(),
            step: self.step.clone(),
            reason,
            ended: self.ended,
            saved: self.saved.to_string(),
        };
        // Strings only: this cannot fail.
        serde_json::to_vec(&form).unwrap_or_default()
    }

    pub(super) fn from_json(text: &[u8]) -> Option<Self> {
        let form: WantOnDisk = serde_json::from_slice(text).ok()?;
        let join = |text: Option<String>, digits: Option<String>| match (text, digits) {
            (Some(text), _) => Some(Some(PathBuf::from(text))),
            (None, Some(digits)) => {
                hex::decode(digits).ok().map(|bytes| Some(PathBuf::from(std::ffi::OsString::from_vec(bytes))))
            }
            (None, None) => Some(None),
        };
        Some(Self {
            outfile: join(form.outfile, form.outfile_hex)?,
            archive: join(form.archive, form.archive_hex)?,
            archivista: form.archivista,
            payload_type: form.payload_type,
            step: form.step,
            reason: form.reason,
            ended: form.ended,
            saved: form.saved.parse().ok()?,
        })
    }
}
