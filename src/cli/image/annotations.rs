//! `-a name=value`: what is said, or wanted to be said, about an image.

use std::collections::BTreeMap;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output::Output;

#[derive(Args)]
pub(super) struct AnnotationArgs {
    /// An annotation; a comma is part of the value (repeatable)
    #[arg(short = 'a', long = "annotations", value_name = "NAME=VALUE")]
    annotations: Vec<String>,
}

impl AnnotationArgs {
    /// The annotations by name.
    pub(super) fn read(&self, output: &Output) -> Result<BTreeMap<String, String>, Failure> {
        read(&self.annotations, output)
    }
}

/// Annotations by name.
pub(in crate::cli) fn read(texts: &[String], output: &Output) -> Result<BTreeMap<String, String>, Failure> {
    let mut read = BTreeMap::new();
    for text in texts {
        let records = if text.starts_with('"') { quoted(text) } else { Some(vec![text.clone()]) };
        let records = records
            .ok_or_else(|| Failure::usage(format!("the annotation {text}: the quotes do not end, or more follows")))?;
        for record in records {
            let Some((name, value)) = record.split_once('=') else {
                return Err(Failure::usage(format!("the annotation `{record}` has no `=` between name and value"))
                    .hint("write `-a NAME=VALUE`"));
            };
            if name.is_empty() {
                return Err(Failure::usage(format!("the annotation `{record}` has no name")));
            }
            if text.starts_with('"') {
            } else if let Some(other) = looks_like_two(value) {
                output.message(&format!(
                    "note: `{record}` is one annotation, whose value has a comma; name `{other}` with an `-a` of its own if two are meant"
                ));
            }
            if let Some(before) = read.insert(name.to_owned(), value.to_owned())
                && before != value
            {
                return Err(Failure::usage(format!("the annotation `{name}` is named twice, with two values")));
            }
        }
    }
    Ok(read)
}

/// A part of a value that cosign would take for another annotation.
fn looks_like_two(value: &str) -> Option<&str> {
    let (_, other) = value.split_once(',')?;
    let (name, _) = other.split_once('=')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    is_name.then_some(other)
}

/// The fields of one record of comma separated values (RFC 4180), as cosign's flag takes them.
fn quoted(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = if let Some(mut inside) = rest.strip_prefix('"') {
            let mut field = String::new();
            loop {
                let (part, behind) = inside.split_once('"')?;
                field.push_str(part);
                match behind.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        inside = more;
                    }
                    None => break (field, behind),
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(more) => rest = more,
            None if behind.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Option<Vec<(String, String)>> {
        let args = AnnotationArgs { annotations: texts.iter().map(|text| (*text).to_owned()).collect() };
        args.read(&Output::new()).ok().map(|read| read.into_iter().collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn commas_belong_to_the_value() {
        assert_eq!(read(&["name=Doe, Jane"]), Some(pairs(&[("name", "Doe, Jane")])));
        assert_eq!(read(&["\"name=Doe, Jane\""]), Some(pairs(&[("name", "Doe, Jane")])));
        assert_eq!(read(&["\"a=x,y\",b=z"]), Some(pairs(&[("a", "x,y"), ("b", "z")])));
        assert_eq!(read(&["\"a=say \"\"hi\"\"\""]), Some(pairs(&[("a", "say \"hi\"")])));
        assert_eq!(read(&["a=b=c"]), Some(pairs(&[("a", "b=c")])));
        assert_eq!(read(&["a="]), Some(pairs(&[("a", "")])));
        assert_eq!(read(&["a=1", "a=1"]), Some(pairs(&[("a", "1")])));
        assert_eq!(looks_like_two("1,b=2"), Some("b=2"));
        for bad in [&["a"][..], &["=b"], &["\"a=b"], &["\"a=b\"c"], &["a=1", "a=2"]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
