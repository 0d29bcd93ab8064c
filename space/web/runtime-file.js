// The runtime and both models, inside one file that works from a disk.
import * as ort from "onnxruntime-web/wasm";
import runtime from "onnxruntime-web/ort-wasm-simd-threaded.wasm";
import toTarget from "./source_to_target.onnx";
import toSource from "./target_to_source.onnx";

ort.env.wasm.wasmBinary = runtime;
ort.env.wasm.numThreads = 1; // more threads need headers that a file on disk cannot have
ort.env.logLevel = "error";

const FILES = { source_to_target: toTarget, target_to_source: toSource };

export async function load(file) {
  return { ort, session: await ort.InferenceSession.create(FILES[file], { executionProviders: ["wasm"] }) };
}

export const where = () => "on this device";
