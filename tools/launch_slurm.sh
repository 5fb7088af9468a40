#!/usr/bin/env bash
# Train on several nodes under SLURM: one torchrun per node, requeued before the time limit and
# after a lost node; the run continues from the last checkpoint in its --output-dir.
#
#   sbatch --nodes=2 --gpus-per-node=8 --time=12:00:00 tools/launch_slurm.sh \
#       detector --dataset deepfashion2 --data-path /data/DF2 --output-dir /shared/runs/d -b 2
#
# Everything after the script's name goes to train.py. --output-dir must be on a file system that
# all nodes share. Set WEFT_PYTHON to use another interpreter than the checkout's .venv.
#SBATCH --job-name=weft
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output=weft-%j.log

set -uo pipefail
# sbatch runs a copy of this file, so the checkout is where sbatch was called, not $0's folder.
cd "${SLURM_SUBMIT_DIR:?start this with sbatch, from the root of the checkout}" || exit 2
[ -f train.py ] || { echo "error: call sbatch from the root of the checkout" >&2; exit 2; }

python=${WEFT_PYTHON:-.venv/bin/python}
head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
gpus=${SLURM_GPUS_ON_NODE:-1}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Two minutes before the time limit: end the step and queue the job again. Work after the last
# checkpoint is repeated; --checkpoint-every limits it.
requeue() {
    echo "time limit near: requeueing job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID"
}
trap requeue USR1

# --cpus-per-task is repeated, because since SLURM 22.05 srun does not inherit it from the job.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 "$python" -m torch.distributed.run \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc_per_node="$gpus" \
    --rdzv_backend=c10d --rdzv_endpoint="$head_node:$((20000 + SLURM_JOB_ID % 20000))" \
    --rdzv_id="$SLURM_JOB_ID" --max_restarts=3 \
    train.py "$@" &
# A trap runs only between commands or during wait; the signal ends the first wait, so wait twice.
wait $!
status=$?
wait
exit "$status"
