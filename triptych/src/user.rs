//! The user that serves, where the keeper is root.

use common::StartError;
use nix::unistd::{Uid, User};

/// Who the serving process is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// The user of this name, if there is one and this process may become it.
pub(crate) fn look_up(name: &str) -> Result<Identity, StartError> {
    let found = User::from_name(name).map_err(|errno| StartError::new(format!("--user {name}: {errno}")))?;
    let user = found.ok_or_else(|| {
        StartError::new(format!(
            "--user {name}: there is no such user; `getent passwd` lists those that there are"
        ))
    })?;
    if !Uid::effective().is_root() && user.uid != Uid::effective() {
        return Err(StartError::new(format!(
            "--user {name}: only root can become another user; start it as {name}"
        )));
    }
    Ok(Identity { user: user.uid.as_raw(), group: user.gid.as_raw() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_by_name() {
        assert_eq!(look_up("root").map(|root| root.user).ok(), Uid::effective().is_root().then_some(0));
        let error = look_up("nobody-of-this-name").expect_err("no such user").to_string();
        assert!(error.contains("there is no such user") && !error.contains('\n'), "{error}");
    }
}
