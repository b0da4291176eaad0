#!/usr/bin/env bash
# Builds and runs the benchmarks: medians over repetitions in random order, so that neither a warm
# cache nor a slow clock favours one of them. Compare only runs of one idle machine.
set -euo pipefail
# shellcheck source=scripts/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

for option in "$@"; do
  case $option in
    -h | --help)
      printf '%s\n' \
        "usage: scripts/bench.sh [--benchmark_OPTION=VALUE]..." \
        "Builds preset release and runs build/release/bin/moesim_bench; options go to the latter," \
        "for example --benchmark_filter=REGEX. Beside the simulator there are the kernels, with the speed" \
        "of memory and of Eigen (gemv, expert_ffn, eigen_gemv), and their threads (team)."
      exit 0
      ;;
    --benchmark_*) ;;
    *) usage_error "unknown option $option" ;;
  esac
done

step "installing what is missing to build and test"
scripts/install_dependencies.sh build test
configure_and_build release moesim_bench -DMOESIM_BUILD_TESTS=ON -DMOESIM_BUILD_BENCHMARKS=ON
step "running the benchmarks"
build/release/bin/moesim_bench --benchmark_repetitions=5 \
  --benchmark_enable_random_interleaving=true --benchmark_report_aggregates_only=true "$@"
step "done"
