#!/bin/sh
#SBATCH --job-name=prompts
#SBATCH --array=0-7
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append

: "${TOLLGATE_SHARED_LIMIT:?set it to redis://HOST/0?key=NAME}"
srun tollgate run prompts.jsonl --shard auto --rps 50 \
    --api-key-file "$HOME/.openai-key" --progress never
code=$?

# Stopped early (3) or out of time (143): back into the queue, to carry on.
case $code in
    3 | 143) scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" ;;
esac
exit $code
