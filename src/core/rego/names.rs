//! Which rule or function a path means.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Import, Module, Ref, Rule, RuleHead};

use super::load;

/// The packages, rules, functions and imports of modules that are loaded together. Paths stand below `data`.
pub(super) struct Names {
    packages: BTreeSet<Vec<String>>,
    /// Package and first name of each rule or function.
    rules: BTreeSet<Vec<String>>,
    functions: BTreeSet<Vec<String>>,
    /// The package of each module.
    package_of: Vec<Vec<String>>,
    /// What each module imports from `data`, and from elsewhere without a path.
    imports: Vec<BTreeMap<String, Option<Vec<String>>>>,
}

impl Names {
    pub(super) fn of(trees: &[Ref<Module>]) -> Self {
        let mut names = Self {
            packages: BTreeSet::new(),
            rules: BTreeSet::new(),
            functions: BTreeSet::new(),
            package_of: Vec::new(),
            imports: Vec::new(),
        };
        for tree in trees {
            let package = load::static_path(&tree.package.refr);
            for rule in &tree.policy {
                let head = load::static_path(load::head(rule));
                names.rules.extend(head.first().map(|name| [package.as_slice(), std::slice::from_ref(name)].concat()));
                let function = match rule.as_ref() {
                    Rule::Spec { head: RuleHead::Func { .. }, .. } => true,
                    Rule::Default { args, .. } => !args.is_empty(),
                    Rule::Spec { .. } => false,
                };
                if function {
                    names.functions.insert([package.as_slice(), &head].concat());
                }
            }
            let imports = tree.imports.iter().filter_map(|import| {
                let path = load::static_path(&import.refr);
                let (root, rest) = path.split_first()?;
                Some((alias(import)?, (root == "data").then(|| rest.to_vec())))
            });
            names.imports.push(imports.collect());
            names.packages.insert(package.clone());
            names.package_of.push(package);
        }
        names
    }

    /// Whether a package defines a rule of this name.
    pub(super) fn defines(&self, package: &[String], name: &str) -> bool {
        self.rules.contains(&[package, &[name.to_owned()]].concat())
    }

    /// Whether a call in a module leads to a function of the modules.
    pub(super) fn is_function(&self, module: usize, path: &[String]) -> bool {
        self.absolute(module, path).is_some_and(|path| self.functions.contains(&path))
    }

    /// Package and name of the rule or function that a path in a module leads to, or into.
    pub(super) fn rule(&self, module: usize, path: &[String]) -> Option<Vec<String>> {
        let absolute = self.absolute(module, path)?;
        let package = (0..absolute.len()).rev().find(|length| self.packages.contains(&absolute[..*length]))?;
        let key = absolute.get(..=package)?;
        self.rules.contains(key).then(|| key.to_vec())
    }

    fn absolute(&self, module: usize, path: &[String]) -> Option<Vec<String>> {
        let (root, rest) = path.split_first()?;
        if root == "data" {
            return Some(rest.to_vec());
        }
        match self.imports.get(module)?.get(root) {
            Some(Some(imported)) => Some([imported, rest].concat()),
            Some(None) => None,
            None => Some([self.package_of.get(module)?, path].concat()),
        }
    }
}

/// The name by which a module knows what it imports.
pub(super) fn alias(import: &Import) -> Option<String> {
    match &import.r#as {
        Some(name) => Some(name.text().to_owned()),
        None => load::static_path(&import.refr).pop(),
    }
}
