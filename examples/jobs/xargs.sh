#!/bin/sh
# Eight shards of prompts.jsonl at once, at 50 requests a second together.
seq 0 7 | xargs -P 8 -I {} \
    tollgate run prompts.jsonl --shard {}/8 --shared-limit file:limit --rps 50
tollgate merge prompts.shard-*-of-8.results.jsonl -o all.jsonl --ordered-by prompts.jsonl
