// Package contract holds what the Go client programs share: arguments, records and the JSON they print.
package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Arguments is the parsed command line.
type Arguments struct {
	Mode, Bootstrap, Topic, Codec, Tag, Group string
	Count                                     int
}

// Record is one record as the matrix wants it printed.
type Record struct {
	P int32             `json:"p"`
	O int64             `json:"o"`
	K string            `json:"k"`
	V string            `json:"v"`
	H map[string]string `json:"h"`
	T int64             `json:"t"`
}

// Key, Value and Timestamp (milliseconds) of record i.
func (a Arguments) Key(i int) string      { return fmt.Sprintf("%s-%d", a.Tag, i) }
func (a Arguments) Value(i int) string    { return a.Key(i) + "-" + strings.Repeat("x", 100) }
func (a Arguments) Timestamp(i int) int64 { return 1700000000000 + int64(i) }

type reader func(context.Context, Arguments) ([]Record, error)

// Main runs the mode named on the command line.
func Main(produce func(context.Context, Arguments) error, consume, group reader) {
	count, err := strconv.Atoi(os.Args[4])
	fail(err)
	a := Arguments{Mode: os.Args[1], Bootstrap: os.Args[2], Topic: os.Args[3], Count: count, Codec: os.Args[5],
		Tag: os.Args[6], Group: os.Args[7]}
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	var out any
	switch a.Mode {
	case "produce":
		fail(produce(ctx, a))
		out = map[string]int{"produced": a.Count}
	case "consume", "group":
		read := consume
		if a.Mode == "group" {
			read = group
		}
		records, err := read(ctx, a)
		fail(err)
		out = map[string][]Record{"records": records}
	default:
		fail(fmt.Errorf("unknown mode %q", a.Mode))
	}
	fail(json.NewEncoder(os.Stdout).Encode(out))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
