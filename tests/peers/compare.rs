//! Where two payloads differ.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::short;

/// Pointers to what differs. Entries of the collection are called by their short name, so `/oci/tardigest/sha256` and not
/// `/predicate/attestations/6/attestation/…`; a slash in a name is `~1`; members that only one side has end in `/NAME+`.
pub(crate) fn differing(left: &Value, right: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    compare(left, right, "", &mut found);
    found
}

fn compare(left: &Value, right: &Value, at: &str, found: &mut BTreeSet<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            if let (Some(kind), Some(other)) = (a.get("type"), b.get("type"))
                && kind == other
                && let Some(kind) = kind.as_str()
                && let (Some(one), Some(two)) = (a.get("attestation"), b.get("attestation"))
            {
                compare(one, two, &format!("/{}", short(kind)), found);
                let without = |map: &serde_json::Map<String, Value>| {
                    let mut map = map.clone();
                    map.remove("attestation");
                    Value::Object(map)
                };
                if without(a) != without(b) {
                    found.insert(format!("/{}!", short(kind)));
                }
                return;
            }
            for name in a.keys().chain(b.keys()) {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                match (a.get(name), b.get(name)) {
                    (Some(one), Some(two)) => compare(one, two, &at, found),
                    _ => {
                        found.insert(format!("{at}+"));
                    }
                }
            }
            // The order of members is part of the bytes.
            if a.len() == b.len() && a.keys().ne(b.keys()) && a.keys().all(|name| b.contains_key(name)) {
                found.insert(format!("{at}~"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if a.len() != b.len() {
                found.insert(format!("{at}/#"));
            }
            for (number, (one, two)) in a.iter().zip(b).enumerate() {
                compare(one, two, &format!("{at}/{number}"), found);
            }
        }
        _ if left == right => {}
        _ => {
            found.insert(at.to_owned());
        }
    }
}

/// Those of the pointers that no pattern covers; `*` stands for one name or number.
pub(crate) fn beyond(found: &BTreeSet<String>, allowed: &[&str]) -> Vec<String> {
    let covered = |pointer: &str| {
        allowed.iter().any(|pattern| {
            let (mut parts, mut given) = (pattern.split('/'), split(pointer));
            loop {
                match (parts.next(), given.next()) {
                    (None, None) => return true,
                    (Some(part), Some(name)) if part == "*" || part == name => {}
                    _ => return false,
                }
            }
        })
    };
    found.iter().filter(|pointer| !covered(pointer)).cloned().collect()
}

fn split(pointer: &str) -> impl Iterator<Item = &str> {
    pointer.split('/')
}

#[test]
fn pointers_name_what_differs() {
    let of = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let one = of(
        r#"{"a":{"x":1,"y":[1,2]},"l":[{"type":"https://witness.dev/attestations/oci/v0.1","attestation":{"d":1}}]}"#,
    );
    let two = of(
        r#"{"a":{"y":[1,3,4],"z":1},"l":[{"type":"https://witness.dev/attestations/oci/v0.1","attestation":{"d":2}}]}"#,
    );
    let found = differing(&one, &two);
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["/a/x+", "/a/y/#", "/a/y/1", "/a/z+", "/oci/d"]);
    assert_eq!(beyond(&found, &["/a/y/*", "/a/*", "/oci/d"]), Vec::<String>::new());
    assert_eq!(beyond(&found, &["/a/y/1", "/oci"]), ["/a/x+", "/a/y/#", "/a/z+", "/oci/d"]);
    assert_eq!(differing(&of(r#"{"a":1,"b":2}"#), &of(r#"{"b":2,"a":1}"#)), ["~".to_owned()].into());
    assert!(differing(&one, &one).is_empty());
}
