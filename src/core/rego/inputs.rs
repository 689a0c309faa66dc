//! What rules look at in the evidence, without asking them.

use std::collections::BTreeSet;

use super::{Module, RegoError, budget, load, names, tree};

/// A reference to the evidence in a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputReference {
    /// Number of the module in the list that was given.
    pub module: usize,
    /// Line, counted from 1.
    pub line: u32,
    /// The names behind `input`, up to the first that is not fixed; at least one.
    pub path: Vec<String>,
}

/// The references of `modules` to `input`, sorted, each once. Of `input.a.b` only the whole is listed.
pub fn input_references(modules: &[Module]) -> Result<Vec<InputReference>, RegoError> {
    budget::on_a_thread(&names(modules), || {
        let (mut engine, _) = load::read(modules)?;
        let trees = engine.get_modules().clone();
        let mut found = BTreeSet::new();
        for (module, tree) in trees.iter().enumerate() {
            let mut note = |line: u32, path: Vec<String>| {
                if path.len() > 1 && path.first().is_some_and(|root| root == "input") {
                    found.insert(InputReference { module, line, path: path.into_iter().skip(1).collect() });
                }
            };
            for import in &tree.imports {
                note(import.refr.span().line, load::static_path(&import.refr));
            }
            for rule in &tree.policy {
                tree::expressions(rule, &mut |expr| note(expr.span().line, load::static_path(expr)));
            }
        }
        let all: Vec<InputReference> = found.into_iter().collect();
        // Sorted: what a path goes on with stands behind it.
        let is_part = |one: &InputReference, next: &InputReference| {
            one.module == next.module && one.line == next.line && next.path.starts_with(&one.path)
        };
        let next = |index: usize| all.get(index + 1);
        let whole = (0..all.len()).filter(|index| next(*index).is_none_or(|next| !is_part(&all[*index], next)));
        Ok(whole.map(|index| all[index].clone()).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_with_their_lines() {
        let text = "package a\nimport rego.v1\nimport input.refs as r\ndeny contains msg if {\n  input.cmd[0] == \"x\"\n  some c in input[\"components\"]\n  input.a.b.c != input.d\n  msg := sprintf(\"%v\", [object.get(input, \"e\", 1)])\n}\n";
        let module = Module { name: "a.rego".to_owned(), text: text.to_owned() };
        let found = input_references(&[module]).expect("reads");
        let shown: Vec<String> = found.iter().map(|one| format!("{}:{}", one.line, one.path.join("."))).collect();
        assert_eq!(shown, ["3:refs", "5:cmd", "6:components", "7:a.b.c", "7:d"]);
    }
}
