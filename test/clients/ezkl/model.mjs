// EZKL's compiled circuit, written without its compiler: the npm engine proves
// and verifies but does not compile. The format is bincode 1 with fixed-size
// little-endian integers over the structs GraphCircuit, Model, GraphSettings
// and RunArgs of github.com/zkonduit/ezkl, tag v21.0.0: fields in order, u64
// lengths, u32 variants, one byte for booleans and options, 32 little-endian
// bytes for an element of bn254's scalar field.

const R = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;

// Variants, by their place in EZKL's enums.
const Supported = { linear: 0, input: 3, constant: 4, rebase: 7 };
const Poly = { leakyReLU: 2, einsum: 8 };
const Hybrid = { div: 8 };
const F32 = 2; // of InputType
const Visibility = { private: 0, public: 1, fixed: 4 };

class Bincode {
  parts = [];
  bytes(b) { this.parts.push(b); return this; }
  number(size, write) { const b = Buffer.alloc(size); write(b); return this.bytes(b); }
  u8(v) { return this.number(1, (b) => b.writeUInt8(v)); }
  u32(v) { return this.number(4, (b) => b.writeUInt32LE(v)); }
  i32(v) { return this.number(4, (b) => b.writeInt32LE(v)); }
  u64(v) { return this.number(8, (b) => b.writeBigUInt64LE(BigInt(v))); }
  f32(v) { return this.number(4, (b) => b.writeFloatLE(v)); }
  f64(v) { return this.number(8, (b) => b.writeDoubleLE(v)); }
  bool(v) { return this.u8(v ? 1 : 0); }
  none() { return this.u8(0); }
  some() { return this.u8(1); }
  i128(v) {
    return this.number(16, (b) => {
      b.writeBigInt64LE(BigInt.asIntN(64, BigInt(v)), 0);
      b.writeBigInt64LE(BigInt.asIntN(64, BigInt(v) >> 64n), 8);
    });
  }
  string(v) { const b = Buffer.from(v); return this.u64(b.length).bytes(b); }
  list(vs, each) { this.u64(vs.length); for (const v of vs) each.call(this, v); return this; }
  shape(dims) { return this.list(dims, this.u64); }
  felt(v) {
    const hex = ((BigInt(v) % R + R) % R).toString(16).padStart(64, '0');
    return this.bytes(Buffer.from(hex, 'hex').reverse());
  }
  done() { return Buffer.concat(this.parts); }
}

// settings describes the circuit of a layer relu(round(x w / 2^shift)), x of
// rows by ins and w of ins by outs. Input and output are public and the weights
// fixed, part of the verifying key: what is proven is that this model said
// this of that, as in torg. The bounds of numbers are EZKL's defaults.
export function settings({ rows, ins, outs, shift, logrows, base }) {
  return {
    run_args: {
      input_scale: shift, param_scale: shift, scale_rebase_multiplier: 1,
      lookup_range: [0, 0], logrows, num_inner_cols: 2, variables: [['batch_size', 1]],
      input_visibility: 'Public', output_visibility: 'Public', param_visibility: 'Fixed',
      rebase_frac_zero_constants: false, check_mode: 'UNSAFE', commitment: 'KZG',
      decomp_base: base, decomp_legs: 2, bounded_log_lookup: false, ignore_range_check_inputs_outputs: false,
    },
    // EZKL reads from the number of assignments how many blocks of columns
    // there are: the most that one block holds. Key generation fails if the
    // layer needs more.
    num_rows: 2 ** logrows - 16, total_assignments: 2 * (2 ** logrows - 16),
    total_const_size: 2 ** logrows - 16,
    total_dynamic_col_size: 0, max_dynamic_input_len: 0, num_dynamic_lookups: 0, num_shuffles: 0, total_shuffle_col_size: 0,
    model_instance_shapes: [[rows, ins], [rows, outs]],
    model_output_scales: [shift], model_input_scales: [shift],
    module_sizes: { polycommit: [], poseidon: [0, [0]] },
    required_lookups: [], required_range_checks: [[-1, 1], [0, base - 1]],
    check_mode: 'UNSAFE', version: '0.0.0', num_blinding_factors: null, timestamp: null,
    input_types: ['F32'], output_types: ['F32'],
  };
}

// compile writes the layer: an input, its weights, a product rebased to the
// input's scale, and a rectifier.
export function compile({ rows, ins, outs, shift, weights }, s) {
  const b = new Bincode();
  const node = (idx, inputs, dims, op) => {
    b.u64(idx).u32(0); // key, NodeType::Node
    op();
    b.i32(shift).list(inputs, function (i) { this.u64(i).u64(0); }).shape(dims).u64(idx).u64(1);
  };
  b.u64(4);
  node(0, [], [rows, ins], () => b.u32(Supported.input).i32(shift).u32(F32).bool(true));
  node(1, [], [ins, outs], () => {
    b.u32(Supported.constant).list(weights, b.felt).shape([ins, outs]).some().i32(shift).some().u32(Visibility.fixed);
    b.u64(0).shape([0]).none().none(); // raw values, which compiling drops
    b.bool(true);
  });
  node(2, [0, 1], [rows, outs], () => {
    b.u32(Supported.rebase).u32(Supported.linear).u32(Poly.einsum).string('mk,kn->mn');
    b.u32(Hybrid.div).f32(2 ** shift).i32(shift).i32(2 * shift).f64(2 ** shift);
  });
  node(3, [2], [rows, outs], () => b.u32(Supported.linear).u32(Poly.leakyReLU).f32(0).i32(1));
  b.list([0], b.u64).u64(1).u64(3).u64(0).list([F32], b.u32); // inputs, outputs, output types
  b.u32(Visibility.public).u32(Visibility.fixed).u32(Visibility.public);

  const a = s.run_args;
  b.i32(a.input_scale).i32(a.param_scale).u32(a.scale_rebase_multiplier);
  b.i128(a.lookup_range[0]).i128(a.lookup_range[1]).u32(a.logrows).u64(a.num_inner_cols);
  b.list(a.variables, function ([name, value]) { this.string(name).u64(value); });
  b.u32(Visibility.public).u32(Visibility.public).u32(Visibility.fixed).bool(a.rebase_frac_zero_constants);
  b.u32(1).some().u32(0).u64(a.decomp_base).u64(a.decomp_legs); // CheckMode::UNSAFE, KZG
  b.bool(a.bounded_log_lookup).bool(a.ignore_range_check_inputs_outputs);
  b.u64(s.num_rows).u64(s.total_assignments).u64(s.total_const_size).u64(s.total_dynamic_col_size);
  b.u64(s.max_dynamic_input_len).u64(s.num_dynamic_lookups).u64(s.num_shuffles).u64(s.total_shuffle_col_size);
  b.list(s.model_instance_shapes, b.shape).list(s.model_output_scales, b.i32).list(s.model_input_scales, b.i32);
  b.shape(s.module_sizes.polycommit).u64(s.module_sizes.poseidon[0]).shape(s.module_sizes.poseidon[1]);
  b.u64(0).list(s.required_range_checks, function ([lo, hi]) { this.i128(lo).i128(hi); });
  b.u32(1).string(s.version).none().none().some().list([F32], b.u32).some().list([F32], b.u32);

  b.u64(0).none().u64(0).none().none().none().i128(0).i128(0).i128(0).none(); // an empty witness
  return b.done();
}
