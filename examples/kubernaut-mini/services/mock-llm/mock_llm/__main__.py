"""Starts mock-llm."""

from __future__ import annotations

import os
import time
import uuid
from http import HTTPStatus
from pathlib import Path

from kubernaut_kit import lifecycle
from kubernaut_kit.web import Answer, JsonServer, Refusal, Request, Route

from mock_llm.scenarios import Scenario, choose, parse


class MockLlm:
    """The endpoints, over a file of scenarios."""

    def __init__(self, scenarios: Path) -> None:
        self._scenarios = scenarios

    def routes(self) -> list[Route]:
        """Return every route of the service."""
        return [
            Route("GET", "/health", self.health),
            Route("POST", "/v1/chat/completions", self.complete),
        ]

    def health(self, _request: Request) -> Answer:
        """Say how many scenarios there are; a file that cannot be read is an error."""
        return Answer({"status": "healthy", "scenarios": len(self._read())})

    def complete(self, request: Request) -> Answer:
        """Answer the last message."""
        scenario = choose(self._read(), _last_message(request.body))
        return Answer(_completion(scenario.verdict()))

    def _read(self) -> tuple[Scenario, ...]:
        """Read the file again each time: the kubelet replaces it when its ConfigMap changes."""
        return parse(self._scenarios.read_text(encoding="utf-8"))


def _last_message(body: object) -> str:
    match body:
        case {"messages": [*_, {"content": str(content)}]}:
            return content
    raise Refusal(HTTPStatus.BAD_REQUEST, "there is no message to answer")


def _completion(content: str) -> dict[str, object]:
    """Return *content* as OpenAI's API has it."""
    message = {"role": "assistant", "content": content}
    return {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": "mock",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def main() -> None:
    """Serve until SIGTERM."""
    log = lifecycle.start("mock-llm")
    path = os.environ.get("SCENARIOS_PATH", "/etc/mock-llm/scenarios.json")
    server = JsonServer(8080, MockLlm(Path(path)).routes())
    log.info("serving the scenarios of %s", path)
    lifecycle.serve(server)


if __name__ == "__main__":
    main()
