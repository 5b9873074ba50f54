# make          builds ./fcgid, and in build/ its manual pages and completion
# make run      builds and serves the samples at http://127.0.0.1:8080/
# make test     installs what the tests need (Debian packages), runs them all
# make test-docs  runs what README and docs tell to write, and looks at their links and at the pages made from the code
# make test-lossless  20 upgrades and 100 reloads under 200 clients through nginx: no request may fail (a minute)
# make test-soak  has two processes under good and hostile clients, reloads and bad programs for SOAK, 15m: nothing may grow (root)
# make test-systemd  installs fcgid on a Debian of its own, which it makes and boots (root; half a minute)
# make test-vm  runs the tests of cgroups in a machine that qemu emulates (Debian packages; half a minute)
# make test-apps  runs WordPress, DokuWiki, public-inbox (compared with php-fpm and Plack) and hgweb, from Debian packages
# make docs     makes the table of keys in docs/configuration.md anew
# make screenshots  makes the pictures of docs/ anew (two minutes)
# make check    what else guards the tree: format, vet, staticcheck, go.mod, known vulnerabilities
# make fuzz     runs each fuzz test for FUZZTIME
# make bench    compares fcgid with its peers (Debian packages) and prints ratios: docs/performance.md
# make bench-go runs the benchmarks of single functions
# make install  binary, units, manual pages, completion, sysusers.d, tmpfiles.d; configuration unless it was edited
# make uninstall  removes what install has installed, but no configuration that was edited
# make help     prints this
#
# install and uninstall take DESTDIR, PREFIX, SYSCONFDIR, UNITDIR, SYSUSERSDIR, TMPFILESDIR and MANDIR; the units name the paths.

GO       ?= go
FUZZTIME ?= 30s
SOAK     ?= 15m
# A build from an archive has no history to take the commit from.
LDFLAGS  ?= -s -w

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
# systemd looks in /usr/local/lib and /usr/lib; for another PREFIX name folders that it knows.
UNITDIR    ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
MANDIR     ?= $(PREFIX)/share/man

STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0

.PHONY: all build pages docs help run test test-unit test-docs test-e2e test-apps test-lossless test-soak test-systemd test-vm test-packages screenshots check fuzz bench bench-go install uninstall clean

all: build pages

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o fcgid ./cmd/fcgid

# For this machine, whatever the binary is for.
pages:
	GOOS= GOARCH= $(GO) run ./internal/cli/pages build

docs:
	GOOS= GOARCH= $(GO) run ./internal/cli/pages --keys

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

run: build
	./fcgid dev

test: test-packages test-unit test-docs test-e2e test-apps
	scripts/test-systemd --if-possible

test-packages:
	scripts/test-packages

test-unit:
	$(GO) test -race ./...
	$(GO) test -race ./internal/server -inplace
	$(GO) test -run '^Test(Allocations|AnswersLeaveTogether)' ./...
	$(GO) test -C bench -race ./...

# What README and docs say: links, commands, recipes, and pages that are made from the code.
test-docs:
	$(GO) test -run '^Test(Documented|Anchors|Keys|ConfigPage)' ./e2e/harness ./internal/cli/pages ./internal/pool ./internal/cli ./internal/config ./internal
	$(GO) test -tags e2e -timeout 10m -run '^TestDocumented' ./e2e

# The race detector's build makes other system calls than the one that users get. Of the
# latter, test-docs runs those of the documents.
test-e2e:
	$(GO) test -tags e2e -timeout 15m -skip '^TestDocumented' ./e2e
	$(GO) test -race -tags e2e -timeout 20m ./e2e

test-apps:
	scripts/test-packages nginx-light apache2-bin php-cgi php-fpm php-mysql php-gd php-xml mariadb-server \
		wordpress wordpress-theme-twentytwentythree dokuwiki public-inbox libplack-perl libfcgi-procmanager-perl git cgit mercurial procps openssl
	$(GO) test -tags apps -timeout 15m ./e2e/apps

test-lossless:
	scripts/test-packages gcc libc6-dev libfcgi-dev nginx-light
	FCGID_TEST_LOSSLESS=1 $(GO) test -tags e2e -timeout 15m -v -run '^TestLossless$$' ./e2e

test-soak:
	scripts/test-packages php-cgi
	FCGID_TEST_SOAK=$(SOAK) $(GO) test -count=1 -tags 'e2e soak' -timeout 60m -v -run '^TestSoak$$' ./e2e

screenshots: test-packages
	$(GO) test -count=1 -tags 'e2e screenshots' -run '^TestScreenshots$$' ./e2e

# ARGS: -v, -run REGEXP
test-systemd:
	scripts/test-systemd $(ARGS)

# ARGS: -test.v, -test.run=REGEXP
test-vm:
	scripts/test-vm $(ARGS)

check:
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags 'e2e screenshots soak' ./e2e
	$(GO) vet -tags apps ./e2e/apps
	$(GO) vet -tags systemd ./e2e/systemd
	$(GO) vet -tags vm ./e2e/vm
	GOARCH=arm $(GO) vet ./...
	$(GO) vet -C bench ./...
	$(GO) mod tidy -diff
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags 'e2e screenshots soak' ./e2e
	$(STATICCHECK) -tags apps ./e2e/apps
	$(STATICCHECK) -tags systemd ./e2e/systemd
	$(STATICCHECK) -tags vm ./e2e/vm
	cd bench && $(STATICCHECK) ./...
	scripts/vulnerabilities

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

# What install takes; make builds those here.
BINARY ?= fcgid
PAGES  ?= build

install uninstall: export BINARY := $(BINARY)
install uninstall: export PAGES := $(PAGES)
install uninstall: export DESTDIR := $(DESTDIR)
install uninstall: export PREFIX := $(PREFIX)
install uninstall: export SYSCONFDIR := $(SYSCONFDIR)
install uninstall: export UNITDIR := $(UNITDIR)
install uninstall: export SYSUSERSDIR := $(SYSUSERSDIR)
install uninstall: export TMPFILESDIR := $(TMPFILESDIR)
install uninstall: export MANDIR := $(MANDIR)

install:
	@scripts/install

uninstall:
	@scripts/install --uninstall

clean:
	rm -rf fcgid bench/bench build
