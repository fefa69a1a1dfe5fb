//! Which shard of INPUT is taken: arguments of several commands.

use clap::Args;

use crate::cli::parse;
use crate::jsonl::shard::Shard;

/// The shard of INPUT that this process takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Shards")]
pub(crate) struct Sharding {
    /// Take only shard I of N, where I counts from 0: the rows whose id has a CRC-32 that leaves I
    /// when divided by N. N processes with a shard each take every row once. Results go to INPUT's
    /// name with .shard-I-of-N.results.jsonl, and `tollgate merge` makes one file of them. With
    /// auto, the shard is that of this task of a Slurm array, or of this pod of an indexed
    /// Kubernetes Job, which needs --shards
    #[arg(long, value_name = "I/N|auto", value_parser = parse::shard, allow_negative_numbers = true)]
    pub(crate) shard: Option<ShardArg>,

    /// The number of shards, for --shard auto. A Kubernetes Job does not tell its pods how many
    /// they are, so give its completions. A Slurm array knows its size, and must have this many
    /// tasks
    #[arg(long, value_name = "N", requires = "shard", value_parser = parse::up_to::<u32>(u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) shards: Option<u32>,
}

/// A shard as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShardArg {
    Auto,
    Given(Shard),
}
