//! The user a service runs as, found in the image's own /etc/passwd and /etc/group.

use serde::{Deserialize, Serialize};
use vyr_base::{Category, Problem};

/// Most further groups of a user; Linux takes 65,536, and an image has some ten.
const GROUPS_MAX: usize = 64;

/// A user as numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The first group's number.
    pub gid: u32,
    /// Further groups, in ascending order.
    pub groups: Vec<u32>,
    /// The home directory, if the image knows the user.
    pub home: Option<String>,
}

/// An image's /etc/passwd and /etc/group, as they are in its layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    passwd: Option<String>,
    group: Option<String>,
}

impl Accounts {
    /// Of the two files; a line that is no UTF-8 names nobody.
    pub(crate) fn of(passwd: Option<Vec<u8>>, group: Option<Vec<u8>>) -> Self {
        let text = |bytes: Vec<u8>| {
            let lines = bytes.split(|byte| *byte == b'\n');
            lines.filter_map(|line| str::from_utf8(line).ok()).collect::<Vec<_>>().join("\n")
        };
        Self { passwd: passwd.map(text), group: group.map(text) }
    }

    /// The user that is spelled as a config or a manifest does.
    ///
    /// # Errors
    /// As [`User::resolve`].
    pub fn resolve(&self, spelled: &str) -> Result<User, UserError> {
        let (passwd, group) = (self.passwd.as_deref(), self.group.as_deref());
        User::resolve(spelled, passwd.map(str::as_bytes), group.map(str::as_bytes))
    }
}

/// The image names a user that it does not have.
#[derive(Debug, thiserror::Error)]
#[error("the image runs as {what} {name:?}, which its {file} does not have")]
pub struct UserError {
    what: &'static str,
    name: String,
    file: &'static str,
}

impl Problem for UserError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("name a number in the image's USER, or add the account to the image".into())
    }
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn lines(file: Option<&[u8]>) -> impl Iterator<Item = Vec<&str>> {
    let text = file.unwrap_or_default();
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| str::from_utf8(line).ok())
        .map(|line| line.split(':').collect())
}

fn accounts(passwd: Option<&[u8]>) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|line| match line[..] {
        [name, _, uid, gid, _, home, ..] => {
            Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
        }
        _ => None,
    })
}

fn groups(group: Option<&[u8]>) -> impl Iterator<Item = (&str, u32, &str)> {
    lines(group).filter_map(|line| match line[..] {
        [name, _, gid, members, ..] => Some((name, gid.parse().ok()?, members)),
        _ => None,
    })
}

impl User {
    /// `spelled` is a config's user: empty, `NAME`, `UID`, `NAME:GROUP`, `UID:GID`. A name that is a
    /// number is that number unless an account has it as its name, as other runtimes take it.
    ///
    /// # Errors
    /// [`UserError`] if a name is not there.
    pub fn resolve(
        spelled: &str,
        passwd: Option<&[u8]>,
        group: Option<&[u8]>,
    ) -> Result<Self, UserError> {
        let (user, group_name) = match spelled.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (spelled, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let number: Option<u32> = user.parse().ok().filter(|uid| *uid != u32::MAX);
        let account = accounts(passwd)
            .find(|account| account.name == user)
            .or_else(|| accounts(passwd).find(|account| Some(account.uid) == number));
        let missing = |what, name: &str, file| UserError {
            what,
            name: super::fault::shown(name.as_bytes()),
            file,
        };
        let uid = account.as_ref().map(|account| account.uid).or(number);
        let uid = uid.ok_or_else(|| missing("user", user, "/etc/passwd"))?;
        let gid = match group_name {
            None => account.as_ref().map_or(0, |account| account.gid),
            Some(name) => groups(group)
                .find(|(known, _, _)| *known == name)
                .map(|(_, gid, _)| gid)
                .or_else(|| name.parse().ok().filter(|gid| *gid != u32::MAX))
                .ok_or_else(|| missing("group", name, "/etc/group"))?,
        };
        // A group that was named stands alone.
        let mut further: Vec<u32> = match (&account, group_name) {
            (Some(account), None) => groups(group)
                .filter(|(_, _, members)| members.split(',').any(|member| member == account.name))
                .map(|(_, gid, _)| gid)
                .filter(|further| *further != gid)
                .collect(),
            _ => Vec::new(),
        };
        further.sort_unstable();
        further.dedup();
        further.truncate(GROUPS_MAX);
        let home =
            account.map(|account| account.home.to_owned()).filter(|home| home.starts_with('/'));
        Ok(Self { uid, gid, groups: further, home })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/srv:/bin/false\n";
    const GROUP: &[u8] = b"root:x:0:\nweb:x:34:\nlogs:x:7:adm,web\nssl:x:5:web\nbad:x:y:web\n";

    fn resolve(spelled: &str) -> Option<(u32, u32, Vec<u32>)> {
        let user = User::resolve(spelled, Some(PASSWD), Some(GROUP)).ok()?;
        Some((user.uid, user.gid, user.groups))
    }

    #[test]
    fn names_and_numbers_become_numbers() {
        assert_eq!(resolve(""), Some((0, 0, vec![])));
        assert_eq!(resolve("web"), Some((33, 34, vec![5, 7])));
        assert_eq!(resolve("33"), Some((33, 34, vec![5, 7])));
        assert_eq!(resolve("web:logs"), Some((33, 7, vec![])));
        assert_eq!(resolve("1000:1000"), Some((1000, 1000, vec![])));
        assert_eq!(resolve("1000"), Some((1000, 0, vec![])));
        assert_eq!(resolve("web:"), Some((33, 34, vec![5, 7])));
    }

    #[test]
    fn who_is_not_there_is_named() {
        for (spelled, name) in [("nobody", "nobody"), ("web:nogroup", "nogroup"), ("-1", "-1")] {
            let refused = User::resolve(spelled, Some(PASSWD), Some(GROUP)).expect_err(spelled);
            assert!(refused.to_string().contains(name), "{refused}");
        }
        assert!(User::resolve("web", None, None).is_err());
        assert_eq!(resolve("4294967295"), None);
    }
}
