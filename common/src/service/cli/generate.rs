//! What is made of the flags' definition for shells and for man(1).

use std::io::{self, Write};

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::service::cli::flags::EXAMPLES;

/// What a manual page has besides the flags. `NAME` is the program's.
const SECTIONS: &str = r"
.SH SIGNALS
.TP
.BR SIGTERM , \ SIGINT , \ SIGQUIT
Finish the answers under way, for at most
.BR \-\-grace ,
and exit. A second one ends the process at once.
.TP
.BR SIGHUP , \ SIGUSR1
Open the access log again, for log rotation. Rules and the root are followed without a signal.
.TP
.B SIGUSR2
With
.BR triptych (1):
start the program that is at its path now, and hand over to it without losing a connection.
.SH EXIT STATUS
.TP
.B 0
It has served, and every answer was finished.
.TP
.B 1
It could not start, something has failed, or clients were cut off when
.B \-\-grace
was over; or
.B \-\-check
has found something wrong.
.TP
.B 2
A flag or a variable is wrong.
.TP
.B 128+N
Signal number N came a second time.
.SH ENVIRONMENT
Each flag names its variable. A flag counts before its variable. Switches take 1 and 0, true and false, yes and no, on
and off; a variable that is empty is not set.
.SH FILES
.TP
.BR _headers , \ _redirects
Rules, in the root, as Netlify and Cloudflare Pages read them.
.SH EXAMPLES
.nf
";

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

fn page(name: &str, command: Command) -> io::Result<Vec<u8>> {
    // Whether a flag is on the short screen makes no difference here.
    let command = command.mut_args(|flag| flag.hide_short_help(false));
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend_from_slice(SECTIONS.trim_start().as_bytes());
    for example in EXAMPLES {
        page.extend_from_slice(example.replace("NAME", name).replace('-', "\\-").as_bytes());
        page.push(b'\n');
    }
    page.extend_from_slice(b".fi\n");
    man.render_version_section(&mut page)?;
    Ok(page)
}

impl Generate {
    /// The text, for a program of this name.
    pub(super) fn text(self, name: &str, mut command: Command) -> io::Result<Vec<u8>> {
        let shell = match self {
            Generate::CompleteBash => Shell::Bash,
            Generate::CompleteZsh => Shell::Zsh,
            Generate::CompleteFish => Shell::Fish,
            Generate::Man => return page(name, command),
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut script);
        Ok(script)
    }

    /// Writes it to standard output.
    ///
    /// # Errors
    /// Those of write(2).
    pub(super) fn write(self, name: &str, command: Command) -> io::Result<()> {
        let text = self.text(name, command)?;
        let mut output = io::stdout();
        output.write_all(&text).and_then(|()| output.flush())
    }
}
