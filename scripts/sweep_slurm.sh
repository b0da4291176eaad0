#!/usr/bin/env bash
# A sweep as a Slurm array job: N parts of the points, then a job that merges them.
set -euo pipefail

usage() {
  printf '%s\n' \
    "usage: scripts/sweep_slurm.sh SPEC.json FOLDER N [SBATCH_OPTION]..." \
    "Submits N tasks and the job that merges them; FOLDER must be seen by every node. What a task" \
    "does not finish, a second call of this script does. SBATCH_OPTION goes to both jobs."
}

fail() {
  printf 'sweep_slurm.sh: error: %s\n' "$1" >&2
  exit 2
}

case ${1:-} in
  -h | --help) usage && exit 0 ;;
  -*) fail "unknown option $1, expected SPEC.json (see --help)" ;;
esac
(($# >= 3)) || fail "expected SPEC.json FOLDER N, got $# arguments (see --help)"
spec=$1 folder=$2 parts=$3
shift 3
[[ $parts =~ ^[1-9][0-9]*$ ]] || fail "expected a number of parts > 0, got $parts"
command -v sbatch >/dev/null || fail "expected Slurm's sbatch on PATH, got none"

script=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/sweep.py
printf -v sweep '%q ' "$script" "$spec" --out "$folder"
"$script" "$spec" --list >/dev/null # a wrong specification ends here
mkdir -p "$folder"
array=$(sbatch --parsable --array="0-$((parts - 1))" --output="$folder/part-%a.log" "$@" \
  --wrap="$sweep --resume --jobs \${SLURM_CPUS_PER_TASK:-1} --shard \$SLURM_ARRAY_TASK_ID/$parts")
sbatch --parsable --dependency="afterany:${array%%;*}" --output="$folder/merge.log" "$@" \
  --wrap="$sweep --merge"
