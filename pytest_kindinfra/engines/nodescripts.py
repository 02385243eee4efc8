"""Shell scripts that make the snapshot of a kind node, and that run in a restored one.

A kind node keeps its state in the volume `/var`, which no `docker commit` sees. So what differs
there from the node image is put into an archive, which the restored node unpacks before it boots.
It is an archive, since a layer of an image can hold no whiteouts and no `trusted.overlay`
attributes of containerd's own layers.
"""

from __future__ import annotations

ENTRYPOINT = "/kindinfra-snapshot/entrypoint"
"""What a restored kind node starts with."""


ANSWERS = "/kindinfra-snapshot/answers"
"""The command that exits with 0 once the cluster's DNS service answers, or with 1."""


PACK = """\
set -euo pipefail
export LC_ALL=C
contents() {
  cd "$1"
  # Logs of pods that are gone, and files that etcd allocates for later.
  find . -xdev \\
    \\( -path './log/journal/*' -o -path './log/pods/*' -o -path './log/containers/*' \\
       -o -path './lib/etcd/member/wal/*.tmp' \\) -prune \\
    -o -type d -printf '%p\\t%y %m %U %G\\n' \\
    -o -type s \\
    -o -printf '%p\\t%y %m %U %G %s %T@ %l\\n' | sort
}
contents /mnt >/tmp/now
contents /var >/tmp/before
comm -23 /tmp/now /tmp/before | cut -f1 >/tmp/new
comm -13 <(cut -f1 /tmp/now) <(cut -f1 /tmp/before) >/kindinfra-snapshot/gone
tar --create --file=/kindinfra-snapshot/var.tar --directory=/mnt --no-recursion --sparse \\
  --numeric-owner --xattrs --xattrs-include='*' --verbatim-files-from --files-from=/tmp/new
rm /tmp/now /tmp/before /tmp/new
"""
"""Compares the node image's `/var` with the kind node's at `/mnt`."""


_ENTRYPOINT = """\
#!/bin/bash
# Unpack the snapshot once; the container may be started again.
set -euo pipefail
if [[ ! -e /var/lib/kindinfra-restored ]]; then
  cd /var
  xargs --no-run-if-empty --delimiter='\\n' rm -rf -- </kindinfra-snapshot/gone
  tar --extract --file=/kindinfra-snapshot/var.tar --overwrite --same-permissions --numeric-owner \\
    --xattrs --xattrs-include='*'
  touch /var/lib/kindinfra-restored
  cd /
fi
exec {entrypoint} "$@"
"""


_LEAD = """\
#!/bin/bash
# Lead the API's ClusterIP to this node from the start. kube-proxy's own rules come only after it
# asked the API server; CoreDNS, which starts beside it, would wait 30 s for its first connection.
manifest=/etc/kubernetes/manifests/kube-apiserver.yaml
range=$(sed -n 's/.*--service-cluster-ip-range=\\([0-9.]*\\).*/\\1/p' "$manifest")
port=$(sed -n 's/.*--secure-port=\\([0-9]*\\).*/\\1/p' "$manifest")
IFS=. read -r a b c d <<<"$range"
address=$(</kind/old-ipv4)
for chain in OUTPUT PREROUTING; do
  iptables --table nat --insert "$chain" --destination "$a.$b.$c.$((d + 1))" --protocol tcp \\
    --dport 443 --jump DNAT --to-destination "$address:${port:-6443}"
done
"""


_LEAD_UNIT = """\
[Unit]
Description=Lead the ClusterIP of the API server to this node
Before=kubelet.service

[Service]
Type=oneshot
ExecStart=/bin/bash /kindinfra-snapshot/lead

[Install]
WantedBy=multi-user.target
"""


_ANSWERS = """\
#!/bin/bash
# Ask the cluster's DNS service for its own address, for as many seconds as the argument says.
# Without kube-proxy's rules a resolver outside may answer, so there must be an address in it.
config=/var/lib/kubelet/config.yaml
server=$(sed -n '/^clusterDNS:/{n;s/^- *"\\{0,1\\}\\([0-9.]*\\).*/\\1/p}' "$config")
domain=$(sed -n 's/^clusterDomain: *"\\{0,1\\}\\([^"]*\\).*/\\1/p' "$config")
query='\\x4b\\x69\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00'
IFS=. read -r -a labels <<<"kube-dns.kube-system.svc.${domain:-cluster.local}"
for label in "${labels[@]}"; do query+=$(printf '\\\\x%02x%s' "${#label}" "$label"); done
query+='\\x00\\x00\\x01\\x00\\x01'
end=$((SECONDS + $1))
# A query that came before the rules is lost; on a busy machine the answer, or even `head`, is late.
for patience in 0.2 0.2 0.3 0.4 0.6 0.9 1.3 2 3 3 3 3 3 3 3 3 3 3; do
  if exec 3<>"/dev/udp/$server/53" && printf "$query" >&3; then
    reply=$(timeout "$patience" head --bytes=8 <&3 | od -An -tx1 | tr -d ' \\n')
    [[ ${reply:0:4} == 4b69 && ${reply:7:1} == 0 && ${reply:12:4} != 0000 ]] && exit 0
  fi
  ((SECONDS <= end)) || break
  sleep 0.05
done 2>/dev/null
echo "the DNS service at $server does not answer"
exit 1
"""


def scripts(entrypoint: str) -> dict[str, str]:
    """Return the files of a restored kind node beside those of kind: path to content.

    Args:
        entrypoint: The program of the node image that the container starts with.
    """
    return {
        ENTRYPOINT: _ENTRYPOINT.format(entrypoint=entrypoint),
        ANSWERS: _ANSWERS,
        "/kindinfra-snapshot/lead": _LEAD,
        "/etc/systemd/system/kindinfra-lead.service": _LEAD_UNIT,
    }


LINKS = {
    "/etc/systemd/system/multi-user.target.wants/kindinfra-lead.service": (
        "../kindinfra-lead.service"
    )
}
"""Symbolic links of a restored kind node: path to target."""
