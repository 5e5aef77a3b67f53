#!/usr/bin/env bash
# Tests weights on the GPUs of this machine, or of several.
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test]
#
# Environment: NNODES (1) machines, of which this is number NODE_RANK (0); MASTER_ADDR and PORT (29500) of
# the machine with NODE_RANK=0. Without GPUs it starts as many processes on the CPU.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
config=$1 checkpoint=$2 gpus=$3
shift 3
export NNODES="${NNODES:-1}" NODE_RANK="${NODE_RANK:-0}" MASTER_PORT="${PORT:-29500}"
exec "$(dirname "$0")/test" "$config" "$checkpoint" --nproc "$gpus" "$@"
