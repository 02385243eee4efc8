#!/bin/bash
# Ask the cluster's DNS service for its own address, for as many seconds as the argument says.
# Without kube-proxy's rules a resolver outside may answer, so there must be an address in it. Then
# wait for the layers of the snapshot's images: no pod of the system needs them, but others do.
config=/var/lib/kubelet/config.yaml
server=$(sed -n '/^clusterDNS:/{n;s/^- *"\{0,1\}\([0-9.]*\).*/\1/p}' "$config")
domain=$(sed -n 's/^clusterDomain: *"\{0,1\}\([^"]*\).*/\1/p' "$config")
query='\x4b\x69\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00'
IFS=. read -r -a labels <<<"kube-dns.kube-system.svc.${domain:-cluster.local}"
for label in "${labels[@]}"; do query+=$(printf '\\x%02x%s' "${#label}" "$label"); done
query+='\x00\x00\x01\x00\x01'
end=$((SECONDS + $1))
# A query that came before the rules is lost; on a busy machine the answer, or even `head`, is late.
for patience in 0.2 0.2 0.3 0.4 0.6 0.9 1.3 2 3 3 3 3 3 3 3 3 3 3; do
  if exec 3<>"/dev/udp/$server/53" && printf "$query" >&3; then
    reply=$(timeout "$patience" head --bytes=8 <&3 | od -An -tx1 | tr -d ' \n')
    [[ ${reply:0:4} == 4b69 && ${reply:7:1} == 0 && ${reply:12:4} != 0000 ]] && answered=1 && break
  fi
  ((SECONDS <= end)) || break
  sleep 0.05
done 2>/dev/null
if [[ ! ${answered:-} ]]; then
  echo "the DNS service at $server does not answer"
  exit 1
fi
until [[ -e /var/lib/kindinfra-layers ]]; do
  state=$(systemctl is-active kindinfra-layers.service)
  if [[ $state == failed ]] || ((SECONDS > end)); then
    echo "the layers of the snapshot's images are not unpacked (kindinfra-layers.service: $state)"
    [[ $state == failed ]] && exit 2
    exit 1
  fi
  sleep 0.05
done
