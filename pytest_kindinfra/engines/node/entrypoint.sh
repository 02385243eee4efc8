#!/bin/bash
# Unpack the state of the snapshot once; the container may be started again. The blobs of images stay
# in the snapshot and get links: containerd forgets images whose blobs it does not see at its start.
set -euo pipefail
if [[ ! -e /var/lib/kindinfra-restored ]]; then
  cd /var
  xargs --no-run-if-empty --delimiter='\n' rm -rf -- </kindinfra-snapshot/gone
  /bin/bash /kindinfra-snapshot/unpack var
  cp --recursive --force --symbolic-link /kindinfra-snapshot/blobs/. .
  touch /var/lib/kindinfra-restored
  cd /
fi
exec @ENTRYPOINT@ "$@"
