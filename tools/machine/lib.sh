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

have() { command -v "$1" >/dev/null 2>&1; }

# digest FILE...: one short name for the content of these files.
digest() {
  if have sha256sum; then cat -- "$@" | sha256sum | cut -c1-12; else cat -- "$@" | shasum -a 256 | cut -c1-12; fi
}

# The container engine to use: the one named in KINDINFRA_ENGINE, else Docker, else podman.
# Asking for the server's version is the cheapest call that only a running engine answers.
find_engine() {
  local candidate
  for candidate in $(case ${KINDINFRA_ENGINE:-auto} in auto) echo docker podman ;; *) echo "$KINDINFRA_ENGINE" ;; esac); do
    if have "$candidate" && [[ -n $("$candidate" version -f '{{.Server.Version}}' 2>/dev/null) ]]; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

require_engine() {
  engine=$(find_engine) || fail "no container engine is running" "make setup"
}

# bounded SECONDS COMMAND...: macOS has no timeout; there the engine's own limit must do.
bounded() {
  if have timeout; then timeout "$@"; else "${@:2}"; fi
}

# A registry that cannot be reached must cost seconds, not a minute for each image: once one
# small question went unanswered, no further one is asked in this set-up.
pull() {
  [[ ! -e ${no_registry:=$(mktemp -u)} ]] || return 1
  bounded "${2:-300}" "$engine" pull --quiet "$1" >/dev/null 2>&1
}

is_root_on_debian() { [[ $(id -u) == 0 && -e /etc/debian_version ]]; }

# The address that this machine itself gets Debian's packages from.
debian_mirror() {
  # shellcheck disable=SC2016  # apt's placeholders, not the shell's
  apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$(. /etc/os-release && echo "$VERSION_CODENAME")" '$2 == "main" && $3 == release { print $1; exit }'
}

# What of these packages is missing is installed; the package lists are fetched only then.
install_packages() {
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  quietly apt-get update -qq
  DEBIAN_FRONTEND=noninteractive quietly apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

host_ca_bundle() {
  local bundle
  for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
    if [[ -s $bundle ]]; then
      echo "$bundle"
      return
    fi
  done
}

standin_label=kindinfra.stand-in

# build_image FLAGS... CONTEXT: with the engine's own builder, which sees local images.
build_image() {
  case $engine in
  docker) BUILDX_BUILDER=default docker buildx build --quiet --provenance=false --load "$@" ;;
  *) "$engine" build --quiet "$@" ;;
  esac
}
