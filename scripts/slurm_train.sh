#!/bin/sh
# Train on any number of machines under SLURM; arguments go to train.py:
#
#   sbatch --nodes=2 --gpus-per-node=4 --time=12:00:00 scripts/slurm_train.sh \
#       --dataset gtav --method srha --exp my_run
#
# One torchrun per machine starts a process for each of its GPUs. 120 seconds before the time limit,
# or when the job is preempted, all of them finish their step, save and leave; the job then queues
# itself again and continues from there. Start it in the root of the project, with the Python that
# trains active, or named by PYTHON. LOG.DIR must be on a file system that all machines share.
#SBATCH --job-name=srha
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm_%j.txt
set -eu
: "${SLURM_JOB_ID:?start this script with sbatch}"

# SLURM runs a copy of this script, so its own path says nothing; sbatch's folder does.
cd "$SLURM_SUBMIT_DIR"
gpus=${SLURM_GPUS_ON_NODE:-1}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

# torchrun passes the signal on, and waits this many seconds (by itself 30) for the last step and
# the checkpoint before it kills.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-110}"
# Without it, processes that torchrun starts again on several machines wait for one another.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"

asked=0
step=
# The shell gets the signal; srun hands it on to the torchrun of each machine.
forward() {
    asked=1
    [ -z "$step" ] || kill -USR1 "$step" 2>/dev/null || true
}
trap forward USR1 TERM

srun --kill-on-bad-exit=0 "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc_per_node="$gpus" \
    --rdzv_backend=c10d --rdzv_endpoint="$head:$port" --rdzv_id="$SLURM_JOB_ID" \
    --signals-to-handle=SIGTERM,SIGINT,SIGUSR1 \
    train.py --resume auto "$@" &
step=$!

# A signal ends `wait` early, while srun is still at work.
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do
    code=0
    wait "$step" || code=$?
done

# torchrun answers every end but success with 1, so that it is the signal which tells a run that was
# asked to stop from one that failed; 75 is what a training process says by itself.
if [ "$code" -ne 0 ] && { [ "$asked" = 1 ] || [ "$code" = 75 ]; }; then
    echo "stopped and saved; queueing job $SLURM_JOB_ID again"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
