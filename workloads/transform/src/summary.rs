//! What is known at the end: counts, groups and sums, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io::{self, Write};

use serde_json::value::RawValue;

use crate::config::Config;
use crate::event::{Event, quoted};
use crate::path::text;

/// Groups that are told apart; events of any further one count as `(other)`. Groups are taken in
/// the order they appear.
pub const MAX_GROUPS: usize = 4096;

/// Longer group names are cut here, so that all groups together stay near 1 MiB.
pub const MAX_GROUP_NAME_BYTES: usize = 256;

/// Groups the summary prints, the largest first; the rest is added to `(other)`.
pub const MAX_GROUPS_SHOWN: usize = 100;

const OTHER: &str = "(other)";
/// The group of events without a value at the path.
const NONE: &str = "(none)";

#[derive(Default)]
pub(crate) struct Summary {
    /// Lines that are events, kept or not.
    pub(crate) events: u64,
    pub(crate) kept: u64,
    pub(crate) malformed: u64,
    pub(crate) oversized: u64,
    pub(crate) bytes_in: u64,
    // A fixed hash: output must not depend on randomness, and the bound on groups is also the
    // bound on what colliding names can cost.
    groups: HashMap<Box<str>, Group, BuildHasherDefault<DefaultHasher>>,
    other: Group,
}

#[derive(Clone, Copy, Default)]
struct Group {
    count: u64,
    sum: Sum,
}

impl Group {
    fn add(&mut self, number: Option<Sum>) {
        self.count += 1;
        if let Some(number) = number {
            self.sum.add(number);
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum.add(other.sum);
    }
}

/// Integers are added exactly, other numbers as floats, in the order they come.
#[derive(Clone, Copy, Default)]
struct Sum {
    values: u64,
    integer: i128,
    float: Option<f64>,
}

impl Sum {
    fn of(value: &RawValue) -> Option<Self> {
        let written = value.get();
        if !written.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        match written.parse::<i64>() {
            Ok(integer) => Some(Self { values: 1, integer: integer.into(), float: None }),
            Err(_) => {
                let float = written.parse().ok().filter(|float: &f64| float.is_finite())?;
                Some(Self { values: 1, integer: 0, float: Some(float) })
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.values += other.values;
        self.integer = self.integer.saturating_add(other.integer);
        if let Some(float) = other.float {
            *self.float.get_or_insert(0.0) += float;
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> io::Result<()> {
        match self.float {
            None => write!(out, "{}", self.integer),
            // Past the largest float JSON has no number; serde_json writes null.
            #[expect(clippy::cast_precision_loss, reason = "a float joined the sum already")]
            Some(float) => Ok(serde_json::to_writer(out, &(self.integer as f64 + float))?),
        }
    }
}

impl Summary {
    /// Lines so far that were not blank: the number of the event at hand.
    pub(crate) fn lines(&self) -> u64 {
        self.events + self.malformed + self.oversized
    }

    /// Adds one kept event to its group.
    pub(crate) fn count(&mut self, config: &Config, event: &Event<'_>) {
        let number = config.sum.as_ref().and_then(|path| Sum::of(path.find(event)?));
        let name = config.count_by.find(event).map(text);
        let name = cut(name.as_deref().unwrap_or(NONE));
        if let Some(group) = self.groups.get_mut(name) {
            group.add(number);
        } else if name != OTHER && self.groups.len() < MAX_GROUPS {
            self.groups.entry(name.into()).or_default().add(number);
        } else {
            self.other.add(number);
        }
    }

    /// Writes the last line.
    pub(crate) fn write(self, config: &Config, out: &mut Vec<u8>) -> io::Result<()> {
        let Self { events, kept, malformed, oversized, bytes_in, groups, mut other } = self;
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable_by(|(a_name, a), (b_name, b)| {
            b.count.cmp(&a.count).then_with(|| a_name.cmp(b_name))
        });
        for (_, group) in groups.drain(MAX_GROUPS_SHOWN.min(groups.len())..) {
            other.merge(group);
        }
        if other.count > 0 {
            groups.push((OTHER.into(), other));
        }

        write!(out, "{{\"summary\":{{\"events\":{events},\"kept\":{kept},")?;
        write!(
            out,
            "\"malformed\":{malformed},\"oversized\":{oversized},\"bytes_in\":{bytes_in},"
        )?;
        out.extend_from_slice(b"\"count_by\":");
        quoted(&config.count_by.to_string(), out);
        out.extend_from_slice(b",\"by\":");
        object(&groups, out, |group, out| write!(out, "{}", group.count))?;
        if let Some(path) = &config.sum {
            let mut total = Sum::default();
            groups.iter().for_each(|(_, group)| total.add(group.sum));
            out.extend_from_slice(b",\"sum\":{\"path\":");
            quoted(&path.to_string(), out);
            write!(out, ",\"values\":{},\"total\":", total.values)?;
            total.write(out)?;
            out.extend_from_slice(b",\"by\":");
            object(&groups, out, |group, out| group.sum.write(out))?;
            out.push(b'}');
        }
        out.extend_from_slice(b"}}\n");
        Ok(())
    }
}

fn object(
    groups: &[(Box<str>, Group)],
    out: &mut Vec<u8>,
    write_value: impl Fn(&Group, &mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    out.push(b'{');
    for (index, (name, group)) in groups.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        quoted(name, out);
        out.push(b':');
        write_value(group, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_GROUP_NAME_BYTES)]
}
