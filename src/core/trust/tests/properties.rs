//! No single bit of a good envelope can be changed unnoticed.

use proptest::prelude::*;

use super::super::*;
use super::{envelope, policy};

/// What is proven of the only signer.
fn proven(trust: &Trust, envelope: Envelope) -> Option<(Identity, Option<ProvenTime>)> {
    let checked = trust.check(envelope).ok()?;
    let [proof] = checked.signers() else { panic!("one signer") };
    Some((proof.identity.clone(), proof.time.clone()))
}

/// The parts of the envelope that a check relies on, one after the other.
fn parts(envelope: &mut Envelope) -> Vec<&mut Vec<u8>> {
    let Envelope { payload, signatures, .. } = envelope;
    let signature = &mut signatures[0];
    let certificate = signature.certificate.as_mut().expect("has one");
    let mut parts = vec![payload, &mut signature.sig, certificate, &mut signature.timestamps[0].data];
    parts.extend(signature.intermediates.iter_mut());
    parts
}

fn flipped(envelope: &Envelope, part: usize, bit: usize) -> Envelope {
    let mut envelope = envelope.clone();
    let mut parts = parts(&mut envelope);
    let bytes = &mut *parts[part];
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    envelope
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bit_of_evidence_can_be_flipped(part in 0..5_usize, bit in any::<prop::sample::Index>()) {
        for peer in ["cilock", "witness"] {
            let (trust, _) = policy(&format!("{peer}/policy-good.signed.json"));
            let good = envelope(&format!("{peer}/good.json"));
            let flipped = flipped(&good, part, bit.index(usize::MAX));
            prop_assert_eq!(proven(&trust, flipped), None);
        }
    }

    #[test]
    fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let (trust, _) = policy("cilock/policy-good.signed.json");
        let _ = Certificate::read(&bytes);
        let _ = Certificate::from_der(&bytes);
        let _ = timestamp::verify(&bytes, b"", &trust.authorities);
        let _ = timestamp::token_of_response(&bytes);
    }

    #[test]
    fn damaged_structures_make_no_panic(part in 1..5_usize, cut in any::<prop::sample::Index>(), byte in any::<u8>(), place in any::<prop::sample::Index>()) {
        let (trust, _) = policy("cilock/policy-good.signed.json");
        let mut damaged = envelope("cilock/good.json");
        let mut all = parts(&mut damaged);
        let bytes = &mut *all[part];
        let place = place.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len() * 2));
        let _ = trust.check(damaged);
    }
}

#[test]
#[ignore = "every bit: minutes in a debug build"]
fn no_bit_at_all_can_be_flipped() {
    for peer in ["cilock", "witness"] {
        let (trust, _) = policy(&format!("{peer}/policy-good.signed.json"));
        let mut good = envelope(&format!("{peer}/good.json"));
        assert!(proven(&trust, good.clone()).is_some());
        let sizes: Vec<usize> = parts(&mut good).iter().map(|part| part.len() * 8).collect();
        for (part, bits) in sizes.into_iter().enumerate() {
            for bit in 0..bits {
                assert_eq!(proven(&trust, flipped(&good, part, bit)), None, "{peer}: part {part}, bit {bit}");
            }
        }
    }
}
