//! The script: the calls of a scene, in their order, with what they returned.

use std::fmt::Display;

use nix::errno::Errno as Name;
use rustix::io::Errno;

/// What has been called.
#[derive(Debug, Default)]
pub struct Script {
    pub(super) lines: Vec<String>,
}

impl Script {
    /// A call and what it returned, which it passes on.
    pub(super) fn called<T: Display>(
        &mut self,
        call: impl Display,
        result: Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.lines.push(match &result {
            Ok(value) => format!("{call} = {value}"),
            Err(errno) => format!("{call} = -1 {:?}", Name::from_raw(errno.raw_os_error())),
        });
        result
    }

    /// Something that was found out without a system call.
    pub(super) fn found(&mut self, what: impl Display) {
        self.lines.push(format!("# {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_written_down_as_they_returned() {
        let mut script = Script::default();
        assert_eq!(script.called("read(3, 4)", Ok(4)), Ok(4));
        assert_eq!(script.called("read(3, 4)", Err::<usize, _>(Errno::AGAIN)), Err(Errno::AGAIN));
        script.found("nothing is left");
        assert_eq!(script.lines, ["read(3, 4) = 4", "read(3, 4) = -1 EAGAIN", "# nothing is left"]);
    }
}
