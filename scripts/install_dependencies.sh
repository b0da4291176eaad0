#!/usr/bin/env bash
# Installs the Debian packages that are missing, and touches nothing where none is.
set -euo pipefail

declare -A packages=(
  [build]="g++ cmake ninja-build libboost-dev libboost-graph-dev nlohmann-json3-dev libeigen3-dev
           libcli11-dev libfmt-dev libhwy-dev libtbb-dev libssl-dev liburing-dev libxxhash-dev pkg-config"
  [test]="doctest-dev libbenchmark-dev python3 python3-pytest python3-numpy python3-matplotlib
          python3-distributed python3-tqdm python3-torch python3-plotly python3-selenium chromium
          chromium-driver g++-aarch64-linux-gnu qemu-user"
  [python]="pybind11-dev python3-dev python3-numpy python3-venv"
  [report]="python3 python3-numpy python3-plotly python3-matplotlib"
  [tidy]="clang-tidy clang-format"
)

usage() {
  printf '%s\n' \
    "usage: scripts/install_dependencies.sh [build] [python] [report] [test] [tidy]" \
    "Installs the Debian packages that are missing to build (the default), to build the Python" \
    "package, for scripts/report.py, to test, and to check style. Works as root or through sudo."
}

fail() {
  printf 'install_dependencies.sh: error: %s\n' "$1" >&2
  exit "$2"
}

wanted=()
for group in "${@:-build}"; do
  case $group in
    -h | --help) usage && exit 0 ;;
    build | python | report | test | tidy) read -r -d '' -a names <<<"${packages[$group]}" || true ;;
    *) fail "unknown argument $group, expected build, python, report, test or tidy" 2 ;;
  esac
  wanted+=("${names[@]}")
done

command -v dpkg-query >/dev/null ||
  fail "not a Debian system; install what these packages hold: ${wanted[*]}" 1

# Status 1 only says that dpkg has never heard of one of them.
declare -A present=()
while read -r name state; do
  if [[ $state == installed ]]; then present[$name]=yes; fi
done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)

missing=()
for name in "${wanted[@]}"; do
  if [[ -z ${present[$name]:-} ]]; then missing+=("$name"); fi
done
if ((${#missing[@]} == 0)); then
  echo "nothing to install"
  exit 0
fi

as_root=()
if [[ $(id -u) != 0 ]]; then
  command -v sudo >/dev/null ||
    fail "packages are missing; as root, run: apt-get install ${missing[*]}" 1
  as_root=(sudo)
fi

echo "installing ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}"
