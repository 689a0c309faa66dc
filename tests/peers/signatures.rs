//! openssl checks what each kind of key signs.

use crate::harness::{Place, decode, need, text};

#[test]
fn openssl_verifies_each_kind_over_the_pae() {
    need!("openssl", "git");
    let place = Place::new();
    for kind in ["p256", "p384", "p521", "ed25519", "rsa2048", "rsa3072"] {
        place.affiant(&format!("key generate --kind {kind} --no-password -o ../{kind}.pem")).code(0);
        place
            .affiant(&format!("run -k ../{kind}.pem -o ../evidence.json -s tar -a oci -- ./build.sh image.tar"))
            .code(0);
        let evidence = place.evidence("evidence.json");
        let of = text(&evidence.envelope["payloadType"]);
        let mut pae = format!("DSSEv1 {} {of} {} ", of.len(), evidence.payload.len()).into_bytes();
        pae.extend(&evidence.payload);
        std::fs::write(place.beside("pae"), &pae).expect("writes");
        pae.push(b' ');
        std::fs::write(place.beside("other"), &pae).expect("writes");
        let signature = decode(&evidence.envelope["signatures"][0]["sig"]);
        std::fs::write(place.beside("sig"), signature).expect("writes");
        let check = |file: &str| {
            let digest = "openssl dgst -sha256";
            let verify = match kind {
                "ed25519" => format!("openssl pkeyutl -verify -pubin -inkey {kind}.pub -rawin -in {file} -sigfile sig"),
                "rsa2048" | "rsa3072" => format!(
                    "{digest} -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:auto -verify {kind}.pub -signature sig {file}"
                ),
                _ => format!("{digest} -verify {kind}.pub -signature sig {file}"),
            };
            place.sh(&format!("cd ..; if {verify} >said 2>&1; then echo yes; else echo no; fi"))
        };
        assert_eq!((check("pae").as_str(), check("other").as_str()), ("yes", "no"), "{kind}");
    }
}
