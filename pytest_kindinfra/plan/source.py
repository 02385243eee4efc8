"""What a kind of source is: where the objects of a service come from.

A kind is one module with a class of this protocol, and one entry in `plan/sources.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject, Release
    from pytest_kindinfra.plan.tables import Table
    from pytest_kindinfra.system.runner import Runner
    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How sources are rendered that need a program.

    Attributes:
        runner: Runs the programs.
        namespace: Of releases that name none.
        kubernetes: The version that charts are given; None leaves it to helm.
        deadline: When to stop.
        charts: Folder of the charts that were pulled from repositories.
    """

    runner: Runner
    namespace: str
    kubernetes: str | None
    deadline: Deadline
    charts: Path


@dataclass(frozen=True, slots=True)
class SourceObjects:
    """What one source of a service came to.

    Attributes:
        objects: In the order of the source.
        problems: What is wrong with them, without the service's name.
        release: With what the objects are installed; None if they are applied.
    """

    objects: Sequence[KubeObject] = ()
    problems: Sequence[str] = field(default_factory=list)
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A program that a kind of source needs.

    Attributes:
        argv: A command that shows that it works.
        needed_for: What needs it, in the plural: `charts`.
    """

    argv: tuple[str, ...]
    needed_for: str


class Source(Protocol):
    """A kind of source.

    Attributes:
        key: Its key in `[services.NAME]`.
        is_table: The value is a table of its own, which problems name.
        is_installed: A program of its own puts the objects into the cluster; they are not applied.
        program: What `kindinfra doctor` looks for; None if files are only read.
    """

    key: str
    is_table: bool = False
    is_installed: bool = False
    program: Program | None = None

    def read(self, service: str, table: Table) -> Any:
        """Return what the key says, something false if it is missing; complain to the table.

        Args:
            service: The service's name.
            table: The service's.
        """
        ...

    def table_of(self, value: Any) -> Any:
        """Return a value of a hook's record as a declaration has it."""
        from pytest_kindinfra.plan.tables import plain

        return plain(value)

    def restore(self, read: Any, value: Any) -> Any:
        """Return what was read of `table_of(value)`, with what no declaration can say."""
        return read

    def problems(self, value: Any, folder: Path) -> Iterator[str]:
        """Yield what is wrong before anything is rendered, such as a missing file."""
        ...

    def prepare(
        self,
        values: Sequence[Any],
        *,
        folder: Path,
        options: RenderOptions | None,
        submit: Callable[..., Future[Any]],
    ) -> Any:
        """Return what all of the run's sources of this kind share: a program, a version.

        Args:
            values: Those of all services without problems.
            folder: Where relative paths start.
            options: How to render; None only if there is no program.
            submit: Runs a function in another thread.

        Raises:
            KindInfraError: The program is missing.
        """
        return options

    def render(self, value: Any, *, service: str, folder: Path, shared: Any) -> SourceObjects:
        """Return the objects of one service, and what is wrong with them.

        Args:
            value: What `read` returned.
            service: The service's name.
            folder: Where relative paths start.
            shared: What `prepare` returned.

        Raises:
            KindInfraError: It cannot be rendered.
        """
        ...

    def describe(self, value: Any, release: Release | None) -> str:
        """Return what `--kindinfra-plan` says of a service's source; empty for nothing."""
        return ""


def kubernetes_version(node_image: str | None) -> str | None:
    """Return `1.34.4` for `kindest/node:v1.34.4@sha256:...`, None if the tag does not say."""
    tag = (node_image or "").partition("@")[0].rpartition(":")[2]
    version = re.fullmatch(r"v(\d+\.\d+\.\d+)(-.*)?", tag)
    return version[1] if version else None
