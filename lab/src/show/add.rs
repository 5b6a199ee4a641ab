//! C15: what it costs to add one more descriptor to epoll.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use super::{Script, Stop};
use crate::limits::{descriptors_max, raise_descriptors};

/// How many are watched, at each step.
const STEPS: [usize; 5] = [64, 256, 1_024, 4_096, 16_384];

/// How many more are added at each step, and taken out again, for the median.
const SAMPLES: usize = 512;

/// Descriptors of everything else.
const SPARE: usize = 64;

/// A linear cost would grow 256-fold from the first step to the last.
const GROWTH_MAX: f64 = 4.0;

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    raise_descriptors();
    let needed = STEPS[STEPS.len() - 1] + SAMPLES + SPARE;
    if let Some(max) = descriptors_max().filter(|max| *max < needed as u64) {
        return Err(Stop(format!("it needs {needed} descriptors, and {max} are allowed (`ulimit -Hn`)")));
    }
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let others: Vec<OwnedFd> = (0..SAMPLES).map(|_| event()).collect::<Result<_, _>>()?;
    let mut watched: Vec<OwnedFd> = Vec::new();
    let mut times = Vec::new();
    for step in STEPS {
        while watched.len() < step {
            let descriptor = event()?;
            add(&epoll, &descriptor)?;
            watched.push(descriptor);
        }
        let time = median_of_additions(&epoll, &others)?;
        script.found(format_args!("{step} watched: epoll_ctl(EPOLL_CTL_ADD) takes {} ns", time.as_nanos()));
        times.push(time.as_secs_f64());
    }
    let growth = times[times.len() - 1] / times[0];
    let fold = STEPS[STEPS.len() - 1] / STEPS[0];
    script.found(format_args!("{fold} times as many, {growth:.2} times the time"));
    Ok(growth <= GROWTH_MAX)
}

fn event() -> rustix::io::Result<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

fn add(epoll: &OwnedFd, descriptor: &OwnedFd) -> rustix::io::Result<()> {
    epoll::add(epoll, descriptor, EventData::new_u64(0), EventFlags::IN)
}

/// Adds all of them, one by one, and takes them out again.
fn median_of_additions(epoll: &OwnedFd, descriptors: &[OwnedFd]) -> rustix::io::Result<Duration> {
    let mut times = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        let begun = Instant::now();
        add(epoll, descriptor)?;
        times.push(begun.elapsed());
    }
    descriptors.iter().try_for_each(|descriptor| epoll::delete(epoll, descriptor))?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
