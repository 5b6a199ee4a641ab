//! Servers with optimizations disabled: each of [`Tune::ALL`] alone, the plain copy, and all of a backend's at once.
//! Their responses must not differ from those of the full server.

use std::fmt;

use common::{CacheConfig, Config, CopyMode, Tune};

use crate::backend::Backend;

/// A backend, and its disabled optimizations.
#[derive(Clone, Debug)]
pub struct Lesser {
    /// The server.
    pub backend: Backend,
    name: String,
    tune: Vec<Tune>,
    copy: CopyMode,
}

impl Lesser {
    /// All combinations that are tested.
    #[must_use]
    pub fn all() -> Vec<Lesser> {
        Backend::ALL.into_iter().flat_map(Lesser::of).collect()
    }

    fn of(backend: Backend) -> Vec<Lesser> {
        let switches: Vec<Tune> =
            Tune::ALL.into_iter().filter(|switch| switch.server() == backend.name()).collect();
        let lesser = |name: &str, tune: &[Tune], copy| Lesser {
            backend,
            name: name.to_owned(),
            tune: tune.to_vec(),
            copy,
        };
        let mut all: Vec<Lesser> =
            switches.iter().map(|switch| lesser(switch.name(), &[*switch], switch.copy())).collect();
        let at_once: Vec<Tune> = Tune::all_of(backend.name()).collect();
        all.push(lesser("copy-read", &[], CopyMode::Read));
        if at_once.len() > 1 {
            all.push(lesser("plain", &at_once, CopyMode::Read));
        }
        all
    }

    /// These settings with the optimizations and the cache disabled: a cache hit would bypass most of them.
    #[must_use]
    pub fn config(&self, config: Config) -> Config {
        Config { tune: self.tune.clone(), copy: self.copy, cache: CacheConfig::OFF, ..config }
    }
}

impl fmt::Display for Lesser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.backend, self.name)
    }
}
