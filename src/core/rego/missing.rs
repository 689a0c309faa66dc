//! Whether rules stopped because the evidence does not have what they rest on.
//!
//! For each reference that is not there, rules are written that hold if the statement with it was reached: the
//! statements before it, word for word. They are followed up to `deny` through the rules that use each other, so that a
//! rule that holds by another of its bodies, or that is negated, counts as what it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use regorus::{Engine, Value};

use super::ground::{Ground, Kind, Needs, Path, Role, Site, Turn};
use super::load::{self, Step};
use super::{Limits, Module, budget, builtins};

/// What the names of written rules begin with; modules may not use such a name.
pub(super) const MARK: &str = "affiant_reached_";
/// Most references that are followed for one package. Evidence that lacks more is denied for these.
const MAX_FOLLOWED: usize = 50;

/// A reference that the evidence does not have, and on which a rule rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Name of the rule in its package.
    pub(super) rule: String,
    /// Its package, if it is not the one that was asked.
    pub(super) module: usize,
    pub(super) line: u32,
    /// `input.a.b`.
    pub(super) reference: String,
    pub(super) role: Role,
    /// The member that it may have meant.
    pub(super) nearest: Option<String>,
}

/// What a rule is less or more than it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Error {
    Less,
    More,
}

type State = (Vec<String>, Error);

/// A rule to be written: `name if { levels; tail }`.
struct Written {
    module: usize,
    text: String,
}

/// What `deny` of `package` missed in `input`.
pub(super) fn find(
    ground: &Ground,
    modules: &[(Module, bool)],
    package: &[String],
    input: &Value,
    limits: &Limits,
) -> Vec<Missing> {
    let root: State = ([package, &["deny".to_owned()]].concat(), Error::Less);
    let mut written = Vec::new();
    let mut followed = Vec::new();
    for site in absent(ground, input) {
        if followed.len() == MAX_FOLLOWED {
            break;
        }
        let number = followed.len();
        if let Some(query) = follow(ground, modules, site, &root, number, &mut written) {
            followed.push((site, query));
        }
    }
    if followed.is_empty() {
        return Vec::new();
    }
    let mut engine = engine(modules, &written);
    if let Some(engine) = &mut engine {
        builtins::prepare(engine, limits);
        engine.set_input(input.clone());
    }
    let mut found: Vec<Missing> = Vec::new();
    for (site, query) in followed {
        // What cannot be asked is held to be reached.
        let reached = match &mut engine {
            Some(engine) => engine.eval_rule(query).map_or(true, |value| value == Value::Bool(true)),
            None => true,
        };
        if budget::exceeded().is_some() {
            break;
        }
        if let Some(missing) = reached.then(|| missing(ground, site, input)).flatten()
            && !found.iter().any(|known| known.reference == missing.reference && known.line == missing.line)
        {
            found.push(missing);
        }
    }
    found
}

/// The statements that need something that `input` does not have, and that no rule of their package tests.
fn absent<'a>(ground: &'a Ground, input: &'a Value) -> impl Iterator<Item = &'a Site> {
    ground.sites.iter().filter(|site| {
        let Needs::Input { path, .. } = &site.needs else { return false };
        if value(input, path).is_some() {
            return false;
        }
        let key = &ground.definitions[site.definition].key;
        let tested = key.split_last().and_then(|(_, package)| ground.tested.get(package));
        !tested.is_some_and(|tested| {
            tested.iter().any(|tested| path.starts_with(tested) && value(input, tested).is_none())
        })
    })
}

fn value<'a>(input: &'a Value, path: &[Step]) -> Option<&'a Value> {
    let mut value = input;
    for step in path {
        value = match (value, step) {
            (Value::Object(_), Step::Key(key)) => &value[key.as_str()],
            (Value::Object(_) | Value::Array(_), Step::Index(index)) => {
                &value[&Value::from_numeric_string(index).ok()?]
            }
            _ => return None,
        };
        if *value == Value::Undefined {
            return None;
        }
    }
    Some(value)
}

/// Writes the rules that lead from `site` to `root`; the path of the last one, if `root` is reached at all.
fn follow(
    ground: &Ground,
    modules: &[(Module, bool)],
    site: &Site,
    root: &State,
    number: usize,
    written: &mut Vec<Written>,
) -> Option<String> {
    let mut names: BTreeMap<State, usize> = BTreeMap::new();
    let mut rules = Vec::new();
    let mut waiting: VecDeque<State> = VecDeque::new();
    let mut name_of = |state: &State, waiting: &mut VecDeque<State>| {
        let next = names.len();
        let number_of_state = *names.entry(state.clone()).or_insert_with(|| {
            waiting.push_back(state.clone());
            next
        });
        format!("{MARK}{number}_{number_of_state}")
    };
    for error in errors(site.turn, Error::Less) {
        let state = (ground.definitions[site.definition].key.clone(), error);
        let name = name_of(&state, &mut waiting);
        rules.push(write(ground, modules, site, &name, error, None));
    }
    while let Some((key, error)) = waiting.pop_front() {
        let name = name_of(&(key.clone(), error), &mut waiting);
        let package = key.split_last().map(|(_, package)| package.to_vec()).unwrap_or_default();
        let path = load::written(&[&["data".to_owned()], package.as_slice(), &[name]].concat());
        for site in &ground.sites {
            let Needs::Rule { key: used, arguments } = &site.needs else { continue };
            if *used != key {
                continue;
            }
            for error in errors(site.turn, error) {
                let state = (ground.definitions[site.definition].key.clone(), error);
                let name = name_of(&state, &mut waiting);
                rules.push(write(ground, modules, site, &name, error, Some(&format!("{path}{arguments}"))));
            }
        }
    }
    let state = names.get(root)?;
    let (_, package) = root.0.split_last()?;
    written.extend(rules);
    let name = format!("{MARK}{number}_{state}");
    Some(load::written(&[&["data".to_owned()], package, &[name]].concat()))
}

/// What the rule around a statement suffers from, when what the statement needs suffers from `error`.
fn errors(turn: Turn, error: Error) -> Vec<Error> {
    let opposite = if error == Error::Less { Error::More } else { Error::Less };
    match turn {
        Turn::Same => vec![error],
        Turn::Opposite => vec![opposite],
        Turn::Either => vec![Error::Less, Error::More],
    }
}

/// A rule `name` that holds if `site` is reached, `tail` holds there, and the rule around it did not do without.
fn write(
    ground: &Ground,
    modules: &[(Module, bool)],
    site: &Site,
    name: &str,
    error: Error,
    tail: Option<&str>,
) -> Written {
    let definition = &ground.definitions[site.definition];
    let mut body = tail.unwrap_or("true").to_owned();
    for (depth, level) in site.levels.iter().enumerate().rev() {
        let held: String = level.statements().flat_map(|text| [text, "\n"]).collect();
        body = format!("{held}{body}");
        if depth > 0 {
            body = format!("count([1 | {body}]) > 0");
        }
    }
    let own = load::written(&[&["data".to_owned()], definition.key.as_slice()].concat());
    // One of several bodies may have given the rule its value: then nothing was missed. And what says too much only
    // matters if it says something.
    let condition = match (definition.kind, error) {
        (Kind::Partial, _) => String::new(),
        _ if site.head => String::new(),
        (_, Error::Less) => format!("count([1 | _ = {own}{}]) == 0\n", definition.parameters),
        (_, Error::More) => format!("count([1 | _ = {own}{}]) > 0\n", definition.parameters),
    };
    let v1 = modules.get(definition.module).is_some_and(|(_, v1)| *v1);
    let start = if v1 { " if {" } else { " {" };
    Written {
        module: definition.module,
        text: format!("\n{name}{}{start}\n{body}\n{condition}}}\n", definition.parameters),
    }
}

/// The modules with the written rules behind their own.
fn engine(modules: &[(Module, bool)], written: &[Written]) -> Option<Engine> {
    let mut texts: Vec<String> = modules.iter().map(|(module, _)| module.text.clone()).collect();
    let mut known = BTreeSet::new();
    for rule in written {
        if known.insert((rule.module, rule.text.as_str())) {
            texts.get_mut(rule.module)?.push_str(&rule.text);
        }
    }
    let mut engine = load::engine();
    for (index, (text, (_, v1))) in texts.into_iter().zip(modules).enumerate() {
        load::add(&mut engine, index, text, *v1).ok()?;
    }
    Some(engine)
}

fn missing(ground: &Ground, site: &Site, input: &Value) -> Option<Missing> {
    let Needs::Input { path, role } = &site.needs else { return None };
    let definition = &ground.definitions[site.definition];
    Some(Missing {
        rule: definition.key.last().cloned().unwrap_or_default(),
        module: definition.module,
        line: site.line,
        reference: spelled(path),
        role: *role,
        nearest: nearest(input, path),
    })
}

/// `input.a[0]["b-c"]`.
fn spelled(path: &[Step]) -> String {
    let mut text = "input".to_owned();
    for step in path {
        text = match step {
            Step::Key(key) => load::written(&[text, key.clone()]),
            Step::Index(index) => format!("{text}[{index}]"),
            Step::Open => format!("{text}[_]"),
        };
    }
    text
}

/// The member that is there instead of the first one that is not, if their names are alike.
fn nearest(input: &Value, path: &Path) -> Option<String> {
    let depth = (0..path.len()).find(|depth| value(input, path.get(..=*depth).unwrap_or_default()).is_none())?;
    let (before, Step::Key(wanted)) = (path.get(..depth)?, path.get(depth)?) else { return None };
    let object = value(input, before)?.as_object().ok()?;
    let names = object.iter_sorted().filter_map(|(key, _)| Some(key.as_string().ok()?.to_string()));
    let (distance, name) =
        names.map(|name| (strsim::damerau_levenshtein(&name.to_lowercase(), &wanted.to_lowercase()), name)).min()?;
    let mut found = before.to_vec();
    found.push(Step::Key(name));
    (distance <= 2 && distance < wanted.chars().count()).then(|| spelled(&found))
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::super::{ground, load};
    use super::*;

    /// Each statement of all rules that are tested, as if what it needs were missing: what is written about it is Rego.
    #[test]
    fn what_is_written_can_be_read() {
        let table = include_str!("../../../fixtures/rego/table.json");
        let rows: Vec<serde_json::Value> = serde_json::from_str(table).unwrap();
        let lines = |module: &serde_json::Value| -> String {
            let lines: Vec<_> = module.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
            lines.join("\n")
        };
        let mut all: Vec<Vec<String>> =
            rows.iter().map(|row| row["modules"].as_array().unwrap().iter().map(lines).collect()).collect();
        all.extend(ground::tests::table().iter().map(|(rules, ..)| vec![format!("package a\n{rules}\n")]));
        let mut rules = 0;
        for texts in all {
            let modules: Vec<_> = texts.into_iter().map(|text| Module { name: String::new(), text }).collect();
            let Ok((mut read, texts)) = load::read(&modules) else { continue };
            if read.eval_query("true".to_owned(), false).is_err() {
                continue;
            }
            let trees = read.get_modules().clone();
            let ground = ground::find(&trees, &Names::of(&trees));
            let roots: BTreeSet<_> = ground.definitions.iter().map(|definition| definition.key.clone()).collect();
            let mut written = Vec::new();
            for (number, site) in ground.sites.iter().enumerate() {
                for root in &roots {
                    follow(&ground, &texts, site, &(root.clone(), Error::Less), number, &mut written);
                }
            }
            rules += written.len();
            let shown = || written.iter().map(|rule| rule.text.as_str()).collect::<String>();
            let mut engine = engine(&texts, &written).unwrap_or_else(|| panic!("{}", shown()));
            assert!(engine.eval_query("true".to_owned(), false).is_ok(), "{}", shown());
        }
        assert!(rules > 200, "{rules} rules were written");
    }
}
