#!/bin/bash
# Copy what differs between the node image's /var and the kind node's at /mnt. This runs twice in the
# same container: first for the state, while the kind node is paused, then for the images, whose files
# never change and need no pause.
set -euo pipefail
export LC_ALL=C
here=/kindinfra-snapshot
blobs='^\./lib/containerd/io\.containerd\.content\.v1\.content/blobs/'
layers='^\./lib/containerd/io\.containerd\.snapshotter\.v1\.overlayfs/snapshots/'
contents() {
  cd "$1"
  # Logs of pods that are gone, and files that etcd allocates for later.
  find . -xdev \
    \( -path './log/journal/*' -o -path './log/pods/*' -o -path './log/containers/*' \
       -o -path './lib/etcd/member/wal/*.tmp' \) -prune \
    -o -type d -printf '%p\t%y %m %U %G\n' \
    -o -type s \
    -o -printf '%p\t%y %m %U %G %s %T@ %l\n' | sort
}
archive() {
  tar --create --directory=/mnt --no-recursion --sparse --numeric-owner --xattrs \
    --xattrs-include='*' --verbatim-files-from --files-from="$1" ||
    (($? == 1)) # a file that grew meanwhile: containers of the system write
}
if [[ ! -e $here/var.tar ]]; then
  contents /mnt >/tmp/now
  contents /var >/tmp/before
  comm -13 <(cut -f1 /tmp/now) <(cut -f1 /tmp/before) >"$here/gone"
  comm -23 /tmp/now /tmp/before | cut -f1 >/tmp/new
  grep --extended-regexp "$blobs" /tmp/new >/tmp/blobs || true
  grep --extended-regexp "$layers" /tmp/new >/tmp/layers || true
  grep --extended-regexp --invert-match "$blobs|$layers" /tmp/new >/tmp/var
  archive /tmp/var >"$here/var.tar"
else
  mkdir --parents "$here/blobs"
  archive /tmp/blobs | nice tar --extract --directory="$here/blobs"
  archive /tmp/layers | nice cat >"$here/layers.tar"
  rm /tmp/{now,before,new,blobs,layers,var}
fi
