# shellcheck shell=bash
# Sourced by the other scripts: where things are, messages, the build behind a lock. Everything is said on stderr.
root=$(readlink -f "${BASH_SOURCE[0]%/*}/..")
build=${EASEL_BUILD:-$root/.build}
[[ $build == /* ]] || build=$PWD/$build

say() { printf 'easel: %s\n' "$*" >&2; }

die() {  # die STATUS MESSAGE…
  local status=$1
  shift
  say "$@"
  exit "$status"
}

# lock FILE DESCRIPTOR WHAT: waits until nobody else does WHAT; closing the descriptor unlocks.
lock() {
  eval "exec $2>>\"\$1\""
  flock -n "$2" || { say "waiting for another $3 to finish" && flock "$2"; }
}

set_up() { EASEL_BUILD=$build "$root/scripts/setup" "$@"; }

# ---- building ----

job_count() {  # one for each core, but not more than memory allows: a file that includes ATen takes about 1.2 GB
  local cores fit
  cores=$(nproc)
  fit=$(awk '/^MemAvailable/ {print int($2 / 1200000)}' /proc/meminfo)
  ((fit >= 1)) || fit=1
  echo $((cores < fit ? cores : fit))
}

# Appends standard input to a file; on a terminal also shows how far the build is ("[12/90]", "[ 13%]").
to_log() {
  local line
  while IFS= read -r line; do
    printf '%s\n' "$line"
    if [[ -t 2 && $line == \[*\]* ]]; then printf '\r\033[Keasel: building %s' "${line%%]*}]" >&2; fi
  done >>"$1"
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
}

configure() {  # configure CMAKE_OPTION…
  local options=("$@") known=$build/CMakeCache.txt
  if [[ -e $known ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$known"; then
    rm -r "$known" "$build/CMakeFiles"  # the clone was moved or copied
  fi
  if [[ ! -e $known ]] && command -v ninja >/dev/null; then options+=(-G Ninja); fi
  cmake -S "$root" -B "$build" "${options[@]}"
}

# Afterwards `built` holds the clone's and libtorch's folders; its age is that of the build's start. Called where
# `set -e` is off.
run_build() {  # run_build TARGET CMAKE_OPTION…
  local target=$1 torch
  shift
  torch=$(set_up --print-torch) &&
    printf '%s\n' "$root" "$torch" >"$build/built.new" &&
    configure "-DEASEL_TORCH_ROOT=$torch" "$@" &&
    cmake --build "$build" --target "$target" --parallel "$(job_count)" &&
    mv "$build/built.new" "$build/built"
}

# Builds TARGET in $build, one build at a time; output goes to build.log, whose end is shown on failure.
build_target() {  # build_target TARGET CMAKE_OPTION…
  local log=$build/build.log status=0 first=" (the first build takes minutes)"
  mkdir -p "$build"
  lock "$build/lock" 9 build
  if [[ $1 == easel ]] && up_to_date; then return; fi
  if [[ -e $build/built ]]; then first=""; fi
  say "building in $build$first"
  : >"$log"
  # 9>&-: what outlives the build, a compiler cache's server for example, must not keep the lock
  run_build "$@" 2>&1 9>&- | to_log "$log" 9>&- || status=$?
  exec 9>&-
  if ((status != 0)); then
    grep -vE '^(-- |: && |[^ :]+ -|\[[0-9]+/)' "$log" | tail -n 40 >&2  # not the compilers' command lines
    die 1 "the build failed; all of its output is in $log"
  fi
}

# True when the program is there, was built from this folder and libtorch, and no source changed since.
up_to_date() {
  local from torch
  [[ -x $build/easel && -e $build/built ]] || return 1
  { read -r from && read -r torch; } <"$build/built" || return 1
  [[ $from == "$root" && -e $torch/lib/libtorch_cpu.so ]] || return 1
  [[ -z $(find "$root"/{CMakeLists.txt,include,src,scripts/cmake} -newer "$build/built" -print -quit) ]]
}
