//! A secret that is a build argument is in no byte that affiant composes.

use base64::Engine as _;

use crate::harness::{Place, need, words};

const CANARY: &str = "Zx9canary4Qw7Lm2Pt8Rk";
const RUN: &str = "run -k ../k.pem -o ../evidence.json --report ../report.json -s docker-build";

/// The canary as it is, in hexadecimal, and in base64 at each of the three places that it can have in a text: there only
/// the characters that it alone decides.
fn encodings() -> Vec<String> {
    let hex = CANARY.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let mut all = vec![CANARY.to_owned(), hex.to_uppercase(), hex];
    for before in 0..3 {
        let text = base64::engine::general_purpose::STANDARD.encode([&b"xxx"[..before], CANARY.as_bytes()].concat());
        all.push(text[(before * 8).div_ceil(6)..(before + CANARY.len()) * 8 / 6].to_owned());
    }
    all
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// A repository whose Dockerfile puts the argument into the image.
fn place() -> Place {
    let place = Place::new();
    let file = "FROM scratch\\nARG TOKEN\\nLABEL token=$TOKEN\\nCOPY hello.txt /\\n";
    place.sh(&format!("printf '{file}' >Dockerfile && git commit -qam 'takes a token'"));
    place
}

/// Wraps the build, with the canary in `DEPLOY_TOKEN`, and looks at all that affiant wrote and said.
#[track_caller]
fn run(place: &Place, attestors: &str, command: &[&str], provenance: &str) -> crate::harness::Evidence {
    let arguments = [&words(RUN)[..], &["-a", attestors, "--"], command].concat();
    let variables = [("DEPLOY_TOKEN", CANARY), ("BUILDX_METADATA_PROVENANCE", provenance)];
    let ended = place.affiant_with(&arguments, &variables).code(0);
    let evidence = place.evidence("evidence.json");
    // What affiant itself says; the command may print what it likes.
    let said: Vec<_> = ended.stderr.lines().filter(|line| line.contains("affiant")).collect();
    let mut written = place.everything_written();
    assert!(written.len() >= 4, "key, evidence, report, archive");
    written.push(("the payload".into(), evidence.payload.clone()));
    written.push(("standard error".into(), said.join("\n").into_bytes()));
    for (path, bytes) in written {
        for encoding in encodings() {
            assert!(!holds(&bytes, &encoding), "{encoding} in {}", path.display());
        }
    }
    assert_eq!(evidence.predicate("environment")["variables"]["DEPLOY_TOKEN"], "******");
    assert!(evidence.statement["predicate"]["gaps"].is_null(), "{}", evidence.statement["predicate"]["gaps"]);
    evidence
}

#[test]
fn not_in_evidence_of_buildx() {
    need!("buildkitd", "docker", "git");
    let place = place();
    let argument = format!("TOKEN={CANARY}");
    let build =
        words("docker buildx build --metadata-file m.json -t localhost:5000/demo:1 -o type=docker,dest=image.tar .");
    let in_arguments = [&build[..3], &["--build-arg", &argument], &build[3..]].concat();
    let by_name = format!("TOKEN=$DEPLOY_TOKEN; export TOKEN; {} --build-arg TOKEN", build.join(" "));
    for command in [&in_arguments[..], &["sh", "-c", &by_name]] {
        for provenance in ["min", "max"] {
            let evidence = run(&place, "environment,git,docker,oci", command, provenance);
            for file in ["m.json", "image.tar"] {
                let bytes = std::fs::read(place.work().join(file)).expect("a product");
                assert!(holds(&bytes, CANARY), "{file} does not hold it: the test shows nothing");
            }
            // Digests and names are intact.
            let image = place.json("m.json")["containerimage.digest"].clone();
            let image = crate::harness::hex(crate::harness::text(&image));
            assert_eq!(evidence.subjects_of("docker imagedigest:"), [image].into());
            assert_eq!(evidence.subjects_of("docker imagereference:"), ["localhost:5000/demo:1".to_owned()].into());
        }
    }
}

#[test]
fn not_in_evidence_of_the_engine() {
    need!("dockerd", "docker", "git");
    let place = place();
    let name = format!("localhost:5000/{}:1", place.unique());
    let argument = format!("TOKEN={CANARY}");
    run(&place, "environment,git,docker", &["docker", "build", "--build-arg", &argument, "-t", &name, "."], "");
    let label = place.sh(&format!("docker image inspect --format '{{{{.Config.Labels.token}}}}' {name}"));
    place.sh(&format!("docker rmi -f {name}"));
    assert_eq!(label, CANARY, "the test shows nothing");
}
