#!/bin/bash
# raydd on a Slurm cluster: one Ray per job, over the nodes that Slurm gives it. Machines only: what is
# distilled is said on the command line.
#
#   up      nothing to do; each job brings its own Ray
#   submit  sbatch clusters/slurm.sh python -m raydd.run dataset=imagefolder dataset.root=/shared/images storage=/shared/raydd
#   down    scancel JOB        (the job takes its Ray away by itself when the run ends)
#
# Submit from the top of the checkout, in an environment that has raydd (pip install -e .) and lies on a
# file system that all nodes see. sbatch's own options go before the script's name:
# `sbatch --nodes=4 --gpus-per-node=8 --partition=NAME clusters/slurm.sh ...`.
#
# Cost: what your site charges; approximately, 2 nodes with one GPU each are 48 GPU hours a day. `--time` ends
# them; the same command, or Slurm's own requeue after a preemption, continues where the run was.
#
# Other users of the nodes can reach Ray's ports: every job draws a token of its own, in a file that only
# you can read. There is no dashboard. Ray's logs are in /tmp/raydd-JOB on each node.
#SBATCH --job-name=raydd
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --no-kill
#SBATCH --output=raydd-%j.log
# (--no-kill: the run survives the loss of a node; --requeue: and its own preemption)
set -euo pipefail

case " $* " in
*" storage=/"* | *" storage="*"://"*) ;;
*)
  echo "usage: sbatch clusters/slurm.sh python -m raydd.run ... storage=PATH, absolute and seen by all nodes" >&2
  exit 2
  ;;
esac

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]} # this script runs there
address=$(hostname -I | awk '{print $1}'):$((20000 + SLURM_JOB_ID % 10000))
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it over by itself
export RAY_USAGE_STATS_ENABLED=0

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/slurm-$SLURM_JOB_ID.token
unset RAY_AUTH_TOKEN # would win over the file
(
  umask 077
  mkdir -p "$HOME/.ray"
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"
)

steps=()
finish() { # also when the run fails or Slurm ends the job
  kill "${steps[@]}" 2> /dev/null || true
  wait
  rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap finish EXIT
trap 'exit 143' TERM

on() { # NODE COMMAND...: one step on one node, so that a lost node takes no other along
  srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" "${@:2}" &
  steps+=($!)
}

wait_until() { # WHAT COMMAND...: at most five minutes, and not for a node whose Ray has ended
  local deadline=$((SECONDS + ${RAYDD_START_SECONDS:-300}))
  until "${@:2}"; do
    if ((SECONDS > deadline)) || ! all_running; then
      echo "raydd: $1 did not come up; see the lines above and /tmp/raydd-$SLURM_JOB_ID on the nodes" >&2
      exit 1
    fi
    sleep 1
  done
}

all_running() {
  local step
  for step in "${steps[@]}"; do kill -0 "$step" 2> /dev/null || return 1; done
}

all_joined() {
  local joined
  joined=$(ray status --address "$address" 2> /dev/null | grep -cE '^ [0-9]+ .*node_[0-9a-f]+' || true)
  ((joined >= ${#nodes[@]}))
}

on "$head" ray start --head --block --node-ip-address="${address%:*}" --port="${address#*:}" \
  --include-dashboard=false --num-cpus="$SLURM_CPUS_PER_TASK" --temp-dir="/tmp/raydd-$SLURM_JOB_ID"
wait_until "the head" ray health-check --address "$address"
for node in "${nodes[@]:1}"; do
  on "$node" ray start --block --address="$address" --num-cpus="$SLURM_CPUS_PER_TASK"
done
wait_until "one of ${#nodes[@]} nodes" all_joined # a run sizes itself by what has joined

RAY_ADDRESS=$address "$@" &
run=$!
steps+=("$run") # in the background, so that a signal to this script is heard at once
wait "$run"
