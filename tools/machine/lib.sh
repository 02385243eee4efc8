# shellcheck shell=bash
# What all scripts under tools/ share: where things are, how they speak and how they fail; with
# debian.sh and engine.sh. Sourced, never run.
# Kept to what bash 3.2 knows, so that the quick path works on macOS too.

# shellcheck disable=SC2034  # used by the scripts that source this file
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kindinfra
part=${part:-$(basename "$0")}
# A root shell made by su lacks the folders that dockerd and debootstrap are in.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# --- words -----------------------------------------------------------------------------------

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
  local log code
  log=$(mktemp)
  # Not `"$@" || code=$?`: a function called there goes on after a failed command.
  set +e
  (set -e && "$@") >"$log" 2>&1 </dev/null
  code=$?
  set -e
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

# --- small things ----------------------------------------------------------------------------

have() { command -v "$1" >/dev/null 2>&1; }

is_root_on_debian() { [[ $(id -u) == 0 && -e /etc/debian_version ]]; }

# digest FILE...: one short name for the content of these files.
digest() {
  if have sha256sum; then cat -- "$@" | sha256sum | cut -c1-12; else cat -- "$@" | shasum -a 256 | cut -c1-12; fi
}

# Two set-ups of one user at a time would undo each other's work. Taken only by a part that has
# something to make; what it calls inherits it. The lock ends with the process that holds it.
hold_lock() {
  if [[ -n ${KINDINFRA_SETUP_LOCK:-} ]] || ! have flock; then return 0; fi
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  if ! flock --nonblock 9; then
    say "waiting for another set-up on this machine"
    flock 9
  fi
  export KINDINFRA_SETUP_LOCK=held
}

# bounded SECONDS COMMAND...: macOS has no timeout; a user there has Ctrl-C.
bounded() { if have timeout; then timeout "$@"; else "${@:2}"; fi; }

# The certificates that this machine trusts, in one file.
host_ca_bundle() {
  local bundle
  for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
    if [[ -s $bundle ]]; then
      echo "$bundle"
      return
    fi
  done
}

# shellcheck source=tools/machine/debian.sh
source "$root/tools/machine/debian.sh"
# shellcheck source=tools/machine/engine.sh
source "$root/tools/machine/engine.sh"
