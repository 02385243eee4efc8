# shellcheck shell=bash
# What all scripts under tools/ share: where things are, how they speak, how they fail, how
# they ask the container engine. Sourced, never run.
# Kept to what bash 3.2 knows, so that the quick path works on macOS too.

# shellcheck disable=SC2034  # used by the scripts that source this file
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kindinfra
part=${part:-$(basename "$0")}
standin_label=kindinfra.stand-in
recipe_label=kindinfra.recipe

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

# --- Debian ----------------------------------------------------------------------------------

debian_codename() { (. /etc/os-release && echo "$VERSION_CODENAME"); }

# The address that this machine itself gets Debian's packages from.
debian_mirror() {
  # shellcheck disable=SC2016  # apt's placeholders, not the shell's
  apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$(debian_codename)" '$2 == "main" && $3 == release { print $1; exit }'
}

# apt_from FOLDER SUITE[=PRIORITY]... -- ARGUMENTS: apt-get with these suites as its only
# sources and its own lists below FOLDER, so that the machine's configuration stays as it is.
apt_from() {
  local folder=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror
  shift
  mirror=$(debian_mirror)
  mkdir -p "$folder/lists/partial" "$folder/archives/partial"
  : >"$folder/sources.list"
  : >"$folder/preferences"
  while [[ $1 != -- ]]; do
    echo "deb [signed-by=$keyring] $mirror ${1%=*} main" >>"$folder/sources.list"
    [[ $1 != *=* ]] || printf 'Package: *\nPin: release n=%s\nPin-Priority: %s\n\n' "${1%=*}" "${1#*=}" >>"$folder/preferences"
    shift
  done
  shift
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o APT::Sandbox::User=root \
    -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences="$folder/preferences" -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder" "$@"
}

# What of these packages is missing is installed; the package lists are fetched only then.
install_packages() {
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  is_root_on_debian || fail "these Debian packages are missing: ${missing[*]}" "as root: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  # A third party's broken list must not stop what comes from Debian.
  apt-get update -qq >/dev/null 2>&1 || true
  DEBIAN_FRONTEND=noninteractive quietly apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# busybox_tree FOLDER: Debian's static busybox with a link for each of its applets.
busybox_tree() {
  local applet
  mkdir -p "$1/bin"
  cp /bin/busybox "$1/bin/"
  for applet in $(/bin/busybox --list); do
    [[ $applet == busybox ]] || ln -s busybox "$1/bin/$applet"
  done
}

# --- the container engine --------------------------------------------------------------------

# The engine to use: the one that KINDINFRA_ENGINE names, else Docker, else podman.
# Asking for the server's version is the cheapest call that only a running engine answers.
find_engine() {
  local candidate candidates="docker podman"
  case ${KINDINFRA_ENGINE:-auto} in auto) ;; *) candidates=$KINDINFRA_ENGINE ;; esac
  for candidate in $candidates; do
    if have "$candidate" && [[ -n $(bounded 5 "$candidate" version -f '{{.Server.Version}}' 2>/dev/null) ]]; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

require_engine() {
  engine=$(find_engine) || fail "no container engine is running" "make setup"
}

present() { "$engine" image inspect "$1" >/dev/null 2>&1; }

# label_of LABEL IMAGE: its value, nothing where the image has no such label; fails without the image.
label_of() { "$engine" image inspect -f "{{with .Config.Labels}}{{index . \"$1\"}}{{end}}" "$2" 2>/dev/null; }

# build_image FLAGS... CONTEXT: with the engine's own builder, which sees local images.
build_image() {
  case $engine in
  docker) BUILDX_BUILDER=default docker buildx build --progress=plain --provenance=false --load "$@" ;;
  *) "$engine" build "$@" ;;
  esac
}

# pull IMAGE: fails within seconds where no registry answers, and takes its time where one does:
# the engine prints a line as soon as it has the manifest.
pull() {
  local log answered='Pulling from|Getting image source|Copying blob' tick process
  log=$(mktemp)
  "$engine" pull "$1" >"$log" 2>&1 &
  process=$!
  for ((tick = 0; tick < 50; tick++)); do
    if ! kill -0 "$process" 2>/dev/null || grep -Eq "$answered" "$log"; then break; fi
    sleep 0.1
  done
  grep -Eq "$answered" "$log" || kill "$process" 2>/dev/null || true
  rm -f "$log"
  wait "$process" 2>/dev/null
}

# --- archives in the cache -------------------------------------------------------------------

# save_archive KIND RECIPE IMAGE...: level 10 takes 14 s for the 750 MB of the node image; level
# 15 takes 67 s and saves 3 % more. Images share most of their bytes, far apart: a long window.
save_archive() {
  local file=$cache/$1-$2.tar.zst
  "$engine" save "${@:3}" | zstd -q -T0 -10 --long=31 -f -o "$file.partial"
  mv "$file.partial" "$file"
  # Those of other recipes: another checkout may still use them, but not for ever.
  find "$cache" -maxdepth 1 -name "$1-*.tar.zst*" -mtime +30 -delete
}

has_archive() { [[ -s $cache/$1-$2.tar.zst ]] && { have zstd || is_root_on_debian; }; }

load_archive() {
  local file=$cache/$1-$2.tar.zst
  have zstd || install_packages zstd
  zstd -q -dc --long=31 "$file" | "$engine" load
  touch "$file"
}
