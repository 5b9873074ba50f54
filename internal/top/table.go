package top

import "github.com/charmbracelet/x/ansi"

// A line is one of the list that the user moves in. A heading has no key.
type line struct {
	key     string
	pool    string // Key of its pool
	request uint64 // that can be killed; 0 is none
	text    string // painted
	bare    string // the same, not painted
}

// selectable are the lines that can be selected.
func selectable(lines []line) (found []line) {
	for _, l := range lines {
		if l.key != "" {
			found = append(found, l)
		}
	}
	return found
}

// A cell is one field of a table.
type cell struct {
	text string
	look look
	bare string // of one that is painted already
}

// A column of a table is as wide as what stands in it, up to its maximum. Where there is
// no room for all, those go that can be spared, the last first.
type column struct {
	title   string
	max     int // 0 is none; the last column takes what is left
	isRight bool
	spare   int // 0: never goes; else the higher the sooner
}

// gap is what stands between columns.
const gap = "  "

// columnWidths are those of a table in that much room; a column that goes has 0.
func columnWidths(columns []column, rows [][]cell, room, least int) []int {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = ansi.StringWidth(c.title)
		for _, row := range rows {
			widths[i] = max(widths[i], ansi.StringWidth(row[i].plain()))
		}
		if c.max > 0 {
			widths[i] = min(widths[i], c.max)
		}
	}
	last := len(columns) - 1
	for {
		used, next := 0, -1
		for i, c := range columns {
			if i == last || widths[i] == 0 {
				continue
			}
			used += widths[i] + len(gap)
			if c.spare > 0 && (next < 0 || c.spare > columns[next].spare) {
				next = i
			}
		}
		if used+least <= room || next < 0 {
			widths[last] = max(0, room-used)
			return widths
		}
		widths[next] = 0
	}
}

func (c *cell) plain() string {
	if c.bare != "" {
		return c.bare
	}
	return c.text
}

// tableRow is a row of a table, painted and not.
func (p pen) tableRow(columns []column, widths []int, row []cell) (text, bare string) {
	first := true
	for i, c := range row {
		if widths[i] == 0 {
			continue
		}
		if !first {
			text += gap
			bare += gap
		}
		first = false
		field := fit(c.plain(), widths[i], columns[i].isRight)
		bare += field
		if c.bare != "" {
			text += c.text
		} else {
			text += p.paint(c.look, field)
		}
	}
	return text, bare
}

// heading is the first row of a table.
func (p pen) heading(columns []column, widths []int) line {
	var titles []cell
	for _, c := range columns {
		titles = append(titles, cell{text: c.title, look: strong})
	}
	text, bare := p.tableRow(columns, widths, titles)
	return line{text: text, bare: bare}
}
