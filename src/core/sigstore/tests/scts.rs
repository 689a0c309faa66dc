//! Signed certificate timestamps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{certificates, good, trusted};
use crate::sign::{KeyKind, PrivateKey, Signer as _};
use crate::sigstore::*;
use crate::trust::Certificate;

fn leaves() -> Vec<Certificate> {
    good().into_iter().filter_map(|case| case.certificate).collect()
}

/// Fulcio's certificate that signed the leaves.
fn issuer() -> Certificate {
    certificates("trust/fulcio-chain.pem").remove(0)
}

#[test]
fn every_recorded_certificate_is_in_its_log() {
    let (issuer, logs) = (issuer(), trusted().ct_logs);
    let leaves = leaves();
    assert!(leaves.len() >= 9);
    for leaf in &leaves {
        assert_eq!(check_scts(leaf, &issuer, &logs, None), Ok(1), "{leaf:?}");
        let root = &certificates("trust/fulcio-root.pem")[0];
        assert!(matches!(check_scts(leaf, root, &logs, None), Err(SctError::BadSignature { .. })), "another issuer");
        assert_eq!(check_scts(leaf, &issuer, &[], None), Err(SctError::NoLogs));
        let other = PrivateKey::generate(KeyKind::P256).expect("a key");
        let other = Log::new("https://other.example", other.public_key().clone(), Window::default());
        assert!(matches!(
            check_scts(leaf, &issuer, std::slice::from_ref(&other), None),
            Err(SctError::UnknownLog { .. })
        ));
        // Another key under the id of the log that signed.
        let liar = Log { id: logs[0].id.clone(), ..other };
        assert!(matches!(
            check_scts(leaf, &issuer, std::slice::from_ref(&liar), None),
            Err(SctError::BadSignature { .. })
        ));
        assert_eq!(check_scts(leaf, &issuer, &[liar, logs[0].clone()], None), Ok(1), "one that holds is enough");
        // The log signs when the certificate is made.
        for (start, end, good) in [
            (Some(leaf.not_before() - SignedDuration::from_mins(5)), Some(leaf.not_after()), true),
            (Some(leaf.not_after()), None, false),
            (None, Some(leaf.not_before() - SignedDuration::from_mins(5)), false),
        ] {
            let log = Log { window: Window { start, end }, ..logs[0].clone() };
            match check_scts(leaf, &issuer, &[log], None) {
                Ok(1) => assert!(good),
                Err(SctError::Window { .. }) => assert!(!good),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(check_scts(&issuer, &issuer, &logs, None), Err(SctError::NoTimestamp));
}

#[test]
fn another_certificate_is_not_in_the_log() {
    let (issuer, logs) = (issuer(), trusted().ct_logs);
    let leaf = &leaves()[0];
    let mut read = 0;
    for at in 0..leaf.der().len() {
        let mut der = leaf.der().to_vec();
        der[at] ^= 1;
        let Ok(changed) = Certificate::from_der(&der) else { continue };
        read += 1;
        // What stands after the part that is signed is the issuer's signature, which the log cannot know.
        let signed = der.len() - 130;
        if at < signed {
            assert!(check_scts(&changed, &issuer, &logs, None).is_err(), "byte {at}");
        }
    }
    assert!(read > 100, "{read} changed certificates can be read");
}

/// What a log of certificates answers about a whole certificate.
fn detached(leaf: &Certificate, key: &PrivateKey, log: &Log, time: Timestamp, algorithm: [u8; 2]) -> String {
    let mut message = vec![0, 0];
    message.extend(time.as_millisecond().to_be_bytes());
    message.extend([0, 0]);
    message.extend(&u32::try_from(leaf.der().len()).expect("short").to_be_bytes()[1..]);
    message.extend(leaf.der());
    message.extend([0, 2, 7, 7]);
    let signature = key.sign(&[&message]).expect("signs");
    let length = u16::try_from(signature.len()).expect("short").to_be_bytes();
    json!({
        "sct_version": 0, "id": STANDARD.encode(&log.id), "timestamp": time.as_millisecond(),
        "extensions": STANDARD.encode([7, 7]),
        "signature": STANDARD.encode([&algorithm, &length[..], &signature].concat()),
    })
    .to_string()
}

#[test]
fn one_that_comes_beside_the_certificate_is_over_all_of_it() {
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let log = Log::new("https://ct.example", key.public_key().clone(), Window::default());
    let (issuer, leaves) = (issuer(), leaves());
    // A certificate without a list in it.
    let plain = certificates("trust/tsa-chain.pem").remove(0);
    let time = leaves[0].not_before();
    let check =
        |leaf: &Certificate, logs: &[Log], document: &str| check_scts(leaf, &issuer, logs, Some(document.as_bytes()));
    let logs = [log.clone()];
    let document = detached(&plain, &key, &log, time, [4, 3]);
    assert_eq!(check(&plain, &logs, &document), Ok(1));
    assert!(matches!(check(&leaves[0], &logs, &document), Err(SctError::BadSignature { .. })), "another certificate");
    let both = [trusted().ct_logs.remove(0), log.clone()];
    assert_eq!(check(&leaves[0], &both, &detached(&leaves[0], &key, &log, time, [4, 3])), Ok(2), "both kinds");
    assert_eq!(check(&leaves[0], &both, &document), Ok(1), "one that does not hold beside one that does");
    for algorithm in [[4, 1], [2, 3], [5, 3], [0, 0]] {
        let other = detached(&plain, &key, &log, time, algorithm);
        assert!(matches!(check(&plain, &logs, &other), Err(SctError::Algorithm { .. })), "{algorithm:?}");
    }
    // The log knows the certificate since it was issued, not since years before or after.
    let (from, until, second) = (plain.not_before(), plain.not_after(), SignedDuration::from_secs(1));
    for (said, good) in [
        (from, true),
        (from - SignedDuration::from_mins(50), true),
        (from - SignedDuration::from_hours(1) - second, false),
        (from - SignedDuration::from_hours(24 * 365), false),
        (until, true),
        (until + second, false),
        (until + SignedDuration::from_hours(24 * 365), false),
    ] {
        match check(&plain, &logs, &detached(&plain, &key, &log, said, [4, 3])) {
            Ok(1) => assert!(good, "{said}"),
            Err(SctError::Time { .. }) => assert!(!good, "{said}"),
            other => panic!("{said}: {other:?}"),
        }
    }
    let early = Log { window: Window { start: None, end: Some(time - SignedDuration::from_secs(1)) }, ..log };
    assert!(matches!(check(&plain, &[early], &document), Err(SctError::Window { .. })));
    for bad in [
        String::new(),
        "{}".to_owned(),
        document.replacen('{', "{\"x\":1,", 1),
        document.replacen("\"sct_version\":0", "\"sct_version\":1", 1),
        document.replacen("\"sct_version\":0", "\"sct_version\":0,\"sct_version\":0", 1),
        document.replacen("\"signature\":\"", "\"signature\":\"AAAA", 1),
        document.replacen("\"signature\":\"", "\"signature\":\"*", 1),
    ] {
        assert!(matches!(check(&plain, &logs, &bad), Err(SctError::Malformed { .. })), "{bad}");
    }
    let other = document.replacen("\"id\":\"", "\"id\":\"AAAA", 1);
    assert!(matches!(check(&plain, &logs, &other), Err(SctError::UnknownLog { .. })));
}
