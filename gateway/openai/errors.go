package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/wire"
)

// Error is a failure in OpenAI's shape.
type Error struct {
	Status  int           `json:"-"`
	After   time.Duration `json:"-"` // Retry-After
	NoRetry bool          `json:"-"` // asking again could pay twice: x-should-retry: false

	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`

	cause error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.cause }

// The types of errors, in OpenAI's words.
const (
	typeInvalid = "invalid_request_error"
	typeQuota   = "insufficient_quota"
	typeRate    = "rate_limit_error"
	typeServer  = "server_error"
)

func problem(status int, kind, code, message string) *Error {
	return &Error{Status: status, Type: kind, Code: &code, Message: message}
}

// invalid is a 400 about one parameter.
func invalid(param, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Type: typeInvalid, Param: &param, Message: fmt.Sprintf(format, args...)}
}

// unsupported is a 400 about a parameter that the model cannot honour.
func unsupported(param, format string, args ...any) *Error {
	e := invalid(param, format, args...)
	code := "unsupported_parameter"
	e.Code = &code
	return e
}

func tooLarge(limit int64) *Error {
	return problem(http.StatusRequestEntityTooLarge, typeInvalid, "request_too_large",
		fmt.Sprintf("the request body is over the limit of %d bytes", limit))
}

func noModel(name string) *Error {
	e := problem(http.StatusNotFound, typeInvalid, "model_not_found",
		fmt.Sprintf("no provider offers the model %q now; GET /v1/models lists what is offered", square.Clip(name, 80)))
	param := "model"
	e.Param = &param
	return e
}

const topUp = "top up: `torg wallet` shows the balance and the address to send TORG to"

// typed says what an error is to a client.
func typed(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	e = classify(err)
	e.cause = err
	return e
}

func classify(err error) *Error {
	var rate *keys.RateError
	var budget *keys.BudgetError
	var refusal *wire.Refusal
	switch {
	case errors.Is(err, keys.ErrUnknown), errors.Is(err, keys.ErrDisabled), errors.Is(err, keys.ErrExpired):
		return problem(http.StatusUnauthorized, typeInvalid, "invalid_api_key",
			err.Error()+"; send \"Authorization: Bearer torg-…\" (`torg key create` makes a key)")
	case errors.As(err, &rate):
		e := problem(http.StatusTooManyRequests, typeRate, "rate_limit_exceeded", err.Error())
		e.After = rate.After
		return e
	case errors.As(err, &budget):
		return problem(http.StatusPaymentRequired, typeQuota, "key_budget_exceeded",
			err.Error()+fmt.Sprintf("; lower max_tokens, shorten the prompt, or raise it: `torg key budget %s <amount>`", budget.ID))
	case errors.Is(err, buyer.ErrNoModel):
		return problem(http.StatusNotFound, typeInvalid, "model_not_found", err.Error())
	case errors.Is(err, desk.ErrNoProvider):
		e := problem(http.StatusNotFound, typeInvalid, "no_provider", err.Error()+"; relax the provider object")
		param := "provider"
		e.Param = &param
		return e
	case errors.Is(err, desk.ErrFunds):
		return problem(http.StatusPaymentRequired, typeQuota, "insufficient_funds", err.Error()+"; "+topUp)
	case errors.Is(err, desk.ErrBudget):
		return problem(http.StatusPaymentRequired, typeQuota, "key_budget_exceeded", err.Error()+"; lower max_tokens, shorten the prompt, or raise the key's budget (`torg key budget`)")
	case errors.Is(err, desk.ErrPrice):
		return problem(http.StatusBadRequest, typeInvalid, "request_too_expensive", err.Error()+"; lower max_tokens, shorten the prompt, or give leases more (`escrow` in the configuration)")
	case errors.Is(err, desk.ErrBusy):
		e := problem(http.StatusTooManyRequests, typeRate, "busy", err.Error())
		e.After = time.Second
		return e
	case errors.Is(err, desk.ErrPaused):
		e := problem(http.StatusServiceUnavailable, typeServer, "provider_paused", err.Error()+"; if it is this machine's, `torg provide resume` or the console's page Provide lets it work again")
		e.After = 30 * time.Second
		e.NoRetry = true
		return e
	case errors.Is(err, desk.ErrStalled):
		e := problem(http.StatusServiceUnavailable, typeServer, "ledger_stalled", err.Error())
		e.After = 5 * time.Second
		return e
	case errors.Is(err, desk.ErrUnproven):
		e := problem(http.StatusBadGateway, typeServer, "unproven", err.Error()+"; what it cost is in `torg receipt list`; its provider is challenged and asked no more")
		e.NoRetry = true
		return e
	case errors.Is(err, desk.ErrUnknown):
		e := problem(http.StatusServiceUnavailable, typeServer, "outcome_unknown",
			err.Error()+"; it may have been charged, and shows up in `torg receipt list` when the provider answers")
		e.NoRetry = true
		return e
	case errors.As(err, &refusal) && refusal.Code == wire.CodeBadRequest:
		return problem(http.StatusBadRequest, typeInvalid, "provider_refused", "the provider refused the request: "+refusal.Message)
	case errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusGatewayTimeout, typeServer, "timeout", "the answer took longer than this gateway waits; nothing more was charged")
	case errors.Is(err, desk.ErrProvider), errors.As(err, &refusal): // the second: after output had begun
		return problem(http.StatusBadGateway, typeServer, "provider_failed", err.Error())
	case errors.Is(err, context.Canceled):
		return problem(499, typeServer, "cancelled", "the client went away")
	}
	return problem(http.StatusInternalServerError, typeServer, "internal", "the gateway failed; its log has the cause under this request's X-Request-Id")
}

// write sends the error as a whole answer.
func (e *Error) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if e.After > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.After.Seconds()))))
		h.Set("Retry-After-Ms", strconv.FormatInt(e.After.Milliseconds(), 10))
	}
	if e.NoRetry {
		h.Set("X-Should-Retry", "false")
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="torg"`)
	}
	w.WriteHeader(e.Status)
	w.Write(e.body())
}

func (e *Error) body() []byte {
	b, err := json.Marshal(map[string]*Error{"error": e})
	if err != nil { // four strings always marshal
		panic(err)
	}
	return append(b, '\n')
}
