// Traffic for the router's benchmark, in native code so that it is not what is measured.
//
//	traffic engine --listen 127.0.0.1:PORT      answers as a prefill and as a decode engine, with canned tokens
//	traffic streams --url URL …                 keeps streams open, one after the other in each slot
//	traffic requests --url URL …                keeps connections busy with requests that are not streamed
//
// A load writes a JSON line when its measured window begins and one when it ends; who started it reads the CPU clocks
// of the processes between the two.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"time"
)

func main() {
	commands := map[string]func([]string){"engine": runEngine, "streams": runStreams, "requests": runRequests}
	if len(os.Args) > 1 {
		if run := commands[os.Args[1]]; run != nil {
			run(os.Args[2:])
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: traffic engine|streams|requests [options]; each has --help")
	os.Exit(2)
}

// say writes one JSON line for the process that started this one.
func say(line any) {
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(1)
	}
}

// percentile returns a percentile of times, in milliseconds; it sorts them.
func percentile(times []time.Duration, share float64) float64 {
	if len(times) == 0 {
		return 0
	}
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	at := int(share * float64(len(times)-1))
	return float64(times[at]) / float64(time.Millisecond)
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "traffic: "+format+"\n", arguments...)
	os.Exit(1)
}

// waitForRelease keeps the load on until standard input closes: the process that measures has read its clocks then.
func waitForRelease() {
	_, _ = io.Copy(io.Discard, os.Stdin)
}
