//! The tree against a model that is too simple to be wrong: a map from whole paths to contents,
//! whose use of the quota is counted anew after every step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tree::{How, Kind, ROOT, Serial, Tree};
use super::{EphemeralState, FileError};

const QUOTA: u64 = 8 * EphemeralState::NODE_BYTES;

/// A file's contents, or `None` for a directory.
type Model = BTreeMap<Vec<&'static str>, Option<Vec<u8>>>;

type Path = Vec<&'static str>;

#[derive(Debug, Clone)]
enum Step {
    MakeDirectory(Path),
    RemoveDirectory(Path),
    Unlink(Path),
    Rename(Path, Path),
    Create { path: Path, exclusive: bool, truncate: bool },
    Write { path: Path, offset: Option<u64>, data: Vec<u8> },
    SetSize(Path, u64),
}

fn path() -> impl Strategy<Value = Path> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("long-name")], 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let offset = proptest::option::of(prop_oneof![0u64..20, 0..QUOTA, any::<u64>()]);
    let data = (any::<u8>(), prop_oneof![0usize..20, 0usize..3000])
        .prop_map(|(fill, length)| vec![fill; length]);
    prop_oneof![
        3 => path().prop_map(Step::MakeDirectory),
        1 => path().prop_map(Step::RemoveDirectory),
        2 => path().prop_map(Step::Unlink),
        3 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
        4 => (path(), any::<bool>(), any::<bool>())
            .prop_map(|(path, exclusive, truncate)| Step::Create { path, exclusive, truncate }),
        4 => (path(), offset, data)
            .prop_map(|(path, offset, data)| Step::Write { path, offset, data }),
        2 => (path(), prop_oneof![0u64..20, 0..QUOTA, any::<u64>()])
            .prop_map(|(path, size)| Step::SetSize(path, size)),
    ]
}

fn used(model: &Model) -> u64 {
    let cost = |(path, body): (&Path, &Option<Vec<u8>>)| {
        let name = path.last().map_or(0, |name| name.len());
        let contents = body.as_ref().map_or(0, Vec::len);
        EphemeralState::NODE_BYTES + (name + contents) as u64
    };
    model.iter().map(cost).sum()
}

/// What `path` is: `Ok(None)` when only the last component is missing.
fn look<'m>(
    model: &'m Model,
    path: &[&'static str],
) -> Result<Option<&'m Option<Vec<u8>>>, FileError> {
    for length in 1..path.len() {
        match model.get(&path[..length]) {
            None => return Err(FileError::NoEntry),
            Some(Some(_)) => return Err(FileError::NotDirectory),
            Some(None) => {}
        }
    }
    Ok(model.get(path))
}

fn is_empty(model: &Model, path: &[&'static str]) -> bool {
    !model.keys().any(|key| key.len() > path.len() && key.starts_with(path))
}

fn free(model: &Model) -> u64 {
    QUOTA - used(model)
}

/// Carries out `step` on the model.
fn expect(model: &mut Model, step: &Step) -> Result<(), FileError> {
    use FileError as E;
    match step {
        Step::MakeDirectory(path) => {
            if look(model, path)?.is_some() {
                return Err(E::Exists);
            }
            add(model, path, None)
        }
        Step::RemoveDirectory(path) => match look(model, path)? {
            None => Err(E::NoEntry),
            Some(Some(_)) => Err(E::NotDirectory),
            Some(None) if !is_empty(model, path) => Err(E::NotEmpty),
            Some(None) => {
                model.remove(path);
                Ok(())
            }
        },
        Step::Unlink(path) => match look(model, path)? {
            None => Err(E::NoEntry),
            Some(None) => Err(E::IsDirectory),
            Some(Some(_)) => {
                model.remove(path);
                Ok(())
            }
        },
        Step::Rename(from, to) => {
            let source = look(model, from)?.ok_or(E::NoEntry)?.clone();
            let target = look(model, to)?.cloned();
            if from == to {
                return Ok(());
            }
            if source.is_none() && to.starts_with(from) {
                return Err(E::Invalid);
            }
            match (&source, &target) {
                (Some(_), Some(None)) => return Err(E::IsDirectory),
                (None, Some(Some(_))) => return Err(E::NotDirectory),
                (None, Some(None)) if !is_empty(model, to) => return Err(E::NotEmpty),
                _ => {}
            }
            let name = |path: &Path| path.last().map_or(0, |name| name.len()) as u64;
            if name(to).saturating_sub(name(from)) > free(model) {
                return Err(E::Full);
            }
            model.remove(to);
            let moved: Vec<_> = model.keys().filter(|key| key.starts_with(from)).cloned().collect();
            for old in moved {
                let body = model.remove(&old).expect("it is there");
                model.insert([&to[..], &old[from.len()..]].concat(), body);
            }
            Ok(())
        }
        Step::Create { path, exclusive, truncate } => match look(model, path)? {
            Some(_) if *exclusive => Err(E::Exists),
            Some(None) => Err(E::IsDirectory),
            Some(Some(_)) => {
                if *truncate {
                    model.insert(path.clone(), Some(Vec::new()));
                }
                Ok(())
            }
            None => add(model, path, Some(Vec::new())),
        },
        Step::Write { path, offset, data } => {
            let mut contents = file(model, path)?;
            let offset = offset.unwrap_or(contents.len() as u64);
            if data.is_empty() {
                return Ok(());
            }
            let end = offset.checked_add(data.len() as u64).ok_or(E::TooLarge)?;
            let end = end.min(contents.len() as u64 + free(model));
            if end <= offset {
                return Err(E::Full);
            }
            let (at, end) =
                (usize::try_from(offset).expect("small"), usize::try_from(end).expect("small"));
            contents.resize(contents.len().max(end), 0);
            contents[at..end].copy_from_slice(&data[..end - at]);
            model.insert(path.clone(), Some(contents));
            Ok(())
        }
        Step::SetSize(path, size) => {
            let mut contents = file(model, path)?;
            if size.saturating_sub(contents.len() as u64) > free(model) {
                return Err(E::Full);
            }
            contents.resize(usize::try_from(*size).expect("small"), 0);
            model.insert(path.clone(), Some(contents));
            Ok(())
        }
    }
}

fn add(model: &mut Model, path: &Path, body: Option<Vec<u8>>) -> Result<(), FileError> {
    let name = path.last().map_or(0, |name| name.len()) as u64;
    if EphemeralState::NODE_BYTES + name > free(model) {
        return Err(FileError::Full);
    }
    model.insert(path.clone(), body);
    Ok(())
}

/// The contents of a file that is opened for writing.
fn file(model: &Model, path: &[&'static str]) -> Result<Vec<u8>, FileError> {
    match look(model, path)? {
        None => Err(FileError::NoEntry),
        Some(None) => Err(FileError::IsDirectory),
        Some(Some(contents)) => Ok(contents.clone()),
    }
}

/// Carries out `step` on the tree.
fn carry_out(tree: &mut Tree, step: &Step) -> Result<(), FileError> {
    let text = |path: &Path| path.join("/");
    match step {
        Step::MakeDirectory(path) => tree.create_directory(ROOT, &text(path)),
        Step::RemoveDirectory(path) => tree.remove_directory(ROOT, &text(path)),
        Step::Unlink(path) => tree.unlink(ROOT, &text(path)),
        Step::Rename(from, to) => tree.rename(ROOT, &text(from), ROOT, &text(to)),
        Step::Create { path, exclusive, truncate } => {
            let (exclusive, truncate) = (*exclusive, *truncate);
            let how = How { write: true, create: true, exclusive, truncate, ..How::default() };
            let (node, _) = tree.open(ROOT, &text(path), how)?;
            tree.close(node);
            Ok(())
        }
        Step::Write { path, offset, data } => {
            with_file(tree, path, |tree, node| tree.write(node, *offset, data).map(drop))
        }
        Step::SetSize(path, size) => with_file(tree, path, |tree, node| tree.set_size(node, *size)),
    }
}

fn with_file(
    tree: &mut Tree,
    path: &Path,
    then: impl FnOnce(&mut Tree, Serial) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let how = How { write: true, ..How::default() };
    let (node, _) = tree.open(ROOT, &path.join("/"), how)?;
    let done = then(tree, node);
    tree.close(node);
    done
}

/// All that is in the tree, by walking it.
fn contents(tree: &mut Tree) -> BTreeMap<Vec<String>, Option<Vec<u8>>> {
    let (mut all, mut left) = (BTreeMap::new(), vec![(ROOT, Vec::new())]);
    while let Some((directory, path)) = left.pop() {
        let mut after = Serial(0);
        while let Some(entry) = tree.entry_after(directory, after).expect("a directory") {
            after = entry.serial;
            let mut path: Vec<String> = path.clone();
            path.push(entry.name.as_str().to_owned());
            let body = (entry.kind == Kind::File).then(|| {
                let size = tree.stat(entry.serial).expect("it is there").size;
                let mut bytes = vec![0xEE; usize::try_from(size).expect("small")];
                assert_eq!(tree.read(entry.serial, 0, &mut bytes), Ok(bytes.len()));
                bytes
            });
            if entry.kind == Kind::Directory {
                left.push((entry.serial, path.clone()));
            }
            all.insert(path, body);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_tree_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut tree, mut model) = (Tree::new(QUOTA), Model::new());
        for step in &steps {
            let wanted = expect(&mut model, step);
            prop_assert_eq!(carry_out(&mut tree, step), wanted, "{:?}", step);
            prop_assert_eq!(tree.used_bytes(), used(&model), "{:?}", step);
            prop_assert!(tree.used_bytes() <= QUOTA);
        }
        let wanted: BTreeMap<Vec<String>, _> = model
            .into_iter()
            .map(|(path, body)| (path.into_iter().map(String::from).collect(), body))
            .collect();
        prop_assert!(contents(&mut tree) == wanted);
    }

    /// Paths of all sorts, from a directory two levels down: whatever they say, nothing above that
    /// directory is reached or changed.
    #[test]
    fn no_path_leads_out(
        parts in proptest::collection::vec(
            prop_oneof![Just(".."), Just("."), Just(""), Just("in"), Just("secret"), Just("\0"),
                Just("base"), Just("top")],
            0..8,
        ),
        others in proptest::collection::vec(prop_oneof![Just(".."), Just("secret"), Just("x")], 1..4),
    ) {
        let mut tree = Tree::new(100 * EphemeralState::NODE_BYTES);
        for path in ["top", "top/base", "top/base/in"] {
            tree.create_directory(ROOT, path).expect("new");
        }
        let how = How { write: true, create: true, ..How::default() };
        for path in ["secret", "top/secret"] {
            let (node, _) = tree.open(ROOT, path, how).expect("new");
            tree.write(node, Some(0), b"secret").expect("room");
        }
        let look = How { directory: true, ..How::default() };
        let (base, _) = tree.open(ROOT, "top/base", look).expect("there");
        let outside = |tree: &mut Tree| {
            contents(tree).into_iter().filter(|(path, _)| path.get(1).is_none_or(|p| p != "base"))
                .collect::<Vec<_>>()
        };
        let before = outside(&mut tree);
        let (path, other) = (parts.join("/"), others.join("/"));
        let found = tree.stat_at(base, &path);
        if let Ok(stat) = found {
            prop_assert!(stat.size == 0, "{path:?} reached a file outside");
        }
        let _ = tree.open(base, &path, how).map(|(node, _)| tree.write(node, None, b"changed"));
        let _ = tree.create_directory(base, &other);
        let _ = tree.rename(base, &path, base, &other);
        let _ = tree.rename(base, &other, base, &path);
        let _ = tree.unlink(base, &path);
        let _ = tree.remove_directory(base, &path);
        prop_assert_eq!(outside(&mut tree), before, "{:?} and {:?}", path, other);
    }
}

#[test]
fn a_directory_is_not_deeper_than_its_bound() {
    let mut tree = Tree::new(u64::MAX);
    let look = How { directory: true, ..How::default() };
    let mut at = ROOT;
    let mut depth = 0;
    let end = loop {
        match tree.create_directory(at, "d") {
            Ok(()) => (at, _) = tree.open(at, "d", look).expect("there"),
            Err(error) => break error,
        }
        depth += 1;
    };
    assert_eq!((depth, end), (127, FileError::NameTooLong));
    // Nor does it get so by being moved.
    tree.create_directory(ROOT, "x").expect("new");
    assert_eq!(tree.rename(ROOT, "d", ROOT, "x/d"), Err(FileError::NameTooLong));
    assert_eq!(tree.rename(ROOT, "d", ROOT, "e"), Ok(()));
}

#[test]
fn a_large_directory_is_not_moved_in_one_call() {
    let mut tree = Tree::new(u64::MAX);
    let how = How { write: true, create: true, ..How::default() };
    tree.create_directory(ROOT, "d").expect("new");
    tree.create_directory(ROOT, "x").expect("new");
    for n in 0..10_001 {
        tree.open(ROOT, &format!("d/{n}"), how).expect("new");
    }
    assert_eq!(tree.rename(ROOT, "d", ROOT, "x/d"), Err(FileError::CrossState));
    assert_eq!(tree.rename(ROOT, "d", ROOT, "e"), Ok(()));
    tree.unlink(ROOT, "e/0").expect("there");
    assert_eq!(tree.rename(ROOT, "e", ROOT, "x/d"), Ok(()));
}

#[test]
fn what_is_removed_while_open_is_paid_until_it_is_closed() {
    let mut tree = Tree::new(QUOTA);
    let how = How { write: true, create: true, ..How::default() };
    let (node, _) = tree.open(ROOT, "f", how).expect("new");
    tree.write(node, None, &[1; 1000]).expect("room");
    tree.unlink(ROOT, "f").expect("there");
    assert_eq!(tree.used_bytes(), EphemeralState::NODE_BYTES + 1000);
    tree.write(node, None, &[1; 24]).expect("room");
    assert_eq!(tree.used_bytes(), EphemeralState::NODE_BYTES + 1024);
    tree.close(node);
    assert_eq!(tree.used_bytes(), 0);
    // And a removed directory takes no entries.
    tree.create_directory(ROOT, "d").expect("new");
    let (directory, _) =
        tree.open(ROOT, "d", How { directory: true, ..How::default() }).expect("there");
    tree.remove_directory(ROOT, "d").expect("empty");
    assert_eq!(tree.create_directory(directory, "x"), Err(FileError::NoEntry));
    assert_eq!(tree.open(directory, "x", how).map(drop), Err(FileError::NoEntry));
    tree.close(directory);
    assert_eq!(tree.used_bytes(), 0);
}
