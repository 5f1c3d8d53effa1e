# The script as a file, with its library beside it, on a base that holds Node and nothing else: no shell, no package manager.

# On the machine's own platform, whatever the image is for: the file is the same for all.
FROM --platform=$BUILDPLATFORM node:24-slim AS build
# Once they are in these files, no scan for an SBOM finds the packages: it is to look here too.
ARG BUILDKIT_SBOM_SCAN_STAGE=true
WORKDIR /src
COPY package.json package-lock.json ./
# No install script is needed: esbuild's binary is a package of its own.
RUN --mount=type=cache,target=/npm-cache npm ci --cache /npm-cache --ignore-scripts --no-audit --no-fund
COPY build.ts figwasp.ts ./
COPY lib lib
RUN npm run build

# Nothing runs in this stage, so that no platform has to be emulated.
FROM gcr.io/distroless/nodejs24-debian12:nonroot
# What a build knows besides, the version and the commit, it adds by --label.
LABEL org.opencontainers.image.title="figwasp" \
      org.opencontainers.image.description="Restarts Kubernetes workloads whose mutable image tag has moved" \
      org.opencontainers.image.source="https://github.com/figwasp/figwasp" \
      org.opencontainers.image.documentation="https://github.com/figwasp/figwasp#readme" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/dist/ /app/
# By number, so that runAsNonRoot can be checked without reading /etc/passwd.
USER 65532:65532
# Of the lists of a large cluster little is kept: a small nursery takes a third off the memory, and costs no time.
ENTRYPOINT ["/nodejs/bin/node", "--max-semi-space-size=8", "/app/figwasp.cjs"]
