// build.rs
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use tollgate::{Client, Request};

const MODEL: &str = "gpt-4o-mini";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=prompts");
    println!("cargo::rerun-if-env-changed=ASK");
    if env::var_os("ASK").is_some() {
        ask()?;
    } else {
        // Not after `ask`, which writes there: the next build would run this script again.
        println!("cargo::rerun-if-changed=answers");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (name, prompt) in prompts()? {
        match answer(&name, &prompt) {
            Some(answer) => fs::write(out.join(name), answer)?,
            None => println!(
                "cargo::error=answers/{name} has no answer to prompts/{name} as it is now: \
                 run once `ASK=1 cargo build`"
            ),
        }
    }
    Ok(())
}

/// Asks for the answers that are missing, and keeps each as soon as it is there.
fn ask() -> Result<(), Box<dyn Error>> {
    let mut open = prompts()?;
    open.retain(|(name, prompt)| answer(name, prompt).is_none());
    if open.is_empty() {
        return Ok(());
    }
    fs::create_dir_all("answers")?;
    let client = Client::from_env()?.with_deadline(Duration::from_secs(300));
    let requests: Vec<_> = open
        .iter()
        .map(|(_, prompt)| Request::chat(MODEL, prompt))
        .collect();
    for outcome in client.as_completed(requests)? {
        let (name, prompt) = &open[usize::try_from(outcome.index)?];
        match outcome.result {
            Ok(reply) => {
                let new = Path::new("answers").join(format!("{name}.new"));
                let text = reply.text().ok_or("an answer without a text")?;
                fs::write(&new, question(prompt) + &text)?;
                fs::rename(&new, Path::new("answers").join(name))?;
            }
            Err(error) => println!("cargo::warning=prompts/{name}: {error}"),
        }
    }
    Ok(())
}

/// The files in `prompts`: names and texts.
fn prompts() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut prompts = Vec::new();
    for entry in fs::read_dir("prompts")? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| "a name that is not UTF-8")?;
        prompts.push((name, fs::read_to_string(entry.path())?));
    }
    Ok(prompts)
}

/// The answer that is kept for a prompt. It counts only below the question that it answers.
fn answer(name: &str, prompt: &str) -> Option<String> {
    let kept = fs::read_to_string(Path::new("answers").join(name)).ok()?;
    Some(kept.strip_prefix(&question(prompt))?.to_owned())
}

fn question(prompt: &str) -> String {
    format!("{MODEL} was asked:\n{prompt}\nIt answered:\n")
}
