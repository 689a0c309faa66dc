//! The attestor `git` on repositories that the git program makes, and on hostile ones.
//!
//! * `fixtures/git/<case>/make.sh` makes a repository in an empty folder; `dir` (optional) names the working directory
//!   in it; `expected.json` is the outcome, written anew with `AFFIANT_BLESS=1`.
//! * Statuses are compared with what `git status` itself says.
#![cfg(feature = "git")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use affiant_attestors::BUILT_IN;
use affiant_core::attestor::{Before, Found, Host, Outcome, Place, Predicate, Prepared};
use serde_json::{Value, json};

/// A folder with a home of its own, in which programs run without the configuration of this machine.
struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().expect("a temporary folder can be made"));
        for folder in ["home", "work"] {
            std::fs::create_dir(sandbox.0.path().join(folder)).expect("the folder is new");
        }
        sandbox
    }

    /// Where repositories are made; without links in its path.
    fn work(&self) -> PathBuf {
        self.0.path().canonicalize().expect("the folder is there").join("work")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.work());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.0.path().join("home"));
        command.envs([
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "Ada"),
            ("GIT_AUTHOR_EMAIL", "ada@example.org"),
            ("GIT_AUTHOR_DATE", "2026-11-21T11:07:34+0000"),
            ("GIT_COMMITTER_NAME", "Bob"),
            ("GIT_COMMITTER_EMAIL", "bob@example.org"),
            ("GIT_COMMITTER_DATE", "2026-11-22T12:00:00+0130"),
            ("GIT_ALLOW_PROTOCOL", "file"),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
        ]);
        command
    }

    /// Runs a shell script in the work folder; it has to succeed.
    fn sh(&self, script: &str) -> Output {
        let output = self.command("sh").args(["-euc", script]).output().expect("there is a shell");
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

/// Not through a print macro: those are shown for failing tests only.
fn say_skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// Whether the git program is here; says so loudly when not.
fn has_git(test: &str) -> bool {
    let found = Command::new("git").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        say_skipped(test, "there is no git program to make repositories with");
    }
    found
}

fn world(dir: &Path) -> Before {
    Before {
        step: "build".into(),
        dir: dir.to_owned(),
        env: Arc::default(),
        mask: Arc::default(),
        host: Host::default(),
        command: Vec::new(),
        ..Before::default()
    }
}

fn attest(dir: &Path) -> Outcome {
    let attestor = BUILT_IN.iter().find(|attestor| attestor.about.name == "git").expect("git is built in");
    let Ok((Prepared::Before(run), _)) = attestor.prepare(json!({}), &Before::default()) else {
        panic!("git runs before the command")
    };
    run(&world(dir))
}

/// The outcome as JSON, `root` replaced in texts.
fn shown(outcome: Outcome, root: &Path) -> Value {
    let value = match outcome {
        Err(error) => json!({ "error": error.to_string() }),
        Ok(Found::Nothing(reason)) => json!({ "nothing": reason }),
        Ok(Found::Evidence { mut pieces, shortfalls }) => {
            assert_eq!(pieces.len(), 1);
            let piece = pieces.remove(0);
            assert_eq!(piece.predicate_type, "https://witness.dev/attestations/git/v0.1");
            assert_eq!(piece.place, Place::Collection);
            let Predicate::Composed(predicate) = piece.predicate else { panic!("the predicate is ours") };
            json!({
                "predicate": predicate,
                "subjects": piece.subjects,
                "back_references": piece.back_references,
                "shortfalls": shortfalls,
            })
        }
    };
    let text = value.to_string().replace(root.to_str().expect("a UTF-8 path"), "$ROOT");
    serde_json::from_str(&text).expect("it was JSON before")
}

fn predicate(dir: &Path) -> Value {
    let outcome = shown(attest(dir), dir);
    assert_eq!(outcome["shortfalls"], json!([]), "{outcome}");
    outcome["predicate"].clone()
}

/// The status as `git status` tells it, in witness's words.
fn git_status(sandbox: &Sandbox, dir: &Path) -> BTreeMap<String, Value> {
    let output = sandbox
        .command("git")
        .current_dir(dir)
        .args(["status", "--porcelain", "-z"])
        .output()
        .expect("there is a git program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names of this test are UTF-8");
    let word = |letter: &str| {
        let letters = [" ", "?", "M", "A", "D", "R", "C", "U"];
        let words = ["unmodified", "untracked", "modified", "added", "deleted", "renamed", "copied", "updated"];
        letters.iter().position(|&l| l == letter).map_or(letter, |n| words[n]).to_owned()
    };
    let mut status = BTreeMap::new();
    let mut parts = text.split_terminator('\0');
    while let Some(part) = parts.next() {
        let (letters, path) = (&part[..2], &part[3..]);
        let path = match &letters[..1] {
            "R" | "C" => format!("{} -> {path}", parts.next().expect("the old name follows")),
            _ => path.to_owned(),
        };
        status.insert(path, json!({"staging": word(&letters[..1]), "worktree": word(&letters[1..])}));
    }
    status
}

fn assert_status_as_git(sandbox: &Sandbox, dir: &Path) -> Value {
    let ours = predicate(dir);
    let status = ours.get("status").cloned().unwrap_or(json!({}));
    assert_eq!(status, json!(git_status(sandbox, dir)), "{}", dir.display());
    ours
}

const COMMIT: &str = "git init -q -b main; echo hello >a; git add a; git commit -qm first;";

#[test]
fn golden_cases() {
    if !has_git("golden_cases") {
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/git");
    let mut cases: Vec<_> = std::fs::read_dir(&fixtures)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(cases.len() >= 8, "cases are missing in {}", fixtures.display());
    for case in cases {
        let sandbox = Sandbox::new();
        let script = std::fs::read_to_string(case.join("make.sh")).expect("each case has a script");
        sandbox.sh(&script);
        let dir = std::fs::read_to_string(case.join("dir")).unwrap_or_default();
        let found = shown(attest(&sandbox.work().join(dir.trim())), &sandbox.work());
        let path = case.join("expected.json");
        if std::env::var_os("AFFIANT_BLESS").is_some() {
            let text = serde_json::to_string_pretty(&found).expect("a value is JSON") + "\n";
            std::fs::write(&path, text).expect("the fixture can be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        let expected: Value = serde_json::from_str(&expected).unwrap_or_default();
        assert_eq!(found, expected, "{}", case.display());
        assert_schema_knows(&found["predicate"]);
    }
}

/// Each member of the predicate stands in the schema, and what the schema requires is there.
fn assert_schema_knows(predicate: &Value) {
    let Some(members) = predicate.as_object() else { return };
    let about = BUILT_IN.iter().find(|attestor| attestor.about.name == "git").expect("git is built in").about;
    let schema: Value = serde_json::from_str(about.schema).expect("the schema is JSON");
    for name in members.keys() {
        assert!(schema["properties"].get(name).is_some(), "{name}");
    }
    for name in schema["required"].as_array().expect("a list") {
        assert!(members.contains_key(name.as_str().expect("a name")), "{name}");
    }
}

#[test]
fn it_is_called_for_where_there_is_a_repository() {
    if !has_git("it_is_called_for_where_there_is_a_repository") {
        return;
    }
    let git = BUILT_IN.iter().find(|attestor| attestor.about.name == "git").expect("git is built in");
    let sandbox = Sandbox::new();
    sandbox.sh("mkdir -p r/below other; git init -q r; git init -q --bare b.git; mkdir broken; echo x >broken/.git");
    for (dir, is_called) in [("r", true), ("r/below", true), ("b.git", true), ("broken", true), ("other", false)] {
        let reason = (git.called_for)(&world(&sandbox.work().join(dir)));
        assert_eq!(reason.is_some(), is_called, "{dir}: {reason:?}");
    }
}

#[test]
fn says_what_witness_recorded() {
    if !has_git("says_what_witness_recorded") {
        return;
    }
    let recorded: Value = serde_json::from_str(include_str!("../../fixtures/git/witness.json")).expect("valid JSON");
    let sandbox = Sandbox::new();
    // The very commit: its tree is not known, but its hash proves that nothing else differs. Without a worktree no
    // status is taken, and there was nothing in it.
    let text = |name: &str| recorded["predicate"][name].as_str().expect("a text of the recording").to_owned();
    let time = "1795259254 +0000";
    let commit = format!(
        "tree {}\nauthor {} <{}> {time}\ncommitter {} <{}> {time}\n\n{}",
        text("treehash"),
        text("author"),
        text("authoremail"),
        text("committername"),
        text("committeremail"),
        text("commitmessage")
    );
    std::fs::write(sandbox.work().join("commit"), commit).expect("the folder can be written");
    sandbox
        .sh("git init -q --bare -b main r; cd r; git config remote.origin.url https://user:geheim@git.example/a.git");
    sandbox.sh("cd r; git hash-object --literally -t commit -w ../commit >refs/heads/main");
    let found = shown(attest(&sandbox.work().join("r")), &sandbox.work());
    for (name, value) in recorded["predicate"].as_object().expect("an object") {
        if !["gittool", "gitbinpath", "gitbinhash"].contains(&name.as_str()) {
            assert_eq!(&found["predicate"][name], value, "{name}");
        }
    }
    let sorted = |list: &Value| {
        let mut list: Vec<String> = list.as_array().expect("a list").iter().map(ToString::to_string).collect();
        list.sort();
        list
    };
    assert_eq!(sorted(&found["subjects"]), sorted(&recorded["subjects"]));
}

#[test]
fn status_is_what_git_says() {
    if !has_git("status_is_what_git_says") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    sandbox.sh("git init -q -b main; mkdir d e; printf 'x\n*.log\n!keep.log\nign/\n' >.gitignore
         for f in same mod staged both gone rmcached typed exec ren renmod d/one d/two e/deep; do
           seq 1 30 >$f; echo $f >>$f; done
         git add .; git commit -qm first");
    assert_eq!(assert_status_as_git(&sandbox, &work).get("status"), None, "a clean tree has no status");
    sandbox.sh("echo more >>mod; echo more >>staged; git add staged; echo more >>both; git add both; echo again >>both
         rm gone; git rm -q --cached rmcached; rm rmcached; rm typed; ln -s same typed; chmod +x exec
         git mv ren 'new name'; git mv renmod renamed; echo tail >>renamed; git rm -q d/one
         echo new >added; git add added; echo more >>added; echo ita >ita; git add -N ita
         echo u >untracked; mkdir -p u/v ign empty; echo u >u/v/w; echo i >ign/i; echo l >a.log; echo k >keep.log
         echo ü >'ümläut \"quoted\"'; ln -s nowhere dangling; mkfifo pipe; echo z >d/untracked");
    let ours = assert_status_as_git(&sandbox, &work);
    assert_eq!(ours["status"]["ren -> new name"], json!({"staging": "renamed", "worktree": "unmodified"}));
    assert_eq!(ours["status"]["typed"], json!({"staging": "unmodified", "worktree": "T"}));
    // From a folder below, paths stay relative to the top, as in git's porcelain format.
    assert_eq!(predicate(&work.join("d"))["status"], ours["status"]);
    // A folder in place of a file, and changes right after the index was written, with size and seconds unchanged.
    sandbox.sh("git reset -q --hard; git clean -qfdx; sed 's/30/31/' mod >t; cat t >mod; rm t");
    let ours = assert_status_as_git(&sandbox, &work);
    assert_eq!(ours["status"]["mod"]["worktree"], "modified");
    // git does not list the folder; it is untracked all the same.
    sandbox.sh("git checkout -q -- mod; rm same; mkdir same; echo s >same/s");
    let untracked = json!({"staging": "untracked", "worktree": "untracked"});
    let deleted = json!({"staging": "unmodified", "worktree": "deleted"});
    assert_eq!(predicate(&work)["status"], json!({"same": deleted, "same/": untracked}));
}

#[test]
fn conflicts_are_told_as_git_does() {
    if !has_git("conflicts_are_told_as_git_does") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.sh("git init -q -b main; seq 9 >uu; seq 9 >du; seq 9 >ud; seq 9 >x; git add .; git commit -qm base
         git checkout -qb other; echo o >>uu; git rm -q ud; echo o >>du; echo o >aa; git add .; git commit -qm other
         git checkout -q main; echo m >>uu; git rm -q du; echo m >>ud; echo m >aa; git add .; git commit -qm main
         git merge -q other || true");
    let ours = assert_status_as_git(&sandbox, &sandbox.work());
    assert_eq!(ours["status"]["uu"], json!({"staging": "updated", "worktree": "updated"}));
    assert_eq!(ours["status"].as_object().map(serde_json::Map::len), Some(4));
}

#[test]
fn worktrees_submodules_and_nested_repositories() {
    if !has_git("worktrees_submodules_and_nested_repositories") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    sandbox.sh(&format!("mkdir lib top; cd lib; {COMMIT}"));
    sandbox.sh(&format!(
        "cd top; {COMMIT} git submodule --quiet add ../lib sub; git submodule --quiet add ../lib old; git commit -qm subs
         git worktree add -q ../tree -b side; mkdir nested; cd nested; {COMMIT}"
    ));
    let ours = assert_status_as_git(&sandbox, &work.join("top"));
    assert_eq!(ours["status"], json!({"nested/": {"staging": "untracked", "worktree": "untracked"}}));
    // In the other worktree the submodules are not checked out.
    let ours = assert_status_as_git(&sandbox, &work.join("tree"));
    assert_eq!((&ours["branch"], ours.get("status")), (&json!("side"), None));
    // A submodule attests for itself, a nested repository too.
    let ours = assert_status_as_git(&sandbox, &work.join("top/sub"));
    assert_eq!(ours["remotes"], json!([work.join("lib").to_str()]));
    assert_eq!(predicate(&work.join("top/nested"))["branch"], "main");
    // Untracked, then changed, then at another commit.
    for script in ["echo u >top/sub/u", "rm top/sub/u; echo m >>top/sub/a", "cd top/sub; git commit -qam second"] {
        sandbox.sh(script);
        let ours = assert_status_as_git(&sandbox, &work.join("top"));
        assert_eq!(ours["status"]["sub"], json!({"staging": "unmodified", "worktree": "modified"}), "{script}");
    }
    sandbox.sh("cd top; git add sub");
    assert_eq!(assert_status_as_git(&sandbox, &work.join("top"))["status"]["sub"]["staging"], "modified");
    // A submodule that cannot be read is not passed over.
    sandbox.sh("echo 'gitdir: nowhere' >top/old/.git");
    let outcome = shown(attest(&work.join("top")), &work);
    assert_eq!(outcome["predicate"]["status"]["old"]["worktree"], "modified");
    assert!(outcome["shortfalls"][0].as_str().is_some_and(|text| text.contains("old")), "{outcome}");
}

#[test]
fn hostile_repositories_run_nothing() {
    if !has_git("hostile_repositories_run_nothing") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    sandbox.sh(&format!("mkdir lib; cd lib; {COMMIT}"));
    sandbox.sh(&format!(
        "mkdir top; cd top; {COMMIT} git submodule --quiet add ../lib sub; seq 99 >b; seq 99 >c; git add .; git commit -qm subs"
    ));
    let evil = r#"
        touch='touch "'$PWD'/pwned"'
        hostile() {
            git config filter.x.clean "$touch; cat"; git config filter.x.smudge "$touch; cat"
            git config filter.x.process "$touch"; git config filter.x.required true
            git config core.fsmonitor "$touch"; git config core.hooksPath "$1/hooks"; git config core.pager "$touch"
            git config core.sshCommand "$touch"; git config diff.x.textconv "$touch; cat"; git config diff.x.command "$touch"
            git config diff.external "$touch"; git config gpg.program "$touch"; git config core.editor "$touch"
            git config core.gitProxy "$touch"; git config credential.helper "!$touch"
            git config include.path "$1/included"; git config includeIf.gitdir:/.path "$1/included"
            git config url.https://evil.example/.insteadOf https://git.example/
            git config remote.origin.url https://git.example/a.git
            git config extensions.partialClone origin; git config remote.origin.uploadpack "$touch"
            git config core.alternateRefsCommand "$touch"
        }
        mkdir hooks
        for hook in post-index-change fsmonitor-watchman query-watchman reference-transaction; do
            printf '#!/bin/sh\n%s\n' "$touch" >hooks/$hook; chmod +x hooks/$hook
        done
        printf '[filter "y"]\n clean = %s\n[user]\n name = evil\n' "$touch" >included
        (cd top; git mv b bb; echo x >>bb; git add bb; hostile "$OLDPWD"
         echo '* filter=x diff=x' >.gitattributes; echo 'a filter=y' >>.gitattributes; echo jello >a)
        (cd top/sub; hostile "$OLDPWD"; echo '* filter=x' >.gitattributes; echo jello >a)
    "#;
    sandbox.sh(evil);
    // The trap works: git itself falls into it.
    let _ = sandbox.command("git").current_dir(work.join("top/sub")).args(["add", "a"]).output();
    assert!(work.join("pwned").exists(), "the trap is not set");
    std::fs::remove_file(work.join("pwned")).expect("the trap was just sprung");
    let outcome = shown(attest(&work.join("top")), &work);
    assert!(!work.join("pwned").exists(), "something was run: {outcome}");
    let predicate = &outcome["predicate"];
    assert_eq!(predicate["remotes"], json!(["https://git.example/a.git"]), "insteadOf is not applied");
    assert_eq!(predicate["author"], "Ada");
    assert_eq!(predicate["status"]["a"]["worktree"], "modified");
    assert_eq!(predicate["status"]["b -> bb"]["staging"], "renamed");
    assert_eq!(predicate["status"]["sub"]["worktree"], "modified");
    assert_eq!(predicate["affiant"]["unfiltered"], json!(["a"]), "it is said that the filter was not run");
    // git would read these two as well, and wait for ever.
    sandbox.sh("mkfifo fifo; for d in top top/sub; do (top=$PWD; cd $d; git config core.excludesFile $top/fifo
         git config core.attributesFile $top/fifo); done");
    assert_eq!(shown(attest(&work.join("top")), &work), outcome);
}

#[test]
fn replaced_commits_are_not_attested() {
    if !has_git("replaced_commits_are_not_attested") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.sh(&format!(
        "{COMMIT} echo 2 >>a; git commit -qam second; git config core.useReplaceRefs true
         git replace HEAD $(git commit-tree -m forged HEAD^{{tree}})"
    ));
    assert_eq!(predicate(&sandbox.work())["commitmessage"], "second\n");
}

#[test]
fn marks_in_the_index_hide_nothing() {
    if !has_git("marks_in_the_index_hide_nothing") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.sh(&format!(
        "{COMMIT} echo b >b; echo c >c; git add .; git commit -qm more; git config core.trustctime false
         git config core.checkStat minimal; git update-index --assume-unchanged a; git update-index --skip-worktree b c
         touch -d @1 c; echo jello >a; echo x >b; rm c"
    ));
    let status = predicate(&sandbox.work())["status"].clone();
    let modified = json!({"staging": "unmodified", "worktree": "modified"});
    assert_eq!(status, json!({"a": modified, "b": modified}), "c is left out as a sparse checkout does");
}

#[test]
fn lfs_files_are_compared_by_their_pointer() {
    if !has_git("lfs_files_are_compared_by_their_pointer") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.sh("git init -q -b main; echo '*.bin filter=lfs diff=lfs merge=lfs -text' >.gitattributes
         for f in one two; do
           seq 5000 >$f.bin; oid=$(sha256sum <$f.bin | cut -d' ' -f1)
           printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n' $oid $(wc -c <$f.bin) >p
           git update-index --add --cacheinfo 100644,$(git hash-object -w p),$f.bin; rm p
         done
         git add .gitattributes; git commit -qm lfs; echo x >>two.bin");
    let predicate = predicate(&sandbox.work());
    assert_eq!(predicate["status"], json!({"two.bin": {"staging": "unmodified", "worktree": "modified"}}));
    assert_eq!(predicate.get("affiant"), None);
}

#[test]
fn line_endings_are_converted_without_a_program() {
    if !has_git("line_endings_are_converted_without_a_program") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.sh(
        "git init -q -b main; echo '* text=auto eol=crlf' >.gitattributes; printf 'a\r\nb\r\n' >t; git add . 2>/dev/null
         git commit -qm first; touch -d @5 t",
    );
    assert_status_as_git(&sandbox, &sandbox.work());
}

#[test]
fn bad_repositories_are_named() {
    if !has_git("bad_repositories_are_named") {
        return;
    }
    let cases: &[(&str, &str, &str)] = &[
        ("mkdir d", "d", "nothing: there is no git repository at or above $ROOT/d"),
        ("mkdir .git", "", "error: git repository $ROOT: "),
        ("echo 'gitdir: nowhere' >.git", "", "error: git repository $ROOT: "),
        ("echo x >.git", "", "error: git repository $ROOT: "),
        ("ln -s nowhere .git", "", "error: git repository $ROOT: "),
        ("git init -q; echo '[x' >.git/config", "", "error: git repository $ROOT: "),
        (
            "git init -q; git config core.repositoryFormatVersion 1; git config extensions.refStorage reftable",
            "",
            "reftable",
        ),
        ("git init -q; git config core.repositoryFormatVersion 1; git config extensions.magic on", "", "`magic`"),
        ("git init -q; git config core.repositoryFormatVersion 7", "", "error: git repository $ROOT: "),
        ("git init -q; git config core.worktree /", "", "core.worktree `/`"),
        ("git init -q; mkdir other; git config core.worktree ../other", "", "core.worktree `../other`"),
    ];
    for (script, dir, expected) in cases {
        let sandbox = Sandbox::new();
        sandbox.sh(script);
        assert_says(&sandbox, dir, script, expected);
    }
    for damage in [
        "echo 0123456789012345678901234567890123456789 >.git/refs/heads/main",
        "rm -r .git/objects/*; mkdir -p .git/objects/info",
        "echo garbage >.git/refs/heads/main",
        "echo garbage >.git/index",
        "head -c 60 .git/index >t; mv t .git/index",
        "rm .git/HEAD; mkfifo .git/HEAD",
        "rm .git/config; mkfifo .git/config",
        "rm .git/index; mkfifo .git/index",
        "mkfifo .git/packed-refs",
        "rm -f .git/info/exclude; mkdir -p .git/info; mkfifo .git/info/exclude",
        "for f in $(find .git/objects -type f); do chmod u+w $f; echo garbage >$f; done",
    ] {
        let sandbox = Sandbox::new();
        sandbox.sh(&format!("{COMMIT} {damage}"));
        assert_says(&sandbox, "", damage, "$ROOT: ");
    }
}

/// gix would wait at each of these for ever.
#[test]
fn a_fifo_in_the_place_of_a_file_is_told_at_once() {
    if !has_git("a_fifo_in_the_place_of_a_file_is_told_at_once") {
        return;
    }
    let told: &[(&str, &str, &str)] = &[
        ("mkfifo .gitignore", "", "$ROOT/.gitignore is a FIFO"),
        ("mkdir new; echo x >new/f; mkfifo new/.gitignore", "", "$ROOT/new/.gitignore is a FIFO"),
        ("mkfifo .gitattributes; echo jello >a", "", "$ROOT/.gitattributes is a FIFO"),
        ("rm .git/refs/heads/*; mkfifo .git/refs/heads/main", "", "$ROOT/.git/refs/heads/main is a FIFO"),
        (
            "o=$(git rev-parse HEAD | sed 's,^..,&/,'); rm -f .git/objects/$o; mkfifo .git/objects/$o",
            "",
            "error: git repository $ROOT: commit ",
        ),
        (
            "git worktree add -q ../work/other 2>/dev/null; rm .git/worktrees/other/HEAD; mkfifo .git/worktrees/other/HEAD",
            "other",
            "$ROOT/.git/worktrees/other/HEAD is not a regular file",
        ),
        ("rm -rf .git; mkfifo HEAD; mkdir objects refs", "", "there is no git repository at or above $ROOT"),
    ];
    for (script, dir, expected) in told {
        let sandbox = Sandbox::new();
        sandbox.sh(&format!("{COMMIT} git symbolic-ref HEAD refs/heads/main; git branch -qM main; {script}"));
        let begun = std::time::Instant::now();
        assert_says(&sandbox, dir, script, expected);
        // Far from the time limit of attestors, also on a busy machine.
        assert!(begun.elapsed() < std::time::Duration::from_secs(120), "{script}: {:?}", begun.elapsed());
        let _ = affiant_attestors::git_remote_urls(&sandbox.work().join(dir));
    }
    // Where git does not read it, a FIFO is one among other things.
    let sandbox = Sandbox::new();
    sandbox.sh(&format!(
        "{COMMIT} echo out/ >.gitignore; git add .gitignore; git commit -qm more; mkdir out; mkfifo out/.gitignore fifo"
    ));
    assert_eq!(predicate(&sandbox.work())["status"], Value::Null);
}

/// Who holds the FIFO open does not keep us any longer.
#[test]
fn a_fifo_that_somebody_keeps_open_is_told_too() {
    if !has_git("a_fifo_that_somebody_keeps_open_is_told_too") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.sh(&format!("{COMMIT} mkfifo .gitignore"));
    let fifo = sandbox.work().join(".gitignore");
    let held = std::fs::OpenOptions::new().read(true).write(true).open(fifo).expect("opened for both");
    assert_says(&sandbox, "", "held", "$ROOT/.gitignore is a FIFO");
    drop(held);
}

fn assert_says(sandbox: &Sandbox, dir: &str, script: &str, expected: &str) {
    let outcome = shown(attest(&sandbox.work().join(dir)), &sandbox.work());
    let said = match (&outcome["error"], &outcome["nothing"]) {
        (Value::String(text), _) => format!("error: {text}"),
        (_, Value::String(text)) => format!("nothing: {text}"),
        _ => panic!("{script}: {outcome}"),
    };
    assert!(said.contains(expected) && !said.contains('\n'), "{script}: {said}");
}

#[test]
fn another_worktree_counts_where_the_command_runs_in_it() {
    if !has_git("another_worktree_counts_where_the_command_runs_in_it") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    sandbox.sh(&format!("mkdir r; cd r; {COMMIT} mkdir sub; cd sub; git init -q -b main --separate-git-dir ../../sep"));
    sandbox.sh("cd r/sub; echo 1 >x; git add x; git commit -qm x; echo 2 >>x; git config core.worktree ../r/sub");
    let ours = assert_status_as_git(&sandbox, &work.join("r/sub"));
    assert_eq!(ours["status"]["x"]["worktree"], "modified");
}

#[test]
fn a_repository_of_another_account_is_read() {
    if !has_git("a_repository_of_another_account_is_read") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.sh(&format!("mkdir r; cd r; {COMMIT}"));
    let chown = sandbox.command("chown").args(["-R", "12345:12345", "r"]).output().expect("there is a chown");
    if !chown.status.success() {
        say_skipped("a_repository_of_another_account_is_read", "not root, so files cannot be given away");
        return;
    }
    let refusal = sandbox.command("git").current_dir(sandbox.work().join("r")).arg("status").output().expect("git");
    assert!(!refusal.status.success(), "git itself refuses: safe.directory");
    let ours = predicate(&sandbox.work().join("r"));
    assert_eq!((&ours["branch"], ours.get("status")), (&json!("main"), None));
}

#[test]
fn remote_urls_are_given_for_the_search_of_secrets() {
    if !has_git("remote_urls_are_given_for_the_search_of_secrets") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.sh("git init -q; git config remote.o.url https://u:hunter2hunter2@h/x");
    assert_eq!(affiant_attestors::git_remote_urls(&sandbox.work()), ["https://u:hunter2hunter2@h/x"]);
    assert!(!shown(attest(&sandbox.work()), &sandbox.work()).to_string().contains("hunter2"));
}

#[test]
fn an_unreadable_folder_hides_no_change() {
    if !has_git("an_unreadable_folder_hides_no_change") {
        return;
    }
    // Root reads everything, so this is run again as somebody else.
    let sandbox = Sandbox::new();
    sandbox.sh(&format!("mkdir r; cd r; {COMMIT} echo b >>a; mkdir secret; echo s >secret/s; chmod 0 secret"));
    if std::fs::read_dir(sandbox.work().join("r/secret")).is_ok() {
        say_skipped("an_unreadable_folder_hides_no_change", "this account may read everything");
        return;
    }
    let outcome = shown(attest(&sandbox.work().join("r")), &sandbox.work());
    sandbox.sh("chmod 700 r/secret");
    assert_eq!(outcome["predicate"]["status"]["a"]["worktree"], "modified");
    assert!(outcome["shortfalls"][0].as_str().is_some_and(|text| text.contains("secret")), "{outcome}");
}
