//! Where rules rest on something that the evidence may not have.
//!
//! A *ground* reference is `input` with constant keys behind it, also by way of an import (`import input.a as a`), a
//! variable (`x := input.a`) or a rule that is nothing but such a reference. This module finds the statements that are
//! undefined without one, and the statements through which rules reach other rules; `missing` asks, for evidence that
//! does not have it, whether a rule got as far. The decision and its reasons:
//! `docs/decisions/010-undefined-input.md`.

mod finder;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regorus::unstable::{Expr, Module, Ref, Rule, RuleHead};

use self::finder::Finder;
use super::load::{self, Step};
use super::names::{self, Names};

/// Keys and indices below `input`.
pub(super) type Path = Vec<Step>;

/// What became of the syntax trees: rules, the places where they may stop, and what their authors test.
#[derive(Debug, Default)]
pub(super) struct Ground {
    pub(super) definitions: Vec<Definition>,
    pub(super) sites: Vec<Site>,
    /// What the rules of a package test for existence, or give a default with `object.get`.
    pub(super) tested: BTreeMap<Vec<String>, BTreeSet<Path>>,
}

/// One definition of a rule or function.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    /// Package and name below `data`.
    pub(super) key: Vec<String>,
    pub(super) module: usize,
    pub(super) kind: Kind,
    /// The parameters of a function, in parentheses; else empty.
    pub(super) parameters: String,
}

/// What a rule makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A set or object, to which each body adds.
    Partial,
    /// One value.
    Complete,
    Function,
}

/// A statement that needs something.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Number of the definition it stands in.
    pub(super) definition: usize,
    pub(super) line: u32,
    pub(super) needs: Needs,
    pub(super) turn: Turn,
    /// It stands in the head: the rule may have a value, and the value too little in it.
    pub(super) head: bool,
    /// What must hold for the statement to be reached: the body, and comprehensions from the outside in.
    pub(super) levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// A reference below `input`.
    Input {
        path: Path,
        /// What it is needed for.
        role: Role,
    },
    /// A rule, or a function with these arguments in parentheses.
    Rule { key: Vec<String>, arguments: String },
}

/// What a reference is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Compared,
    Used,
    /// Only for the text of a reason, whose conditions are met.
    Reason,
}

/// What it does to a rule when what a statement needs is not there, or is less than it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The rule says less.
    Same,
    /// The rule says more: the statement is negated.
    Opposite,
    /// One of them; it depends on values.
    Either,
}

/// Statements of one query that hold before a site is reached.
#[derive(Clone, Debug)]
pub(super) struct Level {
    /// `some x in …` for the body of an `every`.
    pub(super) every: Option<String>,
    statements: Arc<Vec<String>>,
    before: usize,
    /// All others instead of those before.
    others: bool,
}

impl Level {
    /// The text of the statements.
    pub(super) fn statements(&self) -> impl Iterator<Item = &str> {
        let (before, others) = (self.before, self.others);
        let all = self.statements.iter().enumerate();
        let held = all.filter(move |(number, _)| if others { *number != before } else { *number < before });
        self.every.as_deref().into_iter().chain(held.map(|(_, text)| text.as_str())).filter(|text| !text.is_empty())
    }
}

/// Looks at all rules.
pub(super) fn find(trees: &[Ref<Module>], names: &Names) -> Ground {
    let mut found = Ground::default();
    let scopes: Vec<Scope> = trees.iter().map(|tree| Scope::of(tree, trees)).collect();
    for (module, (tree, scope)) in trees.iter().zip(&scopes).enumerate() {
        for rule in &tree.policy {
            Finder::new(scope, names, module, &mut found).rule(rule);
        }
    }
    found
}

/// What names mean in a module, outside of rules.
struct Scope {
    package: Vec<String>,
    /// Imports and rules that are nothing but a reference below `input`.
    inputs: BTreeMap<String, Path>,
    /// Rules with a default, whose authors have said what holds when they are undefined.
    defaults: BTreeSet<String>,
}

impl Scope {
    fn of(tree: &Module, trees: &[Ref<Module>]) -> Self {
        let package = load::static_path(&tree.package.refr);
        let mut inputs = BTreeMap::new();
        for import in &tree.imports {
            if let (Some(("input", steps)), Some(alias)) = (load::reference(&import.refr), names::alias(import)) {
                inputs.insert(alias, steps);
            }
        }
        let same = || trees.iter().filter(|tree| load::static_path(&tree.package.refr) == package);
        let mut definitions = BTreeMap::<String, usize>::new();
        let mut defaults = BTreeSet::new();
        for rule in same().flat_map(|tree| &tree.policy) {
            let Some(name) = load::static_path(load::head(rule)).into_iter().next() else { continue };
            *definitions.entry(name.clone()).or_default() += 1;
            if matches!(rule.as_ref(), Rule::Default { .. }) {
                defaults.insert(name);
            }
        }
        for rule in same().flat_map(|tree| &tree.policy) {
            let Rule::Spec { head: RuleHead::Compr { refr, assign: Some(assign), .. }, bodies, .. } = rule.as_ref()
            else {
                continue;
            };
            if let (Expr::Var { span, .. }, Some(("input", steps))) = (refr.as_ref(), load::reference(&assign.value))
                && bodies.is_empty()
                && definitions.get(span.text()) == Some(&1)
                && !steps.contains(&Step::Open)
            {
                inputs.insert(span.text().to_owned(), steps);
            }
        }
        Self { package, inputs, defaults }
    }
}

#[cfg(test)]
pub(super) mod tests;
