//! Checkpoints: how large a log's tree is and what its root is, as a note that the log has signed.
//!
//! Source: C2SP `signed-note` and `tlog-checkpoint`; sigstore-oci §8, §9.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::root::Log;
use super::tree::Hash;
use crate::evidence::strict;

/// Longest checkpoint, in bytes.
pub const MAX_CHECKPOINT: usize = 64 * 1024;
/// Most signatures of a checkpoint: witnesses may add theirs.
pub const MAX_SIGNATURES: usize = 64;

/// What stands before each signature.
const DASH: &str = "\u{2014} ";

/// A checkpoint proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It cannot be read.
    #[error("no checkpoint: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It is one of another log.
    #[error("it is by {}, and the log is {}", strict::shown(.found), strict::shown(.expected))]
    Origin {
        /// The name of the log.
        expected: String,
        /// The name in the note.
        found: String,
    },
    /// The log has not signed it.
    #[error("it has no signature by the log's key {key}")]
    NotSigned {
        /// First bytes of the log's id, in hex.
        key: String,
    },
    /// A signature that names the log's key does not hold.
    #[error("its signature by the log's key {key} does not hold")]
    BadSignature {
        /// First bytes of the log's id, in hex.
        key: String,
    },
}

fn malformed(reason: impl Into<String>) -> NoteError {
    NoteError::Malformed { reason: reason.into() }
}

/// A checkpoint that was read; nothing is proven before one of the `verify` functions says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint<'a> {
    /// How the log calls itself.
    pub origin: &'a str,
    /// How many leaves the tree has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// What is signed, with the newline at its end.
    text: &'a str,
    signatures: Vec<Line<'a>>,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line<'a> {
    name: &'a str,
    key: [u8; 4],
    signature: Vec<u8>,
}

impl<'a> Checkpoint<'a> {
    /// Takes a checkpoint apart. Lines after the root are part of what is signed and not looked at.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > MAX_CHECKPOINT {
            return Err(malformed(format!("{} bytes; {MAX_CHECKPOINT} are read", note.len())));
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(malformed("a control character"));
        }
        let split = note.rfind("\n\n").ok_or_else(|| malformed("no empty line before the signatures"))?;
        let (text, signatures) = (&note[..=split], &note[split + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or_else(|| malformed("the last line has no end"))?;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty()).ok_or_else(|| malformed("it has no origin"))?;
        let size = lines.next().and_then(number).ok_or_else(|| malformed("its second line is no size of a tree"))?;
        let root = lines.next().and_then(|line| STANDARD.decode(line).ok()?.try_into().ok());
        let root = root.ok_or_else(|| malformed("its third line is no root of a tree"))?;
        let signatures: Vec<&str> = signatures.split('\n').collect();
        if signatures.len() > MAX_SIGNATURES {
            return Err(malformed(format!("{} signatures; {MAX_SIGNATURES} are read", signatures.len())));
        }
        let signatures = signatures.into_iter().map(Line::parse).collect::<Result<_, _>>()?;
        Ok(Self { origin, size, root, text, signatures })
    }

    /// Whether a log of tiles has signed it: under its own name, with its own key.
    pub fn verify_tiled(&self, log: &Log) -> Result<(), NoteError> {
        let other = |found: &str| NoteError::Origin { expected: log.origin.clone(), found: found.to_owned() };
        if self.origin != log.origin {
            return Err(other(self.origin));
        }
        let id = log.tiled_id();
        if let Some(line) = self.signatures.iter().find(|line| line.key == id[..4] && line.name != log.origin) {
            return Err(other(line.name));
        }
        self.verify(log, &id)
    }

    /// Whether Rekor 1 has signed it. Its origin is the name of one of its trees, which no trusted root has.
    pub fn verify_rekor1(&self, log: &Log) -> Result<(), NoteError> {
        self.verify(log, &log.plain_id())
    }

    /// The first signature that names the key counts, as for Go's readers: a stranger cannot make us try many.
    fn verify(&self, log: &Log, id: &Hash) -> Result<(), NoteError> {
        let key = || hex::encode(&id[..4]);
        let line = self.signatures.iter().find(|line| line.key == id[..4]);
        let line = line.ok_or_else(|| NoteError::NotSigned { key: key() })?;
        if log.has_signed(self.text.as_bytes(), &line.signature) {
            Ok(())
        } else {
            Err(NoteError::BadSignature { key: key() })
        }
    }
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix(DASH).ok_or_else(|| malformed("a line that should be a signature"))?;
        let (name, signature) = rest.split_once(' ').ok_or_else(|| malformed("a signature without name"))?;
        if name.is_empty() || name.contains('+') || name.chars().any(char::is_whitespace) {
            return Err(malformed(format!("a signature by {}", strict::shown(name))));
        }
        let bytes = STANDARD.decode(signature).map_err(|_| malformed("a signature that is no base64"))?;
        match bytes.split_first_chunk::<4>() {
            Some((key, signature)) if !signature.is_empty() => {
                Ok(Self { name, key: *key, signature: signature.to_vec() })
            }
            _ => Err(malformed("a signature without key or bytes")),
        }
    }
}

/// A decimal number as everybody writes it.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::root::Window;
    use super::*;
    use crate::sign::{KeyKind, PrivateKey, Signer as _};

    fn signed(text: &str, name: &str, id: &[u8], key: &PrivateKey) -> String {
        let signature = key.sign(&[text.as_bytes()]).expect("signs");
        format!("{text}\n{DASH}{name} {}\n", STANDARD.encode([&id[..4], &signature].concat()))
    }

    fn text(origin: &str) -> String {
        format!("{origin}\n7\n{}\n", STANDARD.encode([9; 32]))
    }

    #[test]
    fn both_kinds_of_logs_sign_notes() {
        let key = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
        let log = Log::tiled("https://log.example:443/a", key.public_key().clone(), Window::default()).expect("a log");
        let note = signed(&text("log.example"), "log.example", &log.id, &key);
        let checkpoint = Checkpoint::parse(&note).expect("a checkpoint");
        assert_eq!((checkpoint.size, checkpoint.root, checkpoint.origin), (7, [9; 32], "log.example"));
        assert_eq!(checkpoint.verify_tiled(&log), Ok(()));
        assert!(matches!(checkpoint.verify_rekor1(&log), Err(NoteError::NotSigned { .. })));
        let other = Log::tiled("https://other.example", key.public_key().clone(), Window::default()).expect("a log");
        assert!(matches!(checkpoint.verify_tiled(&other), Err(NoteError::Origin { .. })));

        let name = signed(&text("log.example"), "log2.example", &log.id, &key);
        assert!(matches!(Checkpoint::parse(&name).expect("read").verify_tiled(&log), Err(NoteError::Origin { .. })));
        let origin = signed(&text("log2.example"), "log.example", &log.id, &key);
        assert!(matches!(Checkpoint::parse(&origin).expect("read").verify_tiled(&log), Err(NoteError::Origin { .. })));

        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let log = Log::new("http://127.0.0.1:3100", key.public_key().clone(), Window::default());
        let note = signed(&format!("{}Timestamp: 1\n", text("r - 12")), "anything", &log.id, &key);
        assert_eq!(Checkpoint::parse(&note).expect("read").verify_rekor1(&log), Ok(()));
        let changed = note.replacen("Timestamp: 1", "Timestamp: 2", 1);
        let verified = Checkpoint::parse(&changed).expect("read").verify_rekor1(&log);
        assert!(matches!(verified, Err(NoteError::BadSignature { .. })));
        // A witness beside it, before and after.
        let (body, line) = note.rsplit_once("\n\n").expect("two parts");
        let witness = format!("{DASH}witness {}", STANDARD.encode([1; 72]));
        let with = format!("{body}\n\n{witness}\n{line}{witness}\n");
        assert_eq!(Checkpoint::parse(&with).expect("read").verify_rekor1(&log), Ok(()));
        // One that names the key and does not hold, before the one that does.
        let bad = format!("{DASH}x {}", STANDARD.encode([&log.id[..4], &[1; 70]].concat()));
        let with = format!("{body}\n\n{bad}\n{line}");
        assert!(Checkpoint::parse(&with).expect("read").verify_rekor1(&log).is_err());
    }

    #[test]
    fn everything_else_is_no_checkpoint() {
        let line = format!("{DASH}n {}\n", STANDARD.encode([0; 9]));
        let root = STANDARD.encode([9; 32]);
        assert!(Checkpoint::parse(&format!("o\n7\n{root}\n\n{line}")).is_ok());
        for bad in [
            String::new(),
            "\n\n".to_owned(),
            format!("\n7\n{root}\n\n{line}"),
            format!("o\n07\n{root}\n\n{line}"),
            format!("o\n+7\n{root}\n\n{line}"),
            format!("o\n-7\n{root}\n\n{line}"),
            format!("o\n\n{root}\n\n{line}"),
            format!("o\n18446744073709551616\n{root}\n\n{line}"),
            format!("o\n7\n{}\n\n{line}", &root[4..]),
            format!("o\n7\n\n{line}"),
            format!("o\n7\n{root}\n{line}"),
            format!("o\n7\n{root}\n\n"),
            format!("o\n7\n{root}\n\n{}", line.trim_end()),
            format!("o\r\n7\n{root}\n\n{line}"),
            format!("o\n7\n{root}\n\n{}", line.replace(DASH, "- ")),
            format!("o\n7\n{root}\n\n{}", line.replace(" n ", " a+b ")),
            format!("o\n7\n{root}\n\n{}", line.replace(" n ", "  ")),
            format!("o\n7\n{root}\n\n{DASH}n AAAAAA==\n"),
            format!("o\n7\n{root}\n\n{}", line.repeat(MAX_SIGNATURES + 1)),
            format!("o\n7\n{root}\n{}\n{line}", "x".repeat(MAX_CHECKPOINT)),
        ] {
            assert!(matches!(Checkpoint::parse(&bad), Err(NoteError::Malformed { .. })), "{bad:.200}");
        }
    }
}
