#!/bin/bash
# PostgreSQL with the environment of the real image: POSTGRES_USER, POSTGRES_PASSWORD,
# POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, their _FILE forms, and the
# scripts in /docker-entrypoint-initdb.d.
set -euo pipefail

from_file() { # NAME: $NAME_FILE holds the value
  local file=${1}_FILE
  [[ -z ${!file:-} ]] || export "$1=$(<"${!file}")"
}

# shellcheck disable=SC1090  # a user's script
run_script() {
  echo "running $1"
  case $1 in
  *.sh) if [[ -x $1 ]]; then "$1"; else . "$1"; fi ;;
  *.sql) psql --file "$1" ;;
  *.sql.gz) gunzip -c "$1" | psql ;;
  *) echo "ignoring $1" ;;
  esac
}

initialise() {
  from_file POSTGRES_USER && from_file POSTGRES_PASSWORD && from_file POSTGRES_DB && from_file POSTGRES_INITDB_ARGS
  local user=${POSTGRES_USER:-postgres} method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  local database=${POSTGRES_DB:-$user} script
  if [[ -z ${POSTGRES_PASSWORD:-} && $method != trust ]]; then
    echo "Error: the database is not initialised and POSTGRES_PASSWORD is not set." >&2
    exit 1
  fi
  # shellcheck disable=SC2086  # several options in one variable, as in the real image
  initdb --username="$user" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:-unused}") --no-sync ${POSTGRES_INITDB_ARGS:-}
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

  # Only over the socket: nobody may take this for the finished database.
  pg_ctl -D "$PGDATA" -w -s -o "-c listen_addresses=''" start
  export PGUSER=$user PGDATABASE=postgres PSQLRC=/dev/null
  psql() { command psql -v ON_ERROR_STOP=1 --no-password "$@"; }
  [[ $database == postgres ]] || psql --set "database=$database" <<<'CREATE DATABASE :"database";'
  PGDATABASE=$database
  for script in /docker-entrypoint-initdb.d/*; do
    [[ ! -e $script ]] || run_script "$script"
  done
  pg_ctl -D "$PGDATA" -w -s -m fast stop
  unset PGUSER PGDATABASE PSQLRC
}

case ${1:-postgres} in -*) set -- postgres "$@" ;; esac
if [[ ${1:-postgres} == postgres ]]; then
  if [[ $(id -u) == 0 ]]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    find "$PGDATA" /run/postgresql \! -user postgres -exec chown postgres {} +
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
  fi
  # The first process of a container has no default signal handling: say that it may be ended.
  trap 'pg_ctl -D "$PGDATA" -s -m immediate stop 2>/dev/null || true; exit 143' TERM INT
  [[ -s $PGDATA/PG_VERSION ]] || initialise
  trap - TERM INT
fi
exec "$@"
