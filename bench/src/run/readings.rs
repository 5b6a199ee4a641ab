//! From what was read off a server to what the record keeps.

use crate::record::trial::{CallsRecord, CostRecord, MemoryRecord};
use crate::server::calls::Measurement;
use crate::server::{calls, cost, memory};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why something couldn't be measured, by the name of its field.
type Reasons = BTreeMap<String, String>;

/// The reading, or its reason on the list.
fn known<T>(name: &str, reading: Measurement<T>, reasons: &mut Reasons) -> Option<T> {
    match reading {
        Ok(value) => Some(value),
        Err(reason) => {
            reasons.insert(name.to_owned(), reason);
            None
        }
    }
}

pub(crate) fn cost(cost: cost::Cost) -> CostRecord {
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    CostRecord {
        cpu_ns: nanoseconds(cost.cpu),
        user_ns: Some(nanoseconds(cost.user)),
        system_ns: Some(nanoseconds(cost.system)),
        page_faults: Some(cost.minor_faults + cost.major_faults),
    }
}

pub(crate) fn calls(calls: calls::Calls, reasons: &mut Reasons) -> CallsRecord {
    CallsRecord {
        system_calls: known("system_calls", calls.by_name, reasons),
        ring_submissions: known("ring_submissions", calls.ring_submissions, reasons),
        ring_completions: known("ring_completions", calls.ring_completions, reasons),
        ring_punts: known("ring_punts", calls.ring_punts, reasons),
        context_switches: known("context_switches", calls.context_switches, reasons),
    }
}

pub(crate) fn memory(memory: memory::Memory, reasons: &mut Reasons) -> MemoryRecord {
    MemoryRecord {
        pss_bytes: known("pss_bytes", memory.user, reasons),
        anonymous_bytes: known("anonymous_bytes", memory.anonymous, reasons),
        kernel_stack_bytes: known("kernel_stack_bytes", memory.kernel_stacks, reasons),
        page_table_bytes: known("page_table_bytes", memory.page_tables, reasons),
        socket_bytes: known("socket_bytes", memory.socket_buffers, reasons),
        slab_bytes: known("slab_bytes", memory.slabs, reasons),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_null_with_its_reason() {
        let mut reasons = Reasons::new();
        let found = memory(
            memory::Memory {
                user: Ok(1),
                anonymous: Ok(1),
                kernel_stacks: Err("not known for this processor".to_owned()),
                page_tables: Ok(3),
                socket_buffers: Ok(-4),
                slabs: Ok(5),
            },
            &mut reasons,
        );
        assert_eq!(
            (found.pss_bytes, found.kernel_stack_bytes, found.socket_bytes),
            (Some(1), None, Some(-4))
        );
        let expected = ("kernel_stack_bytes".to_owned(), "not known for this processor".to_owned());
        assert_eq!(reasons.into_iter().collect::<Vec<_>>(), [expected]);
    }
}
