#!/usr/bin/env bash
# Trains on the GPUs of this machine, or of several.
#
#   tools/dist_train.sh CONFIG GPUS [options of tools/train]
#
# Environment: NNODES (1) machines, of which this is number NODE_RANK (0); MASTER_ADDR and PORT (29500) of
# the machine with NODE_RANK=0. Without GPUs it starts as many processes on the CPU.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
config=$1 gpus=$2
shift 2
export NNODES="${NNODES:-1}" NODE_RANK="${NODE_RANK:-0}" MASTER_PORT="${PORT:-29500}"
exec "$(dirname "$0")/train" "$config" --nproc "$gpus" "$@"
