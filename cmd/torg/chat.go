package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/torg-network/torg/square"
)

const chatHelp = `  /model NAME   ask another model        /models       what can be asked
  /temp N       0 is greedy              /seed N       repeatable answers (/seed off)
  /max N        longest answer, tokens   /system TEXT  set the system prompt
  /retry        ask the last again       /reset        forget the conversation
  /quit         leave (or Ctrl-D)        Ctrl-C        stop the answer, and the paying`

func chatCommand() *cobra.Command {
	var model, system, verify string
	var temperature float64
	var maxTokens int
	var seed int64
	c := &cobra.Command{
		Use: "chat [message]", Short: "Talk to a model on the square",
		Long: "Talk to a model on the square, over the same endpoint every OpenAI client uses.\nWith a message, or when standard input is not a terminal, it answers once and exits.\n\nIn a conversation:\n" + chatHelp,
		RunE: configured(func(c *cobra.Command, cfg config, args []string) error {
			api, err := openAPI(cfg)
			if err != nil {
				return err
			}
			s := chatSession{api: api, model: model, temperature: temperature, maxTokens: maxTokens, verify: verify, out: c.OutOrStdout()}
			if c.Flags().Changed("seed") {
				s.seed = &seed
			}
			if system != "" {
				s.history = append(s.history, chatMessage{"system", system})
			}
			if s.model == "" {
				models, err := api.models(c.Context())
				if err != nil {
					return err
				}
				if len(models) == 0 {
					return &codedError{exitNotFound, errors.New("nobody on the square offers a model; torg doctor says why")}
				}
				s.model = models[0]
			}
			if len(args) == 0 && !term.IsTerminal(int(os.Stdin.Fd())) {
				b, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
				if err != nil {
					return fmt.Errorf("read the message from standard input: %w", err)
				}
				args = []string{string(b)}
			}
			if len(args) > 0 {
				return s.once(c.Context(), strings.Join(args, " "))
			}
			return s.converse(c.Context(), os.Stdin)
		}),
	}
	addSettingFlags(c.Flags(), "chat")
	c.Flags().StringVarP(&model, "model", "m", "", "which model (default: the first on offer)")
	c.Flags().StringVar(&system, "system", "", "system prompt")
	c.Flags().Float64VarP(&temperature, "temperature", "t", 0.7, "0 is greedy")
	c.Flags().IntVar(&maxTokens, "max-tokens", 200, "longest answer")
	c.Flags().Int64Var(&seed, "seed", 0, "repeatable answers")
	c.Flags().StringVar(&verify, "verify", "", "prove: each answer with a proof, checked before more is paid; replicate: asked of two and compared; audit or none (default: as torg up was told)")
	_ = c.RegisterFlagCompletionFunc("model", completeModels)
	return c
}

// completeModels offers the models of the running square.
func completeModels(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := readConfig(c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	api, err := openAPI(cfg)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	models, _ := api.models(ctx)
	return models, cobra.ShellCompDirectiveNoFileComp
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatSession struct {
	api         openAIClient
	model       string
	temperature float64
	maxTokens   int
	seed        *int64
	verify      string
	history     []chatMessage
	spent       float64
	bill        *chatUsage // of the last answer; nil: it was cut short
	out         io.Writer
}

// once asks one thing: streamed for people, whole for programs.
func (s *chatSession) once(ctx context.Context, text string) error {
	if format == "table" {
		return s.say(ctx, text)
	}
	var said strings.Builder
	out := s.out
	s.out = &said
	if err := s.say(ctx, text); err != nil {
		return err
	}
	made := struct {
		Model   string     `json:"model"`
		Answer  string     `json:"answer"`
		Usage   *chatUsage `json:"usage,omitempty"`
		Receipt string     `json:"receipt,omitempty"`
		// Verified is prove where a proof of the answer was checked.
		Verified string `json:"verified,omitempty"`
	}{Model: s.model, Answer: strings.TrimSuffix(said.String(), "\n"), Usage: s.bill}
	if s.bill != nil {
		made.Receipt, made.Verified = s.bill.Receipt, s.bill.Verified
	}
	return show(out, made, nil)
}

func (s *chatSession) converse(ctx context.Context, in io.Reader) error {
	fmt.Fprintf(os.Stderr, "%s %s  %s\n", paint(os.Stderr, bold, "torg chat"), paint(os.Stderr, cyan, s.model), paint(os.Stderr, dim, "/help for commands"))
	lines := make(chan string)
	go func() { // ends with the process: a blocked terminal read cannot be interrupted
		defer close(lines)
		sc := bufio.NewScanner(in)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			lines <- sc.Text()
		}
	}()
	for {
		fmt.Fprint(os.Stderr, paint(os.Stderr, green, "› "))
		var line string
		select {
		case <-ctx.Done():
			fmt.Fprintln(os.Stderr)
			return nil
		case l, ok := <-lines:
			if !ok {
				fmt.Fprintln(os.Stderr)
				return nil
			}
			line = strings.TrimSpace(l)
		}
		if line == "" {
			continue
		}
		if strings.HasPrefix(line, "/") {
			done, again := s.command(ctx, line)
			if done {
				return nil
			}
			if !again {
				continue
			}
			line = s.history[len(s.history)-1].Content
			s.history = s.history[:len(s.history)-1]
		}
		// Ctrl-C stops this answer only; at the prompt it leaves.
		turn, stop := signal.NotifyContext(context.WithoutCancel(ctx), os.Interrupt)
		err := s.say(turn, line)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, paint(os.Stderr, red, "error:"), words(err))
		}
	}
}

// command runs a slash command. again asks for the last message once more.
func (s *chatSession) command(ctx context.Context, line string) (done, again bool) {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	note := func(f string, a ...any) {
		for _, l := range strings.Split(fmt.Sprintf(f, a...), "\n") {
			fmt.Fprintln(os.Stderr, paint(os.Stderr, dim, l))
		}
	}
	switch word {
	case "/quit", "/exit", "/q":
		return true, false
	case "/model":
		if rest == "" {
			note("asking %s", s.model)
		} else {
			s.model = rest
		}
	case "/models":
		models, err := s.api.models(ctx)
		if err != nil {
			note("%v", err)
		}
		for _, m := range models {
			note("%s", named(m))
		}
	case "/temp":
		if v, err := strconv.ParseFloat(rest, 64); err != nil || v < 0 || v > 2 {
			note("temperature is a number from 0 to 2")
		} else {
			s.temperature = v
		}
	case "/seed":
		if v, err := strconv.ParseInt(rest, 10, 64); err == nil {
			s.seed = &v
		} else {
			s.seed = nil
			note("seed off")
		}
	case "/max":
		if v, err := strconv.Atoi(rest); err != nil || v < 1 {
			note("the longest answer is a positive number of tokens")
		} else {
			s.maxTokens = v
		}
	case "/system":
		s.history = []chatMessage{{"system", rest}}
		note("new conversation")
	case "/reset":
		s.history = nil
		note("new conversation")
	case "/retry":
		for len(s.history) > 0 && s.history[len(s.history)-1].Role != "user" {
			s.history = s.history[:len(s.history)-1]
		}
		if len(s.history) == 0 {
			note("nothing was asked yet")
			return false, false
		}
		return false, true
	default:
		note("%s", chatHelp)
	}
	return false, false
}

// say asks, streams the answer to stdout and the bill to stderr.
func (s *chatSession) say(ctx context.Context, text string) error {
	messages := append(append([]chatMessage{}, s.history...), chatMessage{"user", text})
	body := map[string]any{
		"model": s.model, "messages": messages, "stream": true, "temperature": s.temperature, "max_tokens": s.maxTokens,
		"stream_options": map[string]any{"include_usage": true},
		"truncation":     "auto", // a conversation grows: of one that is too long the model reads the end
	}
	if s.seed != nil {
		body["seed"] = *s.seed
	}
	if s.verify != "" {
		body["provider"] = map[string]string{"verification": s.verify}
	}
	start := time.Now()
	var answer strings.Builder
	usage, err := s.api.stream(ctx, body, func(piece string) {
		answer.WriteString(piece)
		if format == "table" { // for people; programs get what was said
			piece = visibleLines(piece)
		}
		fmt.Fprint(s.out, piece)
	})
	if answer.Len() > 0 {
		fmt.Fprintln(s.out)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	s.history = append(messages, chatMessage{"assistant", answer.String()})
	s.bill = usage
	if usage == nil {
		fmt.Fprintln(os.Stderr, paint(os.Stderr, dim, "stopped; you pay for what was said"))
		return nil
	}
	s.spent += usage.Cost
	took := time.Since(start).Seconds()
	bill := fmt.Sprintf("%d tokens · %.1f/s · %s TORG (%s in all) · receipt %.12s", usage.Completion,
		float64(usage.Completion)/took, decimal(usage.Cost), decimal(s.spent), usage.Receipt)
	switch square.Policy(usage.Verified) {
	case square.PolicyProve:
		bill += " · proven"
	case square.PolicyReplicate:
		bill += " · two gave the same"
	}
	if usage.Truncated > 0 {
		bill += fmt.Sprintf(" · the first %d bytes were not read: /reset begins afresh", usage.Truncated)
	}
	fmt.Fprintln(os.Stderr, paint(os.Stderr, dim, bill))
	return nil
}

func decimal(f float64) string {
	return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(f, 'f', 6, 64), "0"), ".")
}

// openAIClient talks to an OpenAI-compatible endpoint.
type openAIClient struct {
	base, key string
}

// openAPI finds the endpoint and key: settings, then the environment every
// OpenAI client reads, then the running square.
func openAPI(cfg config) (openAIClient, error) {
	a := openAIClient{base: cfg.Get("api-base"), key: cfg.Get("api-key")}
	if a.base == "" {
		a.base = os.Getenv("OPENAI_BASE_URL")
		if a.base != "" && a.key == "" {
			a.key = os.Getenv("OPENAI_API_KEY")
		}
	}
	if a.base == "" || a.key == "" {
		run, err := findRunning(cfg)
		if err != nil {
			return a, err
		}
		if a.base == "" {
			a.base = run.BaseURL
		}
		if a.key == "" {
			a.key = run.APIKey
		}
	}
	a.base = strings.TrimRight(a.base, "/")
	return a, nil
}

func (a openAIClient) call(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, r)
	if err != nil {
		return nil, usageError("api-base %q: %w", a.base, err)
	}
	req.Header.Set("Authorization", "Bearer "+a.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.base, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	msg := strings.TrimSpace(string(b))
	if json.Unmarshal(b, &e) == nil && e.Error.Message != "" {
		msg = e.Error.Message
	}
	err = fmt.Errorf("%s (HTTP %d)", msg, resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusPaymentRequired:
		return nil, &codedError{exitPayment, err}
	case http.StatusNotFound:
		return nil, &codedError{exitNotFound, err}
	case http.StatusBadRequest:
		return nil, &codedError{exitUsage, err}
	}
	return nil, err
}

func (a openAIClient) models(ctx context.Context) ([]string, error) {
	resp, err := a.call(ctx, "GET", "/models", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<22)).Decode(&list); err != nil {
		return nil, fmt.Errorf("read the list of models: %w", err)
	}
	ids := make([]string, 0, len(list.Data))
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// chatUsage is the last event of a stream: what it cost and the receipt.
type chatUsage struct {
	Completion int     `json:"completion_tokens"`
	Cost       float64 `json:"cost"`
	Receipt    string  `json:"-"`
	Verified   string  `json:"-"`
	Truncated  int     `json:"-"` // bytes of the conversation's beginning that were not read
}

// stream asks for a chat completion and hands on each piece. usage is nil when
// the stream ended before it came.
func (a openAIClient) stream(ctx context.Context, body any, piece func(string)) (*chatUsage, error) {
	resp, err := a.call(ctx, "POST", "/chat/completions", body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<22)
	var usage *chatUsage
	for sc.Scan() {
		data, ok := strings.CutPrefix(sc.Text(), "data:")
		if !ok {
			continue
		}
		if data = strings.TrimSpace(data); data == "[DONE]" {
			return usage, nil
		}
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
			Usage    *chatUsage `json:"usage"`
			Receipt  string     `json:"receipt"`
			Verified string     `json:"verified"`
			Cut      int        `json:"truncated"`
			Error    *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return usage, fmt.Errorf("read the stream: %w", err)
		}
		if chunk.Error != nil {
			return usage, errors.New(chunk.Error.Message)
		}
		for _, c := range chunk.Choices {
			piece(c.Delta.Content)
		}
		if chunk.Usage != nil {
			usage = chunk.Usage
			usage.Receipt, usage.Verified, usage.Truncated = chunk.Receipt, chunk.Verified, chunk.Cut
		}
	}
	if err := sc.Err(); err != nil {
		return usage, fmt.Errorf("read the stream: %w", err)
	}
	if usage == nil {
		return nil, errors.New("the stream broke off before its end")
	}
	return usage, nil
}
