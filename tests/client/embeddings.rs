//! Embeddings: batched, in order, and no text takes others down.

use serde_json::{Value, json};
use tollgate::{Client, ErrorKind, HttpResponse};

use crate::bench::*;

/// A vector that tells its text: its length, and its number.
fn vector(text: &str) -> Value {
    let number: f64 = text
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap();
    json!([text.len(), number])
}

fn texts(ask: &Ask<'_>) -> Vec<String> {
    let body: Value = serde_json::from_slice(ask.call.body).unwrap();
    assert_eq!(ask.call.url, "http://127.0.0.1:9/v1/embeddings");
    assert_eq!(body["model"], "m");
    serde_json::from_value(body["input"].clone()).unwrap()
}

/// The vectors in the wrong order, which their indices tell.
fn vectors(texts: &[String]) -> HttpResponse {
    let mut data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"index": index, "embedding": vector(text)}))
        .collect();
    data.reverse();
    answer(200, &json!({"data": data, "usage": {"total_tokens": 1}}))
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("text {n}")).collect()
}

#[test]
fn texts_go_in_batches_and_come_back_in_order() {
    let bench = bench(|ask| Ok(vectors(&texts(ask))));
    let texts = many(250);
    let embedded = bench.run(|client| client.embed("m", &texts));
    assert_eq!(embedded.len(), 250);
    for (at, embedding) in embedded.into_iter().enumerate() {
        assert_eq!(embedding.unwrap()[1].to_string(), at.to_string());
    }
    assert_eq!(bench.count(), 3);
    assert!(bench.run(|client| client.embed("m", &[""; 0])).is_empty());
}

#[test]
fn a_text_that_is_refused_fails_alone() {
    let bench = bench(|ask| {
        let texts = texts(ask);
        if texts.iter().any(|text| text == "text 100") {
            return error(400, "invalid_request_error", "too long");
        }
        Ok(vectors(&texts))
    });
    let texts = many(101);
    let alone = bench.run(|client| client.embed("m", &texts));
    assert!(alone[..100].iter().all(Result::is_ok));
    assert_eq!(alone[100].as_ref().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(
        bench.count(),
        2,
        "what was alone already is not asked again"
    );

    let texts = many(150);
    let among = bench.run(|client| client.embed("m", &texts));
    let failed: Vec<usize> = (0..150).filter(|&at| among[at].is_err()).collect();
    assert_eq!(failed, [100]);
    assert_eq!(bench.count(), 2 + 2 + 50);
}

#[test]
fn a_batch_above_a_limit_goes_text_by_text() {
    let bench = bench_with(
        |builder| builder.tokens_per_minute(60),
        |ask| Ok(vectors(&texts(ask))),
    );
    let texts = many(40);
    let embedded = bench.run(|client| client.clone().with_deadline(secs(600)).embed("m", &texts));
    assert!(embedded.iter().all(Result::is_ok));
    assert_eq!(bench.count(), 40);
}

#[test]
fn an_answer_that_does_not_fit_the_texts_is_malformed() {
    for body in [
        json!({"data": [{"embedding": [1]}]}),
        json!({"data": [{"embedding": [1]}, {"embedding": "AACAPw=="}]}),
        json!({"data": {}}),
        json!([]),
    ] {
        let bench = bench(move |_| Ok(answer(200, &body)));
        let embedded = bench.run(|client: &Client| client.embed("m", &["a", "b"]));
        for result in embedded {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Malformed);
        }
    }
}
