//! reqwest on tokio, as most programs do it: its defaults, one client, a semaphore for the places
//! in flight (`spawn`) or a stream of futures (`buffered`); no gate, no retries. `spawn-whole` keeps
//! every answer whole, with its headers, and takes the texts at the end, as tollgate's `chat_all`.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use peers::Result;
use peers::chat::{self, Completion, Question, Said};
use peers::task::{self, Done, Task};
use reqwest::{Certificate, Client, Response};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

fn main() -> ExitCode {
    task::main(|task| match task.way.as_str() {
        "spawn" => Runtime::new()?.block_on(spawn(task)),
        "spawn-whole" => Runtime::new()?.block_on(spawn_whole(task)),
        "buffered" => Runtime::new()?.block_on(buffered(task)),
        _ => task.unknown_way(),
    })
}

fn client(task: &Task) -> Result<Client> {
    let mut client = Client::builder();
    if let Some(pem) = task.ca_pem()? {
        client = client.tls_certs_only([Certificate::from_pem(&pem)?]);
    }
    Ok(client.build()?)
}

async fn send(client: &Client, url: &str, prompt: &str) -> Result<Response> {
    Ok(client
        .post(url)
        .bearer_auth(chat::KEY)
        .json(&Question::new(prompt))
        .send()
        .await?
        .error_for_status()?)
}

async fn ask(client: &Client, url: &str, prompt: &str) -> Result<Said> {
    let completion: Completion = send(client, url, prompt).await?.json().await?;
    Ok(completion.into())
}

async fn spawn(task: &Task) -> Result<Done> {
    let all = a_task_each(task, async |client, url, prompt| {
        ask(&client, &url, &prompt).await
    });
    Ok(Done::with(all.await?.iter()))
}

async fn spawn_whole(task: &Task) -> Result<Done> {
    let all = a_task_each(task, async |client, url, prompt| {
        let mut response = send(&client, &url, &prompt).await?;
        let headers = std::mem::take(response.headers_mut());
        Ok((headers, response.bytes().await?))
    });
    let said: Vec<Said> = all
        .await?
        .into_iter()
        .map(|(_, body)| Ok(serde_json::from_slice::<Completion>(&body)?.into()))
        .collect::<Result<_>>()?;
    Ok(Done::with(said.iter()))
}

/// What `ask` makes of each answer, in the order of the questions.
async fn a_task_each<T, F>(
    task: &Task,
    ask: impl Fn(Client, Arc<str>, Arc<str>) -> F,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let client = client(task)?;
    let (url, prompt) = (
        Arc::<str>::from(task.chat_url()),
        Arc::<str>::from(chat::prompt()),
    );
    let places = Arc::new(Semaphore::new(task.at_once));
    let mut tasks = JoinSet::new();
    let mut all: Vec<Option<T>> = (0..task.requests).map(|_| None).collect();
    for index in 0..task.requests {
        // Before the task is made, so that there are no more tasks than places.
        let place = Arc::clone(&places).acquire_owned().await?;
        let answer = ask(client.clone(), Arc::clone(&url), Arc::clone(&prompt));
        tasks.spawn(async move {
            let answer = answer.await;
            drop(place);
            (index, answer)
        });
        while let Some(ended) = tasks.try_join_next() {
            let (index, answer) = ended?;
            all[index] = Some(answer?);
        }
    }
    while let Some(ended) = tasks.join_next().await {
        let (index, answer) = ended?;
        all[index] = Some(answer?);
    }
    Ok(all.into_iter().flatten().collect())
}

async fn buffered(task: &Task) -> Result<Done> {
    let client = client(task)?;
    let (url, prompt) = (task.chat_url(), chat::prompt());
    let mut all: Vec<(usize, Said)> = stream::iter(0..task.requests)
        .map(async |index| Ok::<_, peers::Error>((index, ask(&client, &url, &prompt).await?)))
        .buffer_unordered(task.at_once)
        .try_collect()
        .await?;
    all.sort_unstable_by_key(|&(index, _)| index);
    Ok(Done::with(all.iter().map(|(_, said)| said)))
}
