"""Variables that tests find in their environment: the words in braces that stand for the stack.

For suites that read where a service is from the environment. Pure; who fills them in knows the
stack.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.suggestions import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

OF_SERVICES = ("url", "host", "port")
OF_CLUSTER = ("kubeconfig", "namespace", "cluster")
_WORD = re.compile(r"(?<!\$)\{([A-Za-z]+)(?::([^{}:]+))?(?::([^{}:]+))?\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Word(NamedTuple):
    """What a word in braces says: `{url:api:metrics}`.

    Attributes:
        what: Of what it stands for.
        service: The service's name; empty if it is about the cluster.
        endpoint: The endpoint's name; empty means the first one.
    """

    what: str
    service: str = ""
    endpoint: str = ""


def words(template: str) -> list[Word]:
    """Return the words of a template, in order."""
    return [_word(found) for found in _WORD.finditer(template)]


def filled(template: str, value: Callable[[Word], str]) -> str:
    """Return the template with the value of each word in its place."""
    return _WORD.sub(lambda found: value(_word(found)), template)


def problems(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield what is wrong with variables, as far as that can be seen without the services."""
    for name, template in pairs:
        if not _NAME.fullmatch(name):
            yield f'env: "{name}" cannot be a variable\'s name'
        for word in words(template):
            known = (*OF_SERVICES, *OF_CLUSTER)
            if word.what not in known:
                hint = did_you_mean(word.what, known) or f"; known: {listed(known)}"
                yield f"env.{name}: {{{word.what}}} stands for nothing{hint}"
            elif (word.what in OF_SERVICES) != bool(word.service):
                says = "needs a service" if word.what in OF_SERVICES else "is about no service"
                yield f"env.{name}: {{{word.what}}} {says}"


def _word(found: re.Match[str]) -> Word:
    return Word(found[1], found[2] or "", found[3] or "")
