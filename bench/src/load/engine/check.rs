//! The check of what is served: the only thing that the engine does which looks at bodies, and no measurement.

use crate::load::connection::Bodies;
use crate::load::engine::{Engine, Stage};
use crate::load::error::LoadError;
use crate::load::request::Sha256Bytes;
use sha2::{Digest, Sha256};
use std::time::Instant;

impl Engine {
    /// Asks once on each of the first `connections` of class number `class`, which reads at once, all at the
    /// same time: for its requests in turn, as often as it takes. Compares the SHA-256 of each body as
    /// received with what `contents` says, which has one digest per request.
    ///
    /// # Errors
    ///
    /// The first answer that isn't what was expected, [`LoadError::Content`] among them. Afterwards the engine is
    /// of no more use.
    pub fn verify(
        &mut self,
        class: usize,
        connections: usize,
        contents: &[Sha256Bytes],
    ) -> Result<(), LoadError> {
        let group = &self.groups[class];
        let requests = group.class.asks.requests().len();
        assert_eq!(requests, contents.len(), "each request has a content");
        assert!(group.slow_read.is_none(), "only a class that reads at once is verified");
        let slots = group.slots.start..group.slots.end.min(group.slots.start + connections);
        self.stage = Stage::Once(class);
        self.buffers.bodies = Bodies::Hashed(vec![Sha256::new(); slots.len()]);
        for (number, index) in slots.enumerate() {
            let now = Instant::now();
            self.ask(index, number % requests, None, now)?;
        }
        self.turns()?;
        match std::mem::replace(&mut self.buffers.bodies, Bodies::Discarded) {
            Bodies::Discarded => Ok(()),
            Bodies::Hashed(digests) => {
                let mut pairs = digests.into_iter().zip(contents.iter().cycle());
                let right = pairs.all(|(digest, content)| digest.finalize()[..] == content[..]);
                if right { Ok(()) } else { Err(LoadError::Content) }
            }
        }
    }
}
