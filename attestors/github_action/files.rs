//! The files by which a step tells GitHub's runner something: `GITHUB_OUTPUT`, `GITHUB_ENV`.
//!
//! Source: "Workflow commands for GitHub Actions" (docs.github.com): `NAME=VALUE`, or `NAME<<DELIMITER`, lines, and the
//! delimiter on a line of its own.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Names and values, in their order.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let wrong = |reason: &str| format!("line {}: {reason}", index + 1);
        if line.is_empty() {
            continue;
        }
        let (plain, long) = (line.find('='), line.find("<<"));
        let (name, value) = match (plain, long) {
            (Some(plain), long) if long.is_none_or(|long| plain < long) => {
                (&line[..plain], line[plain + 1..].to_owned())
            }
            (_, Some(long)) => {
                let (name, delimiter) = (&line[..long], &line[long + 2..]);
                if delimiter.is_empty() {
                    return Err(wrong("there is no delimiter behind `<<`"));
                }
                let mut value: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line == delimiter => break,
                        Some((_, line)) => value.push(line),
                        None => return Err(wrong("the delimiter that ends the value is missing")),
                    }
                }
                (name, value.join("\n"))
            }
            _ => return Err(wrong("there is neither `=` nor `<<`")),
        };
        if name.is_empty() {
            return Err(wrong("there is no name"));
        }
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// The text of a regular file of at most `limit` bytes. A FIFO does not hang.
pub fn read(path: &Path, limit: u64) -> io::Result<String> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let pairs = |text: &str| parse(text).expect("pairs");
        let own = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(pairs("a=1\r\n\nb=x=y<<z\n"), own(&[("a", "1"), ("b", "x=y<<z")]));
        assert_eq!(pairs("a<<E=F\n1\n\nE\nE=F\nb<<E\nE\n"), own(&[("a", "1\n\nE"), ("b", "")]));
        for bad in ["a", "=b", "<<E\nE", "a<<", "a<<E\nb\n EOF"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_regular_files_of_some_size_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("f");
        std::fs::write(&file, "1234").expect("written");
        assert_eq!(read(&file, 4).expect("read"), "1234");
        assert!(read(&file, 3).is_err() && read(folder.path(), 3).is_err());
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("made");
        assert!(read(&fifo, 3).is_err());
    }
}
