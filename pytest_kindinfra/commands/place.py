"""Which cluster the commands are about: the one that runs with reuse in this folder share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.coordination import RunDirectory
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.finding import declaration_folder
from pytest_kindinfra.library import settings_of
from pytest_kindinfra.ownership import why_unseen
from pytest_kindinfra.planning import cluster_name, read_declaration
from pytest_kindinfra.presence import size_of
from pytest_kindinfra.redaction import credentials_in
from pytest_kindinfra.timeline import Deadline
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from pytest_kindinfra.model import Standing
    from pytest_kindinfra.request import Tools

ASK_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The cluster of a folder.

    Attributes:
        name: kind's name for it.
        tools: Who does the work.
        there: What its containers show; None if there is no such cluster.
    """

    name: str
    tools: Tools
    there: Standing | None

    @property
    def home(self) -> RunDirectory | None:
        """Its home, None if it has none, or none that can be seen."""
        folder = self.there.folder if self.there else None
        return RunDirectory(folder) if folder and not why_unseen(RunDirectory(folder)) else None


def look(cluster: str | None) -> Place:
    """Return the cluster of the current folder, or of that above it which has the declaration.

    Args:
        cluster: Its name if it has another one than the options say.

    Raises:
        DeclarationError: The declaration or an option is wrong.
        KindInfraError: The engine does not answer.
    """
    folder = declaration_folder(Path.cwd())
    given = {"reuse": True, "cluster_name": cluster}
    settings = settings_of(read_declaration(folder), given)
    name = cluster_name(settings, folder=folder, run_id="")
    tools = make_tools(settings.engine)
    there = tools.provider.standing(name, Deadline.after(ASK_SECONDS))
    return Place(name=name, tools=tools, there=there)


def kubeconfig_of(place: Place) -> Path:
    """Return the credentials of a cluster that is there; they are kept out of what is shown.

    Raises:
        KindInfraError: There is no cluster, it does not run, or nobody has its credentials.
    """
    if place.there is None:
        msg = f'there is no cluster "{place.name}"\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    if not place.there.running:
        msg = f'the kind nodes of cluster "{place.name}" do not run\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    home = place.home
    if home is None and place.there.folder:
        why = why_unseen(RunDirectory(place.there.folder))
        msg = f'the credentials of cluster "{place.name}" cannot be read: {why}'
        raise KindInfraError(msg)
    if home is None or not size_of(home.kubeconfig):
        msg = f'nobody has the credentials of cluster "{place.name}"\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    place.tools.redactor.learn(credentials_in(home.kubeconfig.read_text()))
    return home.kubeconfig
