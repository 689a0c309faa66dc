//! The images and artifacts of a verdict.

use affiant_core::verdict::{ArtifactPart, ImagePart, Outcome, Verdict};
use maud::{Markup, html};

use super::super::Text;
use super::super::reasons::listed;
use super::{ROWS, phrase, rest, section, status};

pub(super) fn images(verdict: &Verdict) -> Markup {
    if verdict.images.is_empty() {
        return html! {};
    }
    let row = |image: &ImagePart| {
        let failed: Vec<_> = image.checks.iter().filter(|check| check.has_failed()).collect();
        let outcome = if failed.is_empty() { Outcome::Passed } else { Outcome::Failed };
        html! {
            tr {
                td data-label="Image" {
                    code class="strong" { (Text(&image.name)) }
                    br;
                    code class="digest" { (Text(&image.reference)) }
                    @if !image.platforms.is_empty() { br; small { (Text(&listed(&image.platforms, ROWS))) } }
                }
                td data-label="Outcome" { (status(outcome)) }
                td data-label="Signed by" {
                    @for check in &failed { p { (phrase(&check.found)) } }
                    @if failed.is_empty() { (Text(&listed(&image.signers, ROWS))) }
                }
            }
        }
    };
    section(
        "images",
        "Images",
        Some(verdict.images.len()),
        &html! {
            table {
                thead { tr { th { "Image, and what may be deployed" } th { "Outcome" } th { "Signed by" } } }
                tbody { @for image in verdict.images.iter().take(ROWS) { (row(image)) } }
            }
            (rest(verdict.images.len()))
        },
    )
}

pub(super) fn artifacts(verdict: &Verdict) -> Markup {
    if verdict.artifacts.is_empty() {
        return html! {};
    }
    let row = |artifact: &ArtifactPart| {
        html! {
            tr {
                td data-label="Artifact" {
                    code class="strong" { (Text(&artifact.name)) }
                    br;
                    code class="digest" { (Text(&artifact.digest)) }
                }
                td data-label="Outcome" { (status(artifact.check.outcome)) }
                td data-label="Proven by" {
                    @if artifact.check.has_failed() {
                        (phrase(&artifact.check.found))
                    } @else {
                        ol class="links" {
                            @for link in artifact.chain.iter().take(ROWS) {
                                li { (Text(&link.step)) " " small { (Text(&link.source)) } }
                            }
                        }
                        (rest(artifact.chain.len()))
                        @if artifact.chain.is_empty() { (phrase(&artifact.check.found)) }
                    }
                }
            }
        }
    };
    section(
        "artifacts",
        "Artifacts",
        Some(verdict.artifacts.len()),
        &html! {
            table {
                thead { tr { th { "Artifact" } th { "Outcome" } th { "Proven by the evidence of" } } }
                tbody { @for artifact in verdict.artifacts.iter().take(ROWS) { (row(artifact)) } }
            }
            (rest(verdict.artifacts.len()))
        },
    )
}
