//! What rules say about evidence.

use serde_json::json;

use super::*;

fn module(name: &str, text: &str) -> Module {
    Module { name: name.to_owned(), text: text.to_owned() }
}

fn limits() -> Limits {
    Limits::at("2023-11-14T22:13:20Z".parse().unwrap())
}

fn judge(modules: &[&str], input: &serde_json::Value) -> Judgement {
    let modules: Vec<_> =
        modules.iter().enumerate().map(|(index, text)| module(&format!("{index}.rego"), text)).collect();
    Rules::compile(&modules).unwrap().judge(input, &limits()).unwrap()
}

fn messages(modules: &[&str], input: &serde_json::Value) -> Vec<String> {
    judge(modules, input).denials.into_iter().map(|denial| denial.message).collect()
}

#[test]
fn each_package_is_asked_by_itself() {
    let silent = "package a\nallow := true";
    let denies = "package b\ndeny contains \"no\" if input.exitcode > 0";
    let judgement = judge(&[silent, denies], &json!({ "exitcode": 7 }));
    let told: Vec<_> = judgement.denials.iter().map(|denial| (denial.package.as_str(), denial.cause.clone())).collect();
    assert_eq!(told, [("a", Cause::NoDeny), ("b", Cause::Rule)]);
    assert_eq!(judgement.denials[1].modules, ["1.rego"]);
    // What another module uses is a library.
    let user = "package b\nimport data.a\ndeny contains \"no\" if { a.allow; input.exitcode > 0 }";
    assert_eq!(messages(&[silent, user], &json!({ "exitcode": 7 })), ["no"]);
    assert_eq!(messages(&[silent, user], &json!({ "exitcode": 0 })), [""; 0]);
    let user = "package b\ndeny contains \"no\" if { data.a.allow; input.exitcode > 0 }";
    assert_eq!(messages(&[user, silent], &json!({ "exitcode": 7 })), ["no"]);
    // A library with a deny of its own is asked.
    let library = "package a\nallow := true\ndeny contains \"a too\"";
    assert_eq!(messages(&[library, user], &json!({ "exitcode": 0 })), ["a too"]);
    // A package does not vouch for itself.
    let itself = "package a\nallow := data.a.other\nother := true";
    assert_eq!(judge(&[itself], &json!({})).denials[0].cause, Cause::NoDeny);
}

#[test]
fn modules_of_one_package_are_merged() {
    let first = "package a\ndeny[msg] { input.x == 1; msg := \"one\" }";
    let second = "package a\nimport rego.v1\ndeny contains \"two\" if helper";
    let third = "package a\nhelper { input.x == 1 }";
    assert_eq!(messages(&[first, second, third], &json!({ "x": 1 })), ["one", "two"]);
    let judgement = judge(&[first, second, third], &json!({ "x": 1 }));
    assert_eq!(judgement.denials[0].modules, ["0.rego", "1.rego", "2.rego"]);
}

#[test]
fn both_syntaxes_side_by_side() {
    let v0 = "package a\ndeny[msg] { input.x; msg := \"v0\" }";
    let v1 = "package b\ndeny contains \"v1\" if input.x";
    let import = "package c\nimport rego.v1\ndeny contains \"import\" if input.x";
    let future = "package d\nimport future.keywords\ndeny contains msg if { some msg in [\"future\"] }";
    assert_eq!(messages(&[v0, v1, import, future], &json!({ "x": true })), ["v0", "v1", "import", "future"]);
    let error = Rules::compile(&[module("x.rego", "package a\n\ndeny contains if {")]).unwrap_err().to_string();
    assert!(error.contains("module x.rego is neither Rego v1 (line 3: "), "{error}");
    assert!(error.contains(") nor v0 (line 3: "), "{error}");
}

#[test]
fn what_deny_may_be() {
    let cause = |deny: &str| {
        let judgement = judge(&[&format!("package a.b\n{deny}")], &json!({ "one": 1 }));
        judgement.denials.into_iter().map(|denial| (denial.message, denial.cause)).collect::<Vec<_>>()
    };
    let rule = |messages: &[&str]| messages.iter().map(|text| ((*text).to_owned(), Cause::Rule)).collect::<Vec<_>>();
    for empty in ["deny := set()", "deny := []", "deny := {}", "deny contains \"x\" if input.one == 2"] {
        assert_eq!(cause(empty), rule(&[]), "{empty}");
    }
    assert_eq!(cause("deny := {\"x\", \"y\"}"), rule(&["x", "y"]));
    assert_eq!(cause("deny := [\"y\", \"x\"]"), rule(&["y", "x"]));
    assert_eq!(cause("deny := {\"x\": 1, \"y\": false}"), rule(&["x", "y"]));
    assert_eq!(cause("deny[key] := 1 if some key in [\"k\"]"), rule(&["k"]));
    assert_eq!(
        cause("deny := [{\"msg\": \"x\", \"n\": [1, null]}, 3]"),
        rule(&["{\"msg\":\"x\",\"n\":[1,null]}", "3"])
    );
    for (deny, found) in [
        ("deny := true", "the boolean true"),
        ("deny := false", "the boolean false"),
        ("deny if input.one == 1", "the boolean true"),
        ("default deny := false", "the boolean false"),
        ("deny := 3", "the number 3"),
        ("deny := \"x\"", "the string \"x\""),
        ("deny := null", "null"),
        ("deny(x) := x", "a function"),
    ] {
        let message = format!("deny of package a.b is {found}, not a set of reasons");
        assert_eq!(cause(deny), [(message, Cause::NotASet { found: found.to_owned() })], "{deny}");
    }
    let undefined = cause("deny := {\"x\"} if input.one == 2");
    assert_eq!(undefined[0].1, Cause::Undefined);
    // Rules below deny.
    assert_eq!(cause("deny.critical contains \"x\" if input.one == 1"), rule(&["critical"]));
}

#[test]
fn errors_of_builtins_deny() {
    let rules =
        "package a\nimport rego.v1\n\nhelper := to_number(input.text)\n\ndeny contains \"x\" if {\n  helper > 3\n}";
    let judgement = judge(&[rules], &json!({ "text": "three" }));
    assert_eq!(judgement.denials.len(), 1);
    let at = Some(("0.rego".to_owned(), 4));
    assert_eq!(judgement.denials[0].cause, Cause::Failed { rule: Some("helper".to_owned()), at });
    assert!(judgement.denials[0].message.starts_with("rule helper of package a failed: "), "{judgement:?}");
    assert!(judgement.denials[0].message.ends_with(" (0.rego:4)"), "{judgement:?}");
    // Also where the rule would not need it.
    assert_eq!(judge(&["package a\ndeny contains \"x\" if not to_number(\"x\")"], &json!({})).denials.len(), 1);
    // The rules contradict each other.
    let judgement = judge(&["package a\ndeny := {\"x\"} if input.a\ndeny := {\"y\"} if input.a"], &json!({ "a": 1 }));
    assert!(matches!(judgement.denials[0].cause, Cause::Failed { .. }), "{judgement:?}");
}

#[test]
fn the_rule_of_the_container_tutorial() {
    let rule = "package image.subject_match\nimport rego.v1\ndeny contains msg if {\nnot input.image_digest == input.cosign_subject\nmsg := sprintf(\n\"image digest mismatch: cilock has %s, cosign signed %s\",\n[input.image_digest, input.cosign_subject]\n)\n}\n";
    let told = messages(&[rule], &json!({ "image_digest": null, "cosign_subject": "" }));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("image digest mismatch: cilock has "), "{told:?}");
    assert_eq!(messages(&[rule], &json!({ "image_digest": "sha256:1", "cosign_subject": "sha256:1" })), [""; 0]);
}

#[test]
fn prints_are_collected_on_request() {
    let rules =
        Rules::compile(&[module("p.rego", "package a\ndeny contains \"x\" if {\n  print(\"seen\", input.a)\n}")])
            .unwrap();
    let input = json!({ "a": [1] });
    assert_eq!(rules.judge(&input, &limits()).unwrap().prints, [""; 0]);
    let asked = rules.judge(&input, &Limits { print: true, ..limits() }).unwrap();
    assert_eq!(asked.prints, ["p.rego:3: seen [1]"]);
}

#[test]
fn functions_are_checked_before_anything_is_asked() {
    let refused = |body: &str| {
        let text = format!("package a\nimport data.lib\n\nf(x) := x\ndeny contains \"x\" if {{\n  {body}\n}}");
        let library = module("l", "package lib\ng(x) := x\nh[x] := y if { some x, y in [1] }");
        Rules::compile(&[module("m", &text), library]).err().map(|error| error.to_string())
    };
    for fine in
        ["f(1) > 0", "lib.g(1)", "data.lib.g(1)", "data.a.f(2)", "print(1)", "time.now_ns() > 1", "concat(\"\", [])"]
    {
        assert_eq!(refused(fine), None, "{fine}");
    }
    for (body, problem) in [
        ("http.send({})", "http.send cannot be called: rules have no network"),
        ("not net.lookup_ip_addr(\"x\")", "net.lookup_ip_addr cannot be called: rules have no network"),
        ("x := [opa.runtime() | 1 == 1]", "opa.runtime cannot be called: rules do not see the environment"),
        ("rand.intn(\"x\", 3) > 1", "rand.intn cannot be called: equal evidence must give equal answers"),
        ("startwith(\"x\", \"y\")", "there is no function startwith; did you mean startswith?"),
        ("lib.k(1)", "there is no function lib.k"),
        ("data.lib.nothing(1)", "there is no function data.lib.nothing"),
    ] {
        assert_eq!(refused(body), Some(format!("Rego module m:6: {problem}")), "{body}");
    }
}

#[test]
fn the_time_is_that_of_the_judgement() {
    let rule = "package a\ndeny contains msg if msg := time.format(time.now_ns())";
    assert_eq!(messages(&[rule], &json!({})), ["2023-11-14T22:13:20Z"]);
}

#[test]
fn names_that_mean_two_things_are_refused() {
    let refused = |first: &str, second: &str| {
        let modules = [module("1", &format!("package a\n{first}")), module("2", &format!("package a\n{second}"))];
        Rules::compile(&modules).err().map(|error| error.to_string())
    };
    assert_eq!(refused("import input.x", "import input.x\ndeny := x"), None);
    let two = Some("Rego module 1:2: package a imports two things as x".to_owned());
    assert_eq!(refused("import input.x", "import data.x"), two);
    let both = Some("Rego module 1:2: x is imported and is a rule of package a".to_owned());
    assert_eq!(refused("import input.y as x", "x := 1"), both);
    let mark = Some("Rego module 2:2: names that begin with affiant_reached_ are not free".to_owned());
    assert_eq!(refused("deny := []", "affiant_reached_1 := 1"), mark);
}

#[test]
fn rules_that_need_themselves_deny() {
    let judgement = judge(&["package a\nr := s\ns := r\ndeny contains \"x\" if r == 1"], &json!({}));
    assert!(judgement.denials[0].message.contains("recursion"), "{judgement:?}");
}

#[test]
fn covered_lines_are_collected_on_request() {
    let used =
        module("used.rego", "package a\ndeny contains \"x\" if {\n  input.a == 1\n  input.b == 2\n  input.c == 3\n}");
    let unused = module("unused.rego", "package lib\nf(x) if x > 1\ng := 3");
    let user =
        module("user.rego", "package b\nimport data.lib\ndeny contains \"y\" if {\n  input.a == 2\n  lib.f(3)\n}");
    let rules = Rules::compile(&[used, unused, user]).unwrap();
    let judged = rules.judge(&json!({ "a": 1, "b": 1, "c": 1 }), &Limits { coverage: true, ..limits() }).unwrap();
    let lines: Vec<_> =
        judged.coverage.into_iter().map(|coverage| (coverage.module, coverage.covered, coverage.not_covered)).collect();
    let expected = [
        ("used.rego", vec![3, 4], vec![2, 5]),
        ("unused.rego", vec![], vec![2, 3]),
        ("user.rego", vec![4], vec![3, 5]),
    ];
    assert_eq!(lines, expected.map(|(name, covered, not)| (name.to_owned(), covered, not)));
}
