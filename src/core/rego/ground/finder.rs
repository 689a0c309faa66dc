//! Walks one rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regorus::unstable::{AssignOp, BinOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleHead, Span};

use super::super::load::{self, Step};
use super::super::names::Names;
use super::super::{syntax, tree};
use super::{Definition, Ground, Kind, Level, Needs, Path, Role, Scope, Site, Turn};

/// What a reference means.
enum Meaning {
    /// Below `input`; `open` where a key is not constant, and the path ends before it.
    Input {
        path: Path,
        open: bool,
    },
    Rule(Vec<String>),
    Nothing,
}

/// Something that a statement needs, before it is known where that leads.
struct Need {
    needs: Needs,
    turn: Turn,
    /// The variable by which `input` was reached.
    through: Option<String>,
    /// Queries of comprehensions around it.
    inner: Vec<Level>,
    line: u32,
}

/// Walks one rule.
pub(super) struct Finder<'a> {
    scope: &'a Scope,
    names: &'a Names,
    module: usize,
    found: &'a mut Ground,
    /// Variables of the rule: they hide rules and imports.
    locals: BTreeSet<String>,
    aliases: BTreeMap<String, Path>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(scope: &'a Scope, names: &'a Names, module: usize, found: &'a mut Ground) -> Self {
        Self { scope, names, module, found, locals: BTreeSet::new(), aliases: BTreeMap::new() }
    }

    /// Notes the rule, what it needs and what it tests.
    pub(super) fn rule(&mut self, rule: &Rule) {
        let Rule::Spec { head, bodies, .. } = rule else { return };
        let Some(name) = load::static_path(load::head(rule)).into_iter().next() else { return };
        let (kind, parameters, outputs): (_, _, Vec<&Expr>) = match head {
            RuleHead::Set { key, .. } => (Kind::Partial, String::new(), key.iter().map(AsRef::as_ref).collect()),
            RuleHead::Compr { refr, assign, .. } => {
                let partial = matches!(refr.as_ref(), Expr::RefBrack { .. } | Expr::RefDot { .. });
                let key = match refr.as_ref() {
                    Expr::RefBrack { index, .. } => Some(index.as_ref()),
                    _ => None,
                };
                let outputs = key.into_iter().chain(assign.iter().map(|assign| assign.value.as_ref())).collect();
                (if partial { Kind::Partial } else { Kind::Complete }, String::new(), outputs)
            }
            RuleHead::Func { refr, args, assign, .. } => {
                for arg in args {
                    self.declare(arg);
                }
                let outputs = assign.iter().map(|assign| assign.value.as_ref()).collect();
                (Kind::Function, syntax::parentheses(refr.span()), outputs)
            }
        };
        // With a default or an else, the author has said what holds when a body is undefined.
        let handled = self.scope.defaults.contains(&name) || bodies.iter().any(|body| body.is_else);
        let key = [self.scope.package.as_slice(), std::slice::from_ref(&name)].concat();
        let definition = self.found.definitions.len();
        self.found.definitions.push(Definition { key, module: self.module, kind, parameters });
        let named = outputs.iter().flat_map(|output| variables(output)).collect::<BTreeSet<_>>();
        let parameters = self.locals.clone();
        let empty = Query { span: rule.span().clone(), stmts: Vec::new(), qidx: 0 };
        let queries: Vec<&Query> = match bodies.as_slice() {
            [] => vec![&empty],
            bodies => bodies.iter().map(|body| body.query.as_ref()).collect(),
        };
        for query in queries {
            self.locals.clone_from(&parameters);
            self.aliases.clear();
            let body = self.query(query, &named, name == "deny", true);
            let head = self.outputs(&outputs, query, kind, name == "deny");
            if handled {
                continue;
            }
            let both = body.into_iter().map(|need| (need, false)).chain(head.into_iter().map(|need| (need, true)));
            self.found.sites.extend(both.map(|(need, head)| Site {
                definition,
                line: need.line,
                needs: need.needs,
                turn: need.turn,
                head,
                levels: need.inner,
            }));
        }
    }

    /// What the head needs, once the body holds.
    fn outputs(&mut self, outputs: &[&Expr], query: &Query, kind: Kind, deny: bool) -> Vec<Need> {
        let mut needs = Vec::new();
        let bare = query.stmts.is_empty();
        for output in outputs {
            let meaning = self.meaning(output);
            match meaning {
                // Without a condition a reason is one if what it speaks of exists.
                _ if deny && bare && !matches!(meaning, Meaning::Rule(_)) => self.collections(output, &mut needs),
                Meaning::Rule(_) => self.collections(output, &mut needs),
                Meaning::Input { .. } if kind == Kind::Partial || bare => {}
                _ => {
                    let turn = if kind == Kind::Partial { Turn::Same } else { Turn::Either };
                    let role = if deny { Role::Reason } else { Role::Used };
                    self.expression(output, turn, role, &mut needs);
                }
            }
        }
        wrap(needs, query, query.stmts.len(), false)
    }

    /// Rules in a head that are handed on: as they are, or joined.
    fn collections(&self, expr: &Expr, needs: &mut Vec<Need>) {
        match expr {
            Expr::BinExpr { op: BinOp::Union, lhs, rhs, .. } => {
                self.collections(lhs, needs);
                self.collections(rhs, needs);
            }
            _ => {
                if let Meaning::Rule(key) = self.meaning(expr) {
                    needs.push(need(key, String::new(), Turn::Same, expr));
                }
            }
        }
    }

    /// What the statements of a query need, each with the statements before it.
    fn query(&mut self, query: &Query, named: &BTreeSet<String>, deny: bool, outermost: bool) -> Vec<Need> {
        for statement in &query.stmts {
            self.declare_in(statement);
        }
        let mut all: Vec<(usize, Vec<Need>, bool)> = Vec::new();
        let mut assigned: Vec<(usize, String, Path, u32)> = Vec::new();
        for (number, statement) in query.stmts.iter().enumerate() {
            if !statement.with_mods.is_empty() || is_print(statement) {
                continue;
            }
            if let Some((variable, path)) = self.alias(statement) {
                assigned.push((number, variable.clone(), path.clone(), statement.span.line));
                self.aliases.insert(variable, path);
                continue;
            }
            // A variable that only the head uses makes the reason, wherever it stands.
            let reason = outermost && assigns(statement).is_some_and(|name| named.contains(name) && !used(query, name));
            let role = if reason && deny { Role::Reason } else { Role::Used };
            let mut needs = self.statement(statement, role);
            if reason && deny && conditions(query) == 0 {
                // Without a condition a reason is one if what it speaks of exists.
                needs.retain(|need| matches!(need.needs, Needs::Rule { .. }));
            }
            all.push((number, needs, reason));
        }
        for (number, variable, path, line) in assigned {
            let used = all.iter().any(|(place, needs, _)| {
                *place > number && needs.iter().any(|need| need.through.as_ref() == Some(&variable))
            });
            if used {
                let needs = Needs::Input { path, role: Role::Used };
                all.push((
                    number,
                    vec![Need { needs, turn: Turn::Same, through: None, inner: Vec::new(), line }],
                    false,
                ));
            }
        }
        all.into_iter().flat_map(|(number, needs, reason)| wrap(needs, query, number, reason)).collect()
    }

    fn statement(&mut self, statement: &LiteralStmt, role: Role) -> Vec<Need> {
        let mut needs = Vec::new();
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { collection, .. } => self.iterated(collection, Turn::Same, &mut needs),
            Literal::Every { key, value, domain, query, .. } => {
                self.iterated(domain, Turn::Either, &mut needs);
                if !matches!(domain.as_ref(), Expr::Object { .. } | Expr::Set { .. }) {
                    let key = key.as_ref().map(|key| format!("{}, ", key.text())).unwrap_or_default();
                    let some = format!("some {key}{} in {}", value.text(), syntax::text(domain.span()));
                    let inner = self.query(query, &BTreeSet::new(), false, false);
                    needs.extend(inner.into_iter().map(|mut need| {
                        if let Some(level) = need.inner.first_mut() {
                            level.every = Some(some.clone());
                        }
                        need
                    }));
                }
            }
            Literal::Expr { expr, .. } => self.condition(expr, Turn::Same, role, &mut needs),
            Literal::NotExpr { expr, .. } => self.condition(expr, Turn::Opposite, role, &mut needs),
        }
        needs
    }

    /// A whole statement: a test for existence, a rule, a call, or an expression.
    fn condition(&mut self, expr: &Expr, turn: Turn, role: Role, needs: &mut Vec<Need>) {
        match (expr, self.meaning(expr)) {
            (_, Meaning::Input { path, open: false }) => self.test(path),
            (_, Meaning::Rule(key)) => {
                needs.push(need(key, String::new(), turn, expr));
                self.indices(expr, turn, needs);
            }
            (Expr::Call { span, fcn, params, .. }, _) => self.call((span, fcn), params, turn, turn, needs),
            (Expr::AssignExpr { rhs, .. }, _) if matches!(self.meaning(rhs), Meaning::Rule(_)) && open(rhs) => {
                self.collections(rhs, needs);
                self.indices(rhs, turn, needs);
            }
            (Expr::AssignExpr { op: AssignOp::ColEq, rhs, .. }, _) => self.expression(rhs, turn, role, needs),
            _ => self.expression(expr, turn, role, needs),
        }
    }

    /// What is iterated over need not be there; what its keys rest on must.
    fn iterated(&mut self, expr: &Expr, turn: Turn, needs: &mut Vec<Need>) {
        match self.meaning(expr) {
            Meaning::Input { .. } => self.indices(expr, turn, needs),
            Meaning::Rule(key) => {
                needs.push(need(key, String::new(), turn, expr));
                self.indices(expr, turn, needs);
            }
            Meaning::Nothing => self.expression(expr, turn, Role::Used, needs),
        }
    }

    /// Everything below an expression whose value is used.
    fn expression(&mut self, expr: &Expr, turn: Turn, role: Role, needs: &mut Vec<Need>) {
        match expr {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                match self.meaning(expr) {
                    Meaning::Input { path, open: false } if !path.is_empty() => {
                        let through = load::reference(expr).map(|(root, _)| root.to_owned());
                        let through = through.filter(|root| self.aliases.contains_key(root));
                        let needed = Needs::Input { path, role };
                        let line = expr.span().line;
                        needs.push(Need { needs: needed, turn, through, inner: Vec::new(), line });
                    }
                    Meaning::Rule(key) => needs.push(need(key, String::new(), Turn::Either, expr)),
                    _ => {}
                }
                self.indices(expr, turn, needs);
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.comprehension(&[term], query, needs);
            }
            Expr::ObjectCompr { key, value, query, .. } => self.comprehension(&[key, value], query, needs),
            Expr::Call { span, fcn, params, .. } => self.call((span, fcn), params, turn, Turn::Either, needs),
            Expr::BoolExpr { lhs, rhs, .. } => {
                let role = if role == Role::Used { Role::Compared } else { role };
                self.expression(lhs, turn, role, needs);
                self.expression(rhs, turn, role, needs);
            }
            Expr::Membership { key, value, collection, .. } => {
                let role = if role == Role::Used { Role::Compared } else { role };
                for part in key.iter().chain([value, collection]) {
                    self.expression(part, turn, role, needs);
                }
            }
            other => {
                for part in tree::parts(other) {
                    self.expression(part, turn, role, needs);
                }
            }
        }
    }

    fn comprehension(&mut self, terms: &[&Ref<Expr>], query: &Query, needs: &mut Vec<Need>) {
        let (locals, aliases) = (self.locals.clone(), self.aliases.clone());
        let mut inner = self.query(query, &BTreeSet::new(), false, false);
        let mut last = Vec::new();
        for term in terms {
            // A plain reference as the term is collected if it is there.
            if matches!(self.meaning(term), Meaning::Nothing) {
                self.expression(term, Turn::Either, Role::Used, &mut last);
            }
        }
        inner.extend(wrap(last, query, query.stmts.len(), false));
        // More or fewer elements: nobody knows what that does to the statement around.
        needs.extend(inner.into_iter().map(|need| Need { turn: Turn::Either, ..need }));
        (self.locals, self.aliases) = (locals, aliases);
    }

    fn call(
        &mut self,
        (span, fcn): (&Span, &Expr),
        params: &[Ref<Expr>],
        turn: Turn,
        result: Turn,
        needs: &mut Vec<Need>,
    ) {
        let name = load::static_path(fcn);
        if let Some(key) = self.names.rule(self.module, &name) {
            let text = span.text().get(fcn.span().text().len()..).unwrap_or_default();
            let needed = Needs::Rule { key, arguments: text.to_owned() };
            needs.push(Need { needs: needed, turn: result, through: None, inner: Vec::new(), line: span.line });
        }
        let forgiving = match name.join(".").as_str() {
            "object.get" => {
                if let [object, keys, _] = params
                    && let Meaning::Input { mut path, open: false } = self.meaning(object)
                {
                    path.extend(constant_keys(keys));
                    self.test(path);
                }
                1
            }
            "walk" => 1,
            _ => 0,
        };
        for (number, param) in params.iter().enumerate() {
            if number < forgiving {
                self.indices(param, turn, needs);
            } else {
                self.expression(param, turn, Role::Used, needs);
            }
        }
    }

    /// What the keys of a reference need: `input.a[input.b]`.
    fn indices(&mut self, mut expr: &Expr, turn: Turn, needs: &mut Vec<Need>) {
        loop {
            match expr {
                Expr::RefDot { refr, .. } => expr = refr,
                Expr::RefBrack { refr, index, .. } => {
                    self.expression(index, turn, Role::Used, needs);
                    expr = refr;
                }
                Expr::Var { .. } => return,
                other => return self.expression(other, turn, Role::Used, needs),
            }
        }
    }

    fn meaning(&self, expr: &Expr) -> Meaning {
        let Some((root, steps)) = load::reference(expr) else { return Meaning::Nothing };
        let below = |start: &[Step]| {
            let path: Path = start.iter().chain(&steps).take_while(|step| **step != Step::Open).cloned().collect();
            Meaning::Input { open: path.len() < start.len() + steps.len(), path }
        };
        if let Some(path) = self.aliases.get(root) {
            return below(path);
        }
        if self.locals.contains(root) {
            return Meaning::Nothing;
        }
        if root == "input" {
            return below(&[]);
        }
        if let Some(path) = self.scope.inputs.get(root) {
            return below(path);
        }
        self.names.rule(self.module, &load::static_path(expr)).map_or(Meaning::Nothing, Meaning::Rule)
    }

    fn test(&mut self, path: Path) {
        self.found.tested.entry(self.scope.package.clone()).or_default().insert(path);
    }

    /// `x := input.a`: the variable and what it stands for.
    fn alias(&self, statement: &LiteralStmt) -> Option<(String, Path)> {
        let Literal::Expr { expr, .. } = &statement.literal else { return None };
        let Expr::AssignExpr { lhs, rhs, .. } = expr.as_ref() else { return None };
        let Expr::Var { span, .. } = lhs.as_ref() else { return None };
        match self.meaning(rhs) {
            Meaning::Input { path, open: false } if self.locals.contains(span.text()) => {
                Some((span.text().to_owned(), path))
            }
            _ => None,
        }
    }

    /// The variables that a statement declares.
    fn declare_in(&mut self, statement: &LiteralStmt) {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => self.locals.extend(vars.iter().map(|span| span.text().to_owned())),
            Literal::SomeIn { key, value, .. } => {
                for part in key.iter().chain([value]) {
                    self.declare(part);
                }
            }
            Literal::Every { key, value, .. } => {
                self.locals.extend(key.iter().chain([value]).map(|span| span.text().to_owned()));
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { lhs, .. } = expr.as_ref() {
                    self.declare(lhs);
                }
            }
            Literal::NotExpr { .. } => {}
        }
    }

    /// The variables of a pattern, but for those that are rules, imports or documents.
    fn declare(&mut self, pattern: &Expr) {
        match pattern {
            Expr::Var { span, .. } => {
                let name = span.text();
                let known = ["input", "data"].contains(&name) || self.scope.inputs.contains_key(name);
                let path = [name.to_owned()];
                if !known && self.names.rule(self.module, &path).is_none() {
                    self.locals.insert(name.to_owned());
                }
            }
            Expr::Array { items, .. } => items.iter().for_each(|item| self.declare(item)),
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| self.declare(value)),
            _ => {}
        }
    }
}

/// Puts the statements of `query` around what its statement number `before` needs.
fn wrap(needs: Vec<Need>, query: &Query, before: usize, others: bool) -> Vec<Need> {
    if needs.is_empty() {
        return needs;
    }
    let text = |statement: &LiteralStmt| {
        if is_print(statement) { String::new() } else { syntax::text(&statement.span).to_owned() }
    };
    let statements = Arc::new(query.stmts.iter().map(text).collect::<Vec<_>>());
    let around = Level { every: None, statements, before, others };
    let mut needs = needs;
    for need in &mut needs {
        need.inner.insert(0, around.clone());
    }
    needs
}

fn need(key: Vec<String>, arguments: String, turn: Turn, expr: &Expr) -> Need {
    let line = expr.span().line;
    Need { needs: Needs::Rule { key, arguments }, turn, through: None, inner: Vec::new(), line }
}

fn open(expr: &Expr) -> bool {
    load::reference(expr).is_some_and(|(_, steps)| steps.contains(&Step::Open))
}

fn is_print(statement: &LiteralStmt) -> bool {
    match &statement.literal {
        Literal::Expr { expr, .. } => {
            matches!(expr.as_ref(), Expr::Call { fcn, .. } if fcn.span().text() == "print")
        }
        _ => false,
    }
}

/// The variable that a statement assigns.
fn assigns(statement: &LiteralStmt) -> Option<&str> {
    let Literal::Expr { expr, .. } = &statement.literal else { return None };
    let Expr::AssignExpr { lhs, .. } = expr.as_ref() else { return None };
    match lhs.as_ref() {
        Expr::Var { span, .. } => Some(span.text()),
        _ => None,
    }
}

/// Whether a variable stands anywhere but where it is assigned.
fn used(query: &Query, name: &str) -> bool {
    query.stmts.iter().any(|statement| {
        let mut uses = 0;
        tree::statement(statement, &mut |expr| {
            uses += usize::from(matches!(expr, Expr::Var { span, .. } if span.text() == name));
        });
        uses > usize::from(assigns(statement) == Some(name))
    })
}

/// How many statements of a query are more than the making of a value.
fn conditions(query: &Query) -> usize {
    let plain = |statement: &&LiteralStmt| {
        assigns(statement).is_none() && !is_print(statement) && !matches!(statement.literal, Literal::SomeVars { .. })
    };
    query.stmts.iter().filter(plain).count()
}

fn variables(expr: &Expr) -> Vec<String> {
    let mut found = Vec::new();
    tree::expression(expr, &mut |expr| {
        if let Expr::Var { span, .. } = expr {
            found.push(span.text().to_owned());
        }
    });
    found
}

/// The key or keys that `object.get` is given.
fn constant_keys(expr: &Expr) -> Vec<Step> {
    let key = |expr: &Expr| match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            value.as_string().ok().map(|key| Step::Key(key.to_string()))
        }
        Expr::Number { span, .. } => Some(Step::Index(span.text().to_owned())),
        _ => None,
    };
    match expr {
        Expr::Array { items, .. } => items.iter().map_while(|item| key(item)).collect(),
        other => key(other).into_iter().collect(),
    }
}
