//! `tollgate simulate`: the arguments of the simulated provider.

use clap::Args;

/// Run the simulated provider on its own, to test other programs.
///
/// It prints its base URL, on 127.0.0.1, and takes any key. It answers chat completions,
/// completions, embeddings, responses, moderations and models as OpenAI does, and messages as
/// Anthropic does. Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
SPEC holds any of these, with commas between them:
  latency=T         mean time to an answer [default: 500ms]
  jitter=J          spread of the latency: standard deviation / mean, 0 to 3 [default: 0.3]
  load=N or N@F     the latency rises when more than N requests are worked on at once: in
                    proportion to their number, or to F times [default: it does not]
  rps=R or rpm=R    requests a second or a minute; more get status 429 [default: no limit]
  tpm=N             model tokens a minute; more get status 429 [default: no limit]
  burst=N           requests allowed at once [default: two seconds' worth]
  window=W          how limits are judged: by a bucket, or by fixed or sliding windows
                    [default: bucket]
  refused=count     refused requests count against the limits [default: they do not]
  headers=H         whose headers announce the limits: openai, azure, groq, anthropic, openrouter,
                    ietf or none [default: openai]
  hints=H           how a refusal says how long to wait: ms, s, words or none [default: ms]
  cut=FROM-TO@S     only the share S of the limits holds for a time, such as 20s-40s@0.33; with @0
                    all requests get status 503 [default: none]
  places=N or N@T   requests worked on at once; more get status 429, with a wait of T if that is
                    given [default: no limit]
  overload=N or N@T as places, but more get status 503
  errors=S          share of requests that get status 500, 502 or 503, 0 to 1 [default: 0]
  strays=S          share of requests that get status 429 and a wait of a second although they are
                    within the limits, 0 to 1 [default: 0]
  faults=S          share of connections that break, 0 to 1 [default: 0]
  seed=N            the same seed gives the same chances [default: 7]")]
pub(crate) struct Simulate {
    /// How it behaves, such as latency=2s,rpm=600,errors=0.02
    #[arg(value_name = "SPEC", default_value = "", hide_default_value = true)]
    pub(crate) spec: String,

    /// The port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port: u16,
}
