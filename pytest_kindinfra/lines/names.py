"""What is asked once for the names of images: git, who, when; and the names by a template."""

from __future__ import annotations

import getpass
import secrets
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pytest_kindinfra.gitstate import read_git_state
from pytest_kindinfra.lines.context import needed
from pytest_kindinfra.naming import Circumstances, make_tag
from pytest_kindinfra.references import split
from pytest_kindinfra.timeline import now

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.model import BuiltImage

_RANDOM_BYTES = 8


class Names:
    """Further names of images, by the template of the run."""

    def __init__(self, context: Context, pool: ThreadPoolExecutor) -> None:
        """Ask git at once, beside all else; what it says goes to run.json too."""
        self._context = context
        self._began = int(now())
        self._circumstances = pool.submit(self._ask)

    def add_to(self, built: BuiltImage) -> BuiltImage:
        """Give an image of ours the name by the template, if there is one.

        The name of its content stays, and is the one that pods run: with another one for each
        run nothing would be known to be there already.
        """
        template = self._context.request.tag
        repository, content = split(built.reference)
        if template is None or repository != f"localhost/{built.name}":  # a prebuilt one
            return built
        around = needed("the names of images", self._circumstances)
        tag = make_tag(template, image=built.name, content=content, around=around)
        name = f"{repository}:{tag}"
        self._context.tools.engine.tag(built.reference, name, self._context.deadline())
        return replace(built, also=(name,))

    def _ask(self) -> Circumstances:
        context = self._context
        git = read_git_state(context.request.folder, context.tools.runner, context.deadline())
        context.run.write("git", {"git": asdict(git) if git else None})
        return Circumstances(
            user=_user(),
            commit=git.commit if git else None,
            time=self._began,
            random=secrets.token_hex(_RANDOM_BYTES),
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "nobody"
