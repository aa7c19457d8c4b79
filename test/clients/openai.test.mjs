// The npm package "openai", unmodified, against the address in TORG_BASE_URL.
// clients_test.go starts a gateway and sets:
//   TORG_BASE_URL, TORG_API_KEY
//   TORG_MODEL             an exact model (default: the first exact one listed)
//   TORG_UPSTREAM          optional: a model of an OpenAI-compatible server
//   TORG_SLOW              optional: an exact model slow enough to be aborted
//   TORG_STATS             optional: a URL that tells {"running": n}
//   TORG_POOR_KEY, TORG_RATED_KEY   optional: keys out of budget, and with 1 request a minute
import test from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const env = process.env;
assert.ok(env.TORG_BASE_URL, 'TORG_BASE_URL is not set; run these through `go test ./test/clients`');
const torg = (apiKey = env.TORG_API_KEY) => new OpenAI({ baseURL: env.TORG_BASE_URL, apiKey, maxRetries: 0 });
const client = torg();
const listed = [];
for await (const m of client.models.list()) listed.push(m);
const model = env.TORG_MODEL ?? listed.find((m) => m.exact)?.id;
assert.ok(model, 'no exact model is offered');
const messages = [{ role: 'system', content: 'Write on.' }, { role: 'user', content: 'It is a truth' }];
const failing = async (promise, type, status, code) => {
  const e = await promise.then(() => assert.fail('it did not fail'), (e) => e);
  assert.ok(e instanceof type, `${e.constructor.name}: ${e.message}`);
  assert.equal(e.status, status);
  if (code) assert.equal(e.code, code);
  assert.ok(e.message);
  return e;
};

test('models', async () => {
  const m = listed.find((m) => m.id === model);
  assert.equal(m.object, 'model');
  assert.match(m.pricing.prompt, /^\d+(\.\d+)?$/);
  const one = await client.models.retrieve(model);
  assert.equal(one.id, model);
  assert.equal((await client.models.retrieve(one.digest)).id, model);
});

test('chat', async () => {
  const { data, response } = await client.chat.completions.create({ model, messages, max_tokens: 24, seed: 5 }).withResponse();
  assert.equal(data.object, 'chat.completion');
  assert.equal(data.choices[0].message.role, 'assistant');
  assert.ok(data.choices[0].message.content.length > 0);
  assert.equal(data.choices[0].finish_reason, 'length');
  assert.equal(data.usage.completion_tokens, 24);
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + 24);
  assert.match(data.usage.cost_details.amount, /^[1-9]\d*$/);
  if (data.usage.cost_details.denom === 'utorg') assert.equal(data.usage.cost, Number(data.usage.cost_details.amount) / 1e6);
  assert.match(data.provider, /^torg1/);
  assert.match(data.receipt, /^[0-9a-f]{64}$/);
  assert.equal(response.headers.get('torg-receipt'), data.receipt);
  assert.equal(response.headers.get('torg-provider'), data.provider);
  assert.equal(response.headers.get('torg-cost'), data.usage.cost_details.amount + data.usage.cost_details.denom);
  assert.match(data.system_fingerprint, /^fp_/);
});

const proves = listed.find((m) => m.id === model).providers.some((p) => p.proven_rates);
test('an answer with a proof', { skip: !proves && 'nobody proves' }, async () => {
  const ask = { model, messages, max_tokens: 24, seed: 5 };
  const plain = await client.chat.completions.create(ask);
  assert.equal(plain.verified, undefined);
  const { data, response } = await client.chat.completions.create({ ...ask, provider: { verification: 'prove' } }).withResponse();
  assert.equal(data.verified, 'prove');
  assert.equal(response.headers.get('torg-verified'), 'prove');
  assert.equal(data.choices[0].message.content, plain.choices[0].message.content);
  assert.ok(data.usage.cost > plain.usage.cost);
  const chunks = await collect(await client.chat.completions.create({ ...ask, provider: { verification: 'prove' }, stream: true }));
  assert.equal(chunks.at(-1).verified, 'prove');
  await failing(client.chat.completions.create({ ...ask, provider: { verification: 'oath' } }), OpenAI.BadRequestError, 400);
});

const collect = async (stream) => {
  const chunks = [];
  for await (const c of stream) chunks.push(c);
  return chunks;
};

test('chat stream', async () => {
  const whole = await client.chat.completions.create({ model, messages, max_tokens: 24, seed: 5 });
  const chunks = await collect(await client.chat.completions.create({ model, messages, max_tokens: 24, seed: 5, stream: true }));
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.equal(chunks.map((c) => c.choices[0].delta.content ?? '').join(''), whole.choices[0].message.content);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'length');
  assert.match(chunks.at(-1).receipt, /^[0-9a-f]{64}$/);
  assert.equal(new Set(chunks.map((c) => c.id)).size, 1);
  assert.ok(chunks.every((c) => c.choices.length === 1), 'an empty choice nobody asked for');
});

test('chat stream with usage', async () => {
  const chunks = await collect(await client.chat.completions.create({
    model, messages, max_tokens: 8, stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, 8);
  assert.ok(chunks.at(-1).usage.cost_details);
  assert.ok(chunks.slice(0, -1).every((c) => c.usage === null));
});

test('chat stream helper', async () => {
  const runner = client.chat.completions.stream({ model, messages, max_tokens: 8, seed: 1 });
  let text = '';
  runner.on('content', (delta) => { text += delta; });
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].message.content, text);
});

test('seed', async () => {
  const ask = (seed) => client.chat.completions.create({ model, messages, max_tokens: 40, seed });
  const [a, b, c, drawn] = await Promise.all([ask(1), ask(1), ask(2), ask(undefined)]);
  assert.equal(a.choices[0].message.content, b.choices[0].message.content);
  assert.notEqual(a.choices[0].message.content, c.choices[0].message.content);
  assert.equal(a.system_fingerprint, b.system_fingerprint);
  assert.equal((await ask(drawn.seed)).choices[0].message.content, drawn.choices[0].message.content);
});

test('stop', async () => {
  const full = (await client.chat.completions.create({ model, messages, max_tokens: 120, seed: 3 })).choices[0].message.content;
  const at = full.indexOf(' ', 8);
  assert.ok(at > 0, full);
  const stop = full.slice(at, at + 2);
  const cut = await client.chat.completions.create({ model, messages, max_tokens: 120, seed: 3, stop: ['\u0000never', stop] });
  assert.equal(cut.choices[0].message.content, full.slice(0, full.indexOf(stop)));
  assert.equal(cut.choices[0].finish_reason, 'stop');
});

test('logprobs', async () => {
  const r = await client.chat.completions.create({ model, messages, max_tokens: 6, logprobs: true, top_logprobs: 3, seed: 1 });
  const { content } = r.choices[0].logprobs;
  assert.equal(content.length, 6);
  for (const t of content) {
    assert.ok(t.logprob <= 0);
    assert.equal(t.top_logprobs.length, 3);
  }
  const old = await client.completions.create({ model, prompt: 'It is', max_tokens: 6, logprobs: 2, seed: 1 });
  assert.equal(old.choices[0].logprobs.tokens.length, 6);
  assert.ok(Object.keys(old.choices[0].logprobs.top_logprobs[0]).length >= 1);
});

test('completions', async () => {
  const whole = await client.completions.create({ model, prompt: 'It is a truth', max_tokens: 16, seed: 9, temperature: 0 });
  assert.equal(whole.object, 'text_completion');
  assert.ok(whole.usage.prompt_tokens > 0);
  const chunks = await collect(await client.completions.create({ model, prompt: 'It is a truth', max_tokens: 16, temperature: 0, stream: true }));
  assert.equal(chunks.map((c) => c.choices[0].text).join(''), whole.choices[0].text);
});

test('embeddings', async () => {
  const input = ['It is a truth', 'universally acknowledged'];
  const packed = await client.embeddings.create({ model, input }); // this client asks for base64 by itself
  const plain = await client.embeddings.create({ model, input, encoding_format: 'float' });
  assert.equal(packed.data.length, 2);
  for (const i of [0, 1]) {
    const v = packed.data[i].embedding;
    assert.deepEqual(Array.from(v), plain.data[i].embedding.map(Math.fround));
    assert.ok(Math.abs(v.reduce((s, x) => s + x * x, 0) - 1) < 1e-4);
  }
});

test('responses', async () => {
  const r = await client.responses.create({ model, instructions: 'Write on.', input: 'It is a truth', max_output_tokens: 24, seed: 5 });
  const chat = await client.chat.completions.create({ model, messages, max_tokens: 24, seed: 5 });
  assert.equal(r.output_text, chat.choices[0].message.content);
  assert.equal(r.status, 'incomplete');
  assert.equal(r.incomplete_details.reason, 'max_output_tokens');
  assert.equal(r.usage.output_tokens, 24);
  assert.match(r.receipt, /^[0-9a-f]{64}$/);
});

test('responses stream', async () => {
  const whole = await client.responses.create({ model, input: [{ role: 'user', content: 'It is a truth' }], max_output_tokens: 24, seed: 5 });
  const events = await collect(await client.responses.create({
    model, input: [{ role: 'user', content: 'It is a truth' }], max_output_tokens: 24, seed: 5, stream: true }));
  assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
  const types = events.map((e) => e.type).filter((t, i, all) => t !== all[i - 1]);
  assert.deepEqual(types, ['response.created', 'response.in_progress', 'response.output_item.added', 'response.content_part.added',
    'response.output_text.delta', 'response.output_text.done', 'response.content_part.done', 'response.output_item.done', 'response.incomplete']);
  assert.equal(events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join(''), whole.output_text);
  assert.equal(events.at(-1).response.output[0].content[0].text, whole.output_text);
  const helper = await client.responses.stream({ model, input: 'It is a truth', max_output_tokens: 24, seed: 5 }).finalResponse();
  assert.equal(helper.output_text, whole.output_text);
});

test('provider object', async () => {
  const first = await client.chat.completions.create({ model, messages, max_tokens: 4 });
  const ask = (provider) => client.chat.completions.create({ model, messages, max_tokens: 4, provider });
  const r = await ask({ order: [first.provider], only: [first.provider], allow_fallbacks: false, sort: 'price', data_collection: 'allow',
    quantizations: ['int8'], max_price: { prompt: 1000, completion: '1000' }, preferred_min_throughput: 1 });
  assert.equal(r.provider, first.provider);
  await failing(ask({ only: ['torg1nobody'] }), OpenAI.NotFoundError, 404, 'no_provider');
  await failing(ask({ ignore: [first.provider], only: [first.provider] }), OpenAI.NotFoundError, 404, 'no_provider');
  await failing(ask({ max_price: { completion: 0 } }), OpenAI.NotFoundError, 404, 'no_provider');
  const e = await failing(ask({ zdr: true }), OpenAI.BadRequestError, 400, 'unsupported_parameter');
  assert.equal(e.param, 'provider.zdr');
});

test('typed errors', async (t) => {
  const ask = (c, more) => c.chat.completions.create({ model, messages, max_tokens: 4, ...more });
  await failing(ask(client, { model: 'no-such-model' }), OpenAI.NotFoundError, 404, 'model_not_found');
  await failing(client.models.retrieve('no/such'), OpenAI.NotFoundError, 404, 'model_not_found');
  const e = await failing(ask(client, { tools: [{ type: 'function', function: { name: 'f', parameters: {} } }] }), OpenAI.BadRequestError, 400, 'unsupported_parameter');
  assert.equal(e.param, 'tools');
  assert.equal(e.type, 'invalid_request_error');
  await failing(ask(client, { temperature: 9 }), OpenAI.BadRequestError, 400);
  await failing(ask(client, { n: 3 }), OpenAI.BadRequestError, 400, 'unsupported_parameter');
  await failing(ask(torg('torg-wrong')), OpenAI.AuthenticationError, 401, 'invalid_api_key');
  await t.test('budget', { skip: !env.TORG_POOR_KEY }, async () => {
    const e = await failing(ask(torg(env.TORG_POOR_KEY)), OpenAI.APIError, 402, 'key_budget_exceeded');
    assert.equal(e.type, 'insufficient_quota');
  });
  await t.test('rate', { skip: !env.TORG_RATED_KEY }, async () => {
    await ask(torg(env.TORG_RATED_KEY));
    const e = await failing(ask(torg(env.TORG_RATED_KEY)), OpenAI.RateLimitError, 429, 'rate_limit_exceeded');
    assert.ok(Number(e.headers.get('retry-after')) > 0);
  });
});

test('abort in the middle of a stream', { skip: !env.TORG_SLOW }, async () => {
  const running = async () => (await (await fetch(env.TORG_STATS)).json()).running;
  const stream = await client.chat.completions.create({ model: env.TORG_SLOW, messages, max_tokens: 20000, stream: true });
  let n = 0;
  for await (const _ of stream) if (++n === 5) break; // breaking off aborts the request
  assert.ok(stream.controller.signal.aborted);
  if (!env.TORG_STATS) return;
  for (let i = 0; i < 200 && await running() > 0; i++) await new Promise((r) => setTimeout(r, 20));
  assert.equal(await running(), 0, 'the engine works for nobody');
});

test('a model of an OpenAI-compatible server', { skip: !env.TORG_UPSTREAM }, async () => {
  const up = { model: env.TORG_UPSTREAM, messages: [{ role: 'user', content: 'Hello there' }] };
  const whole = await client.chat.completions.create(up);
  assert.ok(whole.choices[0].message.content);
  assert.equal(whole.model, env.TORG_UPSTREAM);
  assert.ok(whole.usage.prompt_tokens > 0 && whole.usage.cost_details && whole.receipt);
  const chunks = await collect(await client.chat.completions.create({ ...up, stream: true, stream_options: { include_usage: true } }));
  assert.equal(chunks.flatMap((c) => c.choices).map((c) => c.delta.content ?? '').join(''), whole.choices[0].message.content);
  assert.ok(chunks.at(-1).usage.cost_details);
  const r = await client.responses.create({ model: env.TORG_UPSTREAM, input: 'Hello there' });
  assert.equal(r.output_text, whole.choices[0].message.content);
});
