//! What is wrong with settings, said so that a person can mend it.

use std::fmt;

use super::layer::Origin;

/// One thing that is wrong. Never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key or variable.
    pub key: String,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong.
    pub what: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl Problem {
    pub(super) fn new(
        key: impl Into<String>,
        origin: &Origin,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            origin: origin.clone(),
            what: what.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => write!(f, "`{}`: {}", self.key, self.what)?,
            Origin::Environment(name) if *name == self.key => {
                write!(f, "`{}` in the environment: {}", self.key, self.what)?;
            }
            origin => write!(f, "`{}` ({origin}): {}", self.key, self.what)?,
        }
        if self.hint.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.hint)
        }
    }
}

/// Everything that is wrong; never empty. Displays as one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    /// One or more.
    pub problems: Vec<Problem>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
