//! What a person declares about an artifact: its name, arguments, environment and states.
//!
//! Declarations are signed with the artifact and cannot be changed at submission, so they are
//! checked once, here, by the same rules when an artifact is built and when a manifest is read.
//! Every fault is reported, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use vyr_base::{Category, Problem};

use crate::oci::clip;

/// Longest name in characters; fits a column, a file name and an OCI annotation.
pub const NAME_CHARS_MAX: usize = 128;
/// Most arguments.
pub const ARGS_MAX: usize = 1024;
/// Most environment variables.
pub const ENV_MAX: usize = 1024;
/// Most bytes of arguments and environment together, counted as a C program receives them:
/// each argument and each `KEY=value` with its closing NUL. Linux allows one string as much.
pub const DECLARATION_BYTES_MAX: usize = 128 << 10;
/// Most declared states; each becomes a directory of the guest.
pub const STATES_MAX: usize = 16;
/// Longest state name in characters.
pub const STATE_CHARS_MAX: usize = 64;

/// What an artifact declares about its run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// Its name, for people: 1 to 128 of `[A-Za-z0-9][A-Za-z0-9._-]*`. Upper case is allowed,
    /// because names are file stems more often than not and nothing is looked up by them.
    pub name: String,
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Names of the states to bind before the task may run: `[a-z][a-z0-9-]{0,31}`, unique.
    pub states: Vec<String>,
}

/// All that is wrong with a [`Spec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// At least one.
    pub faults: Vec<SpecFault>,
}

/// One thing that is wrong with a [`Spec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecFault {
    /// The name is empty, too long or has other characters.
    #[error("name {name:?} is not 1 to {NAME_CHARS_MAX} of [A-Za-z0-9][A-Za-z0-9._-]*")]
    Name {
        /// The name, cut to 80 characters.
        name: String,
    },
    /// More than [`ARGS_MAX`] arguments.
    #[error("{found} arguments are more than {ARGS_MAX}")]
    TooManyArgs {
        /// How many there are.
        found: usize,
    },
    /// An argument holds a NUL byte.
    #[error("argument {index} holds a NUL byte")]
    ArgNul {
        /// Its place, from 0.
        index: usize,
    },
    /// More than [`ENV_MAX`] variables.
    #[error("{found} environment variables are more than {ENV_MAX}")]
    TooManyEnv {
        /// How many there are.
        found: usize,
    },
    /// A variable's name has other characters.
    #[error("environment variable {key:?} is not named [A-Za-z_][A-Za-z0-9_]*")]
    EnvKey {
        /// The name, cut to 80 characters.
        key: String,
    },
    /// A variable's value holds a NUL byte.
    #[error("environment variable {key} holds a NUL byte")]
    EnvNul {
        /// The name.
        key: String,
    },
    /// More than [`DECLARATION_BYTES_MAX`].
    #[error("arguments and environment have {bytes} bytes, more than {DECLARATION_BYTES_MAX}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// More than [`STATES_MAX`] states.
    #[error("{found} states are more than {STATES_MAX}")]
    TooManyStates {
        /// How many there are.
        found: usize,
    },
    /// A state's name has other characters.
    #[error("state {name:?} is not named {STATE_NAME_RULE}")]
    StateName {
        /// The name, cut to 80 characters.
        name: String,
    },
    /// A state is declared twice.
    #[error("state {name} is declared twice")]
    StateTwice {
        /// The name.
        name: String,
    },
}

impl Spec {
    /// Checks every rule and reports every fault.
    pub fn check(&self) -> Result<(), SpecError> {
        let mut faults = Vec::new();
        if !is_name(&self.name) {
            faults.push(SpecFault::Name { name: clip(&self.name) });
        }
        self.check_args(&mut faults);
        self.check_env(&mut faults);
        self.check_states(&mut faults);
        let bytes = self.declaration_bytes();
        if bytes > DECLARATION_BYTES_MAX {
            faults.push(SpecFault::TooLarge { bytes });
        }
        if faults.is_empty() { Ok(()) } else { Err(SpecError { faults }) }
    }

    fn check_args(&self, faults: &mut Vec<SpecFault>) {
        if self.args.len() > ARGS_MAX {
            // Looking at each would report as many faults as there are arguments.
            return faults.push(SpecFault::TooManyArgs { found: self.args.len() });
        }
        let with_nul = self.args.iter().enumerate().filter(|(_, arg)| arg.contains('\0'));
        faults.extend(with_nul.map(|(index, _)| SpecFault::ArgNul { index }));
    }

    fn check_env(&self, faults: &mut Vec<SpecFault>) {
        if self.env.len() > ENV_MAX {
            return faults.push(SpecFault::TooManyEnv { found: self.env.len() });
        }
        for (key, value) in &self.env {
            if !is_env_key(key) {
                faults.push(SpecFault::EnvKey { key: clip(key) });
            } else if value.contains('\0') {
                faults.push(SpecFault::EnvNul { key: clip(key) });
            }
        }
    }

    fn check_states(&self, faults: &mut Vec<SpecFault>) {
        if self.states.len() > STATES_MAX {
            return faults.push(SpecFault::TooManyStates { found: self.states.len() });
        }
        let mut seen = BTreeSet::new();
        for name in &self.states {
            if !is_state_name(name) {
                faults.push(SpecFault::StateName { name: clip(name) });
            } else if !seen.insert(name) {
                faults.push(SpecFault::StateTwice { name: name.clone() });
            }
        }
    }

    fn declaration_bytes(&self) -> usize {
        let args: usize = self.args.iter().map(|arg| arg.len() + 1).sum();
        let env: usize = self.env.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        args + env
    }
}

/// `[A-Za-z0-9][A-Za-z0-9._-]*`, at most [`NAME_CHARS_MAX`].
fn is_name(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// `[A-Za-z_][A-Za-z0-9_]*`: what every shell can export (POSIX, 8.1).
fn is_env_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What [`is_state_name`] demands, for a person.
pub const STATE_NAME_RULE: &str = "with 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter";

/// `[a-z][a-z0-9_-]{0,63}`: a directory, a key-value store and a command-line word. The one rule,
/// for manifests that declare a state and for callers that make one.
pub fn is_state_name(name: &str) -> bool {
    name.len() <= STATE_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'))
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let joint = if index == 0 { "" } else { "; " };
            write!(f, "{joint}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecError {}

impl Problem for SpecError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        self.faults.iter().find_map(|fault| match fault {
            SpecFault::TooLarge { .. }
            | SpecFault::TooManyArgs { .. }
            | SpecFault::TooManyEnv { .. } => {
                Some("pass large values as the task's input instead".to_owned())
            }
            SpecFault::Name { .. } => Some("give it another name: --name NAME".to_owned()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Spec {
        Spec { name: name.to_owned(), ..Spec::default() }
    }

    fn faults(spec: &Spec) -> Vec<SpecFault> {
        spec.check().expect_err("must be refused").faults
    }

    #[test]
    fn names_have_bounds_and_no_path() {
        for name in ["a", "0", "Report-2.1_x", &"n".repeat(128)] {
            assert_eq!(named(name).check(), Ok(()), "{name}");
        }
        for name in ["", ".", "-a", "_a", "a/b", "a b", "ä", "a\u{1b}[2J", &"n".repeat(129)] {
            assert!(matches!(faults(&named(name))[..], [SpecFault::Name { .. }]), "{name:?}");
        }
    }

    #[test]
    fn every_fault_is_reported() {
        let spec = Spec {
            name: "a b".into(),
            args: vec!["ok".into(), "n\0".into(), String::new()],
            env: [("1X", ""), ("OK", ""), ("V", "\0"), ("A=B", "")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            states: ["ok", "Bad", "ok", "a.b"].map(str::to_owned).into(),
        };
        assert_eq!(
            faults(&spec),
            [
                SpecFault::Name { name: "a b".into() },
                SpecFault::ArgNul { index: 1 },
                SpecFault::EnvKey { key: "1X".into() },
                SpecFault::EnvKey { key: "A=B".into() },
                SpecFault::EnvNul { key: "V".into() },
                SpecFault::StateName { name: "Bad".into() },
                SpecFault::StateTwice { name: "ok".into() },
                SpecFault::StateName { name: "a.b".into() },
            ]
        );
    }

    #[test]
    fn bounds_are_exact() {
        let mut spec = named("a");
        spec.args = vec!["x".into(); ARGS_MAX];
        assert_eq!(spec.check(), Ok(()));
        spec.args.push("x".into());
        assert_eq!(faults(&spec), [SpecFault::TooManyArgs { found: ARGS_MAX + 1 }]);

        spec.args = vec!["x".repeat(DECLARATION_BYTES_MAX - 6)];
        spec.env = [("K".to_owned(), "vw".to_owned())].into();
        assert_eq!(spec.check(), Ok(()));
        spec.args[0].push('x');
        assert_eq!(faults(&spec), [SpecFault::TooLarge { bytes: DECLARATION_BYTES_MAX + 1 }]);

        let mut spec = named("a");
        spec.env = (0..=ENV_MAX).map(|n| (format!("K{n}"), String::new())).collect();
        assert_eq!(faults(&spec), [SpecFault::TooManyEnv { found: ENV_MAX + 1 }]);

        let mut spec = named("a");
        spec.states = (0..STATES_MAX).map(|n| format!("s{n}")).collect();
        assert_eq!(spec.check(), Ok(()));
        spec.states.push("more".into());
        assert_eq!(faults(&spec), [SpecFault::TooManyStates { found: STATES_MAX + 1 }]);

        spec.states = vec!["s".repeat(STATE_CHARS_MAX)];
        assert_eq!(spec.check(), Ok(()));
        spec.states[0].push('s');
        assert!(matches!(faults(&spec)[..], [SpecFault::StateName { .. }]));
        assert!(STATE_NAME_RULE.contains(&format!("1 to {STATE_CHARS_MAX} ")));
    }

    #[test]
    fn a_state_is_named_as_a_directory() {
        for name in ["a", "notes-2", "a_b", "z9-_", &"n".repeat(64)] {
            assert!(is_state_name(name), "{name}");
        }
        for name in ["", "A", "1a", "-a", "_a", "a.b", "..", "a/b", "a b", "\u{e9}", "a\0"] {
            assert!(!is_state_name(name), "{name:?}");
        }
    }
}
