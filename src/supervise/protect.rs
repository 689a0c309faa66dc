//! Keeping what this process knows from the command and from others of the same account.

use std::ffi::CStr;
use std::io;

use nix::errno::Errno;
use nix::libc;

/// Keeps others of the same user out of this process's memory (`PR_SET_DUMPABLE` 0): no core dump, no ptrace, and
/// `/proc/self/mem` belongs to root. The child is not affected, since an exec resets it.
///
/// To be called early by a process that holds keys.
///
/// # Errors
/// When the kernel refuses, which it does not.
pub fn protect_process() -> io::Result<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    Ok(())
}

unsafe extern "C" {
    /// The environment as the C library knows it: pointers to `NAME=value`, the last one null.
    static mut environ: *mut *mut libc::c_char;
}

/// Overwrites the values of these variables of this process where the kernel put them, so that they are not in
/// `/proc/<pid>/environ` any more: that file is readable for root whatever [`protect_process`] says. The variables are
/// empty afterwards.
///
/// Does nothing when the process has other threads already, or when there is no `/proc` to ask (and to read from).
pub fn wipe_variables<S: AsRef<str>>(names: &[S]) {
    if !has_one_thread() {
        return;
    }
    // SAFETY: the process has one thread, so nobody else reads or moves the environment. Each entry is a string that
    // ends with a zero byte; only bytes before that one are written, so that it stays the end.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            let bytes = CStr::from_ptr(text).to_bytes();
            let length = bytes.len();
            let wanted = names
                .iter()
                .map(|name| name.as_ref().as_bytes())
                .find(|name| bytes.get(..name.len()) == Some(*name) && bytes.get(name.len()) == Some(&b'='));
            if let Some(name) = wanted {
                for at in name.len() + 1..length {
                    std::ptr::write_volatile(text.add(at), 0);
                }
            }
            entry = entry.add(1);
        }
    }
}

/// Overwrites these texts in the arguments of this process where the kernel put them, so that they are not in
/// `/proc/<pid>/cmdline` any more, which everybody can read. What was parsed of the arguments stays as it is.
///
/// Does nothing, and says `false`, when the process has other threads already, or when there is no `/proc` to ask (and to
/// read from).
#[must_use]
pub fn wipe_arguments<S: AsRef<[u8]>>(texts: &[S]) -> bool {
    if texts.is_empty() {
        return true;
    }
    if !has_one_thread() {
        return false;
    }
    let Some((start, end)) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(arguments) else {
        return false;
    };
    // SAFETY: the kernel says that the strings of the arguments lie between these two addresses of this process, which are
    // on its stack and stay there as long as it lives. It has one thread, so nobody else reads them meanwhile.
    unsafe {
        let area = std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(start), end - start).to_vec();
        for text in texts.iter().map(AsRef::as_ref).filter(|text| !text.is_empty()) {
            for at in (0..area.len()).filter(|at| area[*at..].starts_with(text)) {
                let place = std::ptr::with_exposed_provenance_mut::<u8>(start + at);
                for offset in 0..text.len() {
                    std::ptr::write_volatile(place.add(offset), b'*');
                }
            }
        }
    }
    true
}

/// First address of the arguments, and the one behind them: fields 48 and 49 of `/proc/<pid>/stat` (proc(5)).
fn arguments(text: &str) -> Option<(usize, usize)> {
    // The name of the program, the second field, may hold blanks and brackets.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(48 - 3);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start != 0 && start < end).then_some((start, end))
}

fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_where_the_kernel_says() {
        let text = std::fs::read_to_string("/proc/self/stat").expect("there is a /proc");
        let (start, end) = arguments(&text).expect("this process has arguments");
        let length = std::fs::read("/proc/self/cmdline").expect("readable").len();
        assert_eq!(end - start, length);
        assert_eq!(arguments("1 (a) b) S 1"), None);
        assert_eq!(arguments(""), None);
    }

    #[test]
    fn what_could_not_be_wiped_is_told() {
        assert!(wipe_arguments::<&[u8]>(&[]), "there is nothing to wipe");
        // Tests run in threads of their own, so there are two at least.
        assert!(!wipe_arguments(&["--a text that no argument has"]));
    }

    #[test]
    fn key_isolation() {
        protect_process().expect("a process may always do this");
        // SAFETY: takes a number only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 0);
    }
}
