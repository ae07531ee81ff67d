//! The steps on keys and values, by `wasi:keyvalue`.

use wasi::keyvalue::{atomics, batch, store};

use crate::{Fault, marker, number};

mod bindings {
    wit_bindgen::generate!({
        path: "../../crates/vyr-task/wit",
        world: "wasi:keyvalue/imports",
    });
}
use bindings::wasi;

impl From<store::Error> for Fault {
    fn from(error: store::Error) -> Self {
        Self::Text(match error {
            store::Error::NoSuchStore => "no-such-store".into(),
            store::Error::AccessDenied => "access-denied".into(),
            store::Error::Other(text) => text,
        })
    }
}

/// Carries out one step; `words[0]` begins with `key`.
pub(crate) fn step(words: &[&str]) -> Result<String, Fault> {
    let store = words.get(1).ok_or(Fault::Usage)?;
    let bucket = store::open(store)?;
    match *words {
        ["key-set", _, key, value] => bucket.set(key, value.as_bytes())?,
        ["key-set", _, key, value, times] => {
            bucket.set(key, value.repeat(number(times)?).as_bytes())?;
        }
        ["key-marker", _, key, hex] => bucket.set(key, &marker(hex))?,
        ["key-get", _, key] => {
            let value = bucket.get(key)?;
            return Ok(value.map_or("none".into(), |v| String::from_utf8_lossy(&v).into_owned()));
        }
        ["key-look", _, key] => {
            return Ok(bucket.get(key)?.map_or(0, |value| value.len()).to_string());
        }
        ["key-look-many", _, key] => {
            let found = batch::get_many(&bucket, &[key.to_owned()])?;
            let lengths = found.into_iter().flatten().map(|(_, value)| value.len());
            return Ok(lengths.sum::<usize>().to_string());
        }
        ["key-delete", _, key] => bucket.delete(key)?,
        ["key-exists", _, key] => return Ok(bucket.exists(key)?.to_string()),
        ["key-increment", _, key, delta] => {
            return Ok(atomics::increment(&bucket, key, number(delta)?)?.to_string());
        }
        ["key-increment", _, key, delta, times] => {
            let delta = number(delta)?;
            for _ in 0..number::<u32>(times)? {
                atomics::increment(&bucket, key, delta)?;
            }
        }
        ["key-set-many", _, ref pairs @ ..] => {
            let pairs: Vec<_> = pairs
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
                .collect();
            batch::set_many(&bucket, &pairs)?;
        }
        ["key-get-many", _, ref keys @ ..] => {
            let keys: Vec<_> = keys.iter().map(|&key| key.to_owned()).collect();
            let found = batch::get_many(&bucket, &keys)?.into_iter().map(|pair| match pair {
                Some((key, value)) => format!("{key}={}", String::from_utf8_lossy(&value)),
                None => "none".into(),
            });
            return Ok(found.collect::<Vec<_>>().join(" "));
        }
        ["key-delete-many", _, ref keys @ ..] => {
            let keys: Vec<_> = keys.iter().map(|&key| key.to_owned()).collect();
            batch::delete_many(&bucket, &keys)?;
        }
        ["key-fill", _, count] => {
            for n in 0..number::<u32>(count)? {
                bucket.set(&format!("k{n}"), b"")?;
            }
        }
        // The number of keys on each page.
        ["key-pages", _] => {
            let (mut pages, mut cursor) = (Vec::new(), None);
            loop {
                let page = bucket.list_keys(cursor)?;
                pages.push(page.keys.len().to_string());
                cursor = page.cursor;
                if cursor.is_none() {
                    return Ok(pages.join(" "));
                }
            }
        }
        ["keys", _] => return Ok(bucket.list_keys(None)?.keys.join(" ")),
        _ => return Err(Fault::Usage),
    }
    Ok(String::new())
}
