"""What a registry beside the cluster has to be told of, and what images are called in it.

The conventions are kind's (kind.sigs.k8s.io, "Local Registry"): pods name the address that the
host pushes to, and containerd in the kind nodes is told by a hosts.toml where that leads. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.references import normalise, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kindinfra.model import KubeObject

CERTS = "certs.d"
"""The folder with a folder for each registry that is not where its name says."""
HOSTS_DIR = f"/etc/containerd/{CERTS}"
"""Where that folder is in a kind node."""

_CONFIG_PATH = f"""\
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{HOSTS_DIR}"
"""
_HELP = "https://kind.sigs.k8s.io/docs/user/local-registry/"
_ID_DIGITS = 12
_TAG_CHARACTERS = 100  # of 128, so that the id fits behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A registry in a container.

    Attributes:
        container: The container's name, by which others in its networks find it.
        address: What this host pushes to, and what pods name: `localhost:5001`.
        port: The port that it listens to in its container.
    """

    container: str
    address: str
    port: int

    @property
    def inside(self) -> str:
        """Its address in the networks that it has joined: `kind-registry:5000`."""
        return f"{self.container}:{self.port}"


def pushed_name(address: str, reference: str, image_id: str) -> str:
    """Return what an image is called in the registry, where each content has a name of its own.

    Args:
        address: The registry's.
        reference: What the engine knows the image by; its domain is left out.
        image_id: The engine's id of it, `sha256:...`.
    """
    repository, version = split(normalise(reference))
    tag = version.partition("@")[0]
    tag = tag if ":" not in tag else ""  # a digest alone
    path = repository.partition("/")[2]
    digits = image_id.rpartition(":")[2][:_ID_DIGITS]
    return f"{address}/{path}:{'-'.join(filter(None, (tag[:_TAG_CHARACTERS], digits)))}"


def hosts_toml(registry: Registry) -> str:
    """Return the file that leads containerd from the registry's address to its container."""
    return f'[host."http://{registry.inside}"]\n'


def hosting_map(registry: Registry) -> KubeObject:
    """Return the ConfigMap that tells tools of the registry (kubernetes/enhancements, KEP-1755)."""
    lines = (
        f'host: "{registry.address}"',
        f'hostFromContainerRuntime: "{registry.inside}"',
        f'help: "{_HELP}"',
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
        "data": {"localRegistryHosting.v1": "".join(f"{line}\n" for line in lines)},
    }


def with_registry(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a kind config under which containerd reads hosts.toml files; `config` stays as it is.

    Node images of kind v0.27 and newer do that by themselves, and the patch does no harm there.
    Where patches of the user's say anything of registries ours stays away: containerd takes
    mirrors or a path, not both.
    """
    made = dict(config or {})
    own = list(made.get("containerdConfigPatches") or ())
    if not any("registry" in str(patch) for patch in own):
        made["containerdConfigPatches"] = [*own, _CONFIG_PATH]
    return made
