# The controller's image: Python, the packages of requirements.lock, the C libraries that these load, and nothing else.
#
#   make image                  says what to type, and how the result is checked: docs/image.md
#
# BASE brings Python, pip and venv, glibc, ldd and ldconfig: any Debian with Python 3.11 or newer. No part of it but
# the files that deploy/image/assemble.py names reaches the image: no shell, no pip, no package manager. A tag moves as
# its base is patched; name a digest (BASE=python@sha256:...) where two builds on two days must be the same.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build

# Where there is a mirror or an authority of one's own, pip alone hears of it: no layer holds a trace.
COPY deploy/image/requirements-build.lock requirements.lock ./
RUN --mount=type=secret,id=pip,required=false --mount=type=secret,id=authorities,required=false \
    export PIP_CONFIG_FILE=/run/secrets/pip \
    && if [ -f /run/secrets/authorities ]; then export PIP_CERT=/run/secrets/authorities; fi \
    && python3 -m venv tools \
    && tools/bin/pip install --no-cache-dir --no-compile --only-binary :all: --require-hashes \
        --requirement requirements-build.lock \
    && tools/bin/pip install --no-cache-dir --no-compile --only-binary :all: --require-hashes --no-deps \
        --requirement requirements.lock --target packages --report locked.json

COPY pyproject.toml README.md ./source/
COPY controller ./source/controller/
COPY deploy/image/assemble.py deploy/image/sbom.py ./deploy/image/
ARG SOURCE_DATE_EPOCH=0
# the order of a set decides the bytes of compiled code
RUN export SOURCE_DATE_EPOCH PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 \
    && tools/bin/pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir wheels ./source \
    && tools/bin/pip install --no-cache-dir --no-compile --no-deps --no-index --target packages --report ours.json \
        wheels/*.whl \
    && python3 -m deploy.image.assemble --packages packages --root /image --report locked.json --report ours.json

FROM scratch
ARG VERSION=0
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="auto-advance" \
      org.opencontainers.image.description="Advances a canary's share of traffic step by step while Prometheus proves it good, and takes it to zero when it is proven bad." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
ENV PATH=/usr/local/bin:/usr/bin \
    LANG=C.UTF-8
COPY --from=build /image/ /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/auto-advance"]
