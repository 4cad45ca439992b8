//! Settings from environment variables, read in one place.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use penstock_model::{Failure, FailureName};

/// A function's environment variables. Its Debug form shows no values.
#[derive(Clone)]
pub struct Settings(HashMap<String, String>);

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({} variables)", self.0.len())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Settings {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

impl Settings {
    /// The process's environment, as it is now. Variables that are not UTF-8 are left out.
    #[must_use]
    pub fn from_environment() -> Self {
        let variables = std::env::vars_os();
        Self(
            variables
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// A variable that may be left out, or empty.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A variable that has to be there.
    ///
    /// # Errors
    /// `ContractMismatch`, naming the variable: template and function do not fit together.
    pub fn required(&self, name: &str) -> Result<String, Failure> {
        self.optional(name).ok_or_else(|| wrong(name, "is not set"))
    }

    /// A variable that may be left out and has a form of its own.
    ///
    /// # Errors
    /// `ContractMismatch`, naming the variable but not its value.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let value = self.optional(name);
        value.map(|value| value.parse().map_err(|_| wrong(name, "can't be read"))).transpose()
    }
}

fn wrong(name: &str, what: &str) -> Failure {
    Failure::new(
        FailureName::ContractMismatch,
        format!("environment variable {name} {what}: see the function's README and the template"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_variable_is_missing_or_wrong() {
        let settings =
            Settings::from([("BUCKET", "b"), ("EMPTY", ""), ("SIZE", "12"), ("BAD", "tim@acme.com")]);
        assert_eq!(settings.required("BUCKET").unwrap(), "b");
        assert_eq!(settings.parsed::<u32>("SIZE").unwrap(), Some(12));
        assert_eq!(settings.parsed::<u32>("NONE").unwrap(), None);
        for name in ["EMPTY", "NONE"] {
            let failure = settings.required(name).unwrap_err();
            assert_eq!(failure.name, FailureName::ContractMismatch);
            assert!(failure.message.contains(&format!("{name} is not set")), "{}", failure.message);
        }
        let failure = settings.parsed::<u32>("BAD").unwrap_err();
        assert!(failure.message.contains("BAD") && !failure.message.contains("tim"), "{}", failure.message);
    }
}
