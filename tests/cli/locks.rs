//! One run at a time writes to an output.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, Running, until};

const RUN: [&str; 4] = ["run", "p.jsonl", "-c", "2"];

/// A server that answers when it is let.
struct Held {
    server: Faultd,
    let_go: Arc<AtomicBool>,
}

impl Held {
    fn new() -> Self {
        let let_go = Arc::new(AtomicBool::new(false));
        let server = Faultd::script({
            let let_go = Arc::clone(&let_go);
            move |_| {
                until("answers were let go", || let_go.load(Ordering::SeqCst));
                Reply::ok_chat("hello")
            }
        });
        Self { server, let_go }
    }

    fn let_go(&self) {
        self.let_go.store(true, Ordering::SeqCst);
    }

    /// A run with two requests in flight, for as long as they are held.
    fn run(&self, folder: &Folder) -> Running {
        let running = folder.tool(&RUN).at(&self.server).start();
        until("two in flight", || self.server.count() == 2);
        running
    }
}

#[test]
fn a_second_run_is_told_who_writes_and_the_first_is_not_disturbed() {
    let folder = Folder::new();
    folder.requests(4);
    let held = Held::new();
    let first = held.run(&folder);
    let by = format!("written by process {} ", first.id());
    let words = [by.as_str(), "p.results.jsonl.lock", "-o"];
    folder
        .tool(&RUN)
        .at(&held.server)
        .run()
        .code(2)
        .says(&words);
    let overwrite = ["run", "p.jsonl", "--overwrite"];
    folder
        .tool(&overwrite)
        .at(&held.server)
        .run()
        .code(2)
        .says(&words);
    let same_errors = ["run", "p.jsonl", "-o", "o", "--errors", "p.errors.jsonl"];
    let refused = folder.tool(&same_errors).at(&held.server).run().code(2);
    refused.says(&[&by, "errors file", "p.errors.jsonl.lock", "--errors"]);
    assert_eq!(held.server.count(), 2);
    held.let_go();
    first.wait().code(0).says(&["4 of 4 requests"]);
    assert_eq!(folder.names(), ["p.jsonl", "p.results.jsonl"]);
    assert_eq!(folder.records("p.results.jsonl").len(), 4);
}

#[test]
fn a_killed_runs_lock_is_in_nobodys_way() {
    let folder = Folder::new();
    folder.requests(4);
    let held = Held::new();
    let mut killed = held.run(&folder);
    let text = folder.read("p.results.jsonl.lock");
    assert_eq!(text, format!("{}\n2 in flight at most\n", killed.id()));
    killed.child().kill().unwrap();
    killed.child().wait().unwrap();
    assert_eq!(folder.read("p.results.jsonl.lock"), text);
    held.let_go();
    folder.tool(&RUN).at(&held.server).run().code(0);
    assert_eq!(folder.names(), ["p.jsonl", "p.results.jsonl"]);
    assert_eq!(folder.records("p.results.jsonl").len(), 4);
}

#[test]
fn no_lock_is_left_where_nothing_could_be_sent() {
    let folder = Folder::new();
    let twice = crate::tool::request("r0").repeat(2);
    folder.write("p.jsonl", twice);
    let held = Held::new();
    folder.tool(&RUN).at(&held.server).run().code(2);
    assert_eq!(folder.names(), ["p.jsonl"]);
    folder.requests(1).write("p.results.jsonl", "my notes\n");
    folder.tool(&RUN).at(&held.server).run().code(2);
    assert_eq!(folder.names(), ["p.jsonl", "p.results.jsonl"]);
}
