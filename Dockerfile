# figwasp as one file, with what a run does not load beside it, on a base that contains only Node: no shell, no package manager.

# Builds on the machine's own platform, since the file is the same for every platform.
FROM --platform=$BUILDPLATFORM node:24-slim AS build
# An SBOM scan cannot find packages that are bundled into these files, so it scans this stage too.
ARG BUILDKIT_SBOM_SCAN_STAGE=true
WORKDIR /src
COPY package.json package-lock.json ./
# No install scripts are needed: esbuild's binary is a package of its own.
RUN --mount=type=cache,target=/npm-cache npm ci --cache /npm-cache --ignore-scripts --no-audit --no-fund
COPY build.ts figwasp.ts ./
COPY lib lib
RUN npm run build

# This stage runs no command, so that no platform has to be emulated.
FROM gcr.io/distroless/nodejs24-debian12:nonroot
# The build adds the version and the commit by --label.
LABEL org.opencontainers.image.title="figwasp" \
      org.opencontainers.image.description="Restarts Kubernetes workloads whose mutable image tag has moved" \
      org.opencontainers.image.source="https://github.com/figwasp/figwasp" \
      org.opencontainers.image.documentation="https://github.com/figwasp/figwasp#readme" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/dist/ /app/
# Numeric, so that the kubelet can check runAsNonRoot without reading /etc/passwd.
USER 65532:65532
# figwasp keeps little of a large cluster's lists. A small young generation saves a third of memory and costs no time.
ENTRYPOINT ["/nodejs/bin/node", "--max-semi-space-size=8", "/app/figwasp.cjs"]
