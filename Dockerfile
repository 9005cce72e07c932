# syntax=docker/dockerfile:1

# mimalloc is C: the slim image of Rust has the gcc and libc6-dev that it needs.
FROM rust:1.95-slim-bookworm AS builder
WORKDIR /build

# Dependencies in a layer of their own: it stays until a manifest or the lock
# file changes. Cargo wants every target that a manifest names, also those of
# the load generator, so each gets an empty file. The other crates of the
# house change rarely and are built here for good.
COPY Cargo.toml Cargo.lock ./
COPY loadgen/Cargo.toml loadgen/
COPY crates crates
RUN mkdir -p src benches loadgen/src \
    && benches="$(sed -n '/^\[\[bench]]/{n;s/^name = "\(.*\)"$/benches\/\1.rs/p}' Cargo.toml)" \
    && for main in src/main.rs loadgen/src/main.rs $benches; \
        do echo 'fn main() {}' >"$main"; done \
    && touch src/lib.rs \
    && cargo build --release --locked --bin shardcast

# The sources may be older than the empty files, and cargo goes by time.
COPY src src
COPY console/dist console/dist
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin shardcast

# Debian rather than a distroless image: the same glibc as the builder's from
# the same source of images, and a shell for whoever must look inside. Nothing
# is installed: the binary needs libc and libgcc alone, and is its own health
# check.
FROM debian:bookworm-slim

# Whoever builds a release says which: --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD)
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE
LABEL org.opencontainers.image.title="shardcast" \
    org.opencontainers.image.description="An in-memory publish/subscribe broker over WebSockets" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.base.name="debian:bookworm-slim"

COPY --from=builder /build/target/release/shardcast /usr/local/bin/shardcast

# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM

# It reads HOST and PORT as the broker does: set them as variables, not as
# flags. It gives up by itself after 3 seconds.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
    CMD ["shardcast", "health"]

# The exec form makes the broker PID 1, where SIGTERM finds it.
ENTRYPOINT ["shardcast"]
