#!/usr/bin/env bash
# A Slurm of your own on one machine, to try batch scripts with: a controller and two emulated nodes of four CPUs.
#
#   bash jobs/slurm_testbed.sh start DIR     prints the line to evaluate:  export SLURM_CONF=DIR/slurm.conf
#   bash jobs/slurm_testbed.sh status DIR    exit status 0 if all of it runs
#   bash jobs/slurm_testbed.sh stop DIR      cancels all jobs and ends every process; logs stay in DIR/log
#
# All files and sockets are in DIR. `start` does nothing where it runs already, and begins with an empty queue where an earlier
# one was not stopped. Slurm's programs are installed when this runs as root on Debian or Ubuntu, unless RADPS_NO_APT is set;
# exit status 69 says that they are missing.
set -euo pipefail

PACKAGES="slurm-wlm munge"
PROGRAMS="munged slurmctld slurmd srun sbatch"
MARK="# made by radps_mpi's jobs/slurm_testbed.sh"
NODES=(n1 n2)
LONGEST_SOCKET=/spool/n1/n1_1000.4294967294
SOCKET_PATH_MAX=107
PATIENCE_S=20

say() { echo "slurm_testbed: $*" >&2; }

fail() {
  say "$*"
  exit "${status:-1}"
}

usage() { status=64 fail "expected: slurm_testbed.sh start|stop|status DIR"; }

# --- Slurm's programs -------------------------------------------------------------------------------------------------

are_there() {
  local program
  for program in $PROGRAMS; do
    command -v "$program" >/dev/null || return 1
  done
}

can_use_apt() { [ "$(id -u)" = 0 ] && [ -z "${RADPS_NO_APT:-}" ] && command -v apt-get >/dev/null; }

install_packages() {
  are_there && return 0
  local how="install Slurm and munge (Debian, Ubuntu: apt-get install $PACKAGES)"
  can_use_apt || status=69 fail "no Slurm here: $how"
  say "installing $PACKAGES"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # one word per package
  { apt-get -o Acquire::Retries=3 -qq update && apt-get -o Acquire::Retries=3 -qq install -y --no-install-recommends $PACKAGES; } \
    >"$DIR/log/apt.log" 2>&1 </dev/null || status=69 fail "apt-get failed, see $DIR/log/apt.log: $how"
  are_there || status=69 fail "the packages lack one of: $PROGRAMS"
}

# --- processes --------------------------------------------------------------------------------------------------------

# The process of a pid file, if it is one of this DIR: the number in a file left behind may be another's by now.
pid_of() {
  local pid
  pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$DIR/" || return 1
  echo "$pid"
}

daemons() { # in the order in which they are to end
  echo slurmctld
  printf 'slurmd.%s\n' "${NODES[@]}"
  echo munged
}

# Processes of Slurm that guard a job step; they have no pid file.
step_guards() {
  local process
  for process in /proc/[0-9]*; do
    [ "$(cat "$process/comm" 2>/dev/null)" = slurmstepd ] || continue
    if tr '\0' '\n' 2>/dev/null <"$process/environ" | grep -qxF "SLURM_CONF=$SLURM_CONF"; then
      basename "$process"
    fi
  done
}

is_running() {
  local daemon
  for daemon in $(daemons); do
    pid_of "$daemon" >/dev/null || return 1
  done
}

# until_true COMMAND...: false if it doesn't come true.
until_true() {
  local deadline=$((SECONDS + PATIENCE_S))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

# Whoever started this may hold locks and pipes open; a daemon that inherits them would hold them for ever.
start_daemon() {
  (
    cd "$DIR"
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      [ "$fd" -le 2 ] || eval "exec $fd>&-"
    done
    exec "$@" </dev/null >>"$DIR/log/start.log" 2>&1
  ) || fail "$1 does not start: see $DIR/log"
}

# --- start ------------------------------------------------------------------------------------------------------------

make_folders() {
  if [ -n "$(ls -A "$DIR" 2>/dev/null)" ] && ! grep -qsxF "$MARK" "$SLURM_CONF"; then
    fail "$DIR holds other things: name an empty or a new folder"
  fi
  mkdir -p "$DIR"
  echo "$MARK" >"$SLURM_CONF"
  rm -rf "${DIR:?}"/{state,run,munge,spool,tmp}
  mkdir -p "$DIR"/{state,log,run,munge}
  chmod 755 "$DIR" "$DIR/run"
  chmod 700 "$DIR/munge"
  local node
  for node in "${NODES[@]}"; do
    mkdir -p "$DIR/spool/$node" "$DIR/tmp/$node"
  done
}

is_free() { ! (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The first of three free ports in a row, so that several testbeds and a real Slurm can be on one machine.
free_ports() {
  local port
  for port in $(seq 16801 10 19000); do
    if is_free "$port" && is_free $((port + 1)) && is_free $((port + 2)); then
      echo "$port"
      return 0
    fi
  done
  fail "found no free ports"
}

# - A TmpFS for each node: steps over both would meet each other's PMIx sockets.
# - linuxproc, no cgroups: containers have none to give. The plugin of version 1 is the one that doesn't look for them at start.
# - KillWait is 30 s on most sites; tests need not wait for it.
write_configuration() {
  local host user port
  host=$(hostname -s)
  user=$(id -un)
  port=$(free_ports)
  printf "%s\n" CgroupPlugin=cgroup/v1 CgroupAutomount=no >"$DIR/cgroup.conf"
  cat >"$SLURM_CONF" <<CONF
$MARK
ClusterName=testbed
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.socket
CredType=cred/munge
TmpFS=$DIR/tmp/%n
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd.%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
SlurmdParameters=config_overrides
MpiDefault=none
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
MailProg=/bin/true
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=4 RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=4 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=1:00:00 State=UP
CONF
}

start_daemons() {
  (umask 077 && head -c 1024 /dev/urandom >"$DIR/munge/munge.key")
  # --force: parents of DIR may be writable by a group, which munged otherwise refuses
  start_daemon munged --force --key-file="$DIR/munge/munge.key" --socket="$DIR/run/munge.socket" --pid-file="$DIR/run/munged.pid" \
    --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/munge.seed"
  start_daemon slurmctld -f "$SLURM_CONF"
  local node
  for node in "${NODES[@]}"; do
    start_daemon slurmd -f "$SLURM_CONF" -N "$node"
  done
}

nodes_are_idle() { [ "$(sinfo -h -N -o %T 2>/dev/null | grep -cx idle)" = 2 ]; }

start() {
  [ $((${#DIR} + ${#LONGEST_SOCKET})) -le "$SOCKET_PATH_MAX" ] || fail "$DIR is too long a name for the sockets in it"
  if ! is_running; then
    stop
    make_folders
    install_packages
    write_configuration
    start_daemons
    if ! until_true is_running || ! until_true nodes_are_idle; then
      stop
      fail "Slurm does not come up: see $DIR/log"
    fi
  fi
  echo "export SLURM_CONF=$SLURM_CONF"
}
# --- stop -------------------------------------------------------------------------------------------------------------

queue_is_empty() { [ -z "$(squeue -h 2>/dev/null)" ]; }

has_ended() { ! kill -0 "$1" 2>/dev/null; }

end_process() {
  kill "$1" 2>/dev/null || return 0
  until_true has_ended "$1" || kill -KILL "$1" 2>/dev/null || true
}

stop() {
  local daemon pid
  if pid_of slurmctld >/dev/null && pid_of munged >/dev/null; then
    squeue -h -o %A | sort -u | xargs -r scancel --full --signal=KILL 2>/dev/null || true
    squeue -h -o %A | sort -u | xargs -r scancel 2>/dev/null || true
    until_true queue_is_empty || say "jobs are left in the queue"
  fi
  for daemon in $(daemons); do
    if pid=$(pid_of "$daemon"); then
      end_process "$pid"
    fi
  done
  for pid in $(step_guards); do
    end_process "$pid"
  done
}

show() {
  local daemon
  for daemon in $(daemons); do
    echo "$daemon: $(pid_of "$daemon" || echo "not running")"
  done
  is_running && sinfo
}

if [ $# -ne 2 ] || [ -z "$2" ]; then
  usage
fi
DIR=$(realpath -m -- "$2")
export SLURM_CONF=$DIR/slurm.conf
case $1 in
  start) start ;;
  stop) stop ;;
  status) show ;;
  *) usage ;;
esac
