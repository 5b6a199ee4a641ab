//! C6: a ring and files that aren't in memory.

use std::fs;
use std::io::{ErrorKind, IoSliceMut, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use common::{FileRange, OpenFile, SharedFile, Token, Volume};
use rustix::fs::{Advice, Mode, OFlags, fadvise, fsync, open};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use uring::ring::{Completion, Options, Ring};

use super::calls::number;
use super::{Script, Stop};

/// Where temporary files are on a disk, if anywhere.
const FOLDERS: [&str; 3] = ["/var/tmp", ".", "/tmp"];
const FILE_BYTES: usize = 256 * 1024;
/// A file whose file system can't say that it would have to wait.
const UNWILLING: &str = "/proc/self/status";

/// Whoever waits longer than this waits for ever.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    let options = Options { submissions: 8, completions: 16, receive_buffers: 1, ..Options::default() };
    let mut ring = Ring::new(&options).map_err(|refusal| Stop(refusal.to_string()))?;
    let cold = FOLDERS.iter().find_map(|folder| cold_file(script, folder));
    let cold = cold.ok_or_else(|| Stop("no folder for temporary files is on a disk".to_owned()))?;
    let before = workers()?;
    let count = read(script, &mut ring, cold, FILE_BYTES as u64)?;
    let of_the_disk = workers()? - before;
    script.found(format_args!("threads of the kernel that do this ring's work: {of_the_disk}"));
    let file = open(UNWILLING, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    script.called(format!("open({UNWILLING:?}, O_RDONLY)"), Ok(number(&file)))?;
    read(script, &mut ring, file, 64)?;
    let of_the_other = workers()? - before;
    script.found(format_args!("threads of the kernel that do this ring's work: {of_the_other}"));
    Ok(count == FILE_BYTES && of_the_disk == 0 && of_the_other > 0)
}

/// A nameless file that the page cache has forgotten; `None` where it is kept in memory only, or can't be made.
fn cold_file(script: &mut Script, folder: &str) -> Option<OwnedFd> {
    let made =
        open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR).ok()?;
    let mut file = fs::File::from(made);
    file.write_all(&vec![b'x'; FILE_BYTES]).ok()?;
    fsync(&file).ok()?;
    fadvise(&file, 0, None, Advice::DontNeed).ok()?;
    let found = preadv2(&file, &mut [IoSliceMut::new(&mut [0; 1])], 0, ReadWriteFlags::NOWAIT);
    if found != Err(Errno::AGAIN) {
        return None;
    }
    script.found(format_args!("a file of {FILE_BYTES} bytes in {folder}, brought to the disk and evicted"));
    let _told = script.called(format!("preadv2({}, 1 byte, RWF_NOWAIT)", number(&file)), found);
    Some(file.into())
}

/// Reads from the beginning of a file through the ring, and says how many bytes came.
fn read(script: &mut Script, ring: &mut Ring, file: OwnedFd, length: u64) -> Result<usize, Stop> {
    let name = number(&file);
    let file = Arc::new(SharedFile::new(OpenFile::new(file, Volume::Local, 0)));
    ring.read(Token { slot: 0, generation: 0 }, &FileRange { file: &file, offset: 0, length });
    ring.submit_and_wait(Some(PATIENCE))?;
    let Some(Completion::Read { result, .. }) = ring.completion() else {
        return Err(Stop("no completion of the read came".to_owned()));
    };
    let count = result?.len();
    script.found(format_args!("IORING_OP_READ({name}, {length} bytes): completion, res = {count}"));
    Ok(count)
}

/// The kernel's threads that work for rings of the calling thread. One that has nothing to do stays for five seconds.
fn workers() -> Result<usize, Stop> {
    let name = format!("iou-wrk-{}", rustix::thread::gettid());
    let mut count = 0;
    for task in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(task?.path().join("comm")) {
            Ok(found) => count += usize::from(found.trim_end() == name),
            // It has ended meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}
