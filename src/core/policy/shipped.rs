//! Rules that affiant brings along. A policy's source names one as `rego: affiant:NAME`; what is signed holds its text, so
//! that a verdict never depends on the version of affiant that gives it.

/// What stands before the name in a source.
pub const PREFIX: &str = "affiant:";

/// A rule that affiant brings along.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name, without [`PREFIX`].
    pub name: &'static str,
    /// The predicate type of the evidence that it is for.
    pub kind: &'static str,
    /// One line that says what it denies.
    pub about: &'static str,
    /// The module.
    pub text: &'static str,
}

/// All of them, by name.
pub const SHIPPED: [Shipped; 2] = [
    Shipped {
        name: "github-action",
        kind: "https://aflock.ai/attestations/github-action/v0.1",
        about: "denies an action that ran without a pin (cilock's `github-action`)",
        text: include_str!("rules/github-action.rego"),
    },
    Shipped {
        name: "pins",
        kind: "urn:affiant:pins:v0.1",
        about: "denies actions, images, bases and includes without a pin (`pins`)",
        text: include_str!("rules/pins.rego"),
    },
];

/// The rule of a name without [`PREFIX`].
pub fn find(name: &str) -> Option<&'static Shipped> {
    SHIPPED.iter().find(|shipped| shipped.name == name)
}

/// The rule for evidence of a type.
pub fn for_kind(kind: &str) -> Option<&'static Shipped> {
    SHIPPED.iter().find(|shipped| crate::evidence::kinds::same(shipped.kind, kind))
}
