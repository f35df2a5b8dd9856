#!/bin/bash
# The sweep lr-and-width, 24 trials, on 2 nodes.
# Written by cnngrid; to be read, and to be submitted again with sbatch.
#SBATCH --job-name=lr-and-width
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=a100:4
#SBATCH --time=8:00:00
#SBATCH --partition=gpu
#SBATCH --account=vision
#SBATCH --qos=long
#SBATCH --constraint=a100
#SBATCH --chdir=/home/me
#SBATCH --output=/home/me/results/lr-and-width/logs/slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --mem=64G
#SBATCH --mail-type=END

export PATH=/home/me/venv/bin:$PATH
pythonpath=$PYTHONPATH
source /home/me/modules.sh || { echo 'cnngrid: --env-setup /home/me/modules.sh: its last command failed'; exit 2; }
programs=/home/me/venv/bin python=/home/me/venv/bin/python
start_in=/home/me
folder=/home/me/results/lr-and-width/run/slurm/1
logs=/home/me/results/lr-and-width/logs
nodes=2 array=
export cpus=16 gpus=4
shared=(/home/me /data)
progress=(/home/me/results/lr-and-width/trials)
command=(cnngrid run /home/me/results/lr-and-width/run/slurm/1/sweep.yaml)

# ---- The rest is the same in every job. ---------------------------------------------------------

say() { echo "cnngrid: $*"; }

# What --env-setup did to this shell (set -eu, cd, another Python first) does not change the job.
set +eu +o pipefail
trap - ERR EXIT
unset IFS PYTHONHOME
cd "$start_in" || exit 2
export PATH="$programs:$PATH"
[ -x "$python" ] || python=python3
if [ "$PYTHONPATH" != "$pythonpath" ]; then # what it added is found, but after everything installed
    installed=$(PYTHONPATH='' "$python" -P -c 'import sys; print(*filter(None, sys.path), sep=":")')
    export PYTHONPATH="${pythonpath:+$pythonpath:}$installed${PYTHONPATH:+:$PYTHONPATH}"
fi

# Variables of the job in which this one was submitted are orders for srun and scancel: keep those
# that say where Slurm is and which job this is.
for name in ${!SLURM_@} ${!SRUN_@} ${!SBATCH_@} ${!SALLOC_@} ${!SCANCEL_@} ${!SCONTROL_@} \
    ${!PMI_@} ${!PMIX_@} ${!OMPI_@}; do
    case $name in
    SLURM_CONF* | SLURM_JWT | SLURM_SACK_* | SLURM_CLUSTER_NAME | SLURM_RESTART_COUNT) ;;
    SLURM_JOB_ID | SLURM_JOB_NODELIST | SLURM_SUBMIT_*) ;;
    SLURM_ARRAY_JOB_ID | SLURM_ARRAY_TASK_ID) [ -n "$array" ] || unset "$name" ;;
    *) unset "$name" ;;
    esac
done
# Nor does this job's Ray follow settings for another one; those in small letters are Ray's limits.
for name in ${!RAY_@} ${!TUNE_@}; do
    case $name in *[a-z]*) ;; *) unset "$name" ;; esac
done

# A job of an array is named by the array's id and its index: one of them also has the array's id.
id=$SLURM_JOB_ID
[ -z "$array" ] || id="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
export log="$logs/slurm-$id-ray.log"
# Temporary files go to the node's own disk; the path must be short, because Ray puts sockets there.
export disk="${CNNGRID_SCRATCH:-/tmp}"
if [ "${#disk}" -gt 24 ]; then
    say "CNNGRID_SCRATCH is too long for Ray's sockets (${#disk} characters, at most 24): using /tmp"
    disk=/tmp
fi
# Only holders of this run's token can join this Ray or submit to it, and it joins no other Ray.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token-$id-${SLURM_RESTART_COUNT:-0}"
export RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0

check_node() { # check the conditions that each node must meet before the start
    refuse() { echo "cnngrid: $SLURMD_NODENAME: $*" >&2; exit 1; }
    local path
    for path in "$@"; do
        [ -r "$path" ] || refuse "does not see $path; it must be on a file system that all nodes share"
    done
    [ -r "$RAY_AUTH_TOKEN_PATH" ] || refuse "cannot read $RAY_AUTH_TOKEN_PATH"
    command -v ray >/dev/null || refuse "has no command ray; --env-setup FILE can set up the environment"
    [ -w "$disk" ] || refuse "cannot write to $disk; CNNGRID_SCRATCH can name another folder"
}

run_ray() { # run Ray on one node until SIGTERM
    local scratch ray status
    scratch=$(mktemp -d "$disk/cnngrid.XXXXXX") || return 1
    export TMPDIR=$scratch
    stop_ray() { # Slurm signals all processes of the step; only `ray start` itself stays
        local gone=0
        kill -KILL "$ray"
        while [ "$gone" -lt 5 ]; do # the others may still write while they end
            rm -rf "$scratch" 2>/dev/null
            sleep 0.1
            [ -e "$scratch" ] || gone=$((gone + 1))
        done
        exit 0
    }
    # Ray opens its folder to all users, so it gets a subfolder. All ports are free ones, because
    # other jobs on the node have theirs.
    ray start "$@" --block --num-cpus="$cpus" --num-gpus="$gpus" --temp-dir="$scratch/ray" \
        --object-store-memory=268435456 --min-worker-port=0 --max-worker-port=0 \
        --dashboard-agent-listen-port=0 &
    ray=$!
    trap stop_ray TERM
    wait "$ray"
    status=$?
    rm -rf "$scratch"
    return "$status"
}
export -f check_node run_ray

start_ray() { # start Ray on all nodes, on this one first; return when all have joined
    local one="srun --nodes=1 --ntasks=1 --nodelist=$SLURMD_NODENAME --cpus-per-task=$cpus"
    local others="srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude=$SLURMD_NODENAME"
    local host port=$((20000 + SLURM_JOB_ID % 5000 * 2)) client=() joined
    # Some machines resolve their own name to 127.0.1.1, which other nodes cannot reach.
    host=$(getent ahostsv4 "$SLURMD_NODENAME" | awk '$1 !~ /^127[.]/ { print $1; exit }')
    host=${host:-$(hostname -I | awk '{ print $1 }')}
    while (exec 3<>"/dev/tcp/$host/$port" || exec 3<>"/dev/tcp/$host/$((port + 1))") 2>/dev/null; do
        port=$((port + 2))
    done
    address="$host:$port"
    # If grpc is installed, Ray also serves Ray Client, by default on the same port for all jobs.
    if "$python" -P -c "import grpc" 2>/dev/null; then
        client=(--ray-client-server-port=$((port + 1)))
    fi
    : >"$log"
    $one bash -c 'run_ray "$@"' ray --head --node-ip-address="$host" --port="$port" \
        --include-dashboard=false "${client[@]}" >>"$log" 2>&1 &
    head=$!
    if [ "$nodes" -gt 1 ]; then
        until (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; do
            if ! kill -0 "$head" 2>/dev/null; then
                say "Ray's head did not start; see $log"
                return 1
            fi
            sleep 0.1
        done
        $others --cpus-per-task="$cpus" --no-kill --kill-on-bad-exit=0 \
            bash -c 'run_ray "$@"' ray --address="$address" >>"$log" 2>&1 &
    fi
    for _ in {1..1800}; do
        joined=$(grep -c "Ray runtime started" "$log")
        [ "$joined" -lt "$nodes" ] || return 0
        kill -0 "$head" 2>/dev/null || break
        [ "$limit" = no ] || return 1
        sleep 0.1
    done
    say "$joined of $nodes nodes joined Ray; see $log"
    return 1
}

finish() {
    trap - EXIT
    trap '' TERM
    rm -rf "$RAY_AUTH_TOKEN_PATH" "$TMPDIR"
    # This signals the job's steps (Ray), not this shell.
    scancel --signal=TERM "$id" 2>/dev/null
    for _ in {1..50}; do [ -n "$(jobs -r)" ] || break; sleep 0.1; done
}

stopped() { # cancelled or preempted: Slurm has signalled all processes, and Ray has ended already
    say "stopped by Slurm"
    [ -z "$driver" ] || (sleep 1; kill -TERM "$driver"; sleep 2; kill -KILL "$driver") 2>/dev/null
}

limit=no driver=
trap 'limit=yes; say "the time limit is near"; [ -z "$driver" ] || kill -TERM "$driver"' USR1
trap stopped TERM
TMPDIR=$(mktemp -d "$disk/cnngrid.XXXXXX") || exit 2
export TMPDIR
trap finish EXIT

say "job $id on $SLURM_JOB_NODELIST, run $((${SLURM_RESTART_COUNT:-0} + 1))"
rm -f "$folder/token-$id"-*
"$python" -P -m cluster.security "$RAY_AUTH_TOKEN_PATH" || exit 2
srun --nodes="$nodes" --ntasks="$nodes" --cpus-per-task="$cpus" \
    bash -c 'check_node "$@"' check "${shared[@]}" || exit 2
start_ray || exit 1
say "Ray is up on $nodes node(s) after $SECONDS s"

# In the background, because a shell handles signals only while it waits.
"${command[@]}" --address "$address" &
driver=$!
[ "$limit" = no ] || kill -TERM "$driver"
while kill -0 "$driver" 2>/dev/null; do
    wait "$driver"
    status=$?
done
say "ended with exit code $status after $SECONDS s"

# An interrupted command usually ends with 130; after 0 and 2 another run would change nothing.
case $limit-$status in
yes-0 | yes-2 | no-*) ;;
*)
    if [ -z "$(find "${progress[@]}" -newer "$RAY_AUTH_TOKEN_PATH" -print -quit 2>/dev/null)" ]; then
        say "nothing was finished or saved before the time limit, so not requeued: ask for more time"
        exit 1
    fi
    finish
    say "requeued: the next run goes on from here"
    scontrol requeue "$id" || say "Slurm does not requeue; submit again: sbatch $folder/job.sh"
    ;;
esac
exit "$status"
