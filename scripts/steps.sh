# shellcheck shell=bash
# Sourced by the other scripts: works from the root of the checkout with Debian's own programs, and
# announces each step with the time since the start.

# A Python, CMake or clang-format of another version may come first on PATH.
export PATH="/usr/bin:/bin:$PATH"
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
SECONDS=0

step() { printf '==> %s (%d s)\n' "$*" "$SECONDS"; }

# usage_error MESSAGE: one line and exit status 2.
usage_error() {
  printf '%s: error: %s (see %s --help)\n' "${0##*/}" "$1" "${0##*/}" >&2
  exit 2
}

# configure_and_build PRESET TARGET CMAKE_OPTION...
configure_and_build() {
  local preset=$1 target=$2
  shift 2
  step "configuring ($preset)"
  cmake --preset "$preset" "$@"
  step "building ($preset)"
  cmake --build "build/$preset" --target "$target" --parallel "$(nproc)"
}
