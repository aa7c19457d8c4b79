// A structured reference string for KZG over bn254, for measuring only: whoever
// knows the secret can forge, and here it is public. Real ones are downloaded
// from a ceremony. The format is halo2's: u32 k, then 2^k powers of the secret
// in the first group, as many Lagrange polynomials at it, and the generator and
// the secret in the second group; coordinates are little-endian and in
// Montgomery form.
import { normalizeZ } from '@noble/curves/abstract/curve.js';
import { bn254 } from '@noble/curves/bn254.js';

const { Fp, Fr } = bn254.fields;
const G1 = bn254.G1.Point, G2 = bn254.G2.Point;
const SECRET = Fr.create(0x746f7267206465762073727320746f7267206465762073727320746f7267n);
const ROOT = Fr.pow(7n, (Fr.ORDER - 1n) >> 28n); // of order 2^28

const WINDOW = 11; // bits; a multiple of the generator is a sum of one entry a window
const table = [];
for (let base = G1.BASE, bit = 0; bit < 254; bit += WINDOW) {
  const row = [G1.ZERO];
  for (let i = 1; i < 1 << WINDOW; i++) row.push(row[i - 1].add(base));
  table.push(row);
  base = row.at(-1).add(base);
}
function multiple(scalar) {
  let sum = G1.ZERO;
  for (const row of table) {
    sum = sum.add(row[Number(scalar & BigInt(row.length - 1))]);
    scalar >>= BigInt(WINDOW);
  }
  return sum;
}

const montgomery = (x) => Buffer.from(((x << 256n) % Fp.ORDER).toString(16).padStart(64, '0'), 'hex').reverse();
const encode1 = ({ x, y }) => [montgomery(x), montgomery(y)];
const encode2 = (p) => {
  const { x, y } = p.toAffine();
  return [x.c0, x.c1, y.c0, y.c1].map(montgomery);
};

export function srs(k) {
  const n = 1 << k;
  const omega = Fr.pow(ROOT, 1n << BigInt(28 - k));
  // The i-th Lagrange polynomial at s is w^i (s^n - 1) / (n (s - w^i)).
  const roots = [1n], powers = [1n];
  for (let i = 1; i < n; i++) {
    roots.push(Fr.mul(roots[i - 1], omega));
    powers.push(Fr.mul(powers[i - 1], SECRET));
  }
  const numerator = Fr.div(Fr.sub(Fr.mul(powers[n - 1], SECRET), 1n), BigInt(n));
  const inverses = Fr.invertBatch(roots.map((w) => Fr.sub(SECRET, w)));
  const lagrange = roots.map((w, i) => Fr.mul(Fr.mul(w, numerator), inverses[i]));
  const points = normalizeZ(G1, [...powers, ...lagrange].map(multiple));
  const head = Buffer.alloc(4);
  head.writeUInt32LE(k);
  return Buffer.concat([head, ...points.flatMap(encode1), ...encode2(G2.BASE), ...encode2(G2.BASE.multiply(SECRET))]);
}
