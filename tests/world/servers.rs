//! What servers and gateways that others run have really answered, byte for byte: nginx 1.22,
//! uvicorn and `FastAPI`, gunicorn, `LiteLLM` 1.108 and aimock.

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::Folder;

/// An answer that ends its connection, with the head that such a server sends.
fn answer(head: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    Reply::raw(bytes)
}

/// nginx's own page for a status.
fn nginx(status: &str, more: &str) -> Reply {
    let page = format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
         <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
    );
    let head = format!("{status}\r\nServer: nginx/1.22.1\r\nContent-Type: text/html{more}");
    answer(&head, page)
}

fn litellm(status: &str, more: &str, body: &str) -> Reply {
    let head = format!(
        "{status}\r\ndate: Fri, 27 Nov 2026 13:14:47 GMT\r\nx-litellm-response-cost: 0\r\n\
         x-litellm-key-spend: 0.0{more}\r\ncontent-type: application/json\r\nvary: Origin"
    );
    answer(&head, body)
}

/// A chat's answer that nginx passed on compressed, though nobody had asked for that.
const GZIPPED: &[u8] =
    b"\x1f\x8b\x08\x00H\x82\x09k\x02\xffENK\x0a\xc2@\x0c\xbdJ\xc9Z\xc4*n\xbc\x8aH\x19\xa7\xa9\
    \x8dN'C\x93\x82Pzw\x93\x01u\xf7~y/+P\x0f\x97\x06Z\xd85\xc0\xf7'Fu\x1a\xc7\xa0\xfb\xc8SI\
    \xa8\xc4\xd9\xcd8cP\xf4pkl\xe2\x1e\x93'\x97R\xcd\x91)\xa2\x98p]\x81r\x8fo\x83\x07\xcf\
    \xa1Hx\xa0\xb1\x15fN\x0e \x88\x90h\xc8Z/9+\xe6::\xcc<5\xd6\xb7\x99<P&\x19;\xdb\x14\x9b7S\
    \x94\xcd\xb9\x99\xb5\xfc\x0a\x8b\x1d\x14\xed\x94_\x98}\xfbT\xfb\xbeO\xff\xf5\xa3\xe9\xca\
    \x1a\xd2_:o\xdb\x07\xecV\x85T\xfb\x00\x00\x00";

#[test]
fn one_answer_tells_what_is_wrong() {
    for (reply, code, words) in [
        (
            answer(
                "422 Unprocessable Entity\r\nserver: uvicorn\r\ncontent-type: application/json",
                r#"{"detail":[{"type":"missing","loc":["body","prompt"],"msg":"Field required","input":{"model":"m"}}]}"#,
            ),
            1,
            "body.prompt: Field required",
        ),
        (
            nginx("400 The plain HTTP request was sent to HTTPS port", ""),
            3,
            "use https://",
        ),
        (
            answer(
                "400 Bad Request",
                "Client sent an HTTP request to an HTTPS server.\n",
            ),
            3,
            "use https://",
        ),
        (nginx("413 Request Entity Too Large", ""), 1, "too large"),
        (
            nginx(
                "401 Unauthorized",
                "\r\nWWW-Authenticate: Basic realm=\"x\"",
            ),
            3,
            "the API key was refused",
        ),
        (
            nginx(
                "301 Moved Permanently",
                "\r\nLocation: https://example.com/v1/chat/completions",
            ),
            3,
            "https://example.com",
        ),
        (
            answer(
                "401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"aimock\"\r\nContent-Type: application/json",
                r#"{"error":{"message":"Invalid API key","type":"authentication_error","code":"invalid_api_key"}}"#,
            ),
            3,
            "Invalid API key",
        ),
        (
            litellm(
                "400 Bad Request",
                "",
                r#"{"error":{"message":"No connected db.","type":"no_db_connection","param":null,"code":"400"}}"#,
            ),
            3,
            "the API key was refused (HTTP 400): \"No connected db.\"",
        ),
        (
            litellm(
                "400 Bad Request",
                "",
                r#"{"error":{"message":"/chat/completions: Invalid model name passed in model=nosuch. Call `/v1/models` to view available models for your key.","type":"invalid_request_error","param":null,"code":"400"}}"#,
            ),
            1,
            "Invalid model name passed in model=nosuch",
        ),
    ] {
        let folder = Folder::new();
        folder.requests(1);
        let server = Faultd::replies([reply]);
        let ended = folder.tool(&["run", "p.jsonl"]).at(&server).run();
        ended.code(code).says(&[words]);
        assert_eq!(server.count(), 1, "{words}");
    }
}

#[test]
fn what_passes_is_waited_for() {
    let cut = "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\n\
        Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n28\r\n{\"id\": \"1\", \"object\": \"chat.completion\",\r\n";
    for (name, reply, attempts) in [
        (
            "nginx's gzip",
            answer(
                "200 OK\r\nServer: nginx/1.22.1\r\nContent-Type: application/json\r\ncontent-encoding: gzip",
                GZIPPED,
            ),
            1,
        ),
        ("nginx 502", nginx("502 Bad Gateway", ""), 2),
        ("nginx 504", nginx("504 Gateway Time-out", ""), 2),
        (
            "gunicorn 500",
            answer(
                "500 Internal Server Error\r\nContent-Type: text/html",
                "<html>\n  <head>\n    <title>Internal Server Error</title>\n  </head>\n  <body>\n    <h1><p>Internal Server Error</p></h1>\n    \n  </body>\n</html>\n",
            ),
            2,
        ),
        (
            "uvicorn 500",
            answer(
                "500 Internal Server Error\r\nserver: uvicorn\r\ncontent-type: text/plain; charset=utf-8",
                "Internal Server Error",
            ),
            2,
        ),
        (
            "uvicorn's limit on connections",
            answer(
                "503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8",
                "Service Unavailable",
            ),
            2,
        ),
        (
            "uvicorn, ended within a body",
            Reply::raw(cut).then_close(),
            2,
        ),
        ("a worker of gunicorn that died", Reply::close(), 2),
        (
            "aimock 429",
            answer(
                "429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nx-ratelimit-limit-tokens: 150000\r\n\
            x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 6m0s",
                r#"{"error":{"message":"Chaos: rate limit exceeded","type":"rate_limit_error","code":"chaos_ratelimit"}}"#,
            ),
            2,
        ),
        (
            "LiteLLM, its backend is slow",
            litellm(
                "408 Request Timeout",
                "",
                r#"{"error":{"message":"litellm.Timeout: APITimeoutError - Request timed out.\n\nLiteLLM: model group 'hang' failed with the error above. No fallback was attempted.","type":"invalid_request_error","param":null,"code":"408"}}"#,
            ),
            2,
        ),
        (
            "LiteLLM, its backend is down",
            litellm(
                "500 Internal Server Error",
                "",
                r#"{"error":{"message":"litellm.InternalServerError: InternalServerError: OpenAIException - Connection error.","type":"internal_server_error","param":null,"code":"500"}}"#,
            ),
            2,
        ),
    ] {
        let folder = Folder::new();
        folder.requests(1);
        let server = Faultd::replies([reply, Reply::ok_chat("4")]);
        let ended = folder.tool(&["run", "p.jsonl"]).at(&server).run();
        assert_eq!(server.count(), attempts, "{name}: {}", ended.stderr);
        ended.code(0);
    }
}

#[test]
fn what_no_request_gets_past_stops_the_run() {
    let budget = r#"{"error":{"message":"No deployments available - crossed budget: Exceeded budget for provider openai: 5.4e-05 >= 5e-05\n","type":"internal_server_error","param":null,"code":"429"}}"#;
    let model = r#"{"error":{"message":"/chat/completions: Invalid model name passed in model=nosuch. Call `/v1/models` to view available models for your key.","type":"invalid_request_error","param":null,"code":"400"}}"#;
    let channel = r#"{"error":{"code":"model_not_found","message":"No available channel for model m under group default (distributor) (request id: 20251128223112878876944RINyIMpQ)","type":"new_api_error"}}"#;
    let page = "<html><body>We are down for maintenance</body></html>";
    for (reply, good, most, words) in [
        (
            // Three rows, two of them asked twice: what is refused goes before anything new.
            litellm("429 Too Many Requests", "", budget),
            12,
            17,
            "crossed budget",
        ),
        (
            litellm("400 Bad Request", "", model),
            0,
            20,
            "Invalid model name",
        ),
        (
            answer(
                "503 Service Unavailable\r\nContent-Type: application/json",
                channel,
            ),
            0,
            10,
            "No available channel",
        ),
        (
            answer(
                "200 OK\r\nServer: nginx/1.22.1\r\nContent-Type: text/html",
                page,
            ),
            0,
            20,
            "a web page",
        ),
    ] {
        let folder = Folder::new();
        folder.requests(60);
        let mut replies = vec![Reply::ok_chat("4"); good];
        replies.push(reply);
        let server = Faultd::replies(replies);
        let ended = folder
            .tool(&["run", "p.jsonl", "-c", "1"])
            .at(&server)
            .run();
        ended.code(3).says(&[words]);
        assert!(
            server.count() <= most,
            "{words}: {} requests",
            server.count()
        );
    }
}
