//! Reading a JSON object field by field: what is missing, strange or unknown is a fault, and the
//! reading goes on.

use serde_json::{Map, Value};
use vyr_base::Diagnostic;

/// The faults of a document so far. More than this are not read by anybody.
pub(super) const FAULTS_MAX: usize = 100;

/// Collects faults.
#[derive(Debug, Default)]
pub(super) struct Found(pub(super) Vec<Diagnostic>);

impl Found {
    pub(super) fn add(&mut self, id: &'static str, what: String, hint: Option<String>) {
        if self.0.len() < FAULTS_MAX {
            let fault = Diagnostic::error(id, what);
            self.0.push(match hint {
                Some(hint) => fault.hint(hint),
                None => fault,
            });
        }
    }
}

/// One object, its place in the document, and the fields that were asked for.
pub(super) struct Fields<'v> {
    pub(super) at: String,
    map: Option<&'v Map<String, Value>>,
    asked: Vec<&'static str>,
}

impl<'v> Fields<'v> {
    /// The object `value`, which stands at `at`; anything else is a fault and has no fields.
    pub(super) fn of(value: &'v Value, at: String, found: &mut Found) -> Self {
        let map = value.as_object();
        if map.is_none() {
            found.add("not-an-object", format!("{at} is not an object"), None);
        }
        Self { at, map, asked: Vec::new() }
    }

    fn take(&mut self, name: &'static str) -> Option<&'v Value> {
        self.asked.push(name);
        self.map?.get(name)
    }

    fn path(&self, name: &str) -> String {
        match self.at.as_str() {
            "the document" => name.to_owned(),
            at => format!("{at}.{name}"),
        }
    }

    /// A field that must be there.
    fn needed(&mut self, name: &'static str, found: &mut Found) -> Option<&'v Value> {
        let value = self.take(name);
        if value.is_none() && self.map.is_some() {
            found.add("missing-field", format!("{} is missing", self.path(name)), None);
        }
        value
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, name: &'static str, found: &mut Found) -> Option<String> {
        let value = self.needed(name, found)?;
        self.as_text(name, value, found)
    }

    /// A text that may be there.
    pub(super) fn text_if(&mut self, name: &'static str, found: &mut Found) -> Option<String> {
        let value = self.take(name)?;
        self.as_text(name, value, found)
    }

    fn as_text(&self, name: &str, value: &Value, found: &mut Found) -> Option<String> {
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            found.add("not-a-text", format!("{} is not a text", self.path(name)), None);
        }
        text
    }

    /// A number that must be there, within bounds.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        bounds: (u64, u64),
        found: &mut Found,
    ) -> Option<u64> {
        let value = self.needed(name, found)?;
        self.as_number(name, value, bounds, found)
    }

    /// A number that may be there, within bounds.
    pub(super) fn number_if(
        &mut self,
        name: &'static str,
        bounds: (u64, u64),
        found: &mut Found,
    ) -> Option<u64> {
        let value = self.take(name)?;
        self.as_number(name, value, bounds, found)
    }

    fn as_number(
        &self,
        name: &str,
        value: &Value,
        (least, most): (u64, u64),
        found: &mut Found,
    ) -> Option<u64> {
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let what = format!("{} is not a whole number from {least} to {most}", self.path(name));
            found.add("out-of-bounds", what, None);
        }
        number
    }

    /// Yes or no; `default` when it is absent.
    pub(super) fn flag(&mut self, name: &'static str, default: bool, found: &mut Found) -> bool {
        let Some(value) = self.take(name) else { return default };
        value.as_bool().unwrap_or_else(|| {
            found.add("not-a-flag", format!("{} is not true or false", self.path(name)), None);
            default
        })
    }

    /// An object that may be there.
    pub(super) fn object_if(&mut self, name: &'static str, found: &mut Found) -> Option<Self> {
        let value = self.take(name)?;
        Some(Self::of(value, self.path(name), found))
    }

    /// The items of a list, each with its place; a list that must be there may be empty.
    pub(super) fn list(
        &mut self,
        name: &'static str,
        most: usize,
        found: &mut Found,
    ) -> Vec<(String, &'v Value)> {
        let value = self.needed(name, found);
        self.as_list(name, value, most, found)
    }

    /// The same of a list that may be absent.
    pub(super) fn list_if(
        &mut self,
        name: &'static str,
        most: usize,
        found: &mut Found,
    ) -> Vec<(String, &'v Value)> {
        let value = self.take(name);
        self.as_list(name, value, most, found)
    }

    fn as_list(
        &self,
        name: &str,
        value: Option<&'v Value>,
        most: usize,
        found: &mut Found,
    ) -> Vec<(String, &'v Value)> {
        let path = self.path(name);
        let items = match value {
            None => &[],
            Some(Value::Array(items)) => items.as_slice(),
            Some(_) => {
                found.add("not-a-list", format!("{path} is not a list"), None);
                &[][..]
            }
        };
        if items.len() > most {
            let what = format!("{path} has {} items, and at most {most} are taken", items.len());
            found.add("out-of-bounds", what, None);
            return Vec::new();
        }
        let place = |(index, item)| (format!("{path}[{index}]"), item);
        items.iter().enumerate().map(place).collect()
    }

    /// Says which fields nobody asked for.
    pub(super) fn finish(self, found: &mut Found) {
        let names = self.map.into_iter().flat_map(Map::keys);
        for name in names.filter(|name| !self.asked.contains(&name.as_str())) {
            let shown: String = name.chars().take(64).collect();
            let hint = format!("known here: {}", self.asked.join(", "));
            let what = format!("{} has an unknown field {shown:?}", self.at);
            found.add("unknown-field", what, Some(hint));
        }
    }
}
