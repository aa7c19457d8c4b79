// EZKL's npm engine, unmodified, on one layer relu(round(x w / 2^shift)). The
// layer comes as JSON on stdin; what EZKL made of it goes to stdout for
// ezkl_test.go, with the CPU seconds of each step. The engine's node build is
// WebAssembly on one thread.
import { readFileSync } from 'node:fs';
import engine from '@ezkljs/engine';
import { compile, settings } from './model.mjs';
import { srs } from './srs.mjs';

const layer = JSON.parse(readFileSync(0));
const clamped = (b) => new Uint8ClampedArray(b.buffer, b.byteOffset, b.byteLength);
const json = (v) => clamped(Buffer.from(JSON.stringify(v)));
const cpu = {};
function time(step, f) {
  const before = process.cpuUsage();
  const result = f();
  const { user, system } = process.cpuUsage(before);
  cpu[step] = (user + system) / 1e6;
  return result;
}

engine.init_panic_hook();
const s = settings(layer);
const model = clamped(compile(layer, s));
const reference = clamped(time('reference', () => srs(layer.logrows)));
const vk = clamped(time('vk', () => engine.genVk(model, reference, true)));
const pk = clamped(time('pk', () => engine.genPk(vk, model, reference)));
const input = json({ input_data: [layer.input.map((x) => x / 2 ** layer.shift)] });
const witness = clamped(time('witness', () => engine.genWitness(model, input)));
const proof = JSON.parse(Buffer.from(time('prove', () => engine.prove(witness, pk, model, reference))).toString());

function verify(p) {
  try {
    return engine.verify(json(p), vk, json(s), reference);
  } catch {
    return false; // the engine throws at a proof it refuses
  }
}
const first = time('verify', () => verify(proof));
const forged = proof.proof.with(100, proof.proof[100] ^ 1);
const instances = proof.instances[0]; // the input, then the output, as little-endian hexadecimal
const output = instances.slice(layer.input.length).map((hex) => Number(BigInt('0x' + Buffer.from(hex, 'hex').reverse().toString('hex'))));

const other = instances.with(-1, instances.at(-1).replace(/^../, (b) => (b === '07' ? '08' : '07')));
const forgery = verify({ ...proof, proof: forged });
const otherOutput = verify({ ...proof, instances: [other] });
const verified = first && verify(proof); // still, after refusing

console.log(JSON.stringify({
  cpu, output, verified, forgery, otherOutput,
  proofBytes: proof.proof.length, pkBytes: pk.length, vkBytes: vk.length, referenceBytes: reference.length,
}));
