//! What `--help` shows: about twenty options, under headings; `--help-all`, completions and manual pages have them all.

use std::collections::BTreeSet;

use crate::harness::Place;

/// Most options that `--help` shows of a command.
const MOST: usize = 24;
/// Commands with many options, and some with few.
const VERBS: [&str; 25] = [
    "run",
    "attest",
    "verify",
    "promote",
    "sign",
    "resume",
    "policy sign",
    "image sign",
    "image verify",
    "image attest",
    "image verify-attestation",
    "image sign-blob",
    "image verify-blob",
    "image attest-blob",
    "image verify-blob-attestation",
    "image import-buildkit",
    "image attach",
    "image copy",
    "image save",
    "image load",
    "image push",
    "image clean",
    "image audit",
    "image tree",
    "image download attestation",
];

/// The long flags that stand at the beginnings of lines.
fn flags(text: &str) -> BTreeSet<String> {
    let flag = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix('-').filter(|rest| !rest.starts_with('-')).map_or(line, |rest| &rest[1..]);
        let name = line.trim_start_matches(", ").strip_prefix("--")?;
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(name.len());
        Some(name[..end].to_owned())
    };
    let options = text.split("\nExample").next().unwrap_or_default();
    // What is told of an option stands further in.
    let depth = |line: &&str| matches!(line.len() - line.trim_start().len(), 2 | 6);
    options.lines().filter(depth).filter_map(flag).collect()
}

/// The flags of a command in a completion script for bash.
fn completed(script: &str, verb: &str) -> BTreeSet<String> {
    let name = format!("        affiant__subcmd__{})", verb.replace([' ', '-'], "__subcmd__"));
    let rest = script.split_once(&name).unwrap_or_else(|| panic!("{name} is completed")).1;
    let words = rest.split_once("opts=\"").expect("words").1.split('"').next().unwrap_or_default();
    words.split(' ').filter_map(|word| word.strip_prefix("--")).map(str::to_owned).collect()
}

#[test]
fn help_shows_about_twenty_options_and_the_rest_is_elsewhere() {
    let place = Place::without_key();
    std::fs::create_dir(place.beside("man")).expect("a folder");
    place.affiant(["docs", "man", "../man"]).run().code(0);
    let script = place.affiant(["completions", "bash"]).run().code(0).stdout_text();
    for verb in VERBS {
        let words = || verb.split(' ');
        let help = place.affiant(words().chain(["--help"])).run().code(0).stdout_text();
        let all = place.affiant(words().chain(["--help-all"])).run().code(0).stdout_text();
        assert!(all.contains(&format!("Usage: affiant {verb}")), "{verb}: {all}");
        let (shown, all) = (flags(&help), flags(&all));
        assert!((2..=MOST).contains(&shown.len()), "{verb} shows {}: {shown:?}", shown.len());
        assert!(shown.contains("help-all") && shown.contains("help") && shown.is_subset(&all), "{verb}: {shown:?}");
        // Aliases that are shown are completed, and stand behind their flags.
        let completed = completed(&script, verb);
        assert!(all.is_subset(&completed), "{verb}: {:?}", all.difference(&completed).collect::<Vec<_>>());
        let missing = completed.difference(&all).filter(|name| !help_names(&place, verb, name)).collect::<Vec<_>>();
        assert!(missing.is_empty(), "{verb}: {missing:?}");
        let page = place.beside("man").join(format!("affiant-{}.1", verb.replace(' ', "-")));
        let page = std::fs::read_to_string(page).expect("a page").replace('\\', "");
        let missing: Vec<_> = all.iter().filter(|name| !page.contains(&format!("--{name}"))).collect();
        assert!(missing.is_empty(), "{verb}: {missing:?} are not in the manual");
    }
}

/// Whether `--help-all` tells an alias beside its flag.
fn help_names(place: &Place, verb: &str, name: &str) -> bool {
    let all = place.affiant(verb.split(' ').chain(["--help-all"])).run().code(0).stdout_text();
    all.lines().any(|line| line.contains("alias") && line.contains(&format!("--{name}")))
}

/// The lines under each heading.
fn under(help: &str, heading: &str) -> String {
    let rest = help.split_once(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{heading}: {help}")).1;
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with(' '));
    lines.flat_map(|line| [line, " \n"]).collect()
}

#[test]
fn options_stand_under_their_headings() {
    let place = Place::without_key();
    for (verb, heading, has, lacks) in [
        ("image sign", "Keys", &["--key ", "--key-password-file"][..], "--fulcio-url"),
        ("image sign", "Certificates", &["--fulcio-url", "--identity-token"], "--rekor-url"),
        ("image sign", "Logs and timestamps", &["--rekor-url", "--timestamp-servers", "--trusted-root"], "--format"),
        ("image sign", "Registry", &["--allow-http-registry", "--evidence-repository"], "--annotations"),
        ("image sign", "Output", &["--format"], "--spool"),
        ("image verify", "Keys", &["--key "], "--trusted-root"),
        ("image verify", "Logs and timestamps", &["--trusted-root", "--insecure-ignore-tlog"], "--output"),
        ("image verify", "Output", &["--output"], "--certificate-identity"),
        ("image verify-blob", "Options", &["--bundle", "--signature"], "--key "),
        ("verify", "Policy", &["--policy ", "--publickey"], "--attestations"),
        ("verify", "Evidence", &["--attestations", "--bundle"], "--image"),
        ("verify", "Images", &["--image ", "--image-key", "--platform"], "--mode"),
        ("verify", "Output", &["--mode", "--report", "--output", "--digest-out"], "--policy "),
        ("verify", "Registry", &["--allow-http-registry"], "--mode"),
        ("promote", "Images", &["--image-key", "--image-identity"], "--vsa-key"),
        ("promote", "Signing a summary (VSA)", &["--vsa-key", "--vsa-outfile", "--fulcio-url"], "--report"),
        ("run", "Options", &["--step", "--plan", "--help-all"], "--archive"),
    ] {
        let help = place.affiant(verb.split(' ').chain(["--help"])).run().code(0).stdout_text();
        let lines = under(&help, heading);
        assert!(has.iter().all(|flag| lines.contains(flag)), "{verb}, {heading}: {lines}");
        assert!(!lines.contains(lacks), "{verb}, {heading}: {lines}");
    }
}

/// `--help-all` belongs to affiant only in front of the command's own words; it needs nothing else; and it is there under
/// other names.
#[test]
fn every_option_is_shown_where_that_is_asked_for() {
    let place = Place::without_key();
    let all = place.affiant(["image", "sign", "--help-all", "--key", "nowhere.key", "app"]).run().code(0).stdout_text();
    assert!(all.contains("--oidc-redirect-url") && all.contains("--upload-chunk"), "{all}");
    let help = place.affiant(["image", "sign", "--help"]).run().code(0).stdout_text();
    assert!(!help.contains("--oidc-redirect-url") && !help.contains("--upload-chunk"), "{help}");
    let verify = place.affiant(["image", "verify", "--help-all"]).run().code(0).stdout_text();
    assert!(verify.contains("--certificate-github-workflow-trigger"), "{verify}");
    let help = place.affiant(["image", "verify", "--help"]).run().code(0).stdout_text();
    assert!(!help.contains("--certificate-github-workflow-trigger"), "{help}");
    let cosign = place.called("cosign", ["sign", "--help-all"]).run().code(0).stdout_text();
    assert!(cosign.contains("Usage: cosign sign") && cosign.contains("--oidc-redirect-url"), "{cosign}");
    // What is hidden works.
    let sign = ["image", "sign", "--upload-chunk", "0", "app"];
    place.affiant(sign).run().code(2).stderr_has(&["--upload-chunk"]);
}
