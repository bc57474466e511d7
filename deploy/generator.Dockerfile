# The generator service: reranks and generates with the P5 model.
#
#   docker build -f deploy/generator.Dockerfile -t tandem-generator .
#   docker run --init --read-only \
#     -v "$PWD/bundles:/bundles:ro" -p 127.0.0.1:50052:50052 tandem-generator
#
# deploy/compose.yaml runs all three. Settings are environment variables: docs/configuration.md.

# A release pins the base by its digest: docs/operations.md, Images.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN python -m venv /opt/tandem
WORKDIR /src
COPY deploy/requirements/generator.txt requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/tandem/bin/pip install --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY core core
COPY serving serving
COPY cli cli
COPY services/__init__.py services/
COPY services/generator services/generator
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/tandem/bin/pip install --no-deps ./protos .

FROM ${BASE}
LABEL org.opencontainers.image.title="tandem-generator" \
      org.opencontainers.image.description="Tandem's generator service: constrained decoding of a P5 model" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY deploy/healthcheck.py /opt/tandem/
COPY --from=build /opt/tandem /opt/tandem
ENV PATH=/opt/tandem/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TANDEM_BUNDLE=/bundles/ml-100k/current \
    TANDEM_HOST=0.0.0.0 \
    TANDEM_PORT=50052 \
    TANDEM_LOG_JSON=true
USER 10001:10001
EXPOSE 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/tandem/healthcheck.py"]
ENTRYPOINT ["tandem", "serve", "generator"]
