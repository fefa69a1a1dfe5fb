//! tollgate as its README says to use it, with everything on: the gate with all its limits, of
//! which only the places in flight bind; retries, JSON, usage, results in order.

use std::process::ExitCode;

use peers::Result;
use peers::chat::{self, Said};
use peers::task::{self, Done, Task};
use tollgate::{Client, Reply, Request};

fn main() -> ExitCode {
    task::main(|task| match task.way.as_str() {
        "chat_all" => chat_all(task),
        "for_each" => for_each(task),
        _ => task.unknown_way(),
    })
}

fn client(task: &Task) -> Result<Client> {
    let mut client = Client::builder()
        .base_url(&task.base_url)
        .api_key(chat::KEY)
        .concurrency(task.at_once)
        .requests_per_second(1_000_000)
        .tokens_per_minute(60_000_000_000);
    if let Some(ca_file) = &task.ca_file {
        client = client.ca_file(ca_file);
    }
    Ok(client.build()?)
}

/// The shortest way: all replies at the end, whole, with their headers; then the texts are taken.
fn chat_all(task: &Task) -> Result<Done> {
    let client = client(task)?;
    let prompt = chat::prompt();
    let replies = client.chat_all(chat::MODEL, &vec![prompt.as_str(); task.requests]);
    let said: Vec<_> = replies
        .into_iter()
        .map(|reply| reply.map(|reply| said(&reply)))
        .collect::<tollgate::Result<_>>()?;
    Ok(Done::with(said.iter()))
}

/// Of each reply what the peers keep, as it comes.
fn for_each(task: &Task) -> Result<Done> {
    let client = client(task)?;
    let prompt = chat::prompt();
    let requests = (0..task.requests).map(|_| Request::chat(chat::MODEL, prompt.as_str()));
    let mut all: Vec<(u64, Said)> = Vec::with_capacity(task.requests);
    let mut failed = None;
    client.for_each(requests, |done| match done.result {
        Ok(reply) => all.push((done.index, said(&reply))),
        Err(error) => failed = Some(error),
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    all.sort_unstable_by_key(|&(index, _)| index);
    Ok(Done::with(all.iter().map(|(_, said)| said)))
}

fn said(reply: &Reply) -> Said {
    Said {
        text: reply.text().unwrap_or_default(),
        total_tokens: reply.usage().map_or(0, |usage| usage.total_tokens),
    }
}
