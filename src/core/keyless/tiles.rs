//! An entry that a log of the second generation has already, with its proof, computed from the log's tiles.
//!
//! Source: C2SP `tlog-tiles` and `tlog-checkpoint`; RFC 6962 §2.1, §2.1.1; sigstore/rekor-tiles, "Reading".

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::rekor::{LogEntry, RekorError, Submission, Verifier, Version, details, malformed};
use crate::sigstore::note::Checkpoint;
use crate::sigstore::tree::{Hash, node_hash};

/// Where the checkpoint is, below the service's address.
pub const CHECKPOINT: &str = "/api/v2/checkpoint";
/// Where tiles are.
pub const TILES: &str = "/api/v2/tile";
/// Hashes of a whole tile.
pub const WIDTH: u64 = 256;
/// Length in bytes of a whole tile.
pub const MAX_TILE: usize = 256 * 32;
/// Levels of a tree in one tile.
const HEIGHT: u32 = 8;

/// A tile: its level counted from the leaves in steps of eight, its place, and how many hashes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// Its level.
    pub level: u32,
    /// Its place.
    pub index: u64,
    /// 1 to [`WIDTH`]; fewer at the right edge.
    pub width: u64,
}

impl Tile {
    /// Its path below [`TILES`]: `/<level>/x001/x234/067`, and `.p/<width>` at the end where it is not whole.
    pub fn path(&self) -> String {
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.insert(0, format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        let partial = if self.width < WIDTH { format!(".p/{}", self.width) } else { String::new() };
        format!("/{}/{}{partial}", self.level, groups.join("/"))
    }

    /// The same, where the log keeps the whole one only, as it may once there is one.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { width: WIDTH, ..self }
    }
}

/// Gives the bytes of a tile: its hashes, and maybe more of a whole one.
pub type Read<'a, E> = &'a mut dyn FnMut(Tile) -> Result<Vec<u8>, E>;

struct Tree<'a, E> {
    size: u64,
    read: Read<'a, E>,
    held: BTreeMap<(u32, u64), Vec<Hash>>,
}

impl<E: From<RekorError>> Tree<'_, E> {
    fn tile(&mut self, level: u32, index: u64) -> Result<&[Hash], E> {
        if !self.held.contains_key(&(level, index)) {
            let there = self.size >> (HEIGHT * level);
            let width = WIDTH.min(there - index * WIDTH);
            let bytes = (self.read)(Tile { level, index, width })?;
            let count = usize::try_from(width).unwrap_or_default();
            let hashes: Vec<Hash> = bytes.as_chunks::<32>().0.iter().take(count).copied().collect();
            if hashes.len() < count || bytes.len() > MAX_TILE {
                return Err(malformed(format!("a tile of {} bytes", bytes.len())).into());
            }
            self.held.insert((level, index), hashes);
        }
        Ok(&self.held[&(level, index)])
    }

    /// The hash of 2^`height` leaves, of which the first is number `place` * 2^`height`.
    fn complete(&mut self, height: u32, place: u64) -> Result<Hash, E> {
        let (level, above) = (height / HEIGHT, height % HEIGHT);
        let first = place << above;
        let tile = self.tile(level, first / WIDTH)?;
        let start = usize::try_from(first % WIDTH).unwrap_or_default();
        let mut hashes = tile[start..start + (1 << above)].to_vec();
        while hashes.len() > 1 {
            hashes = hashes.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
        }
        Ok(hashes[0])
    }

    /// The hash of the leaves from `from` to before `to`.
    fn subtree(&mut self, from: u64, to: u64) -> Result<Hash, E> {
        let count = to - from;
        if count.is_power_of_two() {
            return self.complete(count.trailing_zeros(), from / count);
        }
        let split = from + count.next_power_of_two() / 2;
        let (left, right) = (self.subtree(from, split)?, self.subtree(split, to)?);
        Ok(node_hash(&left, &right))
    }
}

/// Most entries of a tree.
const MAX_SIZE: u64 = 1 << 62;

/// The hashes that show that a leaf is in a tree, from the leaf upwards.
pub fn inclusion<E: From<RekorError>>(index: u64, size: u64, read: Read<'_, E>) -> Result<Vec<Hash>, E> {
    // A tree of more entries than that there is nowhere, and its halves could not be counted.
    if index >= size || size > MAX_SIZE {
        return Err(RekorError::Proof {
            reason: format!("its tree has {size} entries, and this one is number {index}"),
        }
        .into());
    }
    let mut tree = Tree { size, read, held: BTreeMap::new() };
    let (mut from, mut to) = (0, size);
    let mut hashes = Vec::new();
    while to - from > 1 {
        let split = from + (to - from).next_power_of_two() / 2;
        if index < split {
            hashes.push(tree.subtree(split, to)?);
            to = split;
        } else {
            hashes.push(tree.subtree(from, split)?);
            from = split;
        }
    }
    hashes.reverse();
    Ok(hashes)
}

/// What a log says of its tree: how many entries it has. Whether the log has signed it is another question.
pub fn size_of(note: &str) -> Result<u64, RekorError> {
    Checkpoint::parse(note).map(|checkpoint| checkpoint.size).map_err(|error| malformed(error.to_string()))
}

impl Submission<'_> {
    /// The entry of this submission in a log of the second generation, as the log would have answered: at this place, with
    /// this checkpoint and proof.
    pub fn found(&self, log: &[u8], index: u64, note: &str, hashes: &[Hash]) -> Result<LogEntry, RekorError> {
        let checkpoint = Checkpoint::parse(note).map_err(|error| malformed(error.to_string()))?;
        let hashes: Vec<_> = hashes.iter().map(|hash| STANDARD.encode(hash)).collect();
        let answer = json!({
            "logIndex": index.to_string(),
            "logId": { "keyId": STANDARD.encode(log) },
            "kindVersion": { "kind": "hashedrekord", "version": "0.0.2" },
            "inclusionProof": {
                "logIndex": index.to_string(), "rootHash": STANDARD.encode(checkpoint.root),
                "treeSize": checkpoint.size.to_string(), "hashes": hashes, "checkpoint": { "envelope": note },
            },
            "canonicalizedBody": STANDARD.encode(self.leaf()?),
        });
        self.answer(Version::Two, answer.to_string().as_bytes())
    }

    /// What a log of the second generation keeps of it (RFC 8785). No text in it needs an escape.
    fn leaf(&self) -> Result<String, RekorError> {
        let (details, name, der) = match self.verifier {
            Verifier::Certificate(certificate) => {
                (details(certificate.public_key())?, "x509Certificate", certificate.der())
            }
            Verifier::Key(key) => (details(key)?, "publicKey", key.to_der()),
        };
        Ok(format!(
            concat!(
                r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{{"hashedRekordV002":{{"#,
                r#""data":{{"algorithm":"SHA2_256","digest":"{}"}},"signature":{{"content":"{}","verifier":{{"#,
                r#""keyDetails":"{}","{}":{{"rawBytes":"{}"}}}}}}}}}}}}"#
            ),
            STANDARD.encode(self.sha256),
            STANDARD.encode(self.signature),
            details,
            name,
            STANDARD.encode(der),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigstore::tree::{check_inclusion, leaf_hash};

    /// All levels of a tree: complete nodes only.
    fn levels(leaves: &[Hash]) -> Vec<Vec<Hash>> {
        let mut levels = vec![leaves.to_vec()];
        while levels[levels.len() - 1].len() > 1 {
            let pairs = levels[levels.len() - 1].as_chunks::<2>().0;
            let above = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
            levels.push(above);
        }
        levels
    }

    fn tile(levels: &[Vec<Hash>], tile: Tile) -> Vec<u8> {
        let level = &levels[usize::try_from(HEIGHT * tile.level).expect("small")];
        let from = usize::try_from(tile.index * WIDTH).expect("small");
        level[from..from + usize::try_from(tile.width).expect("small")].concat()
    }

    fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                node_hash(&root(left), &root(right))
            }
        }
    }

    #[test]
    fn a_proof_from_tiles_leads_to_the_root() {
        let all: Vec<Hash> = (0..70_000_u32).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        for size in [1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 600, 1000, 65_536, 70_000] {
            let leaves = &all[..size];
            let (root, levels) = (root(leaves), levels(leaves));
            for index in [0, 1, 2, size / 3, size / 2, size.saturating_sub(2), size - 1] {
                if index >= size {
                    continue;
                }
                let mut asked = 0;
                let hashes = inclusion::<RekorError>(index as u64, size as u64, &mut |one| {
                    asked += 1;
                    Ok(tile(&levels, one))
                })
                .expect("tiles");
                check_inclusion(index as u64, size as u64, &leaves[index], &hashes, &root).expect("in the tree");
                assert!(asked <= 6, "{asked} tiles for {index} of {size}");
            }
        }
        let none = inclusion::<RekorError>(3, 3, &mut |_| Ok(Vec::new()));
        assert!(matches!(none, Err(RekorError::Proof { .. })));
        // What a log says of its size is not proven yet.
        for size in [u64::MAX, (1 << 63) + 1, MAX_SIZE + 1] {
            let none = inclusion::<RekorError>(3, size, &mut |_| panic!("nothing is asked"));
            assert!(matches!(none, Err(RekorError::Proof { .. })), "{size}");
        }
        let short = inclusion::<RekorError>(0, 3, &mut |_| Ok(vec![0; 64]));
        assert!(matches!(short, Err(RekorError::Malformed { .. })));
        // A whole tile in the place of a part of it does as well.
        let whole = inclusion::<RekorError>(1, 3, &mut |_| Ok(all[..256].concat())).expect("tiles");
        check_inclusion(1, 3, &all[1], &whole, &root(&all[..3])).expect("in the tree");
    }

    /// What is found in tiles is what the log itself has answered.
    #[test]
    fn what_is_found_is_what_the_log_answered() {
        const RECORDED: &str = include_str!("../../../fixtures/cosign/api/rekor2-hashedrekord-cert-pae.json");
        let record: serde_json::Value = serde_json::from_str(RECORDED).expect("JSON");
        let base64 = |value: &serde_json::Value| STANDARD.decode(value.as_str().expect("text")).expect("base64");
        let (request, answer) = (&record["request"]["hashedRekordRequestV002"], &record["response"]);
        let signature = base64(&request["signature"]["content"]);
        let der = base64(&request["signature"]["verifier"]["x509Certificate"]["rawBytes"]);
        let certificate = crate::trust::Certificate::from_der(&der).expect("a certificate");
        let submission = Submission {
            message: &[],
            sha256: base64(&request["digest"]).try_into().expect("32 bytes"),
            signature: &signature,
            verifier: Verifier::Certificate(&certificate),
            envelope: None,
        };
        let proof = &answer["inclusionProof"];
        let hashes: Vec<Hash> = proof["hashes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|hash| base64(hash).try_into().expect("32 bytes"))
            .collect();
        let note = proof["checkpoint"]["envelope"].as_str().expect("text");
        let index = answer["logIndex"].as_str().unwrap_or("0").parse().expect("a number");
        let log = base64(&answer["logId"]["keyId"]);
        let found = submission.found(&log, index, note, &hashes).expect("an entry");
        let told = submission.answer(Version::Two, answer.to_string().as_bytes()).expect("an entry");
        assert_eq!(found.bundled, told.bundled);
        assert!(submission.found(&log, index + 1, note, &hashes).is_err());
    }

    #[test]
    fn tiles_have_the_names_of_their_specification() {
        let path = |level, index, width| Tile { level, index, width }.path();
        assert_eq!(path(0, 1_234_067, 256), "/0/x001/x234/067");
        assert_eq!(path(0, 1_234_067, 8), "/0/x001/x234/067.p/8");
        assert_eq!(path(1, 0, 1), "/1/000.p/1");
        assert_eq!(Tile { level: 0, index: 273, width: 112 }.whole().path(), "/0/273");
    }
}
