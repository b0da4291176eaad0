#!/usr/bin/env bash
# From a fresh clone to a first result: installs what is missing, builds, runs the example.
set -euo pipefail
# shellcheck source=scripts/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

for option in "$@"; do
  case $option in
    -h | --help)
      printf '%s\n' \
        "usage: scripts/quickstart.sh" \
        "Installs the Debian packages that are missing, builds the program into build/release and" \
        "runs it on configs/phone.json."
      exit 0
      ;;
    *) usage_error "unknown option $option" ;;
  esac
done

step "installing what is missing to build"
scripts/install_dependencies.sh build
# Without the tests: their packages may not be there.
configure_and_build release sim -DMOESIM_BUILD_TESTS=OFF
step "running sim --config configs/phone.json"
build/release/bin/sim --config configs/phone.json
step "done; the program is build/release/bin/sim"
