//! Rego rules over evidence: each package of the rules says with `deny` why the evidence must not pass.
//!
//! All modules that a policy gives one attestation are loaded together, and the `deny` of each package is asked for by
//! itself: joined into one query, a package without `deny` would silence the others. `input` is the predicate of the
//! attestation. What `deny` may be, and what it means (wire-formats §5.4):
//!
//! | `deny` | |
//! |---|---|
//! | set or array | each element is a reason to deny; what is not a string is shown as JSON; none: the evidence passes |
//! | object | its keys are the reasons |
//! | a boolean, number, string or null, whatever its value | denied: this is not a list of reasons |
//! | undefined, or an error of a built-in function | denied |
//! | missing | denied, unless another module uses the package: then it is a library |
//!
//! In OPA a comparison with something that the evidence does not have is undefined, and a `deny` that rests on one says
//! nothing. Here it denies: `docs/decisions/010-undefined-input.md`.
//!
//! Modules are read as Rego v1, and where that fails as v0. There is no network, no clock but [`Limits::now`], no
//! randomness and no file access. Evaluation runs on a thread of its own under [`Limits`].

mod budget;
mod builtins;
mod check;
mod ground;
mod inputs;
mod load;
mod missing;
mod names;
mod outcome;
mod syntax;
mod tree;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use self::budget::Left;
use self::check::Package;
pub use self::inputs::{InputReference, input_references};

/// Most modules that are loaded together.
pub const MAX_MODULES: usize = 256;
/// Largest module, in bytes.
pub const MAX_MODULE: usize = 1024 * 1024;
/// Deepest nesting of brackets in a module.
pub const MAX_NESTING: usize = 16;
/// Most work for the parser: it reads a token again for each level of `[` and `{` around it, twice as often at each.
pub const MAX_EFFORT: u64 = 8 * 1024 * 1024;
/// Longest chain of operators and references in one expression, over all levels of its brackets.
pub const MAX_CHAIN: usize = 400;
/// Deepest nesting of the evidence, in levels.
pub const MAX_INPUT_DEPTH: usize = 256;
/// Most reasons of one package that are kept.
pub const MAX_DENIALS: usize = 1000;
/// Longest reason that is shown, in bytes.
pub const MAX_REASON: u64 = 64 * 1024;
/// Most lines of `print` that are kept.
pub const MAX_PRINTS: usize = 10_000;

/// One file of Rego.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// What messages call it: the `name` of the policy's `regopolicies` entry, or a file name.
    pub name: String,
    /// The source.
    pub text: String,
}

/// What an evaluation may use, and what it sees of the world.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What `time.now_ns()` returns: the time for which the evidence is judged.
    pub now: Timestamp,
    /// Longest time that all packages together may take.
    pub time: Duration,
    /// By how many bytes the memory of the process may grow meanwhile.
    pub memory: u64,
    /// Whether what the rules `print` is collected.
    pub print: bool,
    /// Whether the lines that were evaluated are collected.
    pub coverage: bool,
}

impl Limits {
    /// Five seconds, 128 MiB, no output.
    pub const fn at(now: Timestamp) -> Self {
        Self { now, time: Duration::from_secs(5), memory: 128 * 1024 * 1024, print: false, coverage: false }
    }
}

/// What the rules say about one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why the evidence is denied, package by package in the order of the modules. Empty: it passes.
    pub denials: Vec<Denial>,
    /// What the rules printed, `module:line: text`, if asked for.
    pub prints: Vec<String>,
    /// Which lines of each module were evaluated, if asked for.
    pub coverage: Vec<Coverage>,
}

/// One reason to deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The package that denies, as it is written after `package`.
    pub package: String,
    /// The modules that make up the package.
    pub modules: Vec<String>,
    /// The reason: the rule's own words, or what is wrong with the rule.
    pub message: String,
    /// What kind of reason it is.
    pub cause: Cause,
}

/// Why a package denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its rule says so.
    Rule,
    /// It has no `deny`, and no other module uses it.
    NoDeny,
    /// Its `deny` is undefined.
    Undefined,
    /// Its `deny` is no list of reasons.
    NotASet {
        /// What it is, for example "the boolean true".
        found: String,
    },
    /// A built-in function failed, or the rules contradict each other.
    Failed {
        /// The rule in which that happened, if known.
        rule: Option<String>,
        /// Its module and line, counted from 1.
        at: Option<(String, u32)>,
    },
    /// A rule compares what the evidence does not have.
    Missing {
        /// The rule.
        rule: String,
        /// Its module and line, counted from 1.
        at: (String, u32),
        /// The reference, for example `input.exitcodee`.
        reference: String,
    },
}

/// Which lines of a module were evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The module.
    pub module: String,
    /// Lines, counted from 1, that were evaluated at least once.
    pub covered: Vec<u32>,
    /// Lines that hold something to evaluate and were not.
    pub not_covered: Vec<u32>,
}

/// Rules that cannot be used, or an evaluation that did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum RegoError {
    /// [`MAX_MODULES`].
    #[error("{count} Rego modules for one attestation: at most {MAX_MODULES} are loaded")]
    TooManyModules {
        /// How many were given.
        count: usize,
    },
    /// [`MAX_MODULE`].
    #[error("Rego module {module} has {bytes} bytes: at most {MAX_MODULE} are read")]
    TooLarge {
        /// The module.
        module: String,
        /// Its size.
        bytes: usize,
    },
    /// The module is nested or chained deeper than the parser can stand.
    #[error("Rego module {module}:{line}: {what}, at most {limit} are read")]
    TooDeep {
        /// The module.
        module: String,
        /// Line, counted from 1.
        line: u32,
        /// What there is too much of.
        what: String,
        /// How much of it is read.
        limit: usize,
    },
    /// Neither Rego v1 nor v0.
    #[error("Rego module {module} is neither Rego v1 ({v1}) nor v0 ({v0})")]
    Syntax {
        /// The module.
        module: String,
        /// What is wrong with it as v1, with the line.
        v1: String,
        /// What is wrong with it as v0, with the line.
        v0: String,
    },
    /// The module is Rego, but something in it cannot be used.
    #[error("Rego module {module}:{line}: {problem}")]
    Refused {
        /// The module.
        module: String,
        /// Line, counted from 1.
        line: u32,
        /// What is wrong.
        problem: String,
    },
    /// The modules do not fit together.
    #[error("Rego modules {modules}: {problem}")]
    Together {
        /// Their names.
        modules: String,
        /// What is wrong.
        problem: String,
    },
    /// [`MAX_INPUT_DEPTH`].
    #[error("the evidence is nested deeper than {MAX_INPUT_DEPTH} levels: no rule is asked")]
    DeepInput,
    /// [`Limits::time`].
    #[error("package {package} (Rego {modules}) takes longer than {} s", limit.as_secs_f32())]
    Time {
        /// The package that was being evaluated.
        package: String,
        /// Its modules.
        modules: String,
        /// What was allowed.
        limit: Duration,
    },
    /// [`Limits::memory`].
    #[error("package {package} (Rego {modules}) needs more than {} MiB of memory", limit / (1024 * 1024))]
    Memory {
        /// The package that was being evaluated.
        package: String,
        /// Its modules.
        modules: String,
        /// What was allowed, in bytes.
        limit: u64,
    },
    /// Rules or functions that use each other, or themselves, without end.
    #[error(
        "package {package} (Rego {modules}) has rules or functions that use each other too deep, perhaps without end"
    )]
    Endless {
        /// The package that was being evaluated.
        package: String,
        /// Its modules.
        modules: String,
    },
    /// No thread could be started, or it panicked.
    #[error("the Rego evaluation of {modules} broke off: {problem}")]
    Broken {
        /// All modules.
        modules: String,
        /// What happened.
        problem: String,
    },
}

/// Modules that were read and fit together.
#[derive(Clone)]
pub struct Rules {
    inner: Arc<check::Compiled>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("packages", &self.inner.packages).finish_non_exhaustive()
    }
}

impl Rules {
    /// Reads `modules` and checks that they can be used together.
    ///
    /// A function that is unknown or not available here (network, randomness, runtime) is an error now, not when it is
    /// called.
    pub fn compile(modules: &[Module]) -> Result<Self, RegoError> {
        if modules.len() > MAX_MODULES {
            return Err(RegoError::TooManyModules { count: modules.len() });
        }
        let inner = budget::on_a_thread(&names(modules), || check::compile(modules))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The packages whose `deny` is asked for, as written after `package`.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        self.inner.packages.iter().filter(|package| !package.library).map(|package| package.name.as_str())
    }

    /// Whether `rule`, a path below `data` like `signature.allow`, is `true` for `input`, as cosign asks its policies.
    ///
    /// Undefined, `false`, everything else and rules that fail are no.
    pub fn allows(&self, rule: &[&str], input: &serde_json::Value, limits: &Limits) -> Result<bool, RegoError> {
        let input = outcome::input(input)?;
        let (rules, limits) = (Arc::clone(&self.inner), limits.clone());
        let path: Vec<String> = std::iter::once("data").chain(rule.iter().copied()).map(str::to_owned).collect();
        let modules = self.inner.modules.join(", ");
        let given = limits.clone();
        match budget::watched(&limits, move || rules.allows(&path, &input, &given)) {
            Ok(answer) => answer,
            Err(Left::Broken(problem)) => Err(RegoError::Broken { modules, problem }),
            Err(Left::Exceeded(_)) => Err(RegoError::Time { package: rule.join("."), modules, limit: limits.time }),
        }
    }

    /// Asks the `deny` of each package about `input`.
    ///
    /// A call within the interpreter that does not come to its end in time is left behind on its thread.
    pub fn judge(&self, input: &serde_json::Value, limits: &Limits) -> Result<Judgement, RegoError> {
        let input = outcome::input(input)?;
        let (rules, limits) = (Arc::clone(&self.inner), limits.clone());
        let asked = Arc::new(AtomicUsize::new(0));
        let (asking, given) = (Arc::clone(&asked), limits.clone());
        let judged = budget::watched(&limits, move || rules.judge(&input, &given, &asking));
        judged.unwrap_or_else(|left| {
            let modules = self.inner.modules.join(", ");
            match (left, self.inner.packages.get(asked.load(Ordering::Relaxed))) {
                (Left::Exceeded(exceeded), Some(package)) => Err(check::broken_off(package, exceeded, &limits)),
                (Left::Broken(problem), _) => Err(RegoError::Broken { modules, problem }),
                (Left::Exceeded(_), None) => Err(RegoError::Broken { modules, problem: "no package".to_owned() }),
            }
        })
    }
}

fn names(modules: &[Module]) -> String {
    modules.iter().map(|module| module.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl Package {
    fn denial(&self, message: String, cause: Cause) -> Denial {
        Denial { package: self.name.clone(), modules: self.modules.clone(), message, cause }
    }

    fn modules(&self) -> String {
        self.modules.join(", ")
    }
}

#[cfg(test)]
mod tests;
