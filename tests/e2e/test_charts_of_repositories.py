"""Charts of a repository and of a registry, deployed to a real cluster, then used offline."""

from __future__ import annotations

import http.server
import re
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from tests.e2e.runs import left_behind, registry, run_pytest
from tests.e2e.test_charts import example

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


def call(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout


@contextmanager
def repository(folder: Path) -> Iterator[str]:
    """Serve a folder of packed charts; give its URL."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def declare(folder: Path, **charts: str) -> None:
    """Have services use other charts than those in the project's folders."""
    file = folder / "kindinfra.toml"
    text = file.read_text()
    for name, keys in charts.items():
        text, count = re.subn(rf'chart = "charts/{name}"', keys, text)
        assert count == 1
    file.write_text(text)


def test_charts_are_pulled_once_and_then_used_without_their_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, packed = example("helm", tmp_path), tmp_path / "packed"
    for name in ("site", "check"):
        call(
            "helm",
            "package",
            "--dependency-update",
            str(folder / "charts" / name),
            "--destination",
            str(packed),
        )
    site, check = (next(packed.glob(f"{name}-*.tgz")) for name in ("site", "check"))
    version = {file: file.stem.rpartition("-")[2] for file in (site, check)}
    with repository(packed) as url, registry() as address:
        call("helm", "repo", "index", str(packed), "--url", url)
        call("helm", "push", str(check), f"oci://{address}/charts", "--plain-http")
        declare(
            folder,
            site=f'chart = "site", repo = "{url}", version = "{version[site]}"',
            check=f'chart = "oci://{address}/charts/check", version = "{version[check]}"',
        )

        run = run_pytest(folder)

    assert run.exit_code == 0, run.output
    assert left_behind(folder) == []
    # Both servers are gone.
    plan = run_pytest(folder, "--kindinfra-plan")
    assert f'chart site {version[site]} of {url} as "site"' in plan.output, plan.output
    assert f'chart oci://{address}/charts/check {version[check]} as "site-check"' in plan.output


def test_a_version_that_a_repository_does_not_have_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, packed = example("helm", tmp_path), tmp_path / "packed"
    call(
        "helm",
        "package",
        "--dependency-update",
        str(folder / "charts" / "site"),
        "--destination",
        str(packed),
    )
    with repository(packed) as url:
        call("helm", "repo", "index", str(packed), "--url", url)
        declare(folder, site=f'chart = "site", repo = "{url}", version = "99.0.0"')

        run = run_pytest(folder)

    assert run.exit_code == 4, run.output
    assert f"[services.site] pulling chart site 99.0.0 of {url}: exit code 1" in run.output
    assert "To fix: compare repo, chart and version" in run.output
