#!/usr/bin/env bash
# Kills a batch at random moments, resumes it each time, and compares the pictures with those of a run in one piece.
#
#   kill_test.sh EASEL [JOBS] [KILLS]     500 jobs and 100 kills take some minutes; a short form is in resume_test.cpp
set -euo pipefail
easel=$(readlink -f "$1") jobs=${2:-500} kills=${3:-100}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

for ((i = 0; i < jobs; i++)); do
  printf 'picture %d of a %s --steps %d --sampler %s\n' "$i" "$( ((i % 3)) && echo cat || echo dog)" \
    $((1 + i % 2)) "$( ((i % 5)) && echo ddim || echo euler_a)"
done >jobs.txt
batch=("$easel" --from-file jobs.txt -s 7 -W 64 -H 64 --batch-size 4 -q --resume)
run() { "${batch[@]}" "$@" >/dev/null; }

# What a kill leaves half-written is removed an hour later: another shard might be writing it.
same() { diff -r --exclude=manifest.jsonl --exclude='.easel-*.tmp' whole torn; }

run --outdir whole
killed=0 seconds=2.0
while ((killed < kills)); do
  "${batch[@]}" --outdir torn >/dev/null &  # not the function: the signal is for the program, not for a subshell
  sleep "$(awk -v s="$RANDOM" -v most="$seconds" 'BEGIN {print 0.05 + most * s / 32768}')"
  if kill -9 $! 2>/dev/null; then killed=$((killed + 1)); fi
  wait $! 2>/dev/null || true
  # Before the end is near, or there would be nothing left to kill: begin again.
  if (($(find torn -name '*.png' 2>/dev/null | wc -l) >= jobs - 5)); then
    run --outdir torn
    same
    rm -r torn
  fi
done
run --outdir torn
same
pictures=$(find whole -name '*.png' | wc -l)
((pictures == jobs))
# The manifest tells of every picture once it is done, with the hash of the file that is there.
python3 - "$jobs" <<'PY'
import hashlib, json, sys
records = {}
for line in open("torn/manifest.jsonl"):
    try:
        record = json.loads(line)
    except ValueError:
        continue  # torn by a kill
    if record.get("status") == "done":
        records[record["path"]] = record["sha256"]
assert len(records) == int(sys.argv[1]), len(records)
for path, sha256 in records.items():
    assert hashlib.sha256(open("torn/" + path, "rb").read()).hexdigest() == sha256, path
PY
echo "$killed kills, $pictures pictures: equal to a run in one piece"
