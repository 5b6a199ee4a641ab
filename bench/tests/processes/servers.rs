//! What holds for every server under test, whoever wrote it.

use bench::load::class::{Class, Life, Pacing, ReadPace};
use bench::load::engine::Engine;
use bench::machine::placement::{LoadFrom, Placement, Topology};
use bench::run::corpus::Corpus;
use bench::run::scenario::Files;
use bench::run::trial::asks;
use bench::server::calls::{self, Counting};
use bench::server::catalogue;
use bench::server::gate;
use bench::server::process::{Server, Start};
use bench::server::target::{Backend, Family, Mechanism, Target};
use libtest_mimic::Failed;
use perf_event::events::Software;
use perf_event::{Builder, Counter};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A test of any server.
pub(crate) type Test = fn(&Target, &Corpus) -> Result<(), Failed>;

/// What every server has to pass.
pub(crate) const FOR_ALL: [(&str, Test); 5] = [
    ("passes_the_gate_on_its_cpu_and_ends", passes_the_gate_on_its_cpu_and_ends),
    ("cost_grows_with_the_work", cost_grows_with_the_work),
    ("threads_and_connections_take_memory", threads_and_connections_take_memory),
    ("a_death_in_mid_load_is_told", a_death_in_mid_load_is_told),
    ("thousands_of_connections_fit", thousands_of_connections_fit),
];

/// What every server has to pass where the kernel counts calls.
pub(crate) const FOR_COUNTED: [(&str, Test); 1] = [("calls_are_counted", calls_are_counted)];

const LOAD: Duration = Duration::from_millis(400);
const CONNECTIONS: usize = 16;
/// The client rests for less time than it takes to answer half of them, so the server seldom sleeps.
const BUSY: usize = 256;
/// What a context switch to the idle loop takes at most, from one account to the other.
const SWITCH: Duration = Duration::from_micros(5);
/// What it takes at most to start all counters of a thread that runs again.
const START: Duration = Duration::from_micros(20);
/// Beside a busy one, and far above what servers take by default.
const CROWD: usize = 2_000;
/// As far as a set of select(2) goes: descriptors up to 1,023, some of which are no connections.
const CROWD_OF_SELECT: usize = 1_000;

/// The server over the corpus. A null server answers as epoll does for the small file.
pub(crate) fn start(target: &Target, root: &Path, counting: Counting) -> Result<Server, Failed> {
    let target = match target.family() {
        Family::Null(_) => {
            let epoll = start(&catalogue::ours(Backend::Epoll), root, Counting::Cost)?;
            let constant = gate::learn(epoll.address(), b"GET /1KiB.bin HTTP/1.1\r\nHost: a\r\n\r\n")?;
            epoll.stop()?;
            target.clone().answering(constant)
        }
        Family::Ours(_) | Family::Lab | Family::Peer => target.clone(),
    };
    match Server::start(&target, root, Placement::choose()?, counting)? {
        Start::Running(server) => Ok(server),
        Start::Unavailable(reason) => Err(reason.into()),
    }
}

/// Whether a process is there that isn't just waiting for its parent to look.
pub(crate) fn lives(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    status.is_ok_and(|text| !text.contains("\nState:\tZ"))
}

fn passes_the_gate_on_its_cpu_and_ends(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    let placement = Placement::choose()?;
    let server = start(target, corpus.root(), Counting::Cost)?;
    let is_asked = |asked| target.family() != Family::Lab || asked == files(target);
    gate::pass(target, server.address(), corpus, is_asked)?;
    let threads = server.threads()?;
    assert!(threads.iter().all(|thread| thread.is_pinned_to(placement.server)), "{threads:?}");
    let processes = server.processes();
    assert_eq!(processes[0], server.id());
    let (address, begun) = (server.address(), Instant::now());
    server.stop()?;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(!processes.into_iter().any(lives));
    // The kernel lets go of what a ring holds a moment after the process has ended.
    while TcpStream::connect(address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "somebody still listens");
    }
    Ok(())
}

/// Why no server can have two CPUs here.
pub(crate) fn too_few_cpus() -> Option<String> {
    let most = Topology::look().map_or(0, |topology| topology.workers_max(LoadFrom::HereShared));
    (most < 2).then(|| "this process may run on one CPU alone".to_owned())
}

/// As many workers as CPUs, and all of its threads on these.
pub(crate) fn has_a_worker_for_each_cpu(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    let topology = Topology::look()?;
    let mut counts = Vec::new();
    for workers in [1, 2] {
        let placement = topology.place(workers, LoadFrom::HereShared).ok_or("too few CPUs")?;
        assert_eq!(placement.server.count(), workers);
        let server = Server::start(target, corpus.root(), placement, Counting::Cost)?;
        let Start::Running(server) = server else { return Err("it doesn't run".into()) };
        gate::pass(target, server.address(), corpus, |_| true)?;
        let threads = server.threads()?;
        let astray: Vec<_> = threads.iter().filter(|thread| !thread.is_pinned_to(placement.server)).collect();
        assert!(astray.is_empty(), "{astray:?}");
        counts.push(threads.len());
        server.stop()?;
    }
    assert!(counts[1] > counts[0], "threads with one and with two workers: {counts:?}");
    Ok(())
}

/// Asks for the small file in a closed loop.
struct Client {
    engine: Engine,
}

/// What a client has met with.
struct Met {
    answers: u64,
    errors: u64,
    elapsed: Duration,
}

impl Client {
    fn load(&mut self, window: Duration) -> Result<Met, Failed> {
        let outcome = self.engine.run(window, None)?;
        let class = &outcome.classes[0];
        Ok(Met { answers: class.answers, errors: class.error_count(), elapsed: outcome.elapsed })
    }
}

/// What it can be asked for: the lab has no files, and one answer.
fn files(target: &Target) -> Files {
    if target.family() == Family::Lab { Files::Constant } else { Files::Small }
}

fn small_client(
    target: &Target,
    server: &Server,
    corpus: &Corpus,
    connections: usize,
) -> Result<Client, Failed> {
    let class = Class {
        name: "hot".to_owned(),
        connections,
        pacing: Pacing::Closed,
        life: Life::KeepAlive,
        reading: ReadPace::AtOnce,
        asks: asks(corpus.entries(files(target)), files(target), server.address()),
    };
    Ok(Client { engine: Engine::connect(server.address(), vec![class], 1)? })
}

fn cost_grows_with_the_work(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    let server = start(target, corpus.root(), Counting::Cost)?;
    let mut client = small_client(target, &server, corpus, CONNECTIONS)?;
    client.load(Duration::from_millis(50))?;
    let before = server.cost()?;
    assert!(before.cpu > Duration::ZERO);
    let outcome = client.load(LOAD)?;
    let cost = server.cost()? - before;
    let answers = outcome.answers as f64;
    let cpu = cost.cpu.as_secs_f64();
    // Two system calls take a microsecond, and one CPU can't be used for longer than it was there. Whoever is still
    // busy afterwards pays for that, too.
    assert!(cpu > answers * 1e-6, "{cpu} s for {answers} answers");
    assert!(cpu < outcome.elapsed.as_secs_f64() + 0.05, "{cpu} s in {:?}", outcome.elapsed);
    // Two looks at the same account, one exact, one a sample with ticks of 10 ms.
    let sampled = (cost.user + cost.system).as_secs_f64();
    assert!((sampled - cpu).abs() < 0.05 + 0.05 * cpu, "{sampled} s by ticks, {cpu} s by clocks");
    assert!(server.device_reads().is_some());
    Ok(server.stop()?)
}

fn threads_and_connections_take_memory(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    let server = start(target, corpus.root(), Counting::Cost)?;
    let threads = server.threads()?.len() as u64;
    let memory = server.memory();
    assert!(memory.user? > 100 * 1024);
    assert!(memory.page_tables? > 0);
    assert!(memory.kernel_stacks? >= threads * 4096);
    let (_buffers, _slabs) = (memory.socket_buffers?, memory.slabs?);
    Ok(server.stop()?)
}

fn a_death_in_mid_load_is_told(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    let server = start(target, corpus.root(), Counting::Cost)?;
    let processes = server.processes();
    let mut client = small_client(target, &server, corpus, 2)?;
    client.load(Duration::from_millis(20))?;
    assert_eq!(server.ended(), None);
    for process in &processes {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*process)?).ok_or("no process")?;
        // nginx's master ends its worker itself, if it is quicker.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    assert!(client.load(Duration::from_millis(200)).map_or(true, |met| met.errors > 0));
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.ended().is_none() {
        assert!(Instant::now() < deadline, "nobody has noticed");
    }
    let failure = server.stop().err().ok_or("it ended well")?.to_string();
    assert!(failure.starts_with(&format!("{target} ended by itself: signal: 9")), "{failure}");
    assert!(!processes.into_iter().any(lives));
    Ok(())
}

fn thousands_of_connections_fit(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    let server = start(target, corpus.root(), Counting::Cost)?;
    let size = if target.id() == "lab-select" { CROWD_OF_SELECT } else { CROWD };
    let mut crowd = small_client(target, &server, corpus, size)?;
    // Each of them is answered at least once, so none waits in the backlog.
    let outcome = crowd.load(Duration::from_millis(100))?;
    assert!(outcome.answers >= size as u64);
    drop(crowd);
    Ok(server.stop()?)
}

fn calls_are_counted(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    let server = start(target, corpus.root(), Counting::Calls)?;
    let mut client = small_client(target, &server, corpus, CONNECTIONS)?;
    client.load(Duration::from_millis(50))?;
    let (cost, calls) = (server.cost()?, server.calls());
    let outcome = client.load(LOAD)?;
    let (cost, calls) = (server.cost()? - cost, server.calls() - &calls);
    let (total, by_name) = (calls.total?, calls.by_name?);
    // The counters are read one after the other, and whoever never waits makes calls meanwhile.
    assert!(by_name.values().sum::<u64>().abs_diff(total) * 1_000 <= total, "{by_name:?}, {total} in all");
    assert!(by_name.get("other").copied().unwrap_or_default() * 20 <= total, "{by_name:?}");
    let rings = calls.ring_submissions?;
    match target.family() {
        // A ring with one operation at a time may have a worker for it.
        Family::Lab if target.id().contains("uring") => assert!(rings >= outcome.answers),
        // Whoever asks round and round, or is on a thread of the kernel's, makes as many calls as it likes.
        Family::Lab => assert_eq!(rings, 0),
        Family::Ours(Backend::Uring) | Family::Null(Mechanism::Uring) => {
            assert!(rings >= outcome.answers, "{rings} submissions, {} answers", outcome.answers);
            assert!(calls.ring_completions? >= outcome.answers);
            assert_eq!(calls.ring_punts?, 0);
            assert!(by_name.contains_key("io_uring_enter"), "{by_name:?}");
        }
        Family::Ours(_) | Family::Null(_) | Family::Peer => {
            assert!(total >= 2 * outcome.answers, "{total} calls, {} answers", outcome.answers);
            assert_eq!(rings, 0);
        }
    }
    let switches = calls.context_switches?;
    assert!(switches > 0);
    // At each switch the clocks have what it takes to start the other counters, and the counters what it takes to stop them.
    let (clock, counter) = (cost.cpu.as_secs_f64(), calls.task_clock?.as_secs_f64());
    let starting = switches as f64 * START.as_secs_f64();
    assert!(
        counter > 0.95 * clock - starting && counter < 2.0 * clock,
        "{clock} s by the clocks, {counter} s by the counters, {switches} switches"
    );
    Ok(server.stop()?)
}

/// Two accounts of the same processes by the kernel: counters on each, as perf-stat(1) has them, and their clocks.
///
/// They agree within 5 % but for the context switches: from the moment at which a thread is taken off its clock
/// until it is taken off its counter the kernel looks for another to run, on other CPUs too before it goes idle.
pub(crate) fn the_clocks_agree_with_perf(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    let server = start(target, corpus.root(), Counting::Cost)?;
    let (mut clocks, mut switches) = (Vec::new(), Vec::new());
    for process in server.processes() {
        for (event, counters) in
            [(Software::TASK_CLOCK, &mut clocks), (Software::CONTEXT_SWITCHES, &mut switches)]
        {
            let mut counter = Builder::new(event);
            let counter =
                counter.observe_pid(i32::try_from(process)?).any_cpu().include_kernel().include_hv();
            counters.push(counter.enabled(true).build()?);
        }
    }
    assert!(clocks.len() > 1, "nginx is a master and its worker");
    let sum = |counters: &mut [Counter]| -> Result<u64, Failed> {
        Ok(counters.iter_mut().map(Counter::read).collect::<Result<Vec<_>, _>>()?.iter().sum())
    };
    let mut client = small_client(target, &server, corpus, BUSY)?;
    client.load(Duration::from_millis(50))?;
    let before = (server.cost()?.cpu, sum(&mut clocks)?, sum(&mut switches)?);
    client.load(LOAD)?;
    let clock = (server.cost()?.cpu - before.0).as_secs_f64();
    let counter = Duration::from_nanos(sum(&mut clocks)? - before.1).as_secs_f64();
    let switching = (sum(&mut switches)? - before.2) as f64 * SWITCH.as_secs_f64();
    assert!(
        (0.95 * clock..1.05 * clock + switching).contains(&counter),
        "{clock} s by the clocks, {counter} s by the counters, {switching} s at most for switches"
    );
    Ok(server.stop()?)
}

/// Why calls can't be counted here.
pub(crate) fn uncounted() -> Option<String> {
    calls::available().err()
}
