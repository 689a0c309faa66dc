//! Inclusion in a Merkle tree.
//!
//! Source: RFC 6962 §2.1; RFC 9162 §2.1.3.2.

use crate::digest::sha256;

/// A hash of a leaf, a node or a tree.
pub type Hash = [u8; 32];

/// Most hashes of a proof: a tree of 2^64 leaves needs so many.
pub const MAX_HASHES: usize = 64;

/// A proof does not show that a leaf is in a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The place is outside of the tree.
    #[error("place {index} is not in a tree of {size}")]
    Outside {
        /// Place of the leaf.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// A proof for this place has another length.
    #[error("{found} hashes, a proof of place {index} in a tree of {size} has {expected}")]
    Length {
        /// Place of the leaf.
        index: u64,
        /// Leaves of the tree.
        size: u64,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// It leads to another root.
    #[error("it leads to the root {found}, the tree has {expected}")]
    Root {
        /// The root of the tree, in hex.
        expected: String,
        /// Where the proof leads, in hex.
        found: String,
    },
}

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf].concat())
}

/// The hash of a node above two others.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    sha256(&bytes)
}

/// Whether `hashes` show that the leaf with this hash is at `index` in the tree of `size` leaves with this `root`.
pub fn check_inclusion(index: u64, size: u64, leaf: &Hash, hashes: &[Hash], root: &Hash) -> Result<(), TreeError> {
    if index >= size {
        return Err(TreeError::Outside { index, size });
    }
    let expected = proof_length(index, size);
    if hashes.len() != expected {
        return Err(TreeError::Length { index, size, found: hashes.len(), expected });
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in hashes {
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            // Where the right edge has no sibling on a level, nothing is hashed there.
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if hash == *root {
        return Ok(());
    }
    Err(TreeError::Root { expected: hex::encode(root), found: hex::encode(hash) })
}

/// How many hashes a proof has: one for each level below the one where the path to the leaf and the right edge of the tree
/// part, and one for each full tree to the left above.
fn proof_length(index: u64, size: u64) -> usize {
    let parts = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let left = index.checked_shr(parts).unwrap_or(0).count_ones();
    (parts + left) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1 as it is written there.
    fn tree_hash(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&tree_hash(left), &tree_hash(right))
            }
        }
    }

    /// RFC 6962 §2.1.1 as it is written there.
    fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let (mut found, other) =
            if index < half { (path(index, left), right) } else { (path(index - half, right), left) };
        found.push(tree_hash(other));
        found
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_found_at_its_place_alone() {
        let leaves: Vec<Hash> = (0..33_u8).map(|n| leaf_hash(&[n])).collect();
        for size in 1..=leaves.len() {
            let leaves = &leaves[..size];
            let root = tree_hash(leaves);
            for index in 0..size {
                let hashes = path(index, leaves);
                let check = |index: usize, size: usize, hashes: &[Hash], root: &Hash| {
                    check_inclusion(index as u64, size as u64, &leaves[index.min(leaves.len() - 1)], hashes, root)
                };
                assert_eq!(check(index, size, &hashes, &root), Ok(()), "{index} of {size}");
                for other in 0..size + 2 {
                    let proof = check_inclusion(other as u64, size as u64, &leaves[index], &hashes, &root);
                    assert_eq!(proof.is_ok(), other == index, "{index} of {size} shown at {other}");
                }
                let longer: Vec<Hash> = hashes.iter().copied().chain([root]).collect();
                assert!(matches!(check(index, size, &longer, &root), Err(TreeError::Length { .. })));
                if let Some((_, shorter)) = hashes.split_last() {
                    assert!(matches!(check(index, size, shorter, &root), Err(TreeError::Length { .. })));
                }
                for at in 0..hashes.len() {
                    let mut turned = hashes.clone();
                    turned[at][31] ^= 1;
                    assert!(matches!(check(index, size, &turned, &root), Err(TreeError::Root { .. })));
                }
            }
        }
    }

    #[test]
    fn the_largest_numbers_are_only_numbers() {
        let hash = [0; 32];
        assert!(matches!(check_inclusion(0, 0, &hash, &[], &hash), Err(TreeError::Outside { .. })));
        assert!(matches!(check_inclusion(u64::MAX, u64::MAX, &hash, &[], &hash), Err(TreeError::Outside { .. })));
        let long = [hash; MAX_HASHES];
        assert!(matches!(check_inclusion(u64::MAX - 1, u64::MAX, &hash, &long, &hash), Err(TreeError::Length { .. })));
        assert!(matches!(check_inclusion(0, u64::MAX, &hash, &long, &hash), Err(TreeError::Root { .. })));
    }
}
