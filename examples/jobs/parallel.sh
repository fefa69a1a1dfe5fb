#!/bin/sh
# Eight shards of prompts.jsonl at once, at 50 requests a second together. On Ctrl-C each
# has 40 s to finish what is in flight (--termseq); by default it is less than a second.
parallel --jobs 8 --line-buffer --tagstring 'shard {}' --termseq TERM,40000,KILL,25 \
    tollgate run prompts.jsonl --shard {}/8 --shared-limit file:limit --rps 50 ::: $(seq 0 7)
tollgate merge prompts.shard-*-of-8.results.jsonl -o all.jsonl --ordered-by prompts.jsonl
