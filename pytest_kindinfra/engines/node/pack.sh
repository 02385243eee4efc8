set -euo pipefail
export LC_ALL=C
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
contents /mnt >/tmp/now
contents /var >/tmp/before
comm -23 /tmp/now /tmp/before | cut -f1 >/tmp/new
comm -13 <(cut -f1 /tmp/now) <(cut -f1 /tmp/before) >/kindinfra-snapshot/gone
tar --create --file=/kindinfra-snapshot/var.tar --directory=/mnt --no-recursion --sparse \
  --numeric-owner --xattrs --xattrs-include='*' --verbatim-files-from --files-from=/tmp/new
rm /tmp/now /tmp/before /tmp/new
