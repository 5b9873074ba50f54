# make          builds ./fcgid
# make run      builds and serves the samples at http://127.0.0.1:8080/
# make test     installs what the tests need (Debian packages), runs them all
# make test-lossless  20 upgrades and 100 reloads under 200 clients through nginx: no request may fail (a minute)
# make test-systemd  installs fcgid on a Debian of its own, which it makes and boots (root; half a minute)
# make test-vm  runs the tests of cgroups in a machine that qemu emulates (Debian packages; half a minute)
# make test-apps  runs WordPress, DokuWiki, public-inbox (compared with php-fpm and Plack) and hgweb, from Debian packages
# make check    what else guards the tree: format, vet, staticcheck, go.mod
# make fuzz     runs each fuzz test for FUZZTIME
# make bench    compares fcgid with its peers (Debian packages) and prints ratios: docs/performance.md
# make bench-go runs the benchmarks of single functions
# make install  binary, systemd units, logrotate's file, and a configuration if there is none yet
# make uninstall  all of them but the configuration
#
# install and uninstall take DESTDIR, PREFIX, SYSCONFDIR and UNITDIR; the units name the paths.

GO       ?= go
FUZZTIME ?= 30s
# A build from an archive has no history to take the commit from.
LDFLAGS  ?= -s -w

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
# systemd looks for units in /usr/local/lib and /usr/lib; for another PREFIX name a folder that it knows.
UNITDIR    ?= $(PREFIX)/lib/systemd/system

STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0

.PHONY: all build run test test-unit test-e2e test-apps test-lossless test-systemd test-vm test-packages check fuzz bench bench-go install uninstall clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o fcgid ./cmd/fcgid

run: build
	./fcgid dev

test: test-packages test-unit test-e2e test-apps
	scripts/test-systemd --if-possible

test-packages:
	scripts/test-packages

test-unit:
	$(GO) test -race ./...
	$(GO) test -race ./internal/server -inplace
	$(GO) test -run '^TestAllocations' ./...
	$(GO) test -C bench -race ./...

# The race detector's build makes other system calls than the one that users get.
test-e2e:
	$(GO) test -tags e2e -timeout 10m ./e2e
	$(GO) test -race -tags e2e -timeout 10m ./e2e

test-apps:
	scripts/test-packages nginx-light apache2-bin php-cgi php-fpm php-mysql php-gd php-xml mariadb-server \
		wordpress wordpress-theme-twentytwentythree dokuwiki public-inbox libplack-perl libfcgi-procmanager-perl git mercurial
	$(GO) test -tags apps -timeout 15m ./e2e/apps

test-lossless:
	scripts/test-packages gcc libc6-dev libfcgi-dev nginx-light
	FCGID_TEST_LOSSLESS=1 $(GO) test -tags e2e -timeout 15m -v -run '^TestLossless$$' ./e2e

# ARGS: -v, -run REGEXP
test-systemd:
	scripts/test-systemd $(ARGS)

# ARGS: -test.v, -test.run=REGEXP
test-vm:
	scripts/test-vm $(ARGS)

check:
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e ./e2e
	$(GO) vet -tags apps ./e2e/apps
	$(GO) vet -tags systemd ./e2e/systemd
	$(GO) vet -tags vm ./e2e/vm
	GOARCH=arm $(GO) vet ./...
	$(GO) vet -C bench ./...
	$(GO) mod tidy -diff
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags e2e ./e2e
	$(STATICCHECK) -tags apps ./e2e/apps
	$(STATICCHECK) -tags systemd ./e2e/systemd
	$(STATICCHECK) -tags vm ./e2e/vm
	cd bench && $(STATICCHECK) ./...

fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
		done; \
	done

# BENCH_ARGS: --only REGEXP, --pairs N, --duration D, --json, --list, --write docs/performance.md
bench: build
	bench/packages
	$(GO) build -C bench -o bench .
	bench/bench --fcgid ./fcgid $(BENCH_ARGS)

bench-go:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# What install takes; make builds the one here.
BINARY ?= fcgid

UNITS = fcgid.service fcgid@.service fcgid.socket

# Modes do not depend on the umask: install sets them, also of the folders that it makes.
install:
	@test -x $(BINARY) || { echo "run make first"; exit 1; }
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/fcgid
	install -D -m 0644 deploy/systemd/hardened.conf $(DESTDIR)$(PREFIX)/share/fcgid/hardened.conf
	install -D -m 0644 deploy/logrotate/fcgid $(DESTDIR)$(SYSCONFDIR)/logrotate.d/fcgid
	@for unit in $(UNITS); do \
		echo "install $(DESTDIR)$(UNITDIR)/$$unit"; \
		sed -e 's|/usr/local/bin/|$(PREFIX)/bin/|' -e 's|/etc/fcgid/|$(SYSCONFDIR)/fcgid/|' deploy/systemd/$$unit | \
			install -D -m 0644 /dev/stdin $(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	done
	test -e $(DESTDIR)$(SYSCONFDIR)/fcgid/fcgid.yaml || \
		install -D -m 0644 configs/fcgid.yaml $(DESTDIR)$(SYSCONFDIR)/fcgid/fcgid.yaml

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/fcgid $(DESTDIR)$(SYSCONFDIR)/logrotate.d/fcgid
	rm -f $(UNITS:%=$(DESTDIR)$(UNITDIR)/%)
	rm -rf $(DESTDIR)$(PREFIX)/share/fcgid

clean:
	rm -f fcgid bench/bench
