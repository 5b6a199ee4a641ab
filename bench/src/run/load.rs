//! Where the load of a trial comes from: a client here, several here, or agents on other machines.

use crate::agent::fleet::{Elsewhere, Fleet, Trouble};
use crate::load::class::Class;
use crate::load::crew::Crew;
use crate::load::engine::Engine;
use crate::load::error::LoadError;
use crate::load::outcome::Outcome;
use crate::machine::placement::Placement;
use std::net::SocketAddr;
use std::result::Result;
use std::time::Duration;

/// The clients of one server.
pub(crate) enum Load<'a> {
    One(Box<Engine>),
    Several(Crew),
    Agents(&'a mut Fleet),
}

/// What a window of load has shown.
pub(crate) struct Shown {
    pub(crate) outcome: Outcome,
    /// CPU time of all clients on this machine.
    pub(crate) cpu_here: Duration,
    pub(crate) elsewhere: Option<Elsewhere>,
}

impl From<LoadError> for Trouble {
    fn from(error: LoadError) -> Trouble {
        Trouble::Server(error)
    }
}

impl<'a> Load<'a> {
    /// Connects the classes: agents, if there are any, or a client on each of the placement's CPUs.
    pub(crate) fn connect(
        fleet: Option<&'a mut Fleet>,
        placement: Placement,
        address: SocketAddr,
        classes: Vec<Class>,
        seed: u64,
    ) -> Result<Load<'a>, Trouble> {
        if let Some(fleet) = fleet {
            fleet.connect(address, &classes, seed)?;
            return Ok(Load::Agents(fleet));
        }
        let (clients, busy_polls) = (placement.client, placement.is_apart());
        if clients.count() > 1 {
            return Ok(Load::Several(Crew::connect(address, &classes, seed, clients, busy_polls)?));
        }
        let engine = Engine::connect(address, classes, seed)?;
        Ok(Load::One(Box::new(if busy_polls { engine.with_busy_polling() } else { engine })))
    }

    /// See [`Engine::hold_back`].
    pub(crate) fn hold_back(&mut self, class: usize, is_held_back: bool) -> Result<(), Trouble> {
        match self {
            Load::One(engine) => engine.hold_back(class, is_held_back),
            Load::Several(crew) => crew.hold_back(class, is_held_back),
            Load::Agents(fleet) => fleet.hold_back(class, is_held_back)?,
        }
        Ok(())
    }

    /// Asks once for each of the class's `count` requests, so that the client knows what came.
    pub(crate) fn visit_all(&mut self, class: usize, count: usize) -> Result<(), Trouble> {
        let all: Vec<usize> = (0..count).collect();
        match self {
            Load::One(engine) => Ok(engine.ask_once(class, &all)?),
            Load::Several(crew) => Ok(crew.ask_once(class, &all)?),
            Load::Agents(fleet) => fleet.visit_all(class),
        }
    }

    /// See [`Engine::run`].
    pub(crate) fn run(&mut self, window: Duration, slice: Option<Duration>) -> Result<Shown, Trouble> {
        let (outcome, cpu_here, elsewhere) = match self {
            Load::One(engine) => {
                let outcome = engine.run(window, slice)?;
                let cpu = outcome.client_cpu;
                (outcome, cpu, None)
            }
            Load::Several(crew) => {
                let (outcome, cpu) = crew.run(window, slice)?;
                (outcome, cpu, None)
            }
            Load::Agents(fleet) => {
                let (outcome, elsewhere) = fleet.run(window, slice)?;
                (outcome, Duration::ZERO, Some(elsewhere))
            }
        };
        Ok(Shown { outcome, cpu_here, elsewhere })
    }

    /// Closes the connections, so that the server can end.
    pub(crate) fn close(self) -> Result<(), Trouble> {
        match self {
            Load::One(_) | Load::Several(_) => Ok(()),
            Load::Agents(fleet) => fleet.release(),
        }
    }
}
