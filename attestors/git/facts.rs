//! HEAD, its commit, and the references and tags that lead to it.

use gix::bstr::{BStr, ByteSlice as _};
use serde::Serialize;

use super::open;
use super::text::{self, MAX_MESSAGE, MAX_NAME};

/// How many references, tags and parents of HEAD are recorded.
const MAX_LISTED: usize = 10_000;

/// An annotated tag at HEAD.
#[derive(Debug, Serialize)]
pub(super) struct Tag {
    name: String,
    taggername: String,
    taggeremail: String,
    when: String,
    pgpsignature: String,
    message: String,
}

/// A commit as it is recorded. Hashes are lowercase hex.
#[derive(Debug, Default)]
pub(super) struct Commit {
    pub(super) hash: String,
    pub(super) author: Person,
    pub(super) committer: Person,
    pub(super) message: String,
    pub(super) signature: String,
    pub(super) parents: Vec<String>,
    pub(super) tree: String,
}

/// Who and when.
#[derive(Debug, Default)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) email: String,
    pub(super) time: Option<gix::date::Time>,
}

/// Collects texts and what had to be left out of them.
#[derive(Default)]
pub(super) struct Notes(pub(super) Vec<String>);

impl Notes {
    fn cut(&mut self, what: &str, text: String, limit: usize) -> String {
        let (text, is_longer) = text::cut(text, limit);
        if is_longer {
            self.0.push(format!("{what}: only the first {limit} bytes are recorded"));
        }
        text
    }

    fn list<T>(&mut self, what: &str, list: &mut Vec<T>) {
        if list.len() > MAX_LISTED {
            self.0.push(format!("{what}: only {MAX_LISTED} of {} are recorded", list.len()));
            list.truncate(MAX_LISTED);
        }
    }
}

/// The commit that HEAD names.
pub(super) fn commit(id: gix::Id<'_>, notes: &mut Notes) -> gix::Result<Commit> {
    let object = id.object()?.peel_to_commit()?;
    let commit = object.decode()?;
    // Usually before the signature; some programs write it after.
    let encoding = commit.encoding.or_else(|| commit.extra_headers().find("encoding"));
    let mut parents: Vec<String> = commit.parents().map(|id| id.to_string()).collect();
    notes.list("parents", &mut parents);
    let signature = commit.extra_headers().pgp_signature().map(|text| {
        let mut text = text.to_str_lossy().into_owned();
        if !text.ends_with('\n') {
            text.push('\n'); // the header's own end of line, as witness keeps it
        }
        text
    });
    Ok(Commit {
        hash: object.id.to_string(),
        author: person("author", commit.author, encoding, notes),
        committer: person("committer", commit.committer, encoding, notes),
        message: notes.cut("commit message", text::decode(commit.message, encoding), MAX_MESSAGE),
        signature: notes.cut("commit signature", signature.unwrap_or_default(), MAX_MESSAGE),
        parents,
        tree: commit.tree().to_string(),
    })
}

fn person(what: &str, line: &BStr, encoding: Option<&BStr>, notes: &mut Notes) -> Person {
    let Ok(signature) = gix::actor::SignatureRef::from_bytes(line) else {
        notes.0.push(format!("{what}: the line is malformed"));
        let name = notes.cut(what, text::decode(line, encoding), MAX_NAME);
        return Person { name, ..Person::default() };
    };
    let signature = signature.trim();
    let time = signature.time().ok();
    if time.is_none() {
        notes.0.push(format!("{what}: the time is malformed"));
    }
    Person {
        name: notes.cut(what, text::decode(signature.name, encoding), MAX_NAME),
        email: notes.cut(what, text::decode(signature.email, encoding), MAX_NAME),
        time,
    }
}

/// The full names of the references that hold the hash of HEAD themselves, and the annotated tags that name its commit,
/// both sorted by name.
pub(super) fn references(
    repository: &gix::Repository,
    head: gix::Id<'_>,
    notes: &mut Notes,
) -> gix::Result<(Vec<String>, Vec<Tag>)> {
    let mut names = Vec::new();
    let mut tags = Vec::new();
    let mut broken = 0_usize;
    for reference in repository.references()?.all()? {
        let Ok(reference) = reference else {
            broken += 1;
            continue;
        };
        let Some(id) = reference.try_id() else { continue }; // symbolic
        let name = reference.name().as_bstr();
        if id == head {
            names.push(notes.cut("reference", text::decode(name, None), MAX_NAME));
        } else if name.starts_with(b"refs/tags/") && id.header().is_ok_and(|header| header.kind().is_tag()) {
            tags.extend(tag(&id, head, notes)?);
        }
    }
    if broken > 0 {
        notes.0.push(format!("references: {broken} cannot be read"));
    }
    names.sort_unstable();
    tags.sort_by(|a, b| a.name.cmp(&b.name));
    notes.list("references", &mut names);
    notes.list("tags", &mut tags);
    Ok((names, tags))
}

fn tag(id: &gix::Id<'_>, head: gix::Id<'_>, notes: &mut Notes) -> gix::Result<Option<Tag>> {
    let object = id.object()?;
    let tag = gix::objs::TagRef::from_bytes(&object.data, id.kind())?;
    if tag.target() != head.detach() {
        return Ok(None);
    }
    let tagger = tag.tagger.map(|line| person("tagger", line, None, notes)).unwrap_or_default();
    Ok(Some(Tag {
        name: notes.cut("tag name", text::decode(tag.name, None), MAX_NAME),
        taggername: tagger.name,
        taggeremail: tagger.email,
        when: tagger.time.and_then(text::rfc3339).unwrap_or_default(),
        pgpsignature: notes.cut("tag signature", text::decode(tag.signature.unwrap_or_default(), None), MAX_MESSAGE),
        message: notes.cut("tag message", text::decode(tag.message, None), MAX_MESSAGE),
    }))
}

/// The remotes' URLs without userinfo.
pub(super) fn remotes(repository: &gix::Repository, notes: &mut Notes) -> Vec<String> {
    let mut urls: Vec<String> = open::remotes(repository.config_snapshot().plumbing())
        .into_iter()
        .map(|url| notes.cut("remote", text::without_userinfo(&url.to_str_lossy()), MAX_NAME))
        .collect();
    notes.list("remotes", &mut urls);
    urls
}
