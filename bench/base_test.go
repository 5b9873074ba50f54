package main

import "testing"

// Against an older binary a case has two sides, and a row for each thing that it measures.
func TestAgainstBase(t *testing.T) {
	r := &rig{dir: "new", base: &rig{dir: "old"}}
	for _, c := range cases {
		v := againstBase(c)
		sides := v.sides(r)
		if len(sides) != 2 || sides[0].name != "fcgid" && c.name != "php-apache" || sides[1].name != "base" {
			t.Errorf("%s: sides are %+v", c.name, sides)
		}
		seen := make(map[metric]bool)
		for _, row := range v.rows {
			if seen[row.metric] || row.against != "base" {
				t.Errorf("%s: row %+v", c.name, row)
			}
			seen[row.metric] = true
		}
	}
}
