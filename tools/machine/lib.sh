# shellcheck shell=bash
# What all scripts under tools/ share: where things are, how they speak, how they fail.
# Sourced, never run. Kept to what bash 3.2 knows, so that the quick path works on macOS too.

# shellcheck disable=SC2034  # used by the scripts that source this file
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kindinfra
part=${part:-$(basename "$0")}

say() { echo "$part: $*" >&2; }

# fail MESSAGE [REMEDY]: every error of the set-up has this form.
fail() {
  echo "$part: $1" >&2
  [[ -z ${2:-} ]] || echo "To fix: $2" >&2
  exit 1
}

# quietly COMMAND...: no output when it works; when it does not: the command, its exit code and
# its last lines. $remedy, if set, says what to do then.
quietly() {
  local log code=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || code=$?
  if ((code)); then
    {
      printf '%s: failed with exit code %s:' "$part" "$code"
      printf ' %q' "$@"
      printf '\n'
      tail -n 15 "$log" | sed 's/^/  | /'
    } >&2
    rm -f "$log"
    [[ -z ${remedy:-} ]] || echo "To fix: $remedy" >&2
    exit "$code"
  fi
  rm -f "$log"
}

have() { command -v "$1" >/dev/null 2>&1; }

# digest FILE...: one short name for the content of these files.
digest() {
  if have sha256sum; then cat -- "$@" | sha256sum | cut -c1-12; else cat -- "$@" | shasum -a 256 | cut -c1-12; fi
}
