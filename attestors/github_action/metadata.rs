//! What `action.yml` says, as far as a wrapped action needs it. What cannot be done as GitHub's runner does it is refused
//! by name: half an action is none.
//!
//! Source: "Metadata syntax for GitHub Actions" (docs.github.com).

use crate::yaml::{Id, Tree};

/// Largest `action.yml` that is read, in bytes.
pub const MAX_METADATA: u64 = 1 << 20;
/// Most inputs, outputs and steps of an action.
const MAX_MEMBERS: usize = 1000;

/// Why an `action.yml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct MetadataError {
    /// Line, counted from 1.
    pub line: u64,
    /// As a lower-case fragment.
    pub reason: String,
}

/// An action.
#[derive(Debug)]
pub struct Metadata {
    /// What it is called.
    pub name: String,
    /// Its inputs, in the order of the file.
    pub inputs: Vec<Input>,
    /// Its outputs, and of a composite action their values.
    pub outputs: Vec<(String, Option<String>)>,
    /// What runs.
    pub runs: Runs,
}

/// An input.
#[derive(Debug)]
pub struct Input {
    /// As it is written; letter case does not count.
    pub name: String,
    /// Its value where none is given.
    pub default: Option<String>,
    /// Whether it must be given, if it has no default.
    pub required: bool,
}

/// What an action runs.
#[derive(Debug)]
pub enum Runs {
    /// A program for Node.js.
    JavaScript {
        /// `node20`.
        using: String,
        /// The file, relative to the action's folder.
        main: String,
        /// Which of `pre` and `post` there are.
        others: Vec<&'static str>,
    },
    /// Scripts.
    Composite(Vec<Step>),
}

/// A script of a composite action.
#[derive(Debug)]
pub struct Step {
    /// What its outputs are found by.
    pub id: Option<String>,
    /// The script.
    pub run: String,
    /// What runs it.
    pub shell: Shell,
    /// Further variables.
    pub env: Vec<(String, String)>,
    /// Where it runs.
    pub dir: Option<String>,
}

/// What runs a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// `bash --noprofile --norc -eo pipefail`.
    Bash,
    /// `sh -e`.
    Sh,
}

impl Runs {
    /// As evidence names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::JavaScript { .. } => "javascript",
            Self::Composite(_) => "composite",
        }
    }
}

/// Whether a text can be the name of an input or output: `[A-Za-z_][A-Za-z0-9_-]*`.
pub fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

/// Whether a text can be the name of a variable: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_variable(text: &str) -> bool {
    is_name(text) && !text.contains('-')
}

impl Metadata {
    /// Reads the text of an `action.yml`.
    pub fn read(text: &str) -> Result<Self, MetadataError> {
        let tree = Tree::read(text).map_err(|error| MetadataError { line: error.line, reason: error.reason })?;
        let reader = Reader(&tree);
        let top = match tree.tops[..] {
            [top] if tree.is_map(top) => top,
            _ => return Err(MetadataError { line: 1, reason: "this is no action: not one map".to_owned() }),
        };
        let runs = reader.one(top, "runs")?.ok_or_else(|| reader.wrong(top, "this is no action: `runs` is missing"))?;
        let metadata = Self {
            name: reader.text(top, "name")?.unwrap_or_default(),
            inputs: reader.inputs(top)?,
            outputs: reader.outputs(top)?,
            runs: reader.runs(runs)?,
        };
        match tree.given_up() {
            Some(line) => Err(MetadataError { line, reason: "maps are merged (`<<`) without end".to_owned() }),
            None => Ok(metadata),
        }
    }
}

struct Reader<'t>(&'t Tree);

impl Reader<'_> {
    fn wrong(&self, at: Id, reason: impl Into<String>) -> MetadataError {
        MetadataError { line: self.0.line(at), reason: reason.into() }
    }

    /// The one value of a key.
    fn one(&self, map: Id, key: &str) -> Result<Option<Id>, MetadataError> {
        match self.0.get(map, key)[..] {
            [] => Ok(None),
            [one] => Ok(Some(one).filter(|one| !self.0.is_null(*one))),
            [_, second, ..] => Err(self.wrong(second, format!("`{key}` is there twice"))),
        }
    }

    /// The text of a key.
    fn text(&self, map: Id, key: &str) -> Result<Option<String>, MetadataError> {
        let Some(id) = self.one(map, key)? else { return Ok(None) };
        let text = self.0.text(id).ok_or_else(|| self.wrong(id, format!("`{key}` is no text")))?;
        if text.contains('\0') {
            return Err(self.wrong(id, format!("`{key}` holds a zero byte")));
        }
        Ok(Some(text.to_owned()))
    }

    fn truth(&self, map: Id, key: &str) -> Result<bool, MetadataError> {
        match self.text(map, key)?.map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong(map, format!("`{key}` is neither true nor false"))),
        }
    }

    /// The members of a map of maps, each name once.
    fn members(&self, top: Id, key: &str) -> Result<Vec<(String, Id)>, MetadataError> {
        let Some(map) = self.one(top, key)? else { return Ok(Vec::new()) };
        if !self.0.is_map(map) {
            return Err(self.wrong(map, format!("`{key}` is no map")));
        }
        let mut members: Vec<(String, Id)> = Vec::new();
        for (name, value) in self.0.entries(map) {
            let text = self.0.text(name).filter(|text| is_name(text));
            let text = text.ok_or_else(|| self.wrong(name, format!("a name in `{key}` that is none")))?;
            if members.iter().any(|(known, _)| known.eq_ignore_ascii_case(text)) {
                return Err(self.wrong(name, format!("`{text}` is there twice in `{key}`")));
            }
            if members.len() >= MAX_MEMBERS {
                return Err(self.wrong(name, format!("`{key}` has more than {MAX_MEMBERS} members")));
            }
            members.push((text.to_owned(), value));
        }
        Ok(members)
    }

    fn inputs(&self, top: Id) -> Result<Vec<Input>, MetadataError> {
        let read = |(name, at): (String, Id)| {
            Ok(Input { name, default: self.text(at, "default")?, required: self.truth(at, "required")? })
        };
        self.members(top, "inputs")?.into_iter().map(read).collect()
    }

    fn outputs(&self, top: Id) -> Result<Vec<(String, Option<String>)>, MetadataError> {
        let read = |(name, at): (String, Id)| Ok((name, self.text(at, "value")?));
        self.members(top, "outputs")?.into_iter().map(read).collect()
    }

    fn runs(&self, runs: Id) -> Result<Runs, MetadataError> {
        let using = self.text(runs, "using")?.ok_or_else(|| self.wrong(runs, "`runs` has no `using`"))?;
        match using.as_str() {
            "composite" => {
                let steps = self.one(runs, "steps")?.filter(|steps| self.0.is_list(*steps));
                let steps = steps.ok_or_else(|| self.wrong(runs, "a composite action without a list of steps"))?;
                let steps = self.0.list(steps);
                if steps.len() > MAX_MEMBERS {
                    return Err(self.wrong(runs, format!("more than {MAX_MEMBERS} steps")));
                }
                let mut read: Vec<Step> = Vec::new();
                for at in steps {
                    let step = self.step(*at)?;
                    if step.id.is_some() && read.iter().any(|other| other.id == step.id) {
                        return Err(self.wrong(*at, "two steps have the same `id`"));
                    }
                    read.push(step);
                }
                Ok(Runs::Composite(read))
            }
            "docker" => Err(self.wrong(runs, "a docker action is not wrapped: wrap its `docker run`, with `command`")),
            node if node.strip_prefix("node").is_some_and(|rest| rest.parse::<u8>().is_ok()) => {
                let main = self.text(runs, "main")?.filter(|main| !main.is_empty());
                let main = main.ok_or_else(|| self.wrong(runs, "`runs` has no `main`"))?;
                let mut others = Vec::new();
                for name in ["pre", "post"] {
                    if self.one(runs, name)?.is_some() {
                        others.push(name);
                    }
                }
                Ok(Runs::JavaScript { using, main, others })
            }
            other => Err(self.wrong(runs, format!("`using: {other}` is not known"))),
        }
    }

    fn step(&self, at: Id) -> Result<Step, MetadataError> {
        if !self.0.is_map(at) {
            return Err(self.wrong(at, "a step that is no map"));
        }
        for (key, _) in self.0.entries(at) {
            match self.0.text(key).unwrap_or_default() {
                "name" | "id" | "run" | "shell" | "env" | "working-directory" => {}
                "uses" => {
                    return Err(self.wrong(key, "a step with `uses`: an action within an action is not wrapped"));
                }
                other => return Err(self.wrong(key, format!("a step with `{other}`, which is not done here"))),
            }
        }
        let run = self.text(at, "run")?.ok_or_else(|| self.wrong(at, "a step without `run`"))?;
        let shell = match self.text(at, "shell")?.as_deref() {
            Some("bash") => Shell::Bash,
            Some("sh") => Shell::Sh,
            None => return Err(self.wrong(at, "a step without `shell`")),
            Some(other) => return Err(self.wrong(at, format!("`shell: {other}` is neither bash nor sh"))),
        };
        let id = self.text(at, "id")?;
        if id.as_deref().is_some_and(|id| !is_name(id)) {
            return Err(self.wrong(at, "an `id` that is no name"));
        }
        let mut env: Vec<(String, String)> = Vec::new();
        if let Some(map) = self.one(at, "env")? {
            if !self.0.is_map(map) {
                return Err(self.wrong(map, "`env` is no map"));
            }
            for (key, value) in self.0.entries(map) {
                let name = self.0.text(key).filter(|name| is_variable(name));
                let name = name.ok_or_else(|| self.wrong(key, "a variable in `env` whose name is none"))?;
                if env.iter().any(|(known, _)| known == name) {
                    return Err(self.wrong(key, format!("`{name}` is there twice in `env`")));
                }
                let text = self.0.text(value).unwrap_or_default();
                if text.contains('\0') || self.0.is_map(value) || self.0.is_list(value) {
                    return Err(self.wrong(value, format!("`{name}` in `env` is no text")));
                }
                env.push((name.to_owned(), text.to_owned()));
            }
        }
        Ok(Step { id, run, shell, env, dir: self.text(at, "working-directory")? })
    }
}

/// The members of a map of texts: what `action-inputs` holds as YAML.
pub fn texts(text: &str) -> Result<Vec<(String, String)>, MetadataError> {
    let tree = Tree::read(text).map_err(|error| MetadataError { line: error.line, reason: error.reason })?;
    let reader = Reader(&tree);
    let top = match tree.tops[..] {
        [top] if tree.is_map(top) => top,
        _ => return Err(MetadataError { line: 1, reason: "this is no map of names and values".to_owned() }),
    };
    let mut found = Vec::new();
    for (name, value) in tree.entries(top) {
        let text = tree.text(name).ok_or_else(|| reader.wrong(name, "a name that is no text"))?;
        if tree.is_map(value) || tree.is_list(value) {
            return Err(reader.wrong(value, format!("`{text}` is no text")));
        }
        found.push((text.to_owned(), tree.text(value).unwrap_or_default().to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        Metadata::read(text).expect_err(text).to_string()
    }

    #[test]
    fn an_action_is_read() {
        let read = Metadata::read(
            "name: n\ninputs:\n  who-to: {default: me, required: true}\n  n: {default: 1.0}\n  e:\noutputs: {o: {value: v}}\n\
             runs:\n  using: composite\n  steps:\n  - {id: a, shell: sh, run: 'echo', env: {A: 1, B: }, working-directory: d}\n",
        )
        .expect("an action");
        assert_eq!((read.name.as_str(), read.runs.name()), ("n", "composite"));
        let inputs: Vec<_> =
            read.inputs.iter().map(|one| (one.name.as_str(), one.default.as_deref(), one.required)).collect();
        assert_eq!(inputs, [("who-to", Some("me"), true), ("n", Some("1.0"), false), ("e", None, false)]);
        assert_eq!(read.outputs, [("o".to_owned(), Some("v".to_owned()))]);
        let Runs::Composite(steps) = read.runs else { panic!("composite") };
        assert_eq!(steps[0].env, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), String::new())]);
        assert_eq!((steps[0].shell, steps[0].dir.as_deref()), (Shell::Sh, Some("d")));
        let node = Metadata::read("runs: {using: node24, main: m.js, post: p.js}").expect("an action");
        assert!(matches!(&node.runs, Runs::JavaScript { main, others, .. } if main == "m.js" && others == &["post"]));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name_and_line() {
        let step = |more: &str| {
            reason(&format!("runs:\n  using: composite\n  steps:\n  - run: a\n    shell: sh\n    {more}\n"))
        };
        for (text, said) in [
            ("", "line 1: this is no action"),
            ("name: x", "`runs` is missing"),
            ("runs: {using: docker, image: Dockerfile}", "a docker action is not wrapped"),
            ("runs: {using: node20}", "has no `main`"),
            ("runs: {using: nodex, main: a}", "`using: nodex` is not known"),
            ("runs: {using: ruby}", "`using: ruby` is not known"),
            ("runs: {using: node20, main: a}\ninputs: {'a\\n': {}}", "a name in `inputs`"),
            ("runs: {using: node20, main: a}\ninputs: {a: {}, A: {}}", "`A` is there twice"),
            ("runs: {using: node20, main: a}\nruns: {using: node20, main: b}", "line 2: `runs` is there twice"),
            ("runs: {using: node20, main: [a]}", "`main` is no text"),
            ("runs: {using: composite, steps: [{run: a}]}", "a step without `shell`"),
            ("runs: {using: composite, steps: [{run: a, shell: pwsh}]}", "`shell: pwsh` is neither"),
            ("runs: {using: composite, steps: [{uses: a/b@c}]}", "a step with `uses`"),
            ("runs: {using: composite, steps: [a]}", "a step that is no map"),
            ("runs: {using: composite}", "without a list of steps"),
            ("a: &a [*a]", "an alias"),
        ] {
            assert!(reason(text).contains(said), "{text}: {}", reason(text));
        }
        assert_eq!(step("if: always()"), "line 6: a step with `if`, which is not done here");
        assert!(step("env: {'A B': c}").contains("whose name is none"));
        assert!(step("continue-on-error: true").contains("`continue-on-error`"));
        assert!(step("id: 'a b'").contains("an `id`"));
    }
}
