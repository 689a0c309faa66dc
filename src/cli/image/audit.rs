//! `affiant image audit`: what a repository has of its images.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use affiant_core::image::audit::{self, Audit, Left, Options};
use affiant_core::image::beside::Beside;
use affiant_core::image::{Inside, Target};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::place::{EVIDENCE, tell_skipped};
use super::targets::{self, TargetArgs, Use, no_answer};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, one_line};
use crate::cli::{Ending, keys};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    Text,
    Json,
    /// Prometheus' text format
    Prometheus,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant image audit --key cosign.pub registry.example/team/app\n  affiant image audit -o prometheus registry.example/team/app > app.prom\n\nReplaced is a tag that something signed says of another image (its annotation `tag`, or a name with the tag). Untagged and orphaned\nare images about which something is kept under a tag, and which no tag names, or which are gone. Without --key nothing is checked.\nExit codes: 0 whatever was found (with --fail 1 where an image is unsigned or a tag was replaced), 2 usage, 4 no answer."
)]
pub(crate) struct AuditArgs {
    /// The repository, or oci:FOLDER
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    /// Only what this public key has signed counts
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Shape,
    /// Images that are looked at at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    at_once: u8,
    /// What stands before the tags of signatures and attestations
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    attachment_tag_prefix: String,
    /// Repository, or oci:FOLDER, in which evidence is kept about its images, besides the repository itself
    #[arg(long, value_name = "NAME", env = EVIDENCE, hide_env_values = true)]
    evidence_repository: Option<String>,
    /// End with 1 where an image is unsigned or a tag was replaced
    #[arg(long)]
    fail: bool,
    #[command(flatten)]
    targets: TargetArgs,
}

pub(super) fn audit(args: &AuditArgs, output: &Output) -> Result<Ending, Failure> {
    let key = args.key.as_deref().map(keys::public_key).transpose()?;
    let key_id = key.as_ref().map(|key| key.key_id().to_owned());
    let name = &args.repository;
    let whole =
        || Failure::usage(format!("{name}: a repository is audited as a whole")).hint("leave tag and digest out");
    let place = match targets::named(name)? {
        Target::Registry(reference) if reference.tag.is_some() || reference.digest.is_some() => return Err(whole()),
        target @ Target::Registry(_) => args.targets.open_target(name, target, Use::Read)?,
        Target::Layout(_, named) if named == Inside::default() => args.targets.keeper(name, Use::Read)?,
        _ => return Err(whole()),
    };
    let options = Options { key, prefix: args.attachment_tag_prefix.clone(), at_once: usize::from(args.at_once) };
    let path = place.reference.as_ref().map(|reference| reference.repository.clone());
    let elsewhere = args.evidence_repository.as_deref().filter(|name| !name.is_empty());
    let elsewhere = elsewhere.map(|name| args.targets.keeper(name, Use::Read)).transpose()?;
    let repository = match elsewhere.filter(|keeper| keeper.shown != place.shown) {
        None => place.repository.clone(),
        Some(keeper) => Arc::new(Beside::new(place.repository.clone(), keeper.repository, &options.prefix)),
    };
    let found = audit::audit(&*repository, path.as_deref(), &options).map_err(|error| no_answer(name, &error))?;
    tell_skipped(&found.skipped, output);
    let text = match args.output {
        Shape::Text => text(&found, &place.shown, key_id.is_some()),
        Shape::Json => as_json(&found, &place.shown, key_id.as_deref()),
        Shape::Prometheus => prometheus(&found, &place.shown),
    };
    output.data(text.as_bytes())?;
    let has_fault = found.images.iter().any(|image| image.signatures == 0) || !found.replaced.is_empty();
    Ok(if args.fail && has_fault { Ending::Code(1) } else { Ending::Done })
}

fn text(found: &Audit, name: &str, is_checked: bool) -> String {
    let signed = found.images.iter().filter(|image| image.signatures > 0).count();
    let checked = if is_checked { "by the key" } else { "not checked" };
    let mut text = format!(
        "{}: {} tags, {signed} signed ({checked}), {} unsigned, {} replaced, {} untagged, {} orphaned\n",
        one_line(name),
        found.images.len(),
        found.images.len() - signed,
        found.replaced.len(),
        found.untagged.len(),
        found.orphaned.len()
    );
    for image in &found.images {
        let word = if image.signatures > 0 { "signed  " } else { "unsigned" };
        let _ = writeln!(
            text,
            "{word}  {} {} ({} signatures, {} attestations)",
            one_line(&image.tag),
            image.digest,
            image.signatures,
            image.attestations
        );
    }
    for one in &found.replaced {
        let word = if one.is_signed { "signed" } else { "not signed" };
        let _ = writeln!(text, "replaced  {} was {}, and is {}, {word}", one_line(&one.tag), one.was, one.now);
    }
    for (word, list) in [("untagged", &found.untagged), ("orphaned", &found.orphaned)] {
        for Left { digest, tags } in list {
            let _ = writeln!(text, "{word}  {digest} ({})", tags.join(", "));
        }
    }
    text
}

fn as_json(found: &Audit, name: &str, key: Option<&str>) -> String {
    let left = |list: &[Left]| -> Vec<_> {
        list.iter().map(|one| json!({ "digest": one.digest, "tags": one.tags })).collect()
    };
    let document = json!({
        "repository": name,
        "key": key,
        "images": found.images.iter().map(|image| json!({
            "tag": image.tag, "digest": image.digest, "signed": image.signatures > 0,
            "signatures": image.signatures, "attestations": image.attestations,
        })).collect::<Vec<_>>(),
        "replaced": found.replaced.iter().map(|one| json!({
            "tag": one.tag, "was": one.was, "now": one.now, "signed": one.is_signed,
        })).collect::<Vec<_>>(),
        "untagged": left(&found.untagged),
        "orphaned": left(&found.orphaned),
        "skipped": found.skipped.iter().map(|one| json!({ "place": one.place, "reason": one.reason })).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

/// Prometheus' text format 0.0.4: gauges, each with its help and type before it.
fn prometheus(found: &Audit, name: &str) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let repository = escaped(name);
    let mut text = String::new();
    let mut gauge = |metric: &str, help: &str, samples: Vec<(String, usize)>| {
        let _ = writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} gauge");
        for (labels, value) in samples {
            let _ = writeln!(text, "{metric}{{repository=\"{repository}\"{labels}}} {value}");
        }
    };
    let of_images = |value: fn(&audit::Tagged) -> usize| -> Vec<(String, usize)> {
        let labels = |image: &audit::Tagged| format!(",tag=\"{}\",digest=\"{}\"", escaped(&image.tag), image.digest);
        found.images.iter().map(|image| (labels(image), value(image))).collect()
    };
    gauge(
        "affiant_image_signatures",
        "Signatures of the image that the tag means.",
        of_images(|image| image.signatures),
    );
    gauge("affiant_image_attestations", "Attestations of it.", of_images(|image| image.attestations));
    let replaced = found
        .replaced
        .iter()
        .map(|one| (format!(",tag=\"{}\",was=\"{}\",now=\"{}\"", escaped(&one.tag), one.was, one.now), 1));
    gauge("affiant_image_replaced", "A tag that something signed says of another image.", replaced.collect());
    let count = |count| vec![(String::new(), count)];
    let unsigned = found.images.iter().filter(|image| image.signatures == 0).count();
    gauge("affiant_repository_unsigned", "Tags whose image nobody has signed.", count(unsigned));
    gauge("affiant_repository_untagged", "Images with evidence that no tag means.", count(found.untagged.len()));
    gauge("affiant_repository_orphaned", "Images that are gone, with evidence left.", count(found.orphaned.len()));
    gauge("affiant_repository_unreadable", "What could not be read.", count(found.skipped.len()));
    text
}
