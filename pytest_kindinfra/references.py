"""Image references: their parts, and the one full form in which they can be compared.

`redis`, `docker.io/redis` and `docker.io/library/redis:latest` are one image, which kind nodes
list under its full name only. Pure; it must not know engines or clusters.
"""

from __future__ import annotations

_DEFAULT_DOMAIN = "docker.io"
_OLD_DEFAULT_DOMAIN = "index.docker.io"
_LOCAL_DOMAIN = "localhost"
_DEFAULT_TAG = "latest"


def normalise(reference: str) -> str:
    """Return the full form: `redis` becomes `docker.io/library/redis:latest`.

    A digest alone takes the place of the tag; with both, both stay.
    """
    repository, tag, digest = _parts(reference)
    domain, path = _domain_and_path(repository)
    if domain == _DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return f"{domain}/{path}" + _suffix(tag, digest, default=_DEFAULT_TAG)


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


def _parts(reference: str) -> tuple[str, str, str]:
    """Return repository, tag and digest; what is not there is empty."""
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
