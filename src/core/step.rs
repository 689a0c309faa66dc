//! Step names.

use std::ffi::OsStr;
use std::path::Path;

/// The longest step name in bytes. Archives index names; `MySQL` cuts off after 255 characters.
pub const MAX_STEP_NAME: usize = 200;

/// A step name that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StepNameError {
    /// Empty.
    #[error("the step name is empty")]
    Empty,
    /// Longer than [`MAX_STEP_NAME`].
    #[error("the step name has {length} bytes, more than {MAX_STEP_NAME}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// `#` marks failed runs (security rule 1).
    #[error("the step name `{name}` holds `#`, which marks the evidence of failed runs")]
    Hash {
        /// The name given.
        name: String,
    },
    /// A control character.
    #[error("the step name `{name}` holds a control character", name = .name.escape_debug())]
    Control {
        /// The name given.
        name: String,
    },
}

/// Checks a name that the user gave.
pub fn check_step_name(name: &str) -> Result<(), StepNameError> {
    if name.is_empty() {
        Err(StepNameError::Empty)
    } else if name.len() > MAX_STEP_NAME {
        Err(StepNameError::TooLong { length: name.len() })
    } else if name.contains('#') {
        Err(StepNameError::Hash { name: name.to_owned() })
    } else if name.chars().any(char::is_control) {
        Err(StepNameError::Control { name: name.to_owned() })
    } else {
        Ok(())
    }
}

/// The step name for a command when none was given: the program's file name, with `-` for what a name
/// cannot hold. `None` when nothing is left of it.
pub fn step_name_of(program: &OsStr) -> Option<String> {
    let name = Path::new(program).file_name()?.to_string_lossy();
    let name: String = name
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+') { c } else { '-' })
        .take(MAX_STEP_NAME / 4)
        .collect();
    let name = name.trim_matches('-').to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_the_program() {
        assert_eq!(step_name_of(OsStr::new("/usr/bin/make")).as_deref(), Some("make"));
        assert_eq!(step_name_of(OsStr::new("./a b#c")).as_deref(), Some("a-b-c"));
        assert_eq!(step_name_of(OsStr::new("/")), None);
    }

    #[test]
    fn hash_is_refused() {
        assert!(matches!(check_step_name("build#failed"), Err(StepNameError::Hash { .. })));
        assert!(check_step_name("build").is_ok());
        assert!(matches!(check_step_name("a\nb"), Err(StepNameError::Control { .. })));
    }
}
