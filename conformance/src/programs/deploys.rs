//! A root that is switched or replaced while it is served.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::Client;
use crate::deadline;
use crate::program::Running;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("root_is_switched", Server, root_is_switched),
    ("root_is_replaced", Server, root_is_replaced),
    ("root_that_vanishes_is_told_once", Server, root_that_vanishes_is_told_once),
    ("folder_is_mounted_over", Server, folder_is_mounted_over),
    ("rules_are_followed", Server, rules_are_followed),
];

/// A deploy is served within a second; the machine may be busy.
const SERVED_WITHIN: Duration = Duration::from_secs(3);

/// What is asked for.
const RELEASE: &str = "/release.txt";

const PATIENCE: Duration = Duration::from_secs(10);

fn release(outer: &Path, name: &str) -> Result<(), Failed> {
    fs::create_dir(outer.join(name))?;
    Ok(fs::write(outer.join(name).join("release.txt"), name)?)
}

/// Asks, on a kept connection and on new ones, until the new release is served. No request may fail, and nobody who has
/// seen the new release may see the old one again. Only where another process takes over, a connection that is kept has
/// one more answer from the one before, which says that it is the last.
fn ask_until(running: &mut Running, target: &str, old: &str, new: &str) -> Result<(), Failed> {
    let address = running.addresses(1)?[0];
    let has_keeper = running.server_id()? != running.id();
    let mut kept = Client::connect(address)?;
    let begun = Instant::now();
    let mut is_new = false;
    let mut after = 0;
    while after < 20 {
        for (client, is_kept) in [(&mut kept, true), (&mut Client::connect(address)?, false)] {
            let response = client.get(target)?;
            let is_last = response.field("connection") == Some("close");
            if is_last {
                *client = Client::connect(address)?;
            }
            let content = String::from_utf8_lossy(&response.content).into_owned();
            let may_be_old = !is_new || (has_keeper && is_kept && is_last);
            if response.status != 200 || (content != new && (content != old || !may_be_old)) {
                return Err(format!("{} {content:?}, {is_new}", response.status).into());
            }
            is_new |= content == new;
        }
        after += usize::from(is_new);
        if !is_new && begun.elapsed() > SERVED_WITHIN {
            return Err(format!("{old} is still served after {:?}", begun.elapsed()).into());
        }
    }
    Ok(())
}

fn serve(ground: Ground<'_>, root: &Path) -> Result<Running, Failed> {
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--workers", "1"])?;
    Running::start(command.arg(root))
}

/// The root is a link that leads to one release after the other; what the old one held is deleted then.
fn root_is_switched(ground: Ground<'_>) -> Outcome {
    let outer = tempfile::tempdir()?;
    let current = outer.path().join("current");
    release(outer.path(), "one")?;
    symlink("one", &current)?;
    let mut running = serve(ground, &current)?;
    ask_until(&mut running, RELEASE, "none", "one")?;
    for (old, new) in [("one", "two"), ("two", "three")] {
        release(outer.path(), new)?;
        symlink(new, outer.path().join("next"))?;
        fs::rename(outer.path().join("next"), &current)?;
        ask_until(&mut running, RELEASE, old, new)?;
        fs::remove_dir_all(outer.path().join(old))?;
        ask_until(&mut running, RELEASE, old, new)?;
    }
    running.end()?;
    DONE
}

/// Each time that the link is deleted, and what it led to is served all the while.
fn root_that_vanishes_is_told_once(ground: Ground<'_>) -> Outcome {
    let outer = tempfile::tempdir()?;
    let current = outer.path().join("current");
    release(outer.path(), "one")?;
    symlink("one", &current)?;
    let mut running = serve(ground, &current)?;
    let address = running.addresses(1)?[0];
    let line = format!("{}: root {} leads nowhere now: ", ground.program, current.display());
    let told = |running: &Running| running.errors().matches(&line).count();
    for times in 1..=2 {
        fs::remove_file(&current)?;
        deadline::within(PATIENCE, "a word on it", || told(&running) == times)?;
        // What can't be seen from outside is that nothing more is said: three more looks.
        thread::sleep(Duration::from_millis(1600));
        if Client::connect(address)?.get(RELEASE)?.content != b"one" || told(&running) != times {
            return Err(format!("it said: {}", running.errors()).into());
        }
        symlink("one", &current)?;
        thread::sleep(Duration::from_millis(1600));
    }
    running.end()?;
    DONE
}

/// Another directory is put in the root's place.
fn root_is_replaced(ground: Ground<'_>) -> Outcome {
    let outer = tempfile::tempdir()?;
    let root = outer.path().join("one");
    release(outer.path(), "one")?;
    let mut running = serve(ground, &root)?;
    ask_until(&mut running, RELEASE, "none", "one")?;
    release(outer.path(), "two")?;
    fs::rename(&root, outer.path().join("old"))?;
    fs::rename(outer.path().join("two"), &root)?;
    ask_until(&mut running, RELEASE, "one", "two")?;
    running.end()?;
    DONE
}

/// Rules appear, change, break in one line, change in place, and vanish, while a cached file is asked for on a kept
/// connection and on new ones. No request may fail, and what has been seen once is not taken back.
fn rules_are_followed(ground: Ground<'_>) -> Outcome {
    let outer = tempfile::tempdir()?;
    let root = outer.path().join("root");
    fs::create_dir(&root)?;
    fs::write(root.join("file.txt"), "file")?;
    let put = |name: &str, text: &str| -> Result<(), Failed> {
        fs::write(outer.path().join("next"), text)?;
        Ok(fs::rename(outer.path().join("next"), root.join(name))?)
    };
    let mut running = serve(ground, &root)?;
    ask_for_field(&mut running, None, None)?;
    put("_headers", "/*\n  X-Rule: one\n")?;
    ask_for_field(&mut running, None, Some("one"))?;
    put("_headers", "/*\n  Content-Length: 7\n  X-Rule: two\n")?;
    ask_for_field(&mut running, Some("one"), Some("two"))?;
    let told = || format!("{}/_headers: line 2: `Content-Length`", root.display());
    deadline::within(PATIENCE, "the line to be told", || running.errors().contains(&told()))?;
    // As an editor does that writes the same file again.
    fs::write(root.join("_headers"), "/*\n  Content-Length: 7\n  X-Rule: 333\n")?;
    ask_for_field(&mut running, Some("two"), Some("333"))?;
    deadline::within(PATIENCE, "the line to be told again", || {
        running.errors().matches(&told()).count() == 2
    })?;
    fs::remove_file(root.join("_headers"))?;
    ask_for_field(&mut running, Some("333"), None)?;
    put("_redirects", "/away /file.txt 302\n")?;
    let mut client = Client::connect(running.addresses(1)?[0])?;
    let is_redirected = || client.get("/away").is_ok_and(|response| response.status == 302);
    deadline::within(SERVED_WITHIN, "the redirect", is_redirected)?;
    running.end()?;
    DONE
}

/// Asks for `/file.txt` until it has this value of a field instead of that one.
fn ask_for_field(running: &mut Running, old: Option<&str>, new: Option<&str>) -> Result<(), Failed> {
    let address = running.addresses(1)?[0];
    let mut kept = Client::connect(address)?;
    let begun = Instant::now();
    let (mut is_new, mut after) = (false, 0);
    while after < 20 {
        for client in [&mut kept, &mut Client::connect(address)?] {
            let response = client.get("/file.txt")?;
            let value = response.field("X-Rule");
            if response.status != 200 || (value != new && (value != old || is_new)) {
                return Err(format!("{} {value:?}, {is_new}", response.status).into());
            }
            is_new = value == new;
        }
        after += usize::from(is_new);
        if !is_new && begun.elapsed() > SERVED_WITHIN {
            return Err(format!("{old:?} is still said after {:?}", begun.elapsed()).into());
        }
    }
    Ok(())
}

/// Something is mounted over a folder of which files are cached, and unmounted again. The thread and its server see a
/// mount namespace of their own.
fn folder_is_mounted_over(ground: Ground<'_>) -> Outcome {
    let in_namespace = || {
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return Ok(Completion::ignored_with("needs the right to mount"));
        }
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let outer = tempfile::tempdir()?;
        let folder = outer.path().join("folder");
        fs::create_dir(&folder)?;
        fs::write(folder.join("release.txt"), "one")?;
        let mut running = serve(ground, outer.path())?;
        ask_until(&mut running, "/folder/release.txt", "none", "one")?;
        mount(Some("two"), &folder, Some("tmpfs"), MsFlags::empty(), none)?;
        fs::write(folder.join("release.txt"), "two")?;
        ask_until(&mut running, "/folder/release.txt", "one", "two")?;
        umount2(&folder, MntFlags::MNT_DETACH)?;
        ask_until(&mut running, "/folder/release.txt", "two", "one")?;
        running.end()?;
        DONE
    };
    thread::scope(|scope| scope.spawn(in_namespace).join()).unwrap_or_else(|_| Err("it panicked".into()))
}
