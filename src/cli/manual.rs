//! `tollgate completions` and `tollgate man`: both are made from the definitions of the arguments.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::Roff;

use super::args::{Cli, Completions};
use super::exit::Exit;
use super::output::show;
use crate::{Error, ErrorKind, Result};

/// Prints the script for a shell.
///
/// # Errors
/// [`ErrorKind::Io`] if it cannot be written.
pub(crate) fn completions(args: &Completions) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tollgate", &mut script);
    show(&String::from_utf8_lossy(&script)).map(|()| Exit::Success)
}

/// Prints the man page.
///
/// # Errors
/// [`ErrorKind::Io`] if it cannot be written.
pub(crate) fn man() -> Result<Exit> {
    let page = page().map_err(|error| {
        Error::new(ErrorKind::Io, "cannot make the man page").with_source(error)
    })?;
    show(&page).map(|()| Exit::Success)
}

/// One page, with a chapter for each command: `man tollgate` has all of it, and a search finds it.
fn page() -> io::Result<String> {
    let mut tool = Cli::command().disable_help_subcommand(true);
    tool.build();
    let man = Man::new(tool.clone()).manual("User Commands").date(" ");
    let mut page = rendered(|out| {
        man.render_title(out)?;
        man.render_name_section(out)?;
        man.render_synopsis_section(out)?;
        man.render_description_section(out)
    })?;
    for command in tool.get_subcommands() {
        let man = Man::new(command.clone());
        let chapter = rendered(|out| {
            man.render_synopsis_section(out)?;
            man.render_description_section(out)?;
            man.render_options_section(out)?;
            match command.get_after_help() {
                Some(_) => man.render_extra_section(out),
                None => Ok(()),
            }
        })?;
        let name = command.get_name().to_uppercase();
        page = format!(
            "{page}.SH \"TOLLGATE {name}\"\n{}",
            chapter.replace(".SH ", ".SS ")
        );
    }
    let notes = rendered(|out| man.render_extra_section(out))?;
    Ok(format!("{}{page}{notes}", Roff::new().render()))
}

/// Sections without the definitions that stand before each. Examples and tables keep their lines.
fn rendered(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<String> {
    let mut text = Vec::new();
    write(&mut text)?;
    let text = String::from_utf8_lossy(&text).replace(&Roff::new().render(), "");
    let text: String = text.chars().map(in_ascii).collect();
    Ok(match text.split_once(".SH EXTRA\n") {
        Some((before, extra)) => format!("{before}.SH NOTES\n.nf\n{extra}.fi\n"),
        None => text,
    })
}

/// A roff without a preprocessor for UTF-8 knows other characters by their numbers.
fn in_ascii(c: char) -> String {
    if c.is_ascii() {
        c.to_string()
    } else {
        format!("\\[u{:04X}]", u32::from(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_command_with_each_of_its_flags() {
        let (page, mut tool) = (page().unwrap(), Cli::command());
        tool.build();
        let mut chapters = page.split(".SH \"TOLLGATE ").skip(1);
        for command in tool.get_subcommands().filter(|it| it.get_name() != "help") {
            let chapter = chapters.next().unwrap();
            let name = command.get_name();
            assert!(
                chapter.starts_with(&format!("{}\"\n", name.to_uppercase())),
                "{name}"
            );
            for flag in command.get_arguments().filter_map(|it| it.get_long()) {
                let flag = format!(r"\fB\-\-{}\fR", flag.replace('-', r"\-"));
                assert!(chapter.contains(&flag), "{name} {flag}");
            }
        }
        assert_eq!(chapters.next(), None);
        assert!(page.is_ascii() && page.contains(r"\[u00D7]"), "{page}");
        assert_eq!(page.matches(".nf\n").count(), page.matches(".fi\n").count());
        assert!(page.contains("Exit codes: 0 all succeeded"));
    }
}
