//! Kubernetes: an indexed Job, of which each pod is a shard.
//!
//! `--shard auto` takes the pod's completion index as the shard. A Job does not tell its pods how
//! many they are, so `--shards` says it: the number of `completions`. This is `kubernetes.yaml`:
//!
#![doc = concat!("```yaml\n", include_str!("../../../examples/jobs/kubernetes.yaml"), "```")]
//!
//! It needs four things:
//!
//! - **An image** with the tool in it, built by `cargo install --path . --features cli,redis`.
//! - **The key**, as a Secret: `kubectl create secret generic openai --from-file=api-key=key.txt`.
//! - **A volume** that all pods may write to (`ReadWriteMany`), with `prompts.jsonl` on it. The
//!   results are put beside it. What a pod writes elsewhere goes with the pod.
//! - **A Redis or Valkey** for the shared limit. `kubernetes_store.yaml` has one, and the claim of
//!   the volume:
//!
#![doc = concat!("```yaml\n", include_str!("../../../examples/jobs/kubernetes_store.yaml"), "```")]
//!
//! ```text
//! kubectl apply -f kubernetes_store.yaml
//! kubectl apply -f kubernetes.yaml
//! kubectl wait --for=condition=complete --timeout=4h job/prompts
//! ```
//!
//! Then, where the volume is mounted:
//!
//! ```text
//! tollgate merge prompts.shard-*-of-8.results.jsonl -o all.jsonl --ordered-by prompts.jsonl
//! ```
//!
//! # What Kubernetes does again
//!
//! | Happens | Then |
//! |---|---|
//! | a pod is evicted, or its node is drained | tollgate is told to end, and finishes what is in flight. A new pod with the same index carries on. It does not count against the limit of 5 |
//! | a pod is killed outright (no memory, a lost node) | a new pod carries on. The answers in flight, 20 at most, are lost and sent again |
//! | rows have failed, or the provider was down for long (exit codes 1 and 3) | a new pod sends what failed for a passing reason, after 10 s, 20 s, 40 s and so on, up to five times. Rows that failed for good cost nothing again |
//! | the command or the input is wrong (2) | the index has failed at once; the others go on |
//! | you delete the Job and apply it again | rows that are answered are not sent |
//!
//! - Keep `completions` and `--shards` equal and as they are: results of 8 shards are not those of
//!   16. `parallelism` can be changed at any time.
//! - `podReplacementPolicy: Failed` keeps Kubernetes from starting a pod before the old one has
//!   ended. Without it, the new one would find the old one's lock and be refused.
//! - A Redis that is restarted starts empty, which is right: it gives no burst.
//! - Per-index limits (`backoffLimitPerIndex`) need Kubernetes 1.29 or later.
