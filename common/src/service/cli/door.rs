//! Where the server listens: what the flags say of it, and what whoever started the process has opened.

use crate::service::cli::flags::Flags;
use crate::service::config::Config;
use crate::service::endpoint::Endpoint;
use crate::service::inherited;
use crate::service::listen::{Bound, Listeners};
use crate::service::start::StartError;

/// Where to listen. Nothing has been bound yet, but sockets that were inherited are listening.
#[derive(Debug)]
pub(super) struct Door {
    way: Way,
    /// What the operator should know.
    pub(super) warning: Option<String>,
}

#[derive(Debug)]
enum Way {
    Bind(Vec<Endpoint>),
    Inherited(Vec<Bound>),
}

impl Door {
    /// Call it before anything is opened: what is inherited is known by the numbers of its descriptors.
    ///
    /// What the operator says of addresses counts, and inherited sockets only where nothing is said.
    pub(super) fn of(flags: &Flags) -> Result<Door, StartError> {
        let Some(setting) = flags.listens_by else {
            let bound = inherited::take()?;
            let default = || Way::Bind(flags.endpoints());
            let way = if bound.is_empty() { default() } else { Way::Inherited(bound) };
            return Ok(Door { way, warning: None });
        };
        // Whatever they are: they are closed, and no program that is started gets them.
        let warning = match inherited::offered() {
            Ok(0) => None,
            offered => {
                drop(inherited::take());
                let sockets = offered.map_or("sockets".to_owned(), |count| format!("sockets ({count})"));
                Some(format!("{setting} is given, so the {sockets} of LISTEN_FDS are not served"))
            }
        };
        Ok(Door { way: Way::Bind(flags.endpoints()), warning })
    }

    /// How many addresses there are.
    pub(super) fn addresses(&self) -> u64 {
        match &self.way {
            Way::Bind(endpoints) => endpoints.len() as u64,
            Way::Inherited(bound) => bound.len() as u64,
        }
    }

    /// Listens.
    pub(super) fn open(self, config: &Config) -> Result<Listeners, StartError> {
        match self.way {
            Way::Bind(endpoints) => Listeners::bind(&endpoints, config),
            Way::Inherited(bound) => Ok(Listeners::of(bound, config.workers)?),
        }
    }
}
