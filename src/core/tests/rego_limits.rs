//! Rules that would take all time, memory or stack. One test alone in its process: its memory is measured.

use std::time::Duration;

use affiant_core::rego::{Limits, Module, RegoError, Rules};
use serde_json::json;

fn limits() -> Limits {
    let roomy = 1 << 40;
    Limits {
        time: Duration::from_mins(2),
        memory: roomy,
        ..Limits::at("2023-11-14T22:13:20Z".parse().expect("a time"))
    }
}

fn ended(rules: &str, limits: &Limits) -> String {
    let module = Module { name: "m.rego".to_owned(), text: format!("package a\nimport rego.v1\n{rules}") };
    let error: RegoError =
        Rules::compile(&[module]).expect("they are Rego").judge(&json!({}), limits).expect_err("a limit");
    error.to_string()
}

#[test]
fn limits_end_an_evaluation() {
    let short = Limits { time: Duration::from_millis(300), ..limits() };
    for loops in [
        "deny contains \"x\" if { r := numbers.range(1, 20000); some a in r; some b in r; a * b == -1 }",
        "deny contains \"x\" if { r := numbers.range(1, 20000); every a in r { every b in r { a * b > 0 } } }",
        "f(a, r) if { some b in r; a * b == -1 }\ndeny contains \"x\" if { r := numbers.range(1, 20000); some a in r; f(a, r) }",
    ] {
        assert_eq!(ended(loops, &short), "package a (Rego m.rego) takes longer than 0.3 s", "{loops}");
    }

    let small = Limits { memory: 32 * 1024 * 1024, ..limits() };
    for explodes in [
        "deny := [[a, b] | some a in numbers.range(1, 5000); some b in numbers.range(1, 5000)]",
        "deny := {[a, b] | some a in numbers.range(1, 5000); some b in numbers.range(1, 5000)}",
        "deny contains [a, b] if { some a in numbers.range(1, 5000); some b in numbers.range(1, 5000) }",
        "x[a] := [b | some b in numbers.range(1, 5000)] if some a in numbers.range(1, 5000)\ndeny contains \"x\" if count(x) > 3",
    ] {
        let expected = "package a (Rego m.rego) needs more than 32 MiB of memory";
        assert_eq!(ended(explodes, &small), expected, "{explodes}");
    }

    let endless = "package a (Rego m.rego) has rules or functions that use each other too deep, perhaps without end";
    // A long chain of rules is no recursion, but as deep.
    let chain: String = (0..10_000).flat_map(|n| [format!("r{n} := r{}", n + 1), "\n".to_owned()]).collect();
    for deep in [
        "f(x) := f(x + 1)\ndeny contains \"x\" if f(1)",
        "f(x) := g(x) + 1\ng(x) := f(x)\ndeny contains \"x\" if f(1)",
        &format!("{chain}r10000 := 1\ndeny contains \"x\" if r0 == 1"),
    ] {
        assert_eq!(ended(deep, &limits()), endless, "{}", deep.get(..100).unwrap_or(deep));
    }

    // What one call would make too much of is refused before.
    let doubled = |start: &str, step: &str, end: &str| {
        let step = |n: i32| format!("x{} := {}", n + 1, step.replace('X', &format!("x{n}")));
        let steps = (0..40).map(step).collect::<Vec<_>>().join("\n");
        let rules =
            format!("package a\nimport rego.v1\nx0 := {start}\n{steps}\ndeny contains \"x\" if count({end}) == 0");
        let module = Module { name: "m.rego".to_owned(), text: rules };
        let judgement = Rules::compile(&[module]).expect("they are Rego").judge(&json!({}), &limits()).expect("denies");
        judgement.denials.into_iter().map(|denial| denial.message).collect::<String>()
    };
    for (start, step, end) in [
        ("[1]", "array.concat(X, X)", "x40"),
        ("[1]", "[X, X]", "json.marshal(x40)"),
        ("[1]", "[X, X]", "sprintf(\"%v\", [x40])"),
        ("\"a\"", "concat(\"\", [X, X])", "x40"),
        ("\"a\"", "replace(X, \"a\", \"aa\")", "x40"),
        ("1", "X + 1", "numbers.range(x40, 1000000000000000000)"),
        ("1", "X + 1", "numbers.range_step(x40, 1000000000000000000, 1000)"),
    ] {
        let message = doubled(start, step, end);
        assert!(message.contains(" failed: the result would be too large ("), "{step} {end}: {message}");
    }

    // What is over for one evaluation is not for the next.
    let fine = Module { name: "m.rego".to_owned(), text: "package a\ndeny contains \"x\" if input.a".to_owned() };
    assert_eq!(Rules::compile(&[fine]).unwrap().judge(&json!({ "a": 1 }), &limits()).unwrap().denials.len(), 1);

    // A call that cannot be broken off is left behind: comparing two values of 2^40 parts.
    let values = |name: &str| {
        let step = |n: i32| format!("{name}{} := [{name}{n}, {name}{n}]\n", n + 1);
        (0..40).fold(format!("{name}0 := [1]\n"), |text, n| text + &step(n))
    };
    let endless = format!("{}{}deny contains \"x\" if x40 != y40", values("x"), values("y"));
    assert_eq!(ended(&endless, &short), "package a (Rego m.rego) takes longer than 0.3 s");
}
