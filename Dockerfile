# Two images from one file: the action's (the last stage, which GitHub's runner builds
# from action.yml) and the exchange's (--target exchange). Both end FROM scratch and hold
# static binaries, CA roots and nothing else. No syntax here needs BuildKit.
#
# BuildKit builds only the stages that a target needs. The classic builder builds every
# stage up to the target in the order of this file. Hence this order: --target exchange
# never compiles the action. The default target would compile the exchange on the way:
# 80 s when measured on two busy cores, beside 5 s for the action once the standard
# library is compiled. With --build-arg SKIP_EXCHANGE=true it does not.

ARG GO_IMAGE=golang:1.26

FROM ${GO_IMAGE} AS toolchain
WORKDIR /src
ENV CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="-trimpath -buildvcs=false"
COPY go.mod go.sum ./


FROM toolchain AS exchange-build
ARG SKIP_EXCHANGE=
ARG VERSION=dev
# The slowest dependency, compiled in a layer of its own: our changes do not touch it.
RUN test -n "$SKIP_EXCHANGE" || go build modernc.org/sqlite
COPY . .
RUN mkdir -p /out /data && { test -n "$SKIP_EXCHANGE" || \
    go build -ldflags "-s -w -X main.version=$VERSION" -o /out/stepkey-exchange ./cmd/stepkey-exchange; }


FROM scratch AS exchange
COPY --from=toolchain /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=exchange-build --chown=65532:65532 /data /data
COPY --from=exchange-build /out/ /
USER 65532:65532
# The configuration (stepkey.yaml) is read from here, and the paths in it are relative to
# it: with the defaults the store lands here too. Mount a durable volume.
WORKDIR /data
VOLUME /data
# The defaults listen on 127.0.0.1, which nobody outside a container reaches: set
# listen and admin in the configuration.
EXPOSE 8700 8701
ENTRYPOINT ["/stepkey-exchange"]
CMD ["serve"]


# Only what the action's binary is made of, so that nothing else makes it build again.
FROM toolchain AS action-build
COPY internal/secret internal/secret
COPY exchange/client exchange/client
COPY cmd/stepkey cmd/stepkey
# Native: a runner builds this on itself, for itself, whatever its architecture.
# One binary that knows its halves by the name it is started under. Links, so that no
# byte is stored twice.
RUN go build -ldflags "-s -w" -o /out/stepkey ./cmd/stepkey && \
    ln -s stepkey /out/main && ln -s stepkey /out/post


# No USER: GitHub's runner mounts files that belong to the runner's own user, and its
# documentation asks container actions to run as the default user, root, because no
# other could write to them.
FROM scratch AS action
COPY --from=toolchain /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=action-build /out/ /
ENTRYPOINT ["/stepkey"]
