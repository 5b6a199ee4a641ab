//! The file that has the keeper's process id, for who looks after it with signals and without a service manager.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use common::StartError;

/// More than the number of a process and a line feed.
const CONTENT_MAX: u64 = 32;

/// The file, as long as this process keeps servers. Dropping it removes the file, unless it is another's by then.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// The file that will be put at the path, which is beside it.
    draft: PathBuf,
}

impl PidFile {
    /// Finds out that the file can be written, before anything is served. What is there already stays there.
    ///
    /// # Errors
    /// One line for the operator: also if something else is at the path than what such a file holds, which is a mistake
    /// that would be dear.
    pub(crate) fn prepare(path: &Path) -> Result<PidFile, StartError> {
        let fail = |problem: &dyn std::fmt::Display| {
            let path = path.display();
            StartError::new(format!("pid file {path}: {problem}; choose another one with --pid-file"))
        };
        let path = std::path::absolute(path).map_err(|error| fail(&error))?;
        if !may_replace(&path).map_err(|error| fail(&error))? {
            return Err(fail(&"something else is there than the number of a process"));
        }
        let Some(name) = path.file_name() else { return Err(fail(&"that is no name of a file")) };
        let draft = path.with_file_name(format!(".{}.{}", name.display(), std::process::id()));
        // One of an earlier process with the same number.
        let _none = fs::remove_file(&draft);
        let file = PidFile { path: path.clone(), draft };
        file.write_draft().map_err(|error| fail(&error))?;
        Ok(file)
    }

    fn write_draft(&self) -> io::Result<()> {
        let mut draft = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&self.draft)?;
        writeln!(draft, "{}", std::process::id())
    }

    /// Puts it at its path, whole: whoever reads it finds a process that serves. Further calls have no effect.
    ///
    /// # Errors
    /// One line for the operator.
    pub(crate) fn publish(&self) -> Result<(), StartError> {
        match fs::rename(&self.draft, &self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && is_own(&self.path) => Ok(()),
            Err(error) => Err(StartError::new(format!("pid file {}: {error}", self.path.display()))),
            Ok(()) => Ok(()),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _published = fs::remove_file(&self.draft);
        if is_own(&self.path) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Whether nothing is at the path, or what a process like this has left there.
fn may_replace(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        found => {
            let is_file = found?.is_file();
            Ok(is_file && read(path)?.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace()))
        }
    }
}

fn is_own(path: &Path) -> bool {
    read(path).is_ok_and(|content| content.trim().parse() == Ok(std::process::id()))
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CONTENT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_while_a_process_serves() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.pid");
        let names = || fs::read_dir(folder.path()).expect("listed").count();
        fs::write(&path, "99999999\n").expect("written");
        let file = PidFile::prepare(&path).expect("prepared");
        assert_eq!(read(&path).expect("read"), "99999999\n", "nothing is served yet");
        for _ in 0..2 {
            file.publish().expect("published");
            assert_eq!(read(&path).expect("read"), format!("{}\n", std::process::id()));
        }
        drop(file);
        assert_eq!(names(), 0);
        drop(PidFile::prepare(&path).expect("prepared"));
        assert_eq!(names(), 0, "it has never served");
        let file = PidFile::prepare(&path).expect("prepared");
        file.publish().expect("published");
        fs::write(&path, "1\n").expect("written");
        drop(file);
        assert_eq!(read(&path).expect("read"), "1\n", "it is another's");
    }

    #[test]
    fn what_is_no_such_file_stays() {
        let folder = tempfile::tempdir().expect("a directory");
        let [text, link, none] = ["text", "link", "none/a.pid"].map(|name| folder.path().join(name));
        fs::write(&text, "important\n").expect("written");
        std::os::unix::fs::symlink("elsewhere", &link).expect("linked");
        let device = Path::new("/dev/null");
        for (path, expected) in [
            (text.as_path(), "something else is there"),
            (&link, "something else is there"),
            (folder.path(), "something else is there"),
            (device, "something else is there"),
            (&none, "No such file or directory"),
        ] {
            let error = PidFile::prepare(path).expect_err("refused").to_string();
            assert!(error.starts_with(&format!("pid file {}: ", path.display())), "{error}");
            assert!(
                error.contains(expected) && error.ends_with("choose another one with --pid-file"),
                "{error}"
            );
        }
        assert_eq!(fs::read_to_string(&text).expect("read"), "important\n");
    }
}
