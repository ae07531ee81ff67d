//! Where each new signed checkpoint goes besides the journal: a file, or a command.
//!
//! A value that begins with `|` is a command, as in `| /usr/local/bin/keep --site 3`. Its words are
//! divided at white space and no shell reads them: no quotes, no variables, no second pipe. Who
//! needs one of those writes a script and names it. A file whose name begins so is `./|name`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// A file or a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointOut {
    /// It is replaced, whole, by each.
    File(PathBuf),
    /// It is run for each, which it finds on its stdin: the program, then its arguments.
    Command(Vec<String>),
}

impl CheckpointOut {
    /// What `value` means. A relative file lies below the present directory.
    pub fn parse(value: &OsStr) -> Result<Self, ConfigError> {
        let Some(command) = value.to_str().and_then(|text| text.strip_prefix('|')) else {
            let path = Path::new(value);
            return Ok(Self::File(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())));
        };
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            let why = "has no command after the |".to_owned();
            return Err(ConfigError::Value { key: "checkpoint_out", why });
        }
        Ok(Self::Command(words))
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Command(_) => None,
        }
    }
}

/// Failures that come once a second are said once: when they begin, when they change, and when
/// they are over.
#[derive(Debug, Default)]
pub(crate) struct Failing(Option<String>);

impl Failing {
    /// Takes note of how the last one went; what is to be said of it, if anything.
    pub(crate) fn note(&mut self, failed: Option<String>) -> Option<String> {
        if self.0 == failed {
            return None;
        }
        self.0 = failed;
        Some(match &self.0 {
            Some(why) => format!("a checkpoint did not get out of the journal: {why}"),
            None => "checkpoints get out of the journal again".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> CheckpointOut {
        CheckpointOut::parse(OsStr::new(value)).expect("valid")
    }

    #[test]
    fn a_bar_in_front_makes_a_command_of_words() {
        let words = |words: &[&str]| {
            CheckpointOut::Command(words.iter().map(|word| (*word).to_owned()).collect())
        };
        assert_eq!(parse("|keep"), words(&["keep"]));
        assert_eq!(parse("| /bin/keep  --site 3 "), words(&["/bin/keep", "--site", "3"]));
        // No shell: these are arguments like any other.
        assert_eq!(parse("|a 'b c' $D | e"), words(&["a", "'b", "c'", "$D", "|", "e"]));
        for empty in ["|", "|  "] {
            let refused = CheckpointOut::parse(OsStr::new(empty)).expect_err("no command");
            assert!(refused.to_string().contains("no command"), "{refused}");
        }
    }

    #[test]
    fn everything_else_is_a_file() {
        assert_eq!(parse("/a/b"), CheckpointOut::File("/a/b".into()));
        assert_eq!(parse("./|name").file().and_then(Path::file_name), Some(OsStr::new("|name")));
        assert!(parse("b").file().is_some_and(Path::is_absolute));
    }

    #[test]
    fn a_failure_is_said_when_it_begins_changes_and_ends() {
        let mut failing = Failing::default();
        let said: Vec<bool> = [None, Some("a"), Some("a"), Some("b"), None, None]
            .map(|why: Option<&str>| failing.note(why.map(str::to_owned)).is_some())
            .into();
        assert_eq!(said, [false, true, false, true, true, false]);
    }
}
