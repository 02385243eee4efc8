# shellcheck shell=bash disable=SC2154
# What the scripts ask the container engine, and the archives of images in the cache. Sourced by lib.sh.

# shellcheck disable=SC2034  # used by the scripts that source this file
standin_label=kindinfra.stand-in
# shellcheck disable=SC2034
recipe_label=kindinfra.recipe

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

# give_name FROM TO: FROM is the name that an archive was made with and goes away. Docker writes and
# reads it as it is, podman with localhost/ before it, whichever of them made the archive.
give_name() {
  local name
  for name in "$1" "localhost/$1"; do
    if present "$name"; then
      "$engine" tag "$name" "$2"
      return
    fi
  done
  echo "no image $1 in the archive" >&2
  return 1
}

drop_name() {
  local name
  for name in "$1" "localhost/$1"; do
    ! present "$name" || "$engine" rmi "$name"
  done
}

# build_image FLAGS... CONTEXT: with the engine's own builder, which sees local images.
build_image() {
  case $engine in
  docker) BUILDX_BUILDER=default docker buildx build --progress=plain --provenance=false --load "$@" ;;
  *) "$engine" build "$@" ;;
  esac
}

# How many seconds a registry has to say its first word.
: "${registry_patience:=5}"

# pull IMAGE: fails within seconds where no registry answers, and takes its time where one does:
# the engine prints a line as soon as it has the manifest. Says why it failed.
pull() {
  local name=${1#docker.io/} log tick process code=0
  local answered='Pulling from|Getting image source|Copying blob'
  log=$(mktemp)
  "$engine" pull "$1" >"$log" 2>&1 &
  process=$!
  for ((tick = 0; tick < registry_patience * 10; tick++)); do
    if ! kill -0 "$process" 2>/dev/null || grep -Eq "$answered" "$log"; then break; fi
    sleep 0.1
  done
  grep -Eq "$answered" "$log" || kill "$process" 2>/dev/null || true
  wait "$process" 2>/dev/null || code=$?
  ((code == 0)) || say "${name#library/} cannot be pulled: $(grep . "$log" | tail -n 1 || echo no registry answers)"
  rm -f "$log"
  return "$code"
}

# save_archive KIND RECIPE IMAGE...: level 10 takes 14 s for the 750 MB of the node image; level
# 15 takes 67 s and saves 3 % more. Images share most of their bytes, far apart: a long window.
save_archive() {
  local file=$cache/$1-$2.tar.zst
  local save=("$engine" save)
  [[ $engine != podman ]] || save+=(--multi-image-archive)
  "${save[@]}" "${@:3}" | zstd -q -T0 -10 --long=31 -f -o "$file.partial"
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
