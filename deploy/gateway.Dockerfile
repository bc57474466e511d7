# The gateway: one Recommend call becomes calls of the two services. Histories are in the volume.
#
#   docker build -f deploy/gateway.Dockerfile -t tandem-gateway .
#   docker run --init --read-only \
#     -v "$PWD/bundles:/bundles:ro" -v tandem-history:/var/lib/tandem \
#     -p 127.0.0.1:50050:50050 tandem-gateway
#
# deploy/compose.yaml runs all three. Settings are environment variables: docs/configuration.md.

# A release pins the base by its digest: docs/operations.md, Images.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN python -m venv /opt/tandem && mkdir -p /var/lib/tandem /var/lib/tandem-keys/services \
    /var/lib/tandem-keys/operator
WORKDIR /src
COPY deploy/requirements/gateway.txt requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/tandem/bin/pip install --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY core core
COPY serving serving
COPY cli cli
COPY gateway gateway
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/tandem/bin/pip install --no-deps ./protos .

FROM ${BASE}
LABEL org.opencontainers.image.title="tandem-gateway" \
      org.opencontainers.image.description="Tandem's gateway: Recommend and SimilarItems over gRPC" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY deploy/healthcheck.py /opt/tandem/
COPY --from=build /opt/tandem /opt/tandem
# A new volume takes the owner of what it is mounted on.
COPY --from=build --chown=10001:10001 /var/lib/tandem /var/lib/tandem
COPY --from=build --chown=10001:10001 /var/lib/tandem-keys /var/lib/tandem-keys
ENV PATH=/opt/tandem/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TANDEM_BUNDLE=/bundles/ml-100k/current \
    TANDEM_HOST=0.0.0.0 \
    TANDEM_PORT=50050 \
    TANDEM_HISTORY=/var/lib/tandem/history.sqlite \
    TANDEM_LOG_JSON=true
VOLUME /var/lib/tandem
USER 10001:10001
EXPOSE 50050
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/tandem/healthcheck.py"]
ENTRYPOINT ["tandem", "serve", "gateway"]
