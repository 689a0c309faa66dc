//! Secrets: which variables are masked, and how known values are kept out of what we write (security rule 4).

/// How the variables of the environment are masked (wire-formats §3.4, security rule 4).
#[derive(Clone, Debug, Default)]
pub struct VariableMask {}
