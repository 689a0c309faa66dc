//! Tests of the archive as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::put::describe;
use super::*;
use crate::dsse::{self, Signature};
use crate::statement::PAYLOAD_TYPE;

const COLLECTION: &str = "https://witness.testifysec.com/attestation-collection/v0.1";

pub(super) fn envelope_of(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let signature = json!({"keyid": "k", "sig": "c2ln"});
    let value = json!({"payload": STANDARD.encode(payload), "payloadType": payload_type, "signatures": [signature]});
    serde_json::to_vec(&value).expect("a value can be written")
}

fn collection(step: &str, subjects: &[(&str, &str, &str)]) -> Vec<u8> {
    let subjects: Vec<_> = subjects
        .iter()
        .map(|(name, algorithm, value)| {
            let digest: serde_json::Map<_, _> = [((*algorithm).to_owned(), json!(value))].into_iter().collect();
            json!({"name": name, "digest": digest})
        })
        .collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": COLLECTION,
        "predicate": {"name": step, "attestations": [
            {"type": "https://witness.dev/attestations/git/v0.1", "attestation": {"name": 1, "attestations": "x"}},
            {"type": "https://witness.dev/attestations/command-run/v0.1", "attestation": {}},
        ]},
    });
    envelope_of(PAYLOAD_TYPE, &serde_json::to_vec(&statement).expect("a value can be written"))
}

fn digest_of(number: u64) -> String {
    crate::digest::sha256_hex(&number.to_le_bytes())
}

/// Envelope `number` of a series: two subjects, the second one shared by all.
pub(super) fn numbered(number: u64) -> Vec<u8> {
    collection("build", &[("file", "sha256", &digest_of(number)), ("commit", "sha1", "c0ffee")])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a second within the range")
}

fn subject(text: &str) -> Query {
    Query { subject: Some(SubjectDigest::parse(text)), ..Query::default() }
}

/// A folder in memory where there is one: killing a process does not need a disk, and flushing one takes long.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder for the test")
}

pub(super) fn archive() -> (tempfile::TempDir, Archive) {
    let folder = folder();
    let archive = Archive::create(&folder.path().join("archive"), Access::Shared).expect("a new archive");
    (folder, archive)
}

#[test]
fn what_is_known_beforehand_is_what_reading_it_back_finds() {
    let long = "x".repeat(MAX_TEXT + 1);
    let many: Vec<_> = (0..300).map(|number| ("file", "sha256", digest_of(number))).collect();
    let many: Vec<_> = many.iter().map(|(name, algorithm, value)| (*name, *algorithm, value.as_str())).collect();
    let statement = |envelope: &[u8]| dsse::Envelope::parse(envelope, usize::MAX).expect("an envelope").payload;
    let payloads = [
        (statement(&collection("build", &many)), PAYLOAD_TYPE),
        (statement(&collection(&long, &[])), PAYLOAD_TYPE),
        (b"{}".to_vec(), PAYLOAD_TYPE),
        (b"a policy, or nothing at all".to_vec(), "application/x"),
        (Vec::new(), long.as_str()),
    ];
    for (payload, payload_type) in payloads {
        let outline = Outline::of(&payload, payload_type);
        let one = Signature { key_id: "k\"".into(), sig: b"sig".to_vec(), ..Signature::default() };
        let envelope =
            dsse::Envelope { payload, payload_type: payload_type.into(), signatures: vec![one.clone(), one] };
        let (_folder, read_back) = archive();
        let (_folder, known) = archive();
        let put = read_back.put_with(at(7), |out| envelope.write(out)).expect("stored");
        let outlined =
            known.put_outlined(at(7), &outline, &envelope.signatures, |out| envelope.write(out)).expect("stored");
        assert_eq!(put, outlined);
        let record = |archive: &Archive| archive.record(&put.digest).expect("an answer").expect("known");
        assert_eq!(record(&read_back), record(&known));
        let segment = |archive: &Archive| {
            let name = format!("0-{}.seg", put.digest.hex());
            fs::read(archive.index.folder().join(name)).expect("a segment")
        };
        assert!(segment(&read_back) == segment(&known), "{payload_type:.20}: the index differs");
        assert_eq!(record(&known).payload_sha256, outline.payload_sha256());
    }
}

#[test]
fn what_has_not_the_announced_length_is_refused() {
    let (_folder, archive) = archive();
    let outline = Outline::of(b"{}", PAYLOAD_TYPE);
    let error = archive.put_outlined(at(7), &outline, &[], |out| out.write_all(b"{}")).expect_err("too short");
    assert!(matches!(error, StoreError::Producer(_)), "{error}");
    assert_eq!(archive.find(&Query::default()).expect("an answer"), []);
}

#[test]
fn what_is_put_is_found_by_everything_that_it_says() {
    let (_folder, archive) = archive();
    let envelope =
        collection("docker-build", &[("image", "sha256", "aa11"), ("tree", "gitoid:sha1", "gitoid:blob:sha1:bb22")]);
    let stored = archive.put(&envelope, at(1000)).expect("it is stored");
    assert_eq!(stored.digest, ObjectId::of(&envelope));
    assert!(!stored.already);
    let git = [format!("blob {}\0", envelope.len()).as_bytes(), &envelope].concat();
    assert_eq!(stored.gitoid, crate::digest::sha256_hex(&git));

    let record = archive.record(&stored.digest).expect("the index is read").expect("it is known");
    assert_eq!(record.step.as_deref(), Some("docker-build"));
    assert_eq!(record.predicate_type.as_deref(), Some(COLLECTION));
    assert_eq!(record.payload_type, PAYLOAD_TYPE);
    assert_eq!((record.subjects, record.signatures, record.size), (2, 1, envelope.len() as u64));
    assert_eq!(record.stored, at(1000));
    assert!(record.notes.is_empty(), "{:?}", record.notes);
    let types = ["https://witness.dev/attestations/command-run/v0.1", "https://witness.dev/attestations/git/v0.1"];
    assert_eq!(record.attestations, types);

    for text in ["aa11", "AA11", "sha256:aa11", "gitoid:blob:sha1:bb22"] {
        assert_eq!(archive.find(&subject(text)).expect("found"), std::slice::from_ref(&record), "{text}");
    }
    for text in ["sha1:aa11", "aa1", "aa12", "bb22", &stored.gitoid, &stored.digest.hex()] {
        assert_eq!(archive.find(&subject(text)).expect("an answer"), [], "{text}");
    }
    let by = |change: &dyn Fn(&mut Query)| {
        let mut query = Query::default();
        change(&mut query);
        archive.find(&query).expect("an answer").len()
    };
    assert_eq!(by(&|query| query.step = Some("docker-build".into())), 1);
    assert_eq!(by(&|query| query.step = Some("docker".into())), 0);
    assert_eq!(by(&|query| query.attestation_type = Some(types[1].into())), 1);
    assert_eq!(by(&|query| query.attestation_type = Some("x".into())), 0);
    assert_eq!(by(&|query| query.predicate_type = Some(COLLECTION.into())), 1);
    assert_eq!(by(&|query| query.predicate_type = Some("x".into())), 0);
    assert_eq!(by(&|query| query.since = Some(at(1000))), 1);
    assert_eq!(by(&|query| query.since = Some(at(1001))), 0);
    assert_eq!(by(&|query| query.until = Some(at(1000))), 0);
    assert_eq!(by(&|query| query.until = Some(at(1001))), 1);

    let hex = stored.digest.hex();
    let references = [hex.clone(), format!("sha256:{hex}"), hex[..8].to_uppercase(), stored.gitoid.clone()];
    for reference in references.iter().chain([&format!("gitoid:blob:sha256:{}", stored.gitoid)]) {
        assert_eq!(archive.resolve(reference).expect("resolved"), stored.digest, "{reference}");
    }
    assert_eq!(archive.get(&stored.digest).expect("it is there"), envelope);
    for reference in ["", "abcdefg", "sha256:", "../../../etc/passwd", "gitoid:blob:sha256:abcdef01", &hex[..7]] {
        assert!(matches!(archive.resolve(reference), Err(StoreError::Reference { .. })), "{reference}");
    }
    assert!(matches!(archive.resolve(&"0".repeat(64)), Err(StoreError::NotFound { .. })));
    assert!(matches!(archive.resolve("00000000"), Err(StoreError::NotFound { .. })));
    let again = archive.put(&envelope, at(2000)).expect("it is there");
    assert!(again.already);
    assert_eq!(archive.list(10, None).expect("an answer"), [record], "the first time stays");
    assert!(archive.check().expect("it is read").is_sound());
}

#[test]
fn an_answer_is_in_one_order_whatever_was_merged_and_can_be_read_in_pieces() {
    let (_folder, archive) = archive();
    let mut expected = Vec::new();
    for number in 0..200_u64 {
        // Several share a second; the numbers do not come in the order of time.
        let second = i64::try_from(number * 37 % 20).expect("small");
        let stored = archive.put(&numbered(number), at(second)).expect("it is stored");
        assert_eq!(stored.warning, None);
        expected.push((std::cmp::Reverse(second), stored.digest));
    }
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
    let digests = |records: &[Record]| records.iter().map(|record| record.digest).collect::<Vec<_>>();
    assert_eq!(digests(&archive.list(1000, None).expect("an answer")), expected);
    assert_eq!(digests(&archive.find(&subject("sha1:c0ffee")).expect("an answer")), expected);
    let limited = Query { limit: Some(3), ..subject("c0ffee") };
    assert_eq!(digests(&archive.find(&limited).expect("an answer")), expected[..3]);
    let window = Query { since: Some(at(5)), until: Some(at(8)), ..Query::default() };
    assert_eq!(archive.find(&window).expect("an answer").len(), 30);

    let (mut pieces, mut after) = (Vec::new(), None);
    loop {
        let piece = archive.list(7, after).expect("an answer");
        let Some(last) = piece.last() else { break };
        after = Some(Cursor::from(last));
        pieces.extend(digests(&piece));
    }
    assert_eq!(pieces, expected);
    let levels: Vec<u8> = archive.index.list().expect("listed").segments.iter().map(|name| name.level).collect();
    assert!(levels.len() < 64 + 8 && levels.contains(&1), "merging keeps the segments few: {levels:?}");

    let before = archive.list(1000, None).expect("an answer");
    let done = archive.reindex().expect("it is made again");
    assert_eq!((done.indexed, done.left_out.len()), (200, 0));
    assert_eq!(archive.list(1000, None).expect("an answer"), before);
    assert!(archive.check().expect("it is read").is_sound());
}

#[test]
fn the_index_can_be_made_again_from_the_objects_alone() {
    let (_folder, archive) = archive();
    for number in 0..70 {
        archive.put(&numbered(number), "2026-01-02T03:04:05.678901234Z".parse().expect("a time")).expect("stored");
    }
    let before = archive.list(1000, None).expect("an answer");
    for entry in fs::read_dir(archive.index.folder()).expect("the index") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    let report = archive.check().expect("it is read");
    assert_eq!((report.objects, report.unindexed.len(), report.is_sound()), (70, 70, false));
    assert_eq!(archive.list(1000, None).expect("an answer"), []);
    archive.reindex().expect("it is made again");
    assert_eq!(archive.list(1000, None).expect("an answer"), before);
    assert!(archive.check().expect("it is read").is_sound());
}

#[test]
fn an_envelope_with_many_subjects_is_found_by_each() {
    let (_folder, archive) = archive();
    let names: Vec<_> = (0..100_000).map(|number| (format!("file:{number}"), digest_of(number))).collect();
    let subjects: Vec<_> = names.iter().map(|(name, digest)| (name.as_str(), "sha256", digest.as_str())).collect();
    let big = archive.put(&collection("build", &subjects), at(1)).expect("it is stored").digest;
    for number in 200_000..200_070 {
        archive.put(&numbered(number), at(2)).expect("it is stored");
    }
    assert!(archive.index.list().expect("listed").segments.iter().any(|name| name.level == 1), "it was merged");
    for number in (0..100_000).step_by(997).chain([99_999]) {
        let found = archive.find(&subject(&digest_of(number))).expect("an answer");
        assert_eq!(found.iter().map(|record| record.digest).collect::<Vec<_>>(), [big], "subject {number}");
    }
    assert_eq!(archive.record(&big).expect("read").expect("known").subjects, 100_000);
    assert_eq!(archive.find(&subject(&digest_of(100_000))).expect("an answer"), []);
}

#[test]
fn what_is_no_envelope_is_refused_and_leaves_nothing() {
    let (_folder, archive) = archive();
    let texts: [&[u8]; 6] = [
        b"",
        b"{}",
        b"[]",
        b"not json",
        br#"{"payload":"AA==","payloadType":1}"#,
        br#"{"payload":"!","payloadType":"x"}"#,
    ];
    for text in texts {
        let error = archive.put(text, at(1)).expect_err("no envelope");
        assert!(matches!(error, StoreError::NotAnEnvelope { .. }), "{error}");
    }
    let error = archive.put_with(at(1), |_| Err(io::Error::other("the signer failed"))).expect_err("nothing to store");
    assert!(matches!(error, StoreError::Producer(_)), "{error}");
    let small = Archive::open(archive.root()).expect("opened").with_max_object(100);
    let error = small.put(&numbered(1), at(1)).expect_err("too long");
    assert!(matches!(error, StoreError::TooLarge { limit: 100 }), "{error}");
    assert_eq!(archive.check().expect("it is read"), Report::default());
    let policy = envelope_of("https://witness.testifysec.com/policy/v0.1", b"{\"steps\":{}}");
    let id = archive.put(&policy, at(1)).expect("a policy is stored").digest;
    let record = archive.record(&id).expect("read").expect("known");
    assert_eq!((record.predicate_type, record.subjects, record.notes.len()), (None, 0, 0));
}

#[test]
fn a_changed_envelope_is_noticed_and_replaced_by_a_good_one() {
    let (_folder, archive) = archive();
    let envelope = numbered(1);
    let id = archive.put(&envelope, at(1)).expect("it is stored").digest;
    for position in [0, envelope.len() / 2, envelope.len() - 1] {
        let mut bad = envelope.clone();
        bad[position] ^= 1;
        fs::write(archive.path(&id), &bad).expect("changed");
        let error = archive.get(&id).expect_err("it has changed");
        assert!(matches!(&error, StoreError::Mismatch { found, .. } if *found == ObjectId::of(&bad)), "{error}");
        let report = archive.check().expect("it is read");
        assert_eq!((report.mismatched.len(), report.objects, report.is_sound()), (1, 0, false));
    }
    fs::write(archive.path(&id), &envelope[..10]).expect("cut");
    assert!(matches!(archive.get(&id), Err(StoreError::Mismatch { .. })));
    assert!(!archive.put(&envelope, at(2)).expect("it is stored").already, "the bad one was replaced");
    assert_eq!(archive.get(&id).expect("it is there"), envelope);
    assert!(archive.check().expect("it is read").is_sound());
    fs::remove_file(archive.path(&id)).expect("removed");
    assert!(matches!(archive.get(&id), Err(StoreError::NotFound { .. })));
}

#[test]
fn what_is_foreseen_is_not_made() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let new = at("a/b/archive");
    assert_eq!(Archive::foresee(&new, Access::Shared).expect("it could be made").root(), new);
    assert!(!at("a").exists());
    fs::create_dir(at("empty")).expect("made");
    Archive::foresee(&at("empty"), Access::Shared).expect("it could be made");
    assert_eq!(fs::read_dir(at("empty")).expect("read").count(), 0);
    fs::write(at("file"), "x").expect("written");
    Archive::foresee(&at("file"), Access::Shared).expect_err("a file");
    Archive::foresee(&at("file/archive"), Access::Shared).expect_err("below a file");
    let error = Archive::foresee(folder.path(), Access::Shared).expect_err("occupied");
    assert!(matches!(error, StoreError::Occupied { .. }), "{error}");
    Archive::create(&new, Access::Shared).expect("made");
    Archive::foresee(&new, Access::Shared).expect("it is there");
    fs::write(new.join(MARKER), "{\"format\":9}").expect("changed");
    let error = Archive::foresee(&new, Access::Shared).expect_err("of a later version");
    assert!(matches!(error, StoreError::Format { .. }), "{error}");
}

#[test]
fn an_envelope_that_is_lost_is_missed() {
    let (_folder, archive) = archive();
    let ids: Vec<_> =
        (0..64).map(|number| archive.put(&numbered(number), at(1)).expect("it is stored").digest).collect();
    fs::remove_file(archive.path(&ids[5])).expect("removed");
    let report = archive.check().expect("it is read");
    assert_eq!((report.missing, report.objects), (vec![ids[5]], 63));
}

#[test]
fn every_changed_or_missing_byte_of_a_segment_is_noticed() {
    let folder = folder();
    let path = folder.path().join("segment");
    let mut records: Vec<_> = (0..3_u64)
        .map(|number| {
            let envelope = numbered(number);
            let id = ObjectId::of(&envelope);
            describe(envelope.as_slice(), id, envelope.len() as u64, at(1)).expect("an envelope")
        })
        .collect();
    let mut file = fs::File::create(&path).expect("created");
    merge::write(&mut file, &path, &mut records).expect("written");
    segment::Segment::open(&path).expect("opened").check().expect("whole");
    let good = fs::read(&path).expect("read");
    let noticed = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("changed");
        segment::Segment::open(&path).and_then(|segment| segment.check()).is_err()
    };
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        assert!(noticed(&bad), "byte {position}");
        assert!(noticed(&good[..position]), "cut to {position} bytes");
    }
    assert!(noticed(&[&good[..], b"x"].concat()));
}

#[test]
fn a_damaged_index_is_told_and_made_again() {
    let (_folder, archive) = archive();
    for number in 0..130 {
        archive.put(&numbered(number), at(1)).expect("it is stored");
    }
    let names = archive.index.list().expect("listed").segments;
    let merged = names.iter().find(|name| name.level == 1).expect("a merged segment");
    let path = archive.index.path(merged);
    let good = fs::read(&path).expect("read");
    for length in [0, 1, 63, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..length]).expect("cut");
        let error = archive.find(&subject(&digest_of(1))).expect_err("the index is damaged");
        assert!(matches!(&error, StoreError::DamagedIndex { path: named, .. } if *named == path), "{error}");
        let report = archive.check().expect("it is read");
        assert_eq!((report.damaged.len(), report.objects), (1, 130));
        assert_eq!(report.unindexed.len(), 64);
    }
    // Storing goes on meanwhile, and merging does not lose what it cannot read.
    for number in 60..270 {
        let stored = archive.put(&numbered(number), at(1)).expect("it is stored");
        assert_eq!((stored.already, stored.warning), (number < 130, None));
    }
    assert_eq!(archive.check().expect("it is read").damaged.len(), 1);
    assert_eq!(fs::read(&path).expect("read").len(), good.len() - 1);
    archive.reindex().expect("it is made again");
    assert!(archive.check().expect("it is read").is_sound());
    assert_eq!(archive.find(&subject("c0ffee")).expect("an answer").len(), 270);
}

#[test]
fn a_put_that_stops_at_any_point_leaves_an_archive_that_is_whole() {
    let folder = folder();
    let root = folder.path().join("archive");
    let archive = Archive::create(&root, Access::Shared).expect("a new archive");
    // One short of a merge, so that the next put does everything that a put can do.
    for number in 0..63 {
        archive.put(&numbered(number), at(1)).expect("it is stored");
    }
    let mut ends = BTreeSet::new();
    for steps in 0..1000 {
        let copy = folder.path().join("copy");
        copy_folder(&root, &copy);
        let archive = Archive::open(&copy).expect("opened");
        disk::burn(Some(steps));
        let outcome = archive.put(&numbered(1000), at(2));
        disk::burn(None);

        let report = archive.check().expect("it is read");
        assert!(report.is_sound(), "after {steps} steps: {report:?}");
        let found = archive.find(&subject(&digest_of(1000))).expect("an answer");
        assert_eq!(found.len() as u64, report.objects - 63, "what is there is found, after {steps} steps");
        match &outcome {
            Ok(stored) => assert_eq!(found.iter().map(|record| record.digest).collect::<Vec<_>>(), [stored.digest]),
            Err(error) => assert!(error.to_string().contains("the power failed"), "{error}"),
        }
        ends.insert((outcome.is_ok(), outcome.as_ref().is_ok_and(|stored| stored.warning.is_some()), found.len()));
        let all = archive.find(&subject("c0ffee")).expect("an answer");
        assert_eq!(all.len(), 63 + found.len());
        let later = archive.put(&numbered(1000), at(3)).expect("a later one is stored");
        assert_eq!(archive.find(&subject(&digest_of(1000))).expect("an answer")[0].digest, later.digest);
        assert!(archive.check().expect("it is read").is_sound());
        fs::remove_dir_all(&copy).expect("removed");
        if outcome.is_ok_and(|stored| stored.warning.is_none()) {
            break;
        }
    }
    // Failed before the name, after it, while merging; and not at all.
    let expected = [(false, false, 0), (false, false, 1), (true, false, 1), (true, true, 1)];
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), expected);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("read") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Not a test of its own: the other processes of the tests below. What to do comes in one line on stdin.
#[test]
#[ignore = "started by other tests"]
fn other_process() {
    let mut line = String::new();
    io::stdin().read_line(&mut line).expect("read");
    let words: Vec<&str> = line.trim_end().splitn(3, ' ').collect();
    let [start, count, root] = words[..] else { return };
    let (start, count) = (start.parse::<u64>().expect("a number"), count.parse::<u64>().expect("a number"));
    let archive = Archive::create(Path::new(root), Access::Shared).expect("opened");
    for number in start..start + count {
        archive.put(&numbered(number), at(i64::try_from(number).expect("small"))).expect("it is stored");
        // In one write, past the test harness: the parent counts only whole lines.
        io::stdout().write_all(format!("\nstored {number}\n").as_bytes()).expect("told");
        io::stdout().flush().expect("told");
    }
}

fn start_other(root: &Path, start: u64, count: u64) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::tests::other_process", "--ignored", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let root = root.to_str().expect("a path for tests");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{start} {count} {root}").expect("told");
    child
}

fn number_in(line: &str) -> Option<u64> {
    line.strip_prefix("stored ")?.parse().ok()
}

#[test]
fn kill_9_at_200_random_moments_loses_nothing_that_was_stored() {
    let folder = folder();
    let root = folder.path().join("archive");
    let mut stored = BTreeSet::new();
    for kill in 0..200_u64 {
        let random = crate::digest::sha256(&kill.to_le_bytes());
        let mut child = start_other(&root, kill * 100_000, 100_000);
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut until = usize::from(random[0] % 8);
        let mut new = BTreeSet::new();
        for line in lines.map_while(Result::ok) {
            let Some(number) = number_in(&line) else { continue };
            new.insert(number);
            if until == 0 {
                std::thread::sleep(std::time::Duration::from_micros(u64::from(random[1]) * 4));
                child.kill().expect("killed");
            }
            until = until.saturating_sub(1);
        }
        child.wait().expect("ended");
        assert_found(&Archive::open(&root).expect("opened"), &new);
        stored.append(&mut new);
    }
    let report = assert_whole(&root, &stored);
    assert!(stored.len() > 400 && report.objects >= stored.len() as u64);
    // Left-overs are young: they stay until nobody can be writing them.
    Archive::open(&root).expect("opened").reindex().expect("made again");
    assert_whole(&root, &stored);
}

fn assert_found(archive: &Archive, stored: &BTreeSet<u64>) {
    for &number in stored {
        let envelope = numbered(number);
        let found = archive.find(&subject(&digest_of(number))).expect("an answer");
        assert_eq!(found.iter().map(|record| record.digest).collect::<Vec<_>>(), [ObjectId::of(&envelope)], "{number}");
        assert_eq!(archive.get(&found[0].digest).expect("it is there"), envelope);
    }
}

fn assert_whole(root: &Path, stored: &BTreeSet<u64>) -> Report {
    let archive = Archive::open(root).expect("opened");
    let report = archive.check().expect("it is read");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.foreign, [""; 0]);
    assert_found(&archive, stored);
    assert_eq!(archive.find(&subject("c0ffee")).expect("an answer").len() as u64, report.objects);
    report
}

#[test]
fn eight_processes_can_write_at_once_while_others_read() {
    let folder = folder();
    write_and_read_at_once(&folder.path().join("archive"), 8, 200);
}

#[test]
fn processes_can_write_at_once_where_there_are_no_locks() {
    let folder = folder();
    let root = folder.path().join("archive");
    let archive = Archive::create(&root, Access::Shared).expect("a new archive");
    for name in ["publish.lock", "merge.lock"] {
        // A link is not followed, so there is nothing to lock.
        symlink("nothing", archive.index.folder().join(name)).expect("linked");
    }
    assert!(matches!(archive.index.publish_lock(), disk::Locked::Without));
    write_and_read_at_once(&root, 4, 200);
}

fn write_and_read_at_once(root: &Path, processes: u64, each: u64) {
    let mut children: Vec<_> = (0..processes).map(|process| start_other(root, process * 1000, each)).collect();
    let outputs: Vec<_> = children
        .iter_mut()
        .map(|child| {
            let output = child.stdout.take().expect("piped");
            std::thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.filter(|line| number_in(line).is_some()).count() as u64
            })
        })
        .collect();
    // What was seen once is seen from then on, whatever is merged meanwhile.
    let mut seen = 0;
    while outputs.iter().any(|output| !output.is_finished()) {
        if let Ok(archive) = Archive::open(root) {
            let found = archive.find(&subject("c0ffee")).expect("an answer").len();
            assert!(found >= seen, "{found} after {seen}");
            seen = found;
        }
    }
    for mut child in children {
        assert!(child.wait().expect("ended").success());
    }
    assert!(outputs.into_iter().all(|output| output.join().expect("counted") == each));
    let stored: BTreeSet<_> = (0..processes).flat_map(|process| process * 1000..process * 1000 + each).collect();
    assert_eq!(assert_whole(root, &stored).objects, processes * each);
}

/// A file system of 256 KiB; `None`, and a loud line, where one may not mount.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn mount(options: &str) -> Option<Self> {
        let folder = folder();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "affiant-test"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if mounted {
            return Some(Self(folder));
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        // Past the test harness, so that it is seen.
        writeln!(io::stderr(), "\nSKIPPED {name}: cannot mount a tmpfs here\n").expect("told");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path()).status();
        assert!(status.expect("mount was there before").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_the_archive_whole() {
    let Some(disk) = SmallDisk::mount("size=256k") else { return };
    let root = disk.path().join("archive");
    let archive = Archive::create(&root, Access::Shared).expect("a new archive");
    let mut stored = BTreeSet::new();
    let error = (0..1000)
        .find_map(|number| match archive.put(&numbered(number), at(1)) {
            Ok(_) => {
                stored.insert(number);
                None
            }
            Err(error) => Some(error),
        })
        .expect("the disk gets full");
    let StoreError::Io { source, path, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!(path.starts_with(&root) && error.to_string().contains(root.to_str().expect("a path for tests")), "{error}");
    assert!(stored.len() > 5);
    assert_whole(&root, &stored);
    let mut filler = fs::File::create(disk.path().join("filler")).expect("made");
    while filler.write_all(&[0; 512]).is_ok() {}
    archive.probe().expect_err("it is full");
    drop(filler); // an open file would keep the disk from becoming read-only

    disk.remount("size=1m");
    archive.probe().expect("there is room");
    for number in 5000..5070 {
        assert_eq!(archive.put(&numbered(number), at(1)).expect("there is room").warning, None);
        stored.insert(number);
    }
    assert_whole(&root, &stored);

    disk.remount("ro");
    let error = archive.put(&numbered(9000), at(1)).expect_err("nothing can be written");
    assert!(
        matches!(&error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem),
        "{error}"
    );
    archive.probe().expect_err("nothing can be written");
    assert_whole(&root, &stored);
}

#[test]
fn strange_things_in_the_folder_do_no_harm() {
    let (folder, archive) = archive();
    let good = archive.put(&numbered(1), at(1)).expect("it is stored").digest;
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").expect("written");
    let objects = archive.objects.join("sha256");
    for name in ["ab", "cd", "ef"] {
        fs::create_dir_all(objects.join(name)).expect("made");
    }
    let id = |first: &str| ObjectId::from_hex(&format!("{first}{}", "0".repeat(62))).expect("digits");
    symlink(&secret, archive.path(&id("ab"))).expect("linked");
    nix::unistd::mkfifo(&archive.path(&id("cd")), nix::sys::stat::Mode::S_IRWXU).expect("made");
    fs::create_dir(archive.path(&id("ef"))).expect("made");
    for first in ["ab", "cd", "ef"] {
        assert!(matches!(archive.get(&id(first)), Err(StoreError::Io { .. })), "{first}");
    }
    let strange = [
        objects.join("zz"),
        objects.join("AB"),
        objects.join("ab").join("short"),
        objects.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")),
        archive.index.folder().join("notes.txt"),
        archive.objects.join("md5"),
    ];
    for path in &strange {
        fs::write(path, "?").expect("written");
    }
    symlink(archive.root(), objects.join("00")).expect("linked");
    fs::write(archive.index.folder().join(format!("{}x.tmp", disk::TEMPORARY_PREFIX)), "half").expect("written");

    let report = archive.check().expect("it is read");
    assert_eq!((report.objects, report.unreadable.len(), report.temporary), (1, 3, 1), "{report:?}");
    assert!(report.foreign.len() >= strange.len(), "{report:?}");
    assert!(report.foreign.iter().any(|path| path.ends_with(r"\xff\xfe")), "{:?}", report.foreign);
    assert_eq!(archive.find(&subject("c0ffee")).expect("an answer")[0].digest, good);
    assert_eq!(archive.reindex().expect("it is made again").left_out.len(), 3);
    assert_eq!(archive.find(&subject("c0ffee")).expect("an answer").len(), 1);
    assert_eq!(fs::read_to_string(&secret).expect("read"), "secret");

    // Segments that are none: a link, a FIFO, one that claims to be huge.
    let names = [("1", 'a'), ("2", 'b'), ("3", 'c')]
        .map(|(level, digit)| format!("{level}-{}.seg", digit.to_string().repeat(32)));
    let [link, fifo, huge] = names.map(|name| archive.index.folder().join(name));
    symlink(&secret, &link).expect("linked");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let file = fs::File::create(&huge).expect("made");
    file.set_len(1 << 40).expect("made long");
    drop(file);
    archive.find(&subject("c0ffee")).expect_err("the index is damaged");
    assert_eq!(archive.check().expect("it is read").damaged.len(), 3);
    archive.put(&numbered(2), at(2)).expect("storing goes on");
    archive.reindex().expect("it is made again");
    assert_eq!(archive.find(&subject("c0ffee")).expect("an answer").len(), 2);
    assert!(secret.exists());
}

#[test]
fn an_archive_is_made_only_where_nothing_else_is() {
    let folder = folder();
    let root = folder.path().join("a/b/c");
    assert!(matches!(Archive::open(&root), Err(StoreError::NotAnArchive { .. })));
    Archive::create(&root, Access::Shared).expect("made, with the folders above");
    Archive::create(&root, Access::Shared).expect("opened");
    let occupied = folder.path().join("home");
    fs::create_dir(&occupied).expect("made");
    fs::write(occupied.join("thesis.tex"), "x").expect("written");
    let error = Archive::create(&occupied, Access::Shared).expect_err("there is something else");
    assert!(matches!(error, StoreError::Occupied { .. }), "{error}");
    assert_eq!(fs::read_dir(&occupied).expect("read").count(), 1);
    for text in ["{\"format\":2}", "", "{}", "x"] {
        fs::write(root.join(MARKER), text).expect("written");
        let error = Archive::open(&root).expect_err("not a format that is known");
        let later = text.contains('2');
        assert!(
            matches!(error, StoreError::Format { .. } if later) || matches!(error, StoreError::Marker { .. } if !later),
            "{error}"
        );
        Archive::create(&root, Access::Shared).expect_err("not overwritten");
    }
}

#[test]
fn a_lost_marker_is_written_again_where_envelopes_are() {
    let (_folder, archive) = archive();
    let (root, marker) = (archive.root().to_owned(), archive.root().join(MARKER));
    let good = fs::read(&marker).expect("read");
    let id = archive.put(&numbered(1), at(5)).expect("it is stored").digest;
    let damages: [&dyn Fn(); 6] = [
        &|| fs::write(&marker, "evil").expect("written"),
        &|| fs::write(&marker, "").expect("written"),
        &|| fs::remove_file(&marker).expect("removed"),
        &|| {
            fs::remove_file(&marker).expect("removed");
            symlink("/etc/passwd", &marker).expect("linked");
        },
        &|| {
            fs::remove_file(&marker).expect("removed");
            nix::unistd::mkfifo(&marker, nix::sys::stat::Mode::S_IRWXU).expect("made");
        },
        &|| {
            fs::write(&marker, "evil").expect("written");
            fs::write(root.join("note.txt"), "of the user").expect("written");
            fs::remove_dir_all(archive.index.folder()).expect("removed");
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        Archive::open(&root).expect_err("damaged");
        let (repaired, made) = Archive::repair(&root).expect("it is an archive");
        repaired.reindex().expect("it is made again");
        assert!(made && repaired.check().expect("it is read").is_sound(), "damage {number}");
        assert_eq!(
            (fs::read(&marker).expect("read"), fs::symlink_metadata(&marker).expect("there").is_file()),
            (good.clone(), true)
        );
        let found = Archive::open(&root).expect("opened").find(&subject("c0ffee")).expect("an answer");
        assert_eq!((found.len(), found[0].digest, found[0].stored), (1, id, at(5)), "damage {number}");
    }
    assert!(!Archive::repair(&root).expect("opened").1, "there is nothing to repair");

    // Not where a later version wrote, nor where no envelope has the digest of its name.
    fs::write(&marker, "{\"format\":2}").expect("written");
    let error = Archive::repair(&root).expect_err("a later format");
    assert!(matches!(error, StoreError::Format { .. }), "{error}");
    fs::write(&marker, "evil").expect("written");
    fs::write(archive.path(&id), "evil").expect("written");
    let error = Archive::repair(&root).expect_err("nothing proves it");
    assert!(matches!(error, StoreError::Marker { .. }), "{error}");
    assert_eq!(fs::read(&marker).expect("read"), b"evil");
}

#[test]
fn nothing_else_becomes_an_archive_by_repairing() {
    let folder = folder();
    for name in ["missing", "empty", "objects", "full"] {
        let root = folder.path().join(name);
        let made = match name {
            "missing" => Ok(()),
            "empty" => fs::create_dir(&root),
            "objects" => fs::create_dir_all(root.join("objects/sha256")),
            _ => fs::create_dir_all(root.join("objects/sha256")).and_then(|()| fs::write(root.join("thesis.tex"), "x")),
        };
        made.expect("made");
        Archive::repair(&root).expect_err(name);
        assert!(!root.join(MARKER).exists() && !root.join("index").exists(), "{name}");
    }
    // An archive in which nothing is yet.
    let (_folder, archive) = archive();
    fs::write(archive.root().join(MARKER), "evil").expect("written");
    assert!(Archive::repair(archive.root()).expect("only our own empty folders").1);
}

#[test]
fn a_private_archive_is_its_owners_alone() {
    let folder = folder();
    let root = folder.path().join("archive");
    Archive::create(&root, Access::Private).expect("a new archive");
    let archive = Archive::open(&root).expect("opened");
    let id = archive.put(&numbered(1), at(1)).expect("it is stored").digest;
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let object = archive.path(&id);
    let folders: Vec<PathBuf> = object.ancestors().skip(1).take(4).map(Path::to_owned).collect();
    assert!(folders.contains(&root));
    for path in folders.iter().chain([&archive.index.folder().to_owned()]) {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    let segments = fs::read_dir(archive.index.folder()).expect("read").map(|entry| entry.expect("an entry").path());
    for path in segments.chain([object, root.join(MARKER)]) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    fs::remove_dir_all(&root).expect("removed");
}

/// A put sets the time of its file to one that may lie long ago; only its own clock tells how old a file is.
#[test]
fn left_over_files_are_removed_when_they_are_old() {
    let folder = folder();
    let archive = Archive::create(&folder.path().join("archive"), Access::Private).expect("a new archive");
    let left = archive.objects.join(format!("{}x.tmp", disk::TEMPORARY_PREFIX));
    let file = fs::File::create(&left).expect("created");
    let now = file.metadata().and_then(|data| data.modified()).expect("a time");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set");
    archive.tidy_objects(now + std::time::Duration::from_secs(60)).expect("tidied");
    assert!(left.exists(), "a put may be under way");
    archive.tidy_objects(now + std::time::Duration::from_secs(25 * 3600)).expect("tidied");
    assert!(!left.exists());
}
