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

fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_isolation() {
        protect_process().expect("a process may always do this");
        // SAFETY: takes a number only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 0);
    }
}
