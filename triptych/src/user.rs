//! The user that serves, where the keeper is root.

use common::StartError;
use nix::unistd::{Uid, User};

/// Who the serving process is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// The user of this name or number, if there is one and this process may become it. A number needs no name: containers run
/// as users that no file knows, and the group then has the same number.
pub(crate) fn look_up(name: &str) -> Result<Identity, StartError> {
    let fail = |problem: String| StartError::new(format!("--user {name}: {problem}"));
    let identity = |user: User| Identity { user: user.uid.as_raw(), group: user.gid.as_raw() };
    let mut found = User::from_name(name).map_err(|errno| fail(errno.to_string()))?.map(identity);
    if let (None, Some(number)) = (found, number(name)) {
        let known = User::from_uid(Uid::from_raw(number)).map_err(|errno| fail(errno.to_string()))?;
        found = Some(known.map_or(Identity { user: number, group: number }, identity));
    }
    let found = found.ok_or_else(|| {
        fail(
            "there is no such user; `getent passwd` lists those that there are, or write a number".to_owned(),
        )
    })?;
    if !Uid::effective().is_root() && found.user != Uid::effective().as_raw() {
        return Err(fail(format!("only root can become another user; start it as {name}")));
    }
    Ok(found)
}

/// The largest one says "no user" to the kernel (setreuid(2)).
fn number(name: &str) -> Option<u32> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|number| is_number && *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_by_name() {
        assert_eq!(look_up("root").map(|root| root.user).ok(), Uid::effective().is_root().then_some(0));
        for name in ["nobody-of-this-name", "4294967295", "4294967296", "-1", "+1", "1000:1000", ""] {
            let error = look_up(name).expect_err("no such user").to_string();
            let hint = "there is no such user; `getent passwd` lists those that there are, or write a number";
            assert_eq!(error, format!("--user {name}: {hint}"));
        }
    }

    #[test]
    fn a_number_needs_no_name() {
        if !Uid::effective().is_root() {
            let error = look_up("0").expect_err("only root").to_string();
            assert_eq!(error, "--user 0: only root can become another user; start it as 0");
            return;
        }
        let nobody = User::from_name("nobody").expect("looked up").expect("there is one");
        let by_number = look_up(&nobody.uid.to_string()).expect("found");
        assert_eq!((by_number.user, by_number.group), (nobody.uid.as_raw(), nobody.gid.as_raw()));
        let free = (60_000..65_000).find(|number| User::from_uid(Uid::from_raw(*number)) == Ok(None));
        let free = free.expect("a number without a name");
        assert_eq!(look_up(&free.to_string()).ok(), Some(Identity { user: free, group: free }));
    }
}
