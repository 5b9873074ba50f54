package cgi

import "testing"

func TestLength(t *testing.T) {
	for header, want := range map[string]int64{
		"":                                   -1,
		"Content-Type: text/plain\r\n\r\n":   -1,
		"Content-Length: 0\r\n\r\n":          0,
		"A: b\r\ncontent-LENGTH: 17\r\n\r\n": 17,
		"Content-Length:9223372036854775807\r\n\r\n":  1<<63 - 1,
		"Content-Length: 9223372036854775808\r\n\r\n": -1,
		"Content-Length: -1\r\n\r\n":                  -1,
		"Content-Length: 1, 1\r\n\r\n":                -1,
		"X-Content-Length: 5\r\n\r\n":                 -1,
	} {
		if got := Length([]byte(header)); got != want {
			t.Errorf("%q: %d, want %d", header, got, want)
		}
	}
}
