// Package tap prints what tests found as the Test Anything Protocol has it.
//
// runtime-tools' programs import this of github.com/mndrix/tap-go, which Debian does not package. This is as much of it
// as they call, with the same names.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T counts the results of one program.
type T struct {
	count *int
	todo  bool
}

// New begins at zero.
func New() *T { return &T{count: new(int)} }

// Header says how many results there will be; zero, and the plan comes last (AutoPlan).
func (t *T) Header(count int) {
	fmt.Println("TAP version 13")
	if count > 0 {
		fmt.Printf("1..%d\n", count)
	}
}

// AutoPlan says how many results there were.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", *t.count) }

// Ok is one result.
func (t *T) Ok(good bool, what string) {
	*t.count++
	word, todo := "ok", ""
	if !good {
		word = "not ok"
	}
	if t.todo {
		todo = " # TODO"
	}
	fmt.Printf("%s %d - %s%s\n", word, *t.count, what, todo)
}

// Pass is a good one.
func (t *T) Pass(what string) { t.Ok(true, what) }

// Fail is a bad one.
func (t *T) Fail(what string) { t.Ok(false, what) }

// Skip is so many that were not looked for.
func (t *T) Skip(count int, why string) {
	for i := 0; i < count; i++ {
		*t.count++
		fmt.Printf("ok %d # SKIP %s\n", *t.count, why)
	}
}

// Todo gives a T whose bad results are none.
func (t *T) Todo() *T { return &T{count: t.count, todo: true} }

// Diagnostic is a remark.
func (t *T) Diagnostic(text string) {
	fmt.Println("# " + strings.Replace(text, "\n", "\n# ", -1))
}

// Diagnosticf is one with a format.
func (t *T) Diagnosticf(format string, args ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, args...))
}

// YAML is what else is known of the last result. (JSON is YAML.)
func (t *T) YAML(what interface{}) error {
	text, err := json.MarshalIndent(what, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", text)
	return nil
}
