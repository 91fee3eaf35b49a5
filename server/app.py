"""The whole application as a function of its settings; nothing else knows all its parts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp

from graph import manifest
from graph.asgi import GraphQLApp
from graph.documents import NO_DOCUMENTS
from graph.limits import Limits
from graph.manifest import ManifestError
from graph.schema import build_schema
from rest_compat import routes
from server.handbook.page import handbook
from server.metrics import Metrics
from server.middleware import middleware
from server.playground.page import Playground
from server.services import Process
from server.settings import Settings, SettingsError
from server.web.page import Console


def create_app(settings: Settings, process: Process | None = None) -> Starlette:
    """Ready to be served. Two of them can live in one process. Raises SettingsError."""
    process = process or Process(settings)
    page, console = Playground(), Console()
    graphql = _graphql(settings, process, page)
    metrics = Metrics(process, graphql)
    process.goodbyes.append(graphql.close)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with process.running(), metrics.siblings.listening():
            yield
            await process.part()

    return Starlette(
        routes=[
            Route("/", console),
            Mount("/console", console.files),
            Route("/graphql", graphql),
            WebSocketRoute("/graphql", graphql),
            Mount("/playground", page),
            Mount("/docs", handbook()),
            Route("/metrics", metrics.answer),
            *routes.routes(process.services),
        ],
        middleware=middleware(
            body_limit=settings.body_limit,
            body_timeout=settings.body_timeout,
            cors_origins=settings.cors_origins,
            streamed=routes.STREAMED,
            meter=process.services.meter,
            trace=process.services.trace,
        ),
        lifespan=lifespan,
        exception_handlers=routes.exception_handlers(),
    )


def _graphql(settings: Settings, process: Process, page: ASGIApp) -> GraphQLApp:
    """Raises SettingsError when the persisted documents cannot be read or do not fit the schema."""
    path = settings.persisted_documents
    try:
        return GraphQLApp(
            build_schema(),
            process.services,
            limits=Limits(),
            playground=page,
            allowed_origins=settings.cors_origins,
            manifest=manifest.read(path) if path is not None else NO_DOCUMENTS,
            is_manifest_all=settings.persisted_only,
        )
    except ManifestError as error:
        raise SettingsError(f"PERSISTED_DOCUMENTS: {error}") from error
