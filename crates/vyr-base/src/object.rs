//! Reading a JSON object as an object.
//!
//! A derived reader of a struct also takes an array of the fields' values, in the order they are
//! declared in. No other tool does, so such a document would be one thing here and damage there.
//! [`Object`] and the functions for `#[serde(deserialize_with = "..")]` refuse it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A `T` that is written as an object.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Reads a text that is one object. All of it must be UTF-8, also in fields that nobody reads:
/// those `serde_json::from_slice` passes over without a look.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> serde_json::Result<T> {
    let text = std::str::from_utf8(bytes).map_err(serde::de::Error::custom)?;
    serde_json::from_str::<Object<T>>(text).map(|object| object.0)
}

/// One object.
pub fn one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|object| object.0)
}

/// An object or null; a field of it needs `#[serde(default)]` to be absent.
pub fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

/// A list of objects.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(deserializer)?.into_iter().map(|object| object.0).collect())
}

/// A list of objects or null; a field of it needs `#[serde(default)]` to be absent.
pub fn optional_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let objects = Option::<Vec<Object<T>>>::deserialize(deserializer)?;
    Ok(objects.map(|objects| objects.into_iter().map(|object| object.0).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Point {
        x: u8,
        #[serde(default, deserialize_with = "optional_list")]
        more: Option<Vec<Point>>,
    }

    fn read(text: &str) -> Option<Point> {
        from_slice(text.as_bytes()).ok()
    }

    #[test]
    fn what_nobody_reads_is_text_as_well() {
        assert!(from_slice::<Point>(b"{\"x\":1,\"y\":\"z\"}").is_ok());
        assert!(from_slice::<Point>(b"{\"x\":1,\"y\":\"\xff\"}").is_err());
    }

    #[test]
    fn an_array_is_no_object() {
        assert_eq!(read(r#"{"x":1}"#), Some(Point { x: 1, more: None }));
        assert_eq!(read(r#"{"x":1,"more":null}"#), Some(Point { x: 1, more: None }));
        let inner = Point { x: 2, more: Some(vec![]) };
        let outer = Point { x: 1, more: Some(vec![inner]) };
        assert_eq!(read(r#"{"x":1,"more":[{"x":2,"more":[]}]}"#), Some(outer));
        for text in ["[1]", "[1,null]", r#"{"x":1,"more":[[2]]}"#, r#"{"x":1,"x":1}"#, "null"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
