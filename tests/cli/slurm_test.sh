#!/usr/bin/env bash
# scripts/slurm-array on a real Slurm of one node on loopback: an array of 4 tasks, 64 jobs, merged, equal to a single
# run. Exit status 77 where Slurm is not installed or does not start: skipped.
#
#   slurm_test.sh EASEL SOURCE_FOLDER
set -euo pipefail
easel=$1 source=$2
skip() {
  echo "skipped: $*"
  exit 77
}
fail() {
  echo "FAILED: $*"
  tail -n 20 "$work"/out/log/*.log "$work"/log/* 2>/dev/null || true
  exit 1
}

for program in slurmctld slurmd munged sbatch scontrol squeue; do
  PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || skip "$program is not installed (Debian: slurm-wlm, munge)"
done
PATH=$PATH:/usr/sbin
# slurmd starts tasks as their users.
[[ $(id -u) == 0 ]] || skip "slurmd must be started by root"

work=$(mktemp -d)
mkdir -p "$work"/{log,state,spool,munge}
stop() {
  for daemon in slurmd slurmctld munged; do
    if [[ -s $work/$daemon.pid ]]; then kill "$(cat "$work/$daemon.pid")" 2>/dev/null || true; fi
  done
  for _ in {1..50}; do
    jobs -r | grep -q . || break
    sleep 0.1
  done
  rm -rf "$work"
}
trap stop EXIT

# ---- a cluster of this machine ----

free_port() {  # nobody listens there now
  local port
  while port=$((20000 + RANDOM % 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}
node=$(hostname -s)
chmod 755 "$work" "$work/munge"
chmod 700 "$work/log"
(umask 077 && head -c 1024 /dev/urandom >"$work/munge.key")
munged --foreground --force --num-threads=2 --key-file="$work/munge.key" --socket="$work/munge/socket" \
  --pid-file="$work/munged.pid" --log-file="$work/log/munged.log" --seed-file="$work/munge.seed" &>"$work/log/munged.out" &

cat >"$work/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldLogFile=$work/log/slurmctld.log
SlurmdLogFile=$work/log/slurmd.log
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(slurmd -C | grep -o ' CPUs=[0-9]*' | grep -o '[0-9]*')
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$work/slurm.conf
printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$work/cgroup.conf"
for _ in {1..50}; do
  if [[ -S $work/munge/socket ]]; then break; fi
  sleep 0.1
done
[[ -S $work/munge/socket ]] || skip "munged does not start: $(tail -n 3 "$work"/log/munged.* | tr '\n' ' ')"
slurmctld -D -i &>"$work/log/slurmctld.out" &
slurmd -D -N "$node" &>"$work/log/slurmd.out" &
ready=""
for _ in {1..100}; do
  if [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; then
    ready=yes
    break
  fi
  sleep 0.2
done
[[ -n $ready ]] || skip "Slurm does not start: $(tail -n 3 "$work"/log/slurm*.log "$work"/log/slurm*.out | tr '\n' ' ')"

# ---- the array against a single run ----

for ((i = 0; i < 64; ++i)); do echo "a fox number $i --cfg $((2 + i % 3))"; done >"$work/jobs.txt"
options=(-s 1 --steps 1 -W 64 -H 64 --dtype f32 --device cpu -t 1 --batch-size 1)
read -r array merge < <(EASEL_PROGRAM=$easel "$source/scripts/slurm-array" 4 "$work/jobs.txt" "$work/out" "${options[@]}")
echo "array $array, merging job $merge"
for _ in {1..600}; do
  [[ -n $(squeue --noheader --jobs="$array,$merge" 2>/dev/null) ]] || break
  sleep 0.2
done
[[ -e $work/out/manifest.jsonl ]] || fail "there is no merged manifest"
for i in 0 1 2 3; do
  [[ $(wc -l <"$work/out/manifest-$i.jsonl") == 17 ]] || fail "shard $i has no 16 records under its header"
done

"$easel" --from-file "$work/jobs.txt" --outdir "$work/single" --resume "${options[@]}" >"$work/paths" 2>"$work/log/single"
[[ $(wc -l <"$work/paths") == 64 ]] || fail "the single run drew $(wc -l <"$work/paths") pictures"
for file in "$work"/single/*.png; do
  cmp -s "$file" "$work/out/${file##*/}" || fail "${file##*/} differs"
done
[[ $(find "$work/out" -name '*.png' | wc -l) == 64 ]] || fail "the array drew other pictures too"

# Every picture is in the merged manifest, in order.
grep -o '^{"index":[0-9]*' "$work/out/manifest.jsonl" | cut -d: -f2 | cmp -s - <(seq 0 63) || fail "the merged manifest"
rest=$("$easel" --from-file "$work/jobs.txt" --outdir "$work/out" --shard 2/4 --resume \
  --manifest "$work/out/manifest-2.jsonl" "${options[@]}" 2>/dev/null)
[[ -z $rest ]] || fail "a shard that was done is drawn again: $rest"
echo "64 pictures of 4 tasks equal a single run's"
