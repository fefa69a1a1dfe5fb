//! `tollgate report`, and the page that `run --report` writes: records to one HTML file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::args;
use super::console::{Console, with_causes};
use super::exit::Exit;
use super::format::{count, counted};
use super::output::{GIVE_RESULTS, flaw_of_default, flaw_of_place, replace, show};
use super::signals;
use crate::error::{Result, config, refuse};
use crate::jsonl::files::{Location, RunFiles, check_is_file, stem_of_results};
use crate::report::{Report, RunInfo};

/// Makes the page of these files.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for a file that cannot be read or holds no
/// results, and for a page that would replace something else.
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the page cannot be written.
pub(crate) fn report(args: &args::Report, console: &Console) -> Result<Exit> {
    signals::stop_at_once()?;
    let [first, more @ ..] = &args.results[..] else {
        return Err(config("RESULTS is missing"));
    };
    if args.output.is_none() {
        refuse(flaw_of_default("RESULTS", first, "the page has"))?;
    }
    let beside = || page_beside(first);
    let output = Location::new(&args.output.clone().unwrap_or_else(beside));
    if let Location::File(page) = &output {
        let flaw = flaw_of_place(page).or_else(|| check_page(page).err());
        refuse(flaw.map(|flaw| format!("-o {output} {flaw}")))?;
    }
    let mut files = Vec::new();
    for results in &args.results {
        // Of a table, these are its records.
        let run = RunFiles::complete("-".as_ref(), Some(results), None, false, None);
        let records = run.output.path();
        let records =
            records.ok_or_else(|| config("RESULTS is a file: save standard input in one first"))?;
        check_is_file(records).map_err(|error| {
            config(format!("cannot read {}: {error}", run.output)).with_source(error)
        })?;
        let errors = run.errors.path().filter(|errors| errors.is_file());
        for file in [records].into_iter().chain(errors) {
            if !files.iter().any(|known| known == file) {
                files.push(file.to_owned());
            }
        }
    }
    let mut title = name_of(first);
    let report = read(&files).map_err(|error| config(with_causes(&error)))?;
    if report.rows().1 == 0 {
        let name = Location::new(first);
        return Err(config(format!(
            "{name}: no line is a result. {GIVE_RESULTS}"
        )));
    }
    if !more.is_empty() {
        let more = counted(more.len() as u64, "more file", "more files");
        title = format!("{title} and {more}");
    }
    let info = RunInfo {
        title,
        ..RunInfo::default()
    };
    let page = report.page(&info)?;
    let Location::File(path) = &output else {
        return show(&page).map(|()| Exit::Success);
    };
    replace(path, page.as_bytes())?;
    for (file, lines) in report.left_out() {
        let lines = counted(lines, "line", "lines");
        console.warn(&format!("{lines} of {file:?} left out as no record"));
    }
    let (answered, rows) = report.rows();
    let rows = counted(rows, "row", "rows");
    let answered = count(answered);
    console.say(&format!("report  {output}: {rows}, {answered} answered"));
    Ok(Exit::Success)
}

/// Makes the page of a run from its files.
pub(super) fn of_run(page: &Path, files: &[PathBuf], info: &RunInfo) -> Result<()> {
    let made = read(files).and_then(|report| report.page(info));
    made.and_then(|made| replace(page, made.as_bytes()))
        .map_err(|error| error.behind("--report"))
}

fn read(files: &[PathBuf]) -> Result<Report> {
    let mut report = Report::default();
    for file in files {
        report.read(file)?;
    }
    Ok(report)
}

/// A file's name without its folder.
pub(super) fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// `p.results.jsonl` → `p.report.html`, in the same folder.
fn page_beside(results: &Path) -> PathBuf {
    let mut name = stem_of_results(results).to_owned();
    name.push(".report.html");
    results.with_file_name(name)
}

/// What is wrong with a path at which a page would replace something that is no page of ours.
pub(super) fn check_page(path: &Path) -> Result<(), &'static str> {
    const MARK: &[u8] = b"<meta name=\"generator\" content=\"tollgate\">";
    if !path.is_file() {
        return Ok(());
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1_000).read_to_end(&mut start));
    match read {
        Ok(0) => Ok(()),
        Ok(_) if start.windows(MARK.len()).any(|text| text == MARK) => Ok(()),
        Ok(_) => Err("exists and is no report, and would be overwritten: name another file"),
        Err(_) => Err("exists and cannot be read: name another file"),
    }
}
