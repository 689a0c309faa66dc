//! Security rule 14: what rests on something that the evidence does not have denies.

use serde_json::{Value, json};

use super::super::*;

/// References that the modules are denied for; `own` if a rule denies by itself.
fn missing(modules: &[&str], input: &Value) -> Vec<String> {
    let modules: Vec<_> = modules
        .iter()
        .enumerate()
        .map(|(index, text)| Module { name: format!("{index}.rego"), text: (*text).to_owned() })
        .collect();
    let limits = Limits::at("2023-11-14T22:13:20Z".parse().unwrap());
    let judgement = Rules::compile(&modules).unwrap().judge(input, &limits).unwrap();
    let told = judgement.denials.into_iter().map(|denial| match denial.cause {
        Cause::Missing { reference, .. } => reference,
        Cause::Rule => "own".to_owned(),
        other => format!("{other:?}: {}", denial.message),
    });
    told.collect()
}

/// Rules of package `a`, v1; the input; what they are denied for; why.
#[rustfmt::skip]
pub(in super::super) fn table() -> Vec<(&'static str, Value, &'static [&'static str], &'static str)> {
    vec![
        // A comparison with something that is not there.
        ("deny contains \"x\" if input.exitcodee > 0", json!({"exitcode": 0}), &["input.exitcodee"], "a misspelled name"),
        ("deny contains \"x\" if input.exitcode > 0", json!({"exitcode": 0}), &[], "it is there"),
        ("deny contains \"x\" if input.exitcode > 0", json!({"exitcode": 1}), &["own"], "it is there and denies"),
        ("deny contains \"x\" if input.a.b.c != \"main\"", json!({"a": {}}), &["input.a.b.c"], "deep"),
        ("deny contains \"x\" if input.a.b.c != \"main\"", json!({"a": "text"}), &["input.a.b.c"], "below a string"),
        ("deny contains \"x\" if input.a == null", json!({}), &["input.a"], "null is a value"),
        ("deny contains \"x\" if input.a == null", json!({"a": null}), &["own"], "null is a value"),
        ("deny contains \"x\" if 3 <= input[\"a-b\"]", json!({}), &["input[\"a-b\"]"], "on the right, in brackets"),
        ("deny contains \"x\" if input.list[2].name == \"x\"", json!({"list": [1]}), &["input.list[2].name"], "a constant index"),
        ("deny contains \"x\" if input.list[0].name == \"x\"", json!({"list": [{"name": "y"}]}), &[], "a constant index that is there"),
        ("deny contains \"x\" if \"root\" in input.users", json!({}), &["input.users"], "membership"),
        ("deny contains \"x\" if input.user in {\"root\"}", json!({}), &["input.user"], "membership"),
        ("deny contains \"x\" if startswith(input.ref, \"refs/tags\")", json!({}), &["input.ref"], "a call that is a condition"),
        ("deny contains \"x\" if count(input.findings) > 3", json!({}), &["input.findings"], "a call that is compared"),
        ("deny contains \"x\" if lower(input.a.ref) == \"main\"", json!({"a": {}}), &["input.a.ref"], "a call that is compared"),
        ("deny contains \"x\" if { n := count(input.findings); n > 3 }", json!({}), &["input.findings"], "a value that is compared later"),
        ("deny contains \"x\" if input.a + 1 > 3", json!({}), &["input.a"], "arithmetic"),
        ("deny contains \"x\" if input.map[input.key] > 3", json!({"map": {}}), &["input.key"], "the key of a reference"),
        ("deny contains \"x\" if input.a > input.b", json!({}), &["input.a", "input.b"], "both sides"),
        ("deny := {\"x\"} if input.a > 3", json!({}), &["Undefined: deny of package a is undefined: no statement about the evidence"], "a complete deny"),
        // Iterated: never.
        ("deny contains \"x\" if { some c in input.components; c.name == \"left-pad\" }", json!({}), &[], "under some"),
        ("deny contains \"x\" if input.components[_].name == \"left-pad\"", json!({}), &[], "under [_]"),
        ("deny contains \"x\" if { some i; input.components[i].name == \"left-pad\" }", json!({}), &[], "under a variable"),
        ("deny contains \"x\" if { some k, v in input.env; startswith(k, v) }", json!({}), &[], "under some"),
        ("deny contains \"x\" if { c := input.components[_]; c.version < 3 }", json!({"components": [{}]}), &[], "below an element"),
        ("deny contains \"x\" if { every c in input.components { c.ok == false } }", json!({}), &[], "the domain of every"),
        ("deny contains \"x\" if { some [path, v] in [p | walk(input.tree, p)]; v == 3 }", json!({}), &[], "walk"),
        ("deny contains \"x\" if count([c | some c in input.components; c.bad]) > 0", json!({}), &[], "iterated in a comprehension"),
        ("deny contains \"x\" if { some c in input.components; c.name == input.banned }", json!({"components": [{"name": "x"}]}), &["input.banned"], "ground, beside an element"),
        ("deny contains \"x\" if { some c in input.components; c.name == input.banned }", json!({"components": []}), &[], "no element: not reached"),
        ("deny contains \"x\" if { some c in input.components; c.kind == \"k\"; c.name == input.banned }", json!({"components": [{"kind": "j"}]}), &[], "an earlier condition fails for each"),
        ("deny contains \"x\" if count([c | some c in input.cs; c == input.banned]) > 0", json!({"cs": [1]}), &["input.banned"], "ground, in a comprehension"),
        ("deny contains \"x\" if count([c | some c in input.cs; c == input.banned]) > 0", json!({"cs": []}), &[], "not reached in a comprehension"),
        ("deny contains \"x\" if { every c in input.cs { c != input.good } }", json!({"cs": [1]}), &["input.good"], "ground, in every"),
        // Guarded by the author.
        ("deny contains \"x\" if { input.a; input.a > 3 }", json!({}), &[], "tested in the body"),
        ("deny contains \"x\" if { input.a.b; input.a.b.c > 3 }", json!({"a": {}}), &[], "a part is tested"),
        ("deny contains \"x\" if { input.a; input.a.b > 3 }", json!({"a": {}}), &["input.a.b"], "the test holds and does not help"),
        ("deny contains \"none\" if not input.a\ndeny contains \"x\" if input.a > 3", json!({}), &["own"], "another rule denies"),
        ("deny contains \"none\" if { not input.a; input.strict == true }\ndeny contains \"x\" if input.a > 3", json!({"strict": false}), &[], "another rule tests it"),
        ("deny contains \"x\" if object.get(input, \"a\", 0) > 3", json!({}), &[], "object.get"),
        ("deny contains \"x\" if object.get(input.a, [\"b\", \"c\"], 0) > 3", json!({"a": {}}), &[], "object.get with a path"),
        ("deny contains \"x\" if { object.get(input, \"a\", 4) == 4; input.a == 3 }", json!({}), &[], "object.get is a test as well"),
        ("default high := false\nhigh if input.score > 7\ndeny contains \"x\" if high", json!({}), &[], "default"),
        ("level := \"high\" if { input.score > 7 } else := \"low\"\ndeny contains \"x\" if level == \"high\"", json!({}), &[], "else"),
        // Not reached.
        ("deny contains \"x\" if { input.kind == \"k\"; input.a > 3 }", json!({"kind": "j"}), &[], "an earlier expression is false"),
        ("deny contains \"x\" if { input.kind == \"k\"; input.a > 3 }", json!({"kind": "k"}), &["input.a"], "the earlier expression holds"),
        ("deny contains \"x\" if { kind := input.kind; kind == \"k\"; input.a > 3 }", json!({"kind": "j"}), &[], "by way of a variable"),
        ("bad if input.a > 3\nbad if input.b > 3\ndeny contains \"x\" if { bad; input.c == 1 }", json!({"b": 4, "c": 2}), &[], "another body holds"),
        ("bad if input.a > 3\nbad if input.b > 3\ndeny contains \"x\" if { bad; input.c == 1 }", json!({"b": 2, "c": 1}), &["input.a"], "no body holds"),
        ("bad if input.a > 3\ndeny contains \"x\" if { input.kind == \"k\"; bad }", json!({"kind": "j"}), &[], "the rule is not reached"),
        ("bad if input.a > 3\ngood := 1\ndeny contains \"x\" if good == 2", json!({}), &[], "the rule is not used"),
        // Negation.
        ("deny contains \"x\" if not input.a == 3", json!({}), &["own"], "undefined is not equal: the rule denies by itself"),
        ("deny contains \"x\" if { not input.branch == \"main\"; input.release == true }", json!({"release": false}), &[], "negated, and the rest does not hold"),
        ("ok if not input.revoked == true\ndeny contains \"x\" if not ok", json!({}), &["input.revoked"], "negated twice"),
        ("ok if not input.revoked == true\ndeny contains \"x\" if not ok", json!({"revoked": false}), &[], "negated twice, there"),
        ("allow if input.branch == \"main\"\nallow if input.tag == \"v1\"\ndeny contains \"x\" if not allow", json!({"tag": "v1"}), &[], "another way to be allowed"),
        ("allow if input.branch == \"main\"\ndeny contains \"x\" if not allow", json!({}), &["own"], "not allowed"),
        // Rules, functions and names in between.
        ("bad if input.a > 3\ndeny contains \"x\" if bad", json!({}), &["input.a"], "in a rule"),
        ("bad contains 1 if input.a > 3\ndeny contains \"x\" if count(bad) > 0", json!({}), &["input.a"], "in a set that is counted"),
        ("bad contains \"m\" if input.a > 3\ndeny contains msg if some msg in bad", json!({}), &["input.a"], "in a set that is handed on"),
        ("bad contains \"m\" if input.a > 3\ndeny contains msg if msg := bad[_]", json!({}), &["input.a"], "in a set that is handed on"),
        ("bad contains \"m\" if input.a > 3\ndeny := bad", json!({}), &["input.a"], "deny is another set"),
        ("bad contains \"m\" if input.a > 3\nworse contains \"n\" if input.b > 3\ndeny := bad | worse", json!({"a": 1}), &["input.b"], "deny joins sets"),
        ("f(x) if x > input.limit\ndeny contains \"x\" if f(3)", json!({}), &["input.limit"], "in a function"),
        ("f(x) if { x == 4; x > input.limit }\ndeny contains \"x\" if f(3)", json!({}), &[], "not reached in a function"),
        ("f(_, [x, _]) if x > input.limit\ndeny contains \"x\" if { some n in [1, 2]; f(n, [n, \"),\"]) }", json!({}), &["input.limit"], "patterns as parameters"),
        ("f(x) if x > input.limit\nf(x) if x == 3\ndeny contains \"x\" if { f(3); input.a == 1 }", json!({"a": 2}), &[], "another body of the function holds"),
        ("f(x) := x + input.plus\ndeny contains \"x\" if f(3) > 4", json!({}), &["input.plus"], "the value of a function"),
        ("f(x) if x > 3\ndeny contains \"x\" if f(input.a)", json!({}), &["input.a"], "an argument"),
        ("image := input.image\ndeny contains \"x\" if image.tag == \"latest\"", json!({}), &["input.image.tag"], "a rule that is a reference"),
        ("deny contains \"x\" if { image := input.image; image.tag == \"latest\" }", json!({}), &["input.image"], "a variable"),
        ("deny contains \"x\" if { image := input.image; image.tag == \"latest\" }", json!({"image": {}}), &["input.image.tag"], "below a variable"),
        ("deny contains \"x\" if { list := input.list; some x in list; x == 3 }", json!({}), &[], "a variable that is iterated"),
        ("deny contains \"x\" if { list := input.list; list[_] == 3 }", json!({}), &[], "a variable that is iterated"),
        // The text of a reason.
        ("deny contains msg if { input.bad == true; msg := sprintf(\"%v\", [input.name]) }", json!({"bad": true}), &["input.name"], "the conditions hold, the reason cannot be told"),
        ("deny contains msg if { msg := sprintf(\"%v\", [input.name]); input.bad == true }", json!({"bad": false}), &[], "the reason comes first, the condition does not hold"),
        ("deny contains msg if { msg := sprintf(\"%v\", [input.name]); input.bad == true }", json!({"bad": true}), &["input.name"], "the reason comes first, the condition holds"),
        ("deny contains sprintf(\"%v\", [input.name]) if input.bad == true", json!({"bad": true}), &["input.name"], "a reason in the head"),
        ("deny contains msg if msg := input.error", json!({}), &[], "a reason that is there or not"),
        ("deny contains msg if msg := sprintf(\"%v\", [input.error])", json!({}), &[], "a reason that is there or not"),
        ("deny contains input.error", json!({}), &[], "a reason that is there or not"),
        ("deny contains msg if { input.error; msg := sprintf(\"%v\", [input.error]) }", json!({}), &[], "tested"),
        // Other ways to give a rule its input.
        ("bad if input.a > 3\ndeny contains \"x\" if bad with input as {\"a\": 1}", json!({}), &[], "another input"),
    ]
}

#[test]
fn rule_14_what_is_not_there_denies() {
    for (rules, input, expected, why) in table() {
        let text = format!("package a\n{rules}\n");
        assert_eq!(missing(&[&text], &input), expected, "{why}\n{rules}\n{input}");
    }
}

#[test]
fn rule_14_in_v0_and_over_packages() {
    let rules = "package a\nimport data.lib\nimport input.image as image\nimport input.run\ndeny[msg] { lib.bad(image.tag); run.code > 0; msg := \"x\" }\n";
    let library = "package lib\nbad(tag) { tag == input.banned.tag }\n";
    let with = |input| missing(&[rules, library], &input);
    assert_eq!(with(json!({})), ["input.image.tag"]);
    assert_eq!(with(json!({"image": {"tag": "x"}})), ["input.banned.tag"]);
    assert_eq!(with(json!({"image": {"tag": "x"}, "banned": {"tag": "y"}})), [""; 0]);
    assert_eq!(with(json!({"image": {"tag": "x"}, "banned": {"tag": "x"}})), ["input.run.code"]);
    // Chained bodies and `=` of v0.
    let chained =
        "package a\ndeny[\"x\"] { x = input.a; x > 3 }\nbad { input.b = 1 } { input.c = 1 }\ndeny[\"y\"] { bad }\n";
    assert_eq!(missing(&[chained], &json!({"a": 1, "c": 2})), ["input.b"]);
    assert_eq!(missing(&[chained], &json!({"b": 2, "c": 2})), ["input.a"]);
}

#[test]
fn rule_14_says_what_it_may_have_meant() {
    let text = "package cmd\n\ndeny contains \"x\" if {\n  input.exitcodee > 0\n}\n";
    let rules = Rules::compile(&[Module { name: "cmd.rego".to_owned(), text: text.to_owned() }]).unwrap();
    let limits = Limits::at("2023-11-14T22:13:20Z".parse().unwrap());
    let denial = rules.judge(&json!({"exitcode": 0}), &limits).unwrap().denials.remove(0);
    assert_eq!(
        denial.message,
        "rule deny of package cmd compares input.exitcodee, which the evidence does not have; it has input.exitcode (cmd.rego:4)"
    );
    let at = ("cmd.rego".to_owned(), 4);
    assert_eq!(denial.cause, Cause::Missing { rule: "deny".to_owned(), at, reference: "input.exitcodee".to_owned() });
}
