// Runs ONNX files in onnxruntime's WebAssembly build. TORG_IN is a list of
// {file, feeds: {name: {type, dims, data}}}; the answer is a list of
// {outputs: {name: {dims, data}}} or {error}.
import { readFileSync } from 'node:fs'
import * as ort from 'onnxruntime-web'

ort.env.wasm.numThreads = 1
ort.env.logLevel = 'error'

const answers = []
for (const { file, feeds } of JSON.parse(readFileSync(process.env.TORG_IN, 'utf8'))) {
  try {
    const session = await ort.InferenceSession.create(file, { graphOptimizationLevel: 'disabled' })
    const inputs = {}
    for (const [name, { type, dims, data }] of Object.entries(feeds)) {
      const values = type === 'int64' ? BigInt64Array.from(data, BigInt) : Float32Array.from(data)
      inputs[name] = new ort.Tensor(type, values, dims)
    }
    const results = await session.run(inputs)
    const outputs = {}
    for (const [name, t] of Object.entries(results)) outputs[name] = { dims: t.dims.map(Number), data: Array.from(t.data, Number) }
    answers.push({ outputs })
    await session.release()
  } catch (e) {
    answers.push({ error: String(e.message ?? e) })
  }
}
process.stdout.write(JSON.stringify(answers))
