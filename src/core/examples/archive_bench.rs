//! Puts many small envelopes into an archive and looks for some: `archive_bench FOLDER [ENVELOPES]`.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use affiant_core::digest::sha256_hex;
use affiant_core::store::{Access, Archive, Query, SubjectDigest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// Subjects of each envelope: one of its own, nineteen that it shares with every hundredth.
const SUBJECTS: u64 = 20;
const FINDS: u64 = 100;

fn envelope(number: u64) -> Vec<u8> {
    let subjects: Vec<_> = (0..SUBJECTS)
        .map(|index| {
            let text = if index == 0 { format!("own {number}") } else { format!("shared {index} {}", number % 100) };
            json!({"name": format!("file:dist/{index}"), "digest": {"sha256": sha256_hex(text.as_bytes())}})
        })
        .collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://witness.testifysec.com/attestation-collection/v0.1",
        "predicate": {"name": "build", "attestations": [{"type": "https://witness.dev/attestations/git/v0.1"}]},
    });
    let payload = STANDARD.encode(statement.to_string());
    let signatures = [json!({"keyid": "k", "sig": "c2ln"})];
    json!({"payload": payload, "payloadType": "application/vnd.in-toto+json", "signatures": signatures})
        .to_string()
        .into_bytes()
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let root = arguments.get(1).ok_or("archive_bench FOLDER [ENVELOPES]")?;
    let count: u64 = arguments.get(2).map_or(Ok(100_000), |text| text.parse())?;
    let mut out = io::stdout();
    let archive = Archive::create(Path::new(root), Access::Private)?;
    let start = jiff::Timestamp::from_second(1_800_000_000)?;
    let mut puts = Vec::new();
    let mut bytes = 0;
    let began = Instant::now();
    for number in 0..count {
        let envelope = envelope(number);
        bytes += envelope.len();
        let from = Instant::now();
        let stored = archive.put(&envelope, start + Duration::from_secs(number))?;
        puts.push(from.elapsed());
        if let Some(warning) = stored.warning {
            writeln!(out, "warning: {warning}")?;
        }
    }
    let took = began.elapsed();
    let (middle, worst) = median(puts);
    writeln!(out, "put {count} envelopes, {bytes} bytes: {took:.1?}; median {middle:.2?}, worst {worst:.2?}")?;

    let mut finds = Vec::new();
    for index in 0..FINDS {
        let number = index * 7919 % count;
        let value = sha256_hex(format!("own {number}").as_bytes());
        let query = Query { subject: Some(SubjectDigest::parse(&value)), ..Query::default() };
        let from = Instant::now();
        // Opened anew each time, as a process of its own would.
        let found = Archive::open(Path::new(root))?.find(&query)?;
        finds.push(from.elapsed());
        assert_eq!(found.len(), 1, "envelope {number}");
    }
    let (middle, worst) = median(finds);
    writeln!(out, "find one by its own digest: median {middle:.2?}, worst {worst:.2?}")?;

    let timed = |what: &str, query: &Query| -> Result<(), Box<dyn std::error::Error>> {
        let from = Instant::now();
        let found = archive.find(query)?.len();
        writeln!(io::stdout(), "{what}: {found} in {:.2?}", from.elapsed())?;
        Ok(())
    };
    let shared = SubjectDigest::parse(&sha256_hex(b"shared 1 7"));
    timed("find by a shared digest", &Query { subject: Some(shared.clone()), ..Query::default() })?;
    timed("find by a shared digest, newest 10", &Query { subject: Some(shared), limit: Some(10), ..Query::default() })?;
    timed("newest 20", &Query { limit: Some(20), ..Query::default() })?;
    timed("all of a step that is not there", &Query { step: Some("no".into()), ..Query::default() })?;
    timed("everything", &Query::default())?;
    let from = Instant::now();
    let report = archive.check()?;
    writeln!(out, "check: sound {}, {} objects in {:.1?}", report.is_sound(), report.objects, from.elapsed())?;
    let from = Instant::now();
    let done = archive.reindex()?;
    writeln!(out, "reindex: {} in {:.1?}", done.indexed, from.elapsed())?;
    Ok(())
}
