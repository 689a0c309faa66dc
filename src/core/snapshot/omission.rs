//! What of a tree could not be recorded, and why.

use std::collections::BinaryHeap;
use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};

use super::sys::Kind;

/// How many omissions are listed; the others are only counted. Those with the smallest paths are kept, so that the
/// list does not depend on the order of the walk.
pub const MAX_OMISSIONS: usize = 10_000;

/// Something in the tree that could not be recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Omission {
    /// Path relative to the root; of a folder with a final `/`; bytes that are not UTF-8 as `\xHH`.
    pub path: String,
    /// Why it was not recorded.
    pub reason: Reason,
}

/// Why something was not recorded. Displays as a lower-case fragment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// A named pipe: reading it would wait for a writer.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// A kind of entry that is not known.
    UnknownKind,
    /// It cannot be opened or read; what the system said.
    Unreadable(String),
    /// It was listed, but gone when it was opened.
    Vanished,
    /// Something else took its place between listing and opening.
    Replaced,
    /// It changed each time it was read.
    Changing,
    /// Its length is not the size that the file system tells.
    SizeDiffers,
    /// Its name is not UTF-8.
    NotUtf8,
    /// Its path is longer than 64 KiB.
    PathTooLong,
    /// A link whose target lies outside the root; its text.
    LinkLeavesRoot(String),
    /// A link whose target does not exist; its text.
    LinkDangles(String),
    /// A link that leads to itself, or through too many others; its text.
    LinkLoops(String),
    /// A link to a folder; its text.
    LinkToFolder(String),
    /// A link to something that is neither file nor folder, or that cannot be read; its text and why.
    LinkToOther(String, String),
    /// Part of a folder that was to be recorded as one digest; the path in it that cannot be.
    FolderNotWhole(String),
    /// The root is not the folder that it was before the command.
    RootReplaced,
}

impl Reason {
    pub(super) fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Fifo => Self::Fifo,
            Kind::Socket => Self::Socket,
            Kind::CharacterDevice | Kind::BlockDevice => Self::Device,
            _ => Self::UnknownKind,
        }
    }

    pub(super) fn is_link_to_folder(&self) -> bool {
        matches!(self, Self::LinkToFolder(_))
    }

    /// The text of the link that was omitted.
    pub fn link_text(&self) -> Option<&str> {
        match self {
            Self::LinkLeavesRoot(text)
            | Self::LinkDangles(text)
            | Self::LinkLoops(text)
            | Self::LinkToFolder(text)
            | Self::LinkToOther(text, _) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fifo => f.write_str("named pipe"),
            Self::Socket => f.write_str("socket"),
            Self::Device => f.write_str("device"),
            Self::UnknownKind => f.write_str("neither file, folder nor link"),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Vanished => f.write_str("vanished while the tree was read"),
            Self::Replaced => f.write_str("replaced while the tree was read"),
            Self::Changing => f.write_str("changed while it was read"),
            Self::SizeDiffers => f.write_str("its length is not the size that the file system tells"),
            Self::NotUtf8 => f.write_str("its name is not UTF-8"),
            Self::PathTooLong => f.write_str("its path is too long"),
            Self::LinkLeavesRoot(_) => f.write_str("link out of the folder"),
            Self::LinkDangles(_) => f.write_str("link to nothing"),
            Self::LinkLoops(_) => f.write_str("link in a loop"),
            Self::LinkToFolder(_) => f.write_str("link to a folder"),
            Self::LinkToOther(_, why) => write!(f, "link to something that is not recorded: {why}"),
            Self::FolderNotWhole(path) => write!(f, "no digest of the whole folder, because of {path}"),
            Self::RootReplaced => f.write_str("another folder than before the command"),
        }
    }
}

impl Serialize for Omission {
    /// `{"path","reason"}` and, for links, `"link"` with the link's text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &self.path)?;
        map.serialize_entry("reason", &self.reason.to_string())?;
        if let Some(text) = self.reason.link_text() {
            map.serialize_entry("link", text)?;
        }
        map.end()
    }
}

/// A bounded list of omissions.
#[derive(Clone, Debug, Default)]
pub(super) struct Omissions {
    /// The largest path is on top.
    heap: BinaryHeap<Omission>,
    total: u64,
}

impl Omissions {
    pub(super) fn push(&mut self, path: String, reason: Reason) {
        self.total += 1;
        self.keep(Omission { path, reason });
    }

    fn keep(&mut self, omission: Omission) {
        self.heap.push(omission);
        if self.heap.len() > MAX_OMISSIONS {
            self.heap.pop();
        }
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.total += other.total;
        for omission in other.heap {
            self.keep(omission);
        }
    }

    /// The list, sorted by path, and the number of all.
    pub(super) fn into_sorted(self) -> (Vec<Omission>, u64) {
        (self.heap.into_sorted_vec(), self.total)
    }
}

/// A path for people: what is not UTF-8 as `\xHH`.
pub(super) fn show(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}"); // a String takes everything
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_smallest_paths_are_listed() {
        let mut all = Omissions::default();
        for number in (0..MAX_OMISSIONS + 5).rev() {
            all.push(format!("{number:08}"), Reason::Fifo);
        }
        let (list, total) = all.into_sorted();
        assert_eq!((list.len(), total), (MAX_OMISSIONS, MAX_OMISSIONS as u64 + 5));
        assert_eq!(list[0].path, "00000000");
        assert_eq!(list[MAX_OMISSIONS - 1].path, format!("{:08}", MAX_OMISSIONS - 1));
    }

    #[test]
    fn bytes_that_are_not_text_are_shown() {
        assert_eq!(show(b"caf\xe9/a"), "caf\\xe9/a");
    }
}
