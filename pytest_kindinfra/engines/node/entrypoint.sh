#!/bin/bash
# Unpack the snapshot once; the container may be started again.
set -euo pipefail
if [[ ! -e /var/lib/kindinfra-restored ]]; then
  cd /var
  xargs --no-run-if-empty --delimiter='\n' rm -rf -- </kindinfra-snapshot/gone
  tar --extract --file=/kindinfra-snapshot/var.tar --overwrite --same-permissions --numeric-owner \
    --xattrs --xattrs-include='*'
  touch /var/lib/kindinfra-restored
  cd /
fi
exec @ENTRYPOINT@ "$@"
