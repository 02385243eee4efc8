"""holmesgpt-api's HTTP interface."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
from fastapi import FastAPI, HTTPException, Request
from openai import AsyncOpenAI, OpenAIError

from holmesgpt_api.investigation import Investigator
from holmesgpt_api.schema import Analysis, Incident  # noqa: TC001 - FastAPI reads annotations
from holmesgpt_api.verdict import UnusableAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kubernaut_kit.settings import Settings

logger = logging.getLogger(__name__)

_SECONDS = 5.0
"""How long one call of another service may take; the controller's own limit is longer."""


def create_app(settings: Settings) -> FastAPI:
    """Make the application; nothing is called before the first incident."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            httpx.AsyncClient(
                base_url=settings.get("data_storage.url", str), timeout=_SECONDS
            ) as datastorage,
            AsyncOpenAI(
                base_url=settings.get("llm.base_url", str),
                api_key="none",  # the mock asks for none, the client insists on one
                timeout=_SECONDS,
                max_retries=1,
            ) as llm,
        ):
            app.state.investigator = Investigator(
                llm=llm, model=settings.get("llm.model", str), datastorage=datastorage
            )
            yield

    app = FastAPI(title="holmesgpt-api", lifespan=lifespan)
    app.get("/health")(health)
    app.post("/api/v1/incident/analyze")(analyze)
    return app


async def health() -> dict[str, str]:
    """Say that the service answers."""
    return {"status": "healthy"}


async def analyze(incident: Incident, request: Request) -> Analysis:
    """Investigate one incident. 502: the model or DataStorage is at fault, try again."""
    investigator: Investigator = request.app.state.investigator
    try:
        return await investigator.investigate(incident)
    except (OpenAIError, httpx.HTTPError, UnusableAnswerError) as error:
        logger.warning("%s: %s", incident.correlation_id, error)
        raise HTTPException(502, f"{type(error).__name__}: {error}") from error
