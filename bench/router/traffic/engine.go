package main

import (
	"bytes"
	"flag"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	prefilled = `{"id":"p","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant",` +
		`"content":"x"},"finish_reason":"length"}],"usage":{"prompt_tokens":250,"completion_tokens":1,"total_tokens":251},` +
		`"kv_transfer_params":{"do_remote_prefill":true,"do_remote_decode":false,"remote_engine_id":"e","remote_host":` +
		`"127.0.0.1","remote_port":5601,"remote_request_id":"chatcmpl-p","remote_block_ids":[[1,2,3,4,5,6,7,8]],"tp_size":1}}`
	whole = `{"id":"d","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant",` +
		`"content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":250,"completion_tokens":5,"total_tokens":255}}`
	models    = `{"object":"list","data":[{"id":"m","object":"model","created":1700000000,"owned_by":"bench"}]}`
	beginning = `data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"m",` +
		`"choices":[{"index":0,`
	role  = beginning + `"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	token = beginning + `"delta":{"content":" token"},"logprobs":null,"finish_reason":null,"token_ids":null}]}` + "\n\n"
	// What a router that replays asks for, and hides.
	tokenWithIDs = beginning + `"delta":{"content":" token"},"logprobs":null,"finish_reason":null,"token_ids":[10234]}]}` + "\n\n"
	ending       = beginning + `"delta":{},"logprobs":null,"finish_reason":"length"}]}` + "\n\ndata: [DONE]\n\n"
)

// runEngine serves until it is killed. A stream's tokens come at times of their own, one write each, as an engine that
// is asked by many clients sends them.
func runEngine(arguments []string) {
	flags := flag.NewFlagSet("engine", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:8000", "address and port")
	interval := flags.Duration("interval", 10*time.Millisecond, "from one token of a stream to the next")
	_ = flags.Parse(arguments)
	handler := func(writer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		switch {
		case request.Method == http.MethodGet && request.URL.Path == "/v1/models":
			answer(writer, models)
		case request.Method == http.MethodGet:
			answer(writer, "{}")
		case request.URL.Path != "/v1/chat/completions": // vllm-router asks for optional ones, too
			http.NotFound(writer, request)
		case hasField(body, "do_remote_decode", "true"):
			answer(writer, prefilled)
		case hasField(body, "stream", "true"):
			event := token
			if hasField(body, "return_token_ids", "true") {
				event = tokenWithIDs
			}
			stream(writer, request, *interval, tokensAsked(body), event)
		default:
			answer(writer, whole)
		}
	}
	fail("%v", http.ListenAndServe(*listen, http.HandlerFunc(handler)))
}

func answer(writer http.ResponseWriter, content string) {
	writer.Header().Set("Content-Type", "application/json")
	writer.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = io.WriteString(writer, content)
}

func stream(writer http.ResponseWriter, request *http.Request, interval time.Duration, tokens int, event string) {
	writer.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	flusher := writer.(http.Flusher)
	send := func(event string) bool {
		_, err := io.WriteString(writer, event)
		flusher.Flush()
		return err == nil && request.Context().Err() == nil
	}
	if !send(role) {
		return
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for range tokens {
		if !send(event) {
			return
		}
		select {
		case <-ticker.C:
		case <-request.Context().Done():
			return
		}
	}
	send(ending)
}

// hasField tells whether a compact or spaced JSON text has the field with that plain value. Prompts of the benchmark
// hold no quotes, so no parser is needed, which would be the engine's largest cost for a prompt of 1 MB.
func hasField(body []byte, name, value string) bool {
	_, after, found := bytes.Cut(body, []byte(`"`+name+`":`))
	return found && bytes.HasPrefix(bytes.TrimLeft(after, " "), []byte(value))
}

func tokensAsked(body []byte) int {
	_, after, found := bytes.Cut(body, []byte(`"max_tokens":`))
	if !found {
		return 16
	}
	digits := bytes.TrimLeft(after, " ")
	end := bytes.IndexFunc(digits, func(letter rune) bool { return letter < '0' || letter > '9' })
	count, err := strconv.Atoi(string(digits[:max(end, 0)]))
	if err != nil {
		return 16
	}
	return count
}
