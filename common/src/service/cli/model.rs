//! The I/O models that a program can serve with, and the choice among them.

use std::io;
use std::sync::Arc;

use crate::service::listen::Listeners;
use crate::service::shared::Service;

/// A backend's `serve`.
pub type Serve = fn(Listeners, &Arc<Service>, &mut dyn FnMut()) -> io::Result<()>;

/// A way to move bytes: one of the backends.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Which one.
    pub io: Io,
    /// What a worker holds open, besides its listeners.
    pub worker_descriptors: u64,
    /// Whether this system allows it; if not, one line says why.
    pub available: fn() -> Result<(), String>,
    /// Serves until the end.
    pub serve: Serve,
}

/// What waits, and what is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Io {
    /// The best that this system allows
    #[default]
    Auto,
    /// io_uring: completions
    Uring,
    /// An edge-triggered event loop: readiness
    Epoll,
    /// A thread for each connection
    Blocking,
}

impl Io {
    /// The name of the backend.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Io::Auto => "auto",
            Io::Uring => "uring",
            Io::Epoll => "epoll",
            Io::Blocking => "blocking",
        }
    }

    /// What it is called in a sentence.
    fn title(self) -> &'static str {
        match self {
            Io::Auto => "the best I/O model",
            Io::Uring => "io_uring",
            Io::Epoll => "epoll",
            Io::Blocking => "a thread for each connection",
        }
    }
}

/// What to serve with.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) model: Model,
    /// Whether there were others.
    has_others: bool,
    /// Why not with a better one.
    reason: Option<String>,
}

impl Choice {
    /// The one that was asked for, or the first of these that this system allows: the last one always is.
    pub(super) fn of(models: &[Model], io: Io) -> Choice {
        let has_others = models.len() > 1;
        let mut reason = None;
        for model in models.iter().filter(|model| io == Io::Auto || model.io == io) {
            if io != Io::Auto || !has_others {
                return Choice { model: *model, has_others, reason };
            }
            match (model.available)() {
                Ok(()) => return Choice { model: *model, has_others, reason },
                Err(error) => reason = reason.or(Some(error)),
            }
        }
        Choice { model: models[models.len() - 1], has_others, reason }
    }

    /// What the start line says of it: nothing, where there is nothing to choose.
    pub(super) fn text(&self) -> String {
        if self.has_others { format!(" with {}", self.model.io.title()) } else { String::new() }
    }

    /// Why it isn't a better one.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A model that this system always, or never, allows.
    pub(in super::super) fn model(io: Io, available: fn() -> Result<(), String>) -> Model {
        Model { io, worker_descriptors: 4, available, serve: |_, _, _| Ok(()) }
    }

    #[test]
    fn the_best_that_is_allowed() {
        let models = [
            model(Io::Uring, || Err("forbidden".into())),
            model(Io::Epoll, || Ok(())),
            model(Io::Blocking, || Ok(())),
        ];
        let choice = Choice::of(&models, Io::Auto);
        assert_eq!((choice.model.io, choice.text().as_str()), (Io::Epoll, " with epoll"));
        assert_eq!(choice.reason(), Some("forbidden"));
        for io in [Io::Uring, Io::Epoll, Io::Blocking] {
            let choice = Choice::of(&models, io);
            assert_eq!((choice.model.io, choice.reason()), (io, None), "as was asked");
        }
        let choice = Choice::of(&models[..1], Io::Auto);
        assert_eq!((choice.model.io, choice.text().as_str(), choice.reason()), (Io::Uring, "", None));
    }
}
