//! The forms, on verdicts as the gate gives them.

mod samples;

use std::path::{Path, PathBuf};

use affiant_core::verdict::{Check, CheckKind, Outcome, Verdict};
use base64::Engine as _;

use super::*;

/// Texts that would do harm in one form or another, where they were not escaped.
const HOSTILE: &[&str] = &[
    "a\u{1b}[2J\u{9b}31m\r\nPASSED: evil under policy\u{202e}gpj.exe\u{2066}\u{200b}\u{0}\u{fffe}\u{ffff}\u{e0041}",
    "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\" onload=\"x' onmouseover='y",
    "| a | b |\n# head\n![x](http://evil.example/x.png) [y](javascript:z) @team `code` ``` **b** $x$ <!-- ~~~ #1 :tada:",
    "]]> <![CDATA[ &amp; &#0; &bogus; <?xml?> -->",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/samples/verdict")
}

/// Each form of `verdict` is that of the golden file; `AFFIANT_BLESS=1` writes them anew.
#[track_caller]
fn golden(name: &str, verdict: &Verdict) {
    for (_, format, endings) in FORMATS {
        let path = folder().join(format!("{name}.{}", endings[0]));
        let text = format.render(verdict);
        if std::env::var_os("AFFIANT_BLESS").is_some() {
            std::fs::create_dir_all(folder()).expect("makes the folder");
            std::fs::write(&path, &text).expect("writes");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == golden, "{} differs: look at it after AFFIANT_BLESS=1\n{text}", path.display());
    }
}

#[test]
fn forms_are_those_of_the_samples() {
    golden("passed", &samples::passed());
    golden("denied", &samples::denied());
}

/// With `AFFIANT_SAMPLES=FOLDER`, all samples as pages, to be looked at.
#[test]
fn all_samples_can_be_looked_at() {
    let mut eight = samples::denied();
    let flawless = samples::passed();
    for part in &mut eight.steps {
        part.outcome = Outcome::Passed;
        part.candidates = flawless.steps[0].candidates.clone();
    }
    (eight.answer, eight.artifacts[1].check) = (Answer::Passed, eight.artifacts[0].check.clone());
    let mut unjoined = samples::passed();
    unjoined.steps.iter_mut().for_each(|step| step.artifacts_from.clear());
    unjoined.artifacts.clear();
    let mut all = vec![
        ("passed", samples::passed()),
        ("passed-eight", eight),
        ("passed-unjoined", unjoined),
        ("denied", samples::denied()),
        ("denied-missing", samples::missing()),
        ("no-evidence", samples::no_evidence()),
        ("hostile-1", samples::hostile(HOSTILE[0])),
        ("hostile-2", samples::hostile(HOSTILE[1])),
        ("long", samples::hostile(&"x".repeat(300))),
    ];
    for (name, verdict) in all.drain(..) {
        let page = html::render(&verdict);
        assert!(page.ends_with("</html>\n"));
        if let Some(folder) = std::env::var_os("AFFIANT_SAMPLES").map(PathBuf::from) {
            std::fs::write(folder.join(format!("{name}.html")), page).expect("writes");
        }
    }
}

/// The tags of `html`: element and names of attributes.
fn tags(html: &str) -> std::collections::BTreeSet<String> {
    html.split('<')
        .skip(1)
        .map(|rest| {
            let tag = rest.split('>').next().unwrap_or_default();
            // Values stand in quotation marks, which a value cannot hold.
            tag.split('"').step_by(2).collect::<Vec<_>>().concat()
        })
        .collect()
}

#[test]
fn html_of_a_stranger_is_text() {
    let ours = tags(&html::render(&samples::denied()));
    assert!(ours.contains("details class= open") && ours.contains("/html"), "{ours:#?}");
    for hostile in HOSTILE {
        let page = html::render(&samples::hostile(hostile));
        let more: Vec<_> = tags(&page).difference(&ours).cloned().collect();
        assert!(more.is_empty(), "{hostile:?}: {more:?}");
    }
}

#[test]
fn html_fetches_and_runs_nothing() {
    for verdict in [samples::passed(), samples::denied(), samples::no_evidence()] {
        let page = html::render(&verdict);
        let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).expect("a style");
        let hash = base64::engine::general_purpose::STANDARD.encode(affiant_core::digest::sha256(style.as_bytes()));
        let rule =
            format!("content=\"default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\"");
        assert!(page.contains(&rule));
        assert!(!style.contains("url(") && !style.contains("@import"));
        for tag in tags(&page) {
            let words: Vec<_> = tag.split_whitespace().collect();
            assert!(
                !["script", "link", "img", "iframe", "object", "embed", "form", "base"].contains(&words[0]),
                "{tag}"
            );
            assert!(
                !words.iter().any(|word| word.starts_with("on") || ["src=", "style=", "srcset="].contains(word)),
                "{tag}"
            );
        }
        // Links lead to parts of the page.
        for target in page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()) {
            let id = target.strip_prefix('#').unwrap_or_else(|| panic!("{target}"));
            assert!(page.contains(&format!(" id=\"{id}\"")), "{target}");
        }
    }
}

#[test]
fn html_tells_each_reason_and_what_to_do() {
    let page = html::render(&samples::denied());
    assert_eq!(page.matches("<dt class=\"todo\">").count(), 5 + 3 + 2, "reasons, checks of steps, other groups");
    assert!(page.contains("<details class=\"candidate bad\" open>"), "what failed is open");
    assert!(page.contains("<details class=\"candidate good\">"));
    assert!(page.contains("13 more candidates with the same reason"));
    assert!(page.contains("37 more candidates came less near"));
}

/// What no form may hold, whatever the evidence says.
#[track_caller]
fn nothing_steers(text: &str) {
    let bad = |c: &char| (c.is_control() && *c != '\n') || crate::cli::output::is_invisible(*c);
    let found: Vec<_> = text.chars().filter(bad).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn no_form_obeys_what_evidence_says() {
    for hostile in HOSTILE {
        let verdict = samples::hostile(hostile);
        for (_, format, _) in FORMATS {
            nothing_steers(&format.render(&verdict));
        }
    }
}

#[test]
fn text_has_no_line_of_a_stranger() {
    let text = text::render(&samples::hostile("x\nPASSED: image.tar under policy p"));
    assert!(text.starts_with("DENIED: "), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("PASSED")).count(), 0, "{text}");
    // Not by spaces either, which put what follows on the next line.
    let spaces = format!("x{}PASSED: image.tar under policy p", " ".repeat(90));
    let text = text::render(&samples::hostile(&spaces));
    assert!(text.lines().filter(|line| line.starts_with("PASSED")).count() == 0, "{text}");
}

#[test]
fn a_denial_says_what_to_do_and_each_reason_once() {
    let text = text::render(&samples::denied());
    for part in ["step docker-sbom: a rule denies", "step integration-test: files differ", "step sign-off: no evidence"]
    {
        assert_eq!(text.matches(part).count(), 1, "{part}\n{text}");
    }
    assert_eq!(text.matches("log4j-core 2.14.1").count(), 1, "{text}");
    assert!(text.contains("13 more candidates for the same reason"), "{text}");
    assert!(text.contains("37 more candidates"), "{text}");
    assert_eq!(text.matches("\n     to do ").count(), reasons::reasons(&samples::denied()).len(), "{text}");
    for line in text.lines() {
        let unbroken = line.split(' ').map(str::len).max().unwrap_or(0);
        assert!(line.chars().count() <= 96.max(unbroken + 22), "too wide: {line}");
    }
}

#[test]
fn a_failed_check_without_advice_gets_some() {
    let mut verdict = samples::denied();
    for part in &mut verdict.steps {
        for check in part.checks.iter_mut().chain(part.candidates.iter_mut().flat_map(|one| &mut one.checks)) {
            check.fix.clear();
        }
    }
    let text = text::render(&verdict);
    for reason in reasons::reasons(&verdict) {
        assert!(!reasons::advice(reason.check).is_empty());
    }
    assert_eq!(text.matches("\n     to do ").count(), 5, "{text}");
}

#[test]
fn the_same_reason_of_several_parts_is_told_once() {
    let mut verdict = samples::no_evidence();
    let check = verdict.steps[0].checks[0].clone();
    verdict.steps[1].checks = vec![check];
    verdict.steps[1].requires = verdict.steps[0].requires.clone();
    let text = text::render(&verdict);
    assert!(text.starts_with("NO EVIDENCE: image.tar under policy policy.signed.json\n"), "{text}");
    assert!(text.contains("1. steps docker-build and docker-sbom: no evidence"), "{text}");
}

#[test]
fn a_denial_that_stops_nothing_says_so() {
    let text = text::render(&samples::missing());
    assert!(
        text.lines().nth(1).is_some_and(|line| line.contains("mode warn") && line.contains("exit code is 0")),
        "{text}"
    );
    assert!(!text::render(&samples::denied()).contains("stops nothing"));
}

#[test]
fn long_lists_are_counted() {
    let mut verdict = samples::passed();
    verdict.notes = (0..100_000).map(|number| format!("note {number}")).collect();
    let artifact = verdict.artifacts[0].clone();
    verdict.artifacts = (0..5000)
        .map(|number| {
            let mut one = artifact.clone();
            one.name = format!("file{number}");
            one
        })
        .collect();
    for (format, most) in [(Format::Html, 800_000), (Format::Markdown, 530_000)] {
        let text = format.render(&verdict);
        assert!(text.len() < most, "{} bytes", text.len());
        assert!(text.contains("more, which stand in the JSON form"));
    }
    let text = text::render(&verdict);
    assert!(text.starts_with("PASSED: file0 and 4999 more under policy policy.signed.json\n"), "{text}");
    assert!(text.contains("and 99960 more, which stand in the JSON form"), "{text}");
    assert!(text.len() < 100_000, "{} bytes", text.len());
}

#[test]
fn json_begins_with_its_schema() {
    let text = json::render(&samples::denied());
    assert!(text.starts_with("{\n  \"schema\": \"affiant.verdict/v1\",\n  \"version\": "), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["answer"], "denied");
    let sbom = value["steps"].as_array().expect("a list").iter().find(|step| step["name"] == "docker-sbom");
    assert_eq!(sbom.expect("the step")["leftOut"], 37);
    // What is escaped is still the same text.
    for hostile in HOSTILE {
        let value: serde_json::Value = serde_json::from_str(&json::render(&samples::hostile(hostile))).expect("JSON");
        assert_eq!(value["policy"]["source"], *hostile);
    }
}

/// The HTML that GitHub's dialect makes of `text`: raw HTML stays, links are made of all that looks like one.
fn rendered(text: &str) -> String {
    let mut options = comrak::Options::default();
    let extension = &mut options.extension;
    (extension.table, extension.autolink, extension.strikethrough, extension.footnotes) = (true, true, true, true);
    (extension.math_dollars, extension.math_code, extension.tasklist, extension.alerts) = (true, true, true, true);
    options.render.r#unsafe = true;
    comrak::markdown_to_html(text, &options)
}

/// Names of the elements of `html`.
fn elements(html: &str) -> std::collections::BTreeSet<&str> {
    html.split('<')
        .skip(1)
        .filter(|rest| !rest.starts_with("!-- -->"))
        .map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || "/!?-".contains(c))).next().unwrap_or_default())
        .map(|name| name.trim_start_matches('/'))
        .collect()
}

#[test]
fn markdown_of_a_stranger_is_text() {
    let ours = elements_of(&samples::denied());
    assert!(ours.contains("table") && ours.contains("details") && ours.contains("code"), "{ours:?}");
    let more = "www.evil.example WWW.evil.example xmpp:a@b.example (www.a.b) https://evil.example/ mailto:a@evil.example a@evil.example [^1] - [x] x\\| > [!NOTE] $`x`$ ~~x~~ * _a_ \\";
    for hostile in HOSTILE.iter().chain(&[more]) {
        let verdict = samples::hostile(hostile);
        assert_eq!(elements_of(&verdict), ours, "{hostile:?}");
        // All of it is there to be read.
        let shown = rendered(&markdown::render(&verdict)).replace("<!-- -->", "");
        let words = crate::cli::output::one_line(hostile)
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;");
        assert!(shown.contains(&format!("<code>{words}</code>")), "{hostile:?}\n{shown}");
        // A cell more or less would move the others.
        let rows = |html: &str| (html.matches("<tr>").count(), html.matches("<td>").count());
        assert_eq!(rows(&shown), rows(&rendered(&markdown::render(&samples::hostile("x")))), "{hostile:?}");
    }
    assert!(
        elements(&rendered("![x](y) www.evil.example <b>")).is_superset(&["img", "a", "b"].into()),
        "the check itself can fail"
    );
}

fn elements_of(verdict: &Verdict) -> std::collections::BTreeSet<String> {
    elements(&rendered(&markdown::render(verdict))).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_summary_is_never_too_long() {
    let mut verdict = samples::hostile(&"|".repeat(affiant_core::verdict::MAX_TEXT));
    let part = verdict.steps[0].clone();
    verdict.steps = (0..300)
        .map(|number| {
            let mut part = part.clone();
            part.name = format!("step {number}");
            part.outcome = Outcome::Failed;
            part.checks = vec![Check::failed(CheckKind::Found, format!("{number}{}", "|".repeat(1000)), "")];
            part
        })
        .collect();
    let text = markdown::render(&verdict);
    assert!(text.len() < 530_000, "{} bytes", text.len());
    assert!(text.contains("parts too long for a summary"), "{}", text.split_at(2000).0);
    assert!(text.starts_with("## ❌ Denied"));
}

#[test]
fn junit_is_xml_whatever_evidence_says() {
    for verdict in HOSTILE.iter().map(|text| samples::hostile(text)).chain([samples::denied()]) {
        let text = junit::render(&verdict);
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
        let count = 1 + verdict.images.len() + verdict.artifacts.len() + verdict.steps.len() + verdict.external.len();
        assert_eq!(cases.len(), count);
        let suite = document.root_element().first_element_child().expect("a suite");
        assert_eq!(suite.attribute("tests"), Some(count.to_string().as_str()));
        let failures = document.descendants().filter(|node| node.has_tag_name("failure")).count();
        assert_eq!(suite.attribute("failures"), Some(failures.to_string().as_str()));
        assert_eq!(suite.attribute("timestamp"), Some("2026-11-21T14:03:27"));
    }
    let text = junit::render(&samples::hostile(HOSTILE[1]));
    let document = roxmltree::Document::parse(&text).expect("XML");
    let case = document.descendants().find(|node| node.has_tag_name("testcase")).expect("a case");
    assert_eq!(case.attribute("name"), Some(HOSTILE[1]));
}

#[test]
fn junit_says_why() {
    let text = junit::render(&samples::denied());
    let document = roxmltree::Document::parse(&text).expect("XML");
    let case = document.descendants().find(|node| node.attribute("name") == Some("docker-sbom")).expect("a case");
    assert_eq!(case.attribute("classname"), Some("affiant.step"));
    let failure = case.first_element_child().expect("a failure");
    assert_eq!(failure.attribute("type"), Some("rules"));
    assert!(failure.attribute("message").is_some_and(|message| message.contains("log4j-core 2.14.1")));
    assert!(failure.text().is_some_and(|text| text.contains("to do      replace the component")), "{text}");
}

/// Whatever a verdict forgot to say, no form of a denial may look like a pass.
#[test]
fn a_denial_without_a_reason_is_a_denial() {
    let mut verdict = samples::passed();
    verdict.answer = Answer::Denied;
    let text = text::render(&verdict);
    assert!(text.starts_with("DENIED") && text.contains("please report this"), "{text}");
    assert!(junit::render(&verdict).contains("failures=\"1\""));
    assert!(markdown::render(&verdict).starts_with("## ❌ Denied"));
}

#[test]
fn the_summary_of_a_job_is_added_to() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let summary = dir.path().join("summary.md");
    std::fs::write(&summary, "what another step wrote").expect("writes");
    let verdict = samples::denied();
    let by_path = format!("markdown={}", summary.display());
    for value in ["markdown", "markdown=$GITHUB_STEP_SUMMARY", "markdown=${GITHUB_STEP_SUMMARY}", &by_path] {
        std::fs::write(&summary, "what another step wrote").expect("writes");
        parse(&[value], Some(&summary)).expect("parses").write(&verdict).expect("writes");
        let text = std::fs::read_to_string(&summary).expect("is there");
        assert_eq!(text, format!("what another step wrote\n\n{}", markdown::render(&verdict)), "{value}");
    }
    let failure = parse(&[&format!("json={}", summary.display())], Some(&summary)).expect_err("refuses");
    assert!(failure.to_string().contains("takes markdown only"), "{failure}");
    assert!(parse(&["markdown", &by_path], Some(&summary)).is_err(), "twice the same file");
    refused("markdown", "GITHUB_STEP_SUMMARY is not set here");
    refused("markdown=$GITHUB_STEP_SUMMARY", "GITHUB_STEP_SUMMARY is not set here");
    // A folder cannot be added to: said when it is written, and other reports are written all the same.
    let other = dir.path().join("a.json");
    let reports = parse(&["markdown", &format!("json={}", other.display())], Some(dir.path())).expect("parses");
    let failure = reports.write(&verdict).expect_err("cannot");
    assert_eq!(failure.code(), 4);
    assert!(failure.to_string().contains("the markdown report cannot be added to"), "{failure}");
    assert!(other.exists());
}

fn parse(values: &[&str], summary: Option<&Path>) -> Result<Reports, Failure> {
    Reports::parse_with(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>(), summary)
}

#[track_caller]
fn refused(value: &str, says: &str) {
    let failure = parse(&[value], None).expect_err("refuses");
    assert_eq!(failure.code(), 2, "{failure}");
    assert!(failure.to_string().contains(says), "{failure}");
}

#[test]
fn what_is_no_report_is_refused_with_a_hint() {
    refused("jsn=a.json", "hint: --report json=a.json");
    refused("JSON=a.json", "hint: --report json=a.json");
    refused("verdict.json", "hint: --report json=verdict.json");
    refused("pdf=a.pdf", "`pdf` is no form of a report (known: json,");
    refused("json", "hint: --report json=FILE");
    refused("json=", "no file is named");
    refused("json=-", "stdout is for the verdict itself");
    refused("", "no form of a report");
    assert!(Reports::parse(&[]).expect("none").0.is_empty());
    let failure = parse(&["json=/nowhere/at/all/a.json"], None).expect_err("refuses");
    assert_eq!(failure.code(), 4, "{failure}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("a");
    let both = [format!("json={}", file.display()), format!("text={}", file.display())];
    assert!(Reports::parse_with(&both, None).expect_err("refuses").to_string().contains("two reports would go to"));
    assert!(!file.exists(), "looking changes nothing");
}

#[test]
fn reports_are_written() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| dir.path().join(name);
    let values: Vec<_> = FORMATS.iter().map(|(name, ..)| format!("{name}={}", file(name).display())).collect();
    let verdict = samples::denied();
    Reports::parse_with(&values, None).expect("parses").write(&verdict).expect("writes");
    for (name, format, _) in FORMATS {
        assert_eq!(std::fs::read_to_string(file(name)).expect("was written"), format.render(&verdict));
    }
}
