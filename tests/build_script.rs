//! The build script of the guide, run as cargo runs one: in the folder of its package, with `OUT_DIR`.

#![cfg(feature = "sim")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tollgate::sim::{SimServer, SimSpec};

mod script {
    include!("data/build.rs");

    pub(super) fn run() {
        main().unwrap();
    }
}

/// Not a test by itself: the process that is the build script.
#[test]
fn as_cargo_runs_it() {
    if std::env::var_os("OUT_DIR").is_some() {
        script::run();
    }
}

/// What the script prints for cargo.
fn build(package: &Path, server: &SimServer, ask: bool) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "as_cargo_runs_it", "--nocapture"])
        .current_dir(package);
    command.env("OUT_DIR", package.join("out"));
    command
        .env("OPENAI_BASE_URL", server.base_url())
        .env("OPENAI_API_KEY", "any");
    command.env_remove("ASK");
    if ask {
        command.env("ASK", "1");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines = said
        .lines()
        .filter_map(|line| Some(line.split_once("cargo::")?.1.to_owned()));
    lines.collect()
}

fn errors(said: &[String]) -> Vec<&String> {
    said.iter()
        .filter(|line| line.starts_with("error="))
        .collect()
}

#[test]
fn it_asks_once_when_told_to_and_never_builds_a_stale_answer_in() {
    let server = SimServer::start("latency=0".parse::<SimSpec>().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path();
    let prompt = package.join("prompts/hello.txt");
    fs::create_dir_all(package.join("prompts")).unwrap();
    fs::create_dir_all(package.join("out")).unwrap();
    fs::write(&prompt, "Say hello.\n").unwrap();

    // Nothing is kept yet: what to do is said, and nothing is sent.
    let said = build(package, &server, false);
    let [error] = errors(&said)[..] else {
        panic!("{said:?}");
    };
    assert!(
        error.contains("hello.txt") && error.contains("ASK=1 cargo build"),
        "{error}"
    );
    assert_eq!(server.stats().requests, 0);

    // With its variable it asks. It watches nothing that it has written itself.
    let said = build(package, &server, true);
    assert_eq!(
        said,
        ["rerun-if-changed=prompts", "rerun-if-env-changed=ASK"]
    );
    assert_eq!(server.stats().requests, 1);
    let built = package.join("out/hello.txt");
    let first = fs::read_to_string(&built).unwrap();
    assert!(first.starts_with("Simulated answer"), "{first}");

    // From then on it builds without a network, and asks nothing twice.
    fs::remove_file(&built).unwrap();
    for ask in [false, true] {
        assert_eq!(errors(&build(package, &server, ask)).len(), 0);
        assert_eq!(fs::read_to_string(&built).unwrap(), first);
    }
    assert_eq!(server.stats().requests, 1);

    // An edited prompt has no answer, until it is asked.
    fs::write(&prompt, "Say goodbye.\n").unwrap();
    assert_eq!(errors(&build(package, &server, false)).len(), 1);
    assert_eq!(errors(&build(package, &server, true)).len(), 0);
    assert_eq!(server.stats().requests, 2);
    assert_ne!(fs::read_to_string(&built).unwrap(), first);
}
