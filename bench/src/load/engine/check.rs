//! The check of what is served: the only thing that the engine does which looks at bodies, and no measurement.

use crate::load::coding::Coding;
use crate::load::connection::{Bodies, Received};
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
            self.ask(index, number % requests, false, None, now)?;
        }
        self.turns()?;
        match std::mem::replace(&mut self.buffers.bodies, Bodies::Discarded) {
            Bodies::Discarded | Bodies::Kept(_) => Ok(()),
            Bodies::Hashed(digests) => {
                let mut pairs = digests.into_iter().zip(contents.iter().cycle());
                let right = pairs.all(|(digest, content)| digest.finalize()[..] == content[..]);
                if right { Ok(()) } else { Err(LoadError::Content) }
            }
        }
    }

    /// Asks once for each of the requests with these `numbers` of class number `class`, without a condition, over its
    /// connections. A class that asks with conditions remembers the validators.
    ///
    /// # Errors
    ///
    /// The first answer that isn't what was expected. Afterwards the engine is of no more use.
    pub fn ask_once(&mut self, class: usize, numbers: &[usize]) -> Result<(), LoadError> {
        self.buffers.bodies = Bodies::Discarded;
        for batch in numbers.chunks(self.groups[class].slots.len()) {
            self.ask_batch(class, batch)?;
        }
        Ok(())
    }

    /// Like [`Engine::ask_once`], and returns the bodies as they came, coded as they are.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn fetch(&mut self, class: usize, numbers: &[usize]) -> Result<Vec<Received>, LoadError> {
        let mut fetched = Vec::with_capacity(numbers.len());
        for batch in numbers.chunks(self.groups[class].slots.len()) {
            let nothing = Received { coding: Coding::Identity, body: Vec::new() };
            self.buffers.bodies = Bodies::Kept(vec![nothing; batch.len()]);
            self.ask_batch(class, batch)?;
            if let Bodies::Kept(bodies) = std::mem::replace(&mut self.buffers.bodies, Bodies::Discarded) {
                fetched.extend(bodies);
            }
        }
        Ok(fetched)
    }

    fn ask_batch(&mut self, class: usize, numbers: &[usize]) -> Result<(), LoadError> {
        assert!(self.groups[class].slow_read.is_none(), "only a class that reads at once is checked");
        self.stage = Stage::Once(class);
        let slots = self.groups[class].slots.clone();
        for (index, number) in slots.zip(numbers) {
            self.ask(index, *number, false, None, Instant::now())?;
        }
        self.turns()
    }
}
