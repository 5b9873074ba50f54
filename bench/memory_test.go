package main

import (
	"os"
	"testing"
)

func TestProportionalSize(t *testing.T) {
	if n, err := proportionalSize(os.Getpid()); err != nil || n < 1 || n > 10_000 {
		t.Errorf("%v MiB, %v", n, err)
	}
	if n, err := sizeIn("Rss:  1 kB\nPss:     2048 kB\nPss_Anon:  3 kB\n", "Pss:"); n != 2048 || err != nil {
		t.Errorf("%v, %v", n, err)
	}
	if _, err := sizeIn("Rss: 1 kB\n", "Pss:"); err == nil {
		t.Error("no error")
	}
}
