//! The plan: how to answer a GET or HEAD of a regular file. Pure.

use crate::http::conditional::{Condition, Conditions, Validators, Verdict, evaluate};
use crate::http::range::{ByteRange, Ranges, Selection, select};
use crate::http::request::Method;

/// The planned response. It is fixed once the first byte has been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "short-lived on the stack; boxing would allocate")]
pub enum Plan {
    /// 200, the whole file.
    Whole,
    /// 206, one range.
    Part(ByteRange),
    /// 206, several ranges as `multipart/byteranges`.
    Parts(Ranges),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    RangeNotSatisfiable,
}

/// Decides the response for a file of `size` bytes. Ranges apply only to GET (RFC 9110 §14.2).
#[must_use]
pub fn plan(method: Method, conditions: &Conditions<'_>, validators: &Validators, size: u64) -> Plan {
    let range = match evaluate(conditions, validators) {
        Verdict::NotModified => return Plan::NotModified,
        Verdict::PreconditionFailed => return Plan::PreconditionFailed,
        Verdict::Proceed { range } if range && method == Method::Get => conditions.single(Condition::Range),
        Verdict::Proceed { .. } => None,
    };
    match range.map_or(Selection::Whole, |value| select(value, size)) {
        Selection::Whole => Plan::Whole,
        Selection::Unsatisfiable => Plan::RangeNotSatisfiable,
        Selection::Ranges(ranges) => match ranges.as_slice() {
            [range] => Plan::Part(*range),
            _ => Plan::Parts(ranges),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::conditional::{EtagPolicy, FileState, Timestamp};

    #[test]
    fn plans_follow_from_method_conditions_and_size() {
        let modified = Timestamp { seconds: 784_111_777, nanoseconds: 5 };
        let file = FileState { inode: 1, size: 1000, modified, changed: modified };
        let now = Timestamp { seconds: 784_111_800, nanoseconds: 0 };
        let validators = Validators::new(EtagPolicy::Strict, &file, now);
        let part = |start, length| ByteRange { start, length };
        let parts = [part(0, 1), part(200, 1)].into_iter().collect();
        for (method, lines, expected) in [
            (Method::Get, &[][..], Plan::Whole),
            (Method::Get, &[(Condition::Range, "bytes=0-9")], Plan::Part(part(0, 10))),
            (Method::Get, &[(Condition::Range, "bytes=0-0,200-200")], Plan::Parts(parts)),
            (Method::Get, &[(Condition::Range, "bytes=0-0,1-1")], Plan::Part(part(0, 2))),
            (Method::Get, &[(Condition::Range, "bytes=1000-")], Plan::RangeNotSatisfiable),
            (Method::Get, &[(Condition::Range, "bytes=1000-"), (Condition::IfRange, "\"old\"")], Plan::Whole),
            (Method::Get, &[(Condition::Range, "bytes=0-0"), (Condition::Range, "bytes=1-1")], Plan::Whole),
            (Method::Head, &[(Condition::Range, "bytes=0-9")], Plan::Whole),
            (Method::Head, &[(Condition::IfNoneMatch, "*")], Plan::NotModified),
            (
                Method::Get,
                &[(Condition::IfMatch, "\"x\""), (Condition::Range, "bytes=0-9")],
                Plan::PreconditionFailed,
            ),
        ] {
            let conditions =
                Conditions(lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect());
            assert_eq!(plan(method, &conditions, &validators, 1000), expected, "{lines:?}");
        }
    }
}
