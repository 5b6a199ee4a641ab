//! Several engines on CPUs of their own, for servers that one client can't keep busy.

use crate::load::class::Class;
use crate::load::engine::Engine;
use crate::load::error::LoadError;
use crate::load::outcome::Outcome;
use crate::load::share::{Part, share};
use crate::machine::cpus::Cpus;
use crate::machine::placement::pin;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Engines that share the classes.
pub(crate) struct Crew {
    members: Vec<Member>,
    classes: usize,
}

struct Member {
    engine: Engine,
    numbers: Vec<usize>,
    cpu: usize,
}

impl Crew {
    /// An engine on each of these CPUs that gets a part of the classes.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::connect`].
    pub(crate) fn connect(
        address: SocketAddr,
        classes: &[Class],
        seed: u64,
        cpus: Cpus,
        busy_polls: bool,
    ) -> Result<Crew, LoadError> {
        let parts = share(classes, cpus.count(), seed).into_iter().zip(cpus.iter());
        let mut members = Vec::new();
        for (Part { numbers, classes, seed, phase }, cpu) in
            parts.filter(|(part, _)| !part.classes.is_empty())
        {
            let engine = Engine::connect(address, classes, seed)?.with_phase(phase);
            let engine = if busy_polls { engine.with_busy_polling() } else { engine };
            members.push(Member { engine, numbers, cpu });
        }
        Ok(Crew { members, classes: classes.len() })
    }

    /// See [`Engine::hold_back`].
    pub(crate) fn hold_back(&mut self, class: usize, is_held_back: bool) {
        for (engine, class) in self.with_class(class) {
            engine.hold_back(class, is_held_back);
        }
    }

    /// See [`Engine::ask_once`]: each member asks for all, since each remembers for itself.
    pub(crate) fn ask_once(&mut self, class: usize, numbers: &[usize]) -> Result<(), LoadError> {
        self.with_class(class).try_for_each(|(engine, class)| engine.ask_once(class, numbers))
    }

    /// The engines that have a part of class number `class`, each with the number that the class has there.
    fn with_class(&mut self, class: usize) -> impl Iterator<Item = (&mut Engine, usize)> {
        self.members.iter_mut().filter_map(move |Member { engine, numbers, .. }| {
            let place = numbers.iter().position(|number| *number == class)?;
            Some((engine, place))
        })
    }

    /// See [`Engine::run`]. All begin at once. Returns the CPU time of all of them, too.
    pub(crate) fn run(
        &mut self,
        window: Duration,
        slice: Option<Duration>,
    ) -> Result<(Outcome, Duration), LoadError> {
        let start = Barrier::new(self.members.len());
        let work = |member: &mut Member| {
            let pinned = pin(member.cpu);
            start.wait();
            let begun = Instant::now();
            pinned.map_err(|_| LoadError::System { doing: "pin a client", errno: Errno::INVAL })?;
            Ok((begun, member.engine.run(window, slice)?))
        };
        let work = &work;
        let outcomes: Vec<Result<(Instant, Outcome), LoadError>> = thread::scope(|scope| {
            let running: Vec<_> =
                self.members.iter_mut().map(|member| scope.spawn(move || work(member))).collect();
            running.into_iter().map(|thread| thread.join().expect("an engine doesn't panic")).collect()
        });
        let outcomes: Vec<(Instant, Outcome)> = outcomes.into_iter().collect::<Result<_, _>>()?;
        let begun = || outcomes.iter().map(|(begun, _)| *begun);
        let skew = begun().max().zip(begun().min()).map_or(Duration::ZERO, |(last, first)| last - first);
        let cpu = outcomes.iter().map(|(_, outcome)| outcome.client_cpu).sum();
        let numbers = self.members.iter().map(|member| member.numbers.clone());
        let with_skew = |(_, outcome): (Instant, Outcome)| Outcome { skew, ..outcome };
        let parts: Vec<(Vec<usize>, Outcome)> = numbers.zip(outcomes.into_iter().map(with_skew)).collect();
        let whole = Outcome::gather(&parts, self.classes);
        Ok((whole.expect("each class has a connection, and so a member"), cpu))
    }
}
