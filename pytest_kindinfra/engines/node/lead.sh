#!/bin/bash
# Lead the API's ClusterIP to this node from the start. kube-proxy's own rules come only after it
# asked the API server; CoreDNS starts at the same time, and would wait 30 s for its first connection.
manifest=/etc/kubernetes/manifests/kube-apiserver.yaml
range=$(sed -n 's/.*--service-cluster-ip-range=\([0-9.]*\).*/\1/p' "$manifest")
port=$(sed -n 's/.*--secure-port=\([0-9]*\).*/\1/p' "$manifest")
IFS=. read -r a b c d <<<"$range"
address=$(</kind/old-ipv4)
for chain in OUTPUT PREROUTING; do
  iptables --table nat --insert "$chain" --destination "$a.$b.$c.$((d + 1))" --protocol tcp \
    --dport 443 --jump DNAT --to-destination "$address:${port:-6443}"
done
