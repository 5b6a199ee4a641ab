//! A volume in user space: a small FUSE daemon that is a thread of the test (fuse(4)), with files of given contents.
//!
//! The kernel hands it what others do with the volume's files. The test says meanwhile how long each kind of operation
//! takes ([`Delay`]), so a volume can be slow, or dead. While an operation waits for its answer, so does the thread
//! that asked for it, whatever flags it asked with.
//!
//! A volume that is dead holds on to its clients as an NFS server that is gone does (nfs(5), `hard`): no signal but one
//! that kills ends their wait. So a server under test can always be killed, and a test that fails leaves nothing
//! behind. Dropping a [`Fuse`] closes the connection, and whoever still waits gets an error.

mod wire;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::site::MODIFIED_UNIX;
use wire::{Answer, Asked, Attributes, ROOT, Request};

pub use wire::{Op, Reads};

/// The kernel's requests are short, but it refuses a buffer that couldn't take a WRITE
/// (`FUSE_MIN_READ_BUFFER`).
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// How often to look whether those who wait for an answer are being killed.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long an operation takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    /// No longer than its answer.
    #[default]
    None,
    /// This much longer.
    For(Duration),
    /// Until the delay is set to something else.
    Forever,
}

/// How long the kernel keeps what it was told of a name, and of an inode. With zero it asks each time.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Where a name leads (`entry_valid`).
    pub entries: Duration,
    /// Size and times (`attr_valid`).
    pub attributes: Duration,
}

impl Kept {
    /// Longer than any test.
    pub const LONG: Kept = Kept { entries: Duration::from_secs(600), attributes: Duration::from_secs(600) };
    /// Not at all.
    pub const NOT: Kept = Kept { entries: Duration::ZERO, attributes: Duration::ZERO };
    /// Names, but nothing about inodes.
    pub const NAMES: Kept = Kept { attributes: Duration::ZERO, ..Kept::LONG };
}

/// A mounted volume. Dropping it unmounts it.
#[derive(Debug)]
pub struct Fuse {
    at: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the test and the daemon tell each other.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rouses the daemon.
    event: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    delays: [Delay; Op::ALL.len()],
    /// Operations that have been asked for, and those of them that were delayed.
    counts: [Count; Op::ALL.len()],
    is_over: bool,
}

/// How often an operation was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All in all.
    pub asked: usize,
    /// Those that were not answered at once.
    pub delayed: usize,
    /// Those that wait for their answer now.
    pub waiting: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rouse(&self) {
        // Can't fail: nobody adds as much as the counter takes.
        let _written = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
}

fn index(op: Op) -> usize {
    Op::ALL.iter().position(|known| *known == op).expect("all are there")
}

impl Fuse {
    /// Mounts a volume over the directory `at`, with these files. Their paths are relative; directories are made as
    /// needed.
    ///
    /// # Errors
    /// Those of open(2) for `/dev/fuse`, and of mount(2).
    pub fn mount(at: &Path, files: &[(String, Vec<u8>)], kept: Kept, reads: Reads) -> Result<Fuse, Failed> {
        let non_blocking = libc::O_NONBLOCK;
        let device = File::options().read(true).write(true).custom_flags(non_blocking).open("/dev/fuse")?;
        let options = format!(
            "fd={},rootmode={:o},user_id=0,group_id=0,allow_other",
            device.as_raw_fd(),
            wire::root_mode()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
        mount(Some("volume"), at, Some("fuse"), flags, Some(options.as_str()))?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { state: Mutex::default(), event });
        let theirs = Arc::clone(&shared);
        let daemon =
            Daemon { device, nodes: Nodes::new(files), kept, reads, shared: theirs, held: Vec::new() };
        let thread = thread::Builder::new().name("fuse".to_owned()).spawn(move || daemon.serve())?;
        Ok(Fuse { at: at.to_owned(), shared, thread: Some(thread) })
    }

    /// Sets how long an operation takes from now on. Those that have waited for ever are answered when that ends.
    pub fn delay(&self, op: Op, delay: Delay) {
        self.shared.state().delays[index(op)] = delay;
        self.shared.rouse();
    }

    /// Sets how long every operation takes.
    pub fn delay_all(&self, delay: Delay) {
        self.shared.state().delays = [delay; Op::ALL.len()];
        self.shared.rouse();
    }

    /// How often an operation was asked for.
    #[must_use]
    pub fn count(&self, op: Op) -> Count {
        self.shared.state().counts[index(op)]
    }

    /// How many operations wait for their answers now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.state().counts.iter().map(|count| count.waiting).sum()
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.rouse();
        if let Some(thread) = self.thread.take() {
            // With the thread ends the connection, so nothing waits for the volume when it is unmounted.
            let _ended = thread.join();
        }
        // Fails in a thread that has left the mount namespace, with which the mount ends anyway.
        let _unmounted = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// Files and directories; a node's number is its place, counted from [`ROOT`].
#[derive(Debug)]
struct Nodes(Vec<Node>);

#[derive(Debug)]
struct Node {
    parent: u64,
    name: Vec<u8>,
    /// Of a file; a directory has none.
    content: Option<Vec<u8>>,
}

impl Nodes {
    fn new(files: &[(String, Vec<u8>)]) -> Nodes {
        let mut nodes = Nodes(vec![Node { parent: ROOT, name: Vec::new(), content: None }]);
        for (path, content) in files {
            let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
            let mut parent = ROOT;
            for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
                parent = match nodes.find(parent, folder.as_bytes()) {
                    Some(node) => node,
                    None => nodes.add(parent, folder, None),
                };
            }
            nodes.add(parent, name, Some(content.clone()));
        }
        nodes
    }

    fn add(&mut self, parent: u64, name: &str, content: Option<Vec<u8>>) -> u64 {
        self.0.push(Node { parent, name: name.into(), content });
        self.0.len() as u64
    }

    fn children(&self, parent: u64) -> impl Iterator<Item = (u64, &Node)> {
        let numbered = (ROOT..).zip(&self.0);
        numbered.filter(move |(number, node)| node.parent == parent && *number != ROOT)
    }

    fn find(&self, parent: u64, name: &[u8]) -> Option<u64> {
        self.children(parent).find(|(_, node)| node.name == name).map(|(number, _)| number)
    }

    fn get(&self, number: u64) -> Option<&Node> {
        self.0.get(usize::try_from(number.checked_sub(ROOT)?).ok()?)
    }

    fn attributes(&self, number: u64) -> Result<Attributes, Errno> {
        let node = self.get(number).ok_or(Errno::NOENT)?;
        let (is_directory, bytes) =
            (node.content.is_none(), node.content.as_ref().map_or(0, Vec::len) as u64);
        Ok(Attributes { node: number, bytes, is_directory, modified: MODIFIED_UNIX })
    }

    fn read(&self, number: u64, (offset, length): (u64, u32)) -> Result<Answer, Errno> {
        let content = self.get(number).ok_or(Errno::NOENT)?.content.as_ref().ok_or(Errno::ISDIR)?;
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = begin.saturating_add(length as usize).min(content.len());
        Ok(Answer::bytes(&content[begin..end]))
    }

    /// Offsets are places among the directory's children.
    fn list(&self, number: u64, (offset, room): (u64, u32)) -> Result<Answer, Errno> {
        let mut answer = Answer::listing();
        for (next, (child, node)) in (1..).zip(self.children(number)) {
            if next <= offset {
                continue;
            }
            answer = match answer.dirent(&self.attributes(child)?, &node.name, next, room) {
                Ok(longer) => longer,
                Err(full) => return Ok(full),
            };
        }
        Ok(answer)
    }
}

/// An answer that waits for its time.
#[derive(Debug)]
struct Held {
    op: Op,
    unique: u64,
    /// The thread that waits.
    thread: u32,
    answer: Vec<u8>,
    /// `None`: not before it is told so.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Daemon {
    device: File,
    nodes: Nodes,
    kept: Kept,
    reads: Reads,
    shared: Arc<Shared>,
    held: Vec<Held>,
}

impl Daemon {
    /// Serves until the volume is dropped or unmounted.
    ///
    /// # Panics
    /// If the kernel refuses an answer.
    fn serve(mut self) {
        let mut buffer = vec![0; REQUEST_BYTES_MAX];
        loop {
            self.wait();
            if self.shared.state().is_over {
                return;
            }
            loop {
                match (&self.device).read(&mut buffer) {
                    Ok(length) => self.on_request(Request::parse(&buffer[..length])),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // ENOENT: the request was taken back while it was read.
                    Err(error) if is_one_of(&error, &[Errno::INTR, Errno::NOENT]) => {}
                    Err(_unmounted) => return,
                }
            }
            self.answer_due();
        }
    }

    /// Waits for a request, for word from the test, or for the time of an answer.
    fn wait(&self) {
        let now = Instant::now();
        let due = self.held.iter().filter_map(|held| held.due).min();
        let due = due.map(|due| due.saturating_duration_since(now));
        let look = (!self.held.is_empty()).then_some(LOOK_INTERVAL);
        let timeout = [due, look].into_iter().flatten().min();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut sources =
            [PollFd::new(&self.device, PollFlags::IN), PollFd::new(&self.shared.event, PollFlags::IN)];
        // Whatever comes of it, the sources are looked at.
        let _ready = poll(&mut sources, timeout.as_ref());
        let _cleared = rustix::io::read(&self.shared.event, &mut [0; 8]);
    }

    fn on_request(&mut self, request: Request<'_>) {
        match request.asked {
            Asked::Init => self.send(&Answer::init(self.reads).finish(request.unique)),
            Asked::Op(op) => {
                let answer = match self.answer(op, &request) {
                    Ok(answer) => answer.finish(request.unique),
                    Err(errno) => wire::refusal(errno, request.unique),
                };
                self.send_in_time(op, &request, answer);
            }
            Asked::Notice => {}
            Asked::Unknown => self.send(&wire::refusal(Errno::NOSYS, request.unique)),
        }
    }

    fn answer(&self, op: Op, request: &Request<'_>) -> Result<Answer, Errno> {
        let Request { node, .. } = *request;
        match op {
            Op::Lookup => {
                let found = self.nodes.find(node, request.name()).ok_or(Errno::NOENT)?;
                let attributes = self.nodes.attributes(found)?;
                Ok(Answer::entry(&attributes, self.kept.entries, self.kept.attributes))
            }
            Op::Getattr => Ok(Answer::attr(&self.nodes.attributes(node)?, self.kept.attributes)),
            Op::Open => Ok(Answer::open(self.reads)),
            Op::Opendir => Ok(Answer::open(Reads::Ahead)),
            Op::Read => self.nodes.read(node, request.range()),
            Op::Readdir => self.nodes.list(node, request.range()),
            Op::Statfs => Ok(Answer::statfs()),
            Op::Release | Op::Flush | Op::Releasedir => Ok(Answer::done()),
        }
    }

    /// Sends the answer, or keeps it for as long as its operation takes.
    fn send_in_time(&mut self, op: Op, request: &Request<'_>, answer: Vec<u8>) {
        let delay = {
            let mut state = self.shared.state();
            let delay = state.delays[index(op)];
            let count = &mut state.counts[index(op)];
            count.asked += 1;
            count.delayed += usize::from(delay != Delay::None);
            count.waiting += usize::from(delay != Delay::None);
            delay
        };
        let due = match delay {
            Delay::None => return self.send(&answer),
            Delay::For(duration) => Some(Instant::now() + duration),
            Delay::Forever => None,
        };
        self.held.push(Held { op, unique: request.unique, thread: request.thread, answer, due });
    }

    /// Sends the answers whose time has come, and refusals to those who are being killed.
    fn answer_due(&mut self) {
        let now = Instant::now();
        let delays = self.shared.state().delays;
        for held in std::mem::take(&mut self.held) {
            let is_due = match held.due {
                Some(due) => due <= now,
                None => delays[index(held.op)] != Delay::Forever,
            };
            if !is_due && !is_ending(held.thread) {
                self.held.push(held);
                continue;
            }
            self.shared.state().counts[index(held.op)].waiting -= 1;
            if is_due {
                self.send(&held.answer);
            } else {
                self.send(&wire::refusal(Errno::INTR, held.unique));
            }
        }
    }

    fn send(&self, answer: &[u8]) {
        match (&self.device).write(answer) {
            Ok(_) => {}
            // Nobody waits for it any more, or the volume is unmounted.
            Err(error) if is_one_of(&error, &[Errno::NOENT, Errno::NODEV]) => {}
            Err(error) => panic!("the kernel refuses an answer of {} bytes: {error}", answer.len()),
        }
    }
}

fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| errnos.contains(&errno))
}

/// Whether a thread is being killed, or has been: its fields 9, flags, and 31, pending signals (proc_pid_stat(5)).
///
/// The kernel tells of signals only once, of any signal, and not at all while a thread closes what it had open.
fn is_ending(thread: u32) -> bool {
    /// `PF_EXITING` (`include/linux/sched.h`)
    const EXITING: u64 = 4;
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    if thread == 0 {
        return false;
    }
    let Ok(stat) = fs::read_to_string(format!("/proc/{thread}/stat")) else { return true };
    // The second field is a name in parentheses, which may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
    field(9).is_some_and(|flags| flags & EXITING != 0) || field(31).is_some_and(|signals| signals & KILL != 0)
}
