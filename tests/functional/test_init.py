"""`kindinfra init`: a declaration, a first test and a line of .gitignore from what is there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.kube.yaml import load_documents

if TYPE_CHECKING:
    from tests.functional.project import Project

HELLO = Path(__file__).parents[2] / "examples" / "hello"

COMPOSE = """
services:
  db:
    image: postgres:16
    environment: {POSTGRES_PASSWORD: secret}
    ports: ["5432:5432"]
    volumes: ["data:/var/lib/postgresql/data"]
    healthcheck: {test: ["CMD-SHELL", "pg_isready -U postgres"]}
  migrate:
    build: {context: ./db, dockerfile: migrate.Dockerfile, target: run, args: {VERSION: 1}}
    depends_on: {db: {condition: service_healthy}}
  web_app:
    build: ./web
    command: ["serve", "--port", "8080"]
    ports: [{target: 8080, published: 80}]
    healthcheck: {test: ["CMD", "curl", "-f", "http://localhost:8080/health"]}
    depends_on:
      migrate: {condition: service_completed_successfully}
      db: {condition: service_started}
"""

SKAFFOLD = """
apiVersion: skaffold/v4beta11
kind: Config
build:
  artifacts:
    - image: ghcr.io/shop/api
      context: services/api
      docker: {dockerfile: build/Dockerfile, target: run, buildArgs: {MODE: dev}}
    - image: worker
      context: worker
      requires: [{image: ghcr.io/shop/api}]
    - image: old
      jib: {}
manifests:
  rawYaml: ["k8s/*.yaml"]
profiles: [{name: prod}]
"""


def begun(project: Project) -> dict[str, Any]:
    """Return the declaration that `init` writes, once `plan` has accepted it."""
    done = project.command("init")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    plan = project.command("plan")
    assert plan.returncode == 0, plan.stderr
    return tomllib.loads(text_of(project))


def written(project: Project, name: str, *lines: str) -> list[dict[str, Any]]:
    """Return the objects that `init` writes for a compose service with these lines."""
    rows = "".join(f"    {line}\n" for line in ("image: quay.io/db:1", *lines))
    project.write("compose.yaml", f"services:\n  {name}:\n{rows}")
    begun(project)
    text = (project.folder / "kindinfra" / f"{name}.yaml").read_text()
    return list(load_documents(text))


def text_of(project: Project) -> str:
    return (project.folder / "kindinfra.toml").read_text()


def workload(project: Project, path: str, name: str, image: str, env: str = "") -> None:
    """Write a Deployment with a k8s service to a file."""
    project.manifest(name, image=image)
    text = (project.folder / f"{name}.yaml").read_text()
    (project.folder / f"{name}.yaml").unlink()
    variable = f"[{{name: TARGET, value: '{env}'}}]" if env else "[]"
    project.write(
        path, text.replace("readinessProbe", f"env: {variable}\n          readinessProbe")
    )


class TestManifests:
    def test_images_endpoints_and_needs_are_found(self, project: Project) -> None:
        project.write("services/api/Dockerfile", "FROM base\nCOPY . /api\n")
        project.write("base/Dockerfile", "FROM scratch\n")
        workload(project, "k8s/api.yaml", "api", "api", env="postgres://db:8080/shop")
        workload(project, "k8s/db.yaml", "db", "quay.io/db:1")

        tables = begun(project)

        assert tables["images"] == {
            "api": {"context": "services/api", "needs": ["base"]},
            "base": {"context": "base"},
        }
        assert tables["services"] == {
            "api": {
                "image": "api",
                "manifests": ["k8s/api.yaml"],
                "needs": ["db"],
                "endpoints": {"main": {"port": 8080, "path": "/"}},
            },
            "db": {
                "manifests": ["k8s/db.yaml"],
                "endpoints": {"main": {"port": 8080, "path": "/"}},
            },
        }
        assert '# guessed that it needs "db": TARGET names it\n[services.api]' in text_of(project)

    def test_the_first_test_passes(self, project: Project) -> None:
        project.write("api/Dockerfile", "FROM scratch\n")
        workload(project, "k8s/api.yaml", "api", "api")

        begun(project)
        run = project.run("e2e", workers=None)

        assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
        assert run.built == ["api"]

    def test_an_image_is_called_as_manifests_call_it(self, project: Project) -> None:
        project.write("web/Dockerfile", "FROM scratch\n")
        workload(project, "web.k8s.yaml", "web", "ghcr.io/shop/shop-web:1.2")

        tables = begun(project)

        assert tables["images"] == {
            "shop-web": {"context": "web", "names": ["ghcr.io/shop/shop-web:1.2"]}
        }
        assert "# built here instead of pulling ghcr.io/shop/shop-web:1.2" in text_of(project)

    def test_a_dockerfile_that_copies_from_the_top_is_built_there(self, project: Project) -> None:
        project.write("go.mod", "module shop\n")
        project.write("cmd/api/Dockerfile", "FROM scratch\nCOPY go.mod /\n")
        project.write("cmd/odd/Dockerfile", "FROM scratch\nCOPY nowhere /\n")

        tables = begun(project)

        assert tables["images"]["api"] == {"context": ".", "dockerfile": "cmd/api/Dockerfile"}
        assert (
            "# the context was guessed: nowhere is neither in it nor in this folder\n[images.odd]"
        ) in text_of(project)

    def test_files_go_where_they_are_used_and_others_are_named(self, project: Project) -> None:
        workload(project, "k8s/api.yaml", "api", "quay.io/api:1")
        config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {}}}\n"
        project.write("k8s/settings.yaml", config.format("settings"))
        project.write("k8s/unused.yaml", config.format("unused"))
        text = (project.folder / "k8s/api.yaml").read_text()
        mount = "volumes: [{name: v, configMap: {name: settings}}]\n      containers:"
        project.write("k8s/api.yaml", text.replace("containers:", mount, 1))

        tables = begun(project)

        assert tables["services"]["api"]["manifests"] == ["k8s/settings.yaml", "k8s/api.yaml"]
        assert (
            "# not used, since no workload names it: k8s/unused.yaml (ConfigMap unused)"
            in text_of(project)
        )

    def test_what_a_plan_refuses_is_commented_out_with_the_reason(self, project: Project) -> None:
        project.write("weba/Dockerfile", "FROM scratch\n")
        workload(project, "k8s/ui.yaml", "ui", "localhost/webb:1")
        workload(project, "k8s/front.yaml", "front", "quay.io/front:1", env="http://ui:8080")

        tables = begun(project)

        assert "services" not in tables
        text = text_of(project)
        assert "# commented out: " in text
        assert "# [services.ui]" in text
        assert '# commented out: its need "ui" is commented out\n# [services.front]' in text

    def test_a_container_that_declares_no_ports_and_no_probe_has_an_http_endpoint(
        self, project: Project
    ) -> None:
        for file in ("web/Dockerfile", "k8s/web.yaml"):
            project.write(file, (HELLO / file).read_text())

        tables = begun(project)

        assert tables["services"]["web"]["endpoints"] == {"http": {"port": 80}}


class TestCharts:
    def test_charts_and_kustomizations_are_services(self, project: Project) -> None:
        project.chart("site", {"apiVersion": "v1", "kind": "ConfigMap",
                                      "metadata": {"name": "site"}})  # fmt: skip
        project.install("kubectl")
        workload(project, "deploy/base/api.yaml", "api", "quay.io/api:1")
        project.write("deploy/base/kustomization.yaml", "resources: [api.yaml]\n")
        project.write("deploy/overlays/prod/kustomization.yaml", "resources: [../../base]\n")
        project.write("deploy/overlays/dev/kustomization.yaml", "resources: [../../base]\n")

        tables = begun(project)

        assert tables["services"]["site"] == {"helm": {"chart": "site"}}
        assert 'kustomize = "deploy/overlays/dev"' in text_of(project)
        assert "# another kustomization, not used: deploy/overlays/prod" in text_of(project)


class TestCompose:
    def test_services_ports_health_checks_and_dependencies(self, project: Project) -> None:
        project.write("compose.yaml", COMPOSE)
        project.write("web/Dockerfile", "FROM scratch\n")
        project.write("db/migrate.Dockerfile", "FROM scratch AS run\n")

        tables = begun(project)

        assert tables["images"] == {
            "migrate": {
                "context": "db",
                "dockerfile": "db/migrate.Dockerfile",
                "target": "run",
                "build_args": {"VERSION": "1"},
            },
            "web-app": {"context": "web"},
        }
        assert tables["services"] == {
            "db": {
                "manifests": ["kindinfra/db.yaml"],
                "endpoints": {"tcp": {"port": 5432, "scheme": "tcp"}},
            },
            "migrate": {
                "image": "migrate",
                "manifests": ["kindinfra/migrate.yaml"],
                "needs": ["db"],
            },
            "web-app": {
                "image": "web-app",
                "manifests": ["kindinfra/web-app.yaml"],
                "needs": ["migrate", "db:started"],
                "endpoints": {"http": {"port": 8080, "path": "/health"}},
            },
        }
        assert "# from: compose.yaml" in text_of(project)
        assert (
            "# kindinfra/db.yaml was made without the volumes of the compose file: add them"
            in text_of(project)
        )

    def test_the_manifests_that_are_made_bring_it_up(self, project: Project) -> None:
        project.write("compose.yaml", COMPOSE)
        project.write("web/Dockerfile", "FROM scratch\n")
        project.write("db/migrate.Dockerfile", "FROM scratch AS run\n")
        begun(project)

        run = project.run("e2e", workers=None)

        assert run.code == 0, run.text
        assert run.deployed == ["db", "migrate", "web-app"]
        assert run.at("ready db") < run.at("apply Job/migrate")

    def test_a_command_in_one_text_is_split_into_words(self, project: Project) -> None:
        """It was given to `sh -c`, so that an image without a shell did not start."""
        db = written(project, "db", 'command: redis-server --save "" --name "a b"')

        (container,) = db[0]["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["redis-server", "--save", "", "--name", "a b"]

    def test_a_service_without_ports_is_found_by_its_name(self, project: Project) -> None:
        """No k8s service was made, so that others did not resolve its name."""
        db = written(project, "db", "command: serve")

        assert db[1] == {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "db"},
            "spec": {"clusterIP": "None", "selector": {"app": "db"}},
        }
        assert project.run("e2e", workers=None).code == 0

    def test_defaults_of_variables_are_filled_in_and_others_are_noted(
        self, project: Project
    ) -> None:
        """The texts `${PORT:-8080}` and `$$HOME` were written as they are."""
        db = written(
            project,
            "db",
            'environment: {PORT: "${PORT:-8080}", HOME: "$$HOME", KEY: "${KEY:?no key}", SHELL: }',
        )

        (container,) = db[0]["spec"]["template"]["spec"]["containers"]
        assert container["env"] == [
            {"name": "PORT", "value": "8080"},
            {"name": "HOME", "value": "$HOME"},
            {"name": "KEY", "value": "${KEY:?no key}"},
        ]
        text = text_of(project)
        assert (
            "# kindinfra/db.yaml has ${KEY:?no key} as the compose file has it: write the value\n"
            "# kindinfra/db.yaml lacks what compose takes from the shell: SHELL\n[services.db]"
        ) in text

    def test_variables_of_build_arguments_stay_for_the_declaration(self, project: Project) -> None:
        project.write("Dockerfile", "FROM scratch\n")
        project.write(
            "compose.yaml",
            "services: {web: {build: {context: '${HERE:-.}', args: {V: '${V:-1}'}, ssh: []}}}",
        )

        image = begun(project)["images"]["web"]

        assert image == {"context": ".", "build_args": {"V": "${V:-1}"}}
        assert "# made without the ssh of its build in the compose file: add it" in text_of(project)

    def test_each_key_that_was_not_read_is_noted(self, project: Project) -> None:
        written(project, "db", "privileged: true", "x-mine: 1", "shm_size: 1g", 'ports: ["53/udp"]')

        assert (
            "# kindinfra/db.yaml was made without the privileged, shm_size of the compose file: "
            "add them\n"
            "# kindinfra/db.yaml was made without ports that are no single TCP ports: 53/udp\n"
        ) in text_of(project)

    def test_a_part_of_the_file_that_was_not_read_is_noted(self, project: Project) -> None:
        project.write("compose.yaml", "include: [more.yaml]\nservices: {}\n")

        begun(project)

        assert "# the compose file's include was not read\n" in text_of(project)

    def test_own_manifests_go_before_it(self, project: Project) -> None:
        project.write("compose.yaml", COMPOSE)
        project.write("web/Dockerfile", "FROM scratch\n")
        project.write("db/migrate.Dockerfile", "FROM scratch AS run\n")
        workload(project, "k8s/db.yaml", "db", "quay.io/postgres:16")

        tables = begun(project)

        assert tables["services"]["db"]["manifests"] == ["k8s/db.yaml"]
        assert not (project.folder / "kindinfra" / "db.yaml").exists()


class TestSkaffold:
    def test_artifacts_and_manifests(self, project: Project) -> None:
        project.write("skaffold.yaml", SKAFFOLD)
        project.write("services/api/build/Dockerfile", "FROM scratch AS run\n")
        project.write("worker/Dockerfile", "FROM ghcr.io/shop/api\n")
        workload(project, "k8s/api.yaml", "api", "ghcr.io/shop/api")
        workload(project, "other/extra.yaml", "extra", "quay.io/extra:1")

        tables = begun(project)

        assert tables["images"] == {
            "api": {
                "context": "services/api",
                "dockerfile": "services/api/build/Dockerfile",
                "target": "run",
                "build_args": {"MODE": "dev"},
                "names": ["ghcr.io/shop/api"],
            },
            "worker": {"context": "worker", "needs": ["api"]},
        }
        assert list(tables["services"]) == ["api"]
        assert "# skaffold builds old with jib" in text_of(project)
        assert "# skaffold.yaml has profiles, which were not read" in text_of(project)


class TestNothingIsWrittenOver:
    def test_a_declaration_that_is_there_is_an_error(self, project: Project) -> None:
        project.service("api")
        before = text_of(project)

        done = project.command("init")

        assert done.returncode == 1
        assert done.stderr.startswith(f"kindinfra: {project.folder} has a declaration already\n")
        assert text_of(project) == before

    def test_tests_and_manifests_that_are_there_stay(self, project: Project) -> None:
        project.write("compose.yaml", COMPOSE)
        project.write("kindinfra/db.yaml", "# mine\n")
        project.write("e2e/test_kindinfra.py", "# mine\n")
        project.write(".gitignore", "*.pyc")

        done = project.command("init")

        assert "not changed: e2e/test_kindinfra.py" in done.stdout
        assert "not changed: kindinfra/db.yaml" in done.stdout
        assert (project.folder / "e2e/test_kindinfra.py").read_text() == "# mine\n"
        assert (project.folder / "kindinfra/db.yaml").read_text() == "# mine\n"
        assert (project.folder / ".gitignore").read_text() == "*.pyc\n.kindinfra/\n"

    def test_a_file_in_the_place_of_a_folder_is_named(self, project: Project) -> None:
        """The manifest in it was called "not changed", though there was none."""
        project.write("compose.yaml", COMPOSE)
        project.write("kindinfra", "")

        done = project.command("init")

        assert done.returncode == 1
        assert "not changed" not in done.stdout
        assert done.stderr == (
            'kindinfra: "kindinfra/db.yaml" cannot be written: "kindinfra" is no folder\n'
            "To fix: make it writable, remove a kindinfra.toml that init wrote, and run it again\n"
        )

    def test_a_gitignore_that_is_a_folder_is_named(self, project: Project) -> None:
        """It was a traceback."""
        (project.folder / ".gitignore").mkdir()

        done = project.command("init")

        assert done.returncode == 1
        assert done.stderr.startswith(
            'kindinfra: ".gitignore" cannot be written: Is a directory\nTo fix: '
        )

    def test_gitignore_gets_its_line_once(self, project: Project) -> None:
        project.write(".gitignore", "/.kindinfra\n")

        done = project.command("init")

        assert "not changed: .gitignore" in done.stdout


def test_an_empty_folder_gets_an_example_in_comments(project: Project) -> None:
    assert begun(project) == {"cluster": {"namespace": "default"}}
    assert "# [services.web]" in text_of(project)


@pytest.mark.parametrize("text", ["services: [", "services: 3", "{}"])
def test_a_broken_compose_file_is_no_reason_to_stop(project: Project, text: str) -> None:
    project.write("compose.yaml", text)

    done = project.command("init")

    assert done.returncode == 0, done.stderr
