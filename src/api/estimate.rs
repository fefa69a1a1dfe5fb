//! Learns from the usage in answers how many model tokens a request will take.
//!
//! Pure. The estimate of a request is [`Size`]'s count of it, times the share that earlier answers
//! have used of theirs. Only answers for the same model and the same order of `max_tokens` are
//! looked at. Before the first answer the count is not corrected: a quarter of the text's bytes,
//! and the whole of `max_tokens` or [`GUESS`](Size::GUESS).
//!
//! Providers differ in what they count against a limit. What they count is learned and settled:
//!
//! | Provider | `max_tokens` from the start | Output | Read from a cache |
//! |---|---|---|---|
//! | OpenAI (developers.openai.com/api/docs/guides/rate-limits) | yes | yes | yes |
//! | Azure (learn.microsoft.com/azure/ai-services/openai/how-to/quota) | yes | yes | yes |
//! | Groq (console.groq.com/docs/rate-limits) | yes | yes | no |
//! | Cerebras (inference-docs.cerebras.ai/support/rate-limits) | yes | yes | yes |
//! | Anthropic (platform.claude.com/docs/en/api/rate-limits) | no | yes | no |
//! | Gemini (ai.google.dev/gemini-api/docs/rate-limits) | no | no | yes |
//! | any other | until a refusal tells, no | yes | yes |
//!
//! A provider that counts `max_tokens` from the start gives back what was not written when the
//! request ends (OpenAI's reference of `rate_limits.updated`;
//! learn.microsoft.com/answers/questions/1381398). A refusal that names how much is counted
//! ("Requested 4206") tells which kind a provider is.

use super::cost::Size;
use super::provider::Provider;
use super::usage::Usage;
use crate::limit::Cost;

/// What a provider counts against its limits of model tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counting {
    /// Whether all the output that a request allows counts while it is under way.
    allowed: bool,
    output: bool,
    cached: bool,
}

impl Counting {
    pub(crate) fn of(provider: Provider, base_url: &str) -> Self {
        const ALLOWED: [&str; 3] = ["//api.openai.com", "//api.groq.com", "//api.cerebras.ai"];
        let is_at = |host: &&str| base_url.contains(*host);
        Self {
            allowed: provider == Provider::Azure || ALLOWED.iter().any(is_at),
            output: !is_at(&"//generativelanguage.googleapis.com"),
            cached: provider != Provider::Anthropic && !is_at(&"//api.groq.com"),
        }
    }

    /// What is counted of the tokens that an answer took.
    pub(crate) fn used(self, usage: &Usage) -> Cost {
        let cached = if self.cached { 0 } else { usage.cached_tokens };
        let (total, output) = (usage.total_tokens, usage.completion_tokens);
        if self.output {
            Cost::tokens(total.saturating_sub(cached)).with_output(output)
        } else {
            Cost::tokens(total.saturating_sub(cached).saturating_sub(output))
        }
    }
}

/// What is known of the requests of one client.
#[derive(Debug)]
pub(crate) struct Estimates {
    counting: Counting,
    /// By model and order of the allowed output. Those that were used last are at the end.
    known: Vec<((u64, u32), Learned)>,
}

/// So many pairs of model and order of output are kept: a client may be given any number of names.
const MOST: usize = 64;

/// What requests use, as a share of [`Size`]'s count.
#[derive(Clone, Copy, Debug)]
struct Learned {
    prompt: Share,
    output: Share,
}

impl Learned {
    fn of(size: &Size) -> Self {
        Self {
            prompt: Share::new(size.prompt),
            output: Share::new(allowed(size)),
        }
    }
}

impl Estimates {
    pub(crate) fn new(counting: Counting) -> Self {
        Self {
            counting,
            known: Vec::new(),
        }
    }

    /// What to reserve for a request, which has output only if its endpoint `writes`. What was
    /// learned makes it no larger than `most`, which is the largest that a limit ever admits.
    pub(crate) fn cost(&self, size: &Size, writes: bool, most: u64) -> Cost {
        let (prompt, mut output) = self.tokens(size);
        let mut allowed = allowed(size);
        if !(writes && self.counting.output) {
            (output, allowed) = (0, 0);
        }
        let guess = size.prompt.saturating_add(allowed);
        let total = prompt.saturating_add(output).min(most.max(guess));
        let output = output.min(total);
        let cost = Cost::tokens(total).with_output(output);
        if self.counting.allowed && size.max_output.is_some() {
            return cost.with_held(allowed.saturating_sub(output));
        }
        cost
    }

    /// The tokens that a request is likely to be billed for. What is not counted against a limit is
    /// billed all the same.
    pub(super) fn expected(&self, size: &Size, writes: bool) -> Usage {
        let (prompt_tokens, output) = self.tokens(size);
        let completion_tokens = match (writes, self.counting.output) {
            (false, _) => 0,
            (true, true) => output,
            // Of answers that are not counted nothing was learned.
            (true, false) => allowed(size),
        };
        Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            ..Usage::default()
        }
    }

    /// The tokens of its prompt and of its answer that a request is likely to take.
    fn tokens(&self, size: &Size) -> (u64, u64) {
        let known = self.known.iter().find(|(key, _)| *key == key_of(size));
        let Some((_, learned)) = known else {
            return (size.prompt, allowed(size));
        };
        // No more than is allowed can be written. Without a bound, no model writes a thousand times
        // the guess.
        let most = size.max_output.map_or(1_000.0, |_| 1.0);
        let output = learned.output.times(allowed(size), [0.0, most]);
        let prompt = learned.prompt.times(size.prompt, PROMPT);
        (prompt.max(1), output.max(1))
    }

    /// Takes note of what was counted for an answer.
    pub(crate) fn answered(&mut self, size: &Size, used: Cost) {
        let key = key_of(size);
        let at = self.known.iter().position(|(known, _)| *known == key);
        let mut entry = match at {
            Some(at) => self.known.remove(at),
            None => (key, Learned::of(size)),
        };
        if self.known.len() == MOST {
            self.known.remove(0);
        }
        let output = used.output;
        let prompt = used.model_tokens().saturating_sub(output);
        entry.1.prompt.note(prompt, size.prompt);
        entry.1.output.note(output, allowed(size));
        self.known.push(entry);
    }

    /// Takes note of a refusal that says how many tokens the provider counts for a request.
    pub(super) fn refused(&mut self, size: &Size, requested: u64) {
        let (_, output) = self.tokens(size);
        // If most of it is likely to be written, both kinds of provider count about the same.
        if let Some(most) = size.max_output
            && allowed(size) / 2 > output
        {
            // OpenAI counts the larger of prompt and output, others the sum. Less than that may be
            // what a long answer takes.
            self.counting.allowed = requested >= most;
        }
    }
}

/// The most that the answer to a request may have, or what is usual where that is not said.
fn allowed(size: &Size) -> u64 {
    size.output(Size::GUESS)
}

/// Requests that are likely to be alike.
fn key_of(size: &Size) -> (u64, u32) {
    let order = size.max_output.map_or(0, |most| most.max(1).ilog2() + 1);
    (size.model, order)
}

/// The least and the most that a prompt takes of its estimate. A token has at least a byte; but
/// images and what a provider adds are not seen.
const PROMPT: [f64; 2] = [0.125, 16.0];

/// A mean of what was used, as a share of what was estimated. The later answers weigh more.
#[derive(Clone, Copy, Debug)]
struct Share {
    used: f64,
    estimated: f64,
    answers: u32,
}

impl Share {
    /// All of it.
    fn new(estimated: u64) -> Self {
        let estimated = estimated.max(1) as f64;
        Self {
            used: estimated,
            estimated,
            answers: 0,
        }
    }

    /// An odd answer counts as at most four times what was expected, and at least a quarter of it.
    /// Its weight in the mean is a quarter for the first 16 answers, and less for later ones.
    fn note(&mut self, used: u64, estimated: u64) {
        let estimated = estimated.max(1) as f64;
        let expected = (estimated * self.used / self.estimated).max(1.0);
        let used = (used as f64).clamp(expected / 4.0, expected * 4.0);
        self.answers = self.answers.saturating_add(1);
        let weight = (4.0 / f64::from(self.answers)).clamp(1.0 / 32.0, 0.25);
        self.used += weight * (used - self.used);
        self.estimated += weight * (estimated - self.estimated);
    }

    /// So much of `estimated`, rounded up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn times(self, estimated: u64, [least, most]: [f64; 2]) -> u64 {
        let share = (self.used / self.estimated).clamp(least, most);
        (estimated as f64 * share).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OTHER: &str = "http://127.0.0.1:8080/v1";

    fn estimates(base_url: &str) -> Estimates {
        Estimates::new(Counting::of(Provider::OpenAi, base_url))
    }

    fn size(prompt: u64, max_output: Option<u64>) -> Size {
        Size {
            max_output,
            ..Size::of_chat(
                7,
                &"x".repeat(usize::try_from(prompt).unwrap_or(0) * 4 - 24),
            )
        }
    }

    fn used(prompt: u64, output: u64) -> Cost {
        Cost::tokens(prompt + output).with_output(output)
    }

    /// What a provider is expected to count of prompt and output while the request is under way.
    fn tokens(estimates: &Estimates, size: &Size) -> (u64, u64) {
        let cost = estimates.cost(size, true, u64::MAX);
        let output = cost.output;
        (cost.model_tokens() - output, output + cost.held)
    }

    fn after(answers: usize, base_url: &str, size: &Size, used: Cost) -> Estimates {
        let mut estimates = estimates(base_url);
        for _ in 0..answers {
            estimates.answered(size, used);
        }
        estimates
    }

    #[test]
    fn what_is_likely_to_be_billed_has_the_answer_though_no_limit_counts_it() {
        let size = size(100, Some(4_096));
        let billed = |base_url, writes| {
            let estimates = after(200, base_url, &size, used(50, 40));
            let usage = estimates.expected(&size, writes);
            assert_eq!(
                usage.total_tokens,
                usage.prompt_tokens + usage.completion_tokens
            );
            (usage.prompt_tokens, usage.completion_tokens)
        };
        let (prompt, output) = billed(OTHER, true);
        assert!(
            (50..60).contains(&prompt) && (40..80).contains(&output),
            "{output}"
        );
        assert_eq!(billed(OTHER, false), (prompt, 0));
        let gemini = "https://generativelanguage.googleapis.com/v1beta/openai";
        assert_eq!(billed(gemini, true).1, 4_096);
    }

    #[test]
    fn before_the_first_answer_it_is_what_the_request_says() {
        let nothing = estimates(OTHER);
        assert_eq!(tokens(&nothing, &size(100, Some(4_096))), (100, 4_096));
        assert_eq!(tokens(&nothing, &size(100, None)), (100, Size::GUESS));
        let silent = nothing.cost(&size(100, Some(4_096)), false, u64::MAX);
        assert_eq!(silent, Cost::tokens(100), "an endpoint that does not write");
    }

    #[test]
    fn what_answers_take_is_learned_in_some_thirty_of_them() {
        let short = size(100, Some(4_096));
        let (prompt, output) = tokens(&after(35, OTHER, &short, used(270, 50)), &short);
        assert!((255..=285).contains(&prompt), "{prompt}");
        assert!((50..=60).contains(&output), "{output}");
        // A free answer, and one that is longer than is usual.
        let free = size(100, None);
        let (_, output) = tokens(&after(35, OTHER, &free, used(100, 9_000)), &free);
        assert!((8_000..=9_000).contains(&output), "{output}");
    }

    #[test]
    fn models_and_orders_of_output_are_learned_apart() {
        let known = size(100, Some(4_096));
        let estimates = after(50, OTHER, &known, used(100, 50));
        for other in [
            size(100, Some(100)),
            size(100, None),
            Size { model: 8, ..known },
        ] {
            assert_eq!(tokens(&estimates, &other).1, other.output(Size::GUESS));
        }
        let near = size(100, Some(5_000));
        assert!(tokens(&estimates, &near).1 < 100);
    }

    #[test]
    fn one_odd_answer_changes_little_whenever_it_comes() {
        let usual = size(100, Some(4_096));
        for before in [0, 30] {
            let mut estimates = after(before, OTHER, &usual, used(100, 400));
            let (prompt, output) = tokens(&estimates, &usual);
            for odd in [used(0, 0), used(1_000_000, 4_096)] {
                estimates.answered(&usual, odd);
                let (now_prompt, now_output) = tokens(&estimates, &usual);
                assert!(now_prompt >= prompt * 3 / 4 && now_prompt <= prompt * 2);
                assert!(now_output >= output * 3 / 4 && now_output <= output * 2);
            }
        }
        // One of another size, neither.
        let mut estimates = after(30, OTHER, &size(10, None), used(10, 400));
        estimates.answered(&size(100_000, None), used(0, 0));
        assert!(tokens(&estimates, &size(10, None)).0 >= 2);
    }

    #[test]
    fn nothing_used_is_not_for_ever() {
        let usual = size(100, None);
        let mut estimates = after(10_000, OTHER, &usual, used(0, 0));
        for _ in 0..500 {
            estimates.answered(&usual, used(100, 500));
        }
        let (prompt, output) = tokens(&estimates, &usual);
        assert!(prompt >= 95 && output >= 450, "{prompt} {output}");
    }

    #[test]
    fn what_a_provider_counts_is_reserved_and_settled() {
        let usage = Usage {
            prompt_tokens: 1_000,
            completion_tokens: 50,
            total_tokens: 1_050,
            cached_tokens: 900,
            ..Usage::default()
        };
        let gemini = "https://generativelanguage.googleapis.com/v1beta/openai";
        for (provider, base_url, reserved, counted) in [
            (
                Provider::OpenAi,
                "https://api.openai.com/v1",
                4_096,
                used(1_000, 50),
            ),
            (
                Provider::Azure,
                "https://me.openai.azure.com/openai/v1",
                4_096,
                used(1_000, 50),
            ),
            (
                Provider::OpenAi,
                "https://api.groq.com/openai/v1",
                4_096,
                used(100, 50),
            ),
            (
                Provider::OpenAi,
                "https://api.cerebras.ai/v1",
                4_096,
                used(1_000, 50),
            ),
            (
                Provider::Anthropic,
                "https://api.anthropic.com",
                51,
                used(100, 50),
            ),
            (Provider::OpenAi, gemini, 0, used(1_000, 0)),
            (Provider::OpenAi, OTHER, 51, used(1_000, 50)),
        ] {
            let counting = Counting::of(provider, base_url);
            assert_eq!(counting.used(&usage), counted, "{base_url}");
            let mut estimates = Estimates::new(counting);
            let request = size(1_000, Some(4_096));
            for _ in 0..200 {
                estimates.answered(&request, counted);
            }
            assert_eq!(tokens(&estimates, &request).1, reserved, "{base_url}");
            let of_limits_set = estimates.cost(&request, true, u64::MAX).output;
            assert_eq!(of_limits_set, reserved.min(51), "{base_url}");
        }
    }

    #[test]
    fn a_refusal_tells_whether_all_that_is_allowed_counts() {
        let request = size(100, Some(4_096));
        for base_url in [OTHER, "https://api.openai.com/v1"] {
            let mut estimates = after(100, base_url, &request, used(100, 50));
            // The last is a long answer's, at a provider that counts what is written.
            for (requested, reserved) in [
                (4_196, 4_096),
                (150, 51),
                (4_096, 4_096),
                (90, 51),
                (1_300, 51),
            ] {
                estimates.refused(&request, requested);
                assert_eq!(tokens(&estimates, &request).1, reserved, "{requested}");
            }
            // Both say the same of a request that is likely to use it all.
            estimates.refused(&size(100, Some(60)), 160);
            assert_eq!(tokens(&estimates, &request).1, 51);
        }
    }

    #[test]
    fn a_learned_estimate_never_makes_a_request_too_large() {
        let large = size(500, Some(100));
        let estimates = after(100, OTHER, &large, used(5_000, 100));
        assert_eq!(estimates.cost(&large, true, 1_000).model_tokens(), 1_000);
        assert_eq!(
            estimates.cost(&large, true, 100),
            used(500, 100),
            "as before"
        );
    }

    #[test]
    fn a_client_with_endless_models_forgets_the_one_that_is_longest_out_of_use() {
        let of = |model| Size {
            model,
            ..size(100, None)
        };
        let mut estimates = estimates(OTHER);
        for model in 0..1_000 {
            estimates.answered(&of(0), used(100, 50));
            estimates.answered(&of(model), used(100, 50));
        }
        assert_eq!(estimates.known.len(), MOST);
        assert!(tokens(&estimates, &of(0)).1 < 60);
        assert_eq!(tokens(&estimates, &of(1)).1, Size::GUESS);
    }

    proptest! {
            #[test]
            fn it_stays_between_a_floor_and_what_may_be_billed(
                answers in prop::collection::vec((any::<[u32; 4]>(), any::<bool>()), 0..60),
                prompt in 1_u64..1 << 40,
                max_output in prop::option::of(prop_oneof![0_u64..1 << 40, Just(1 << 52)]),
                replies in 1_u64..200,
                most in 1_u64..1 << 50,
            ) {
                let request = Size { prompt, max_output, replies, model: 1 };
                let mut estimates = estimates(OTHER);
                let guess = estimates.cost(&request, true, 0).model_tokens();
                for ([a, b, c, d], is_like) in answers {
                    let size = Size { prompt: a.into(), max_output: Some(b.into()), replies, model: 1 };
                    let size = if is_like { request } else { size };
                    estimates.answered(&size, used(c.into(), d.into()));
                }
                let (learned, output) = tokens(&estimates, &request);
                prop_assert!(learned >= prompt / 8 && learned <= prompt * 16);
                prop_assert_eq!(estimates.cost(&request, true, most).held, 0);
                prop_assert!(output >= 1.min(request.output(1)));
                prop_assert!(max_output.is_none_or(|most| output <= most.saturating_mul(replies).max(1)));
                estimates.refused(&request, most);
                let capped = estimates.cost(&request, true, most);
                prop_assert!(capped.model_tokens() <= most.max(guess));
                prop_assert!(capped.output <= capped.model_tokens());
                let endless = Size { max_output: Some(u64::MAX), ..request };
                estimates.refused(&endless, u64::MAX);
                estimates.answered(&endless, Cost::tokens(u64::MAX));
    let _ = estimates.cost(&endless, true, most);
            }

            #[test]
            fn answers_alike_are_what_is_reserved(
                prompt in 8_u64..100_000, share in 0.2_f64..10.0, output in 1_u64..4_096,
            ) {
                let request = size(prompt, Some(4_096));
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let real = (prompt as f64 * share).ceil() as u64;
                let estimates = after(300, OTHER, &request, used(real, output));
                let (learned, written) = tokens(&estimates, &request);
                prop_assert!(learned.abs_diff(real) <= 1 + real / 50, "{learned} for {real}");
                prop_assert!(written.abs_diff(output) <= 1 + output / 50, "{written} for {output}");
            }
        }
}
