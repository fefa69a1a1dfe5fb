//! What makes failed answers alike, so that many in a row stop a run.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::classify::AttemptError;
use super::error_meaning::holds_any;
use crate::error::{Error, ErrorKind};
use crate::escape::without_numbers;
use crate::retry::{Class, Likeness, Verdict};

/// What a failure has in common with others: its kind, status, code and message, numbers aside.
/// `None` where nothing follows from many of it: a server that is asked too fast or is down, a
/// network that fails, a request that is too long or has refused content.
pub(crate) fn likeness(failed: &AttemptError) -> Option<Likeness> {
    use ErrorKind as K;

    let (error, kind) = (&failed.error, failed.error.kind());
    let class = match (kind, failed.verdict) {
        (K::Quota, _) => Class::Money,
        (K::Permission | K::NotFound, Verdict::FailOrStopIfRepeated(_)) => Class::Refused,
        (K::Invalid, _) if is_about_one_request(error.message()) => return None,
        (
            K::Permission | K::NotFound | K::Invalid | K::Malformed | K::Protocol | K::BodyTooLarge,
            _,
        ) => Class::Usual,
        _ => return None,
    };
    let is_money = class == Class::Money;
    let what = (!is_money).then(|| (kind, error.status(), error.code(), pattern(error)));
    let key = BuildHasherDefault::<DefaultHasher>::default().hash_one(what);
    Some(Likeness { key, class })
}

/// The message of a failure without the numbers and ids in it. What came in place of an answer
/// differs, as answers do, and is left out. What is wrong with it stays.
pub(crate) fn pattern(error: &Error) -> String {
    let is_no_answer = matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Protocol);
    let quote = error.quote().filter(|_| is_no_answer);
    without_numbers(&error.message().replace(quote.unwrap_or_default(), ""))
}

/// Whether a refusal is for the length or the content of the request, and says nothing of others.
fn is_about_one_request(message: &str) -> bool {
    const WORDS: &str = "context length|context_length|context window|context size|context_size|\
        maximum context|too long|too large|too many tokens|token limit|tokens exceed|length exceed|\
        reduce the length|maximum length|max length|above_max_length|content policy|\
        data_inspection|inappropriate|safety";
    let message = message.to_ascii_lowercase();
    // A setting that is the same for all.
    !message.contains("max_tokens is too large") && holds_any(&message, WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::classify::{ResponseView, classify_response};
    use crate::api::response::Promise;
    use http::HeaderMap;
    use std::time::UNIX_EPOCH;

    fn of(status: u16, body: &str) -> Option<Likeness> {
        let failed = classify_response(&ResponseView {
            status,
            headers: &HeaderMap::new(),
            body: body.as_bytes(),
            key: None,
            promise: Promise::Choices,
            wall: UNIX_EPOCH,
            cost_tokens: 0,
            longest_wait: None,
        });
        let mut failed = failed.expect_err(body);
        failed.error = (failed.error).with_facts(|facts| facts.status = status.try_into().ok());
        likeness(&failed)
    }

    fn error(code: &str, message: &str) -> String {
        format!(r#"{{"error":{{"message":"{message}","code":"{code}"}}}}"#)
    }

    #[test]
    fn numbers_and_ids_make_no_difference_and_words_do() {
        let first = of(
            400,
            &error("bad", "Invalid model x in row 7, id req_4f3a-0b"),
        );
        assert!(first.is_some());
        let same = of(
            400,
            &error("bad", "Invalid model x in row 1234, id req_99-1c"),
        );
        assert_eq!(first, same);
        for (status, code, message) in [
            (400, "bad", "Invalid model y in row 7, id req_4f3a-0b"),
            (400, "worse", "Invalid model x in row 7, id req_4f3a-0b"),
            (422, "bad", "Invalid model x in row 7, id req_4f3a-0b"),
        ] {
            assert_ne!(of(status, &error(code, message)), first, "{message}");
        }
    }

    #[test]
    fn what_is_no_answer_is_alike_whatever_it_says() {
        assert_eq!(of(200, "Paris."), of(200, "It is London"));
        assert_ne!(of(200, "Paris."), of(200, "<html>Log in</html>"));
    }

    #[test]
    fn what_says_nothing_of_other_requests_is_not_counted() {
        for (status, code, message) in [
            (400, "context_length_exceeded", "m"),
            (
                400,
                "",
                "This model's maximum context length is 4097 tokens",
            ),
            (
                400,
                "",
                "prompt is too long: 210000 tokens > 200000 maximum",
            ),
            (400, "string_above_max_length", "m"),
            (400, "", "the request exceeds the available context size"),
            (400, "content_filter", "m"),
            (400, "data_inspection_failed", "m"),
            (413, "", "m"),
            (429, "", "slow down"),
            (429, "", "Request too large. Limit 3, Requested 4"),
            (500, "", "m"),
            (503, "", "Loading model"),
            (529, "", "m"),
            (408, "", "m"),
        ] {
            assert_eq!(
                of(status, &error(code, message)),
                None,
                "{status} {message}"
            );
        }
    }

    #[test]
    fn the_class_is_that_of_the_status_and_the_words() {
        for (status, message, class) in [
            (400, "Invalid model", Class::Usual),
            (400, "max_tokens is too large: 99999", Class::Usual),
            (501, "no embeddings", Class::Usual),
            (403, "not yours", Class::Refused),
            (404, "no such model", Class::Refused),
            (403, "Your account has no credits", Class::Money),
        ] {
            let found = of(status, &error("", message)).map(|likeness| likeness.class);
            assert_eq!(found, Some(class), "{message}");
        }
        let (one, other) = ("insufficient balance", "please recharge");
        assert_eq!(of(429, &error("", one)), of(400, &error("", other)));
    }
}
