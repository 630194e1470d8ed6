# shellcheck shell=bash
# Sourced by setup: finds libtorch, or fetches it. The first of these is used:
#   1. EASEL_TORCH_ROOT, or Torch_DIR (…/share/cmake/Torch)
#   2. libtorch 2.11 in CMAKE_PREFIX_PATH, then in a Python on PATH
#   3. the wheel in the cache folder
#   4. a libtorch of another version, where 2 looks, if a test program builds and runs with it
#   5. the wheel, downloaded with pip (so with its configured index and proxy) and checked against pins/
# Each find_… sets `torch` or fails.
# shellcheck disable=SC2154  # `root` and `cache` are setup's
readonly wanted=2.11 wheel=2.11.0
arch=$(uname -m)
cached=$cache/libtorch-$wheel-$arch

is_torch() { [[ -e $1/lib/libtorch_cpu.so && -e $1/include/ATen/ATen.h ]]; }

use() { torch=$(readlink -f "$1"); }

torch_version() {  # "2.11", from the headers
  local header
  for header in headeronly/version.h csrc/api/include/torch/version.h; do
    if [[ -e $1/include/torch/$header ]]; then
      awk '$2 == "TORCH_VERSION_MAJOR" {major = $3} $2 == "TORCH_VERSION_MINOR" {print major "." $3}' \
        "$1/include/torch/$header"
      return
    fi
  done
}

not_found() { LC_ALL=C ldd "$1/lib/libtorch_cpu.so" 2>/dev/null | grep -F 'not found'; }

# ---- 1 to 4: what is already there ----

find_named() {
  local named=${EASEL_TORCH_ROOT:-${Torch_DIR:+$Torch_DIR/../../..}}
  [[ -n $named ]] || return 1
  is_torch "$named" || die 1 "$named (from EASEL_TORCH_ROOT or Torch_DIR) has no lib/libtorch_cpu.so with include/ATen"
  use "$named"
  if not_found "$torch" >&2; then die 1 "$torch (from EASEL_TORCH_ROOT, Torch_DIR) needs these libraries"; fi
  [[ $(torch_version "$torch") == "$wanted" ]] || note_version
}

note_version() { say "using libtorch $(torch_version "$torch") in $torch; Easel is tested with $wanted"; }

candidates() {
  local prefix python
  while IFS= read -r -d : prefix; do
    # Python's torch.utils.cmake_prefix_path is the share/cmake below libtorch
    if [[ -n $prefix ]]; then printf '%s\n' "$prefix" "$prefix/../.."; fi
  done <<<"${CMAKE_PREFIX_PATH:-}:"
  for python in python3 python; do
    # from /, since Python also imports from the working folder
    (cd / && "$python" -c 'import importlib.util as u; print(*u.find_spec("torch").submodule_search_locations)') \
      2>/dev/null || true
  done
}

find_wanted() {
  local candidate
  while IFS= read -r candidate; do
    if ! is_torch "$candidate" || [[ $(torch_version "$candidate") != "$wanted" ]]; then continue; fi
    if ! not_found "$candidate" >/dev/null; then use "$candidate" && return; fi
  done < <(candidates | awk '!seen[$0]++')
  return 1
}

find_cached() {
  local folder=$cached
  if has_nvidia_driver; then folder+=-cuda; fi
  is_torch "$folder/torch" && use "$folder/torch"
}

find_other() {
  local candidate
  while IFS= read -r candidate; do
    if ! is_torch "$candidate"; then continue; fi
    if works "$candidate"; then
      use "$candidate"
      note_version
      return
    fi
    say "passing over libtorch $(torch_version "$candidate") in $candidate: a test program fails with it"
  done < <(candidates | awk '!seen[$0]++')
  return 1
}

# A program compiled with its headers links (the C++11 strings' ABI), runs, and draws Python's random numbers.
works() {
  local folder gomp status=0
  gomp=$(compgen -G "$1/lib/libgomp*.so*" | head -n 1) || gomp=-lgomp
  folder=$(mktemp -d)
  cat >"$folder/probe.cpp" <<'CPP'
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <cmath>
#include <string>
int main() {
  at::parallel_for(0, 8, 1, [](int64_t, int64_t) {});
  const auto noise = at::randn({16}, at::make_generator<at::CPUGeneratorImpl>(0));
  const std::string type = noise.toString();
  return type == "CPUFloatType" && std::abs(noise[0].item<float>() + 1.12583983f) < 1e-5f ? 0 : 1;
}
CPP
  { "${CXX:-c++}" -std=c++20 -fopenmp -w -I"$1/include" "$folder/probe.cpp" -o "$folder/probe" -L"$1/lib" \
    -ltorch_cpu -lc10 "$gomp" "-Wl,-rpath,$1/lib,--allow-shlib-undefined" && "$folder/probe"; } >/dev/null 2>&1 ||
    status=1
  rm -r "$folder"
  return $status
}

# ---- 5: the wheel ----

has_nvidia_driver() {
  local library
  if [[ -e /proc/driver/nvidia/version ]] || command -v nvidia-smi >/dev/null; then return; fi
  for library in /usr/lib{,32,64}{,/*,/*/lib}/libcuda.so.1; do
    if [[ -e $library ]]; then return; fi
  done
  return 1
}

find_pip() {  # sets `pip`: a Python's own, else one in a venv (which Debian's python3 cannot make without python3-venv)
  local python
  for python in python3 python /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then pip=("$python" -m pip) && return; fi
  done
  for python in python3 python /usr/bin/python3; do
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then pip=(pip_in_venv "$python") && return; fi
  done
  return 1
}

pip_in_venv() {  # pip_in_venv PYTHON ARGUMENT…
  "$1" -m venv "$new/venv" && "$new/venv/bin/python" -m pip "${@:2}"
}

lock_cache() {
  mkdir -p "$cache" 2>/dev/null || true
  [[ -w $cache ]] || die 1 "cannot write $cache: set EASEL_CACHE to a folder with 2 GB free"
  lock "$cache/lock" 8 set-up
}

fetch_wheel() {
  [[ $arch == x86_64 || $arch == aarch64 ]] || die 1 "no libtorch wheel for $arch: give a libtorch by EASEL_TORCH_ROOT"
  find_pip || die 1 "no Python with pip to download libtorch: give a libtorch by EASEL_TORCH_ROOT"
  lock_cache
  rm -rf "$cache"/new.*  # a set-up that was killed left them; the lock is ours
  is_torch "$cached/torch" || fetch "$cached" libtorch.txt "0.6 GB"
  if has_nvidia_driver && ! is_torch "$cached-cuda/torch"; then
    fetch "$cached-cuda" libtorch-cuda.txt "for CUDA, 2 GB" "$cached"
  fi
  find_cached
  if not_found "$torch" >&2; then die 1 "libtorch in $torch needs the libraries named above"; fi
}

# Makes the folder TARGET from the wheels of PINS, and from BASE's files. It appears by one rename, whole or not at all.
fetch() {  # fetch TARGET PINS WHAT [BASE]
  say "downloading libtorch $wheel ($3) to $cache"
  new=$(mktemp -d "$cache/new.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  mkdir "$new/tree"
  if [[ $# == 4 ]]; then cp -al "$4/." "$new/tree" 2>/dev/null || cp -a "$4/." "$new/tree"; fi
  download "$2" "$new/wheels"
  unpack "$new/wheels" "$new/tree" || die 1 "libtorch could not be unpacked in $cache (2 GB are needed there)"
  sync -f "$new/tree"
  rm -rf "$1"
  mv -T "$new/tree" "$1"
  rm -rf "$new"
}

download() {  # download PINS FOLDER; asks for one Python version's wheel, whichever Python runs pip
  local tag options=(--disable-pip-version-check --no-cache-dir --no-deps --require-hashes --only-binary=:all:
    --implementation cp --python-version 3.11 --abi cp311)
  for tag in manylinux_2_{28,27,25,18,17,12,5} manylinux2014 manylinux2010 manylinux1; do
    options+=(--platform "${tag}_$arch")
  done
  if [[ ! -t 2 ]]; then options+=(-q); fi
  PIP_REQUIRE_VIRTUALENV=0 TMPDIR=$new "${pip[@]}" download "${options[@]}" -r "$root/scripts/pins/$1" -d "$2" >&2 ||
    die 1 "pip could not download libtorch (its message is above); try again, or give a libtorch by EASEL_TORCH_ROOT"
}

unpack() {  # unpack WHEELS FOLDER: libraries, headers, licences
  local python
  python=$(command -v python3 || command -v python)
  "$python" - "$1" "$2" <<'PY'
import pathlib, re, sys, zipfile
kept = re.compile(r"torch/(lib|include)/(?!libtorch_python)|nvidia/.*/lib/|.*(LICENSE|License|NOTICE)")
for path in pathlib.Path(sys.argv[1]).glob("*.whl"):
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if kept.match(name)])
    path.unlink()
PY
}
