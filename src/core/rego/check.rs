//! Modules that fit together: their packages, which of them are asked, and whether every function is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use regorus::unstable::{self, Expr, Rule, RuleHead};
use regorus::{Engine, Value};

use super::budget::{self, Exceeded};
use super::ground::{self, Ground, Role};
use super::missing::{self, Missing};
use super::names::{self, Names};
use super::syntax::{self, complaint};
use super::{Cause, Coverage, Denial, Judgement, Limits, MAX_PRINTS, Module, RegoError, builtins, load, outcome, tree};

/// The rule that is asked for.
const DENY: &str = "deny";

/// A package, over all of its modules.
#[derive(Clone, Debug)]
pub(super) struct Package {
    /// As written after `package`.
    pub(super) name: String,
    /// Path below `data`.
    pub(super) path: Vec<String>,
    /// Names of its modules.
    pub(super) modules: Vec<String>,
    /// It has no `deny`, and another package uses it.
    pub(super) library: bool,
    deny: Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deny {
    None,
    Function,
    Rule,
    /// Rules below it, like `deny.critical`.
    Below,
}

/// Where a rule stands.
#[derive(Clone, Debug)]
struct Place {
    module: usize,
    first_line: u32,
    name: String,
}

/// Modules ready to be asked.
pub(super) struct Compiled {
    engine: Engine,
    pub(super) packages: Vec<Package>,
    pub(super) modules: Vec<String>,
    rules: Vec<Place>,
    /// The modules, and which of them are v1.
    texts: Vec<(Module, bool)>,
    ground: Ground,
}

/// Reads and checks.
pub(super) fn compile(modules: &[Module]) -> Result<Compiled, RegoError> {
    let (mut engine, texts) = load::read(modules)?;
    let names: Vec<String> = modules.iter().map(|module| module.name.clone()).collect();
    let trees = engine.get_modules().clone();
    let packages = packages(&trees, &names);
    let mut rules = Vec::new();
    for (module, tree) in trees.iter().enumerate() {
        for rule in &tree.policy {
            let name = load::static_path(load::head(rule)).join(".");
            rules.push(Place { module, first_line: rule.span().line, name });
        }
    }
    let known = Names::of(&trees);
    for (number, (tree, module)) in trees.iter().zip(modules).enumerate() {
        functions(tree, (number, &module.name), &known)?;
        names_are_free(tree, module, &trees, &known)?;
    }
    let mut compiled =
        Compiled { engine, packages, modules: names, rules, texts, ground: ground::find(&trees, &known) };
    // The interpreter orders statements and binds imports at the first question.
    if let Err(error) = compiled.engine.eval_query("true".to_owned(), false) {
        let complaint = complaint(&error.to_string());
        return Err(
            match complaint.at.and_then(|(module, line)| Some((compiled.modules.get(module)?.clone(), line))) {
                Some((module, line)) => RegoError::Refused { module, line, problem: complaint.text },
                None => RegoError::Together { modules: compiled.modules.join(", "), problem: complaint.text },
            },
        );
    }
    Ok(compiled)
}

fn packages(trees: &[unstable::Ref<unstable::Module>], names: &[String]) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    let mut used: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (tree, name) in trees.iter().zip(names) {
        let path = load::static_path(&tree.package.refr);
        let index = packages.iter().position(|package| package.path == path).unwrap_or_else(|| {
            packages.push(Package {
                name: load::written(&path),
                path: path.clone(),
                modules: Vec::new(),
                library: false,
                deny: Deny::None,
            });
            packages.len() - 1
        });
        let package = &mut packages[index];
        if !package.modules.contains(name) {
            package.modules.push(name.clone());
        }
        for rule in &tree.policy {
            let head = load::static_path(load::head(rule));
            if head.first().is_some_and(|name| name == DENY) {
                package.deny = match rule.as_ref() {
                    _ if package.deny != Deny::None => package.deny,
                    Rule::Spec { head: RuleHead::Func { .. }, .. } => Deny::Function,
                    _ if head.len() > 1 => Deny::Below,
                    _ => Deny::Rule,
                };
            }
        }
        used.entry(path).or_default().extend(uses(tree));
    }
    for package in &mut packages {
        package.library = package.deny == Deny::None
            && used.iter().any(|(user, paths)| {
                *user != package.path
                    && paths.iter().any(|path| path.starts_with(&package.path) || package.path.starts_with(path))
            });
    }
    packages
}

/// Paths below `data` that a module imports or refers to; `data` alone is none.
fn uses(tree: &unstable::Module) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut note = |expr: &Expr| {
        let path = load::static_path(expr);
        if path.len() > 1 && path.first().is_some_and(|root| root == "data") {
            found.insert(path.get(1..).unwrap_or_default().to_vec());
        }
    };
    for import in &tree.imports {
        note(&import.refr);
    }
    for rule in &tree.policy {
        tree::expressions(rule, &mut |expr| note(expr));
    }
    found
}

/// The interpreter knows imports by package, not by module: one name must mean one thing.
fn names_are_free(
    tree: &unstable::Module,
    module: &Module,
    trees: &[unstable::Ref<unstable::Module>],
    known: &Names,
) -> Result<(), RegoError> {
    let refused = |line, problem| Err(RegoError::Refused { module: module.name.clone(), line, problem });
    if let Some((before, _)) = module.text.split_once(missing::MARK) {
        let line = u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX);
        return refused(line, format!("names that begin with {} are not free", missing::MARK));
    }
    let package = load::static_path(&tree.package.refr);
    for import in &tree.imports {
        let path = load::static_path(&import.refr);
        let Some(alias) = names::alias(import) else { continue };
        if path.first().is_some_and(|root| root == "future" || root == "rego") {
            continue;
        }
        for other in trees.iter().filter(|other| load::static_path(&other.package.refr) == package) {
            let same = other.imports.iter().find(|other| names::alias(other).as_ref() == Some(&alias));
            if same.is_some_and(|other| load::static_path(&other.refr) != path) {
                let problem = format!("package {} imports two things as {alias}", load::written(&package));
                return refused(import.span.line, problem);
            }
        }
        if known.defines(&package, &alias) {
            let problem = format!("{alias} is imported and is a rule of package {}", load::written(&package));
            return refused(import.span.line, problem);
        }
    }
    Ok(())
}

/// Every function that is called must be there.
fn functions(tree: &unstable::Module, (number, name): (usize, &str), known: &Names) -> Result<(), RegoError> {
    let mut refused = None;
    for rule in &tree.policy {
        tree::expressions(rule, &mut |expr| {
            let Expr::Call { span, fcn, .. } = expr else { return };
            let called = load::static_path(fcn);
            if refused.is_none() && !known.is_function(number, &called) {
                refused = builtins::unavailable(&called.join(".")).map(|problem| (span.line, problem));
            }
        });
    }
    match refused {
        Some((line, problem)) => Err(RegoError::Refused { module: name.to_owned(), line, problem }),
        None => Ok(()),
    }
}

pub(super) fn broken_off(package: &Package, exceeded: Exceeded, limits: &Limits) -> RegoError {
    let (package, modules) = (package.name.clone(), package.modules());
    match exceeded {
        Exceeded::Time => RegoError::Time { package, modules, limit: limits.time },
        Exceeded::Memory => RegoError::Memory { package, modules, limit: limits.memory },
        Exceeded::Stack => RegoError::Endless { package, modules },
    }
}

fn query(engine: &mut Engine, path: String) -> Result<Value, String> {
    let results = engine.eval_query(path, false).map_err(|error| error.to_string())?;
    let expression = results.result.into_iter().next().and_then(|result| result.expressions.into_iter().next());
    Ok(expression.map_or(Value::Undefined, |expression| expression.value))
}

impl Compiled {
    /// Asks each package; `asked` has the number of the one that is being asked.
    pub(super) fn judge(&self, input: &Value, limits: &Limits, asked: &AtomicUsize) -> Result<Judgement, RegoError> {
        let mut engine = self.engine.clone();
        builtins::prepare(&mut engine, limits);
        engine.set_gather_prints(limits.print);
        engine.set_enable_coverage(limits.coverage);
        engine.set_input(input.clone());
        budget::begin(limits);
        let mut judgement = Judgement::default();
        for (number, package) in self.packages.iter().enumerate().filter(|(_, package)| !package.library) {
            asked.store(number, Ordering::Relaxed);
            let mut denials = self.ask(package, &mut engine);
            if denials.is_empty() && budget::exceeded().is_none() {
                let missing = missing::find(&self.ground, &self.texts, &package.path, input, limits);
                denials.extend(missing.into_iter().map(|missing| self.missing(package, missing)));
            }
            judgement.denials.extend(denials);
            if let Some(exceeded) = budget::exceeded() {
                return Err(broken_off(package, exceeded, limits));
            }
            if limits.print {
                let prints = engine.take_prints().unwrap_or_default();
                let room = MAX_PRINTS.saturating_sub(judgement.prints.len());
                judgement.prints.extend(prints.iter().take(room).map(|line| self.print(line)));
            }
        }
        if limits.coverage {
            judgement.coverage = self.coverage(&engine);
        }
        Ok(judgement)
    }

    /// Whether the rule at `path` is true.
    pub(super) fn allows(&self, path: &[String], input: &Value, limits: &Limits) -> Result<bool, RegoError> {
        let mut engine = self.engine.clone();
        builtins::prepare(&mut engine, limits);
        engine.set_input(input.clone());
        budget::begin(limits);
        let answer = query(&mut engine, load::written(path));
        if budget::exceeded().is_some() {
            let (package, modules) = (path.join("."), self.modules.join(", "));
            return Err(RegoError::Time { package, modules, limit: limits.time });
        }
        Ok(matches!(answer, Ok(value) if value == Value::from(true)))
    }

    /// The lines of each module, also of one of which nothing was evaluated.
    fn coverage(&self, engine: &Engine) -> Vec<Coverage> {
        let report = engine.get_coverage_report().unwrap_or_default();
        let of_module = |(number, name): (usize, &String)| {
            let file = report.files.iter().find(|file| file.path == syntax::path(number));
            let lines = |lines: &BTreeSet<u32>| lines.iter().copied().collect::<Vec<u32>>();
            match file {
                Some(file) => Coverage {
                    module: name.clone(),
                    covered: lines(&file.covered),
                    not_covered: file.not_covered.difference(&file.covered).copied().collect(),
                },
                None => Coverage { module: name.clone(), covered: Vec::new(), not_covered: lines(&self.lines(number)) },
            }
        };
        self.modules.iter().enumerate().map(of_module).collect()
    }

    fn lines(&self, module: usize) -> BTreeSet<u32> {
        self.rules.iter().filter(|place| place.module == module).map(|place| place.first_line).collect()
    }

    fn ask(&self, package: &Package, engine: &mut Engine) -> Vec<Denial> {
        match package.deny {
            Deny::None => {
                let message = format!("package {} has no rule deny, and no other module uses it", package.name);
                vec![package.denial(message, Cause::NoDeny)]
            }
            Deny::Function => vec![outcome::not_a_set(package, "a function".to_owned())],
            Deny::Rule | Deny::Below => {
                let path = load::written(&[&["data".to_owned()], package.path.as_slice(), &[DENY.to_owned()]].concat());
                // Only a query gathers what stands below a path.
                let value = match package.deny {
                    Deny::Rule => engine.eval_rule(path).map_err(|error| error.to_string()),
                    _ => query(engine, path),
                };
                match value {
                    Ok(value) => outcome::denials(package, &value),
                    Err(error) => vec![self.failed(package, &error)],
                }
            }
        }
    }

    fn failed(&self, package: &Package, error: &str) -> Denial {
        let complaint = complaint(error);
        let at = complaint.at.and_then(|(module, line)| Some((self.modules.get(module)?.clone(), line)));
        let rule = complaint.at.and_then(|(module, line)| {
            let before = self.rules.iter().filter(|place| place.module == module && place.first_line <= line);
            before.max_by_key(|place| place.first_line).map(|place| place.name.clone())
        });
        let place = at.as_ref().map(|(module, line)| format!(" ({module}:{line})")).unwrap_or_default();
        let message = format!(
            "rule {} of package {} failed: {}{place}",
            rule.as_deref().unwrap_or(DENY),
            package.name,
            complaint.text
        );
        package.denial(message, Cause::Failed { rule, at })
    }

    fn missing(&self, package: &Package, missing: Missing) -> Denial {
        let module = self.modules.get(missing.module).cloned().unwrap_or_default();
        let need = match missing.role {
            Role::Compared => "compares",
            Role::Used => "uses",
            Role::Reason => "denies for a reason that speaks of",
        };
        let nearest = missing.nearest.map(|name| format!("; it has {name}")).unwrap_or_default();
        let message = format!(
            "rule {} of package {} {need} {}, which the evidence does not have{nearest} ({module}:{})",
            missing.rule, package.name, missing.reference, missing.line
        );
        let cause = Cause::Missing { rule: missing.rule, at: (module, missing.line), reference: missing.reference };
        package.denial(message, cause)
    }

    /// `module-0:3: text` under the module's name.
    fn print(&self, line: &str) -> String {
        let named = line.strip_prefix("module-").and_then(|rest| {
            let (number, rest) = rest.split_once(':')?;
            Some(format!("{}:{rest}", self.modules.get(number.parse::<usize>().ok()?)?))
        });
        named.unwrap_or_else(|| line.to_owned())
    }
}
