//! What the arguments ask for.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use crate::event::{Event, quoted};
use crate::path::{Path, text};

/// The help text, also printed behind a usage error.
pub const USAGE: &str = "\
usage: transform [OPTION]... < EVENTS > EVENTS

Reads one JSON object a line, filters, enriches and aggregates them, and ends with a line
{\"summary\":{..}}. With no option every event is kept.

  --where PATH=VALUE    keep events whose value at PATH is VALUE; may be repeated, all must hold
  --where PATH!=VALUE   keep events whose value at PATH is absent or another one
  --keep PATH,PATH,..   of each event write only these values (default: all of it)
  --add NAME=VALUE      add a field; VALUE is JSON if it reads as JSON, else a string
  --count-by PATH       count kept events by the value at PATH (default: reason)
  --sum PATH            add up the numbers at PATH, in all and for each --count-by value
  --help                print this

A PATH is dotted, with indexes for arrays: target.kind.0. A dot in a name is written \\.
Fields keep their order and spelling; `seq` (the number of the event in the input, from 1) and
`bytes` (the length of its line) are added last and replace fields of these names.
";

/// How events are filtered, enriched and aggregated. [`Config::default`] keeps everything and
/// counts by `reason`, the field that names the kind of a cargo message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All must hold for an event to be kept.
    pub conditions: Vec<Condition>,
    /// What of an event is written; `None` for all of it.
    pub(crate) keep: Option<Keep>,
    /// Names and JSON texts, in the order given.
    pub(crate) additions: Vec<(String, String)>,
    pub(crate) count_by: Path,
    pub(crate) sum: Option<Path>,
}

/// One `--where`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    path: Path,
    value: String,
    equal: bool,
}

impl Condition {
    pub(crate) fn holds(&self, event: &Event<'_>) -> bool {
        let found = self.path.find(event).is_some_and(|value| text(value) == self.value);
        found == self.equal
    }
}

/// The paths of `--keep` as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    children: BTreeMap<String, Keep>,
    whole: bool,
}

impl Keep {
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.get(name)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    fn insert(&mut self, path: &Path) {
        let mut at = self;
        for segment in path.segments() {
            at = at.children.entry(segment.clone()).or_default();
        }
        at.whole = true;
    }
}

/// Why the arguments make no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// An argument that is not an option.
    Unknown(String),
    /// An option at the end, without its value.
    ValueMissing(&'static str),
    /// An option that may be given once was given again.
    Repeated(&'static str),
    /// A path with an empty segment.
    Path(String),
    /// A `--where` or `--add` without `=`.
    NotAPair(String),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "unknown argument `{argument}`"),
            Self::ValueMissing(option) => write!(f, "{option} needs a value"),
            Self::Repeated(option) => write!(f, "{option} may be given once"),
            Self::Path(path) => write!(f, "`{path}` is not a path such as target.kind.0"),
            Self::NotAPair(text) => write!(f, "`{text}` has no `=` with a name before it"),
        }
    }
}

impl std::error::Error for ParseError {}

impl Default for Config {
    fn default() -> Self {
        Self {
            conditions: Vec::new(),
            keep: None,
            additions: Vec::new(),
            count_by: Path::single("reason"),
            sum: None,
        }
    }
}

impl Config {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// The first argument that cannot be understood.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, ParseError> {
        let mut config = Self::default();
        let mut count_by = None;
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            let mut value = |option| args.next().ok_or(ParseError::ValueMissing(option));
            match option.as_str() {
                "--where" => config.conditions.push(condition(&value("--where")?)?),
                "--keep" => {
                    let keep = config.keep.get_or_insert_default();
                    for path in value("--keep")?.split(',') {
                        keep.insert(&path_of(path)?);
                    }
                }
                "--add" => {
                    let pair = value("--add")?;
                    let (name, value) = addition(&pair)?;
                    config.additions.retain(|(held, _)| *held != name);
                    config.additions.push((name, value));
                }
                "--count-by" => once("--count-by", &mut count_by, &value("--count-by")?)?,
                "--sum" => once("--sum", &mut config.sum, &value("--sum")?)?,
                _ => return Err(ParseError::Unknown(option)),
            }
        }
        if let Some(path) = count_by {
            config.count_by = path;
        }
        Ok(config)
    }
}

fn path_of(text: &str) -> Result<Path, ParseError> {
    Path::parse(text).ok_or_else(|| ParseError::Path(text.to_owned()))
}

fn once(option: &'static str, slot: &mut Option<Path>, value: &str) -> Result<(), ParseError> {
    match slot.replace(path_of(value)?) {
        None => Ok(()),
        Some(_) => Err(ParseError::Repeated(option)),
    }
}

fn condition(text: &str) -> Result<Condition, ParseError> {
    let (path, value) =
        text.split_once('=').ok_or_else(|| ParseError::NotAPair(text.to_owned()))?;
    let (path, equal) = match path.strip_suffix('!') {
        Some(path) => (path, false),
        None => (path, true),
    };
    Ok(Condition { path: path_of(path)?, value: value.to_owned(), equal })
}

fn addition(text: &str) -> Result<(String, String), ParseError> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| ParseError::NotAPair(text.to_owned()))?;
    let value = match serde_json::from_str::<&RawValue>(value) {
        // A line feed between tokens is JSON, but would end the line.
        Ok(json) if !value.contains(['\n', '\r']) => json.get().to_owned(),
        _ => {
            let mut string = Vec::new();
            quoted(value, &mut string);
            String::from_utf8_lossy(&string).into_owned()
        }
    };
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, ParseError> {
        Config::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn conditions_split_at_the_first_equals_sign() {
        let config = parse(&["--where", "a.b!=c=d", "--where", "a=!"]).unwrap();
        let path = |text| Path::parse(text).unwrap();
        assert_eq!(
            config.conditions,
            [
                Condition { path: path("a.b"), value: "c=d".to_owned(), equal: false },
                Condition { path: path("a"), value: "!".to_owned(), equal: true },
            ]
        );
    }

    #[test]
    fn additions_are_json_or_strings_and_the_last_wins() {
        let config = parse(&[
            "--add",
            "a= 1",
            "--add",
            "b={\"x\":[]}",
            "--add",
            "c=no json",
            "--add",
            "d=[1,\n2]",
            "--add",
            "a=null",
            "--add",
            "e=\"s\"",
            "--add",
            "f=",
        ])
        .unwrap();
        let expected = [
            ("b", "{\"x\":[]}"),
            ("c", "\"no json\""),
            ("d", "\"[1,\\n2]\""),
            ("a", "null"),
            ("e", "\"s\""),
            ("f", "\"\""),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(config.additions, expected);
    }

    #[test]
    fn every_wrong_argument_is_named() {
        for (args, message) in [
            (&["x"][..], "unknown argument `x`"),
            (&["--where"], "--where needs a value"),
            (&["--where", "a"], "`a` has no `=` with a name before it"),
            (&["--where", "!=a"], "`` is not a path such as target.kind.0"),
            (&["--add", "=1"], "`=1` has no `=` with a name before it"),
            (&["--keep", "a,,b"], "`` is not a path such as target.kind.0"),
            (&["--sum", "a", "--sum", "b"], "--sum may be given once"),
            (&["--count-by", "a.", "--sum", "b"], "`a.` is not a path such as target.kind.0"),
        ] {
            assert_eq!(parse(args).unwrap_err().to_string(), message, "{args:?}");
        }
    }
}
