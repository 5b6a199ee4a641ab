//! Agents that vanish, hang, refuse, or are something else: a clear line, soon, and nobody goes on alone.

use crate::agent::{Agent, TOKEN, fleet, token, within_deadline};
use crate::counted::Counted;
use crate::loads::{class, load, open};
use crate::{Outcome, Test};
use bench::agent::fleet::{Fleet, Trouble};
use bench::agent::token::{Token, VARIABLE};
use bench::load::class::{Arrivals, Pacing};
use libtest_mimic::Failed;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::slice;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    ("who_is_no_agent_is_told", who_is_no_agent_is_told),
    ("the_token_is_needed", the_token_is_needed),
    ("an_agent_keeps_to_its_bounds", an_agent_keeps_to_its_bounds),
    ("an_agent_works_for_one_harness", an_agent_works_for_one_harness),
    ("an_agent_that_vanishes_ends_the_load_of_all", an_agent_that_vanishes_ends_the_load_of_all),
    ("an_agent_that_hangs_is_given_up", an_agent_that_hangs_is_given_up),
    ("a_server_that_is_gone_is_no_trouble_of_the_agent", a_server_that_is_gone_is_no_trouble_of_the_agent),
    ("strangers_get_nothing_done", strangers_get_nothing_done),
    ("bench_load_fails_in_a_line", bench_load_fails_in_a_line),
];

/// Soon, even on a busy machine.
const SOON: Duration = Duration::from_secs(12);

/// Somebody who says this to whoever comes.
fn impostor(says: &'static [u8]) -> Result<String, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let name = listener.local_addr()?.to_string();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _gone = stream.write_all(says);
            kept.push(stream);
        }
    });
    Ok(name)
}

fn gather(name: &str, token: Token) -> String {
    let begun = Instant::now();
    let gathered = Fleet::gather(&[name.to_owned()], token);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    gathered.err().map_or_else(|| "it came".to_owned(), |failure| failure.to_string())
}

fn who_is_no_agent_is_told() -> Outcome {
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let told = gather(&nobody, token()?);
    assert!(told.starts_with(&format!("agent {nobody}: ")) && told.contains("refused"), "{told}");
    let table: [(&[u8], &str); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what listens there is no agent of this harness"),
        (&[b'x'; 10_000], "what listens there is no agent of this harness"),
        (
            b"{\"triptych_bench_agent\":99,\"sources\":\"\",\"challenge\":\"\",\"more\":1}\n",
            "it speaks version 99 of the protocol, this harness 1; build both from one commit",
        ),
        (
            b"{\"triptych_bench_agent\":1,\"sources\":\"0123456789ab\",\"challenge\":\"\"}\n",
            "its load generator is 0123456789ab, this harness's ",
        ),
        (b"", "no answer within 5 s"),
    ];
    for (says, line) in table {
        let name = impostor(says)?;
        let told = gather(&name, token()?);
        assert!(told.starts_with(&format!("agent {name}: {line}")) && !told.contains('\n'), "{told}");
    }
    Ok(())
}

fn the_token_is_needed() -> Outcome {
    let agent = Agent::start(&[])?;
    let told = gather(&agent.name, Token::new("another token, as long".to_owned())?);
    assert_eq!(
        told,
        format!("agent {}: it refuses: the harness's {VARIABLE} isn't this agent's", agent.name)
    );
    assert!(Token::new("short".to_owned()).is_err());
    assert_eq!(gather(&agent.name, token()?), "it came");
    Ok(())
}

/// What became of a load of so many connections and requests per second, for so long.
fn asked(
    fleet: &mut Fleet,
    server: &Counted,
    connections: usize,
    per_second: f64,
    window: Duration,
) -> Result<(), String> {
    let hot = class("hot", connections, open(per_second, Arrivals::Poisson), server.address);
    let done = fleet.connect(server.address, &[hot], 7).and_then(|()| fleet.run(window, None));
    match done {
        Ok(_) => Ok(()),
        Err(Trouble::Agent(failure)) => Err(failure.to_string()),
        Err(Trouble::Server(error)) => Err(format!("blamed on the server: {error}")),
    }
}

/// Why something wasn't done that mustn't be.
fn refused<E>(done: Result<(), E>) -> Result<E, Failed> {
    done.err().ok_or_else(|| "it was done".into())
}

fn an_agent_keeps_to_its_bounds() -> Outcome {
    let bounds = ["--connections-max", "8", "--rate-max", "500", "--duration-max", "200ms"];
    let agent = Agent::start(&bounds)?;
    let server = Counted::start("127.0.0.1")?;
    let mut harness = fleet(&[&agent])?;
    let window = Duration::from_millis(100);
    assert_eq!(asked(&mut harness, &server, 8, 500.0, window), Ok(()));
    for (connections, per_second, window, flag) in [
        (9, 500.0, window, "--connections-max"),
        (8, 501.0, window, "--rate-max"),
        (8, 500.0, Duration::from_millis(201), "--duration-max"),
    ] {
        let refused = refused(asked(&mut harness, &server, connections, per_second, window))?;
        assert!(refused.starts_with(&format!("agent {}: it refuses: ", agent.name)), "{refused}");
        assert!(refused.ends_with(flag), "{refused}");
    }
    assert_eq!(asked(&mut harness, &server, 8, 500.0, window), Ok(()), "and goes on");
    let elsewhere = Agent::start(&["--target-allow", "10.99.0.0/16"])?;
    let before = server.requests();
    let refused = refused(asked(&mut fleet(&[&elsewhere])?, &server, 1, 1.0, window))?;
    assert!(refused.contains("load for 127.0.0.1 isn't allowed, only for 10.99.0.0/16"), "{refused}");
    assert_eq!(server.requests(), before, "nothing was sent there");
    Ok(())
}

fn an_agent_works_for_one_harness() -> Outcome {
    let agent = Agent::start(&[])?;
    let first = fleet(&[&agent])?;
    let told = gather(&agent.name, token()?);
    assert_eq!(told, format!("agent {}: it works for another harness", agent.name));
    drop(first);
    assert_eq!(gather(&agent.name, token()?), "it came");
    Ok(())
}

fn an_agent_that_vanishes_ends_the_load_of_all() -> Outcome {
    let (stays, mut goes) = (Agent::start(&[])?, Some(Agent::start(&[])?));
    let server = Counted::start("127.0.0.1")?;
    let mut harness = fleet(&[&stays, goes.as_ref().ok_or("it is there")?])?;
    let name = goes.as_ref().map(|agent| agent.name.clone()).unwrap_or_default();
    let hot = class("hot", 8, Pacing::Closed, server.address);
    harness.connect(server.address, slice::from_ref(&hot), 7).map_err(|trouble| trouble.to_string())?;
    let begun = Instant::now();
    let trouble = thread::scope(|scope| -> Result<Trouble, Failed> {
        let running = scope.spawn(|| harness.run(Duration::from_secs(3), None));
        within_deadline(|| server.requests() > 100)?;
        drop(goes.take());
        running.join().map_err(|_| "it panicked")?.err().ok_or_else(|| "it went on".into())
    })?;
    assert!(matches!(trouble, Trouble::Agent(_)), "{trouble}");
    assert_eq!(trouble.to_string(), format!("agent {name}: the connection ended"));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    // It stays away: the line says so, and the other one can be had for something else.
    let again = refused(harness.connect(server.address, slice::from_ref(&hot), 7))?.to_string();
    assert!(again.starts_with(&format!("agent {name}: ")) && again.contains("refused"), "{again}");
    let mut alone = fleet(&[&stays])?;
    alone.connect(server.address, &[hot], 7).map_err(|trouble| trouble.to_string())?;
    Ok(())
}

fn an_agent_that_hangs_is_given_up() -> Outcome {
    let agent = Agent::start(&[])?;
    let server = Counted::start("127.0.0.1")?;
    let mut harness = fleet(&[&agent])?;
    agent.signal(Signal::SIGSTOP)?;
    let begun = Instant::now();
    let hot = class("hot", 8, Pacing::Closed, server.address);
    let trouble = harness.connect(server.address, &[hot], 7);
    agent.signal(Signal::SIGCONT)?;
    let trouble = refused(trouble)?.to_string();
    assert_eq!(trouble, format!("agent {}: no answer within 5 s", agent.name));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    Ok(())
}

fn a_server_that_is_gone_is_no_trouble_of_the_agent() -> Outcome {
    let agent = Agent::start(&[])?;
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let hot = class("hot", 2, Pacing::Closed, nobody);
    let trouble = refused(fleet(&[&agent])?.connect(nobody, &[hot], 7))?;
    assert!(matches!(trouble, Trouble::Server(_)), "{trouble}");
    assert!(trouble.to_string().contains("refused"), "{trouble}");
    Ok(())
}

/// Whatever they send, and however many they are.
fn strangers_get_nothing_done() -> Outcome {
    let agent = Agent::start(&[])?;
    let order = b"{\"time\":null}\n\"time\"\n";
    for says in [&b"GET / HTTP/1.1\r\n\r\n"[..], order, &[b'{'; 100_000]] {
        let mut stream = TcpStream::connect(&agent.name)?;
        stream.set_read_timeout(Some(SOON))?;
        let _refused_meanwhile = stream.write_all(says);
        let mut told = Vec::new();
        let _reset_or_end = stream.read_to_end(&mut told);
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.lines().count() <= 1, "a greeting and nothing else: {told}");
    }
    // More of them than it talks to at once, who say nothing.
    let crowd: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(&agent.name)).collect::<Result<_, _>>()?;
    drop(crowd);
    let mut told = String::new();
    within_deadline(|| {
        told = gather(&agent.name, token().unwrap_or_else(|_| unreachable!("it is long enough")));
        told == "it came"
    })
}

fn bench_load_fails_in_a_line() -> Outcome {
    let server = Counted::start("127.0.0.1")?;
    let url = format!("http://{}/", server.address);
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let output = load(&[&url, "--agent", &nobody])?;
    let told = String::from_utf8(output.stderr)?;
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.starts_with(&format!("error: agent {nobody}: ")), "{told}");
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["load", &url, "--agent", &nobody])
        .env_remove(VARIABLE)
        .stdin(Stdio::null())
        .output()?;
    let told = String::from_utf8(output.stderr)?;
    assert!(told.starts_with("error: agents want a token: set ") && !told.contains(TOKEN), "{told}");
    Ok(())
}
