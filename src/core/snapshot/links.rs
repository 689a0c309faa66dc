//! Symbolic links, resolved by us and never by the kernel, so that none leads out of the root unseen.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::omission::{Reason, show};
use super::sys::{Kind, Root, Stat};

/// How many links one resolution may pass, as in the kernel.
const MAX_LINKS: usize = 40;

/// Where the root is, for links with absolute texts.
#[derive(Debug)]
pub(super) struct Whereabouts {
    /// The root as the caller named it and with its links resolved.
    names: [PathBuf; 2],
}

impl Whereabouts {
    pub(super) fn new(root: &Path, canonical: &Path) -> Self {
        Self { names: [canonical.to_owned(), root.to_owned()] }
    }

    /// Whether these components lead to the root.
    fn is_root(&self, components: &[Vec<u8>]) -> bool {
        self.names.iter().any(|name| {
            let bytes = name.as_os_str().as_encoded_bytes();
            let mut parts = bytes.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
            let mut ours = components.iter();
            loop {
                match (parts.next(), ours.next()) {
                    (None, None) => return true,
                    (Some(part), Some(our)) if part == our.as_slice() => {}
                    _ => return false,
                }
            }
        })
    }

    fn components(&self) -> Vec<Vec<u8>> {
        split(self.names[0].as_os_str().as_encoded_bytes()).rev().collect()
    }
}

/// The components of a path, last first.
fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.rsplit(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

/// A link that leads to a file below the root.
#[derive(Debug)]
pub(super) struct Target {
    /// The file's own path, relative to the root.
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
    /// The link's text.
    pub(super) text: String,
}

/// Follows the link at `path` to a file.
pub(super) fn resolve(root: &Root, whereabouts: &Whereabouts, path: &[u8]) -> Result<Target, Reason> {
    let first = root.read_link(path).map_err(super::walk::refusal)?;
    let text = show(&first);
    // The folder of the link was entered without following links, so that it is real.
    let folder = path.iter().rposition(|&byte| byte == b'/').map_or(&[][..], |slash| &path[..slash]);
    let mut inside: Vec<Vec<u8>> = split(folder).rev().collect();
    // Where the way has left the root, the components from `/` on.
    let mut outside: Option<Vec<Vec<u8>>> = None;
    let mut ahead: Vec<Vec<u8>> = Vec::new();
    let mut passed = 0;
    let mut stat: Option<Stat> = None;
    let mut enter = |text: &[u8], ahead: &mut Vec<Vec<u8>>, outside: &mut Option<Vec<Vec<u8>>>| {
        passed += 1;
        if text.starts_with(b"/") {
            *outside = Some(Vec::new());
        }
        ahead.extend(split(text));
        passed <= MAX_LINKS
    };
    enter(&first, &mut ahead, &mut outside);
    loop {
        if outside.as_ref().is_some_and(|components| whereabouts.is_root(components)) {
            outside = None;
            inside.clear();
            stat = None;
        }
        let Some(component) = ahead.pop() else { break };
        if let Some(components) = &mut outside {
            // What lies outside is not looked at: a way back through a link out there is not found.
            if component == b".." {
                components.pop();
            } else {
                components.push(component);
            }
            continue;
        }
        if stat.is_some_and(|stat| stat.kind != Kind::Folder) {
            return Err(Reason::LinkDangles(text));
        }
        if component == b".." {
            stat = None;
            if inside.pop().is_none() {
                let mut components = whereabouts.components();
                components.pop();
                outside = Some(components);
            }
            continue;
        }
        inside.push(component);
        let here = inside.join(&b'/');
        let found = match root.stat(&here) {
            Ok(found) => found,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => return Err(Reason::LinkDangles(text)),
            Err(errno) => return Err(Reason::LinkToOther(text, errno.desc().to_lowercase())),
        };
        if found.kind == Kind::Link {
            inside.pop();
            let next = match root.read_link(&here) {
                Ok(next) => next,
                Err(errno) => return Err(Reason::LinkToOther(text, errno.desc().to_lowercase())),
            };
            if !enter(&next, &mut ahead, &mut outside) {
                return Err(Reason::LinkLoops(text));
            }
            stat = None;
        } else {
            stat = Some(found);
        }
    }
    match (outside, stat) {
        (Some(_), _) => Err(Reason::LinkLeavesRoot(text)),
        // `.` and `..` at the end leave nothing but a folder.
        (None, None) => Err(Reason::LinkToFolder(text)),
        (None, Some(stat)) => match stat.kind {
            Kind::File => Ok(Target { path: inside.join(&b'/'), stat, text }),
            Kind::Folder => Err(Reason::LinkToFolder(text)),
            kind => Err(Reason::LinkToOther(text, Reason::of_kind(kind).to_string())),
        },
    }
}
