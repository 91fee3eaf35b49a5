# The server in a small image: docker build -t loquent .
# Nothing of the build's tools is in it, it runs as nobody in particular, and it needs to write nowhere but to /data.

FROM node:20-slim AS assets
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Makefile ./
COPY playground playground
COPY server/playground server/playground
RUN make assets

FROM python:3.11-slim AS build
RUN python -m venv /loquent
WORKDIR /source
# First what changes seldom, so that it is not done again each time.
COPY requirements.lock ./
RUN /loquent/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY . .
COPY --from=assets /source/server/playground/built server/playground/built
RUN /loquent/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /loquent/bin/pip uninstall --yes pip hatchling

FROM python:3.11-slim
RUN groupadd --gid 10001 loquent \
    && useradd --uid 10001 --gid loquent --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin loquent \
    && install --directory --owner loquent --group loquent --mode 0700 /data
COPY --from=build /loquent /loquent
ENV PATH=/loquent/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    LOQUENT_DATA=/data \
    LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["loquent"]
CMD ["serve"]
