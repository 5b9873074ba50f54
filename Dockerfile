# The image holds the daemon and nothing else: no shell, no interpreter. Copy
# the binary into an image that has your programs,
#
#   COPY --from=fcgid /usr/bin/fcgid /usr/bin/fcgid
#
# or derive from this one and add statically linked programs.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /fcgid ./cmd/fcgid
# Bodies that leave memory are spooled in /tmp, by whatever user.
RUN mkdir -p /rootfs/tmp && chmod 1777 /rootfs/tmp
# There are no users here but the one who starts it.
RUN mkdir -p /rootfs/etc/fcgid && sed -E 's/^( *(user|group):) [a-z-]+ /\1 "" /' configs/fcgid.yaml >/rootfs/etc/fcgid/fcgid.yaml

FROM scratch
COPY --from=build /fcgid /usr/bin/fcgid
COPY --from=build /rootfs/ /
USER 65534:65534
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/fcgid"]
CMD ["serve"]
