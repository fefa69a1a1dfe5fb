//! Files that a provider's own batch service, or another tool, has left: taken as what is done.

use std::fs;

use crate::fixture::{Fixture, fine, ids, row};

const OUTPUT: &str = "out.results.jsonl";
const ERRORS: &str = "out.errors.jsonl";

/// An input with these ids.
fn fixture(ids: &[&str]) -> Fixture {
    let input: String = ids.iter().map(|id| row(id, "hi")).collect();
    Fixture::new(&input)
}

fn lines(lines: &[&str]) -> String {
    lines.join("\n") + "\n"
}

/// The output file of OpenAI's Batch API.
const OPENAI_DONE: &str = r#"{"id":"batch_req_6740f0c1f2b88190","custom_id":"done","response":{"status_code":200,"request_id":"8d1e6d0c4a","body":{"id":"chatcmpl-A1","object":"chat.completion","created":1732304064,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"Hello!","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":2,"total_tokens":22,"prompt_tokens_details":{"cached_tokens":0}},"system_fingerprint":"fp_0"}},"error":null}"#;
/// Of its error file: a request that was refused, one that met a busy server, and one that the 24
/// hours were over for.
const OPENAI_INVALID: &str = r#"{"id":"batch_req_6740f0c1f2b88191","custom_id":"invalid","response":{"status_code":400,"request_id":"8d1e6d0c4b","body":{"error":{"message":"Invalid value: 'usr'.","type":"invalid_request_error","param":"messages[0].role","code":"invalid_value"}}},"error":null}"#;
const OPENAI_BUSY: &str = r#"{"id":"batch_req_6740f0c1f2b88192","custom_id":"busy","response":{"status_code":429,"request_id":"8d1e6d0c4c","body":{"error":{"message":"Rate limit reached","type":"tokens","param":null,"code":"rate_limit_exceeded"}}},"error":null}"#;
const OPENAI_EXPIRED: &str = r#"{"id":"batch_req_6740f0c1f2b88193","custom_id":"expired","response":null,"error":{"code":"batch_expired","message":"This request could not be executed before the completion window expired."}}"#;

#[test]
fn openais_output_and_error_files_are_carried_on_with() {
    for errors_in_output in [false, true] {
        let fixture = fixture(&["done", "invalid", "busy", "expired", "new"]);
        let failures = [OPENAI_INVALID, OPENAI_BUSY, OPENAI_EXPIRED];
        if errors_in_output {
            // Both files put together by somebody.
            let merged = lines(&failures) + &lines(&[OPENAI_DONE]);
            fs::write(fixture.path(OUTPUT), merged).unwrap();
        } else {
            fs::write(fixture.path(OUTPUT), lines(&[OPENAI_DONE])).unwrap();
            fs::write(fixture.path(ERRORS), lines(&failures)).unwrap();
        }
        let summary = fixture.run(fine);
        let progress = summary.progress;
        assert_eq!(
            (progress.skipped, progress.succeeded, progress.failed),
            (1, 3, 1),
            "{errors_in_output}"
        );
        assert_eq!(fixture.sent(), 3);

        let text = fs::read_to_string(fixture.path(OUTPUT)).unwrap();
        assert!(text.contains(OPENAI_DONE), "kept byte for byte");
        let results = fixture.results();
        let mut found = ids(&results);
        found.sort_unstable();
        assert_eq!(found, ["busy", "done", "expired", "new"]);
        let text = fs::read_to_string(fixture.path(ERRORS)).unwrap();
        assert_eq!(text, lines(&[OPENAI_INVALID]));
    }
}

#[test]
fn an_errors_file_alone_is_no_output_to_carry_on_with() {
    // Without results this is a fresh run.
    let fixture = fixture(&["invalid", "expired"]);
    fs::write(
        fixture.path(ERRORS),
        lines(&[OPENAI_INVALID, OPENAI_EXPIRED]),
    )
    .unwrap();
    let summary = fixture.run(fine);
    assert_eq!((summary.progress.succeeded, fixture.sent()), (2, 2));
    assert!(!fixture.path(ERRORS).exists());
}

#[test]
fn vllms_files_are_carried_on_with() {
    let fixture = fixture(&["done", "bare", "nested", "empty"]);
    let output = [
        r#"{"id":"vllm-3f1c","custom_id":"done","response":{"status_code":200,"request_id":"vllm-batch-77","body":{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"}}]}},"error":null}"#,
        r#"{"id":"vllm-3f1d","custom_id":"bare","response":{"status_code":400,"request_id":"vllm-batch-78","body":null},"error":"The model does not exist."}"#,
        r#"{"id":"vllm-3f1e","custom_id":"nested","response":{"status_code":400,"request_id":"vllm-batch-79","body":null},"error":{"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}}"#,
        r#"{"id":"vllm-3f1f","custom_id":"empty","response":{"status_code":500,"request_id":"vllm-batch-80","body":null},"error":null}"#,
    ];
    fs::write(fixture.path(OUTPUT), lines(&output)).unwrap();
    let progress = fixture.run(fine).progress;
    assert_eq!(
        (progress.skipped, progress.succeeded, progress.failed),
        (1, 1, 2)
    );
    let results = fixture.results();
    assert_eq!(ids(&results), ["done", "empty"]);
    let errors = fixture.errors();
    assert_eq!(ids(&errors), ["bare", "nested"]);
}

#[test]
fn anthropics_results_file_is_carried_on_with() {
    let fixture = fixture(&["done", "invalid", "busy", "canceled", "expired"]);
    let done = r#"{"custom_id":"done","result":{"type":"succeeded","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"Hello!"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":3}}}}"#;
    let output = [
        r#"{"custom_id":"invalid","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: field required"},"request_id":"req_1"}}}"#,
        done,
        r#"{"custom_id":"busy","result":{"type":"errored","error":{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}}}"#,
        r#"{"custom_id":"canceled","result":{"type":"canceled"}}"#,
        r#"{"custom_id":"expired","result":{"type":"expired"}}"#,
    ];
    fs::write(fixture.path(OUTPUT), lines(&output)).unwrap();
    let progress = fixture.run(fine).progress;
    assert_eq!(
        (progress.skipped, progress.succeeded, progress.failed),
        (1, 3, 1)
    );
    let results = fixture.results();
    assert_eq!(results.len(), 4);
    assert_eq!(ids(&results)[0], "done");
    let text = fs::read_to_string(fixture.path(ERRORS)).unwrap();
    assert_eq!(text, lines(&[output[0]]));
}
