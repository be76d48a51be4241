# syntax=docker/dockerfile:1
# The front end: HTTP and the queue, no torch, no GPU. Build from the checkout's root:
#   docker build -f docker/frontend.Dockerfile -t reelq-frontend .

FROM python:3.12-slim-trixie AS base
ENV PATH=/opt/reelq/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

FROM base AS dependencies
WORKDIR /src
COPY pyproject.toml constraints.txt docker/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/reelq \
    && python requirements.py postgres s3 otel > requirements.txt \
    && pip install -c constraints.txt -r requirements.txt

FROM dependencies AS wheel
COPY README.md LICENSE ./
COPY app app
COPY scheduler scheduler
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --no-deps --wheel-dir /dist .

FROM base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="reelq front end" \
      org.opencontainers.image.description="HTTP API and queue of reelq, asynchronous image-to-video jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# A new named volume takes its owner from the folder it covers. Both images use one id, for they share the blobs.
RUN groupadd --gid 10001 reelq \
    && useradd --uid 10001 --gid reelq --home-dir /data --shell /usr/sbin/nologin reelq \
    && install -d -o reelq -g reelq -m 0750 /data /blobs
COPY --from=dependencies /opt/reelq /opt/reelq
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install --no-cache-dir --no-index --no-deps /dist/*.whl
# It refuses to listen beyond loopback without API keys, unless REELQ_TRUSTED_NETWORK says who can reach it.
ENV REELQ_HOST=0.0.0.0 \
    REELQ_PORT=8000 \
    REELQ_DATA_DIR=/data \
    REELQ_BLOB_URL=file:///blobs
USER reelq
WORKDIR /data
EXPOSE 8000
# http.client, because urllib would ask a proxy where the environment names one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; server = http.client.HTTPConnection('127.0.0.1', int(os.environ['REELQ_PORT']), timeout=3); server.request('GET', '/healthz'); sys.exit(server.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["reelq"]
CMD ["serve"]
