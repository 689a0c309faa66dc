//! Asking the rules of a policy about attestations.

use serde_json::Value;

use super::accept::{Fitting, Judged, NAMED, State, chain, entry_of, fail, statement};
use super::trusted::{Rules, TrustedPolicy};
use crate::evidence::input::ImageFacts;
use crate::evidence::{EntryView, input, kinds};
use crate::policy::Requirement;
use crate::verdict::{Check, CheckKind};

/// What the rules of a step see of other steps.
pub(super) struct Others {
    /// `{<step>: {<type>: <predicate>}}`.
    pub(super) steps: Value,
    /// `{<name>: <predicate>}`, `None` where nothing fits.
    pub(super) external: Option<Value>,
}

/// Asks the rules of all requirements; gives how many modules were asked.
pub(super) fn rules(
    policy: &TrustedPolicy,
    fitting: &Fitting<'_>,
    others: Option<&Others>,
    label: &str,
) -> Judged<usize> {
    let mut asked = 0;
    for (index, requirement) in fitting.step.attestations.iter().enumerate() {
        let Some(rules) = policy.rules(&fitting.step.name, index) else { continue };
        asked += requirement.modules.len();
        for entry in &fitting.collection.attestations {
            if kinds::same(&requirement.kind, &entry.kind) {
                one_rule(rules, requirement, entry, fitting.facts, others, label)?;
            }
        }
        for (place, kind) in fitting.bound {
            let evidence = &fitting.all[*place];
            let State::Checked(checked) = &evidence.state else { continue };
            if kinds::same(&requirement.kind, kind) {
                let statement = statement(checked, &evidence.label)?;
                one_rule(rules, requirement, &entry_of(&statement), fitting.facts, others, &evidence.label)?;
            }
        }
    }
    Ok(asked)
}

fn one_rule(
    rules: &Rules,
    requirement: &Requirement,
    entry: &EntryView<'_>,
    facts: &[ImageFacts],
    others: Option<&Others>,
    label: &str,
) -> Judged<()> {
    facts.iter().try_for_each(|facts| one_rule_of_image(rules, requirement, entry, facts, others, label))
}

fn one_rule_of_image(
    rules: &Rules,
    requirement: &Requirement,
    entry: &EntryView<'_>,
    facts: &ImageFacts,
    others: Option<&Others>,
    label: &str,
) -> Judged<()> {
    let place = format!("{label}, attestation {}", entry.kind);
    let input = match present(entry, &requirement.kind, facts) {
        Ok(input) => input,
        Err(error) => {
            return fail(
                Check::failed(CheckKind::Rules, "an attestation that rules can look at", error)
                    .at(place)
                    .fix("run the step again"),
            );
        }
    };
    let input = match others {
        None => input,
        Some(others) => {
            let mut wrapped = serde_json::Map::new();
            wrapped.insert("attestation".to_owned(), input);
            wrapped.insert("steps".to_owned(), others.steps.clone());
            if let Some(external) = &others.external {
                wrapped.insert("external".to_owned(), external.clone());
            }
            Value::Object(wrapped)
        }
    };
    ask(rules, &input, &requirement.at, &place)
}

/// The document that rules see of an attestation.
pub(super) fn present(entry: &EntryView<'_>, wanted: &str, facts: &ImageFacts) -> Result<Value, String> {
    let text = input::present_of_image(entry, wanted, facts).map_err(|error| chain(&error))?;
    serde_json::from_str(text.get()).map_err(|error| error.to_string())
}

/// Asks rules about an input.
pub(super) fn ask(rules: &Rules, input: &Value, at: &str, place: &str) -> Judged<()> {
    let expected = format!("no rule of {at}.regopolicies denies");
    match rules.judge(input) {
        Ok(denials) if denials.is_empty() => Ok(()),
        Ok(denials) => {
            let found: Vec<String> = denials.iter().take(NAMED).cloned().collect();
            let more = denials.len().saturating_sub(NAMED);
            let mut found = found.join("; ");
            if more > 0 {
                found = format!("{found}; and {more} more");
            }
            fail(
                Check::failed(CheckKind::Rules, expected, found)
                    .at(place)
                    .fix("change what was built, or the rule; `affiant policy eval` tries a rule on this evidence"),
            )
        }
        Err(error) => fail(
            Check::failed(CheckKind::Rules, expected, error)
                .at(place)
                .fix("correct the rule; `affiant policy eval` tries it on this evidence"),
        ),
    }
}
