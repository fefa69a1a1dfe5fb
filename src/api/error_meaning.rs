//! What an error body means: money, keys, limits, filters, overload.
//!
//! The body's codes and the words of its message answer each question. The lists of both stand
//! here, with a bar between one and the next; `error_body` knows where a body keeps them.

use super::error_body::ErrorBody;

/// At most so many characters of a message are searched for words about money.
const MAX_WORDS: usize = 500;

impl ErrorBody {
    /// The quota, the credit or a spend limit is used up: no request is answered until somebody
    /// pays.
    pub(crate) fn is_out_of_money(&self) -> bool {
        // The numbers are Zhipu's and MiniMax's.
        const CODES: &str = "insufficient_quota|credit_balance_exhausted|\
            organization_spend_limit_exceeded|project_spend_limit_exceeded|\
            organization_usage_limit_exceeded|enforced_spend_limit_reached|\
            billing_hard_limit_reached|billing_not_active|billing_error|\
            exceeded_current_quota_error|insufficient_balance|insufficient_credits|\
            insufficient_funds|insufficient_user_quota|pre_consume_token_quota_failed|\
            out_of_credits|budget_exceeded|Arrearage|AccountOverdueError|1113|1008";
        // Two of Anthropic's 400s have no code of their own. Only the beginning counts: further in
        // a message may quote the request.
        const TEXTS: &[&str] = &[
            "You have reached your specified API usage limits",
            "Your credit balance is too low",
        ];
        let message = self.message.trim_start();
        let has_text = TEXTS.iter().any(|text| message.starts_with(text));
        has_text || self.has_code(CODES) || self.has_no_quota()
    }

    /// Its words are about money, which is no proof: a message may quote the request, or explain
    /// how to get a higher limit.
    pub(crate) fn speaks_of_money(&self) -> bool {
        // A usage limit with more behind it is something else.
        const WORDS: &str = " balance | credits | billing | recharge | arrears | overdue | payment | \
            unpaid | monthly |exceeded budget|crossed budget|over budget|budget has been exceeded|\
            budget exceeded|spend limit|spending limit|usage limit |key limit exceeded|\
            quota is not enough|not enough quota|insufficient quota|resource pack|free tier|\
            trial key|past due| top up|insufficient credit|insufficient fund|enough credit|\
            out of credit|余额|欠费|充值|额度";
        // What refills so soon is a limit on the rate, whatever it is called.
        const SOON: &str = " second | seconds | sec | minute | min | hour | rpm | tpm | qps ";
        let text = self.words();
        holds_any(&text, WORDS) && !holds_any(&text, SOON)
    }

    /// Its words say that there is no money left. A server that fails may speak of its billing,
    /// too.
    pub(crate) fn lacks_money(&self) -> bool {
        const LACK: &str = "insufficient|enough|exhausted|used up|too low|recharge| top up|budget|\
            limit exceeded|limit reached|reached your|不足|欠费";
        self.speaks_of_money() && holds_any(&self.words(), LACK)
    }

    /// The words of its message and its codes, each in small letters between blanks. What is quoted
    /// stands further in, and links lead to pages about everything: neither is among them.
    fn words(&self) -> String {
        let message: String = self.message.chars().take(MAX_WORDS).collect();
        let texts = [&message].into_iter().chain(&self.codes);
        let is_link =
            |word: &&str| word.contains('/') && (word.contains('.') || word.starts_with('/'));
        let words = texts.flat_map(|text| text.split_whitespace());
        let words = words.filter(|word| !is_link(word));
        let mut shown = " ".to_owned();
        for word in words.flat_map(|word| word.split(|c: char| !c.is_alphanumeric())) {
            let mut after = ' ';
            for c in word.chars() {
                // `ExceededBudget` is two words.
                if after.is_lowercase() && c.is_uppercase() {
                    shown.push(' ');
                }
                shown.extend(c.to_lowercase());
                after = c;
            }
            shown.push(' ');
        }
        shown
    }

    /// Gemini's way of saying that a key has no quota at all for a model; the delay of some hours
    /// it gives beside it means nothing.
    pub(super) fn has_no_quota(&self) -> bool {
        let mut behind = self.message.split("limit: 0").skip(1);
        // A day's quota of 0.5 or a list item of 05 would be something.
        let is_zero = |rest: &str| !rest.trim_start_matches('.').starts_with(char::is_numeric);
        behind.any(is_zero) && self.message.to_ascii_lowercase().contains("quota")
    }

    /// The request alone is more than the limit allows in its whole period (OpenAI's 429, Groq's
    /// 413): "Limit 30000, Requested 36278". Waiting changes nothing.
    pub(crate) fn never_fits(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        match number_after(&message, "limit").zip(requested(&message)) {
            Some((limit, requested)) => requested > limit,
            None => message.contains("request too large"),
        }
    }

    /// Its words or its code are those of a limit on the rate.
    pub(crate) fn is_rate_limit(&self) -> bool {
        const WORDS: &str = "rate limit|rate_limit|ratelimit|request limit|too many requests|\
            throttl|qps";
        let mut texts = self.codes.iter().chain([&self.message]);
        texts.any(|text| holds_any(&text.to_ascii_lowercase(), WORDS))
    }

    /// The servers are short of capacity, whatever this client's own rate, or not ready yet.
    pub(crate) fn is_overload(&self) -> bool {
        const CODES: &str = "server_is_overloaded|overloaded_error|engine_overloaded|slow_down|\
            insufficient_system_resource";
        // The last is nginx's, of its own limits, unless it is told another status.
        const PHRASES: &str = "overloaded|server busy|maximum pending requests|loading model|\
            model loading|is loading|currently loading|still loading|being loaded|starting up|\
            warming up|not ready|capacity|service temporarily unavailable";
        let message = self.message.to_ascii_lowercase();
        // uvicorn, of its limit on connections.
        let is_uvicorn = message.trim() == "service unavailable";
        is_uvicorn || self.has_code(CODES) || holds_any(&message, PHRASES)
    }

    /// It is the key that is refused, whatever the status says.
    pub(crate) fn is_wrong_key(&self) -> bool {
        self.has_code("invalid_api_key|authentication_error|no_db_connection")
            || self.message.starts_with("API key not valid")
    }

    /// A filter on content refused it (OpenAI, Azure, OpenRouter's moderation).
    pub(crate) fn is_content_filter(&self) -> bool {
        const CODES: &str = "content_filter|content_policy_violation|ResponsibleAIPolicyViolation|\
            moderation_blocked";
        self.has_code(CODES)
    }
}

/// Whether `text` holds one of `phrases`, which stand between bars.
pub(super) fn holds_any(text: &str, phrases: &str) -> bool {
    phrases.split('|').any(|phrase| text.contains(phrase))
}

/// The number that follows `word`, thousands separated or not. How many tokens a refusal says that
/// it counts for the request: "Limit 30000, Used 29000, Requested 2000".
pub(super) fn requested(message: &str) -> Option<u64> {
    number_after(&message.to_ascii_lowercase(), "requested")
}

fn number_after(text: &str, word: &str) -> Option<u64> {
    text.match_indices(word).find_map(|(at, word)| {
        let rest = text[at + word.len()..].trim_start_matches([' ', ':']);
        let end = |c: char| !c.is_ascii_digit() && c != ',';
        rest.split(end).next()?.replace(',', "").parse().ok()
    })
}
