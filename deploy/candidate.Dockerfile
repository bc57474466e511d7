# The candidate service: shortlists, similarity, and the catalog, whose changes are in the volume.
#
#   docker build -f deploy/candidate.Dockerfile -t tandem-candidate .
#   docker run --init --read-only \
#     -v "$PWD/bundles:/bundles:ro" -v tandem-catalog:/var/lib/tandem \
#     -p 127.0.0.1:50051:50051 tandem-candidate
#
# deploy/compose.yaml runs all three. Settings are environment variables: docs/configuration.md.

# A release pins the base by its digest: docs/operations.md, Images.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN python -m venv /opt/tandem && mkdir /var/lib/tandem
WORKDIR /src
COPY deploy/requirements/candidate.txt requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/tandem/bin/pip install --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY core core
COPY serving serving
COPY cli cli
COPY services/__init__.py services/
COPY services/candidate services/candidate
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/tandem/bin/pip install --no-deps ./protos .

FROM ${BASE}
LABEL org.opencontainers.image.title="tandem-candidate" \
      org.opencontainers.image.description="Tandem's candidate service: shortlists and similarity by vector search" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY deploy/healthcheck.py /opt/tandem/
COPY --from=build /opt/tandem /opt/tandem
# A new volume takes the owner of what it is mounted on.
COPY --from=build --chown=10001:10001 /var/lib/tandem /var/lib/tandem
ENV PATH=/opt/tandem/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TANDEM_BUNDLE=/bundles/ml-100k/current \
    TANDEM_HOST=0.0.0.0 \
    TANDEM_PORT=50051 \
    TANDEM_STORE=/var/lib/tandem/catalog.db \
    TANDEM_LOG_JSON=true
VOLUME /var/lib/tandem
USER 10001:10001
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/tandem/healthcheck.py"]
ENTRYPOINT ["tandem", "serve", "candidate"]
