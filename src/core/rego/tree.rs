//! Walking syntax trees. Their depth is limited when a module is read, so recursion is safe.

use regorus::unstable::{Expr, ExprRef, Literal, LiteralStmt, Query, Rule, RuleBody, RuleHead};

/// Every expression of a rule, outer ones first.
pub(super) fn expressions<'a>(rule: &'a Rule, each: &mut dyn FnMut(&'a Expr)) {
    let (head, bodies): (Vec<&Expr>, &[RuleBody]) = match rule {
        Rule::Default { value, .. } => (vec![value], &[]),
        Rule::Spec { head, bodies, .. } => (parts_of_head(head), bodies),
    };
    for part in head {
        expression(part, each);
    }
    for body in bodies {
        if let Some(assign) = &body.assign {
            expression(&assign.value, each);
        }
        query(&body.query, each);
    }
}

/// The reference, arguments, key and value of a head.
fn parts_of_head(head: &RuleHead) -> Vec<&Expr> {
    let (refr, more, assign): (_, &[ExprRef], _) = match head {
        RuleHead::Compr { refr, assign, .. } => (refr, &[], assign.as_ref()),
        RuleHead::Set { refr, key, .. } => (refr, key.as_slice(), None),
        RuleHead::Func { refr, args, assign, .. } => (refr, args, assign.as_ref()),
    };
    let value = assign.map(|assign| &assign.value);
    std::iter::once(refr).chain(more).chain(value).map(AsRef::as_ref).collect()
}

/// Every expression of a query.
pub(super) fn query<'a>(query: &'a Query, each: &mut dyn FnMut(&'a Expr)) {
    for statement in &query.stmts {
        self::statement(statement, each);
    }
}

/// Every expression of a statement.
pub(super) fn statement<'a>(statement: &'a LiteralStmt, each: &mut dyn FnMut(&'a Expr)) {
    match &statement.literal {
        Literal::SomeVars { .. } => {}
        Literal::SomeIn { key, value, collection, .. } => {
            for part in key.iter().chain([value, collection]) {
                expression(part, each);
            }
        }
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => expression(expr, each),
        Literal::Every { domain, query, .. } => {
            expression(domain, each);
            self::query(query, each);
        }
    }
    for modifier in &statement.with_mods {
        expression(&modifier.refr, each);
        expression(&modifier.r#as, each);
    }
}

/// An expression and all that it is made of, comprehensions with their queries.
pub(super) fn expression<'a>(expr: &'a Expr, each: &mut dyn FnMut(&'a Expr)) {
    each(expr);
    match expr {
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            expression(term, each);
            self::query(query, each);
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            expression(key, each);
            expression(value, each);
            self::query(query, each);
        }
        other => {
            for part in parts(other) {
                expression(part, each);
            }
        }
    }
}

/// The direct parts of an expression that is no comprehension.
pub(super) fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. }
        | Expr::ArrayCompr { .. }
        | Expr::SetCompr { .. }
        | Expr::ObjectCompr { .. } => Vec::new(),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().map(AsRef::as_ref).collect(),
        Expr::Object { fields, .. } => {
            fields.iter().flat_map(|(_, key, value)| [key.as_ref(), value.as_ref()]).collect()
        }
        Expr::Call { fcn, params, .. } => {
            std::iter::once(fcn.as_ref()).chain(params.iter().map(AsRef::as_ref)).collect()
        }
        Expr::UnaryExpr { expr, .. } => vec![expr],
        Expr::RefDot { refr, .. } => vec![refr],
        Expr::RefBrack { refr, index, .. } => vec![refr, index],
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership { key, value, collection, .. } => {
            key.iter().map(AsRef::as_ref).chain([value.as_ref(), collection.as_ref()]).collect()
        }
    }
}
