//! Modules from text to syntax trees.

use std::num::{NonZeroU32, NonZeroUsize};

use regorus::unstable::{Expr, Rule, RuleHead};
use regorus::{Engine, PolicyLengthConfig};

use super::syntax::{self, Complaint, complaint};
use super::{RegoError, builtins};

/// What the parser says of a set rule with several bodies, which is v0.
const CHAINED: &str = "else cannot be used with set rules";

/// An engine that takes what [`syntax::check`] lets through.
pub(super) fn engine() -> Engine {
    let mut engine = Engine::new();
    engine.set_policy_length_config(PolicyLengthConfig {
        max_col: NonZeroU32::MAX,
        max_file_bytes: NonZeroUsize::MAX,
        max_lines: NonZeroUsize::MAX,
    });
    builtins::install(&mut engine);
    engine
}

/// Reads `modules`, each as v1 where that is possible and else as v0; gives them as they were read, and which are v1.
pub(super) fn read(modules: &[super::Module]) -> Result<(Engine, Vec<(super::Module, bool)>), RegoError> {
    let mut engine = engine();
    let mut texts = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        syntax::check(module)?;
        let Err(v1) = add(&mut engine, index, module.text.clone(), true) else {
            texts.push((module.clone(), true));
            continue;
        };
        let mut module = module.clone();
        if let Err(mut v0) = add(&mut engine, index, module.text.clone(), false) {
            if v0.text.contains(CHAINED) {
                module.text = syntax::unchained(&module.text);
                v0 = match add(&mut engine, index, module.text.clone(), false) {
                    Ok(()) => {
                        texts.push((module, false));
                        continue;
                    }
                    Err(v0) => v0,
                };
            }
            let told = |complaint: Complaint| match complaint.at {
                Some((_, line)) => format!("line {line}: {}", complaint.text),
                None => complaint.text,
            };
            return Err(RegoError::Syntax { module: module.name, v1: told(v1), v0: told(v0) });
        }
        texts.push((module, false));
    }
    Ok((engine, texts))
}

/// Adds the module of this number.
pub(super) fn add(engine: &mut Engine, index: usize, text: String, v1: bool) -> Result<(), Complaint> {
    engine.set_rego_v0(!v1);
    let added = engine.add_policy(syntax::path(index), text);
    engine.set_rego_v0(false);
    added.map(drop).map_err(|error| complaint(&error.to_string()))
}

/// One step of a reference behind its root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// `.name` or `["name"]`.
    Key(String),
    /// `[3]`.
    Index(String),
    /// `[x]`, `[_]`, `[f(y)]` and so on.
    Open,
}

/// The root variable of a reference and its steps; nothing for what is no reference.
pub(super) fn reference(mut expr: &Expr) -> Option<(&str, Vec<Step>)> {
    let mut steps = Vec::new();
    loop {
        match expr {
            Expr::Var { span, .. } => {
                steps.reverse();
                return Some((span.text(), steps));
            }
            Expr::RefDot { refr, field, .. } => {
                steps.push(Step::Key(field.0.text().to_owned()));
                expr = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                steps.push(match index.as_ref() {
                    Expr::String { value, .. } | Expr::RawString { value, .. } => {
                        Step::Key(value.as_string().map(ToString::to_string).unwrap_or_default())
                    }
                    Expr::Number { span, .. } => Step::Index(span.text().to_owned()),
                    _ => Step::Open,
                });
                expr = refr;
            }
            _ => return None,
        }
    }
}

/// The names of a path like `data.a["b"]`, up to its first open step.
pub(super) fn static_path(expr: &Expr) -> Vec<String> {
    let Some((root, steps)) = reference(expr) else { return Vec::new() };
    let names = steps.into_iter().map_while(|step| match step {
        Step::Key(name) => Some(name),
        _ => None,
    });
    std::iter::once(root.to_owned()).chain(names).collect()
}

/// The reference in the head of a rule: its name, and keys for partial objects.
pub(super) fn head(rule: &Rule) -> &Expr {
    match rule {
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
        Rule::Default { refr, .. } => refr,
    }
}

/// A path as Rego writes it: `a.b["c-d"]`.
pub(super) fn written(path: &[String]) -> String {
    let mut text = String::new();
    for name in path {
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain && !text.is_empty() {
            text.push('[');
            text.push_str(&serde_json::Value::from(name.as_str()).to_string());
            text.push(']');
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(name);
        }
    }
    text
}
