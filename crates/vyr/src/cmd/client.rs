//! `vyr client export`: what a device is given, as files that only its user can read.
//!
//! The private key is read from a file, compared with the plan, and goes into the forms that need
//! it and nowhere else. A file that is there already is kept: it may hold a key that is nowhere
//! else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use vyr_base::{Category, Problem};
use vyr_node::{FileError, Result};
use vyr_plan::Plan;
use vyr_plan::render::{self, Form, KeyUse, PrivateKey};
use zeroize::Zeroizing;

use crate::output;

/// Bytes of a key's file that are looked at: a key has 44, and a line's end.
const KEY_BYTES_MAX: u64 = 256;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct ExportArgs {
    /// The client.
    pub(crate) id: String,
    /// The file with its private key.
    pub(crate) key: PathBuf,
    /// One server; none: each by which it has a way.
    pub(crate) server: Option<String>,
    /// The form.
    pub(crate) form: Form,
    /// The directory; `-` is stdout. None: stdout for what a terminal shows, else this directory.
    pub(crate) out: Option<PathBuf>,
    /// Whether files that are there are replaced.
    pub(crate) force: bool,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    #[error("{0} files do not fit on stdout")]
    Many(usize),
    #[error("--json and a configuration do not fit on one stdout")]
    Json,
}

impl Problem for ExportError {
    fn category(&self) -> Category {
        match self {
            Self::Exists(_) => Category::Conflict,
            Self::Many(_) | Self::Json => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Exists(_) => "choose another directory, or replace it with --force".into(),
            Self::Many(_) => "name one with --server, or a directory with --out".into(),
            Self::Json => "name a directory with --out".into(),
        })
    }
}

#[derive(Serialize)]
struct Exported<'a> {
    client_id: &'a str,
    key: &'static str,
    files: Vec<String>,
}

/// Exports the configuration of a client of `plan`.
pub(crate) fn export(plan: &Plan, args: &ExportArgs, json: bool) -> Result<ExitCode> {
    let key = read_key(&args.key)?;
    let key_use = render::key_use(plan, &args.id, &key)?;
    let files = render::client(plan, &args.id, args.server.as_deref(), &key, args.form)?;
    if key_use == KeyUse::Staged {
        output::say("the key is staged: nothing passes until it has taken over");
    }
    let shown = args.form == Form::QrTerminal;
    match &args.out {
        None if shown => show(&files, json)?,
        Some(out) if out == Path::new("-") => show(&files, json)?,
        out => {
            let directory = out.as_deref().unwrap_or(Path::new("."));
            let paths = write(directory, &files, args.force)?;
            report(args, key_use, &paths, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_key(path: &Path) -> Result<PrivateKey> {
    let fail = |error| FileError::on("read", path)(error);
    let file = File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        output::say(format!("warning: others may read {path}; mend it: chmod 600 {path}"));
    }
    // Its whole room at once: what grows leaves copies behind.
    let room = usize::try_from(KEY_BYTES_MAX).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(room));
    match file.take(KEY_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(PrivateKey::parse(&text)?),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            Err(render::RenderError::NotAKey.into())
        }
        Err(e) => Err(fail(e).into()),
    }
}

fn show(files: &[render::File], json: bool) -> Result<()> {
    // Codes are told apart by their names beside them; texts would run into each other.
    let codes = files.iter().all(|file| file.name.ends_with(".txt"));
    if json {
        return Err(ExportError::Json.into());
    }
    if files.len() > 1 && !codes {
        return Err(ExportError::Many(files.len()).into());
    }
    for file in files {
        if codes {
            output::say(&file.name);
        }
        let written = io::stdout().write_all(&file.bytes).and_then(|()| io::stdout().flush());
        written.map_err(FileError::on("write", Path::new("stdout")))?;
    }
    Ok(())
}

/// Writes all of the files, or none that was not replaced is touched.
fn write(directory: &Path, files: &[render::File], force: bool) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = files.iter().map(|file| directory.join(&file.name)).collect();
    // Looked at first, so that a conflict of the second file does not leave the first one there.
    if let Some(taken) = paths.iter().find(|path| !force && path.symlink_metadata().is_ok()) {
        return Err(ExportError::Exists(taken.clone()).into());
    }
    for (path, file) in paths.iter().zip(files) {
        write_private(path, &file.bytes, force)?;
    }
    Ok(paths)
}

/// Writes a file that appears whole or not at all, for its owner alone, and is on the disk when
/// this returns.
pub(crate) fn write_private(path: &Path, bytes: &[u8], force: bool) -> Result<()> {
    let fail = |error| FileError::on("write", path)(error);
    let parent = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(fail)?;
    let beside = path.with_extension(format!("partial-{}", std::process::id()));
    let mut options = OpenOptions::new();
    // A file that somebody else put there is not written into.
    let file = options.write(true).create_new(true).mode(0o600).open(&beside).map_err(fail)?;
    let replace = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    let written = fill(file, bytes)
        .and_then(|()| Ok(renameat_with(CWD, &beside, CWD, path, replace)?))
        .and_then(|()| File::open(parent)?.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        match error.kind() {
            io::ErrorKind::AlreadyExists => ExportError::Exists(path.to_owned()).into(),
            _ => fail(error).into(),
        }
    })
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

fn report(args: &ExportArgs, key_use: KeyUse, paths: &[PathBuf], json: bool) -> Result<()> {
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if json {
        let key = if key_use == KeyUse::Staged { "staged" } else { "active" };
        return output::json_line(Exported { client_id: &args.id, key, files });
    }
    files.iter().for_each(output::print);
    output::say("the private key is in them: give them to the device, then remove them");
    output::say(format!("undo: rm {}", files.join(" ")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyr_base::Source;
    use vyr_plan::{Files, Lock, allocate, compile};

    /// A pair of keys that nobody uses.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRcbbHf9aPyfy2PL00dHmzSo=";
    const PUBLIC: &str = "07LbRaAAHPn4GbVzSk/9+zmKvGfIpNCQEiMCynu4Th8=";

    /// The worked site, where Ana's laptop has that pair.
    fn plan() -> Plan {
        let clients = include_str!("../../../../examples/office/clients.toml");
        let clients = clients.replace("3UEkAPfmTyV9IYaqPii/uisqPz7I1hjVXsTa7na2kE4=", PUBLIC);
        let site = include_str!("../../../../examples/office/site.toml");
        let files = Files {
            clients: Some(Source::new("clients.toml", clients)),
            ..Files::new(Source::new("site.toml", site))
        };
        let intent = files.read().expect("it is read");
        let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
        compile(&intent, &lock).expect("it compiles")
    }

    fn args(directory: &Path, form: Form) -> ExportArgs {
        let key = directory.join("key");
        fs::write(&key, format!("{PRIVATE}\n")).expect("it is written");
        let out = Some(directory.join("out"));
        ExportArgs { id: "ana-laptop".into(), key, server: None, form, out, force: false }
    }

    #[test]
    fn files_are_whole_private_and_not_replaced_unasked() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut args = args(directory.path(), Form::WgQuick);
        let plan = plan();
        export(&plan, &args, true).expect("it is exported");
        let path = directory.path().join("out/nas/vyr-north.conf");
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(text.contains(PRIVATE));
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode(&path) & 0o777, 0o600);
        assert_eq!(mode(path.parent().expect("a parent")) & 0o777, 0o700);
        let beside = fs::read_dir(path.parent().expect("a parent")).expect("it is there").count();
        assert_eq!(beside, 1, "nothing is left beside it");

        fs::write(&path, "mine").expect("it is written");
        let kept = export(&plan, &args, true).expect_err("it is there already");
        assert_eq!(kept.category(), Category::Conflict);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "mine");
        args.force = true;
        export(&plan, &args, true).expect("it is replaced");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
    }

    #[test]
    fn what_is_no_key_or_anothers_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let plan = plan();
        let mut args = args(directory.path(), Form::Networkd);
        args.id = "ben-laptop".into();
        let other = export(&plan, &args, false).expect_err("it is Ana's");
        assert_eq!(other.category(), Category::Auth);
        fs::write(&args.key, [0xff; 44]).expect("it is written");
        let bad = export(&plan, &args, false).expect_err("it is no key");
        assert_eq!(bad.category(), Category::Usage);
        fs::remove_file(&args.key).expect("it was there");
        let none = export(&plan, &args, false).expect_err("it is not there");
        assert_eq!(none.category(), Category::NotFound);
        assert!(!directory.path().join("out").exists(), "nothing was written");
    }

    #[test]
    fn several_texts_do_not_go_to_stdout() {
        let directory = tempfile::tempdir().expect("a directory");
        let plan = plan();
        let mut args = args(directory.path(), Form::WgQuick);
        args.out = Some("-".into());
        let many = export(&plan, &args, false).expect_err("two servers");
        assert_eq!(many.category(), Category::Usage);
        args.server = Some("nas".into());
        let json = export(&plan, &args, true).expect_err("one stdout");
        assert_eq!(json.category(), Category::Usage);
    }
}
