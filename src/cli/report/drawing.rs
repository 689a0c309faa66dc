//! The chain of steps as a drawing: a box for each step, an arrow for files that one takes of another.

use affiant_core::verdict::{Outcome, Verdict};
use maud::{Markup, PreEscaped, html};

use super::chain::{Layout, Point, Shape, layout};
use super::markup::Text;

/// Steps that are drawn at most; a drawing of more is no help.
const MAX_STEPS: usize = 60;
/// Artifacts that are drawn at most.
const MAX_ARTIFACTS: usize = 6;
/// The widest drawing that a page holds at full size.
const PAGE: i32 = 960;
/// Left of the text in a box.
const INSET: i32 = 14;
/// Width of a letter of a name, in tenths of a pixel: on the wide side, as fonts differ.
const LETTER: i32 = 76;
/// What it shows, for those who hear it.
const LABEL: &str = "The steps of the policy and the files that flow between them";
/// Lines of a name.
const LINES: usize = 2;

const RIGHTWARDS: Shape = Shape { rightwards: true, width: 196, height: 76, gap: 58, beside: 20, columns: 4 };
const DOWNWARDS: Shape = Shape { rightwards: false, width: 196, height: 76, gap: 44, beside: 24, columns: 4 };
/// For a narrow screen: two boxes beside each other.
const NARROW: Shape = Shape { rightwards: false, width: 156, height: 76, gap: 38, beside: 14, columns: 2 };

/// What a box stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Step,
    External,
    Artifact,
}

struct Node<'a> {
    what: What,
    name: &'a str,
    outcome: Outcome,
    link: String,
}

/// The class and the word of an outcome.
pub(super) fn outcome(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Passed => ("good", "passed"),
        Outcome::Failed => ("bad", "failed"),
        Outcome::NotReached => ("idle", "not looked at"),
    }
}

/// The sign of an outcome, which a shape tells as well as a colour, in a square of 16 by 16.
pub(super) fn sign(class: &str) -> Markup {
    html! {
        @match class {
            "good" => {
                circle class="ground" cx="8" cy="8" r="7.5" {}
                path class="mark" d="M4.6 8.3l2.3 2.3 4.6-5" {}
            }
            "bad" => {
                path class="ground" d="M4.9.5h6.2l4.4 4.4v6.2l-4.4 4.4H4.9L.5 11.1V4.9z" {}
                path class="mark" d="M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4" {}
            }
            "warn" => {
                path class="ground" d="M8 .4l7.6 7.6L8 15.6.4 8z" {}
                path class="mark"
                    d="M6.2 6.3c.2-1.1 1-1.7 1.9-1.7 1.1 0 1.9.7 1.9 1.7 0 1.3-1.9 1.4-1.9 2.7M8.1 11.2v.2" {}
            }
            _ => {
                circle class="ring" cx="8" cy="8" r="7" {}
                path class="mark" d="M5 8h6" {}
            }
        }
    }
}

/// A sign within text.
pub(super) fn icon(class: &str, size: u32) -> Markup {
    html! {
        svg class={ "icon " (class) } viewBox="0 0 16 16" width=(size) height=(size) aria-hidden="true" { (sign(class)) }
    }
}

/// The drawing, once for wide and once for narrow pages; `None` where there is nothing to draw, or too much.
pub(super) fn drawing(verdict: &Verdict) -> Option<Markup> {
    let (nodes, edges) = graph(verdict);
    if nodes.is_empty() || nodes.len() > MAX_STEPS {
        return None;
    }
    let across = layout(nodes.len(), &edges, &RIGHTWARDS);
    let down = layout(nodes.len(), &edges, &DOWNWARDS);
    let (wide, shape) =
        if across.width <= PAGE || across.width <= down.width { (across, &RIGHTWARDS) } else { (down, &DOWNWARDS) };
    let narrow = layout(nodes.len(), &edges, &NARROW);
    Some(html! {
        div class="chain" {
            (svg("wide", &nodes, &wide, shape))
            (svg("narrow", &nodes, &narrow, &NARROW))
        }
    })
}

/// Whether the policy joins steps by their files at all.
pub(super) fn joins(verdict: &Verdict) -> bool {
    verdict.steps.iter().any(|step| !step.artifacts_from.is_empty())
}

fn graph(verdict: &Verdict) -> (Vec<Node<'_>>, Vec<(usize, usize)>) {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut edges = Vec::new();
    let find = |name: &str| verdict.steps.iter().position(|step| step.name == name);
    for (number, step) in verdict.steps.iter().enumerate() {
        nodes.push(Node { what: What::Step, name: &step.name, outcome: step.outcome, link: format!("#step-{number}") });
        edges.extend(step.artifacts_from.iter().filter_map(|from| find(from)).map(|from| (from, number)));
    }
    for (number, part) in verdict.external.iter().enumerate() {
        let link = format!("#external-{number}");
        nodes.push(Node { what: What::External, name: &part.name, outcome: part.outcome, link });
    }
    if verdict.artifacts.len() <= MAX_ARTIFACTS {
        for artifact in &verdict.artifacts {
            // The step that made it stands at the end of its chain.
            if let Some(maker) = artifact.chain.last().and_then(|link| find(&link.step)) {
                edges.push((maker, nodes.len()));
                nodes.push(Node {
                    what: What::Artifact,
                    name: &artifact.name,
                    outcome: artifact.check.outcome,
                    link: "#artifacts".to_owned(),
                });
            }
        }
    }
    (nodes, edges)
}

fn svg(class: &str, nodes: &[Node<'_>], layout: &Layout, shape: &Shape) -> Markup {
    // Room for the lines at the edge.
    let (width, height) = (layout.width + 4, layout.height + 4);
    let view = format!("-2 -2 {width} {height}");
    let proven = |node: usize| nodes[node].outcome == Outcome::Passed;
    html! {
        svg class=(class) viewBox=(view) width=(width) height=(height) role="group" aria-label=(LABEL) {
            @for (from, to, points) in &layout.arrows {
                @let class = if proven(*from) && proven(*to) { "arrow" } else { "arrow open" };
                path class=(class) d=(curve(points, shape.rightwards)) {}
                path class="head" d=(head(points, shape.rightwards)) {}
            }
            @for (node, place) in nodes.iter().zip(&layout.boxes) { (one(node, *place, shape)) }
        }
    }
}

fn one(node: &Node<'_>, place: Point, shape: &Shape) -> Markup {
    let (class, word) = outcome(node.outcome);
    let room = usize::try_from((shape.width - INSET - 10) * 10 / LETTER).unwrap_or(1);
    let lines = wrapped(&crate::cli::output::one_line(node.name), room);
    let (width, height) = (shape.width, shape.height);
    let kind = match node.what {
        What::Step => "",
        What::External => "external, ",
        What::Artifact => "artifact, ",
    };
    let word = match (node.what, node.outcome) {
        (What::Artifact, Outcome::Passed) => "proven",
        _ => word,
    };
    // The text as a whole stands in the middle, the sign before its last line.
    let first = if lines.len() > 1 { 25 } else { 34 };
    let last = first + 19 * i32::try_from(lines.len()).unwrap_or(1) + 2;
    html! {
        a href=(node.link) {
            title { (Text(node.name)) ": " (kind) (word) }
            g class={ "box " (class) } transform=(format!("translate({} {})", place.x, place.y)) {
                @if node.what == What::Artifact {
                    @let (side, foot) = (width - 16, height - 8);
                    path class="frame" d={
                        "M8 0H" (side) "l16 16V" (foot) "a8 8 0 0 1 -8 8H8a8 8 0 0 1 -8 -8V8a8 8 0 0 1 8 -8z"
                    } {}
                    path class="fold" d={ "M" (side) " 0v16h16" } {}
                } @else {
                    @let class = if node.what == What::External { "frame outside" } else { "frame" };
                    rect class=(class) width=(width) height=(height) rx="8" {}
                    path class="edge" d=(format!("M8 0H5V{height}H8A8 8 0 0 1 0 {}V8A8 8 0 0 1 8 0z", height - 8)) {}
                }
                @for (number, line) in lines.iter().enumerate() {
                    text class="name" x=(INSET) y=(first + 19 * i32::try_from(number).unwrap_or(0)) { (Text(line)) }
                }
                g transform=(format!("translate({INSET} {}) scale(.8125)", last - 11)) { (sign(class)) }
                text class="word" x=(INSET + 19) y=(last) { (kind) (word) }
            }
        }
    }
}

/// A name in at most [`LINES`] of `room` letters, broken where a word ends when there is such a place; what does not
/// fit is cut, as the box's title says it all.
fn wrapped(name: &str, room: usize) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut rest = &letters[..];
    let mut lines = Vec::new();
    while !rest.is_empty() && lines.len() < LINES {
        let wide = |c: &char| usize::from(u32::from(*c) >= 0x1100) + 1;
        let mut used = 0;
        let fits = rest
            .iter()
            .take_while(|c| {
                used += wide(c);
                used <= room
            })
            .count()
            .max(1);
        if fits >= rest.len() {
            lines.push(rest.iter().collect());
            rest = &[];
        } else if lines.len() + 1 == LINES {
            let mut line: String = rest[..fits.saturating_sub(1)].iter().collect();
            line.push('…');
            lines.push(line);
        } else {
            let end = rest[..fits].iter().rposition(|c| "-_./: ".contains(*c)).map_or(fits, |at| at + 1);
            let end = if end * 3 < fits { fits } else { end };
            lines.push(rest[..end].iter().collect());
            rest = &rest[end..];
        }
    }
    lines
}

/// Length of an arrow's head.
const HEAD: i32 = 8;

/// A line through `points` that leaves and enters boxes and lanes in the direction of the flow.
fn curve(points: &[Point], rightwards: bool) -> PreEscaped<String> {
    use std::fmt::Write as _;
    let mut points = points.to_vec();
    if let Some(last) = points.last_mut() {
        if rightwards { last.x -= HEAD } else { last.y -= HEAD }
    }
    let mut path = format!("M{} {}", points[0].x, points[0].y);
    for (number, pair) in points.windows(2).enumerate() {
        let (a, b) = (pair[0], pair[1]);
        // Between layers it bends; beside the boxes of a layer it is straight.
        let _ = if number % 2 == 1 {
            write!(path, "L{} {}", b.x, b.y)
        } else if rightwards {
            let middle = i32::midpoint(a.x, b.x);
            write!(path, "C{middle} {} {middle} {} {} {}", a.y, b.y, b.x, b.y)
        } else {
            let middle = i32::midpoint(a.y, b.y);
            write!(path, "C{} {middle} {} {middle} {} {}", a.x, b.x, b.x, b.y)
        };
    }
    PreEscaped(path)
}

fn head(points: &[Point], rightwards: bool) -> PreEscaped<String> {
    let end = points[points.len() - 1];
    let (back, half) = (HEAD + 1, HEAD / 2 + 1);
    PreEscaped(if rightwards {
        format!("M{} {}l-{back} -{half}v{}z", end.x, end.y, 2 * half)
    } else {
        format!("M{} {}l-{half} -{back}h{}z", end.x, end.y, 2 * half)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_broken_where_words_end() {
        assert_eq!(wrapped("docker-build", 22), ["docker-build"]);
        assert_eq!(wrapped("compile-web-frontend-with-assets", 22), ["compile-web-frontend-", "with-assets"]);
        assert_eq!(wrapped(&"x".repeat(60), 10), ["x".repeat(10), format!("{}…", "x".repeat(9))]);
        assert_eq!(wrapped("日本語日本語", 6), ["日本語", "日本語"]);
        assert_eq!(wrapped("", 6), Vec::<String>::new());
    }
}
