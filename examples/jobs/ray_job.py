import os
import subprocess

import ray

SHARDS = 8
FOLDER = os.getcwd()  # on several hosts: a folder that all of them see


# Ray starts a task again whose worker died; with `retry_exceptions` also one that has failed.
@ray.remote(num_cpus=0.1, max_retries=5, retry_exceptions=True)
def ask(shard):
    assert "TOLLGATE_SHARED_LIMIT" in os.environ, "set it where `ray start` is run"
    lock = f"prompts.shard-{shard}.lock"  # an earlier attempt may still be running
    tollgate = f"tollgate run prompts.jsonl --shard {shard}/{SHARDS} --rps 50 --progress never"
    subprocess.run(["flock", lock, *tollgate.split()], cwd=FOLDER, check=True)


ray.init()
ray.get([ask.remote(shard) for shard in range(SHARDS)])

merge = "tollgate merge prompts.shard-*-of-8.results.jsonl -o all.jsonl --ordered-by prompts.jsonl"
subprocess.run(merge, shell=True, check=True)
