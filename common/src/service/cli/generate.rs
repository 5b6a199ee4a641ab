//! What is made of the flags' definition for shells and for man(1).

use std::io::{self, ErrorKind, Write};

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Generate {
    /// Completions for bash
    CompleteBash,
    /// Completions for zsh
    CompleteZsh,
    /// Completions for fish
    CompleteFish,
    /// A manual page
    Man,
}

impl Generate {
    /// The text, for a program of this name.
    pub(super) fn text(self, name: &str, mut command: Command) -> io::Result<Vec<u8>> {
        let shell = match self {
            Generate::CompleteBash => Shell::Bash,
            Generate::CompleteZsh => Shell::Zsh,
            Generate::CompleteFish => Shell::Fish,
            Generate::Man => {
                let mut page = Vec::new();
                Man::new(command).render(&mut page)?;
                return Ok(page);
            }
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut script);
        Ok(script)
    }

    /// Writes it to standard output. A reader that has gone has had enough.
    ///
    /// # Errors
    /// Those of write(2).
    pub(super) fn write(self, name: &str, command: Command) -> io::Result<()> {
        let text = self.text(name, command)?;
        let mut output = io::stdout();
        match output.write_all(&text).and_then(|()| output.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }
}
