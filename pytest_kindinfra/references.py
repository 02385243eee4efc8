"""Image references: their parts, and the one full form in which they can be compared.

`redis`, `docker.io/redis` and `docker.io/library/redis:latest` are one image, which kind nodes
list under its full name only. And what pods need to pull from a private registry. Pure; it must
not know engines or clusters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_DEFAULT_DOMAIN = "docker.io"


_OLD_DEFAULT_DOMAIN = "index.docker.io"


_LOCAL_DOMAIN = "localhost"


_DEFAULT_TAG = "latest"


_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"


_PATH = re.compile(rf"{_PART}(?:/{_PART})*")


_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")


_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")


def normalise(reference: str) -> str:
    """Return the full form: `redis` becomes `docker.io/library/redis:latest`.

    A digest alone takes the place of the tag; with both, both stay.
    """
    repository, tag, digest = _parts(reference)
    domain, path = _domain_and_path(repository)
    if domain == _DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return f"{domain}/{path}" + _suffix(tag, digest, default=_DEFAULT_TAG)


def name_in_node(reference: str) -> str:
    """Return the name by which a kind node's container runtime looks for a reference.

    That is the full form, but for a reference with tag and digest: there the digest alone counts
    (containerd's CRI takes its name from `ParseDockerRef` of distribution/reference).
    """
    repository, _, digest = _parts(normalise(reference))
    return f"{repository}@{digest}" if digest else normalise(reference)


def has_digest(reference: str) -> bool:
    """Whether a reference says by a digest which content it means."""
    return bool(_parts(reference)[2])


def is_reference(text: str) -> bool:
    """Whether a text has the form of an image reference (distribution/reference)."""
    repository, tag, digest = _parts(text)
    domain, path = _domain_and_path(repository)
    return (
        bool(_DOMAIN.fullmatch(domain) and _PATH.fullmatch(path))
        and (":" not in text.partition("@")[0].rpartition("/")[2] or is_tag(tag))
        and ("@" not in text or bool(_DIGEST.fullmatch(digest)))
    )


def is_tag(text: str) -> bool:
    """Whether a text may be the tag of a reference."""
    return bool(_TAG.fullmatch(text))


def is_meant_by(reference: str, name: str) -> bool:
    """Whether a further name of an image (`names` in the declaration) means a reference.

    Args:
        reference: As a manifest or a Dockerfile has it.
        name: With a tag or a digest it means just that; without, every tag and digest.
    """
    full, wanted = normalise(reference), normalise(name)
    if full == wanted:
        return True
    _, tag, digest = _parts(name)
    return not (tag or digest) and split(full)[0] == split(wanted)[0]


def last_part(reference: str) -> str:
    """Return the last part of the path: `datastorage` of `localhost/org/datastorage:dev`."""
    repository, _, _ = _parts(reference)
    return repository.rpartition("/")[2]


def is_bare_or_local(reference: str) -> bool:
    """Whether no registry is named: `datastorage`, `datastorage:dev`, `localhost/x`."""
    repository, _, _ = _parts(reference)
    return "/" not in repository or repository.startswith(f"{_LOCAL_DOMAIN}/")


def stand_in(image: str) -> str:
    """Return what `${image:NAME}` in a chart's values is while no reference of the run is known.

    It is matched as any reference is, by its last part.
    """
    return f"localhost/{image}:kindinfra"


def split(reference: str) -> tuple[str, str]:
    """Return the repository as written and what follows it: tag, digest, or `TAG@DIGEST`.

    Joined by `:` (or by `@` if there is a digest alone) they are the reference again; without
    either the second is `latest`.
    """
    repository, tag, digest = _parts(reference)
    return repository, _suffix(tag, digest, default=_DEFAULT_TAG)[1:]


def by_digest(reference: str) -> str:
    """Return a reference with a digest without its tag: so containerd lists what it pulled."""
    repository, _, digest = _parts(normalise(reference))
    return f"{repository}@{digest}"


def is_loopback(host: str) -> bool:
    """Whether a registry's host, with its port if it has one, is this machine itself."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name in {_LOCAL_DOMAIN, "[::1]"} or bool(re.fullmatch(r"127(?:\.\d{1,3}){3}", name))


def _parts(reference: str) -> tuple[str, str, str]:
    """Return repository, tag and digest; missing parts are empty."""
    name, _, digest = reference.strip().partition("@")
    head, slash, tail = name.rpartition("/")  # a colon before the last slash is a port's
    last, _, tag = tail.partition(":")
    return f"{head}{slash}{last}", tag, digest


def _domain_and_path(repository: str) -> tuple[str, str]:
    domain, slash, path = repository.partition("/")
    if not slash or not _is_domain(domain):
        return _DEFAULT_DOMAIN, repository
    return (_DEFAULT_DOMAIN if domain == _OLD_DEFAULT_DOMAIN else domain), path


def _is_domain(part: str) -> bool:
    # Docker's own rule; a capital letter counts, since no path may hold one.
    return "." in part or ":" in part or part == _LOCAL_DOMAIN or part != part.lower()


def _suffix(tag: str, digest: str, *, default: str) -> str:
    tagged = f":{tag}" if tag else ""
    digested = f"@{digest}" if digest else ""
    return tagged + digested or f":{default}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSecret:
    """The Secret by which pods pull images of the registry of images.

    Attributes:
        name: What it is called in each namespace.
        registry: `HOST[:PORT][/PREFIX]`.
        config: The text of a Docker config with the credentials; empty for those who only name
            the Secret.
    """

    name: str
    registry: str
    config: str = field(default="", repr=False)
