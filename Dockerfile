# The script as one file on a base that holds Node and nothing else: no shell, no package manager.

FROM node:24-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
# No install script is needed: esbuild's binary is a package of its own.
RUN --mount=type=cache,target=/npm-cache npm ci --cache /npm-cache --ignore-scripts --no-audit --no-fund
COPY figwasp.ts ./
COPY lib lib
RUN npm run build

FROM gcr.io/distroless/nodejs24-debian12:nonroot
LABEL org.opencontainers.image.title="figwasp" \
      org.opencontainers.image.description="Restarts Kubernetes workloads whose mutable image tag has moved" \
      org.opencontainers.image.source="https://github.com/figwasp/figwasp" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/dist/ /app/
# By number, so that runAsNonRoot can be checked without reading /etc/passwd.
USER 65532:65532
ENTRYPOINT ["/nodejs/bin/node", "/app/figwasp.cjs"]
