//! The source of a first policy as text: YAML with a comment at each thing that its reader may want to change.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::super::shipped;
use super::super::source::{short_type, spoken};
use super::{Draft, ExternalPlan, NamedKey, Plan, Request, StepPlan, Who};
use crate::evidence::{kinds, short_name};

/// What is asked of a command, in Rego: witness and cilock do not know `exitcode`.
const EXIT_CODE: &str = r#"package commandrun.exitcode

import rego.v1

deny contains msg if {
  input.exitcode != 0
  msg := sprintf("the command ended with %v", [input.exitcode])
}"#;

const CYCLONEDX: &str = r#"package sbom.banned

import rego.v1

# name@version, as the SBOM writes them
banned := {
  "event-stream@3.3.6",
  "log4j-core@2.14.1",
}

deny contains msg if {
  some component in object.get(input, "components", [])
  named := concat("@", [component.name, component.version])
  named in banned
  msg := sprintf("the component %v is banned", [named])
}"#;

const SPDX: &str = r#"package sbom.banned

import rego.v1

# name@version, as the SBOM writes them
banned := {
  "event-stream@3.3.6",
  "log4j-core@2.14.1",
}

deny contains msg if {
  some found in object.get(input, "packages", [])
  named := concat("@", [found.name, found.versionInfo])
  named in banned
  msg := sprintf("the package %v is banned", [named])
}"#;

const SPDX3: &str = r#"package sbom.banned

import rego.v1

# name@version, as the SBOM writes them
banned := {
  "event-stream@3.3.6",
  "log4j-core@2.14.1",
}

deny contains msg if {
  some found in object.get(input, "@graph", [])
  named := concat("@", [found.name, found.software_packageVersion])
  named in banned
  msg := sprintf("the package %v is banned", [named])
}"#;

const IMAGE: &str = r#"package image.tags

import rego.v1

deny contains msg if {
  some tag in object.get(input, "imagetags", [])
  endswith(tag, ":latest")
  msg := sprintf("the image is tagged %v", [tag])
}"#;

const ENVIRONMENT: &str = r#"package builder

import rego.v1

deny contains msg if {
  input.os != "linux"
  msg := sprintf("built on %v", [input.os])
}"#;

/// What is said of a certificate that signed evidence.
const FOUND: &str =
    "Found in the evidence: review who this is, and whether whoever can get such a certificate may sign.";

/// A text as a JSON string in ASCII.
fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            ' '..='~' => out.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

/// A text as a scalar of YAML.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '/' | '-' | ':' | '@'))
        && !text.ends_with(':')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            ' '..='~' => out.push(letter),
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(letter));
            }
        }
    }
    out.push('"');
    out
}

/// A text in a comment, on one line.
fn comment(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if matches!(letter, ' '..='~') { vec![letter] } else { letter.escape_default().collect() })
        .collect()
}

/// `90d` needs no quotes: it is no number.
fn expires(text: &str) -> String {
    let plain =
        text.len() > 1 && text.ends_with(['d', 'w', 'h']) && text[..text.len() - 1].bytes().all(|b| b.is_ascii_digit());
    if plain { text.to_owned() } else { scalar(text) }
}

/// Lines of a block of YAML, `indent` spaces deep.
fn block(out: &mut String, indent: usize, text: &str) {
    for line in text.lines() {
        if line.is_empty() {
            out.push('\n');
        } else {
            let _ = writeln!(out, "{:indent$}{line}", "");
        }
    }
}

fn commented(out: &mut String, indent: usize, text: &str) {
    for line in text.lines() {
        let line = format!("# {line}");
        let _ = writeln!(out, "{:indent$}{}", "", line.trim_end());
    }
}

/// What was said at a step before: comments and examples stand once.
struct Told {
    timestamps: bool,
    texts: BTreeSet<String>,
}

impl Told {
    fn is_new(&mut self, text: &str) -> bool {
        self.texts.insert(text.to_owned())
    }

    /// Writes comment lines that were not written before.
    fn comment(&mut self, out: &mut String, indent: usize, text: &str) {
        if self.is_new(text) {
            commented(out, indent, text);
        }
    }
}

pub(super) fn draft(request: &Request, plan: Plan) -> Draft {
    let mut out = String::new();
    head(&mut out, request, &plan);
    anchors(&mut out, request, &plan);
    keys(&mut out, request, &plan);
    out.push_str(
        "# What must have happened, a step each. The name of a step is that of `affiant run --step NAME`.\nsteps:\n",
    );
    let mut told = Told { timestamps: !request.authorities.is_empty(), texts: BTreeSet::new() };
    for step in &plan.steps {
        self::step(&mut out, step, &mut told);
    }
    if !plan.external.is_empty() {
        out.push_str("# Statements that no step of this policy made, about something that one has made.\nexternalAttestations:\n");
        for one in &plan.external {
            external(&mut out, one);
        }
    }
    images(&mut out, request);
    let source = out.trim_end().to_owned() + "\n";
    Draft { source, notes: plan.notes, seeds: plan.seeds }
}

fn head(out: &mut String, request: &Request, plan: &Plan) {
    out.push_str(
        "# A policy for `affiant verify`, made from evidence: it asks for what that evidence has.\n\
         # Read it, change it, check it, and sign it with a key that no build has:\n\
         #   affiant policy check policy.yaml\n\
         #   affiant policy sign policy.yaml --key policy.key --outfile policy.signed.json\n\n",
    );
    for note in &plan.notes {
        let _ = writeln!(out, "# Note: {}", comment(note));
    }
    if !plan.notes.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "# Until when the policy holds: a time, a date, or as here counted from the day on which it is compiled.\n\
         expires: {}\n\n\
         # Raise the version with each change; a gate that is told `--policy-minimum-version` then refuses older ones.\n\
         version: 1\n",
        expires(&request.expires)
    );
}

fn uses(request: &Request, plan: &Plan, wanted: impl Fn(&Who) -> bool) -> bool {
    let of_images = request.images.who();
    let of_external = plan.external.iter().flat_map(|one| &one.who);
    plan.steps.iter().flat_map(|step| &step.who).chain(of_external).chain(&of_images).any(wanted)
}

/// Who must have signed the image: what no evidence of a run says, so the caller does.
fn images(out: &mut String, request: &Request) {
    let signers = &request.images;
    if signers.is_empty() {
        return;
    }
    out.push_str(
        "\n# The image itself: who must have signed it, and where it may be. With this part, `affiant verify` wants an image\n\
         # (`--image REF`). `timestamp: required`, `timestampConstraint: {maxAge: 30d}`, `log: required`, `sct: required` and\n\
         # `certificateMatches: [repository, commit, run]` demand more of each signature.\nimages:\n",
    );
    let who = signers.who();
    if !who.is_empty() {
        out.push_str("  functionaries:\n");
        functionaries(out, 4, &who, "Named for this policy: whoever can get such a certificate may sign.");
    }
    if !signers.names.is_empty() {
        let names: Vec<String> = signers.names.iter().map(|name| json_text_yaml(name)).collect();
        let _ = writeln!(out, "  names: [{}]", names.join(", "));
    }
}

fn anchors(out: &mut String, request: &Request, plan: &Plan) {
    let lists = [
        ("roots", &request.roots, "# Roots that the certificates of signers must lead to."),
        (
            "timestampauthorities",
            &request.authorities,
            "# Who proves when something was signed. Certificates count only at a proven time; `maxAge` needs one, too.",
        ),
    ];
    for (member, anchors, about) in lists {
        let wanted = member != "roots" || uses(request, plan, |who| matches!(who, Who::Certificate(_)));
        if anchors.is_empty() || !wanted {
            continue;
        }
        let _ = writeln!(out, "{about}\n{member}:");
        for anchor in anchors {
            let _ = writeln!(out, "  {}:\n    # {}", scalar(&anchor.id), comment(&anchor.certificate.label()));
            out.push_str("    certificate: |\n");
            block(out, 6, &anchor.certificate.to_pem());
            if !anchor.intermediates.is_empty() {
                out.push_str("    intermediates:\n");
                for one in &anchor.intermediates {
                    out.push_str("      - |\n");
                    block(out, 8, &one.to_pem());
                }
            }
        }
        out.push('\n');
    }
    if let Some(root) = &request.trusted_root
        && let Ok(value) = serde_json::from_slice::<Value>(&root.to_json())
    {
        out.push_str(
            "# Whom Sigstore's services are trusted as: authorities of certificates and of times, and logs. A file below this\n\
             # one does as well as the text. `log: required` in a step demands an entry in one of the logs.\n\
             trustedRoot: |\n",
        );
        block(out, 2, &format!("{value:#}"));
        out.push('\n');
    }
}

fn keys(out: &mut String, request: &Request, plan: &Plan) {
    let used = |name: &str| uses(request, plan, |who| matches!(who, Who::Key(key) if key == name));
    let is_new = |named: &&NamedKey| request.keys.iter().all(|known| known.name != named.name);
    let of_images = request.images.keys.iter().filter(is_new);
    let keys: Vec<_> = request.keys.iter().chain(of_images).filter(|named| used(&named.name)).collect();
    if keys.is_empty() {
        return;
    }
    out.push_str("# Keys of those who sign, under names of your choice. A file below this one does as well as the text.\npublickeys:\n");
    for named in keys {
        let _ = writeln!(out, "  {}:\n    # key id {}\n    key: |", scalar(&named.name), named.key.key_id());
        block(out, 6, &named.key.to_pem());
    }
    out.push('\n');
}

fn functionaries(out: &mut String, indent: usize, who: &BTreeSet<Who>, about: &str) {
    for who in who {
        match who {
            Who::Key(name) => {
                let _ = writeln!(out, "{:indent$}- key: {}", "", scalar(name));
            }
            Who::Certificate(constraint) => {
                let _ = writeln!(out, "{:indent$}# {about}", "");
                let _ = writeln!(
                    out,
                    "{:indent$}# `*` stands for anything; an empty list means that the certificate has none.",
                    ""
                );
                let _ = writeln!(out, "{:indent$}- certConstraint:", "");
                let constraint: Value = serde_json::from_str(constraint).unwrap_or_default();
                for (name, value) in constraint.as_object().into_iter().flatten() {
                    let _ = write!(out, "{:1$}{name}: ", "", indent + 4);
                    match value {
                        Value::Array(list) => {
                            let list: Vec<String> = list.iter().filter_map(Value::as_str).map(json_text_yaml).collect();
                            let _ = writeln!(out, "[{}]", list.join(", "));
                        }
                        Value::Object(map) => {
                            out.push('\n');
                            for (name, value) in map {
                                let value = scalar(value.as_str().unwrap_or_default());
                                let _ = writeln!(out, "{:1$}{name}: {value}", "", indent + 6);
                            }
                        }
                        other => {
                            let _ = writeln!(out, "{}", scalar(other.as_str().unwrap_or_default()));
                        }
                    }
                }
            }
        }
    }
    if who.is_empty() {
        let _ = writeln!(out, "{:indent$}[]", "");
    }
}

/// A text within brackets.
fn json_text_yaml(text: &str) -> String {
    let plain = scalar(text);
    if plain.starts_with('"') { plain } else { format!("\"{plain}\"") }
}

fn step(out: &mut String, step: &StepPlan, told: &mut Told) {
    let _ = writeln!(out, "  {}:", scalar(&step.name));
    if step.runs > 1 {
        let _ = writeln!(out, "    # From {} runs: what all of them attest, and who signed any of them.", step.runs);
    }
    told.comment(out, 4, "Who may sign. One is enough; `threshold: 2` wants two.");
    out.push_str("    functionaries:\n");
    functionaries(out, 6, &step.who, FOUND);
    if step.has_command {
        let codes: Vec<String> = step.exit_codes.iter().map(ToString::to_string).collect();
        match codes.as_slice() {
            [one] => {
                told.comment(out, 4, "What the command must have ended with.");
                let _ = writeln!(out, "    exitcode: {one}");
            }
            many => {
                told.comment(out, 4, "What the command may have ended with: write 0 if that is all.");
                let _ = writeln!(out, "    exitcode: [{}]", many.join(", "));
            }
        }
    } else {
        told.comment(out, 4, "This evidence is of no command. Without this line it would be refused.");
        out.push_str("    commandRun: optional\n");
    }
    if step.from.is_empty() {
        told.comment(
            out,
            4,
            "No file of this step comes from another one, as far as the evidence shows.\nartifactsFrom: [STEP]",
        );
    } else {
        out.push_str("    # Files that come from these steps must be as those left them:\n");
        for edge in &step.from {
            let others = match edge.files {
                0 | 1 => String::new(),
                many => format!(" and {} more", many - 1),
            };
            let _ = writeln!(out, "    #   from {}: {}{others}", comment(&edge.step), comment(&edge.example));
        }
        let names: Vec<String> = step.from.iter().map(|edge| scalar(&edge.step)).collect();
        let _ = writeln!(out, "    artifactsFrom: [{}]", names.join(", "));
    }
    told.comment(
        out,
        4,
        "What must be attested. `rego` says what of it must not pass: a file of rules, or the rules as here.",
    );
    out.push_str("    attestations:\n");
    for kind in &step.kinds {
        attestation(out, kind, step, told);
    }
    out.push('\n');
}

fn attestation(out: &mut String, kind: &str, step: &StepPlan, told: &mut Told) {
    let _ = writeln!(out, "      - type: {}", scalar(short_type(kind)));
    if kinds::same(crate::collection::COMMAND_RUN_TYPE, kind) {
        if told.timestamps && step.timed {
            told.comment(out, 8, "How old the evidence may be, by the proven time of its signature.\nmaxAge: 30d");
        } else {
            told.comment(
                out,
                8,
                "How old the evidence may be. Its signature must be timestamped then (RFC 3161), and\n\
                 `timestampauthorities` must name the authority.\nmaxAge: 30d",
            );
        }
        if step.exit_codes.iter().all(|code| *code == 0) {
            told.comment(out, 8, "The same as `exitcode` above, for witness and cilock, which do not know it.");
            rego(out, EXIT_CODE);
        }
        return;
    }
    if let Some(shipped) = shipped::for_kind(kind) {
        let about = format!(
            "A rule of affiant (`affiant policy rules {}` prints it). It {}.\n\
             Publishers that are trusted without a pin are named in a module beside it: docs/how-to/write-a-policy.md.",
            shipped.name, shipped.about
        );
        told.comment(out, 8, &about);
        let _ = writeln!(out, "        rego: {}{}", shipped::PREFIX, shipped.name);
        return;
    }
    match short_name(kind) {
        "git" => git(out, step, told),
        "sbom" if kind.contains("cyclonedx") => {
            told.comment(out, 8, "Components that must not be in it; the list is an example.");
            rego(out, CYCLONEDX);
        }
        "sbom" => {
            told.comment(out, 8, "Packages that must not be in it; the list is an example.");
            rego(out, SPDX);
        }
        "https://spdx.dev/Document/v3" => {
            told.comment(out, 8, "Packages that must not be in it; the list is an example.");
            rego(out, SPDX3);
        }
        "oci" => example(out, "No image may be tagged so:", IMAGE, told),
        "environment" => example(out, "Where it may be built:", ENVIRONMENT, told),
        _ => {}
    }
}

fn git(out: &mut String, step: &StepPlan, told: &mut Told) {
    let branches: Vec<String> = step.branches.iter().map(|branch| json_text(branch)).collect();
    let shown = if branches.is_empty() { "\"main\"".to_owned() } else { branches.join(", ") };
    let rule = format!(
        "package git.branch\n\nimport rego.v1\n\nallowed := {{{shown}}}\n\ndeny contains msg if {{\n  \
         not input.branch in allowed\n  msg := sprintf(\"built from the branch %v\", [input.branch])\n}}"
    );
    if branches.is_empty() {
        let about = "The branches that may be built (this evidence is of a checkout without one):";
        return example(out, about, &rule, told);
    }
    told.comment(out, 8, "The branches that may be built.");
    rego(out, &rule);
}

fn rego(out: &mut String, text: &str) {
    out.push_str("        rego: |\n");
    block(out, 10, text);
}

fn example(out: &mut String, about: &str, text: &str, told: &mut Told) {
    if !told.is_new(about) {
        return;
    }
    let _ = writeln!(out, "        # {about}");
    out.push_str("        # rego: |\n");
    let mut inner = String::new();
    block(&mut inner, 2, text);
    commented(out, 8, &inner);
}

fn external(out: &mut String, one: &ExternalPlan) {
    let _ = writeln!(out, "  {}:\n    predicateType: {}", scalar(&one.name), scalar(&one.kind));
    let _ = writeln!(
        out,
        "    # Who may have said so about what a step has made ({}).\n    functionaries:",
        comment(spoken(&one.kind))
    );
    functionaries(out, 6, &one.who, FOUND);
    out.push_str("    # `false`: rules see it where it is there.\n    required: true\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Document;

    #[test]
    fn texts_come_back_as_they_were() {
        let texts = [
            "build",
            "a b",
            "yes",
            "1",
            "a: b",
            "a:",
            "# x",
            "",
            "\u{1F600}\u{7f}\n\"\\",
            "a#b",
            "- x",
            "é",
            "a,b",
            "[a]",
            "~",
            "true",
            "https://example.org/x?y",
        ];
        for text in texts {
            let read = Document::parse(format!("a: {}\nb: [{}]\n", scalar(text), json_text_yaml(text)).as_bytes())
                .expect(text);
            assert_eq!(read.value, serde_json::json!({"a": text, "b": [text]}));
            assert_eq!(serde_json::from_str::<String>(&json_text(text)).expect("JSON"), text);
        }
        assert_eq!(comment("a\nb: \u{202e}"), "a\\nb: \\u{202e}");
    }
}
