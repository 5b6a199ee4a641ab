//! What one comparison is about: a file's size, the life of a connection, the number of connections.

use crate::load::request::Persistence;
use crate::run::corpus::Size;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One comparison: every server gets exactly this load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// Which file is asked for.
    pub size: Size,
    /// How long a connection lives.
    pub persistence: Persistence,
    /// Connections at once, each with one request under way.
    pub connections: usize,
}

/// One at a time, and enough to keep any server busy.
pub const CONNECTIONS: [usize; 2] = [1, 64];

impl Cell {
    /// Every combination, the ones that keep a server busy first.
    pub fn all() -> Vec<Cell> {
        let mut cells = Vec::new();
        for persistence in [Persistence::KeepAlive, Persistence::PerRequest] {
            for connections in CONNECTIONS.into_iter().rev() {
                for size in Size::ALL {
                    cells.push(Cell { size, persistence, connections });
                }
            }
        }
        cells
    }

    /// For a command line or a path: no blanks.
    pub fn id(&self) -> String {
        let size = self.size.label().replace(' ', "");
        let persistence = match self.persistence {
            Persistence::KeepAlive => "keep-alive",
            Persistence::PerRequest => "per-request",
        };
        format!("{size}-{persistence}-{}", self.connections)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size.label();
        let plural = if self.connections == 1 { "" } else { "s" };
        match self.persistence {
            Persistence::KeepAlive => {
                write!(f, "{size}, keep-alive, {} connection{plural}", self.connections)
            }
            Persistence::PerRequest => {
                write!(f, "{size}, a connection per request, {} at once", self.connections)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn twelve_different_cells() {
        let cells = Cell::all();
        assert_eq!(cells.len(), 12);
        assert_eq!(cells.iter().map(Cell::id).collect::<BTreeSet<_>>().len(), 12);
        assert_eq!(cells[0].id(), "1KiB-keep-alive-64");
        assert_eq!(cells[0].to_string(), "1 KiB, keep-alive, 64 connections");
        assert_eq!(cells[9].to_string(), "1 KiB, a connection per request, 1 at once");
    }
}
