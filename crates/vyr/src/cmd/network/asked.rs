//! `plans/asked.network`: which hosts were asked to become what a plan says, and are not yet known
//! to be confirmed. When none is left, `plans/applied.network` names the plan.
//!
//! ```text
//! version 1
//! plan sha256:..
//! left NODE            a line for each
//! ```
//!
//! Who changes it is alone in the site: two commands at once forget nobody. It is one plan's list, and
//! another plan that is confirmed leaves it as it is.

use std::collections::BTreeSet;
use std::fs;

use vyr_base::{Category, Digest, Problem};
use vyr_node::{FileError, Result};

use crate::cmd::site::Site;

const NAME: &str = "plans/asked.network";

/// Bytes of the file: ten thousand hosts.
const BYTES_MAX: usize = 1 << 20;

/// The file is not one of ours.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of plans/asked.network is not one that vyr writes")]
struct AskedError {
    line: usize,
}

impl Problem for AskedError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("remove the file, and apply the plan again: what is confirmed stays as it is".into())
    }
}

/// Who was asked, and for what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The plan.
    pub(super) plan: Digest,
    /// Who is not known to be confirmed.
    pub(super) left: BTreeSet<String>,
}

impl Asked {
    /// Who was asked last; none: nobody, or all are confirmed.
    pub(super) fn read(site: &Site) -> Result<Option<Self>> {
        let Some(bytes) = site.bytes(NAME, BYTES_MAX)? else { return Ok(None) };
        Ok(Some(Self::parse(&String::from_utf8_lossy(&bytes))?))
    }

    fn parse(text: &str) -> std::result::Result<Self, AskedError> {
        let fail = |line: usize| AskedError { line };
        let mut lines = text.lines();
        lines.next().filter(|line| *line == "version 1").ok_or(fail(1))?;
        let plan = lines.next().and_then(|line| line.strip_prefix("plan ")?.parse().ok());
        let mut asked = Self { plan: plan.ok_or(fail(2))?, left: BTreeSet::new() };
        for (at, line) in lines.enumerate() {
            let name = line.strip_prefix("left ").filter(|name| !name.is_empty());
            asked.left.insert(name.ok_or(fail(at + 3))?.to_owned());
        }
        Ok(asked)
    }

    fn text(&self) -> String {
        let left: String = self.left.iter().map(|name| format!("left {name}\n")).collect();
        format!("version 1\nplan {}\n{left}", self.plan)
    }

    /// Before anybody is asked: these are, besides those who were asked for the same plan.
    pub(super) fn begin<'a>(
        site: &Site,
        plan: &Digest,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        // A plan that is not the site's is none it could name.
        if !is_ours(site, plan) {
            return Ok(());
        }
        let _alone = site.alone()?;
        let before = Self::read(site)?.filter(|asked| asked.plan == *plan);
        let mut asked = before.unwrap_or(Self { plan: *plan, left: BTreeSet::new() });
        asked.left.extend(names.into_iter().map(str::to_owned));
        site.write(NAME, asked.text().as_bytes())
    }

    /// These are confirmed. Whether nobody is left, and the site's pointer names the plan.
    pub(super) fn confirmed<'a>(
        site: &Site,
        plan: &Digest,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<bool> {
        let _alone = site.alone()?;
        let Some(mut asked) = Self::read(site)?.filter(|asked| asked.plan == *plan) else {
            advance(site, plan)?;
            return Ok(true);
        };
        for name in names {
            asked.left.remove(name);
        }
        if !asked.left.is_empty() {
            site.write(NAME, asked.text().as_bytes())?;
            return Ok(false);
        }
        advance(site, plan)?;
        let path = site.path(NAME);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(FileError::on("remove", &path)(e).into()),
        }
    }
}

fn is_ours(site: &Site, plan: &Digest) -> bool {
    site.path(&format!("plans/{}.json", plan.hex())).is_file()
}

/// Names the plan as the one that is applied, if it is one of the site's.
fn advance(site: &Site, plan: &Digest) -> Result<()> {
    if is_ours(site, plan) {
        site.write("plans/applied.network", format!("{plan}\n").as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_is_read_again_and_nothing_else_is() {
        let plan = Digest::of(b"");
        let left = ["north", "ssh://root@192.0.2.1:22"].map(str::to_owned).into();
        let asked = Asked { plan, left };
        assert_eq!(Asked::parse(&asked.text()).expect("our own"), asked);
        for (text, line) in [
            (String::new(), 1),
            ("version 2\n".into(), 1),
            ("version 1\nplan sha256:00\n".into(), 2),
            (format!("version 1\nplan {plan}\nleft \n"), 3),
            (format!("version 1\nplan {plan}\nleft a\nright b\n"), 4),
        ] {
            assert_eq!(Asked::parse(&text).expect_err("not ours").line, line, "{text}");
        }
    }

    fn site(plans: &[Digest]) -> (tempfile::TempDir, Site) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        fs::write(root.join("site.toml"), "version = 1\n").expect("written");
        fs::create_dir(root.join("plans")).expect("a directory");
        for plan in plans {
            fs::write(root.join(format!("plans/{}.json", plan.hex())), "{}").expect("written");
        }
        let site = Site::find(Some(root)).expect("a site");
        (directory, site)
    }

    #[test]
    fn a_plan_that_is_confirmed_forgets_nobody_who_was_asked_for_another() {
        let [first, second] = [Digest::of(b"1"), Digest::of(b"2")];
        let (_directory, site) = site(&[first, second]);
        Asked::begin(&site, &second, ["north"]).expect("written");
        assert!(Asked::confirmed(&site, &first, ["north"]).expect("written"));
        let asked = Asked::read(&site).expect("ours").expect("it is there");
        assert_eq!((asked.plan, asked.left.len()), (second, 1));
        assert!(Asked::confirmed(&site, &second, ["north"]).expect("written"));
        assert_eq!(Asked::read(&site).expect("ours"), None);
    }

    #[test]
    fn who_is_asked_at_the_same_time_is_in_the_list() {
        let plan = Digest::of(b"1");
        let (_directory, site) = site(&[plan]);
        let names: BTreeSet<String> = (0..32).map(|n| format!("n{n}")).collect();
        std::thread::scope(|scope| {
            for name in &names {
                let site = &site;
                scope.spawn(move || {
                    Asked::begin(site, &plan, [name.as_str()]).expect("written");
                });
            }
        });
        assert_eq!(Asked::read(&site).expect("ours").expect("it is there").left, names);
    }
}
