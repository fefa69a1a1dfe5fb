//! Money that is out, in the words of many providers.

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::{Folder, KEY};

const GROK: &str = r#"{"code":"Some resource has been exhausted","error":"Your team 123 has used all available credits or reached its monthly spending limit. To continue, purchase more credits."}"#;
const ZHIPU: &str = r#"{"error":{"code":"1113","message":"Insufficient balance or no resource package. Please recharge."}}"#;
const MOONSHOT: &str =
    r#"{"error":{"message":"Your account is suspended","type":"exceeded_current_quota_error"}}"#;
const ALIYUN: &str = r#"{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing."}"#;
const FIREWORKS: &str = r#"{"error":{"code":"PRECONDITION_FAILED","message":"Account a is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices."}}"#;
const NESTED: &str = r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"You have no credits left\"}}","provider_name":"x"}}}"#;
const LITELLM: &str = r#"{"error":{"message":"litellm.BadRequestError: AnthropicException - {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance is too low to access the Anthropic API.\"}}","type":null,"param":null,"code":"400"}}"#;
const SILICON: &str =
    r#"{"code":30001,"message":"Sorry, your account balance is insufficient","data":null}"#;
const ONE_API: &str = r#"{"error":{"message":"用户余额不足","type":"new_api_error","code":"x"}}"#;
const TOKEN_QUOTA: &str = r#"{"error":{"message":"token quota is not enough, token remain quota: $0.01, need quota: $0.02","type":"one_api_error","code":"pre_consume_token_quota_failed"}}"#;
const OVER_BUDGET: &str = r#"{"error":{"message":"ExceededBudget: User=x over budget. Spend=1.1, Budget=1.0","type":"auth_error","code":"400"}}"#;
const VIRTUAL_KEY: &str =
    r#"{"status":"failure","message":"Usage limit exceeded for virtual key"}"#;
const USAGE_LIMIT: &str =
    r#"{"error":{"message":"You've reached your usage limit.","type":"usage_limit_reached"}}"#;
const RECHARGE: &str = r#"{"error":{"message":"Insufficient credits. Recharge your account"}}"#;
const EXHAUSTED: &str =
    r#"{"error":{"message":"Your account balance is exhausted, please recharge"}}"#;
const BALANCE: &str = r#"{"error":{"code":"InsufficientBalance","message":"denied"}}"#;
const RESOURCE_PACK: &str =
    r#"{"Response":{"Error":{"Code":"FailedOperation.ResourcePackExhausted","Message":"denied"}}}"#;
const TENCENT: &str = r#"{"Response":{"Error":{"Code":"FailedOperation.ResourcePackExhausted","Message":"resource pack is exhausted"}}}"#;
const FIRST_WORDS: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#;

#[test]
fn the_run_stops_and_a_rerun_after_paying_sends_all_the_rest() {
    for (status, body) in [
        (429, GROK),
        (403, GROK),
        (429, ZHIPU),
        (429, MOONSHOT),
        (400, ALIYUN),
        (412, FIREWORKS),
        (400, NESTED),
        (429, NESTED),
        (400, LITELLM),
        (403, SILICON),
        (403, ONE_API),
        (400, FIRST_WORDS),
        (402, "{}"),
        (403, TOKEN_QUOTA),
        (400, OVER_BUDGET),
        (412, VIRTUAL_KEY),
        (429, USAGE_LIMIT),
        (500, RECHARGE),
        (503, RECHARGE),
        (503, EXHAUSTED),
        (403, BALANCE),
        (429, RESOURCE_PACK),
        (200, TENCENT),
    ] {
        let folder = Folder::new();
        folder.requests(300);
        let server = Faultd::script(move |seen| match seen.index {
            0..12 => Reply::ok_chat("ok"),
            _ => Reply::status(status).body(body),
        });
        let ended = folder
            .tool(&["run", "p.jsonl", "-c", "4"])
            .at(&server)
            .run();
        ended.code(3).says(&["credit", "run again"]);
        assert!(
            server.count() <= 12 + 3 + 4 + 4,
            "{} for {status} {body}",
            server.count()
        );
        let server = Faultd::replies([Reply::ok_chat("ok")]);
        folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
        assert_eq!(server.count(), 288, "{status} {body}");
    }
}

#[test]
fn what_stands_in_nested_text_is_shown() {
    let folder = Folder::new();
    folder.requests(5);
    let server = Faultd::replies([Reply::status(400).body(NESTED)]);
    let ended = folder
        .tool(&["run", "p.jsonl", "-c", "1"])
        .at(&server)
        .run();
    ended
        .code(3)
        .says(&["Provider returned error: You have no credits left"]);
}

#[test]
fn words_alone_are_no_proof() {
    // A success between, and a wait that is told.
    let folder = Folder::new();
    folder.requests(40);
    let server = Faultd::script(|seen| match seen.index % 3 {
        0 => Reply::ok_chat("ok"),
        _ => Reply::error(400, "x", "x", "the field \"billing\" is not allowed"),
    });
    folder
        .tool(&["run", "p.jsonl", "-c", "1"])
        .at(&server)
        .run()
        .code(1);
    assert_eq!(server.count(), 40);

    let folder = Folder::new();
    folder.requests(10);
    let gemini = "You exceeded your current quota, please check your plan and billing details.";
    let server = Faultd::script(move |seen| match seen.index {
        0..5 => Reply::error(429, "x", "429", gemini).header("retry-after-ms", "20"),
        _ => Reply::ok_chat("ok"),
    });
    folder
        .tool(&["run", "p.jsonl", "-c", "1"])
        .at(&server)
        .run()
        .code(0);
}

#[test]
fn a_record_of_anthropics_own_is_judged_by_its_words() {
    let folder = Folder::new();
    let row = |id: &str| {
        format!(
            "{{\"custom_id\":\"{id}\",\"params\":{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[]}}}}\n"
        )
    };
    folder.write("p.jsonl", row("poor") + &row("wrong"));
    let record = |id: &str, message: &str| {
        format!(
            "{{\"custom_id\":\"{id}\",\"result\":{{\"type\":\"errored\",\"error\":{{\"type\":\"error\",\
             \"error\":{{\"type\":\"invalid_request_error\",\"message\":\"{message}\"}}}}}}}}\n"
        )
    };
    let low = "Your credit balance is too low to access the Anthropic API.";
    folder.write(
        "p.results.jsonl",
        record("poor", low) + &record("wrong", "messages: empty"),
    );
    let server = Faultd::replies([Reply::json(
        r#"{"type":"message","content":[{"type":"text","text":"ok"}],"stop_reason":"end_turn"}"#,
    )]);
    let arguments = ["run", "p.jsonl", "--provider", "anthropic"];
    let tool = folder.tool(&arguments).env("ANTHROPIC_API_KEY", KEY);
    tool.env("ANTHROPIC_BASE_URL", &server.url()).run().code(1);
    assert_eq!(server.count(), 1);
}
