//! `bench race`: servers side by side under the same load, shown live on a page of its own.
//!
//! `racer` is a server with its load, `board` what was measured so far, `page` the little server that shows it,
//! and `footage` a race in a file. A race is something to watch, and no measurement: the servers share a CPU, and so do
//! the clients.

mod board;
mod footage;
mod page;
mod racer;

use crate::failure::{Failure, Result};
use crate::machine::placement::{Placement, pin};
use crate::nearest;
use crate::race::board::{Board, Sample, Switch};
use crate::race::footage::{Footage, Meta};
use crate::race::page::Page;
pub(crate) use crate::race::page::{SCRIPT, STYLE};
use crate::race::racer::{Load, Racer, Start};
use crate::run::corpus::Corpus;
use crate::run::interrupt::Interrupt;
use crate::run::lock::Lock;
use crate::run::options::{SEED, repository};
use crate::run::scenario::Files;
use crate::server::availability::Availability;
use crate::server::catalogue::{catalogue, named};
use crate::server::target::Target;
use crate::terminal::say;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Between two samples.
const TICK: Duration = Duration::from_millis(500);
/// A race ends by itself after this.
const TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// More wouldn't fit on the page, nor on a CPU.
const RACERS_MAX: usize = 8;
/// Requests per second for each server.
const RATE_MAX: f64 = 5_000.0;
/// Who races if nobody is named, beside those of this project.
const PEERS: [&str; 4] = ["nginx", "lighttpd", "h2o", "caddy"];

/// The arguments of `bench race`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RaceArguments {
    /// Who races [default: blocking, epoll, uring, and of nginx, lighttpd, h2o and caddy those that are installed]
    targets: Vec<String>,
    /// Requests per second for each server
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500.0, value_parser = parse_rate)]
    rate: f64,
    /// How long, at most 30 minutes
    #[arg(long = "for", value_name = "DURATION", default_value = "5m", value_parser = parse_time)]
    time: Duration,
    /// The port of the page; 0 takes any that is free
    #[arg(long, default_value_t = 8090)]
    port: u16,
    /// Makes the disk and then the readers slow by itself, a fifth of the time each
    #[arg(long)]
    tour: bool,
    /// Writes the race into this file when it is over
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Shows the race of this file, and starts nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["targets", "rate", "time", "tour", "save"])]
    replay: Option<PathBuf>,
    /// Where the files to serve are written: a folder on a disk [default: target/bench]
    #[arg(long, value_name = "DIR", env = "TRIPTYCH_BENCH_CORPUS")]
    corpus: Option<PathBuf>,
}

fn parse_rate(text: &str) -> std::result::Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate >= 1.0 && *rate <= RATE_MAX);
    rate.ok_or_else(|| format!("requests per second, from 1 to {RATE_MAX}"))
}

fn parse_time(text: &str) -> std::result::Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time <= TIME_MAX && time >= TICK { Ok(time) } else { Err("half a second to 30 minutes".to_owned()) }
}

/// Races until the time is over or somebody ends it, or shows an earlier race.
///
/// # Errors
///
/// An unknown target, a server of this project that doesn't start, a port that is taken, another run under way.
pub(crate) fn run(arguments: &RaceArguments) -> Result<()> {
    if let Some(file) = &arguments.replay {
        return replay(arguments, file);
    }
    let targets = chosen(&arguments.targets)?;
    let _lock = Lock::take()?;
    let interrupt = Interrupt::listen()?;
    let placement = Placement::choose()?;
    let home = arguments.corpus.clone().unwrap_or_else(|| repository().join("target/bench"));
    let corpus = Corpus::create(&home, SEED, [Files::Small, Files::Large, Files::Cold])?;
    pin(placement.client.first())?;
    // The servers end with this thread, so they are started here.
    let count = targets.len();
    let start = Start { corpus: &corpus, seat: placement.into(), rate: arguments.rate, of: count };
    let mut racers = Vec::with_capacity(count);
    for (number, target) in targets.iter().enumerate() {
        racers.push(Racer::start(target, number, &start)?);
    }
    let without_throttle = racers.iter().find_map(|racer| racer.without_throttle().map(str::to_owned));
    let meta = Meta::new(&targets, arguments.rate, TICK, without_throttle);
    let board = Arc::new(Board::new(&meta));
    let page = Page::open(arguments.port, Arc::clone(&board))?;
    say(&format!(
        "{} servers, {} requests per second each: http://{}/ (for {}; Ctrl-C ends it)\n",
        count,
        arguments.rate,
        page.address(),
        humantime::format_duration(arguments.time)
    ))?;
    let raced = race(arguments, &interrupt, &board, &mut racers);
    board.end();
    // Those that wait for the end of a turn have to be waited for, too.
    let ended: Vec<Result<()>> = racers.into_iter().map(Racer::stop).collect();
    if let Some(file) = &arguments.save {
        Footage { meta, samples: board.samples() }.write(file)?;
        say(&format!("saved as {}\n", file.display()))?;
    }
    raced?;
    ended.into_iter().collect()
}

/// Who races.
fn chosen(names: &[String]) -> Result<Vec<Target>> {
    let unknown = |name: &str| nearest::unknown("target", name, catalogue().iter().map(Target::id));
    let targets: Vec<Target> = if names.is_empty() {
        let usual = ["blocking", "epoll", "uring"].into_iter().chain(PEERS).filter_map(named);
        usual.filter(|target| matches!(target.find(), Availability::Found { .. })).collect()
    } else {
        names.iter().map(|name| named(name).ok_or_else(|| unknown(name))).collect::<Result<_>>()?
    };
    if targets.len() > RACERS_MAX {
        return Err(Failure::new(format!("{} servers; there is room for {RACERS_MAX}", targets.len())));
    }
    Ok(targets)
}

/// Takes a sample of everybody, tick by tick.
fn race(
    arguments: &RaceArguments,
    interrupt: &Interrupt,
    board: &Arc<Board>,
    racers: &mut [Racer],
) -> Result<()> {
    thread::scope(|scope| {
        for racer in racers.iter() {
            let loads: [fn(&Load, &Board); 3] = [Load::steadily, Load::coldly, Load::slowly];
            for load in loads {
                let its = racer.load();
                scope.spawn(move || load(&its, board));
            }
        }
        let begun = Instant::now();
        let mut next = begun + TICK;
        let sampled = loop {
            if begun.elapsed() >= arguments.time || interrupt.is_asked() {
                break Ok(());
            }
            if arguments.tour {
                tour(board, begun.elapsed().as_secs_f64() / arguments.time.as_secs_f64());
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += TICK;
            let rows: Result<Vec<_>> = racers.iter_mut().map(Racer::sample).collect();
            match rows {
                Ok(rows) => board.add(Sample {
                    seconds: (begun.elapsed().as_secs_f64() * 100.0).round() / 100.0,
                    is_disk_slow: board.is_on(Switch::Disk),
                    are_readers_slow: board.is_on(Switch::Readers),
                    rows,
                }),
                Err(failure) => break Err(failure),
            }
        };
        // Only then do the loads end, which the scope waits for.
        board.end();
        sampled
    })
}

/// What is slow when, by the part of the time that is over.
fn tour(board: &Board, part: f64) {
    board.turn(Switch::Disk, (0.2..0.4).contains(&part));
    board.turn(Switch::Readers, (0.6..0.8).contains(&part));
}

fn replay(arguments: &RaceArguments, file: &Path) -> Result<()> {
    let footage = Footage::read(file)?;
    let interrupt = Interrupt::listen()?;
    let page = Page::replay(arguments.port, &footage)?;
    say(&format!("the race in {}: http://{}/ (Ctrl-C ends it)\n", file.display(), page.address()))?;
    let begun = Instant::now();
    while !interrupt.is_asked() && begun.elapsed() < TIME_MAX {
        thread::sleep(TICK / 5);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
