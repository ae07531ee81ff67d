//! `wasi:keyvalue` 0.2.0-draft over the states of a task: `store`, `atomics`, `batch`.
//!
//! A store's identifier is the name of a bound state. All buckets of a state, in all tasks, are one
//! map, and every call takes effect at once and as a whole, batches included, except that a batch
//! stops at the first failure.
//!
//! A number is its decimal digits, as in Wasmtime's own store, so that `get` and `increment` agree.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};

use super::bytes::Secret;
use super::keys::{KEY_MAX, VALUE_MAX};
use super::lend::Loan;
use super::p2::{HasView, View, view};
use super::{Access, BoundState, FileError};
use crate::run::TaskState;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "wasi:keyvalue/imports",
        imports: { default: trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

use bindings::wasi::keyvalue::{atomics, batch, store};
use store::{Error, KeyResponse};

/// A bound state, opened by name.
#[expect(unreachable_pub, reason = "the generated code re-exports it")]
pub struct Bucket(BoundState);

/// The outer error ends the task, the inner one is the guest's to read.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

pub(crate) fn add_to_linker(linker: &mut Linker<TaskState>) -> wasmtime::Result<()> {
    store::add_to_linker::<TaskState, HasView>(linker, view)?;
    atomics::add_to_linker::<TaskState, HasView>(linker, view)?;
    batch::add_to_linker::<TaskState, HasView>(linker, view)?;
    // The calls that hand values out, again, with buffers that are wiped.
    linker.instance("wasi:keyvalue/store@0.2.0-draft")?.func_wrap(
        "[method]bucket.get",
        |mut store: StoreContextMut<'_, TaskState>, (bucket, key): (Resource<Bucket>, String)| {
            let mut view = view(store.data_mut());
            let value = store::HostBucket::get(&mut view, bucket, key)?;
            view.files.loans.settle();
            Ok((value.map(|value| value.map(|value| view.files.loans.lend(value))),))
        },
    )?;
    linker.instance("wasi:keyvalue/batch@0.2.0-draft")?.func_wrap(
        "get-many",
        |mut store: StoreContextMut<'_, TaskState>,
         (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            let mut view = view(store.data_mut());
            let values = batch::Host::get_many(&mut view, bucket, keys)?;
            view.files.loans.settle();
            let mut lend = |(key, value)| (key, view.files.loans.lend(value));
            let lent = |values: Vec<Option<_>>| -> Vec<Option<(String, Loan)>> {
                values.into_iter().map(|pair| pair.map(&mut lend)).collect()
            };
            Ok((values.map(lent),))
        },
    )
}

impl View<'_> {
    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<&BoundState> {
        self.check()?;
        Ok(&self.table.get(bucket)?.0)
    }

    /// The state if it may be changed.
    fn writable(&self, bucket: &Resource<Bucket>) -> Answer<&BoundState> {
        let bound = self.bucket(bucket)?;
        Ok(match bound.access {
            Access::ReadWrite => Ok(bound),
            Access::ReadOnly => Err(Error::AccessDenied),
        })
    }
}

impl store::Host for View<'_> {
    fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        self.check()?;
        let Some(bound) = self.files.bound(&identifier) else {
            return Ok(Err(Error::NoSuchStore));
        };
        let bucket = Bucket(bound.clone());
        Ok(Ok(self.table.push(bucket)?))
    }
}

impl store::HostBucket for View<'_> {
    fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let bound = self.bucket(&bucket)?;
        Ok(Ok(bound.state.lock().value(&key).map(<[u8]>::to_vec)))
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let value = Secret::new(value);
        Ok(match self.writable(&bucket)? {
            Ok(bound) => set(bound, &key, value),
            Err(error) => Err(error),
        })
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        Ok(self.writable(&bucket)?.map(|bound| bound.state.lock().delete(&key)))
    }

    fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let bound = self.bucket(&bucket)?;
        Ok(Ok(bound.state.lock().value(&key).is_some()))
    }

    fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<KeyResponse> {
        let (keys, cursor) = self.bucket(&bucket)?.state.lock().page(cursor);
        Ok(Ok(KeyResponse { keys, cursor }))
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        Ok(match self.writable(&bucket)? {
            Ok(bound) => increment(bound, &key, delta),
            Err(error) => Err(error),
        })
    }
}

impl batch::Host for View<'_> {
    fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let tree = self.bucket(&bucket)?.state.lock();
        // One key named many times must not become many copies without bound.
        let bytes: usize = keys.iter().filter_map(|key| tree.value(key)).map(<[u8]>::len).sum();
        if bytes > VALUE_MAX {
            return Ok(Err(too_long("the values asked for are", VALUE_MAX)));
        }
        let values = keys.into_iter().map(|key| {
            let value = tree.value(&key)?.to_vec();
            Some((key, value))
        });
        Ok(Ok(values.collect()))
    }

    fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> Answer<()> {
        let mut key_values = key_values
            .into_iter()
            .map(|(key, value)| (key, Secret::new(value)))
            .collect::<Vec<_>>();
        Ok(match self.writable(&bucket)? {
            Ok(bound) => key_values.drain(..).try_for_each(|(key, value)| set(bound, &key, value)),
            Err(error) => Err(error),
        })
    }

    fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        Ok(self.writable(&bucket)?.map(|bound| {
            let mut tree = bound.state.lock();
            for key in &keys {
                tree.delete(key);
            }
        }))
    }
}

fn set(bound: &BoundState, key: &str, value: Secret) -> Result<(), Error> {
    if key.len() > KEY_MAX {
        return Err(too_long("the key is", KEY_MAX));
    }
    if value.len() > VALUE_MAX {
        return Err(too_long("the value is", VALUE_MAX));
    }
    bound.state.lock().set(key, value).map_err(|error| refused(error, bound))
}

/// Adds to the number at `key`, or sets it where there is none; under one lock.
fn increment(bound: &BoundState, key: &str, delta: u64) -> Result<u64, Error> {
    if key.len() > KEY_MAX {
        return Err(too_long("the key is", KEY_MAX));
    }
    let mut tree = bound.state.lock();
    let now = match tree.value(key) {
        None => 0,
        Some(digits) => std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| Error::Other("the value is not a number in decimal digits".into()))?,
    };
    let sum = delta
        .checked_add(now)
        .ok_or_else(|| Error::Other("the sum is more than 64 bits hold".into()))?;
    let digits = Secret::new(sum.to_string().into_bytes());
    tree.set(key, digits).map_err(|error| refused(error, bound))?;
    Ok(sum)
}

fn refused(error: FileError, bound: &BoundState) -> Error {
    Error::Other(match error {
        FileError::Full => {
            format!("quota of {} bytes is used up", bound.state.quota_bytes())
        }
        other => other.to_string(),
    })
}

fn too_long(what: &str, most: usize) -> Error {
    Error::Other(format!("{what} longer than {most} bytes"))
}
