#!/bin/bash
# A recipe on the machines of a Slurm allocation: a Ray head on the first, a Ray worker on each other one, the recipe
# beside the head; all of it ends when the recipe does.
#
#     sbatch --nodes=4 cluster/files/slurm.sh recipe.yaml /shared/corpus --until Corpus
#     sbatch --nodes=2 --gpus-per-node=4 cluster/files/slurm.sh recipe.yaml /shared/corpus --trainers 8
#
# Promises: exits with the code of `tundish run`; on an end, a signal or the time limit it stops the Ray processes it
# started, and no other Ray of yours, for it never calls `ray stop`; a training saves first (five minutes before the
# time limit, or by `scancel --batch --signal=TERM JOB`; a plain `scancel` takes Ray from under it); two jobs may share
# a machine, for each has ports, a folder and a token of its own. Run it again after anything: what is sealed in the
# root stays. Costs half a minute before the first stage. Needs a root that all machines see, and the environment
# tundish is in: TUNDISH_ENV, by default .venv where you called sbatch. Refuses less than a recipe and a root.
#
# The dashboard listens on the head's loopback alone, for whoever reaches it may run any command, and has a token, for
# machines have many users. The way in: ssh -L 8265:127.0.0.1:PORT HEAD; PORT, HEAD and the token's file are in the log.
#
# Checked by tests/test_cluster_files.py: its syntax, its functions, and a whole run with stand-ins for srun, scontrol,
# ray and tundish. Run on no Slurm.
#SBATCH --job-name=tundish
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --output=tundish-%j.log
#SBATCH --signal=B:TERM@300
set -euo pipefail

STARTED=() # what srun runs for us, by process id
RECIPE=    # the one of them that everything is for
SAVES=240  # seconds it may take to save, once it is told to end

# A port for the `$1`th purpose, apart from those of other jobs on the same machine: above those that Ray gives its
# workers (10002-19999), below those of the system (from 32768).
port() { echo $((20000 + (SLURM_JOB_ID % 1200) * 10 + $1)); }

# Short, for Ray puts sockets there, whose paths end at 107 bytes; on the machine's own disk.
folder() { echo "${TUNDISH_RAY_TEMP:-/tmp}/tundish-$SLURM_JOB_ID"; }

machines() { scontrol show hostnames "$SLURM_JOB_NODELIST"; }

# Run a command on one machine of the allocation, beside what runs there already.
on() { srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" "${@:2}"; }

# The same in the background. Not `on ... &`: that is a shell around srun, and what ends it leaves srun behind.
beside() {
    srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" "${@:2}" &
    STARTED+=($!)
}

# The first IPv4 address of a machine that others can reach: some answer with several, IPv6 first, or 127.0.1.1.
address() {
    on "$1" sh -c 'hostname --ip-address; hostname --all-ip-addresses' | tr ' ' '\n' |
        awk '/^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/ && !/^127\./ && !found { print; found = 1 }'
}

# One for the job, readable by its owner alone, where all machines see it.
token() {
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$SLURM_SUBMIT_DIR/.tundish-$SLURM_JOB_ID.token"
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
}

# What each machine has by Slurm's word, not by what Ray sees of a machine that may be shared.
share() {
    echo "--num-cpus=${SLURM_CPUS_PER_TASK:-1} --num-gpus=${SLURM_GPUS_ON_NODE:-0}"
}

start_head() {
    # shellcheck disable=SC2046
    beside "$1" ray start --head --block --node-ip-address="$2" --port="$(port 0)" --temp-dir="$(folder)" $(share) \
        --dashboard-host=127.0.0.1 --dashboard-port="$(port 1)" --dashboard-agent-listen-port="$(port 2)" \
        --ray-client-server-port="$(port 3)" --disable-usage-stats
}

start_worker() {
    # shellcheck disable=SC2046
    beside "$1" ray start --block --address="$2" --dashboard-agent-listen-port="$(port 2)" $(share) \
        --disable-usage-stats
}

# Until a question is answered with yes, `$1` seconds at most; sooner when what was started has ended.
wait_for() {
    local until=$((SECONDS + $1))
    while ! "${@:2}"; do
        for process in "${STARTED[@]}"; do kill -0 "$process" 2> /dev/null || return 1; done
        ((SECONDS < until)) || return 1
        sleep 1
    done
}

# Whether the dashboard counts `$1` machines as alive.
all_there() {
    local count
    count=$(on "$HEAD" ray list nodes --address "http://127.0.0.1:$(port 1)" --filter state=ALIVE --limit 10000 \
        --format json 2> /dev/null | grep -o '"node_id"' | wc -l) || true
    ((count >= $1))
}

tear_down() {
    trap - EXIT TERM INT
    if [[ -n $RECIPE ]] && kill -TERM "$RECIPE" 2> /dev/null; then # before the Ray it saves by
        local until=$((SECONDS + SAVES))
        while kill -0 "$RECIPE" 2> /dev/null && ((SECONDS < until)); do sleep 0.2; done
    fi
    for process in "${STARTED[@]}"; do kill -TERM "$process" 2> /dev/null || true; done
    for process in "${STARTED[@]}"; do wait "$process" 2> /dev/null || true; done
    srun --overlap --ntasks-per-node=1 rm -rf "$(folder)" || true
    rm -f "$RAY_AUTH_TOKEN_PATH"
}

main() {
    if (($# < 2)); then
        echo "tundish: give a recipe and a root that all machines see: sbatch slurm.sh recipe.yaml /shared/corpus" >&2
        exit 2
    fi
    local recipe=$1 root=$2 others=() machine
    # shellcheck disable=SC1091
    source "${TUNDISH_ENV:-$SLURM_SUBMIT_DIR/.venv}/bin/activate"
    cd "$SLURM_SUBMIT_DIR"
    mapfile -t others < <(machines)
    HEAD=${others[0]} others=("${others[@]:1}")
    IP=$(address "$HEAD")
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # since Slurm 22.05 a step does not inherit it
    token
    trap tear_down EXIT
    trap 'exit 143' TERM INT
    start_head "$HEAD" "$IP"
    echo "head $HEAD at $IP:$(port 0), dashboard on its 127.0.0.1:$(port 1), token in $RAY_AUTH_TOKEN_PATH"
    wait_for 120 all_there 1 || { echo "tundish: the head on $HEAD did not come up; its log is above" >&2; exit 1; }
    for machine in "${others[@]}"; do start_worker "$machine" "$IP:$(port 0)"; done
    wait_for 180 all_there $((${#others[@]} + 1)) ||
        { echo "tundish: not all of $SLURM_JOB_NODELIST joined the head within 180 s" >&2; exit 1; }
    beside "$HEAD" tundish run "$recipe" --root "$root" --on "$IP:$(port 0)" "${@:3}"
    RECIPE=${STARTED[-1]}
    wait "$RECIPE" # in the background, so that a signal is heard at once
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
