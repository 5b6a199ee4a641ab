//! Bytes that wait to be sent.

/// Bytes in the order in which they are sent. It owns no memory while it is empty, so an idle connection costs none.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many of them have been sent.
    sent: usize,
    /// How many were taken and haven't been sent.
    taken: usize,
}

impl From<Vec<u8>> for Output {
    fn from(bytes: Vec<u8>) -> Output {
        Output { bytes, sent: 0, taken: 0 }
    }
}

impl Output {
    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes haven't been sent, taken or not.
    pub(super) fn len(&self) -> usize {
        self.taken + self.bytes.len() - self.sent
    }

    /// The bytes that were neither sent nor taken.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes all bytes out; they count until they are sent. Until then no others can be taken, so that the order is
    /// kept.
    pub(super) fn take(&mut self) -> Vec<u8> {
        if self.taken > 0 {
            return Vec::new();
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..std::mem::take(&mut self.sent));
        self.taken = bytes.len();
        bytes
    }

    /// This many bytes have been sent, of those that were taken if there are any.
    pub(super) fn sent(&mut self, bytes: usize) {
        if self.taken > 0 {
            assert!(bytes <= self.taken, "{bytes} bytes sent of {} taken", self.taken);
            self.taken -= bytes;
            return;
        }
        self.sent += bytes;
        assert!(self.sent <= self.bytes.len(), "{} bytes sent of {}", self.sent, self.bytes.len());
        if self.sent == self.bytes.len() {
            *self = Output::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order() {
        let mut output = Output::default();
        output.push(b"abc");
        output.sent(1);
        output.push(b"de");
        assert_eq!((output.bytes(), output.len()), (&b"bcde"[..], 4));
        output.sent(4);
        assert_eq!((output.bytes.capacity(), output.len()), (0, 0));
    }

    #[test]
    fn what_is_taken_leaves_before_what_comes_after_it() {
        let mut output = Output::default();
        output.push(b"abc");
        output.sent(1);
        assert_eq!(output.take(), b"bc");
        output.push(b"de");
        assert_eq!((output.take(), output.len()), (Vec::new(), 4));
        output.sent(1);
        assert_eq!((output.take(), output.len()), (Vec::new(), 3));
        output.sent(1);
        assert_eq!(output.take(), b"de");
        output.sent(2);
        assert_eq!(output.len(), 0);
    }
}
