package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
)

var (
	title   = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Color("12"))
	chapter = lipgloss.NewStyle().Bold(true)
	good    = lipgloss.NewStyle().Foreground(lipgloss.Color("10"))
	wrong   = lipgloss.NewStyle().Foreground(lipgloss.Color("9")).Bold(true)
	quiet   = lipgloss.NewStyle().Foreground(lipgloss.Color("8"))
)

// page is where the story is told. Colours are left out where the terminal has none.
type page struct {
	out    io.Writer
	failed int
}

// column is where the second column of a line begins; width is what a line may take,
// so that the page is readable in a screenshot.
const (
	column = 21
	width  = 118
)

func (p *page) title(name, says string) {
	p.line("%s  %s\n", title.Render(name), says)
}

func (p *page) chapter(text string) { p.line("\n%s\n", chapter.Render(text)) }

// told is one line of the story: what was to happen, what did, and whether that is
// as it should be.
func (p *page) told(ok bool, what, happened string) {
	mark := good.Render("✓")
	if !ok {
		mark = wrong.Render("✗")
		p.failed++
	}
	indent := strings.Repeat(" ", 4+column)
	p.line("  %s %-*s%s\n", mark, column, what, strings.Join(wrap(happened, width-len(indent)), "\n"+indent))
}

func (p *page) table(headers []string, rows [][]string) {
	t := table.New().Headers(headers...).Rows(rows...).Border(lipgloss.NormalBorder()).BorderStyle(quiet).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).BorderColumn(false).
		StyleFunc(func(row, _ int) lipgloss.Style {
			if row == table.HeaderRow {
				return chapter.PaddingRight(2)
			}
			return lipgloss.NewStyle().PaddingRight(2)
		})
	p.line("%s\n", "  "+strings.ReplaceAll(t.Render(), "\n", "\n  "))
}

func (p *page) line(format string, args ...any) { _, _ = lipgloss.Fprintf(p.out, format, args...) }

// wrap breaks text at spaces into lines of at most limit characters.
func wrap(text string, limit int) []string {
	lines, line := []string{}, ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > limit {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func cut(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + "…"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
