//! Shards of one input, each a process of its own: some killed, some run again.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::provider::{Provider, answer, id, requests};
use crate::support::quick::Quick;
use crate::tool::{Folder, Running, records, until};

const ROWS: usize = 1_200;
const SHARDS: usize = 8;
const IN_FLIGHT: usize = 4;

fn results(shard: usize) -> String {
    format!("p.shard-{shard}-of-{SHARDS}.results.jsonl")
}

/// How many whole records there are.
fn recorded(folder: &Folder, shard: usize) -> usize {
    let text = fs::read_to_string(folder.path(&results(shard))).unwrap_or_default();
    text.matches('\n').count()
}

fn start(provider: &Provider, folder: &Folder, shard: usize) -> Running {
    let (flag, at_once) = (format!("{shard}/{SHARDS}"), IN_FLIGHT.to_string());
    let arguments = ["run", "p.jsonl", "-c", &at_once, "--shard", &flag];
    provider.tool(folder, &arguments).start()
}

/// The shard of a row, by the definition of CRC-32.
fn shard_of(row: usize) -> usize {
    let hash = !id(row).bytes().fold(!0_u32, |hash, byte| {
        (0..8).fold(hash ^ u32::from(byte), |hash, _| {
            (hash >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(hash & 1))
        })
    });
    hash as usize % SHARDS
}

#[test]
fn killed_and_repeated_shards_are_one_whole_file_and_nothing_on_file_is_asked_again() {
    /// So many rows of a shard that is to be killed are answered before.
    const ANSWERED: usize = 20;
    let folder = Folder::new();
    folder.write("p.jsonl", requests(ROWS));
    let victims = Arc::new(Mutex::new(BTreeMap::from([(2, ANSWERED), (5, ANSWERED)])));
    let provider = Provider::with({
        let victims = Arc::clone(&victims);
        // Each request has a thread of its own here, which waits while its shard is held.
        move |row, _| {
            let is_held = || match victims.lock().unwrap().get_mut(&shard_of(row)) {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            };
            while is_held() {
                thread::sleep(Duration::from_millis(1));
            }
            Quick::json(200, &answer(row))
        }
    });
    let shards = 0..SHARDS;
    let mut running: BTreeMap<usize, Running> = shards
        .map(|shard| (shard, start(&provider, &folder, shard)))
        .collect();
    for shard in [2, 5] {
        until("some are on file", || recorded(&folder, shard) == ANSWERED);
        let mut killed = running.remove(&shard).expect("a shard");
        killed.child().kill().expect("it can be killed");
        killed.child().wait().expect("it ends");
    }
    victims.lock().unwrap().clear();
    for (_, shard) in running {
        shard.wait().code(0);
    }
    let merge = |output: &str| {
        let names: Vec<String> = (0..SHARDS).map(results).collect();
        let names = names.iter().map(String::as_str);
        let flags = ["--ordered-by", "p.jsonl", "-o", output];
        let arguments: Vec<&str> = ["merge"].into_iter().chain(names).chain(flags).collect();
        folder.tool(&arguments).run()
    };
    merge("part.jsonl").code(1).says(&[" rows have no record:"]);

    // The engine repeats what has died, and what it has not heard the end of.
    let before = provider.count();
    start(&provider, &folder, 3)
        .wait()
        .code(0)
        .says(&["0 to do"]);
    assert_eq!(provider.count(), before);
    for shard in [2, 5] {
        start(&provider, &folder, shard).wait().code(0);
    }
    merge("all.jsonl")
        .code(0)
        .says(&["1,200 answered, 0 failed"]);
    let all = records(&folder.read("all.jsonl"));
    let ids: Vec<&str> = all
        .iter()
        .map(|record| record["custom_id"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids, (0..ROWS).map(id).collect::<Vec<_>>());
    let mut asked = vec![0; ROWS];
    for row in provider.asked(0) {
        asked[row] += 1;
    }
    assert!(
        asked.iter().all(|times| (1..=2).contains(times)),
        "{asked:?}"
    );
    let again = asked.iter().filter(|times| **times == 2).count();
    assert!(again <= 2 * IN_FLIGHT, "{again} rows were asked again");
}
