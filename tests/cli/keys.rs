//! Keys: making, showing, converting; openssl agrees where it is there.

use std::process::Command;

use crate::harness::{Place, left_out};

fn openssl(args: &[&str], place: &Place) -> Option<std::process::Output> {
    let done = Command::new("openssl").args(args).current_dir(place.work()).output();
    if done.is_err() {
        left_out("openssl is not there");
    }
    done.ok()
}

#[test]
fn every_kind_of_key_signs_and_is_checked() {
    for kind in ["p256", "p384", "p521", "ed25519", "rsa2048"] {
        let place = Place::without_key();
        place
            .affiant(["key", "generate", "--kind", kind, "--no-password", "-o", "../k.pem"])
            .run()
            .code(0)
            .stdout("")
            .stderr_has(&[
                "private key: ../k.pem",
                "public key:  ../k.pub",
                "next: affiant run --key ../k.pem -- make",
            ]);
        place.capture(["-s", "b", "-a", "environment", "--", "true"]).run().code(0).stdout("");
        place.affiant(["inspect", "--key", "../k.pub", "../a.json"]).run().code(0).stderr("");
        if let Some(done) = openssl(&["pkey", "-in", "../k.pem", "-noout"], &place) {
            assert!(done.status.success(), "{kind}: openssl does not read the key");
        }
    }
}

#[test]
fn a_key_is_never_overwritten() {
    let place = Place::new();
    place.affiant(["key", "generate", "-o", "../k.pem"]).run().code(2).stdout("").stderr(
        "error: ../k.pem exists already\nhint: name another file with `--output FILE`; a key is never overwritten\n",
    );
}

#[test]
fn forms_and_passwords() {
    let place = Place::new();
    let id = place.affiant(["key", "id", "../k.pub"]).run().code(0).stdout_text();
    for form in ["pkcs8", "cosign"] {
        let file = format!("../{form}.key");
        place
            .affiant(["key", "convert", "../k.pem", "--form", form, "-o", &file])
            .env("AFFIANT_KEY_PASSWORD", "one two three")
            .run()
            .code(0)
            .stdout("")
            .stderr_has(&["wrote ", id.trim()]);
        let same =
            place.affiant(["key", "id", &file]).env("COSIGN_PASSWORD", "one two three").run().code(0).stdout_text();
        assert_eq!(same, id);
        place.affiant(["key", "id", &file]).env("WITNESS_KEY_PASSPHRASE", "wrong").run().code(4).stdout("");
        // Set but empty is a password, and the wrong one.
        place.affiant(["key", "id", &file]).env("AFFIANT_KEY_PASSWORD", "").run().code(4).stdout("");
    }
    place.write("password", "one two three\n");
    place.affiant(["key", "id", "../cosign.key", "--key-password-file", "password"]).run().code(0).stdout(&id);
    place.affiant(["key", "id", "nowhere.pem"]).run().code(4).stdout("").stderr_has(&["nowhere.pem"]);
}

#[test]
fn several_keys_make_several_signatures() {
    let place = Place::new();
    place.affiant(["key", "generate", "--no-password", "-o", "../second.pem"]).run().code(0);
    place.capture(["-k", "../second.pem", "-s", "b", "-a", "environment", "--", "true"]).run().code(0);
    for key in ["../k.pub", "../second.pub"] {
        place.affiant(["inspect", "--key", key, "../a.json"]).run().code(0);
    }
    place.capture(["-k", "../k.pem", "--", "true"]).run().code(125).stdout("").stderr_has(&["named twice"]);
}
