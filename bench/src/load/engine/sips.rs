//! Slow readers: they look at their sockets by the clock, and take so much at a time.

use crate::load::connection::Peer;
use crate::load::engine::Engine;
use crate::load::engine::slot::Timer;
use crate::load::fault::Fault;
use crate::random::Random;
use std::time::Instant;

impl Engine {
    pub(super) fn begin_sips(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        let group = &self.groups[slot.group];
        if let (Some(sips), None) = (group.sips, slot.timer) {
            slot.timer = Some(Timer::Sip);
            // Spread over the period, or all of them would sip at once, again and again.
            let spread = Random::stream(self.seed, index as u64).fraction();
            self.timers.set(now + sips.period.mul_f64(spread), index);
        }
    }

    pub(super) fn sip(&mut self, index: usize, now: Instant) -> Result<(), Fault> {
        let slot = &self.slots[index];
        let Some(sips) = self.groups[slot.group].sips else {
            unreachable!("only a slow reader sips");
        };
        if slot.ask.is_none() {
            return Ok(());
        }
        // There are no edges to rely on: it takes until the kernel has no more.
        self.visit(index, Peer::Gone, sips.bytes)?;
        let slot = &mut self.slots[index];
        if slot.timer.is_none() && slot.ask.is_some() {
            slot.timer = Some(Timer::Sip);
            self.timers.set(now + sips.period, index);
        }
        Ok(())
    }
}
