//! The number of a process's instances, changed in the text of `services/NAME.toml`. Every other byte
//! stays.
//!
//! Invariant: what is returned was read again by the strict reader, and says what was asked for and
//! nothing else: a place that was misjudged is refused here, not written.
//!
//! Deliberately elsewhere: whether there is room for so many (`compile_services`).

use std::ops::Range;

use toml::de::DeTable;
use vyr_base::{Category, Diagnostic, Problem, Source};
use vyr_service::Manifest;
use vyr_service::manifest::{self, ScaleTable};

use super::edit::replaced;
use super::edit_server::insertion;
use super::{Files, Name};

/// A file that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleEdited {
    /// Its name in the site.
    pub file: String,
    /// Its new text; the old one: it said so already.
    pub text: String,
    /// How many there were to be.
    pub before: u8,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleEditError {
    /// The service's file has faults.
    #[error("the manifest has {} faults", .0.len())]
    Faults(Vec<Diagnostic>),
    /// No such service.
    #[error("there is no service {name}")]
    NoService {
        /// What was asked for.
        name: Name,
        /// What there is.
        there: Vec<String>,
    },
    /// No such process.
    #[error("{service} has no process {name}")]
    NoProcess {
        /// Of which service.
        service: Name,
        /// What was asked for.
        name: Name,
        /// What there is.
        there: Vec<String>,
    },
    /// The place was not found, or misjudged.
    #[error("services/{service}.toml has no place for the scale of {process} that is found")]
    Form {
        /// The service.
        service: Name,
        /// Its process.
        process: Name,
    },
}

impl Problem for ScaleEditError {
    fn category(&self) -> Category {
        match self {
            Self::NoService { .. } | Self::NoProcess { .. } => Category::NotFound,
            Self::Faults(_) | Self::Form { .. } => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let names = |there: &[String]| match there.is_empty() {
            true => "there is none yet".to_owned(),
            false => format!("there is {}", there.join(", ")),
        };
        Some(match self {
            Self::Faults(_) => "vyr check".into(),
            Self::NoService { there, .. } | Self::NoProcess { there, .. } => names(there),
            Self::Form { process, .. } => format!(
                "write scale = {{ min = N }} into [processes.{process}] by hand, then: vyr deploy"
            ),
        })
    }
}

/// Gives a process `count` instances: the new text of its service's file, which is not written here.
///
/// # Errors
/// There is no such process, or the file is none that can be read.
pub fn edit_scale(
    files: &Files,
    service: &Name,
    process: &Name,
    count: u8,
) -> Result<ScaleEdited, ScaleEditError> {
    let file = format!("services/{service}.toml");
    let source = files.services.iter().find(|source| source.name() == file);
    let source = source.ok_or_else(|| {
        let stem =
            |name: &str| name.trim_start_matches("services/").trim_end_matches(".toml").into();
        let there = files.services.iter().map(|source| stem(source.name())).collect();
        ScaleEditError::NoService { name: service.clone(), there }
    })?;
    let read = manifest::read(service.as_str(), source).map_err(ScaleEditError::Faults)?;
    let Some((key, table)) = read.file.processes.get_key_value(process) else {
        let there = read.manifest.processes.keys().map(ToString::to_string).collect();
        let (service, name) = (service.clone(), process.clone());
        return Err(ScaleEditError::NoProcess { service, name, there });
    };
    let mut wanted = read.manifest.clone();
    let mut before = count;
    if let Some(of) = wanted.processes.get_mut(process) {
        before = std::mem::replace(&mut of.scale, count);
    }
    let edited = |text| ScaleEdited { file: file.clone(), text, before };
    if before == count {
        return Ok(edited(source.text().to_owned()));
    }
    let text = match (&table.scale.min, &table.scale.max) {
        (None, None) => scale(source.text(), key.span(), process, count),
        _ => numbers(source.text(), &table.scale, count),
    };
    let form = || ScaleEditError::Form { service: service.clone(), process: process.clone() };
    let text = text.filter(|text| means(&file, text, &wanted)).ok_or_else(form)?;
    Ok(edited(text))
}

/// Whether a text is read as this manifest.
fn means(file: &str, text: &str, wanted: &Manifest) -> bool {
    let read = manifest::read(wanted.service.as_str(), &Source::new(file, text));
    read.is_ok_and(|read| read.manifest == *wanted)
}

/// Other numbers where there are some. `max` is what `min` is.
fn numbers(text: &str, table: &ScaleTable, count: u8) -> Option<String> {
    let numbers = [&table.min, &table.max].into_iter().flatten();
    let mut pieces: Vec<_> = numbers.map(|at| (at.span(), count.to_string())).collect();
    if let (None, Some(max)) = (&table.min, &table.max) {
        pieces.push(insertion(text, "max", &max.span(), &format!("min = {count}"))?);
    }
    Some(replaced(text, pieces))
}

/// A pair, or a table, where there is none. `key` is where the process is first named.
fn scale(text: &str, key: Range<usize>, process: &Name, count: u8) -> Option<String> {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let line = |at: usize| text[..at].rfind('\n').map_or(0, |before| before + 1);
    let below = |at: usize, pair: String| {
        let indent = &text[line(at)..at - text[line(at)..at].trim_start().len()];
        Some(match text[at..].find('\n') {
            Some(end) => (at + end + 1..at + end + 1, format!("{indent}{pair}{newline}")),
            None => (text.len()..text.len(), format!("{newline}{indent}{pair}")),
        })
    };
    if let Some(empty) = empty(text, process) {
        let inline = text.get(empty.clone())?.starts_with('{');
        return Some(replaced(
            text,
            match inline {
                true => vec![(empty, format!("{{ min = {count} }}"))],
                false => vec![below(empty.end, format!("min = {count}"))?],
            },
        ));
    }
    let after = text[key.end..].trim_start_matches([' ', '\t']);
    let head = &text[line(key.start)..key.start];
    let is_header = head.trim_start().starts_with('[');
    let piece = match after.chars().next()? {
        // [processes.http]
        ']' if is_header => below(key.end, format!("scale = {{ min = {count} }}"))?,
        // [processes.http.resources]
        '.' if is_header => {
            let table = format!(
                "{}.scale]{newline}min = {count}{newline}{newline}",
                &text[line(key.start)..key.end]
            );
            (line(key.start)..line(key.start), table)
        }
        // http = { resources = { .. } }
        '=' => {
            let open = key.end + text[key.end..].find('{')? + 1;
            (open..open, format!(" scale = {{ min = {count} }},"))
        }
        // http.resources.memory = ".."
        '.' => {
            let before = text[..key.start].rfind(['\n', '{', ',']).map_or(0, |at| at + 1);
            let chain = &text[before..key.end];
            let start = before + chain.len() - chain.trim_start().len();
            let alone = before == line(key.start);
            let (indent, end) = if alone { (&text[before..start], newline) } else { ("", ", ") };
            let pair = format!("{}.scale.min = {count}{end}{indent}", &text[start..key.end]);
            (start..start, pair)
        }
        _ => return None,
    };
    Some(replaced(text, vec![piece]))
}

/// Where the table `scale` of a process stands, if it is there and says nothing.
fn empty(text: &str, process: &Name) -> Option<Range<usize>> {
    let (table, _) = DeTable::parse_recoverable(text);
    let processes = table.get_ref().get("processes")?.get_ref().as_table()?;
    let of = processes.get(process.as_str())?.get_ref().as_table()?;
    Some(of.get("scale")?.span())
}
