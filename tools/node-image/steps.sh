# shellcheck shell=bash disable=SC2154
# Numbered steps that show their progress and survive an interrupt. Sourced by ./build, which sets
# $part, $work (a folder) and $steps (how many there are).
# A step makes its result beside its place and renames it: an interrupted one never counts as done,
# and the next run goes on with the first that has no result.

# The last line of a step's log tells what it does now: every 10 s, or each second on a terminal.
# Its input is a pipe that only the build holds open, so it ends with the build, however that ends.
report_on() {
  local log=$1 label=$2 start=$SECONDS line
  while read -r -t 1 || (($? > 128)); do
    line=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r' | cut -c1-60)
    if [[ -t 2 ]]; then
      printf '\r\033[K%s: %s %s s: %s' "$part" "$label" $((SECONDS - start)) "$line" >&2
    elif (((SECONDS - start) % 10 == 0)); then
      say "$label $((SECONDS - start)) s${line:+: $line}"
    fi
  done
}

# step NUMBER NAME KEY ABOUT WHAT: makes $work/NAME-KEY by the function make_NAME, once.
# KEY names what the result was made of, so that a changed recipe repeats what it must.
step() {
  local number=$1 name=$2 key=$3 about=$4 what=$5 start=$SECONDS log=$work/$2.log reporter code
  result=$work/$name-$key
  if [[ -e $result ]]; then
    say "$number/$steps $what: there already"
    return
  fi
  say "$number/$steps $what (about $about)"
  rm -rf --one-file-system "$work/$name"-*
  : >"$log"
  exec 8> >(report_on "$log" "$number/$steps")
  reporter=$!
  set +e
  (set -e && "make_$name" "$result.partial") >"$log" 2>&1 </dev/null 8>&-
  code=$?
  set -e
  exec 8>&-
  wait "$reporter" || true
  [[ ! -t 2 ]] || printf '\r\033[K' >&2
  if ((code)); then
    say "step $number ($what) failed with exit code $code: make_$name in tools/node-image/build"
    tail -n 15 "$log" | sed 's/^/  | /' >&2
    fail "the whole log is $log" "see the lines above; run again to go on with this step"
  fi
  mv "$result.partial" "$result"
  say "$number/$steps took $((SECONDS - start)) s"
}
