//! ureq by hand on threads, as a program without tollgate would do it: a place in flight is a
//! thread, no gate, no retries. `defaults` shares one agent and changes no setting; `per-thread` has
//! smaller buffers and an agent for each thread, which is the best that settings alone can do.

use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use peers::Result;
use peers::chat::{self, Completion, Question, Said};
use peers::task::{self, Done, Task};
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;

fn main() -> ExitCode {
    task::main(|task| match task.way.as_str() {
        "defaults" => {
            let agent = settings(task)?.build().new_agent();
            on_threads(task, || agent.clone(), with_helpers)
        }
        "per-thread" => {
            // A buffer must hold a whole head; these do, with room.
            let settings = settings(task)?
                .input_buffer_size(16 << 10)
                .output_buffer_size(8 << 10)
                .build();
            on_threads(task, || settings.new_agent(), by_bytes)
        }
        _ => task.unknown_way(),
    })
}

fn settings(task: &Task) -> Result<ConfigBuilder<AgentScope>> {
    let settings = Agent::config_builder();
    let Some(pem) = task.ca_pem()? else {
        return Ok(settings);
    };
    let roots = RootCerts::from(vec![Certificate::from_pem(&pem)?]);
    Ok(settings.tls_config(TlsConfig::builder().root_certs(roots).build()))
}

fn on_threads(
    task: &Task,
    agent: impl Fn() -> Agent + Sync,
    ask: fn(&Agent, &str, &str) -> Result<Completion>,
) -> Result<Done> {
    let (url, prompt) = (task.chat_url(), chat::prompt());
    let taken = AtomicUsize::new(0);
    let all: Vec<OnceLock<Said>> = (0..task.requests).map(|_| OnceLock::new()).collect();
    task.on_threads(512 << 10, || {
        let agent = agent();
        while let Some(slot) = all.get(taken.fetch_add(1, Ordering::Relaxed)) {
            // Each slot is taken once.
            let _ = slot.set(ask(&agent, &url, &prompt)?.into());
        }
        Ok(())
    })?;
    Ok(Done::with(all.iter().filter_map(OnceLock::get)))
}

fn with_helpers(agent: &Agent, url: &str, prompt: &str) -> Result<Completion> {
    Ok(agent
        .post(url)
        .header("authorization", format!("Bearer {}", chat::KEY))
        .send_json(Question::new(prompt))?
        .body_mut()
        .read_json()?)
}

fn by_bytes(agent: &Agent, url: &str, prompt: &str) -> Result<Completion> {
    let body = agent
        .post(url)
        .header("authorization", format!("Bearer {}", chat::KEY))
        .content_type("application/json")
        .send(serde_json::to_vec(&Question::new(prompt))?)?
        .body_mut()
        .read_to_vec()?;
    Ok(serde_json::from_slice(&body)?)
}
