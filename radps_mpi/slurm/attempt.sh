# What every batch script of radps does, to be sourced by it: jobs/radps.sbatch and those that `radps slurm` writes.
# From then on the script takes note when it is told to stop (SIGUSR1, from #SBATCH --signal=B:USR1@300).
#
#   attempt NAME image ARGUMENTS...   makes the cube NAME with `radps image ARGUMENTS...`, or goes on with it, and ends the
#                                     script with the program's own status, or queues it again
#   find_launcher                     sets the array `launch`, in front of what is to run on all ranks
#
# The script sets before: launcher (auto, srun or mpirun), the arrays srun_options and mpirun_options, and most_attempts.

launched=
told_to_stop=

say() { echo "radps job ${SLURM_JOB_ID:-}: $*"; }

# A second SIGUSR1 would end the ranks at once, so each gets the one that this script passes on to their launcher.
trap 'told_to_stop=1; say "told to stop"; [ -z "$launched" ] || kill -USR1 "$launched" || true' USR1

# Slurm's own launcher where it speaks pmix to this MPI, or as the site says; otherwise the MPI's, which finds the allocation
# by itself. --wait rather than --kill-on-bad-exit: both end a step that has lost a rank, but the latter kills ranks that are
# about to end with a status of their own, and srun then reports the kill instead.
find_launcher() {
  local mpi=(--mpi=pmix)
  case " ${srun_options[*]} " in *" --mpi="* | *" --mpi "*) mpi=() ;; esac
  if [ "$launcher" = auto ]; then
    launcher=mpirun
    if [ ${#mpi[@]} -eq 0 ] || grep -qw pmix <<<"$(srun --mpi=list 2>&1)"; then
      launcher=srun
    fi
  fi
  case $launcher in
    srun)
      launch=(srun "${mpi[@]}" --wait=30 "${srun_options[@]}")
      export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun no longer takes them from the batch script's options
      ;;
    *) launch=(mpirun "${mpirun_options[@]}") ;; # without it: the srun of mpirun's daemons would leave them that many cores only
  esac
}

# Called while the job can still start something on its nodes; jobs/stage.sh, sourced later, has one that removes its copies.
before_requeue() { :; }

# requeue NAME STATUS: ends the script. Slurm tells a script that it queues again to end, which is too early for a last word.
requeue() {
  before_requeue
  trap '' TERM
  if scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"; then
    say "exit $2, requeued"
  else
    say "exit $2, and Slurm would not queue the job again: 'radps resume $1' goes on from here"
  fi
  exit "$2"
}

# can_be_resumed NAME: it has committed something; or, for a later attempt, is ingesting. Not where it was to replace an earlier
# run and has no state yet: that one would be resumed.
can_be_resumed() {
  local run=$1.radps
  [ -e "$run/manifest" ] || { [ "$number" -gt 1 ] && [ -e "$run/config.toml" ] && [ ! -e "$run/replaced" ]; }
}

# run_ranks COMMAND...: sets `status`; 75 where the script has been told to stop before.
run_ranks() {
  status=75
  [ -z "$told_to_stop" ] || return 0
  "$@" &
  launched=$!
  while :; do # a signal interrupts wait, which must then wait again
    told_to_stop=
    status=0
    wait "$launched" || status=$?
    [ -n "$told_to_stop" ] || break
  done
}

attempt() {
  local name=$1 number=$((${SLURM_RESTART_COUNT:-0} + 1)) command status
  shift
  if can_be_resumed "$name"; then
    command=(resume "$name")
  else
    command=("$@")
  fi
  find_launcher
  say "attempt $number: radps ${command[*]}"
  run_ranks "${launch[@]}" radps "${command[@]}"

  # Another attempt goes on after 75, stopped in time with everything committed, and after a kill from outside: 137 for lack
  # of memory, 143 for a lost rank or node, 138 for a signal that came while the ranks were starting. It would meet any other
  # error again: 64 usage, 65 data, 74 storage, a crash.
  case $status in
    75 | 137 | 138 | 143)
      [ "$number" -ge "$most_attempts" ] || requeue "$name" "$status"
      say "exit $status in attempt $number of $most_attempts: given up; 'radps resume $name' goes on from here"
      ;;
  esac
  exit "$status"
}
