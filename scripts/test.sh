#!/usr/bin/env bash
# Builds and runs every test, C++ and Python. The tests of the release build run last, so that the
# output ends on their summary.
set -euo pipefail
# shellcheck source=scripts/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

usage() {
  printf '%s\n' \
    "usage: scripts/test.sh [--tidy] [--sanitize] [--full]" \
    "Installs the Debian packages that are missing, builds preset release and runs all its tests." \
    "  --tidy      before that, check style with clang-format and clang-tidy" \
    "  --sanitize  before that, run the tests built with address and undefined sanitizers" \
    "  --full      both of these: what CI runs"
}

tidy=no sanitize=no
for option in "$@"; do
  case $option in
    --tidy) tidy=yes ;;
    --sanitize) sanitize=yes ;;
    --full) tidy=yes sanitize=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage_error "unknown option $option" ;;
  esac
done

run_tests() { ctest --test-dir "build/$1" --output-on-failure -j2; }

check_style() {
  step "clang-format"
  find src sim tests -name '*.h' -print0 -o -name '*.cpp' -print0 |
    xargs -0 clang-format --dry-run -Werror
  step "configuring (release) for clang-tidy"
  cmake --preset release -DMOESIM_BUILD_TESTS=ON
  step "clang-tidy"
  # shellcheck disable=SC2016  # the inner shell expands
  # Quiet about a file that is clean: clang-tidy counts even the warnings it suppresses.
  find src sim -name '*.cpp' -print0 |
    xargs -0 -n 1 -P "$(nproc)" bash -c '
      report=$(clang-tidy --quiet -p build/release --warnings-as-errors="*" "$0" 2>&1) ||
        { printf "%s\n" "$report"; exit 1; }' || {
    step "clang-tidy found what is listed above"
    exit 1
  }
}

test_sanitized() {
  configure_and_build asan all -DMOESIM_BUILD_TESTS=ON
  step "testing (asan)"
  ASAN_OPTIONS=halt_on_error=1:detect_stack_use_after_return=1:check_initialization_order=1 \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 run_tests asan
}

groups=(build python test)
if [[ $tidy == yes ]]; then groups+=(tidy); fi
step "installing what is missing for: ${groups[*]}"
scripts/install_dependencies.sh "${groups[@]}"

if [[ -z ${MOESIM_DATA_DIR:-} && -d ../shared ]]; then
  MOESIM_DATA_DIR=$(realpath ../shared)
  export MOESIM_DATA_DIR
fi
if [[ -n ${MOESIM_DATA_DIR:-} ]]; then
  step "third-party data: $MOESIM_DATA_DIR"
else
  step "no third-party data: MOESIM_DATA_DIR is not set, so the tests on it skip"
fi

if [[ $tidy == yes ]]; then check_style; fi
if [[ $sanitize == yes ]]; then test_sanitized; fi
configure_and_build release all -DMOESIM_BUILD_TESTS=ON
step "testing (release)"
run_tests release
