//! What agents do together.

use crate::agent::{Agent, DEADLINE, TOKEN, fleet, within_deadline};
use crate::counted::Counted;
use crate::{Outcome, Test};
use bench::agent::fleet::{Elsewhere, Fleet};
use bench::agent::token::VARIABLE;
use bench::load::class::{Arrivals, Asks, Class, Life, Pacing, ReadPace};
use bench::load::outcome::Outcome as LoadOutcome;
use bench::load::request::{Expected, Request};
use libtest_mimic::Failed;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    ("two_agents_do_what_one_client_would", two_agents_do_what_one_client_would),
    ("more_agents_than_connections", more_agents_than_connections),
    ("one_agent_at_its_limit_marks_all", one_agent_at_its_limit_marks_all),
    ("a_harness_that_is_gone_stops_the_load", a_harness_that_is_gone_stops_the_load),
    ("bench_load_shares_its_load", bench_load_shares_its_load),
];

pub(crate) const WINDOW: Duration = Duration::from_millis(400);

pub(crate) fn class(name: &str, connections: usize, pacing: Pacing, address: SocketAddr) -> Class {
    let request = Request::new(address, "/hello", Expected { status: 200, body_bytes: 5 });
    let (life, reading) = (Life::KeepAlive, ReadPace::AtOnce);
    Class { name: name.to_owned(), connections, pacing, life, reading, asks: Asks::one(request) }
}

pub(crate) fn open(per_second: f64, arrivals: Arrivals) -> Pacing {
    Pacing::Open { per_second, arrivals, steps: Vec::new() }
}

/// A load whose requests the server counts; an error of a single one fails the test.
pub(crate) fn counted(
    fleet: &mut Fleet,
    server: &Counted,
    classes: &[Class],
) -> Result<(LoadOutcome, Elsewhere), Failed> {
    fleet.connect(server.address, classes, 7).map_err(|trouble| trouble.to_string())?;
    let before = server.requests();
    let (outcome, elsewhere) = fleet.run(WINDOW, None).map_err(|trouble| trouble.to_string())?;
    let served = server.requests() - before;
    let answers: u64 = outcome.classes.iter().map(|class| class.answers).sum();
    let samples: u64 = outcome.classes.iter().map(|class| class.service.len()).sum();
    for class in &outcome.classes {
        assert_eq!(class.error_count(), 0, "{:?}", class.first_error());
    }
    assert!(answers > 50, "{answers}");
    assert_eq!(served, answers, "what the server counted and what the agents got");
    assert_eq!(samples, answers, "each answer is in the merged histogram");
    assert_eq!(elsewhere.agents.iter().map(|agent| agent.answers).sum::<u64>(), answers);
    assert_eq!(elsewhere.agents.iter().map(|agent| agent.samples).sum::<u64>(), samples);
    for agent in &elsewhere.agents {
        assert!(agent.answers > 0, "{agent:?}");
        assert!(elsewhere.skew_ns >= agent.round_trip_ns / 2 + agent.late_ns, "{elsewhere:?}");
    }
    Ok((outcome, elsewhere))
}

/// Closed loops, open ones, and both at once.
pub(crate) fn share_every_kind_of_load(fleet: &mut Fleet, server: &Counted, agents: usize) -> Outcome {
    let hot = |pacing| class("hot", 8, pacing, server.address);
    let (outcome, elsewhere) = counted(fleet, server, &[hot(Pacing::Closed)])?;
    assert_eq!(elsewhere.agents.len(), agents);
    assert!(outcome.classes[0].response.is_none(), "a closed loop");
    for arrivals in [Arrivals::Poisson, Arrivals::Constant] {
        let (outcome, _) = counted(fleet, server, &[hot(open(1_000.0, arrivals))])?;
        let class = &outcome.classes[0];
        let due = 1_000.0 * WINDOW.as_secs_f64();
        let off = (class.offered as f64 - due).abs();
        let most = if arrivals == Arrivals::Constant { agents as f64 } else { 5.0 * due.sqrt() };
        assert!(off <= most, "{arrivals:?}: {} requests were due, and {due} wanted", class.offered);
        assert_eq!(class.offered, class.answers + class.unanswered);
        let response = class.response.as_ref().ok_or("an open loop has response times")?;
        assert_eq!(response.len(), class.offered, "those without a connection, too");
        assert_eq!(class.lag.as_ref().ok_or("and lags")?.len(), class.answers);
    }
    let both = [hot(open(500.0, Arrivals::Poisson)), class("more", 3, Pacing::Closed, server.address)];
    let (outcome, _) = counted(fleet, server, &both)?;
    let names: Vec<String> = both.iter().map(|class| class.name.clone()).collect();
    assert!(names.iter().all(|name| outcome.class(name).is_some_and(|class| class.answers > 0)), "{names:?}");
    Ok(())
}

fn two_agents_do_what_one_client_would() -> Outcome {
    let (one, two) = (Agent::start(&[])?, Agent::start(&[])?);
    let server = Counted::start("127.0.0.1")?;
    share_every_kind_of_load(&mut fleet(&[&one, &two])?, &server, 2)
}

fn more_agents_than_connections() -> Outcome {
    let agents = [Agent::start(&[])?, Agent::start(&[])?, Agent::start(&[])?];
    let server = Counted::start("127.0.0.1")?;
    let mut fleet = fleet(&agents.each_ref())?;
    let few = class("few", 2, Pacing::Closed, server.address);
    let (_, elsewhere) = counted(&mut fleet, &server, &[few])?;
    assert_eq!(elsewhere.agents.len(), 2, "one has nothing to do");
    // Each class is on those that have a connection of it, and is told apart from the others.
    let classes =
        [class("few", 2, Pacing::Closed, server.address), class("many", 6, Pacing::Closed, server.address)];
    let (outcome, elsewhere) = counted(&mut fleet, &server, &classes)?;
    assert_eq!(elsewhere.agents.len(), 3);
    let answers = |name| outcome.class(name).map_or(0, |class| class.answers);
    assert!(answers("many") > answers("few"), "{} and {}", answers("many"), answers("few"));
    Ok(())
}

/// One that stands still for a while sends its requests late; in the p99 of all of them that mustn't be lost.
fn one_agent_at_its_limit_marks_all() -> Outcome {
    let (well, late) = (Agent::start(&[])?, Agent::start(&[])?);
    let server = Counted::start("127.0.0.1")?;
    let mut fleet = fleet(&[&well, &late])?;
    let hot = class("hot", 8, open(1_000.0, Arrivals::Poisson), server.address);
    fleet.connect(server.address, &[hot], 7).map_err(|trouble| trouble.to_string())?;
    let before = server.requests();
    let (outcome, elsewhere) = thread::scope(|scope| -> Result<_, Failed> {
        let running = scope.spawn(|| fleet.run(WINDOW, None));
        within_deadline(|| server.requests() > before + 20)?;
        late.signal(Signal::SIGSTOP)?;
        thread::sleep(WINDOW / 3);
        late.signal(Signal::SIGCONT)?;
        let ran = running.join().map_err(|_| "it panicked")?;
        Ok(ran.map_err(|trouble| trouble.to_string())?)
    })?;
    let of_late = elsewhere.agents.iter().find(|agent| agent.agent == late.name).ok_or("it is listed")?;
    let bound = of_late.client_bound.as_deref().ok_or("it was late")?;
    assert!(bound.starts_with("it sent up to "), "{bound}");
    assert!(outcome.is_client_bound());
    Ok(())
}

/// Killed, it can't say that it wants no more.
fn a_harness_that_is_gone_stops_the_load() -> Outcome {
    let agent = Agent::start(&[])?;
    let server = Counted::start("127.0.0.1")?;
    let mut harness = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args([
            "load",
            &format!("http://{}/", server.address),
            "--agent",
            &agent.name,
            "-c",
            "4",
            "-d",
            "120s",
        ])
        .env(VARIABLE, TOKEN)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let asked = within_deadline(|| server.requests() > 100);
    harness.kill()?;
    harness.wait()?;
    asked?;
    let mut last = (server.requests(), Instant::now());
    // Nothing for a while, long before the two minutes are over.
    within_deadline(|| {
        let now = server.requests();
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(500)
    })?;
    // It is free for somebody else.
    let hot = class("hot", 4, Pacing::Closed, server.address);
    counted(&mut fleet(&[&agent])?, &server, &[hot])?;
    Ok(())
}

pub(crate) fn load(arguments: &[&str]) -> Result<Output, Failed> {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("load")
        .args(arguments)
        .env(VARIABLE, TOKEN)
        .stdin(Stdio::null())
        .output()?;
    assert!(begun.elapsed() < DEADLINE, "it took {:?}", begun.elapsed());
    Ok(output)
}

fn bench_load_shares_its_load() -> Outcome {
    let (one, two) = (Agent::start(&[])?, Agent::start(&[])?);
    let server = Counted::start("127.0.0.1")?;
    let url = format!("http://{}/", server.address);
    let always =
        [&url, "--agent", &one.name, "--agent", &two.name, "-d", "300ms", "--warm-up", "50ms", "--json"];
    for more in [&["-c", "6"][..], &["-c", "6", "--rate", "800"]] {
        let output = load(&[&always[..], more].concat())?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let class = &report["classes"][0];
        assert_eq!(
            (&class["connections"], class["errors"].as_object().map(|errors| errors.len())),
            (&6.into(), Some(0))
        );
        let agents = report["elsewhere"]["agents"].as_array().ok_or("agents are listed")?;
        let sum: u64 = agents.iter().filter_map(|agent| agent["answers"].as_u64()).sum();
        assert_eq!((agents.len(), class["answers"].as_u64()), (2, Some(sum)));
        assert!(report["elsewhere"]["skew_ns"].as_u64().is_some_and(|skew| skew > 0));
    }
    let told = load(&[&always[..9], &["-c", "6"]].concat())?;
    let told = String::from_utf8(told.stdout)?;
    assert!(told.contains("2 agents, which began within ") && told.contains(&one.name), "{told}");
    Ok(())
}
