//! Disks that are full or broken: the run ends with 4 and says so, the file is left whole, and a
//! rerun does what is missing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::fixture::ids;
use crate::provider::{Provider, id, requests};
use crate::tool::{Ended, Folder, Tool};

pub(crate) const ROWS: usize = 60;
const RUN: [&str; 4] = ["run", "p.jsonl", "-c", "4"];

pub(crate) struct Disk {
    pub(crate) folder: Folder,
    pub(crate) provider: Provider,
}

impl Disk {
    /// Every tenth row fails for good.
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        folder.write("p.jsonl", requests(ROWS));
        let provider = Provider::start(|row| row % 10 == 9);
        Self { folder, provider }
    }

    fn tool(&self) -> Tool {
        self.provider.tool(&self.folder, &RUN)
    }

    /// The ids in a file, which must hold whole records.
    fn ids(&self, name: &str) -> Vec<String> {
        ids(&fs::read(self.folder.path(name)).unwrap_or_default())
    }

    /// A run without the fault: it asks for nothing that was recorded, and ends with every row in
    /// its file.
    pub(crate) fn rerun(&self) {
        let recorded = [self.ids("p.results.jsonl"), self.ids("p.errors.jsonl")].concat();
        let before = self.provider.count();
        self.tool().run().code(1);
        for row in self.provider.asked(before) {
            assert!(!recorded.contains(&id(row)), "{} again", id(row));
        }
        let (failed, answered): (Vec<_>, Vec<_>) = (0..ROWS).partition(|row| row % 10 == 9);
        for (name, rows) in [("p.results.jsonl", answered), ("p.errors.jsonl", failed)] {
            let mut expected: Vec<String> = rows.into_iter().map(id).collect();
            let mut found = self.ids(name);
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn a_file_that_may_grow_no_more_is_cut_to_whole_records_and_carried_on_with() {
    for blocks in [1, 2, 3, 5, 8, 13, 21] {
        let disk = Disk::new();
        let run = "exec \"$TOLLGATE\" run p.jsonl -c 4 --summary s.json";
        let script = format!("ulimit -f {blocks}; {run}");
        let tool = disk.provider.told(disk.folder.shell(&script));
        tool.run().code(4).says(&["error: ", ".jsonl", "make room"]);
        // Whole records of a write that failed half-way are kept, and they count.
        let kept = disk.folder.records("p.results.jsonl").len();
        // The summary is held to the same size: two blocks are a few bytes too few for it.
        if blocks > 2 || disk.folder.has("s.json") {
            assert_eq!(disk.folder.json("s.json")["succeeded"], kept);
        }
        disk.rerun();
    }
}

#[test]
fn a_device_that_is_full_ends_the_run_at_its_first_record() {
    let disk = Disk::new();
    let arguments = [&RUN[..], &["-o", "/dev/full", "--errors", "e.jsonl"]].concat();
    let tool = disk.provider.tool(&disk.folder, &arguments);
    tool.run().code(4).says(&["error: ", "/dev/full"]);
    assert!(disk.provider.count() <= 4, "{}", disk.provider.count());
    let script = "exec \"$TOLLGATE\" run p.jsonl -c 4 -o - --errors e.jsonl >/dev/full";
    let before = disk.provider.count();
    let tool = disk.provider.told(disk.folder.shell(script));
    tool.run().code(4).says(&["error: ", "standard output"]);
    assert!(disk.provider.count() - before <= 4);
}

/// A real one, of 32 KiB, in a namespace of its own, where the system lets this user make one.
#[test]
fn a_file_system_that_is_full_leaves_a_whole_file_and_room_lets_it_go_on() {
    let allowed = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"])
        .status()
        .is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("SKIPPED: no file system of its own to be had here (unshare -rm)");
        return;
    }
    let disk = Disk::new();
    let script = "
        mkdir small && mount -t tmpfs -o size=32k none small || exit 99
        set -- run p.jsonl -c 4 -o small/o.jsonl --errors small/e.jsonl
        \"$TOLLGATE\" \"$@\"; echo $? >first.code; cp small/o.jsonl first.jsonl; ls small >first.ls
        mount -o remount,size=4m small || exit 99
        \"$TOLLGATE\" \"$@\"; echo $? >second.code; cp small/o.jsonl second.jsonl; ls small >second.ls";
    let script = format!("unshare -rm sh -c '{script}'");
    let tool = disk.provider.told(disk.folder.shell(&script));
    tool.run().code(0).says(&["error: ", "small/o.jsonl"]);
    assert_eq!(disk.folder.read("first.code"), "4\n");
    assert_eq!(disk.folder.read("second.code"), "1\n");
    let first = disk.ids("first.jsonl");
    let second = disk.ids("second.jsonl");
    assert!(!first.is_empty() && first.len() < ROWS);
    assert_eq!(second[..first.len()], first, "what was recorded stays");
    assert_eq!(second.len(), ROWS - ROWS / 10);
    assert_eq!(disk.folder.read("second.ls"), "e.jsonl\no.jsonl\n");
}

/// The shim, compiled once for all tests; `None` where there is no compiler.
fn shim() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<TempDir>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = TempDir::new().expect("a temporary folder");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        compiler
            .arg(folder.path().join("shim.so"))
            .arg(source)
            .arg("-ldl");
        match compiler.output() {
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{errors}");
                Some(folder)
            }
            Err(error) => {
                eprintln!("SKIPPED: no C compiler for the shim: {error}");
                None
            }
        }
    });
    built.as_ref().map(|folder| folder.path().join("shim.so"))
}

impl Disk {
    /// A run in which this is done to the file; `None` where there is no shim.
    pub(crate) fn shimmed(&self, file: &str, fault: &str, more: &[&str]) -> Option<Ended> {
        let shim = shim()?;
        let arguments = [&RUN[..], more].concat();
        let tool = self.provider.tool(&self.folder, &arguments);
        let tool = tool.env("LD_PRELOAD", shim.to_str()?).env("SHIM", fault);
        let tool = tool.env("SHIM_FILE", file).env("SHIM_LOG", "shim.log");
        let ended = tool.run();
        assert!(
            self.folder.has("shim.log"),
            "the shim was not used: {ended:#?}"
        );
        Some(ended)
    }

    pub(crate) fn calls(&self, name: &str) -> usize {
        self.folder
            .read("shim.log")
            .lines()
            .filter(|line| *line == name)
            .count()
    }
}

#[test]
fn short_and_interrupted_writes_are_gone_on_with() {
    for fault in ["short", "interrupted"] {
        for file in ["p.results.jsonl", "p.errors.jsonl"] {
            let disk = Disk::new();
            let Some(ended) = disk.shimmed(file, fault, &[]) else {
                return;
            };
            ended.code(1);
            disk.rerun();
            assert_eq!(disk.provider.count(), ROWS, "{fault} {file}");
        }
    }
}

#[test]
fn a_write_that_fails_ends_the_run_and_is_not_tried_again() {
    for file in ["p.results.jsonl", "p.errors.jsonl"] {
        for number in [1, 2, 4] {
            let disk = Disk::new();
            let Some(ended) = disk.shimmed(file, &format!("write={number}"), &[]) else {
                return;
            };
            ended.code(4).says(&["error: ", file]);
            // The half of a record, the refusal of the other half, and no more.
            assert_eq!(disk.calls("write"), number + 1, "{file}");
            disk.rerun();
        }
    }
}

#[test]
fn a_write_that_fails_and_cannot_be_taken_back_leaves_a_torn_end_that_the_next_run_mends() {
    let disk = Disk::new();
    let Some(ended) = disk.shimmed("p.results.jsonl", "stuck", &[]) else {
        return;
    };
    ended.code(4).says(&["error: "]);
    let torn = fs::read(disk.folder.path("p.results.jsonl")).expect("a file");
    assert!(!torn.ends_with(b"\n"));
    let before = disk.provider.count();
    disk.tool().run().code(1);
    assert!(disk.provider.count() - before >= ROWS - 4);
    disk.rerun();
}

#[test]
fn bringing_a_file_to_the_disk_is_not_tried_again_once_it_has_failed() {
    for file in ["p.results.jsonl", "p.errors.jsonl"] {
        let disk = Disk::new();
        let Some(ended) = disk.shimmed(file, "sync=1", &[]) else {
            return;
        };
        ended.code(4).says(&["error: ", file]);
        assert_eq!(disk.calls("sync"), 1, "{file}");
        disk.rerun();
    }
}

#[test]
fn results_are_brought_to_the_disk_as_often_as_asked() {
    for when in ["always", "interval", "none"] {
        let disk = Disk::new();
        let Some(ended) = disk.shimmed("p.results.jsonl", "", &["--fsync", when]) else {
            return;
        };
        ended.code(1);
        let log = disk.folder.read("shim.log");
        match when {
            "always" => assert!(!log.contains("write\nwrite\n"), "{log}"),
            // At its end, and at most once a second before.
            "interval" => assert!(log.ends_with("sync\n"), "{log}"),
            _ => assert_eq!(disk.calls("sync"), 0),
        }
    }
}

#[test]
fn nothing_is_written_behind_what_could_not_be_brought_to_the_disk() {
    for number in [2, 5] {
        let disk = Disk::new();
        let fault = format!("sync={number}");
        let always = ["--fsync", "always"];
        let Some(ended) = disk.shimmed("p.results.jsonl", &fault, &always) else {
            return;
        };
        ended.code(4).says(&["error: ", "p.results.jsonl"]);
        assert_eq!(disk.calls("sync"), number);
        assert!(disk.folder.read("shim.log").ends_with("sync\n"));
        disk.rerun();
    }
}
