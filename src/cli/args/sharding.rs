//! Which share of INPUT is taken: arguments of several commands.

use clap::Args;

use crate::cli::parse;
use crate::jsonl::shard::Shard;

/// The share of INPUT that is this process's.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Shards")]
pub(crate) struct Sharding {
    /// Take only the rows of shard I of N, where I counts from 0: those whose id has a CRC-32 that
    /// leaves I when divided by N. N processes with a shard each take all rows, and none twice.
    /// Results go to INPUT's name with .shard-I-of-N.results.jsonl; `tollgate merge` puts them
    /// together. With auto, I and N are those of this task of a Slurm array, or I is that of this
    /// pod of an indexed Kubernetes Job and N is --shards
    #[arg(long, value_name = "I/N|auto", value_parser = parse::shard, allow_negative_numbers = true)]
    pub(crate) shard: Option<ShardArg>,

    /// How many shards there are, for --shard auto: a Kubernetes Job does not tell its pods how
    /// many they are, so give its completions. A Slurm array must have as many tasks
    #[arg(long, value_name = "N", requires = "shard", value_parser = parse::up_to::<u32>(u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) shards: Option<u32>,
}

/// A shard as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShardArg {
    Auto,
    Given(Shard),
}
