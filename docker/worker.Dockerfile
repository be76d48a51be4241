# syntax=docker/dockerfile:1
# A worker: owns the GPUs that it is given. Build from the checkout's root:
#   docker build -f docker/worker.Dockerfile -t reelq-worker .
# The host brings the NVIDIA driver and container toolkit. torch's wheel brings its own CUDA libraries, so the small
# `base` flavour of the CUDA image is enough; the `runtime` one holds gigabytes of them a second time.

FROM nvidia/cuda:13.0.2-base-ubuntu24.04 AS base
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3.12 python3.12-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/reelq/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

FROM base AS dependencies
WORKDIR /src
COPY constraints.txt ./
# torch by itself: its layer, the largest, stays while other requirements change.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3.12 -m venv /opt/reelq \
    && pip install -c constraints.txt "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml docker/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python requirements.py worker postgres s3 otel > requirements.txt \
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
LABEL org.opencontainers.image.title="reelq worker" \
      org.opencontainers.image.description="GPU worker of reelq, asynchronous image-to-video jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# A new named volume takes its owner from the folder it covers. Both images use one id, for they share the blobs.
RUN groupadd --gid 10001 reelq \
    && useradd --uid 10001 --gid reelq --home-dir /data --shell /usr/sbin/nologin reelq \
    && install -d -o reelq -g reelq -m 0750 /data /blobs /models
COPY --from=dependencies /opt/reelq /opt/reelq
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install --no-cache-dir --no-index --no-deps /dist/*.whl
ENV REELQ_DATA_DIR=/data \
    REELQ_BLOB_URL=file:///blobs \
    HF_HOME=/models
USER reelq
WORKDIR /data
# The supervisor's order to checkpoint, release and leave; give it time (stop_grace_period, terminationGracePeriodSeconds).
STOPSIGNAL SIGTERM
ENTRYPOINT ["reelq-worker"]
