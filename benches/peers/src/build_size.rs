//! What a program pays to build: clean release builds of a crate of one line that depends on
//! tollgate or on async-openai, both with their default features, in the versions of this crate's
//! lock file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use peers::Result;

use crate::contenders::cargo;
use crate::report::median;

struct Program {
    name: &'static str,
    dependency: String,
    main: &'static str,
}

pub(crate) fn measure(rounds: usize, out: &Path) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tollgate = fs::canonicalize(&root)?;
    let programs = [
        Program {
            name: "tollgate",
            dependency: format!(
                "tollgate = {{ path = {:?} }}",
                tollgate.display().to_string()
            ),
            main: "fn main() {\n    drop(tollgate::Client::from_env());\n}\n",
        },
        Program {
            name: "async-openai",
            dependency: "async-openai = { version = \"0.43\", features = [\"chat-completion\"] }"
                .to_owned(),
            main: "fn main() {\n    drop(async_openai::Client::new().chat());\n}\n",
        },
    ];
    let mut seconds = [Vec::new(), Vec::new()];
    let mut crates = [0, 0];
    for (program, crates) in programs.iter().zip(&mut crates) {
        let folder = out.join("build-size").join(program.name);
        lay_out(&folder, program)?;
        // What must be downloaded is, before any clock runs.
        run(&folder, &["fetch"])?;
        *crates = count_crates(&folder)?;
    }
    for round in 1..=rounds {
        for (program, seconds) in programs.iter().zip(&mut seconds) {
            let folder = out.join("build-size").join(program.name);
            let target = folder.join("target");
            if target.exists() {
                fs::remove_dir_all(&target)?;
            }
            let started = Instant::now();
            run(&folder, &["build", "--release", "--offline", "--quiet"])?;
            let took = started.elapsed().as_secs_f64();
            eprintln!("build-size: round {round}: {} {took:.1} s", program.name);
            seconds.push(took);
        }
    }
    let seconds = seconds.map(median);
    let mut text = String::from(
        "## Build\n\nA clean release build, the crate itself included, and all crates in its tree, \
         those for building included.\n\n\
         | dependency | build, s | × async-openai | crates |\n|---|---|---|---|\n",
    );
    for ((program, own), crates) in programs.iter().zip(seconds).zip(crates) {
        let _ = writeln!(
            text,
            "| {} | {own:.1} | {:.2} | {crates} |",
            program.name,
            own / seconds[1],
        );
    }
    text.push('\n');
    Ok(text)
}

fn lay_out(folder: &Path, program: &Program) -> Result<()> {
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/main.rs"), program.main)?;
    fs::write(
        folder.join("Cargo.toml"),
        format!(
            "[package]\nname = \"of-one-line\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [workspace]\n\n[dependencies]\n{}\n",
            program.dependency,
        ),
    )?;
    fs::write(folder.join("Cargo.lock"), include_str!("../Cargo.lock"))?;
    Ok(())
}

fn count_crates(folder: &Path) -> Result<usize> {
    let tree = run(
        folder,
        &[
            "tree",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ],
    )?;
    // "(*)" marks a crate whose own tree was printed before.
    let crates: BTreeSet<_> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty() && !line.starts_with("of-one-line "))
        .collect();
    Ok(crates.len())
}

fn run(folder: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new(cargo())
        .args(words)
        .current_dir(folder)
        // A target folder shared with others would not be clean.
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "cargo {} in {}: {complaint}",
            words.join(" "),
            folder.display()
        )
        .into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
