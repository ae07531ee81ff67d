//! A table as the objects of libnftables' JSON, in one order and one spelling.
//!
//! What we load and what the kernel lists differ in numbers (handles, counters), in the order of
//! objects and of elements, in lists of one, and in names of protocols. The normal form has none of
//! these, so the same table is the same bytes, whichever way it came. It can be loaded again: a
//! table that was read is put back by the same means as one from a plan.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vyr_plan::render::TABLE;

/// The family of our table.
const FAMILY: &str = "inet";
/// Objects of a table. A plan of ten thousand clients has hundreds; elements of sets are inside.
const OBJECTS_MAX: usize = 100_000;
/// Levels of lists and objects in one; ours have eight.
const DEPTH_MAX: usize = 32;
/// What names of the two parts of a union begin with.
const PARTS: [&str; 2] = ["o.", "n."];

/// Why something is not a table of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesetError {
    /// Not JSON.
    #[error("it is not JSON")]
    Json(#[source] serde_json::Error),
    /// Not as nft writes.
    #[error("it is not what nft writes: {0}")]
    Form(String),
    /// Another table's.
    #[error("it has an object of another table: {0}")]
    Foreign(String),
    /// Larger than any of ours.
    #[error("it has more than {OBJECTS_MAX} objects, or more than {DEPTH_MAX} levels")]
    TooLarge,
}

/// Our table, in normal form: the table, chains, sets and other objects by name, and the rules of
/// each chain in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Value>", into = "Vec<Value>")]
pub struct Ruleset(Vec<Value>);

impl From<Ruleset> for Vec<Value> {
    fn from(ruleset: Ruleset) -> Self {
        ruleset.0
    }
}

impl TryFrom<Vec<Value>> for Ruleset {
    type Error = RulesetError;

    fn try_from(objects: Vec<Value>) -> Result<Self, RulesetError> {
        Self::of_table(TABLE, objects)
    }
}

impl Ruleset {
    /// The table of another name, from its objects.
    pub(crate) fn of_table(table: &str, objects: Vec<Value>) -> Result<Self, RulesetError> {
        if objects.len() > OBJECTS_MAX {
            return Err(RulesetError::TooLarge);
        }
        let mut parts = objects
            .into_iter()
            .map(|object| Part::read(object, table))
            .collect::<Result<Vec<_>, _>>()?;
        // Stable: rules of one chain keep their order.
        parts.sort_by(|a, b| (a.rank(), a.name()).cmp(&(b.rank(), b.name())));
        let same = |a: &Part, b: &Part| a.rank() == b.rank() && a.name() == b.name();
        if parts.windows(2).any(|pair| pair[0].kind != "rule" && same(&pair[0], &pair[1])) {
            return Err(RulesetError::Form("two objects have one name".into()));
        }
        match parts.first() {
            Some(first) if first.kind == "table" => {
                Ok(Self(parts.into_iter().map(Part::write).collect()))
            }
            _ => Err(RulesetError::Form("there is no table".into())),
        }
    }
}

/// One object of a table.
struct Part {
    kind: String,
    fields: Map<String, Value>,
}

impl Part {
    fn read(object: Value, of: &str) -> Result<Self, RulesetError> {
        let Value::Object(object) = object else {
            return Err(RulesetError::Form("an object is none".into()));
        };
        let mut all = object.into_iter();
        let (Some((kind, Value::Object(mut fields))), None) = (all.next(), all.next()) else {
            return Err(RulesetError::Form("an object has not one kind".into()));
        };
        let table = if kind == "table" { "name" } else { "table" };
        let is = |field: &str, text: &str| fields.get(field).and_then(Value::as_str) == Some(text);
        // A kind is what can be listed; a command (`delete`) has no family, and is refused here.
        if !is("family", FAMILY) || !is(table, of) {
            return Err(RulesetError::Foreign(kind));
        }
        fields.remove("handle");
        let fields = fields
            .into_iter()
            .map(|(name, value)| {
                let value = match name.as_str() {
                    "elem" => sorted(spelt(value, 0)?),
                    "expr" => statements(spelt(value, 0)?),
                    _ => spelt(value, 0)?,
                };
                Ok((name, value))
            })
            .collect::<Result<_, RulesetError>>()?;
        Ok(Self { kind, fields })
    }

    /// Chains before what jumps to them, sets before rules that ask them.
    fn rank(&self) -> usize {
        match self.kind.as_str() {
            "table" => 0,
            "chain" => 1,
            "rule" => 3,
            _ => 2,
        }
    }

    /// What it is called; of a rule, the chain that it is in.
    fn name(&self) -> &str {
        let field = if self.kind == "rule" { "chain" } else { "name" };
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn write(self) -> Value {
        json!({ self.kind: self.fields })
    }
}

/// The one spelling of a value: anonymous sets sorted, one element instead of a set of one.
fn spelt(value: Value, depth: usize) -> Result<Value, RulesetError> {
    if depth > DEPTH_MAX {
        return Err(RulesetError::TooLarge);
    }
    Ok(match value {
        Value::Array(items) => Value::Array(
            items.into_iter().map(|item| spelt(item, depth + 1)).collect::<Result<_, _>>()?,
        ),
        Value::Object(fields) => {
            let spell = |(name, value): (String, Value)| {
                let value = spelt(value, depth + 1)?;
                let value = match name.as_str() {
                    "set" => sorted(value),
                    "match" => matched(value),
                    _ => value,
                };
                Ok((name, value))
            };
            Value::Object(fields.into_iter().map(spell).collect::<Result<_, RulesetError>>()?)
        }
        other => other,
    })
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(mut items) => {
            items.sort_by_cached_key(Value::to_string);
            items.dedup();
            Value::Array(items)
        }
        other => other,
    }
}

fn matched(mut value: Value) -> Value {
    let is_protocol = value["left"]["meta"]["key"].as_str() == Some("l4proto");
    let Some(right) = value.get_mut("right") else { return value };
    if is_protocol {
        match right.get_mut("set").and_then(Value::as_array_mut) {
            Some(items) => items.iter_mut().for_each(numbered),
            None => numbered(right),
        }
    }
    if let Some(items) = right.get("set").and_then(Value::as_array)
        && let [one] = items.as_slice()
    {
        *right = one.clone();
    } else if let Some(set) = right.get_mut("set") {
        *set = sorted(set.take());
    }
    value
}

/// nft names protocols as `/etc/protocols` does, if it is there, unless it is asked for numbers.
fn numbered(value: &mut Value) {
    let number = match value.as_str() {
        Some("icmp") => 1,
        Some("tcp") => 6,
        Some("udp") => 17,
        Some("ipv6-icmp" | "icmpv6") => 58,
        _ => return,
    };
    *value = number.into();
}

/// A counter is a statement; what it has counted is not.
fn statements(value: Value) -> Value {
    let Value::Array(items) = value else { return value };
    let plain = |item: Value| match item.get("counter") {
        Some(Value::Object(_)) => json!({"counter": null}),
        _ => item,
    };
    Value::Array(items.into_iter().map(plain).collect())
}

fn objects(text: &[u8]) -> Result<Vec<Value>, RulesetError> {
    let mut all: Value = serde_json::from_slice(text).map_err(RulesetError::Json)?;
    match all.get_mut("nftables").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Err(RulesetError::Form("there is no list of objects".into())),
    }
}

impl Ruleset {
    /// From a transaction that makes the table anew, as [`vyr_plan::render::firewall`] writes it.
    pub fn from_transaction(text: &str) -> Result<Self, RulesetError> {
        let mut made = Vec::new();
        for mut command in objects(text.as_bytes())? {
            if let Some(object) = command.get_mut("add").map(Value::take) {
                let is_table = object.get("table").is_some();
                // It is named before it is deleted, and made after that.
                if !(is_table && made.contains(&object)) {
                    made.push(object);
                }
            } else if command.get("metainfo").is_none() && command.get("delete").is_none() {
                return Err(RulesetError::Form("a command does not add".into()));
            }
        }
        Self::try_from(made)
    }

    /// From what `nft -j list table` says.
    pub fn from_listing(text: &[u8]) -> Result<Self, RulesetError> {
        Self::listing_of(TABLE, text)
    }

    /// The same of the table of another name.
    pub(crate) fn listing_of(table: &str, text: &[u8]) -> Result<Self, RulesetError> {
        let listed = objects(text)?.into_iter().filter(|object| object.get("metainfo").is_none());
        Self::of_table(table, listed.collect())
    }

    /// The transaction that puts it in the place of whichever table of ours there is.
    pub fn transaction(&self) -> String {
        let add = |object: &Value| json!({ "add": object });
        let commands = self.0.iter().map(add);
        let table = self.0[0]["table"]["name"].as_str().unwrap_or(TABLE);
        let first = [named("add", table), named("delete", table)];
        transaction(first.into_iter().chain(commands))
    }

    /// The transaction after which there is no table of ours.
    pub fn removal() -> String {
        Self::removal_of(TABLE)
    }

    /// The transaction after which there is no table of that name.
    pub(crate) fn removal_of(table: &str) -> String {
        transaction([named("add", table), named("delete", table)])
    }

    /// The elements of a set, in normal form; none: there is no such set.
    pub(crate) fn elements(&self, set: &str) -> Option<&[Value]> {
        let of = |object: &&Value| object["set"]["name"] == *set;
        let found = self.0.iter().find(of)?;
        Some(found["set"]["elem"].as_array().map_or(&[], Vec::as_slice))
    }

    /// How many rules it has.
    pub fn rules(&self) -> usize {
        self.count("rule")
    }

    /// How many chains it has.
    pub fn chains(&self) -> usize {
        self.count("chain")
    }

    /// Its objects, in their order.
    pub(super) fn objects(&self) -> &[Value] {
        &self.0
    }

    fn count(&self, kind: &str) -> usize {
        self.0.iter().filter(|object| object.get(kind).is_some()).count()
    }
}

fn named(command: &str, table: &str) -> Value {
    json!({ command: {"table": {"family": FAMILY, "name": table}} })
}

fn transaction(commands: impl IntoIterator<Item = Value>) -> String {
    let mut text = String::from("{\"nftables\":[\n{\"metainfo\":{\"json_schema_version\":1}}");
    for command in commands {
        text.push_str(",\n");
        text.push_str(&command.to_string());
    }
    text.push_str("\n]}\n");
    text
}

/// One table that lets pass what both would: the chains and sets of both, under names of their own.
///
/// Each has its base chains, those of `new` at the next priority. An accept in nftables ends only
/// the base chain that it is in, and a drop ends everything, so a packet passes if both let it.
/// What neither speaks of, packets between interfaces that are not links, passes as before, and so
/// does the way of management: it is in every plan, and a packet of it that both plans accept is
/// accepted twice. A packet that one of them masquerades leaves masqueraded.
///
/// Both of two of which one is already both, with the other in it, is that one: going on or back
/// from wherever a change was interrupted makes nothing larger.
pub fn union(old: &Ruleset, new: &Ruleset) -> Ruleset {
    if old.has_in_it(new) {
        return old.clone();
    }
    if new.has_in_it(old) {
        return new.clone();
    }
    let mut all: Vec<Value> = vec![json!({"table": {"family": FAMILY, "name": TABLE}})];
    all.extend(old.part(0).chain(new.part(1)));
    // The parts are in normal form and their names differ: this sorts them, and refuses nothing.
    Ruleset::try_from(all).unwrap_or_else(|_| new.clone())
}

impl Ruleset {
    /// Its objects as part of a union.
    fn part(&self, at: usize) -> impl Iterator<Item = Value> {
        let inner = self.0.iter().filter(|object| object.get("table").is_none());
        inner.cloned().map(move |mut object| {
            if let Value::Object(kinds) = &mut object {
                for (kind, fields) in kinds {
                    rename(kind, fields, PARTS[at], at);
                }
            }
            object
        })
    }

    /// Whether this is a union of which the other is a part: all of its chains, and in them its
    /// rules and no others.
    fn has_in_it(&self, other: &Self) -> bool {
        let is_of = |object: &&Value, prefix: &str| {
            let fields = object.as_object().and_then(|kinds| kinds.iter().next());
            let name = fields.and_then(|(kind, fields)| {
                fields.get(if kind == "rule" { "chain" } else { "name" })?.as_str()
            });
            name.is_some_and(|name| name.starts_with(prefix))
        };
        other.chains() > 0
            && PARTS.iter().enumerate().any(|(at, prefix)| {
                let mine = self.0.iter().filter(|object| is_of(object, prefix)).cloned();
                mine.eq(other.part(at))
            })
    }
}

fn rename(kind: &str, fields: &mut Value, prefix: &str, later: usize) {
    let Value::Object(fields) = fields else { return };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("name", value) | ("chain", value) => prepend(value, prefix),
            ("prio", Value::Number(number)) if kind == "chain" => {
                let moved = number.as_i64().unwrap_or(0).saturating_add(i64::from(later != 0));
                *number = moved.into();
            }
            ("expr" | "elem", value) => references(value, prefix),
            _ => (),
        }
    }
}

fn prepend(value: &mut Value, prefix: &str) {
    if let Value::String(name) = value {
        name.insert_str(0, prefix);
    }
}

/// Names of chains and sets inside statements.
fn references(value: &mut Value, prefix: &str) {
    match value {
        Value::String(text) if text.starts_with('@') => text.insert_str(1, prefix),
        Value::Array(items) => items.iter_mut().for_each(|item| references(item, prefix)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("jump" | "goto", Value::Object(to)) => {
                        to.get_mut("target").into_iter().for_each(|to| prepend(to, prefix));
                    }
                    // A counter or quota that has a name.
                    ("counter" | "quota" | "limit" | "ct helper", value @ Value::String(_)) => {
                        prepend(value, prefix);
                    }
                    (_, value) => references(value, prefix),
                }
            }
        }
        _ => (),
    }
}
