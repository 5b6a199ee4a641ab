//! The walk up the ladder: what it quotes is in the files.

use crate::Case;

pub(crate) const TESTS: &[Case] = &[];
