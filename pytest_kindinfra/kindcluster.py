"""The cluster under the names that users of pytest-kind know, so that moving over is a rename.

Suites written for one process have every xdist worker apply the same manifests; so what would
collide takes a lock of the run. It must not know pytest.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.coordination import locked
from pytest_kindinfra.forward import forwarded
from pytest_kindinfra.process import SubprocessRunner, check_output, which
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.model import Load
    from pytest_kindinfra.view import Stack

_COLLIDING = frozenset({"apply", "create"})
_LOAD_SECONDS = 600.0


class KindCluster:
    """A handle on the run's cluster.

    Attributes:
        name: kind's name for it.
        kubeconfig_path: The file with its credentials.
    """

    def __init__(self, stack: Stack, run: RunDirectory, *, load: Load = "auto") -> None:
        self.name: str = stack.cluster
        self.kubeconfig_path: Path = stack.kubeconfig
        self._stack = stack
        self._run = run
        self._how: Load = load

    @cached_property
    def kubectl_path(self) -> str:
        """The path of the kubectl on PATH.

        Raises:
            ToolMissingError: There is none.
        """
        return which("kubectl", fix="install kubectl, or use the `kindinfra` fixture's `kube`")

    @property
    def api(self) -> Any:
        """A `kubernetes.client.ApiClient` (pytest-kind gives pykube's client here)."""
        return self._stack.kube

    def kubectl(self, *args: str, **kwargs: Any) -> str:
        """Run kubectl against the cluster and return what it printed on standard output.

        Args:
            *args: kubectl's arguments.
            **kwargs: Those of `subprocess.check_output`.

        Raises:
            subprocess.CalledProcessError: It ended with another exit code than 0.
        """
        __tracebackhide__ = True  # as in check_output
        argv = [self.kubectl_path, "--kubeconfig", str(self.kubeconfig_path), *args]
        if _COLLIDING.isdisjoint(args[:1]):
            return check_output(argv, **kwargs)
        with locked(self._run.path / "state" / "kubectl.lock"):
            return check_output(argv, **kwargs)

    def load_docker_image(self, docker_image: str) -> None:
        """Load an image of the engine into the cluster; in a run once for each reference.

        Raises:
            CommandError: It could not be loaded.
        """
        from hashlib import sha256

        done = f"loaded-{sha256(docker_image.encode()).hexdigest()[:16]}"
        with locked(self._run.path / "state" / f"{done}.lock"):
            if self._run.read(done):
                return
            self._load(docker_image)
            self._run.write(done, {"reference": docker_image})

    @contextmanager
    def port_forward(
        self,
        service_or_pod_name: str,
        remote_port: int,
        *args: str,
        local_port: int | None = None,
        retries: int = 10,
    ) -> Iterator[int]:
        """Give the local port that leads to a port of a pod or k8s service, while in the block.

        Args:
            service_or_pod_name: `service/NAME`, `deployment/NAME` or a pod's name.
            remote_port: The port there.
            *args: Further arguments of kubectl, such as `-n NAMESPACE`.
            local_port: A fixed port; None means one that kubectl chooses.
            retries: How often kubectl is started before giving up. Once the far end has answered,
                it is started again whenever it ends.

        Raises:
            KindInfraError: The far end did not answer.
        """
        argv = [self.kubectl_path, "--kubeconfig", str(self.kubeconfig_path), "port-forward"]
        argv += ["--address", "127.0.0.1", service_or_pod_name]

        def command(local: int | None) -> list[str]:
            return [*argv, f"{local or ''}:{remote_port}", *args]

        with forwarded(command, local_port=local_port, retries=retries) as port:
            yield port

    def _load(self, docker_image: str) -> None:
        from pytest_kindinfra.wiring import load_one_image

        load_one_image(
            self.name,
            docker_image,
            engine=(self._run.read("plan") or {}).get("engine", "auto"),
            how=self._how,
            runner=SubprocessRunner(),
            deadline=Deadline.after(_LOAD_SECONDS),
        )
