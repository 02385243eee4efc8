#!/bin/sh
# Redis as in the real image: reachable from other pods, as the user redis, without a configuration file.
set -eu
case ${1:-} in
'' | -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
  # Debian's build refuses other hosts unless told otherwise; a user's own setting wins.
  case " $* " in *.conf\ * | *\ --protected-mode\ *) ;; *) set -- "$@" --protected-mode no ;; esac
  if [ "$(id -u)" = 0 ]; then
    chown redis . 2>/dev/null || true
    exec setpriv --reuid redis --regid redis --clear-groups "$@"
  fi
fi
exec "$@"
