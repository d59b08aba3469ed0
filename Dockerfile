# syntax=docker/dockerfile:1
# Build: docker build -t reprise .
# Run:   docker run -p 6432:6432 -p 9432:9432 -v "$PWD/config.toml:/etc/reprise/config.toml:ro" reprise

FROM rust:1-slim-bookworm AS builder
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin reprise

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --shell /usr/sbin/nologin reprise
COPY --from=builder /build/target/release/reprise /usr/local/bin/reprise
COPY config.toml /etc/reprise/config.toml

USER reprise
EXPOSE 6432 9432
HEALTHCHECK --interval=5s --timeout=2s --start-period=5s \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:9432/healthz"]
# In a container the loopback address would be reachable for nobody.
ENTRYPOINT ["reprise", "--config", "/etc/reprise/config.toml", "--listen", "0.0.0.0:6432", "--http", "0.0.0.0:9432"]
