//! A notice: what the machine finds out that the operator should be told once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Something to be said once. The machine knows when; how it is said is up to whoever serves.
pub struct Notice {
    given: AtomicBool,
    say: Box<dyn Fn(&str) + Send + Sync>,
}

impl Notice {
    /// A notice that is given by calling `say`, which must not wait.
    pub fn new(say: impl Fn(&str) + Send + Sync + 'static) -> Notice {
        Notice { given: AtomicBool::new(false), say: Box::new(say) }
    }

    /// Whether nobody has given it.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.given.load(Relaxed)
    }

    /// Gives it about this, unless somebody else has.
    pub fn give(&self, about: &str) {
        if !self.given.swap(true, Relaxed) {
            (self.say)(about);
        }
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_due() { "due" } else { "given" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn it_is_given_once() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&told);
        let notice = Notice::new(move |about| theirs.lock().expect("not poisoned").push(about.to_owned()));
        assert_eq!((notice.is_due(), format!("{notice:?}")), (true, "due".to_owned()));
        notice.give("one");
        notice.give("two");
        assert_eq!((notice.is_due(), format!("{notice:?}")), (false, "given".to_owned()));
        assert_eq!(*told.lock().expect("not poisoned"), ["one"]);
    }
}
