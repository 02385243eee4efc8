# The node: Debian, containerd, the node files of kind's own module, Kubernetes, and the images of
# the cluster's own pods. ./build lays out the context.
FROM scratch AS node
ADD rootfs.tar /
COPY --chmod=0755 kind-files/usr/local/bin/ /usr/local/bin/
COPY kind-files/kind/ /kind/
COPY kind-files/etc/ /etc/
COPY containerd/usr/bin/ /usr/local/bin/
COPY bin/ /usr/bin/
COPY manifests/ /kind/manifests/
COPY version /kind/version
# systemd in a container starts only what a node needs.
RUN chmod 0755 /kind /kind/bin /kind/bin/* \
 && find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete \
 && rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
      /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
      /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/* \
 && echo ReadKMsg=no >> /etc/systemd/journald.conf \
 && ln -sf /usr/lib/systemd/systemd /sbin/init \
 && systemctl enable kubelet.service containerd.service undo-mount-hacks.service \
 && systemctl mask systemd-binfmt.service
# Debian keeps CNI plugins and containerd elsewhere than kind's files expect; without
# CAP_SYS_RESOURCE (a nested machine) a pod's oom score cannot be lowered.
RUN mkdir -p /etc/kubernetes/manifests /opt/cni/bin \
 && for plugin in host-local loopback ptp portmap; do mv /usr/lib/cni/$plugin /opt/cni/bin/; done \
 && rm -rf /usr/lib/cni \
 && ctr oci spec | jq '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
      > /etc/containerd/cri-base.json \
 && sed -i -E -e 's#sandbox_image = .*#sandbox_image = "registry.k8s.io/pause:3.10.1"#' \
      -e 's#restrict_oom_score_adj = false#restrict_oom_score_adj = true#' /etc/containerd/config.toml \
 && printf '%s\n' '[plugins."io.containerd.grpc.v1.cri".cni]' '  bin_dir = "/opt/cni/bin"' >> /etc/containerd/config.toml
# Only into the content store: unpacking needs mounts, which a build may not make.
RUN --mount=type=bind,source=components.tar,target=/components.tar \
    (containerd >/tmp/containerd.log 2>&1 &) \
 && for try in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done \
 && { ctr -n k8s.io images import --label=io.cri-containerd.pinned=pinned --all-platforms --no-unpack /components.tar \
      || { tail /tmp/containerd.log; exit 1; }; } \
 && kill $(pidof containerd) \
 && while pidof containerd >/dev/null; do sleep 0.1; done \
 && rm -rf /run/containerd /tmp/*

FROM scratch
COPY --from=node / /
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
