// Package openai is the buyer's first door: the OpenAI API over a
// [buyer.Seller]. Unmodified OpenAI clients work; what is particular to the
// square is added beside what they expect.
//
//	POST /v1/chat/completions   plain and streamed
//	POST /v1/completions        plain and streamed
//	POST /v1/responses          plain and streamed
//	POST /v1/embeddings         float and base64
//	GET  /v1/models             and /v1/models/{id}
//
// # Two kinds of model
//
// An exact model is a program whose answer is a pure function of the request,
// so the gateway builds that request ([infer.Exact], [infer.Embed]) and refuses
// what such a model cannot do: tools, response_format other than text, images,
// penalties, logit_bias, n above 1. Any other model is an upstream server's:
// its body is passed on as the client wrote it ([infer.Opaque]), with the
// model's name, without what is ours (provider, truncation), and its events come
// back as they were, under our id. Of such a body only what is ours is judged
// here, and what decides its price (package meter).
//
// # The prompt of an exact model
//
// A completion's prompt is sent as it is. A conversation becomes plain text:
// the texts of all messages in their order, without role names, white space at
// the end of each removed, each ended by a newline. That is how the bundled
// model's corpus ends its paragraphs, so the reply is the text's next
// paragraph. A model that writes novels byte by byte has never seen a role.
//
// A prompt that is longer than the model's context is refused with
// context_length_exceeded. With "truncation": "auto" it is cut to the part that
// the model reads (exact.WindowStart), which gives the same answer; the answer
// then has "truncated", the bytes that were cut off.
//
// # Sampling
//
// temperature (0 to 2, default 1) is rounded to thousandths, top_p (above 0 to
// 1, default 1) to ten-thousandths, and the request's 32-byte seed is
// SHA-256("torg/gateway/seed/1" ‖ seed as a big-endian 64-bit number). Without
// a seed the gateway draws one below 2^53. It is reported as "seed" in the
// answer: the same request with that seed gives the same answer on every
// machine, for ever.
//
// # What is added to an answer
//
//	"provider": "torg1…"     who answered
//	"lease":    "hex"        the lease that paid
//	"receipt":  "hex"        the signed receipt's id: torg receipt show <id>
//	"seed":     123          exact models
//	"verified": "prove"      a proof that the model said it has been checked;
//	                         "replicate": another provider gave the same answer
//	"usage": {…, "cost": 0.000123,                  TORG, exact, as OpenRouter has it
//	  "cost_details": {"amount": "123", "denom": "utorg"}}
//
// cost is absent when the lease was paid in another denom; cost_details is
// always exact. The tokens in usage are those that were charged, as the receipt
// has them; where an upstream server says otherwise, cost_details has "reported",
// what it said. The same is in the headers Torg-Provider, Torg-Lease,
// Torg-Receipt, Torg-Cost ("123utorg") and Torg-Verified; a streamed answer has them as
// trailers, and its last chunk before "data: [DONE]" carries the body's fields.
// system_fingerprint is "fp_" and the first 12 digits of the model's digest.
//
// # Routing
//
// OpenRouter's provider object is accepted in every body. order, only and
// ignore name providers by address or a prefix of it; allow_fallbacks, sort and
// max_price (TORG per million tokens) are honoured; preferred_min_throughput
// and preferred_max_latency choose the sort when none is given. data_collection
// "deny" and zdr are refused, since no provider's silence can be proven;
// quantizations is ignored, as are unknown members, unless require_parameters
// is true.
//
// Ours is verification: "prove" asks for an answer with a proof that the model
// said it, which the gateway checks before it says so and before it pays on;
// "audit" and "none" ask for what the words say. Without it the gateway's own
// setting holds. The text streams as ever; the end of a proven answer waits for
// its proof, and an answer that is not proven ends in the error "unproven".
//
// # Errors
//
// Every failure is {"error":{"message","type","param","code"}}: 400
// invalid_request_error (context_length_exceeded; request_too_expensive for what
// no lease can pay), 401 invalid_api_key, 402 insufficient_quota (nothing
// was charged; the message says how to top up), 404 model_not_found, 413, 429
// with Retry-After, 502 provider_failed, 503, 504. A failure after the stream
// began is an event of the same shape.
package openai
