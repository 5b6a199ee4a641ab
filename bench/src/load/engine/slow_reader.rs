//! Slow readers: a timer, not readiness, says when they read, and each read is bounded.

use crate::load::connection::PeerState;
use crate::load::engine::Engine;
use crate::load::engine::slot::Timer;
use crate::load::error::LoadError;
use crate::random::Random;
use std::time::Instant;

impl Engine {
    pub(super) fn start_slow_read(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        let group = &self.groups[slot.group];
        if let (Some(slow_read), None) = (group.slow_read, slot.timer) {
            slot.timer = Some(Timer::Read);
            // Spread over the period, or all of them would read at the same moment, every time.
            let spread = Random::stream(self.seed, index as u64).fraction();
            self.timers.set(now + slow_read.period.mul_f64(spread), index);
        }
    }

    pub(super) fn read_slowly(&mut self, index: usize, now: Instant) -> Result<(), LoadError> {
        let slot = &self.slots[index];
        let Some(slow_read) = self.groups[slot.group].slow_read else {
            unreachable!("only slow readers have this timer");
        };
        if slot.ask.is_none() {
            return Ok(());
        }
        // No edge is registered: `Gone` makes it read until the socket would block.
        self.visit(index, PeerState::Gone, slow_read.bytes)?;
        let slot = &mut self.slots[index];
        if slot.timer.is_none() && slot.ask.is_some() {
            slot.timer = Some(Timer::Read);
            self.timers.set(now + slow_read.period, index);
        }
        Ok(())
    }
}
