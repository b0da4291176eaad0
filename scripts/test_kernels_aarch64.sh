#!/usr/bin/env bash
# Compiles the kernels and their tests for AArch64 with Debian's cross compiler and runs them under
# qemu-user. Where a tool is missing it says so and ends with status 77, which ctest shows as skipped.
set -euo pipefail
# shellcheck source=scripts/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

case ${1:-} in
  -h | --help)
    printf '%s\n' \
      "usage: scripts/test_kernels_aarch64.sh [FOLDER]" \
      "Compiles the tests of src/kernels for AArch64 into FOLDER (build/aarch64) and runs them under" \
      "qemu. scripts/install_dependencies.sh test installs what that needs."
    exit 0
    ;;
  -*) usage_error "unknown option $1" ;;
esac
folder=${1:-build/aarch64}
compiler=aarch64-linux-gnu-g++
emulator=qemu-aarch64

for tool in "$compiler" "$emulator"; do
  if ! command -v "$tool" >/dev/null; then
    echo "skipped: $tool is not installed (scripts/install_dependencies.sh test)"
    exit 77
  fi
done

# Headers that suit every CPU, in a folder of their own: /usr/include holds those of this one's libc.
mkdir -p "$folder/include"
for headers in hwy doctest eigen3/Eigen; do
  if [[ ! -d /usr/include/$headers ]]; then
    echo "skipped: /usr/include/$headers is not there (scripts/install_dependencies.sh build test)"
    exit 77
  fi
  ln -sfn "/usr/include/$headers" "$folder/include/${headers##*/}"
done

sources=(tests/support/main.cpp tests/support/allocation_counter.cpp)
for file in src/kernels/*.cpp tests/unit/kernels/*.cpp; do
  if [[ ${file##*/} != kernels_absent* ]]; then sources+=("$file"); fi
done

# Highway's library holds what chooses between instructions at run time. With NEON alone there is
# nothing to choose, so its headers are enough.
flags=(-std=c++20 -O1 -Wall -Wextra -Werror -pthread -isystem "$folder/include" -Isrc -Itests
  "-DHWY_DISABLED_TARGETS=(HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128)")
launcher=()
if command -v ccache >/dev/null; then launcher=(ccache); fi

step "compiling ${#sources[@]} files for AArch64"
objects=()
for source in "${sources[@]}"; do objects+=("$folder/${source//\//_}.o"); done
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -I {} bash -c '
  source=$1 folder=$2
  shift 2
  "$@" -c "$source" -o "$folder/${source//\//_}.o"' \
  compile {} "$folder" "${launcher[@]}" "$compiler" "${flags[@]}"
"$compiler" -static -pthread "${objects[@]}" -o "$folder/kernel_tests"

step "testing under $emulator"
"$emulator" "$folder/kernel_tests"
