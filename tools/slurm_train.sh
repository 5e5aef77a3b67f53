#!/usr/bin/env bash
# Trains by srun, one process for each GPU.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train]
#
# Environment: GPUS (4) in all, GPUS_PER_NODE (4), CPUS_PER_TASK (5), SRUN_ARGS (further options of srun).
# GPUS_PER_NODE=0 asks for no GPUs: GPUS is then the number of processes.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
partition=$1 job_name=$2 config=$3
shift 3
gpus=${GPUS:-4} gpus_per_node=${GPUS_PER_NODE:-4}
place=()
if [ "$gpus_per_node" != 0 ]; then
  place=(--gres=gpu:"$gpus_per_node" --ntasks-per-node="$gpus_per_node")
fi
# SRUN_ARGS holds several words.
# shellcheck disable=SC2086
exec srun -p "$partition" --job-name="$job_name" "${place[@]}" --ntasks="$gpus" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "$(dirname "$0")/train" "$config" --launcher slurm "$@"
