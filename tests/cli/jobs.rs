//! The jobs that the guide shows for engines, run as their readers would, and then run again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Ended, Folder, KEY, Tool, records, until};

const JOBS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/jobs");
const ROWS: usize = 40;

/// A folder with the jobs and 40 requests.
fn folder() -> Folder {
    let folder = Folder::new();
    for job in fs::read_dir(JOBS).unwrap() {
        let job = job.unwrap();
        fs::copy(job.path(), folder.path(&job.file_name().to_string_lossy())).unwrap();
    }
    folder.requests(ROWS);
    folder.write("prompts.jsonl", folder.read("p.jsonl"));
    folder.write(".openai-key", KEY);
    fs::create_dir(folder.path("bin")).unwrap();
    folder
}

/// A line of shell in this folder, where the tool is on the path, behind what is in `bin`.
fn shell(folder: &Folder, server: &Faultd, line: &str) -> Tool {
    let tool = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", folder.path("bin").display(), tool.display());
    let limit = format!("file:{}", folder.path("limit").display());
    let shell = folder.shell(line).at(server).env("PATH", &path);
    shell
        .env("TOLLGATE_SHARED_LIMIT", &limit)
        .env("HOME", &folder.path("").display().to_string())
}

/// A program that the job calls, in place of the engine's own.
fn stub(folder: &Folder, name: &str, script: &str) {
    let name = format!("bin/{name}");
    folder.write(&name, format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(folder.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether this program is here; where it must be, that it is not is a failure.
fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    let found = command.arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        let demand = std::env::var("TOLLGATE_TEST_ENGINES").unwrap_or_default();
        assert_ne!(demand, "required", "{program} is not installed");
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// All shards are there, and make up one file in the input's order.
fn assert_whole(folder: &Folder) {
    let ids: Vec<_> = (0..ROWS).map(|row| format!("r{row}")).collect();
    let all = folder.records("all.jsonl");
    let merged: Vec<_> = all
        .iter()
        .map(|it| it["custom_id"].as_str().unwrap())
        .collect();
    assert_eq!(merged, ids);
    let shards = (0..8).map(|i| format!("prompts.shard-{i}-of-8.results.jsonl"));
    assert_eq!(
        shards.map(|it| folder.records(&it).len()).sum::<usize>(),
        ROWS
    );
}

fn merge(folder: &Folder, server: &Faultd) -> Ended {
    let line =
        "tollgate merge prompts.shard-*-of-8.results.jsonl -o all.jsonl --ordered-by prompts.jsonl";
    shell(folder, server, line).run()
}

/// Half of the requests, then all of them, then once more.
fn runs_all_shards_and_run_again_asks_for_what_is_missing(program: &str) {
    if !has(program) {
        return;
    }
    let folder = folder();
    let all = folder.read("prompts.jsonl");
    let half: String = all.split_inclusive('\n').take(ROWS / 2).collect();
    let server = Faultd::script(|_| Reply::ok_chat("hello"));
    for (prompts, asked) in [(&half, ROWS / 2), (&all, ROWS), (&all, ROWS)] {
        folder.write("prompts.jsonl", prompts);
        let line = format!("sh {program}.sh");
        shell(&folder, &server, &line).run().code(0);
        assert_eq!(server.count(), asked);
    }
    assert_whole(&folder);
}

#[test]
fn a_line_of_xargs_runs_all_shards() {
    runs_all_shards_and_run_again_asks_for_what_is_missing("xargs");
}

#[test]
fn a_line_of_gnu_parallel_runs_all_shards() {
    runs_all_shards_and_run_again_asks_for_what_is_missing("parallel");
}

/// With the variables that Slurm sets, and without Slurm.
#[test]
fn a_slurm_task_is_a_shard_and_goes_back_into_the_queue_when_it_was_stopped() {
    let folder = folder();
    stub(&folder, "srun", "exec \"$@\"");
    stub(&folder, "scontrol", "echo \"$@\" >> requeued");
    let server = Faultd::script(|_| Reply::ok_chat("hello"));
    let task = |task: usize| {
        let mut tool = shell(&folder, &server, "sh slurm.sh").env("SLURM_ARRAY_JOB_ID", "77");
        for (name, value) in [
            ("ID", task),
            ("MIN", 0),
            ("MAX", 7),
            ("COUNT", 8),
            ("STEP", 1),
        ] {
            tool = tool.env(&format!("SLURM_ARRAY_TASK_{name}"), &value.to_string());
        }
        tool
    };
    for _ in ["first", "again"] {
        for shard in 0..8 {
            task(shard).run().code(0);
        }
        assert_eq!(server.count(), ROWS);
    }
    merge(&folder, &server).code(0);
    assert_whole(&folder);
    assert!(!folder.has("requeued"));

    stub(&folder, "srun", "exit 143");
    task(3).run().code(143);
    stub(&folder, "srun", "exit 1");
    task(4).run().code(1);
    assert_eq!(folder.read("requeued"), "requeue 77_3\n");
    let unset = task(0).env("TOLLGATE_SHARED_LIMIT", "").run();
    assert_ne!(unset.says(&["set it to redis://"]).code, Some(0));
}

/// Needs the interpreter of `parsers`, with `kubernetes-validate`.
#[test]
fn the_kubernetes_job_is_valid_and_each_pod_is_a_shard() {
    let Some(python) = std::env::var_os("TOLLGATE_TEST_PYTHON") else {
        eprintln!("SKIPPED: TOLLGATE_TEST_PYTHON names no interpreter");
        return;
    };
    let folder = folder();
    let mut command = Command::new(python);
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/kubernetes_job.py"
    ));
    command.args(["kubernetes.yaml", "kubernetes_store.yaml"].map(|name| folder.path(name)));
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let mut words: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    // There is no host of the store's name here.
    for word in &mut words {
        if word.starts_with("redis://") {
            *word = format!("file:{}", folder.path("limit").display());
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(words[0], "tollgate");
    let server = Faultd::script(|_| Reply::ok_chat("hello"));
    for _ in ["first", "again"] {
        for pod in 0..8 {
            let tool = folder.tool(&words[1..]).at(&server);
            tool.env("JOB_COMPLETION_INDEX", &pod.to_string())
                .run()
                .code(0);
        }
        assert_eq!(server.count(), ROWS);
    }
    merge(&folder, &server).code(0);
    assert_whole(&folder);
}

/// Without Spark, which is large: `.ci/engines` runs the job itself.
#[test]
fn what_spark_pipes_a_partition_to_pays_once_for_an_attempt_that_died_while_it_went_on() {
    if !has("flock") {
        return;
    }
    let folder = folder();
    folder.write("key", KEY);
    let let_go = Arc::new(AtomicBool::new(false));
    let server = Faultd::script({
        let let_go = Arc::clone(&let_go);
        move |seen| {
            until("answers were let go", || let_go.load(Ordering::SeqCst));
            match seen.json()["messages"][0]["content"].as_str() {
                Some(prompt) if prompt.ends_with("row 7") => Reply::status(400),
                _ => Reply::ok_chat("good"),
            }
        }
    });
    let partition = || shell(&folder, &server, "FOLDER=$PWD exec sh spark_pipe.sh");
    let rows = |order: &mut dyn Iterator<Item = usize>| -> Vec<u8> {
        let row = |row| {
            format!(
                "{}\n",
                json!({"id": format!("r{row}"), "text": format!("row {row}")})
            )
        };
        order.map(row).collect::<String>().into_bytes()
    };
    let mut died = partition().stdin(Stdio::piped()).start();
    let mut stdin = died.child().stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &rows(&mut (0..ROWS))).unwrap();
    drop(stdin);
    until("20 in flight", || server.count() == 20);
    died.child().kill().unwrap();

    // The first attempt's tool goes on; the second, whose rows come in another order, waits for it.
    let next = partition().stdin(Stdio::piped());
    let text = rows(&mut (0..ROWS).rev());
    let next = std::thread::scope(|scope| {
        let next = scope.spawn(|| next.fed(&text));
        let waits = || {
            let mut files = fs::read_dir(folder.path("answers")).unwrap().flatten();
            files.any(|it| it.file_name().to_string_lossy().starts_with("new."))
        };
        until("the second attempt has its rows", waits);
        std::thread::sleep(Duration::from_millis(300));
        assert!(waits(), "it did not wait for the first");
        let_go.store(true, Ordering::SeqCst);
        next.join().unwrap()
    });
    let next = next.code(0);
    assert_eq!(server.count(), ROWS);
    let mut answers = records(&next.stdout);
    assert_eq!(answers.len(), ROWS);
    answers.retain(|it| it["response"]["status_code"] != 200);
    let failed: Vec<&Value> = answers.iter().map(|it| &it["custom_id"]).collect();
    assert_eq!(failed, ["r7"]);
}
