// Package plural writes numbers of things for people.
package plural

import "fmt"

// Of is "1 pool", "2 pools" or "0 pools": the noun is given for one.
func Of[N ~int | ~int32 | ~int64 | ~uint32 | ~uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
