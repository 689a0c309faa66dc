//! `affiant ci`, and the reports of a run: what the jobs of CI systems are given.

use serde_json::{Value, json};

use crate::harness::{Call, Place};

/// `affiant ci github` with these inputs, as the action calls it.
fn github(place: &Place, inputs: &Value) -> Call {
    place
        .affiant(["ci", "github", "--report", "env", "--report", "markdown"])
        .env("AFFIANT_INPUTS", inputs.to_string())
        .env("AFFIANT_KEY", "../k.pem")
        .env("RUNNER_TEMP", place.beside("temp").display().to_string())
        .env("GITHUB_OUTPUT", place.beside("output").display().to_string())
        .env("GITHUB_STEP_SUMMARY", place.beside("summary.md").display().to_string())
}

/// A place with the folder that a runner gives its jobs.
fn made() -> Place {
    let place = Place::new();
    std::fs::create_dir_all(place.beside("temp/affiant")).expect("a folder");
    place.write("in.txt", "in");
    place
}

fn read(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.beside(name)).expect("it was written")
}

#[test]
fn inputs_of_the_action_become_a_run() {
    let place = made();
    std::fs::write(place.beside("output"), "others=1").expect("written");
    let inputs = json!({
        "step": "docker-build",
        "command": "cat in.txt > image.tar\nprintf '{}' > docker-metadata.json; echo no > other\nenv | grep -c INPUTS || true",
        "attestations": "environment,\n",
        "cilock-args": "--attestor-product-include-glob \"{docker-metadata.json,image.tar}\"",
        "archivista-headers": "Authorization: canary-of-a-header",
        "enable-archivista": false, "platform-url": "", "fulcio-url": null,
    });
    // The command does not see the inputs.
    assert_eq!(github(&place, &inputs).run().code(0).stdout_text(), "0\n");
    let envelope = place.beside("temp/affiant/docker-build.att.json");
    let statement = crate::harness::statement_of(&envelope);
    let subjects: Vec<_> =
        statement["subject"].as_array().expect("subjects").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(subjects.iter().any(|name| name.ends_with("file:image.tar")), "{subjects:?}");
    assert!(!subjects.iter().any(|name| name.ends_with("file:other")), "{subjects:?}");
    assert!(!statement.to_string().contains("canary-of-a-header"));

    let output = read(&place, "output");
    let digest = affiant_core::digest::sha256_hex(&std::fs::read(&envelope).expect("evidence"));
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "others=1", "what others wrote stays on its own line");
    assert!(lines.contains(&format!("attestation_file={}", envelope.display()).as_str()), "{output}");
    assert!(lines.contains(&format!("attestation_digest=sha256:{digest}").as_str()), "{output}");
    assert!(lines.iter().any(|line| line.starts_with("git_oid=") && line.len() == 72), "{output}");
    let summary = read(&place, "summary.md");
    assert!(summary.starts_with("## ✅ <code>docker-build</code>: passed\n\n| Command | <code>"), "{summary}");
    let image = statement["subject"]
        .as_array()
        .expect("subjects")
        .iter()
        .find(|one| one["name"].as_str().is_some_and(|name| name.ends_with("file:image.tar")));
    let image = image.and_then(|one| one["digest"]["sha256"].as_str()).expect("a digest");
    assert!(
        summary.contains(&format!("| file <code>image.tar</code> | <code>sha256&#58;{image}</code> |")),
        "{summary}"
    );
}

#[test]
fn a_failed_step_says_so_in_every_form() {
    let place = made();
    let inputs = json!({ "step": "t<b>", "command": "true\nfalse | true\nexit 7" });
    let junit = format!("junit={}", place.beside("junit.xml").display());
    let ended = github(&place, &inputs).with(["--report", &junit]).run();
    // `pipefail`: the script ends at the pipe.
    assert_eq!(ended.exit_code(), 1);
    let summary = read(&place, "summary.md");
    assert!(summary.starts_with("## ❌ <code>t&#60;b&#62;&#35;failed</code>"), "{summary}");
    assert!(summary.contains("the command exited with 1\n"), "{summary}");
    assert!(read(&place, "output").contains("attestation_kind=command-failed\n"));
    let junit = read(&place, "junit.xml");
    let document = roxmltree::Document::parse(&junit).expect("XML");
    let count = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
    assert_eq!((count("testcase"), count("failure")), (2, 1), "{junit}");
}

#[test]
fn inputs_that_mean_nothing_here_are_refused_by_name() {
    let place = made();
    for (inputs, said) in [
        (json!({ "command": "true" }), "the input step: is needed"),
        (json!({ "step": "s" }), "the input command: is needed"),
        (
            json!({ "step": "s", "command": "touch ../ran", "enable-sigstore": "true" }),
            "the input enable-sigstore: it needs fulcio-url",
        ),
        (
            json!({ "step": "s", "command": "touch ../ran", "product": "x" }),
            "the input product: affiant does not take it",
        ),
        (
            json!({ "step": "s", "command": "touch ../ran", "cilock-args": "--nonsense" }),
            "unexpected argument '--nonsense'",
        ),
        (
            json!({ "step": "s", "command": "touch ../ran", "cilock-args": "'" }),
            "the input cilock-args: a single quote",
        ),
        (json!({ "step": ["s"] }), "the input step is neither text"),
        (json!([]), "AFFIANT_INPUTS is no JSON object"),
    ] {
        let ended = github(&place, &inputs).run();
        assert!(ended.stderr_text().contains(said), "{inputs}: {}", ended.stderr_text());
        assert!([2, 125].contains(&ended.exit_code()), "{inputs}: {}", ended.exit_code());
        assert!(!place.beside("ran").exists(), "{inputs}");
    }
    for args in [&["ci"][..], &["ci", "circle"]] {
        assert!(place.affiant(args).run().code(2).stderr_text().contains("no pipeline is named"));
    }
}

#[cfg(feature = "remote")]
#[test]
fn variables_of_the_template_become_a_run() {
    let place = made();
    let call = |more: &[(&str, &str)]| {
        let mut call = place
            .affiant(["ci", "gitlab", "--report", "env=cilock.env"])
            .env("CILOCK_STEP", "build")
            .env("CILOCK_COMMAND", "echo \"$NAME\" > app")
            .env("NAME", "$(id) `id`")
            .env("CILOCK_KEY", "../k.pem")
            .env("CILOCK_EVIDENCE_FOLDER", "../temp/affiant")
            .env("CILOCK_ATTESTATIONS", "environment ");
        for (name, value) in more {
            call = call.env(name, *value);
        }
        call.run()
    };
    call(&[("CILOCK_ENABLE_ARCHIVISTA", "false"), ("CILOCK_SCRIPT_CAPTURE", "identity"), ("CILOCK_VERSION", "latest")])
        .code(0);
    assert_eq!(std::fs::read_to_string(place.work().join("app")).expect("made"), "$(id) `id`\n");
    let env = std::fs::read_to_string(place.work().join("cilock.env")).expect("written");
    assert!(
        env.contains("attestation_file=../temp/affiant/build.att.json\n") || env.contains("/build.att.json\n"),
        "{env}"
    );
    // No empty line and no comment: GitLab refuses them.
    assert!(
        env.lines().all(|line| line.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.is_empty()))
    );
    let said = call(&[("CILOCK_ENABLE_ARCHIVISTA", "true")]).stderr_text();
    assert!(said.contains("--enable-archivista: no server is named"), "{said}");
    let (base, served) = crate::archivista::serve(crate::archivista::honest);
    let header = "X-Api-Key: canary-of-a-key-0123";
    let more = [
        ("CILOCK_ENABLE_ARCHIVISTA", "true"),
        ("CILOCK_ARCHIVISTA_SERVER", base.as_str()),
        ("CILOCK_ARCHIVISTA_HEADERS", header),
        ("CILOCK_COMMAND", "env > app"),
    ];
    let said = call(&more).code(0).stderr_text();
    assert!(said.contains("Stored in archivista as ") && !said.contains("canary-of-a-key"), "{said}");
    let seen = std::fs::read_to_string(place.work().join("app")).expect("made");
    assert!(seen.contains("CILOCK_STEP") && !seen.contains("canary-of-a-key"), "{seen}");
    assert!(served.lock().expect("no panic").asked[0].contains("x-api-key: canary-of-a-key-0123"));
    let said = call(&[("CILOCK_ATTESTATION", "git")]).stderr_text();
    assert!(said.contains("CILOCK_ATTESTATION is not known") && said.contains("CILOCK_ATTESTATIONS"), "{said}");
}

#[test]
fn reports_are_refused_where_they_cannot_be_written() {
    let place = Place::new();
    for (report, said) in [
        ("env", "--report env: no file is named"),
        ("markdown=", "--report markdown=: no file is named"),
        ("junit=nowhere/x.xml", "nowhere/x.xml cannot be written"),
        ("env=../k.pem", "the report ../k.pem is the signing key"),
        ("markdown=../a.json", "is to be outfile and report"),
    ] {
        let ended = place.capture(["--report", report, "--", "touch", "../ran"]).run();
        assert_eq!(ended.exit_code(), 125, "{report}");
        assert!(ended.stderr_text().contains(said), "{report}: {}", ended.stderr_text());
        assert!(!place.beside("ran").exists());
    }
    let twice = place.capture(["--report", "json=../r", "--report", "../r", "--", "touch", "../ran"]).run();
    assert!(twice.code(125).stderr_text().contains("two reports would go to ../r"));
}
