//! Tests of layouts: what is written is read again, and what is odd is refused.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use flate2::write::GzEncoder;

use super::*;
use crate::image::carry::{Options, carry, choose};
use crate::image::manifest::{EMPTY, OCI_CONFIG, OCI_EMPTY};

fn dynamic(layout: &Layout) -> &dyn Repository {
    layout
}

/// An image of one layer, put by its tag or digest.
fn image(layout: &Layout, tag: Option<&str>, seed: &str, subject: Option<&Descriptor>) -> Descriptor {
    let layer = dynamic(layout).keep("text/plain", seed.as_bytes()).expect("kept");
    let config = dynamic(layout).keep(OCI_EMPTY, EMPTY).expect("kept");
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        artifact_type: Some("a/b".to_owned()),
        config: Some(config),
        layers: Some(vec![layer]),
        manifests: None,
        subject: subject.cloned(),
        annotations: Some(BTreeMap::from([("k".to_owned(), seed.to_owned())])),
    };
    let bytes = manifest.to_json();
    let at = tag.map_or_else(|| At::Digest(Digest::of(&bytes)), |tag| At::Tag(tag.to_owned()));
    assert_eq!(layout.put_manifest(&at, OCI_MANIFEST, &bytes).expect("put"), Put::Known);
    Descriptor::of(OCI_MANIFEST, &bytes)
}

fn index_of(entries: &[Descriptor]) -> Vec<u8> {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries }).to_string().into_bytes()
}

fn new() -> (tempfile::TempDir, Layout) {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = Layout::create(&folder.path().join("layout")).expect("made");
    (folder, layout)
}

#[track_caller]
fn refused<T>(result: Result<T, RepositoryError>, says: &str) {
    let Err(error) = result else { panic!("it was not refused") };
    let mut text = error.to_string();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    assert!(text.contains(says), "`{says}` is not in: {text}");
}

#[test]
fn what_is_put_is_there_and_is_listed_once() {
    let (_folder, layout) = new();
    assert!(matches!(layout.only_root(), Err(RepositoryError::Absent { .. })));
    let first = image(&layout, Some("v1"), "one", None);
    let second = image(&layout, None, "two", None);
    let about = image(&layout, None, "about", Some(&first));
    assert_eq!(layout.resolve(&At::Tag("v1".into())).expect("read"), Some(first.clone()));
    assert_eq!(layout.resolve(&At::Digest(second.digest.clone())).expect("read"), Some(second.clone()));
    assert_eq!(layout.resolve(&At::Tag("v2".into())).expect("read"), None);
    let referrers = layout.referrers(&first.digest).expect("read").expect("a list").entries;
    assert_eq!(referrers.len(), 1);
    assert_eq!((&referrers[0].digest, referrers[0].annotation("k")), (&about.digest, Some("about")));
    assert_eq!(layout.roots().expect("read").len(), 2, "what is about something is no root");
    // An index takes in what it leads to; what has a name stays.
    let index = index_of(&[first.clone(), second.clone()]);
    layout.put_manifest(&At::Tag("all".into()), OCI_INDEX, &index).expect("put");
    let listed: Vec<_> = layout.entries().expect("read").into_iter().map(|entry| entry.digest).collect();
    assert_eq!(listed, [first.digest.clone(), about.digest, Digest::of(&index)]);
    assert_eq!(layout.tags().expect("read"), ["all", "v1"]);
    // A name means one thing, and moves.
    image(&layout, Some("v1"), "three", None);
    assert_ne!(layout.resolve(&At::Tag("v1".into())).expect("read"), Some(first.clone()));
    layout.delete(&At::Tag("v1".into())).expect("gone");
    assert_eq!(layout.tags().expect("read"), ["all"]);
    layout.delete(&At::Digest(first.digest.clone())).expect("gone");
    assert_eq!(layout.resolve(&At::Digest(first.digest)).expect("read"), None);
}

#[test]
fn bytes_that_do_not_hash_are_neither_kept_nor_given() {
    let (folder, layout) = new();
    let digest = Digest::of(b"hello");
    refused(layout.put_blob(&digest, 5, &mut &b"hellp"[..]), "came where");
    refused(layout.put_blob(&digest, 5, &mut &b"hell"[..]), "came where");
    refused(layout.put_blob(&digest, 4, &mut &b"hello"[..]), "4 are read");
    assert!(!layout.has_blob(&digest).expect("read"));
    let blobs = folder.path().join("layout/blobs/sha256");
    assert_eq!(fs::read_dir(&blobs).expect("a folder").count(), 0, "nothing is left over");
    layout.put_blob(&digest, 5, &mut &b"hello"[..]).expect("put");
    fs::write(blobs.join(digest.hex()), "hellp").expect("written");
    refused(dynamic(&layout).blob_bytes(&digest, 10), "came where");
    refused(dynamic(&layout).blob_bytes(&digest, 4), "4 are read");
    let one = image(&layout, Some("v1"), "one", None);
    let path = blobs.join(one.digest.hex());
    let bytes = fs::read(&path).expect("read");
    fs::write(&path, String::from_utf8_lossy(&bytes).replace("one", "two")).expect("written");
    refused(layout.manifest(&At::Tag("v1".into())), "came where");
    fs::write(&path, [&bytes[..], b" "].concat()).expect("written");
    refused(layout.manifest(&At::Tag("v1".into())), "index.json says");
}

#[test]
fn links_and_other_odd_files_are_not_followed() {
    let (folder, layout) = new();
    let digest = Digest::of(b"secret");
    let blobs = folder.path().join("layout/blobs/sha256");
    let outside = folder.path().join("outside");
    fs::write(&outside, "secret").expect("written");
    symlink(&outside, blobs.join(digest.hex())).expect("linked");
    refused(dynamic(&layout).blob_bytes(&digest, 10), "links are not followed");
    fs::remove_file(blobs.join(digest.hex())).expect("gone");
    nix::unistd::mkfifo(&blobs.join(digest.hex()), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    refused(dynamic(&layout).blob_bytes(&digest, 10), "no plain file");
    fs::remove_file(blobs.join(digest.hex())).expect("gone");
    fs::create_dir(blobs.join(digest.hex())).expect("a folder");
    refused(layout.has_blob(&digest), "no plain file");
    // A folder that leads out is neither read nor written.
    fs::rename(&blobs, folder.path().join("elsewhere")).expect("moved");
    symlink(folder.path().join("elsewhere"), &blobs).expect("linked");
    assert!(layout.has_blob(&Digest::of(b"x")).is_err());
    assert!(layout.put_blob(&Digest::of(b"x"), 1, &mut &b"x"[..]).is_err());
    assert!(!folder.path().join("elsewhere").join(Digest::of(b"x").hex()).exists());
}

#[test]
fn what_is_no_layout_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(Layout::open(folder.path()), "oci-layout is not there");
    fs::write(folder.path().join("notes"), "mine").expect("written");
    refused(Layout::create(folder.path()), "other things in it");
    for (marker, says) in
        [("{}", "does not say"), (r#"{"imageLayoutVersion":"2.0.0"}"#, "not known"), ("[", "does not say")]
    {
        fs::write(folder.path().join("oci-layout"), marker).expect("written");
        refused(Layout::open(folder.path()), says);
    }
    fs::write(folder.path().join("oci-layout"), MARKER).expect("written");
    let layout = Layout::open(folder.path()).expect("a layout");
    refused(layout.tags(), "no index.json");
    for (index, says) in [
        (b"{".to_vec(), "no manifest"),
        (vec![b' '; MAX_MANIFEST + 1], "are read"),
        (format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","manifests":[]}}"#).into_bytes(), "it says"),
    ] {
        fs::write(folder.path().join("index.json"), index).expect("written");
        refused(layout.tags(), says);
    }
    let (one, other) = (Descriptor::of(OCI_MANIFEST, b"1"), Descriptor::of(OCI_MANIFEST, b"2"));
    let named = |entry: &Descriptor| Descriptor {
        annotations: Some(BTreeMap::from([(REF_NAME.to_owned(), "v1".to_owned())])),
        ..entry.clone()
    };
    fs::write(folder.path().join("index.json"), index_of(&[named(&one), named(&other)])).expect("written");
    refused(layout.manifest(&At::Tag("v1".into())), "to several images");
    fs::write(folder.path().join("index.json"), index_of(&[named(&one)])).expect("written");
    refused(layout.manifest(&At::Tag("v1".into())), "is not there");
    fs::write(folder.path().join("index.json"), index_of(&[one, other])).expect("written");
    refused(layout.only_root(), "several images");
}

#[test]
fn several_writers_lose_nothing() {
    let (folder, _) = new();
    let path = folder.path().join("layout");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let layout = Layout::open(path).expect("a layout");
                for number in 0..5 {
                    image(&layout, Some(&format!("w{writer}-{number}")), &format!("{writer} {number}"), None);
                }
            });
        }
    });
    assert_eq!(Layout::open(&path).expect("a layout").tags().expect("read").len(), 40);
}

#[test]
fn what_others_wrote_into_the_index_stays() {
    let (folder, layout) = new();
    let path = folder.path().join("layout/index.json");
    fs::write(&path, r#"{"schemaVersion":2,"x-other":{"deep":[1]},"manifests":[]}"#).expect("written");
    image(&layout, Some("v1"), "one", None);
    let index: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    assert_eq!(index["x-other"], json!({ "deep": [1] }));
}

#[test]
fn the_kinds_of_cosign_are_names() {
    let (folder, layout) = new();
    let one = image(&layout, None, "one", None);
    let signatures = image(&layout, None, "signatures", None);
    let kind = |entry: &Descriptor, kind: &str| Descriptor {
        annotations: Some(BTreeMap::from([("kind".to_owned(), format!("dev.cosignproject.cosign/{kind}"))])),
        ..entry.clone()
    };
    let index = index_of(&[kind(&one, "image"), kind(&signatures, "sigs")]);
    fs::write(folder.path().join("layout/index.json"), index).expect("written");
    let found = layout.resolve(&At::Tag(one.digest.tag(".sig"))).expect("read").expect("there");
    assert_eq!(found.digest, signatures.digest);
    assert_eq!(layout.only_root().expect("one"), At::Digest(one.digest));
}

#[test]
fn one_image_has_the_kinds_of_cosign() {
    let (folder, layout) = new();
    let (one, two) = (image(&layout, Some("v1"), "one", None), image(&layout, Some("v2"), "two", None));
    for (about, suffix) in [(&one, ".sig"), (&one, ".att"), (&two, ".sig")] {
        image(&layout, Some(&about.digest.tag(suffix)), &format!("{}{suffix}", about.digest), None);
    }
    let kinds = || {
        let bytes = fs::read(folder.path().join("layout/index.json")).expect("read");
        let index: Value = serde_json::from_slice(&bytes).expect("JSON");
        let entries = index["manifests"].as_array().expect("a list").clone();
        let kinds = entries.iter().filter_map(|entry| {
            let kind = entry["annotations"]["kind"].as_str()?.strip_prefix("dev.cosignproject.cosign/")?.to_owned();
            Some((kind, entry["annotations"][REF_NAME].as_str()?.to_owned()))
        });
        kinds.collect::<BTreeMap<_, _>>()
    };
    layout.mark(&one.digest, "").expect("marked");
    let (sigs, atts) = (one.digest.tag(".sig"), one.digest.tag(".att"));
    assert_eq!(kinds(), [("image", "v1"), ("sigs", &sigs), ("atts", &atts)].map(|(a, b)| (a.into(), b.into())).into());
    // Another one takes its place, and every tag means what it meant.
    layout.mark(&two.digest, "").expect("marked");
    assert_eq!(kinds(), [("image", "v2"), ("sigs", &two.digest.tag(".sig"))].map(|(a, b)| (a.into(), b.into())).into());
    for tag in [sigs, atts] {
        assert!(layout.resolve(&At::Tag(tag)).expect("read").is_some());
    }
}

#[test]
fn an_archive_holds_what_the_folder_held_and_equal_folders_give_equal_bytes() {
    let (folder, layout) = new();
    let one = image(&layout, Some("v1"), "one", None);
    let about = image(&layout, None, "about", Some(&one));
    let (file, again) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
    pack(&folder.path().join("layout"), &file).expect("packed");
    pack(&folder.path().join("layout"), &again).expect("packed");
    assert_eq!(fs::read(&file).expect("read"), fs::read(&again).expect("read"));
    assert!(pack(&folder.path().join("layout"), &file).is_err(), "what is there stays");
    let archive = Layout::open_archive(&file).expect("an archive");
    assert_eq!(archive.resolve(&At::Tag("v1".into())).expect("read"), Some(one.clone()));
    assert_eq!(archive.referrers(&one.digest).expect("read").expect("a list").entries[0].digest, about.digest);
    assert_eq!(dynamic(&archive).blob_bytes(&Digest::of(b"one"), 3).expect("read"), b"one");
    assert!(matches!(
        archive.put_manifest(&At::Tag("x".into()), OCI_INDEX, &index_of(&[])),
        Err(RepositoryError::Cannot { .. })
    ));
    // And back, with what is about it.
    let (_other, to) = new();
    let chosen = || choose(&archive, &At::Tag("v1".into()), None).expect("there");
    let report = carry(&archive, chosen(), &to, Some("v2"), &Options::default()).expect("carried");
    assert_eq!((report.manifests, report.evidence), (1, 1));
    assert_eq!(to.referrers(&one.digest).expect("read").expect("a list").entries.len(), 1);
    let report = carry(&archive, chosen(), &to, Some("v2"), &Options::default()).expect("carried");
    assert_eq!((report.sent, report.present), ((0, 0), 3));
}

/// A tar file of these entries: name, kind, content or link.
fn tar_of(path: &Path, entries: &[(&str, tar::EntryType, &[u8])]) {
    let mut archive = tar::Builder::new(File::create(path).expect("made"));
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        if kind.is_symlink() || kind.is_hard_link() {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content);
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, io::empty()).expect("written");
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, *content).expect("written");
        }
    }
    archive.into_inner().expect("written");
}

#[test]
fn odd_archives_are_refused() {
    use tar::EntryType::{Block, GNUSparse, Regular, Symlink};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tar");
    let index = empty_index();
    let good = [("oci-layout", Regular, MARKER), ("index.json", Regular, &index[..])];
    let with = |entry: (&'static str, tar::EntryType, &'static [u8])| {
        tar_of(&path, &[good[0], good[1], entry]);
        Layout::open_archive(&path)
    };
    assert!(with(("./blobs/x", Regular, b"x")).is_ok());
    refused(with(("./index.json", Regular, b"{}")), "twice");
    refused(with(("../index.json", Regular, b"{}")), "no name below");
    refused(with(("/etc/passwd", Regular, b"{}")), "no name below");
    refused(with(("blobs/x", Block, b"")), "neither a file nor a folder");
    refused(with(("blobs/x", Symlink, b"../../etc/passwd")), "out of the archive");
    refused(with(("blobs/x", Symlink, b"/etc/passwd")), "out of the archive");
    refused(with(("index.json", Symlink, b"oci-layout")), "twice");
    assert!(with(("blobs/x", GNUSparse, b"")).is_err());
    tar_of(&path, &good);
    let whole = fs::read(&path).expect("read");
    fs::write(&path, &whole[..1100]).expect("written");
    assert!(Layout::open_archive(&path).is_err(), "it is cut off");
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&whole).expect("packed");
    fs::write(&path, packed.finish().expect("packed")).expect("written");
    refused(Layout::open_archive(&path), "compressed with gzip");
    fs::remove_file(&path).expect("gone");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    refused(Layout::open_archive(&path), "no plain file");
}

#[test]
fn what_is_linked_is_written_once() {
    use tar::EntryType::{Link, Regular, Symlink};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tar");
    let long = vec![b'x'; 1 << 20];
    let blob = blob_name(&Digest::of(&long));
    let index = index_of(&[]);
    let names: Vec<String> = (0..50).map(|number| format!("a/{number}")).collect();
    let symbolic = format!("../{blob}");
    let mut entries: Vec<(&str, tar::EntryType, &[u8])> =
        vec![("oci-layout", Regular, MARKER), ("index.json", Regular, &index), (&blob, Regular, &long)];
    let links = names.iter().enumerate().map(|(number, name)| {
        let (kind, to) = if number % 2 == 0 { (Symlink, &symbolic) } else { (Link, &blob) };
        (name.as_str(), kind, to.as_bytes())
    });
    entries.extend(links);
    entries.push(("z", Symlink, b"oci-layout"));
    tar_of(&path, &entries);
    let before = fs::metadata(&path).expect("there").len();
    let edit = |change: &dyn Fn(&Layout)| {
        let scratch = tempfile::tempdir().expect("a folder");
        let edited = Edited::open(&path, scratch.path()).expect("an archive");
        change(edited.layout());
        edited.finish().expect("written");
    };
    let has = |name: &str| {
        let Files::Tar(_, files) = Files::of_tar(&path).expect("an archive") else { panic!("it is a tar file") };
        files.get(name).map(|(_, size)| *size)
    };
    for seed in ["one", "two"] {
        edit(&|layout| drop(image(layout, Some(seed), seed, None)));
        let after = fs::metadata(&path).expect("there").len();
        assert!(after < before + (64 << 10), "{before} bytes became {after}");
        assert!(names.iter().chain([&blob]).all(|name| has(name) == Some(1 << 20)));
        assert_eq!(has("z"), Some(MARKER.len() as u64));
    }
    let read = Layout::open_archive(&path).expect("an archive");
    assert_eq!(dynamic(&read).blob_bytes(&Digest::of(&long), 1 << 20).expect("read"), long);
    // Readers that take it apart need what a link leads to before the link, and the name of a blob is no link.
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(File::open(&path).expect("there")).entries().expect("entries") {
        let entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        if let Some(to) = entry.link_name().expect("a link") {
            assert_eq!(seen.get(&to.display().to_string()), Some(&false), "{name}");
        }
        seen.insert(name, entry.header().entry_type().is_hard_link());
    }
    assert_eq!((seen[&blob], seen["a/0"]), (false, true));
    // What the links lead to is taken away, and they stay.
    edit(&|layout| layout.delete(&At::Digest(Digest::of(&long))).expect("deleted"));
    assert_eq!(has(&blob), None);
    assert!(names.iter().all(|name| has(name) == Some(1 << 20)));
}

#[test]
fn what_docker_saves_is_an_image_with_one_digest() {
    use tar::EntryType::{Regular, Symlink};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tar");
    let config = json!({ "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"layer"), Digest::of(b"layer")] } });
    let config = config.to_string();
    let list = json!([{ "Config": "c.json", "RepoTags": ["app:1"], "Layers": ["a/layer.tar", "b/layer.tar"] }]);
    let list = list.to_string();
    let write = |layer: &[u8]| {
        tar_of(
            &path,
            &[
                ("a/layer.tar", Regular, layer),
                ("b/layer.tar", Symlink, b"../a/layer.tar"),
                ("c.json", Regular, config.as_bytes()),
                ("manifest.json", Regular, list.as_bytes()),
            ],
        );
        docker_archive(&path, None)
    };
    let (archive, digest) = write(b"layer").expect("an image");
    let (stored, manifest) = archive.need_parsed(&At::Digest(digest.clone())).expect("there");
    assert_eq!((stored.media_type(), manifest.layers().len()), (OCI_MANIFEST, 2));
    assert_eq!(manifest.config.expect("a config").media_type, OCI_CONFIG);
    assert_eq!(manifest.layers.expect("layers")[1].digest, Digest::of(b"layer"));
    assert_eq!(archive.blob_bytes(&Digest::of(b"layer"), 5).expect("read"), b"layer");
    let (_, again) = write(b"layer").expect("an image");
    assert_eq!(again, digest);
    refused(write(b"lazer").map(|_| ()), "its config says");
    write(b"layer").map(|_| ()).expect("an image");
    assert!(docker_archive(&path, Some("app:1")).is_ok());
    assert!(matches!(docker_archive(&path, Some("app:2")), Err(RepositoryError::Absent { .. })));
}

/// What was taken away leaves nothing behind that nothing else needs, and takes nothing along that something else does.
#[test]
fn what_nothing_leads_to_is_swept() {
    let (folder, layout) = new();
    let one = image(&layout, Some("v1"), "shared", None);
    let about = image(&layout, None, "of evidence alone", Some(&one));
    let again = image(&layout, None, "shared", Some(&one));
    let of = |evidence: &Descriptor| {
        let stored = dynamic(&layout).need(&At::Digest(evidence.digest.clone())).expect("there");
        let manifest = stored.manifest().expect("a manifest");
        let layers = manifest.layers().iter().chain(&manifest.config).map(|one| one.digest.clone());
        layers.chain([evidence.digest.clone()]).collect::<BTreeSet<_>>()
    };
    let left: BTreeSet<Digest> = of(&about).union(&of(&again)).cloned().collect();
    assert_eq!(layout.sweep(&left).expect("swept"), [], "all is needed");
    for evidence in [&about, &again] {
        layout.delete(&At::Digest(evidence.digest.clone())).expect("deleted");
    }
    // Where something cannot be read, it may need anything.
    let broken = image(&layout, Some("v2"), "another", None);
    let file = folder.path().join("layout").join(blob_name(&broken.digest));
    let whole = fs::read(&file).expect("read");
    for content in [None, Some(&b"{}"[..])] {
        fs::remove_file(&file).expect("removed");
        if let Some(bytes) = content {
            fs::write(&file, bytes).expect("written");
        }
        refused(layout.sweep(&left), broken.digest.as_str());
        fs::write(&file, &whole).expect("written");
    }
    // So may what is listed as a manifest of another kind.
    let unknown = json!({"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []}).to_string();
    let unknown = (Digest::of(unknown.as_bytes()), unknown.into_bytes());
    fs::write(folder.path().join("layout").join(blob_name(&unknown.0)), &unknown.1).expect("written");
    let list = folder.path().join("layout/index.json");
    let before = fs::read(&list).expect("read");
    let mut index: Value = serde_json::from_slice(&before).expect("JSON");
    let entries = index["manifests"].as_array_mut().expect("a list");
    entries.push(json!({"mediaType": "application/vnd.oci.artifact.manifest.v1+json",
        "digest": unknown.0.as_str(), "size": unknown.1.len()}));
    fs::write(&list, index.to_string()).expect("written");
    refused(layout.sweep(&left), "what it needs is not known");
    fs::write(&list, before).expect("written");
    let own = Digest::of(b"of evidence alone");
    assert_eq!(layout.sweep(&left).expect("swept"), std::slice::from_ref(&own));
    assert!(!layout.has_blob(&own).expect("asked"));
    for kept in [Digest::of(b"shared"), Digest::of(EMPTY), one.digest.clone()] {
        assert!(layout.has_blob(&kept).expect("asked"), "{kept}");
    }
    assert_eq!(layout.sweep(&left).expect("swept"), [], "once");
    // What an index leads to, and what a list names that is no manifest, is needed as well.
    let index = index_of(std::slice::from_ref(&one));
    layout.put_manifest(&At::Tag("all".into()), OCI_INDEX, &index).expect("put");
    layout.delete(&At::Tag("v1".into())).expect("deleted");
    let of_image = BTreeSet::from([one.digest.clone(), Digest::of(b"shared")]);
    assert_eq!(layout.sweep(&of_image).expect("swept"), []);
    layout.delete(&At::Tag("all".into())).expect("deleted");
    assert_eq!(layout.sweep(&of_image).expect("swept").len(), 2);
}

/// Bytes that look, before they are read, at what lies in a folder.
struct Looking<'a>(&'a Path, &'a [u8]);

impl Read for Looking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert_eq!(fs::read_dir(self.0)?.count(), 0, "killed now, something would stay");
        self.1.read(buffer)
    }
}

#[test]
fn what_is_being_written_has_no_name() {
    let (folder, layout) = new();
    if disk::unnamed(folder.path(), Modes::SHARED).is_none() {
        let _ = writeln!(io::stderr(), "SKIPPED what_is_being_written_has_no_name: every file has a name here");
        return;
    }
    let bytes = vec![7; 3 << 20];
    let blobs = folder.path().join("layout/blobs/sha256");
    fs::create_dir_all(&blobs).expect("made");
    let digest = Digest::of(&bytes);
    dynamic(&layout).put_blob(&digest, 3 << 20, &mut Looking(&blobs, &bytes)).expect("kept");
    // Once more, over what is there: what has a name is replaced.
    dynamic(&layout).put_blob(&digest, 3 << 20, &mut &bytes[..]).expect("kept");
    assert_eq!(fs::read(blobs.join(digest.hex())).expect("there"), bytes);
    assert_eq!(fs::read_dir(&blobs).expect("there").count(), 1);
}
