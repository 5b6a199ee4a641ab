//! Changes the files, one change at a time, and records each.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::ledger::{Entry, Size, State, Subject, What};

/// The folders of the site, each with the name that is renamed to remove it.
pub(super) const FOLDERS: [(&str, &str); 4] = [("a", "a"), ("b", "b"), ("c/deep", "c/deep"), ("d/deep", "d")];

/// The number of files of each size in all folders.
pub(super) const FILES: [(Size, u32); 3] = [(Size::Small, 28), (Size::Medium, 16), (Size::Large, 4)];

/// The minimum size of each class, and the exclusive maximum.
fn bounds(size: Size) -> (u64, u64) {
    match size {
        Size::Small => (1, 60 << 10),
        Size::Medium => (64 << 10, 1 << 20),
        Size::Large => (10 << 20, (10 << 20) + 4096),
    }
}

/// The pause between two changes, in microseconds.
const PAUSE: (u64, u64) = (2_000, 30_000);

/// The files of a site.
#[derive(Debug)]
pub(super) struct Grounds {
    /// The site's root.
    pub(super) root: PathBuf,
    /// All files.
    pub(super) subjects: Vec<Subject>,
    /// Whether file permissions apply to the servers.
    pub(super) permissions_count: bool,
}

impl Grounds {
    /// Creates the site.
    pub(super) fn lay_out(root: &Path, permissions_count: bool) -> io::Result<Grounds> {
        let mut subjects = Vec::new();
        for (size, count) in FILES {
            for _ in 0..count {
                let id = u32::try_from(subjects.len()).map_err(io::Error::other)?;
                let (folder, _) = FOLDERS[subjects.len() % FOLDERS.len()];
                let name = format!("{folder}/{id}.bin");
                subjects.push(Subject::new(id, root.join(&name), format!("/{name}"), size));
            }
        }
        for (folder, _) in FOLDERS {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::create_dir_all(root.join(".away"))?;
        Ok(Grounds { root: root.to_path_buf(), subjects, permissions_count })
    }

    fn in_folder(&self, folder: usize) -> impl Iterator<Item = &Subject> {
        self.subjects.iter().skip(folder).step_by(FOLDERS.len())
    }
}

/// A way to change an existing file, and its share of all changes in percent.
type Kind<'a> = (u64, fn(&mut Mutator<'a>, &Subject) -> io::Result<()>);

/// Changes the files of a site.
pub(super) struct Mutator<'a> {
    grounds: &'a Grounds,
    dice: Dice,
    /// The content of each folder that is currently renamed.
    away: [Option<Vec<Option<What>>>; FOLDERS.len()],
    /// The number of changes so far.
    changes: &'a AtomicU64,
}

/// What can be observed while the change is in progress.
#[derive(Clone, Copy, Default)]
struct Effect {
    gradual: bool,
    cut: Option<u64>,
}

impl<'a> Mutator<'a> {
    const KINDS: [Kind<'a>; 8] = [
        (27, Self::overwrite),
        (27, Self::replace),
        (10, Self::delete),
        (9, Self::rewrite),
        (8, Self::truncate),
        (8, Self::append),
        (6, Self::forbid),
        (5, Self::burst),
    ];

    pub(super) fn new(grounds: &'a Grounds, seed: u64, changes: &'a AtomicU64) -> Mutator<'a> {
        Mutator { grounds, dice: Dice::new(seed, 0), away: [const { None }; FOLDERS.len()], changes }
    }

    /// Changes files until the test is over, then restores missing ones.
    pub(super) fn run(&mut self, over: &AtomicBool) -> io::Result<()> {
        self.restore()?;
        while !over.load(Relaxed) {
            self.step()?;
            let (least, end) = PAUSE;
            thread::sleep(Duration::from_micros(self.dice.between(least, end)));
        }
        self.restore()
    }

    /// Restores all missing files.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        for folder in 0..FOLDERS.len() {
            if self.away[folder].is_some() {
                self.bring_back(folder)?;
            }
        }
        for subject in &self.grounds.subjects {
            let now = subject.history().now().cloned();
            match now {
                Some(What::File(_)) => {}
                Some(What::Forbidden) => self.allow(subject)?,
                Some(What::Absent) | None => self.replace(subject)?,
            }
        }
        Ok(())
    }

    fn step(&mut self) -> io::Result<()> {
        if let Some(folder) = self.away.iter().position(Option::is_some)
            && self.dice.percent(15)
        {
            return self.bring_back(folder);
        }
        let chance = self.dice.between(0, 1000);
        if chance < 20 {
            let folder =
                usize::try_from(self.dice.between(0, FOLDERS.len() as u64)).map_err(io::Error::other)?;
            return if self.away[folder].is_none() { self.take_away(folder) } else { Ok(()) };
        }
        let size = match chance {
            20..40 => Size::Large,
            40..300 => Size::Medium,
            _ => Size::Small,
        };
        let of_size: Vec<_> = self.grounds.subjects.iter().filter(|subject| subject.size == size).collect();
        let subject = *self.dice.pick(&of_size);
        if self.away[subject.id as usize % FOLDERS.len()].is_some() {
            return Ok(());
        }
        let now = subject.history().now().cloned();
        match now {
            Some(What::File(_)) => self.change(subject),
            Some(What::Forbidden) => self.allow(subject),
            Some(What::Absent) | None if self.dice.percent(50) => self.create(subject),
            Some(What::Absent) | None => self.replace(subject),
        }
    }

    fn change(&mut self, subject: &Subject) -> io::Result<()> {
        let mut chance = self.dice.between(0, 100);
        for (share, change) in Self::KINDS {
            if chance < share {
                return change(self, subject);
            }
            chance -= share;
        }
        Ok(())
    }

    fn some_size(&mut self, subject: &Subject) -> u64 {
        let (least, end) = bounds(subject.size);
        self.dice.between(least, end)
    }

    /// Makes a change and records it before anyone can judge its effects.
    fn record(
        &self,
        subject: &Subject,
        change: &'static str,
        effect: Effect,
        carry_out: impl FnOnce() -> io::Result<What>,
    ) -> io::Result<()> {
        let mut history = subject.history();
        let begun = Instant::now();
        let what = carry_out()?;
        let settled = Instant::now();
        let Effect { gradual, cut } = effect;
        history.push(Entry { change, what, begun, settled, gradual, cut, superseded: None });
        self.changes.fetch_add(1, Relaxed);
        Ok(())
    }

    fn bytes(subject: &Subject, version: u32, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let count = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
        Ok(subject.pattern(version).bytes(start, count))
    }

    fn state(subject: &Subject) -> io::Result<State> {
        match subject.history().now() {
            Some(What::File(state)) => Ok(state.clone()),
            other => Err(io::Error::other(format!("{} is {other:?}", subject.target))),
        }
    }

    /// Overwrites the file in place with other content of the same size.
    fn overwrite(&mut self, subject: &Subject) -> io::Result<()> {
        let size = Self::state(subject)?.size;
        let version = subject.history().next_version();
        let bytes = Self::bytes(subject, version, 0, size)?;
        self.record(subject, "overwritten", Effect::default(), || {
            let file = File::options().write(true).open(&subject.path)?;
            file.write_all_at(&bytes, 0)?;
            Ok(What::File(State::new(&file.metadata()?, version)))
        })
    }

    fn burst(&mut self, subject: &Subject) -> io::Result<()> {
        (0..3).try_for_each(|_| self.overwrite(subject))
    }

    /// Replaces the file atomically.
    pub(super) fn replace(&mut self, subject: &Subject) -> io::Result<()> {
        let version = subject.history().next_version();
        let bytes = Self::bytes(subject, version, 0, self.some_size(subject))?;
        let next = self.grounds.root.join(".next");
        fs::write(&next, bytes)?;
        fs::set_permissions(&next, Permissions::from_mode(0o644))?;
        self.record(subject, "replaced", Effect::default(), || {
            fs::rename(&next, &subject.path)?;
            Ok(What::File(State::new(&fs::metadata(&subject.path)?, version)))
        })
    }

    /// Truncates the file, then writes it piece by piece.
    fn rewrite(&mut self, subject: &Subject) -> io::Result<()> {
        self.write_anew(subject, "emptied and written", Effect { gradual: true, cut: Some(0) })
    }

    /// Creates a file that grows under its final name.
    fn create(&mut self, subject: &Subject) -> io::Result<()> {
        self.write_anew(subject, "created", Effect { gradual: true, cut: None })
    }

    fn write_anew(&mut self, subject: &Subject, change: &'static str, effect: Effect) -> io::Result<()> {
        const PIECE_BYTES: usize = 128 << 10;
        let version = subject.history().next_version();
        let bytes = Self::bytes(subject, version, 0, self.some_size(subject))?;
        self.record(subject, change, effect, || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&subject.path)?;
            bytes.chunks(PIECE_BYTES).try_for_each(|piece| file.write_all(piece))?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            Ok(What::File(State::new(&file.metadata()?, version)))
        })
    }

    fn delete(&mut self, subject: &Subject) -> io::Result<()> {
        self.record(subject, "deleted", Effect::default(), || {
            fs::remove_file(&subject.path)?;
            Ok(What::Absent)
        })
    }

    fn truncate(&mut self, subject: &Subject) -> io::Result<()> {
        let state = Self::state(subject)?;
        let left = self.dice.between(state.size / 2, state.size.max(1));
        self.record(subject, "cut", Effect { gradual: true, cut: Some(left) }, || {
            let file = File::options().write(true).open(&subject.path)?;
            file.set_len(left)?;
            Ok(What::File(State::new(&file.metadata()?, state.version)))
        })
    }

    fn append(&mut self, subject: &Subject) -> io::Result<()> {
        let state = Self::state(subject)?;
        let (_, end) = bounds(subject.size);
        let size = self.dice.between(state.size, end.max(state.size + 1)) + 1;
        let bytes = Self::bytes(subject, state.version, state.size, size)?;
        self.record(subject, "appended to", Effect { gradual: true, cut: None }, || {
            let file = File::options().write(true).open(&subject.path)?;
            file.write_all_at(&bytes, state.size)?;
            Ok(What::File(State::new(&file.metadata()?, state.version)))
        })
    }

    /// Makes the file unreadable, except to root.
    fn forbid(&mut self, subject: &Subject) -> io::Result<()> {
        let state = Self::state(subject)?;
        let forbidden = self.grounds.permissions_count;
        self.record(subject, "made unreadable", Effect::default(), || {
            fs::set_permissions(&subject.path, Permissions::from_mode(0o0))?;
            let state = State::new(&fs::metadata(&subject.path)?, state.version);
            Ok(if forbidden { What::Forbidden } else { What::File(state) })
        })
    }

    fn allow(&mut self, subject: &Subject) -> io::Result<()> {
        // Permissions change no content. The version is that of the last entry with a state.
        let version = subject.history().entries().rev().find_map(|entry| Some(entry.state()?.version));
        let version = version.ok_or_else(|| io::Error::other("a file that never was there"))?;
        self.record(subject, "made readable", Effect::default(), || {
            fs::set_permissions(&subject.path, Permissions::from_mode(0o644))?;
            Ok(What::File(State::new(&fs::metadata(&subject.path)?, version)))
        })
    }

    fn place_away(&self, folder: usize) -> (PathBuf, PathBuf) {
        let (_, renamed) = FOLDERS[folder];
        (self.grounds.root.join(renamed), self.grounds.root.join(".away").join(folder.to_string()))
    }

    /// Renames a folder, so that its files are missing.
    fn take_away(&mut self, folder: usize) -> io::Result<()> {
        let (here, away) = self.place_away(folder);
        let kept = self.move_folder(folder, "folder renamed", &here, &away, |_| Some(What::Absent))?;
        self.away[folder] = Some(kept);
        Ok(())
    }

    fn bring_back(&mut self, folder: usize) -> io::Result<()> {
        let (here, away) = self.place_away(folder);
        let mut kept = self.away[folder].take().unwrap_or_default().into_iter();
        self.move_folder(folder, "folder renamed back", &away, &here, |_| kept.next().flatten())?;
        Ok(())
    }

    /// Renames a folder while holding the histories of all its files; returns their previous states.
    fn move_folder(
        &self,
        folder: usize,
        change: &'static str,
        from: &Path,
        to: &Path,
        mut then: impl FnMut(&Subject) -> Option<What>,
    ) -> io::Result<Vec<Option<What>>> {
        let mut books: Vec<_> =
            self.grounds.in_folder(folder).map(|subject| (subject, subject.history())).collect();
        let begun = Instant::now();
        fs::rename(from, to)?;
        let settled = Instant::now();
        let before = books.iter().map(|(_, history)| history.now().cloned()).collect();
        for (subject, history) in &mut books {
            if let Some(what) = then(subject) {
                let entry =
                    Entry { change, what, begun, settled, gradual: false, cut: None, superseded: None };
                history.push(entry);
            }
        }
        self.changes.fetch_add(1, Relaxed);
        Ok(before)
    }
}
