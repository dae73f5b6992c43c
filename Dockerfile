# Two images. The last target is Baton itself (operator, router, sim); `--target engine-sim` is the simulated engine,
# an image with an executable `vllm` for pods that run without an accelerator.
# Any Python of 3.11 or later with pip and venv will do as BASE, but it must be the same for all stages.
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1
RUN python3 -m venv --without-pip /opt/baton && python3 -m venv /opt/build
# No dependency is compiled here: what has no wheel for this platform fails the build.
COPY requirements.lock requirements-dev.lock ./
RUN /opt/build/bin/pip --python /opt/baton/bin/python install --only-binary=:all: --require-hashes -r requirements.lock
# The build backend as locked, with what it needs.
RUN awk '/^[a-z]/ {wanted = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} wanted' requirements-dev.lock \
      >build.lock && \
    /opt/build/bin/pip install --only-binary=:all: --require-hashes -r build.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . && \
    /opt/build/bin/pip --python /opt/baton/bin/python install --no-deps --no-index /dist/*.whl && \
    /opt/baton/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/baton/lib

FROM ${BASE} AS runtime
COPY --from=build /opt/baton /opt/baton
ARG VERSION=dev
LABEL org.opencontainers.image.title="Baton" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# Without an entry for the user its group would be root's.
RUN echo 'baton:x:65532:65532::/nonexistent:/usr/sbin/nologin' >>/etc/passwd && echo 'baton:x:65532:' >>/etc/group
# Nothing is ever written: byte code is there already, and no command needs a home directory. kopf asks for the name of
# its user, which has none if a cluster chooses the number.
ENV PATH=/opt/baton/bin:$PATH HOME=/nonexistent USER=baton PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /
USER 65532:65532

FROM runtime AS engine-sim
USER 0:0
RUN printf '%s\n' '#!/opt/baton/bin/python' 'from baton.cli.vllm import main' 'main()' >/usr/local/bin/vllm && \
    chmod 755 /usr/local/bin/vllm && \
    for program in awk bash getent sleep; do command -v "$program" || exit 1; done
USER 65532:65532
ENTRYPOINT ["vllm"]
CMD ["--help"]

FROM runtime AS baton
ENTRYPOINT ["baton"]
CMD ["--help"]
