module github.com/fcgid/fcgid/bench

go 1.26.0
