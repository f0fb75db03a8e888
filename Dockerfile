# An image that serves /models: the binary, ONNX Runtime in ../lib from it, CA certificates, and nothing else.
#
#   docker build --tag onnxd .
#   docker run --rm --read-only --publish 8000-8002:8000-8002 --volume "$PWD/models:/models:ro" onnxd
#
# The base images are pinned by tag. A digest pins what a tag stands for too: `docker buildx imagetools inspect IMAGE` shows
# it, and IMAGE@sha256:... goes into the two lines below, or into --build-arg.
ARG BUILD_IMAGE=rust:1.95.0-slim-trixie
# The final stage runs no command. So an image without a shell will do, if it has Debian 13's glibc and libstdc++:
# --build-arg RUNTIME_IMAGE=gcr.io/distroless/cc-debian13
ARG RUNTIME_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
# pip is what the build brings ONNX Runtime with, pinned by SHA-256. A mirror has one version of a package only: to name
# versions here would be to fail tomorrow.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir /empty
WORKDIR /onnxd
COPY . .
ENV ONNXD_CACHE_DIR=/cache
# Symbols stay, for backtraces; the line tables that go are four fifths of the file.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/onnxd/target,sharing=locked \
    cargo build --release --locked --package onnxd \
    && strip --strip-debug -o /usr/local/bin/onnxd target/release/onnxd
# --build-arg GPUS=cuda has ONNX Runtime for NVIDIA GPUs in the place of that for CPUs, with CUDA's libraries and cuDNN: docs/gpu.md.
ARG GPUS=
RUN [ -z "$GPUS" ] || { rm -r /cache/onnxruntime-* && onnxd runtime install "--$GPUS"; }

FROM ${RUNTIME_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /cache/onnxruntime-*/*L[Ii][Cc]* /cache/onnxruntime-*/ThirdPartyNotices.txt /usr/local/share/doc/onnxruntime/
COPY --from=build /onnxd/LICENSE /usr/local/share/doc/onnxd/
COPY --from=build --chown=1000:1000 /empty/ /var/lib/onnxd/
COPY --from=build /cache/onnxruntime-*/lib*.so* /usr/local/lib/
COPY --from=build /usr/local/bin/onnxd /usr/local/bin/

# By number: that it is not root can be seen without looking into /etc/passwd.
USER 1000:1000
# The one place that is written to; with a read-only root it is all that has to be a volume.
ENV ONNXD_STATE_DIR=/var/lib/onnxd
VOLUME ["/var/lib/onnxd"]
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/usr/local/bin/onnxd", "health"]
ENTRYPOINT ["/usr/local/bin/onnxd"]
CMD ["serve", "/models"]

# Last: they change with every commit.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="onnxd" \
    org.opencontainers.image.description="Inference server for ONNX models" \
    org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
