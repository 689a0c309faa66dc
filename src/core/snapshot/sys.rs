//! The system calls of a snapshot: folders, files and links relative to a descriptor of the root.
//!
//! Nothing here follows a symbolic link: a path is opened with `openat2` and `RESOLVE_BENEATH |
//! RESOLVE_NO_SYMLINKS`, or, on kernels and in sandboxes without it, one component after the other with
//! `O_NOFOLLOW`. A folder that is swapped for a link while the walk is on leads to an error, never outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

/// Longest path that is handed to one system call, below the kernel's `PATH_MAX` of 4096.
const ONE_CALL: usize = 4000;

/// What identifies a state of a file without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Modification time in nanoseconds since 1970.
    pub(super) mtime: i64,
    /// Change time in nanoseconds since 1970.
    pub(super) ctime: i64,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
    Unknown,
}

/// Key and kind of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub(super) key: Key,
    pub(super) kind: Kind,
}

impl From<&FileStat> for Stat {
    // The widths of these fields differ between platforms.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, clippy::cast_sign_loss)]
    fn from(stat: &FileStat) -> Self {
        let time = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Folder,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFSOCK => Kind::Socket,
            SFlag::S_IFCHR => Kind::CharacterDevice,
            SFlag::S_IFBLK => Kind::BlockDevice,
            _ => Kind::Unknown,
        };
        Self {
            key: Key {
                device: stat.st_dev as u64,
                inode: stat.st_ino as u64,
                size: stat.st_size.max(0) as u64,
                mtime: time(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
                ctime: time(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
            },
            kind,
        }
    }
}

fn folder_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK
}

/// `O_NONBLOCK`: a FIFO that took the file's place must not hang us.
fn file_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY
}

fn step_flags() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Opens the folder `name` (one component) of `parent`.
pub(super) fn open_child_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(parent, name, folder_flags(), Mode::empty())
}

/// Opens the file `name` (one component) of `parent` for reading.
pub(super) fn open_child_file(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(parent, name, file_flags(), Mode::empty())
}

/// Key and kind of an open file.
pub(super) fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    fstat(fd).map(|stat| Stat::from(&stat))
}

/// Key and kind of the entry `name` of `parent`; a link is not followed.
pub(super) fn stat_child(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|stat| Stat::from(&stat))
}

/// Calls `entry` with name and kind of each entry of a folder, in the order of the file system.
pub(super) fn list(folder: &OwnedFd, mut entry: impl FnMut(&[u8], Kind)) -> Result<(), Errno> {
    let copy = folder.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    let mut dir = Dir::from_fd(copy)?;
    for item in dir.iter() {
        let item = item?;
        let name = item.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match item.file_type() {
            Some(nix::dir::Type::File) => Kind::File,
            Some(nix::dir::Type::Directory) => Kind::Folder,
            Some(nix::dir::Type::Symlink) => Kind::Link,
            Some(nix::dir::Type::Fifo) => Kind::Fifo,
            Some(nix::dir::Type::Socket) => Kind::Socket,
            Some(nix::dir::Type::CharacterDevice) => Kind::CharacterDevice,
            Some(nix::dir::Type::BlockDevice) => Kind::BlockDevice,
            // File systems may leave the type out.
            None => match stat_child(folder.as_fd(), name) {
                Ok(stat) => stat.kind,
                Err(Errno::ENOENT) => continue,
                Err(_) => Kind::Unknown,
            },
        };
        entry(name, kind);
    }
    Ok(())
}

/// Whether a file system's own change time can be believed. Only file systems known to keep it are: network
/// file systems, FUSE, 9p and FAT are not among them, nor is what is not known.
pub(super) fn keeps_change_time(fd: BorrowedFd<'_>) -> bool {
    // Numbers of linux/magic.h and of the file systems' own headers.
    const LOCAL: [i64; 20] = [
        0xEF53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683E, // btrfs
        0x0102_1994, // tmpfs
        0x794C_7630, // overlayfs
        0x2FC1_2FC1, // zfs
        0xF2F5_2010, // f2fs
        0x8584_58F6, // ramfs
        0xCA45_1A4E, // bcachefs
        0x7371_7368, // squashfs
        0xE0F5_E1E2, // erofs
        0x9660,      // iso9660
        0x1501_3346, // udf
        0x3153_464A, // jfs
        0x5265_4973, // reiserfs
        0x3434,      // nilfs2
        0x2405_1905, // ubifs
        0xF15F,      // ecryptfs
        0x6175_6673, // aufs
        0x72B6,      // jffs2
    ];
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // the type differs between platforms
    nix::sys::statfs::fstatfs(fd).is_ok_and(|stat| LOCAL.contains(&(stat.filesystem_type().0 as i64)))
}

/// The folder whose tree is recorded.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    /// Whether the kernel has `openat2`.
    beneath: bool,
}

impl Root {
    /// Opens the root. Links on the way to it are followed: the caller names it.
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let fd = open(path, folder_flags() & !OFlag::O_NOFOLLOW, Mode::empty())?;
        let beneath = openat2(&fd, ".", how(step_flags())).is_ok();
        Ok(Self { fd, beneath })
    }

    /// As on a kernel without `openat2`.
    #[cfg(test)]
    pub(super) fn without_openat2(mut self) -> Self {
        self.beneath = false;
        self
    }

    /// Opens the folder at `path` (relative, with or without a final `/`, empty for the root).
    pub(super) fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = trim(path);
        if path.is_empty() {
            return openat(&self.fd, ".", folder_flags(), Mode::empty());
        }
        self.reach(path, folder_flags())
    }

    /// Opens the file at `path` for reading.
    pub(super) fn open_file(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.reach(path, file_flags())
    }

    /// Key and kind of the entry at `path`; the last component is not followed. Folders on the way are: whoever
    /// relies on the answer has looked at them.
    pub(super) fn stat(&self, path: &[u8]) -> Result<Stat, Errno> {
        let path = trim(path);
        if path.is_empty() {
            return stat_fd(self.fd.as_fd());
        }
        if path.len() <= ONE_CALL {
            return stat_child(self.fd.as_fd(), path);
        }
        let (folder, name) = self.parent(path)?;
        stat_child(folder.as_fd(), name)
    }

    /// Text of the link at `path`.
    pub(super) fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        use std::os::unix::ffi::OsStringExt;
        let text = if path.len() <= ONE_CALL {
            readlinkat(&self.fd, path)
        } else {
            let (folder, name) = self.parent(path)?;
            readlinkat(&folder, name)
        };
        text.map(OsStringExt::into_vec)
    }

    /// The folder that holds the last component of a path, and that component.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Errno> {
        match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Ok((self.reach(&path[..slash], step_flags())?, &path[slash + 1..])),
            None => Ok((openat(&self.fd, ".", step_flags(), Mode::empty())?, path)),
        }
    }

    fn reach(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let mut folder: Option<OwnedFd> = None;
        let mut rest = path;
        loop {
            let base = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let (piece, after) = self.piece(rest)?;
            let opened = match (after.is_empty(), self.beneath) {
                (true, true) => return openat2(base, piece, how(flags)),
                (true, false) => return openat(base, piece, flags, Mode::empty()),
                (false, true) => openat2(base, piece, how(step_flags()))?,
                (false, false) => openat(base, piece, step_flags(), Mode::empty())?,
            };
            folder = Some(opened);
            rest = after;
        }
    }

    /// The part of `path` that one call opens, and what is left after it.
    fn piece<'p>(&self, path: &'p [u8]) -> Result<(&'p [u8], &'p [u8]), Errno> {
        let cut = if !self.beneath {
            path.iter().position(|&byte| byte == b'/')
        } else if path.len() > ONE_CALL {
            Some(path[..ONE_CALL].iter().rposition(|&byte| byte == b'/').ok_or(Errno::ENAMETOOLONG)?)
        } else {
            None
        };
        Ok(cut.map_or((path, &[][..]), |at| (&path[..at], &path[at + 1..])))
    }
}

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

fn trim(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}
