package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var done = []byte("data: [DONE]\n\n")

// target is where a load goes: a router, or, when there is a prefill address, straight to both engines in turn, which
// is what the best router could do.
type target struct {
	client  *http.Client
	url     string
	prefill string
	body    string
}

func newTarget(url, prefill, body string, connections int) *target {
	transport := &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}
	return &target{&http.Client{Transport: transport}, url, prefill, body}
}

func (target *target) post(ctx context.Context, url, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := target.client.Do(request)
	if err == nil && response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		return nil, fmt.Errorf("status %d: %.200s", response.StatusCode, text)
	}
	return response, err
}

// ask returns the answer's body, with the prefill call before it when the load goes straight to the engines.
func (target *target) ask(ctx context.Context) (io.ReadCloser, error) {
	if target.prefill != "" {
		response, err := target.post(ctx, target.prefill, `{"do_remote_decode":true,`+target.body[1:])
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	response, err := target.post(ctx, target.url, target.body)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// requestBody renders a chat request whose prompt has so many bytes.
func requestBody(promptBytes, tokens int, stream bool) string {
	return fmt.Sprintf(
		`{"model":"m","messages":[{"role":"user","content":"%s"}],"max_tokens":%d,"stream":%t}`,
		strings.Repeat("x", promptBytes), tokens, stream)
}

// times collects durations from many goroutines while `measuring`.
type times struct {
	measuring atomic.Bool
	mutex     sync.Mutex
	taken     []time.Duration
	failed    atomic.Int64
	first     atomic.Pointer[string]
}

func (times *times) add(duration time.Duration) {
	if times.measuring.Load() {
		times.mutex.Lock()
		times.taken = append(times.taken, duration)
		times.mutex.Unlock()
	}
}

func (times *times) fail(err error) {
	times.failed.Add(1)
	text := err.Error()
	times.first.CompareAndSwap(nil, &text)
}

func (times *times) report(extra map[string]any) {
	times.mutex.Lock()
	defer times.mutex.Unlock()
	extra["count"] = len(times.taken)
	extra["p50_ms"] = percentile(times.taken, 0.5)
	extra["p99_ms"] = percentile(times.taken, 0.99)
	extra["failed"] = times.failed.Load()
	if text := times.first.Load(); text != nil {
		extra["failure"] = *text
	}
	say(extra)
}

// runStreams keeps `streams` streams open and measures the time to the first token of those begun in the window.
func runStreams(arguments []string) {
	flags := flag.NewFlagSet("streams", flag.ExitOnError)
	url := flags.String("url", "", "where to send requests")
	prefill := flags.String("prefill", "", "a prefill engine to ask first, when the URL is a decode engine's")
	streams := flags.Int("streams", 150, "streams at a time")
	tokens := flags.Int("tokens", 200, "tokens of a stream")
	window := flags.Duration("window", 3*time.Second, "measured time")
	ramp := flags.Duration("ramp", time.Second, "time in which the streams begin")
	_ = flags.Parse(arguments)
	goal := newTarget(*url, *prefill, requestBody(1000, *tokens, true), *streams)
	ctx, cancel := context.WithCancel(context.Background())
	var firsts times
	var chunks atomic.Int64
	var workers sync.WaitGroup
	for number := range *streams {
		workers.Add(1)
		go func() {
			defer workers.Done()
			time.Sleep(*ramp * time.Duration(number) / time.Duration(*streams))
			for ctx.Err() == nil {
				if err := readStream(ctx, goal, &firsts, &chunks); err != nil && ctx.Err() == nil {
					firsts.fail(err)
					time.Sleep(10 * time.Millisecond)
				}
			}
		}()
	}
	time.Sleep(*ramp + *ramp/2)
	before, began := chunks.Load(), time.Now()
	firsts.measuring.Store(true)
	say(map[string]string{"event": "begin"})
	time.Sleep(*window)
	counted, seconds := chunks.Load()-before, time.Since(began).Seconds()
	firsts.measuring.Store(false)
	firsts.report(map[string]any{"event": "end", "chunks": counted, "seconds": seconds})
	waitForRelease()
	cancel()
	workers.Wait()
}

func readStream(ctx context.Context, goal *target, firsts *times, chunks *atomic.Int64) error {
	began := time.Now()
	body, err := goal.ask(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	buffer := make([]byte, 16384)
	var tail []byte
	isFirst := true
	for {
		count, err := body.Read(buffer)
		if count > 0 {
			if isFirst {
				firsts.add(time.Since(began))
				isFirst = false
			}
			chunks.Add(int64(bytes.Count(buffer[:count], []byte("data: "))))
			tail = append(tail[:0], buffer[max(0, count-len(done)):count]...)
		}
		if errors.Is(err, io.EOF) {
			if !bytes.Equal(tail, done) {
				return errors.New("a stream ended without [DONE]")
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// runRequests keeps connections busy with requests that are not streamed, one after the other on each.
func runRequests(arguments []string) {
	flags := flag.NewFlagSet("requests", flag.ExitOnError)
	url := flags.String("url", "", "where to send requests")
	prefill := flags.String("prefill", "", "a prefill engine to ask first, when the URL is a decode engine's")
	connections := flags.Int("connections", 32, "connections")
	promptBytes := flags.Int("prompt-bytes", 1000, "bytes of a prompt")
	window := flags.Duration("window", 3*time.Second, "measured time")
	_ = flags.Parse(arguments)
	goal := newTarget(*url, *prefill, requestBody(*promptBytes, 5, false), *connections)
	ctx, cancel := context.WithCancel(context.Background())
	var took times
	var workers sync.WaitGroup
	for range *connections {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for ctx.Err() == nil {
				began := time.Now()
				if body, err := goal.ask(ctx); err == nil {
					_, _ = io.Copy(io.Discard, body)
					body.Close()
					took.add(time.Since(began))
				} else if ctx.Err() == nil {
					took.fail(err)
					time.Sleep(10 * time.Millisecond)
				}
			}
		}()
	}
	time.Sleep(500 * time.Millisecond)
	took.measuring.Store(true)
	say(map[string]string{"event": "begin"})
	began := time.Now()
	time.Sleep(*window)
	took.measuring.Store(false)
	took.report(map[string]any{"event": "end", "seconds": time.Since(began).Seconds()})
	waitForRelease()
	cancel()
	workers.Wait()
}
