//! async-openai on tokio, as its examples have it: its own types, its own retries, a stream of
//! futures for the places in flight.

use std::process::ExitCode;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use peers::Result;
use peers::chat::{self, Said};
use peers::task::{self, Done, Task};
use reqwest::Certificate;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    task::main(|task| Runtime::new()?.block_on(run(task)))
}

fn client(task: &Task) -> Result<Client<OpenAIConfig>> {
    let client = Client::with_config(
        OpenAIConfig::new()
            .with_api_base(&task.base_url)
            .with_api_key(chat::KEY),
    );
    let Some(pem) = task.ca_pem()? else {
        return Ok(client);
    };
    let trusting = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(&pem)?])
        .build()?;
    Ok(client.with_http_client(trusting))
}

async fn ask(client: &Client<OpenAIConfig>, prompt: &str) -> Result<Said> {
    let request = CreateChatCompletionRequestArgs::default()
        .model(chat::MODEL)
        .messages([ChatCompletionRequestUserMessageArgs::default()
            .content(prompt)
            .build()?
            .into()])
        .build()?;
    let mut completion = client.chat().create(request).await?;
    Ok(Said {
        text: completion
            .choices
            .pop()
            .and_then(|choice| choice.message.content)
            .unwrap_or_default(),
        total_tokens: completion
            .usage
            .map_or(0, |usage| usage.total_tokens.into()),
    })
}

async fn run(task: &Task) -> Result<Done> {
    let client = client(task)?;
    let prompt = chat::prompt();
    let mut all: Vec<(usize, Said)> = stream::iter(0..task.requests)
        .map(async |index| Ok::<_, peers::Error>((index, ask(&client, &prompt).await?)))
        .buffer_unordered(task.at_once)
        .try_collect()
        .await?;
    all.sort_unstable_by_key(|&(index, _)| index);
    Ok(Done::with(all.iter().map(|(_, said)| said)))
}
