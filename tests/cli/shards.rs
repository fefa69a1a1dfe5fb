//! Several processes, each with its shard of one input.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, records, request};

/// The shards of `r0` to `r7` of 3, by Python: `[zlib.crc32(b"r%d" % n) % 3 for n in range(8)]`.
const OF_3: [usize; 8] = [2, 0, 2, 2, 0, 2, 1, 2];

fn server() -> Faultd {
    Faultd::script(|_| Reply::ok_chat("hello"))
}

/// The ids of records, each of which must be there once.
fn ids(records: &[Value]) -> BTreeSet<String> {
    let id = |record: &Value| record["custom_id"].as_str().unwrap().to_owned();
    let ids: BTreeSet<_> = records.iter().map(id).collect();
    assert_eq!(ids.len(), records.len());
    ids
}

fn own(shard: usize) -> BTreeSet<String> {
    let rows = (0..8).filter(|row| OF_3[*row] == shard);
    rows.map(|row| format!("r{row}")).collect()
}

#[test]
fn each_shard_has_files_of_its_own_and_a_rerun_sends_nothing() {
    let folder = Folder::new();
    folder.requests(8);
    let server = server();
    for (round, sent) in [(0, 8), (1, 8)] {
        let running = ["0/3", "1/3", "2/3"].map(|shard| {
            let tool = folder.tool(&["run", "p.jsonl", "--shard", shard]);
            tool.at(&server).start()
        });
        for running in running {
            running.wait().code(0);
        }
        assert_eq!(server.count(), sent, "round {round}");
    }
    for shard in 0..3 {
        let results = folder.records(&format!("p.shard-{shard}-of-3.results.jsonl"));
        assert_eq!(ids(&results), own(shard));
    }
    assert_eq!(folder.names().len(), 4, "{:?}", folder.names());
}

#[test]
fn failures_of_a_shard_and_those_for_a_device_are_beside_it() {
    let bad = Faultd::script(|_| Reply::status(400));
    for output in [&[][..], &["-o", "/dev/null"]] {
        let folder = Folder::new();
        folder.write("p.jsonl", format!("{}{{}}\n", request("r0")));
        let arguments = [&["run", "p.jsonl", "--shard", "0/1"], output].concat();
        folder.tool(&arguments).at(&bad).run().code(1);
        assert_eq!(folder.records("p.shard-0-of-1.errors.jsonl").len(), 2);
    }
}

#[test]
fn a_stream_is_cut_like_a_file_and_its_other_rows_may_be_anything() {
    let folder = Folder::new();
    let rows: String = (0..8).map(|row| request(&format!("r{row}"))).collect();
    let server = server();
    for shard in 0..3 {
        let tool = folder.tool(&["run", "-", "--shard", &format!("{shard}/3")]);
        let ended = tool.at(&server).fed(rows.as_bytes()).code(0);
        let results = records(&ended.stdout);
        assert_eq!(ids(&results), own(shard));
        let has = format!("{0} of {0} request", own(shard).len());
        ended.says(&[&has]);
    }
    assert_eq!(server.count(), 8);
    // What is there already shows that the input was cut in another way.
    let run = |shard: &str| {
        let tool = folder.tool(&["run", "-", "-o", "o.jsonl", "--shard", shard]);
        tool.at(&server).fed(rows.as_bytes())
    };
    run("0/3").code(0);
    run("1/3")
        .code(2)
        .says(&["not in shard 1 of 3", "-o, --shard"]);
    run("0/3").code(0);
    assert_eq!(server.count(), 8 + own(0).len());
}

#[test]
fn two_shards_with_one_output_are_told_so() {
    let folder = Folder::new();
    folder.requests(8);
    let held =
        Faultd::script(|_| Reply::ok_chat("hello").after(std::time::Duration::from_secs(60)));
    let run = |shard| {
        folder
            .tool(&["run", "p.jsonl", "-o", "o.jsonl", "--shard", shard])
            .at(&held)
    };
    let first = run("0/3").start();
    crate::tool::until("one in flight", || held.count() > 0);
    let by = format!("written by process {} ", first.id());
    run("1/3").run().code(2).says(&[&by, "o.jsonl.lock", "-o"]);
}

#[test]
fn an_input_that_is_cut_in_another_way_is_not_paid_for_again() {
    let folder = Folder::new();
    folder
        .requests(8)
        .write("p.jsonl.bak", "")
        .write("q.jsonl", request("q"));
    folder
        .write("p.shard-1-of-2.results.jsonl", "")
        .write("t.csv", "text\na\n");
    let server = server();
    let run = |arguments: &[&str]| {
        let arguments = [&["run"], arguments].concat();
        folder.tool(&arguments).at(&server).run()
    };
    let at = |shard| run(&["p.jsonl", "--shard", shard]);
    at("0/3").code(0);
    let sent = server.count();
    for refused in [at("0/4"), at("0/1"), run(&["p.jsonl"])] {
        let told = [
            "\"p.shard-0-of-3.results.jsonl\" has answers",
            "tollgate merge",
            "-o",
        ];
        refused.code(2).says(&told);
    }
    assert_eq!(server.count(), sent);
    // Other inputs, other kinds of results and other outputs are no matter.
    run(&["q.jsonl", "--shard", "0/1"]).code(0);
    run(&["p.jsonl", "--shard", "1/4", "--simulate"]).code(0);
    run(&["p.jsonl", "--shard", "1/4", "-o", "o.jsonl"]).code(0);
    run(&["t.csv", "--prompt", "{{ text }}", "--model", "m"]).code(0);
    at("1/3").code(0);
    let table = [
        "t.csv",
        "--prompt",
        "{{ text }}",
        "--model",
        "m",
        "--shard",
        "0/2",
    ];
    run(&table)
        .code(2)
        .says(&["\"t.results.csv.jsonl\" has answers"]);
    // What was there before goes on.
    folder
        .tool(&[
            "merge",
            "p.shard-0-of-3.results.jsonl",
            "-o",
            "p.results.jsonl",
        ])
        .run()
        .code(1)
        .says(&["2 shards have no file"]);
    run(&["p.jsonl"]).code(0).says(&["8 of 8 requests"]);
    at("0/3").code(0);
    at("2/3").code(0);
    at("0/2").code(0);
}

#[test]
fn what_is_looked_at_is_the_shard() {
    let folder = Folder::new();
    folder.requests(8);
    let count = own(1).len();
    let counted = format!("requests       {count} in 8 lines");
    let dry = ["run", "p.jsonl", "--dry-run", "--shard", "1/3"];
    let ended = folder.tool(&dry).run().code(0);
    for words in [&counted, &format!("planned    {count} request")] {
        assert!(ended.stdout.contains(words), "{ended:#?}");
    }
    // A run would refuse what is a finding here.
    folder.write("o.jsonl", "");
    let server = server();
    let run = ["run", "p.jsonl", "-o", "o.jsonl", "--shard"];
    folder
        .tool(&[&run[..], &["0/3"]].concat())
        .at(&server)
        .run()
        .code(0);
    let dry = folder
        .tool(&[&run[..], &["1/3", "--dry-run"]].concat())
        .run()
        .code(1);
    assert!(dry.stdout.contains("is in another shard"), "{dry:#?}");
}

#[test]
fn the_engine_is_asked_only_for_auto() {
    let folder = Folder::new();
    folder.requests(8);
    let server = server();
    let run = |flags: &[&str], variables: &[(&str, &str)]| {
        let tool = folder.tool(&[&["run", "p.jsonl", "-o", "-"], flags].concat());
        let tool = variables
            .iter()
            .fold(tool, |tool, (name, value)| tool.env(name, value));
        tool.at(&server).run()
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "2"),
        ("SLURM_ARRAY_TASK_MIN", "1"),
        ("SLURM_ARRAY_TASK_MAX", "3"),
        ("SLURM_ARRAY_TASK_COUNT", "3"),
        ("SLURM_ARRAY_TASK_STEP", "1"),
    ];
    let pod = [("JOB_COMPLETION_INDEX", "2")];
    let rows = |ended: &str| ended.lines().count();
    assert_eq!(rows(&run(&[], &slurm).code(0).stdout), 8);
    assert_eq!(
        rows(&run(&["--shard", "auto"], &slurm).code(0).stdout),
        own(1).len()
    );
    let of_pod = run(&["--shard", "auto", "--shards", "3"], &pod).code(0);
    assert_eq!(rows(&of_pod.stdout), own(2).len());
    let sent = server.count();
    for (flags, variables, told) in [
        (
            &["--shard", "auto"][..],
            &[][..],
            "SLURM_ARRAY_TASK_ID, _MIN and _COUNT",
        ),
        (&["--shard", "auto"], &pod, "--shards is missing"),
        (
            &["--shard", "auto", "--shards", "3"],
            &[slurm[0], pod[0]],
            "both",
        ),
        (&["--shard", "auto", "--shards", "8"], &slurm, "--shard I/8"),
        (
            &["--shard", "auto"],
            &[slurm[0], slurm[1], slurm[3], ("SLURM_ARRAY_TASK_STEP", "2")],
            "one by one",
        ),
        (&["--shards", "3"], &pod, "--shard"),
        (
            &["--shard", "1/3", "--shards", "3"],
            &[],
            "leave --shards out",
        ),
        (&["--shard", "3/3"], &[], "the last of 3 is 2"),
        (&["--shard=-1/3"], &[], "such as 0/8"),
        (&["--shard", "1"], &[], "such as 0/8"),
        (&["--shard", "0/0"], &[], "0 shards"),
    ] {
        run(flags, variables).code(2).says(&[told]);
    }
    assert_eq!(server.count(), sent);
}
