//! Messages on standard error, in whole lines.
//!
//! Standard error may be closed, full or a terminal with a bar on it. None of that may end a run
//! that costs money. `eprintln!` panics on a write that fails, so nothing here uses it. Every text
//! is escaped, as most of it has come from elsewhere.

use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::{Value, json};

use crate::Error;
use crate::api::times::to_rfc3339;
use crate::bar::{self, Screen};
use crate::escape::printable;

/// The longest line, in characters. The rest is cut.
const LONGEST: usize = 2_000;

/// How messages look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutputMode {
    /// Errors only.
    Quiet,
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes to standard error, from any thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    pub(crate) mode: OutputMode,
    /// Clones draw the same one.
    pub(crate) bar: Option<Screen>,
}

impl Console {
    /// Something to know. `-q` hides it.
    pub(crate) fn say(&self, text: &str) {
        self.tell("message", text, None);
    }

    /// Something to act on before it is an error. `-q` hides it.
    pub(crate) fn warn(&self, text: &str) {
        self.tell("warning", text, None);
    }

    /// What went wrong, with its causes. Always shown.
    pub(crate) fn error(&self, error: &Error) {
        self.tell("error", &with_causes(error), None);
    }

    /// That it went wrong, in a sentence. Always shown.
    pub(crate) fn failed(&self, text: &str) {
        self.tell("error", text, None);
    }

    /// Shows the library's log: warnings, and more for each `verbose`, then with the time.
    pub(crate) fn install_logger(&self, verbose: u8) {
        let level = match (self.mode, verbose) {
            (OutputMode::Quiet, _) => LevelFilter::Error,
            (_, 0) => LevelFilter::Warn,
            (_, 1) => LevelFilter::Info,
            (_, _) => LevelFilter::Debug,
        };
        let logger: &'static ToConsole = Box::leak(Box::new(ToConsole {
            console: self.clone(),
            timed: verbose > 0,
        }));
        // Only fails where a logger is there already, and then that one is as good.
        if log::set_logger(logger).is_ok() {
            log::set_max_level(level);
        }
    }

    fn tell(&self, event: &str, text: &str, time: Option<String>) {
        let text = with_flags(text);
        if self.mode == OutputMode::Quiet && event != "error" {
            return;
        }
        if self.mode == OutputMode::Json {
            let mut object = json!({ "event": event, "text": text });
            if let Some(time) = time {
                object["time"] = time.into();
            }
            self.json(&object);
            return;
        }
        let time = time.map(|time| format!("{time} ")).unwrap_or_default();
        let prefix = match event {
            "message" => String::new(),
            _ => format!("{event}: "),
        };
        // Line by line: the newlines are the message's own, foreign ones have been escaped in it.
        let lines: Vec<String> = text.lines().map(|line| printable(line, LONGEST)).collect();
        self.write(&format!("{time}{prefix}{}", lines.join("\n")));
    }

    /// Removes the bar, before the end of the process.
    pub(crate) fn close(&self) {
        self.bar.iter().for_each(Screen::clear);
    }

    /// An object of its own kind, for `--progress json`.
    pub(crate) fn json(&self, value: &Value) {
        self.write(&value.to_string());
    }

    fn write(&self, line: &str) {
        bar::write_line(self.bar.as_ref(), line);
    }
}

/// The library's log. Only its own records are shown: those of the HTTP client below it may hold
/// whole URLs and headers.
struct ToConsole {
    console: Console,
    /// Whether lines begin with the time; for a program they always have it.
    timed: bool,
}

impl Log for ToConsole {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        target == "tollgate" || target.starts_with("tollgate::")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let is_timed = self.timed || self.console.mode == OutputMode::Json;
        let time = is_timed.then(|| to_rfc3339(SystemTime::now()));
        let is_warning = record.level() <= Level::Warn;
        let event = if is_warning { "warning" } else { "message" };
        self.console.tell(event, &record.args().to_string(), time);
    }

    fn flush(&self) {}
}

/// The message, what caused it, and the flags to change. A cause that the message repeats is left
/// out.
pub(crate) fn with_causes(error: &Error) -> String {
    let mut text = bar::with_causes(error);
    let flags: Vec<String> = error.settings().iter().copied().map(flag).collect();
    if !flags.is_empty() {
        text = format!("{text} ({})", flags.join(", "));
    }
    with_flags(&text)
}

/// Settings of the library that the middle of a message may name, in the same way as its end.
const NAMED: [&str; 11] = [
    "ca_file",
    "client_cert",
    "delimiter",
    "force_resume",
    "max_body",
    "max_server_delay",
    "overwrite",
    "prompt",
    "prompts",
    "stop_alike",
    "with_deadline",
];

/// The text with flags in place of the settings that it names.
pub(crate) fn with_flags(text: &str) -> String {
    let named = NAMED.iter();
    named.fold(text.to_owned(), |text, name| {
        text.replace(&format!("(`{name}`)"), &format!("({})", flag(name)))
    })
}

/// The flag of a setting of the library.
fn flag(setting: &str) -> String {
    match setting {
        "output" => "-o".to_owned(),
        // A key is no argument; what can be said of it here is to send none.
        "api_key" => "--no-auth".to_owned(),
        _ => {
            let name = setting.trim_start_matches("with_");
            format!("--{}", name.replace('_', "-"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn settings_are_named_by_their_flags() {
        let error = Error::new(ErrorKind::Config, "name another, or keep the answers")
            .with_settings(&["output", "force_resume"]);
        let told = "name another, or keep the answers (-o, --force-resume)";
        assert_eq!(with_causes(&error), told);
        let error = Error::new(
            ErrorKind::Tls,
            "name it as the CA file (`ca_file`); so `say` I",
        );
        let told = "name it as the CA file (--ca-file); so `say` I";
        assert_eq!(with_causes(&error), told);
    }

    #[test]
    fn a_cause_is_told_once() {
        let full = || std::io::Error::other("disk full");
        let told = Error::new(ErrorKind::Io, "cannot write: disk full").with_source(full());
        assert_eq!(with_causes(&told), "cannot write: disk full");
        let untold = Error::new(ErrorKind::Io, "cannot write").with_source(full());
        assert_eq!(with_causes(&untold), "cannot write: disk full");
    }
}
